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
    same_trees(&root, &single, "one id");
    same_trees(&root, &range, "a range of ids");
}

/// What an administrator does, in few packages.
const ADMINISTRATION: &str = "%post
  set -e
  export DEBIAN_FRONTEND=noninteractive
  apt-get update
  apt-get install -y --no-install-recommends cron openssh-client sudo iputils-ping attr
  useradd -m -u 1234 -s /bin/sh ann
  test \"$(stat -c '%u:%g %a' /etc/shadow)\" = '0:42 640'
  test \"$(stat -c %g /usr/bin/crontab)\" = \"$(getent group crontab | cut -d: -f3)\"
  su ann -c 'touch /home/ann/f; test \"$(id -u)\" = 1234'
  echo 'ann ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ann
  chmod 440 /etc/sudoers.d/ann
  test \"$(su ann -c 'sudo -n id -u')\" = 0
  test \"$(su ann -c 'stat -c %U:%G /home/ann/f')\" = ann:ann
  mknod /dev-null c 1 3
  cp -a /dev-null /srv/null
  test -c /srv/null
  setfattr -n trusted.a -v 1 /srv/null
  chown -R 7:8 /srv
  tar -C / -cpf /srv.tar srv && rm -r /srv && tar -C / -xpf /srv.tar --same-owner && rm /srv.tar
  test \"$(stat -c %u:%g /srv/null)\" = 7:8
  dpkg --audit
";

/// `cargo test --test build -- --ignored fakeroot`.
#[test]
#[ignore = "needs root and the mirror of a Debian host: tests/run runs it"]
fn an_older_libc_and_a_narrower_processor_are_answered_as_by_real_root() {
    // Debian 11, where it can be for i386.
    let flags: &[&str] = if cfg!(target_arch = "x86_64") { &["--arch", "386"] } else { &[] };
    let definition = format!("Bootstrap: debootstrap\nOSVersion: bullseye\n{ADMINISTRATION}");
    let root = Place::new();
    let single = Place::of_user(SINGLE_USER).expect("this runs as root, where users can be made");
    std::thread::scope(|scope| {
        scope.spawn(|| root.build("x.sif", &definition, flags));
        scope.spawn(|| single.build("x.sif", &definition, flags));
    });
    same_trees(&root, &single, "one id");
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
    for (user, stat) in [(RANGE_USER, "on"), (RANGE_USER, "auto"), (SINGLE_USER, "auto")] {
        let Some(place) = Place::of_user(user) else { return };
        let own = Place::new().bytes("x.sif", &format!("{BASE}{CHANGES}"), &[]);
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

/// Compiles a source beside this file; its checks are told there.
fn compile(place: &Place, name: &str, compiler: &str, flags: &[&str], package: &str) {
    let source = format!("{}/tests/build/fakeroot/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let program = place.file(name);
    let mut command = Command::new(compiler);
    command.args(flags).args(["-pthread", "-O1", "-D_FILE_OFFSET_BITS=64", "-o"]).arg(&program).arg(source);
    let output = command.output().unwrap_or_else(|error| panic!("{compiler}: {error}: apt-get install -y {package}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}: apt-get install -y {package}");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// An image with musl as Alpine has it, one without any shared library, one for i386: busybox and a program.
#[cfg(target_arch = "x86_64")]
#[test]
fn programs_of_any_libc_are_answered_as_by_real_root() {
    const LINKER: &str = "/lib/ld-musl-x86_64.so.1";
    let flavours: [(&str, &str, &[&str], &str); 3] = [
        ("musl", "musl-gcc", &[], "musl-tools"),
        ("static", "cc", &["-static"], "gcc libc6-dev"),
        ("i386", "cc", &["-m32", "-static"], "gcc-multilib"),
    ];
    for user in [RANGE_USER, SINGLE_USER] {
        for (flavour, compiler, flags, package) in flavours {
            let Some(place) = Place::of_user(user) else { return };
            let own = Place::new();
            let musl = flavour == "musl";
            let files = format!(
                "%files\n  calls /bin/calls\n{}",
                if musl { "  libc.so /lib/ld-musl-x86_64.so.1\n" } else { "" }
            );
            let script = "%post\n  chmod 755 /lib/* 2>/dev/null || true\n  /bin/calls\n";
            let definition = format!("{BASE}{files}{script}");
            for place in [&own, &place] {
                compile(place, "calls", compiler, flags, package);
                if musl {
                    fs::copy(LINKER, place.file("libc.so")).unwrap();
                }
            }
            let expected = checks(&own.build("x.sif", &definition, &[]));
            assert!(expected.len() >= 35, "{expected:?}");
            let failed: Vec<&String> = expected.iter().filter(|(_, passed)| !passed).map(|(name, _)| name).collect();
            assert!(failed.is_empty(), "{flavour}: root itself fails {failed:?}");
            let stat = if user == RANGE_USER { "on" } else { "auto" };
            let text = place.build("x.sif", &definition, &["--fakeroot-stat", stat]);
            assert_eq!(checks(&text), expected, "{flavour}, {user}: {text}");
            same_trees(&own, &place, &format!("{flavour}, {user}"));
        }
    }
}

fn same_trees(one: &Place, other: &Place, who: &str) {
    let (one, other) = (open(&one.file("x.sif")).metadata(), open(&other.file("x.sif")).metadata());
    let different: Vec<&String> = one.symmetric_difference(&other).collect();
    assert!(different.is_empty(), "{who}: {different:#?}");
}

const ATTACKS: [&str; 11] =
    ["paths", "links", "many", "descriptors", "filters", "traced", "signals", "threads", "memory", "narrow", "ring"];

#[test]
fn attacks_on_the_supervisor_end_as_for_real_root() {
    let Some(place) = Place::of_user(SINGLE_USER) else { return };
    compile(&place, "attacks", "cc", &["-static"], "gcc libc6-dev");
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
