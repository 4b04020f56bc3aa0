//! A program in an image: what it is, what it sees, how it ends.

use super::place::{Place, RANGE_USER, SINGLE_USER, has};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub const DEFINITION: &str = r#"Bootstrap: oci-archive
From: base.tar:t
%environment
  export MINE=image
  export LANG=image
  export EMPTIED=
%runscript
  echo "run: $# [$*] $MINE"
  exit 7
%test
  echo "test: $# [$*] $MINE"
  exit 3
%apprun one
  echo "app: $SCIF_APPNAME $*"
%appenv one
  export OF_APP=1
"#;

/// Root, and the users that this process can become.
fn places() -> Vec<Place> {
    let users = [RANGE_USER, SINGLE_USER].into_iter().filter_map(Place::of_user);
    std::iter::once(Place::new()).chain(users).collect()
}

/// A place with `x.sif`.
fn image(place: Place) -> Place {
    place.build("x.sif", DEFINITION, &["--notest"]);
    place
}

fn ids(place: &Place) -> (u32, u32) {
    place.user().map_or((0, 0), |user| (user.uid.as_raw(), user.gid.as_raw()))
}

#[test]
fn a_program_has_the_users_ids_directory_and_exit_code() {
    for place in places().into_iter().map(image) {
        let (uid, gid) = ids(&place);
        let outcome = place.run(&["exec", "x.sif", "sh", "-c", "id -u; id -g; pwd; cat /opt/above; exit 42"]);
        assert_eq!(outcome.code, Some(42), "{}", outcome.text);
        let directory = place.file("");
        let directory = directory.to_str().unwrap().trim_end_matches('/');
        assert!(outcome.text.contains(&format!("{uid}\n{gid}\n{directory}\nabove")), "{}", outcome.text);
        let text = place.succeed(&["exec", "x.sif", "cat", "/etc/passwd"]);
        assert!(text.starts_with("root:x:0:0:"), "{text}");
        if let Some(user) = place.user() {
            assert!(text.contains(&format!("\n{}:x:{uid}:{gid}:", user.name)), "{text}");
        }
    }
}

#[test]
fn scripts_of_the_image_run_with_their_arguments() {
    for place in places().into_iter().map(image) {
        let said = |arguments: &[&str]| {
            let outcome = place.run(arguments);
            (outcome.text, outcome.code.unwrap())
        };
        place.succeed(&["exec", "x.sif", "true"]);
        assert_eq!(said(&["run", "x.sif", "a", "b c", "-v"]), ("run: 3 [a b c -v] image\n".to_owned(), 7));
        assert_eq!(said(&["test", "x.sif", "--flag"]), ("test: 1 [--flag] image\n".to_owned(), 3));
        assert_eq!(said(&["run", "--app", "one", "x.sif", "z"]), ("app: one z\n".to_owned(), 0));
        let (text, code) = said(&["run", "--app", "two", "x.sif"]);
        assert_eq!((text.contains("two"), code), (true, 1), "{text}");
        assert_eq!(said(&["exec", "--app", "one", "x.sif", "sh", "-c", "echo $OF_APP"]), ("1\n".to_owned(), 0));
    }
}

