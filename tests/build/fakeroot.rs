//! What real root leaves, users without privileges leave too.

use super::image::open;
use super::place::{Place, RANGE_USER, SINGLE_USER};
use super::walk::BASE;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

/// Name and result of each check that the battery printed.
fn checks(text: &str) -> Vec<(String, bool)> {
    let result = |line: &str| {
        let (name, result) = line.split_once("check: ")?.1.rsplit_once(' ')?;
        Some((name.to_owned(), result == "ok"))
    };
    text.lines().filter_map(result).collect()
}

/// `cargo test --test build -- --ignored fakeroot`.
#[test]
#[ignore = "needs root and the mirror of a Debian host: tests/run runs it"]
fn a_user_with_one_id_passes_every_check_that_root_passes() {
    let battery = include_str!("fakeroot/battery.sh");
    let definition = format!("Bootstrap: debootstrap\nOSVersion: bookworm\n%post\n{battery}");
    let root = Place::new();
    let single = Place::of_user(SINGLE_USER).expect("this runs as root, where users can be made");
    let range = Place::of_user(RANGE_USER).expect("this runs as root, where uidmap is");
    let build = |place: &Place, flags: &[&str]| checks(&place.build("x.sif", &definition, flags));
    let (expected, of_single, of_range) = std::thread::scope(|scope| {
        let expected = scope.spawn(|| build(&root, &[]));
        let of_single = scope.spawn(|| build(&single, &[]));
        let of_range = scope.spawn(|| build(&range, &["--fakeroot-stat", "on"]));
        (expected.join().unwrap(), of_single.join().unwrap(), of_range.join().unwrap())
    });
    assert!(expected.len() >= 66, "{} checks", expected.len());
    let failed: Vec<&String> = expected.iter().filter(|(_, passed)| !passed).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "root itself fails {failed:?}");
    assert_eq!(of_single, expected, "with one id");
    assert_eq!(of_range, expected, "with a range of ids");
    let tree = open(&root.file("x.sif")).metadata();
    for (place, mode) in [(&single, "one id"), (&range, "a range of ids")] {
        let theirs = open(&place.file("x.sif")).metadata();
        let different: Vec<&String> = tree.symmetric_difference(&theirs).collect();
        assert!(different.is_empty(), "{mode}: {different:#?}");
    }
}

const CHANGES: &str = "%post
  touch /owned /device-less
  chown 33:42 /owned
  chmod 4640 /owned
  mknod -m 666 /dev-null c 1 3
  mknod -m 660 /dev-disk b 8 1
  mkdir -m 2770 /shared
  chown 5:60 /shared
  touch /shared/file
  mv /etc/shadow /etc/shadow.old
  cp -p /etc/shadow.old /etc/shadow
  ln /owned /owned-too
  chown 0:0 /var/games
";

#[test]
fn owners_and_devices_that_scripts_set_reach_the_image() {
    for user in [RANGE_USER, SINGLE_USER] {
        let Some(place) = Place::of_user(user) else { return };
        let own = Place::new().bytes("x.sif", &format!("{BASE}{CHANGES}"), &[]);
        let stat = if user == RANGE_USER { "on" } else { "auto" };
        let text = place.build("x.sif", &format!("{BASE}{CHANGES}"), &["--fakeroot-stat", stat]);
        let root = open(&place.file("x.sif"));
        assert_eq!(root.owner("owned"), "4640 33:42", "{text}");
        assert_eq!(root.find("owned"), root.find("owned-too"));
        assert_eq!(root.device("dev-null").as_deref(), Some("c 1:3"));
        assert_eq!(root.device("dev-disk").as_deref(), Some("b 8:1"));
        assert_eq!(root.owner("shared"), "2770 5:60");
        assert_eq!(root.owner("shared/file"), "0664 0:60");
        assert_eq!(root.owner("etc/shadow"), "0640 0:42");
        assert_eq!(root.owner("etc/shadow.old"), "0640 0:42");
        assert_eq!(root.owner("var/games"), "2775 0:0");
        let bytes = place.bytes("y.sif", &format!("{BASE}{CHANGES}"), &["--fakeroot-stat", stat]);
        assert!(own == bytes, "root and {user} build other bytes");
    }
}

#[test]
fn what_one_step_records_the_next_one_sees() {
    let Some(place) = Place::of_user(SINGLE_USER) else { return };
    place.build("x.sif", &format!("{BASE}{CHANGES}"), &[]);
    let later = "Bootstrap: localimage\nFrom: x.sif\n%post\n  test \"$(stat -c %u:%g /owned)\" = 33:42\n  test -c /dev-null\n  \
        test -b /dev-disk\n  chmod 600 /owned\n  mv /dev-null /etc/null\n%test\n  test \"$(stat -c %u:%g:%a /owned)\" = 33:42:600\n  test -c /etc/null\n";
    place.build("y.sif", later, &[]);
    let root = open(&place.file("y.sif"));
    assert_eq!(root.owner("owned"), "0600 33:42");
    assert_eq!(root.device("etc/null").as_deref(), Some("c 1:3"));
    assert_eq!(root.find("dev-null"), None);
}

#[test]
fn without_being_shown_owners_are_still_recorded() {
    let Some(place) = Place::of_user(SINGLE_USER) else { return };
    let script = "%post\n  touch /a\n  chown 3:4 /a\n  test \"$(stat -c %u:%g /a)\" = 0:0\n";
    let text = place.build("x.sif", &format!("{BASE}{script}"), &["--fakeroot-stat", "off"]);
    assert!(text.contains("may get wrong ones"), "{text}");
    assert_eq!(open(&place.file("x.sif")).owner("a"), "0664 3:4");
}

/// A static program with the attacks; its checks are told in its source.
fn attacks(place: &Place) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/build/fakeroot/attacks.c");
    let program = place.file("attacks");
    let output = Command::new("cc").args(["-static", "-pthread", "-O1", "-o"]).arg(&program).arg(source).output();
    let output = output.unwrap_or_else(|error| panic!("cc: {error}: apt-get install -y gcc libc6-dev"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

const ATTACKS: [&str; 11] =
    ["paths", "links", "many", "descriptors", "filters", "traced", "signals", "threads", "memory", "narrow", "ring"];

#[test]
fn attacks_on_the_supervisor_end_as_for_real_root() {
    let Some(place) = Place::of_user(SINGLE_USER) else { return };
    attacks(&place);
    let script: Vec<String> = ATTACKS
        .iter()
        .map(|name| format!("  rm -rf /w /w50 /w60 /w77; mkdir /w /w50 /w60 /w77; chown 50:50 /w50; chown 60:60 /w60; chown 77:77 /w77\n  /attacks {name} && echo attack: {name} ok || echo attack: {name} FAILED\n"))
        .collect();
    let text = place.build(
        "x.sif",
        &format!("{BASE}%files\n  attacks /attacks\n%post\n  set +e\n{}  rm -rf /w*\n", script.concat()),
        &[],
    );
    for name in ATTACKS {
        assert!(text.contains(&format!("attack: {name} ok\n")), "{name}: {text}");
    }
}

/// What a build says when the process that answers dies.
#[test]
fn a_dead_supervisor_fails_the_step() {
    let Some(place) = Place::of_user(SINGLE_USER) else { return };
    place.write("x.def", format!("{BASE}%post\n  echo started\n  sleep 600\n"));
    let mut command = place.command(&[], &["build", "x.sif", "x.def"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    let supervisors = || -> Vec<i32> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let own = |number: &i32| {
            let words = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
            words.starts_with(b"sifbuild-sandbox")
                && fs::metadata(format!("/proc/{number}"))
                    .is_ok_and(|found| found.uid() == place.user().unwrap().uid.as_raw())
        };
        numbers.filter(own).collect()
    };
    while supervisors().len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "the script does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    let first = supervisors().into_iter().min().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL).unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    assert!(began.elapsed() < Duration::from_secs(60), "{text}");
    assert_eq!(status.code(), Some(5), "{text}");
    assert!(text.contains("ended without an answer") || text.contains("signal"), "{text}");
    assert!(!place.file("x.sif").exists());
}