#[test]
fn an_image_is_unpacked_once_and_found_under_any_name() {
    let place = image(Place::new());
    let unpack = |name: &str| place.succeed(&["exec", "--unpack", name, "true"]);
    assert!(unpack("x.sif").contains("Unpacking"));
    assert_eq!(unpack("x.sif"), "");
    fs::copy(place.file("x.sif"), place.file("copy.sif")).unwrap();
    assert_eq!(unpack("copy.sif"), "");
    place.build("x.sif", &DEFINITION.replace("MINE=image", "MINE=new"), &["--notest", "--force"]);
    let other = place.run(&["run", "--unpack", "x.sif"]);
    assert!(other.text.contains("Unpacking") && other.text.starts_with("run: 0 [] new\n"), "{}", other.text);
    assert_eq!(fs::read_dir(place.store().join("1/work")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(place.store().join("1/mount")).unwrap().count(), 0);
}

#[test]
fn the_root_cannot_be_changed_unless_changes_are_in_memory() {
    for place in places().into_iter().map(image) {
        let outcome = place.run(&["exec", "x.sif", "sh", "-c", "echo new > /new"]);
        assert!(outcome.code != Some(0) && outcome.text.contains("Read-only"), "{}", outcome.text);
        let script = "echo new > /new && rm -r /opt && cat /new";
        assert_eq!(place.succeed(&["exec", "--writable-tmpfs", "x.sif", "sh", "-c", script]), "new\n");
        assert_eq!(
            place.succeed(&["exec", "x.sif", "sh", "-c", "cat /opt/above; ls /new 2>/dev/null || true"]),
            "above"
        );
    }
}

#[test]
fn a_sandbox_is_changed_only_when_asked() {
    for place in places() {
        place.build("box", DEFINITION, &["--sandbox", "--notest"]);
        let outcome = place.run(&["exec", "box", "touch", "/new"]);
        assert_ne!(outcome.code, Some(0), "{}", outcome.text);
        place.succeed(&["exec", "--writable-tmpfs", "box", "touch", "/new"]);
        assert!(!place.file("box/new").exists());
        assert_eq!(place.run(&["exec", "--writable", "box", "touch", "/new"]).code, Some(0));
        assert!(place.file("box/new").exists());
        let text = place.run(&["exec", "--writable", "absent", "true"]).text;
        assert!(text.contains("absent does not exist"), "{text}");
    }
}

#[test]
fn a_signal_reaches_the_program_itself() {
    for place in places().into_iter().map(image) {
        place.succeed(&["exec", "x.sif", "true"]);
        let ready = place.file("ready");
        let script = format!("trap 'echo got it; exit 9' TERM; touch {}; sleep 60 & wait", ready.display());
        let mut command = place.command(&[], &["exec", "x.sif", "sh", "-c", &script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        wait_for(&ready);
        // setpriv and this program have become the program: there is nobody between.
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(9));

        fs::remove_file(&ready).unwrap();
        let script = format!("touch {}; exec sleep 60", ready.display());
        let mut child = place.command(&[], &["exec", "x.sif", "sh", "-c", &script]).spawn().unwrap();
        wait_for(&ready);
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
    }
}

pub fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain for {}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_shell_reads_its_commands_and_has_the_terminal() {
    for place in places().into_iter().map(image) {
        let mut command = place.command(&[], &["shell", "x.sif"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"echo $MINE; exit 5\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.stdout.as_slice(), output.status.code()), (&b"image\n"[..], Some(5)));
        if has("/usr/bin/script", "bsdutils") {
            // What `command` puts behind is the path of this program.
            let script =
                "exec script -qec \"$0 exec x.sif sh -c 'test -t 0 && test -t 1 && echo a terminal'\" /dev/null";
            let text = place.outcome(place.command(&["sh", "-c", script], &[])).text;
            assert!(text.contains("a terminal"), "{text}");
        }
        let outcome = place.run(&["shell", "--shell", "/bin/absent", "x.sif"]);
        assert_eq!(outcome.code, Some(255), "{}", outcome.text);
    }
}

#[test]
fn places_of_the_host_are_shown() {
    for place in places().into_iter().map(image) {
        place.write("data/file", "bound\n");
        let data = place.file("data");
        fs::set_permissions(&data, PermissionsExt::from_mode(0o777)).unwrap();
        let data = data.to_str().unwrap();
        let bind = format!("{data}:/new/place,{data}/file:/new/file:ro");
        let script = "cat /new/place/file /new/file; echo x > /new/place/made; echo x > /new/file";
        let outcome = place.run(&["exec", "-B", &bind, "x.sif", "sh", "-c", script]);
        assert!(outcome.text.contains("bound\nbound\n") && outcome.code != Some(0), "{}", outcome.text);
        assert_eq!(fs::read_to_string(place.file("data/made")).unwrap(), "x\n");
        let home = place.file("../home").canonicalize().unwrap();
        let home = home.to_str().unwrap();
        fs::write(Path::new(home).join("of-home"), "here\n").unwrap();
        assert_eq!(place.succeed(&["exec", "x.sif", "sh", "-c", "cat $HOME/of-home"]), "here\n");
        let mounted = |flags: &[&str]| {
            let script = ["x.sif", "sh", "-c", "cd /; grep -c \" $HOME \" /proc/self/mountinfo; ls $HOME"];
            place.run(&[&["exec"], flags, &script].concat()).text
        };
        assert_eq!(mounted(&[]), "1\nof-home\n");
        assert!(mounted(&["--no-home"]).starts_with("0\n"));
        assert_eq!(mounted(&["--contain"]), "1\n");
        let other = ["exec", "--home", &format!("{data}:/else"), "x.sif", "sh", "-c", "echo $HOME; cat /else/file"];
        assert_eq!(place.succeed(&other), "/else\nbound\n");
        assert_eq!(place.succeed(&["exec", "--pwd", "/opt", "x.sif", "ls"]), "above\n");
        let outcome = place.run(&["exec", "--pwd", "/absent", "x.sif", "ls"]);
        assert!(outcome.code == Some(255) && outcome.text.contains("/absent"), "{}", outcome.text);
        let outcome = place.run(&["exec", "-B", "/absent:/x", "x.sif", "ls"]);
        assert!(outcome.code == Some(255) && outcome.text.contains("/absent does not exist"), "{}", outcome.text);
    }
}

#[test]
fn variables_are_the_images_then_the_given_then_the_callers() {
    for place in places().into_iter().map(image) {
        place.write("variables", "# some\nexport FILED='of file'\nBOTH=file\n");
        let script = "echo $MINE,$LANG,$OTHER,$GIVEN,$FILED,$BOTH,${EMPTIED-unset},$FROM_BASE,$PATH,$LD_LIBRARY_PATH";
        let all = ["exec", "--env", "GIVEN=1,2,BOTH=flag", "--env-file", "variables", "x.sif", "sh", "-c", script];
        let run = |arguments: &[&str]| {
            let mut command = place.command(&[], arguments);
            for name in ["MINE", "LANG", "OTHER", "EMPTIED", "LD_LIBRARY_PATH"] {
                command.env(name, "host");
            }
            place.outcome(command).text.lines().next().unwrap().to_owned()
        };
        let path = "/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin";
        let libraries = "/.singularity.d/libs";
        assert_eq!(run(&all), format!("image,image,host,1,2,of file,flag,unset,yes,{path},{libraries}"));
        let clean = [&["exec", "--cleanenv"], &all[5..]].concat();
        assert_eq!(run(&clean), format!("image,image,,,,,,yes,{path},{libraries}"));
    }
}

#[test]
fn what_cannot_be_started_ends_with_255() {
    for place in places().into_iter().map(image) {
        for (arguments, expected) in [
            (&["exec", "x.sif", "absent"][..], "\"absent\": executable file not found"),
            (&["exec", "x.sif", "/opt/absent"], "no such file"),
            (&["exec", "x.sif", "/etc/passwd"], "permission denied"),
            (&["exec", "absent.sif", "true"], "absent.sif does not exist"),
            (&["exec", "variables.def", "true"], "sifbuild build IMAGE"),
            (&["exec", "0123abcd", "true"], "nor a kept step"),
            (&["exec", "docker://alpine", "true"], "sifbuild pull image.sif docker://alpine"),
        ] {
            place.write("variables.def", "Bootstrap: scratch\n");
            let outcome = place.run(arguments);
            assert_eq!(outcome.code, Some(255), "{}", outcome.text);
            assert!(outcome.text.contains(expected), "{}", outcome.text);
        }
        assert_eq!(place.run(&["exec", "x.sif"]).code, Some(1));
    }
}

#[test]
fn an_image_without_a_shell_runs_its_programs() {
    for place in places() {
        fs::copy("/bin/busybox", place.file("busybox")).expect("apt-get install -y busybox-static");
        place.build("x.sif", "Bootstrap: scratch\n%files\n  busybox /usr/bin/busybox\n", &[]);
        let mut command = place.command(&[], &["exec", "x.sif", "busybox", "sh", "-c", "echo $OTHER $PATH; exit 6"]);
        command.env("OTHER", "host");
        let outcome = place.outcome(command);
        assert_eq!(outcome.code, Some(6), "{}", outcome.text);
        assert!(
            outcome.text.starts_with("host /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"),
            "{}",
            outcome.text
        );
        let outcome = place.run(&["exec", "x.sif", "absent"]);
        assert!(outcome.code == Some(255) && outcome.text.contains("absent"), "{}", outcome.text);
    }
}

#[test]
fn an_encrypted_image_needs_its_key_and_leaves_nothing_on_disk() {
    for place in places() {
        let run = |arguments: &[&str]| {
            let mut command = place.command(&[], arguments);
            command.env("SIFBUILD_ENCRYPTION_PASSPHRASE", "horse");
            place.outcome(command)
        };
        place.write("x.def", DEFINITION);
        let built = run(&["build", "--notest", "--encrypt", "x.sif", "x.def"]);
        assert_eq!(built.code, Some(0), "{}", built.text);
        let refused = place.run(&["exec", "x.sif", "true"]);
        assert!(refused.code == Some(255) && refused.text.contains("x.sif is encrypted"), "{}", refused.text);
        let script = "cat /opt/above; echo $SIFBUILD_ENCRYPTION_PASSPHRASE$ENCRYPTION_PASSPHRASE; id -u";
        let outcome = run(&["exec", "x.sif", "sh", "-c", script]);
        assert_eq!((outcome.text, outcome.code), (format!("above\n{}\n", ids(&place).0), Some(0)));
        assert!(!place.succeed(&["cache", "steps"]).contains("unpacked image"));
        assert!(place.run(&["exec", "x.sif", "true"]).text.contains("is encrypted"));
    }
}

#[test]
fn a_running_program_keeps_its_image_from_being_removed() {
    let place = image(Place::new());
    let ready = place.file("ready");
    let script = format!("touch {}; sleep 60; cat /opt/above", ready.display());
    let mut child = place.command(&[], &["exec", "--unpack", "x.sif", "sh", "-c", &script]).spawn().unwrap();
    wait_for(&ready);
    let outcome = place.run(&["cache", "clean"]);
    assert!(outcome.code != Some(0) && outcome.text.contains("running"), "{}", outcome.text);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
}

#[test]
fn fakeroot_is_root_and_gives_files_away() {
    for place in [RANGE_USER, SINGLE_USER].into_iter().filter_map(Place::of_user).map(image) {
        let script = "id -u; touch /a && chown 33:44 /a && stat -c %u:%g /a /etc/shadow; echo $HOME $MINE; pwd; exit 8";
        let outcome = place.run(&["exec", "--fakeroot", "--writable-tmpfs", "x.sif", "sh", "-c", script]);
        let directory = place.file("");
        let directory = directory.to_str().unwrap().trim_end_matches('/');
        let expected = format!("0\n33:44\n0:42\n/root image\n{directory}\n");
        assert!(outcome.code == Some(8) && outcome.text.starts_with(&expected), "{}", outcome.text);
        let outcome = place.run(&["exec", "--fakeroot", "x.sif", "touch", "/new"]);
        assert!(outcome.code != Some(0) && outcome.text.contains("Read-only"), "{}", outcome.text);
        assert!(fs::read_dir(place.store().join("1/work")).map_or(0, Iterator::count) == 0);
    }
}
