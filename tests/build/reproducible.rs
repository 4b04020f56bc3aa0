//! Equal bytes on every run, by whomever.

use super::image::open;
use super::place::{Place, RANGE_USER, SINGLE_USER};
use super::walk::BASE;
use std::fs;

/// What package managers leave behind.
pub const POST: &str = r#"%post
    mkdir -p /var/log/apt /var/cache/ldconfig /var/lib/dpkg /etc/ssh
    date +%s%N > /var/log/dpkg.log
    cat /proc/sys/kernel/random/uuid > /var/log/apt/term.log
    cat /proc/sys/kernel/random/uuid > /var/cache/ldconfig/aux-cache
    cat /proc/sys/kernel/random/uuid > /var/lib/dpkg/status-old
    cat /proc/sys/kernel/random/uuid > /etc/ssh/ssh_host_rsa_key
    cat /proc/sys/kernel/random/uuid > /etc/machine-id
    echo "root:*:$(( $(date +%s) / 86400 )):0:99999:7:::" > /etc/shadow
    echo "$SOURCE_DATE_EPOCH" > /told
    chown 5:60 /told
    mkdir -p /opt/many
    for number in 1 2 3 4 5 6 7 8 9; do echo $number > /opt/many/$number; done
"#;

#[test]
fn what_scripts_leave_behind_does_not_change_the_bytes() {
    let definition = format!("{BASE}{POST}%test\n  test -s /told\n");
    let place = Place::new();
    let first = place.bytes("one.sif", &definition, &["-j1"]);
    let root = open(&place.file("one.sif"));
    assert_eq!(root.text("told"), "1700000000\n", "programs in %post know the time");
    assert_eq!(root.owner("told"), "0664 5:60");
    assert_eq!(
        (root.text("etc/machine-id"), root.text("etc/shadow")),
        (String::new(), "root:*:19675:0:99999:7:::\n".into())
    );
    for path in ["var/log/dpkg.log", "var/lib/dpkg/status-old", "etc/ssh/ssh_host_rsa_key"] {
        assert_eq!(root.find(path), None, "{path}");
    }
    assert!(first == place.bytes("two.sif", &definition, &["-j4", "--no-reuse"]), "a second run");
    assert!(first == place.bytes("three.sif", &definition, &["-j4"]), "reused");
    let Some(user) = Place::of_user(RANGE_USER) else { return };
    assert!(first == user.bytes("one.sif", &definition, &["-j4"]), "a user with a range of ids");
    let single = Place::of_user(SINGLE_USER).expect("this runs as root, where users can be made");
    assert!(first == single.bytes("one.sif", &definition, &["-j2"]), "a user with one id");
}

#[test]
fn without_a_date_everything_that_scripts_left_stays() {
    let place = Place::new();
    place.build("x.sif", &format!("{BASE}{POST}"), &[]);
    let root = open(&place.file("x.sif"));
    assert_eq!(root.text("told"), "\n");
    assert!(root.find("var/log/dpkg.log").is_some() && root.text("etc/machine-id").len() > 30);
}

#[test]
fn reproducible_takes_the_time_at_which_the_base_was_made() {
    let place = Place::new();
    let told = |target: &str, definition: &str| {
        place.build(target, definition, &["--reproducible", "--force"]);
        let labels = place.succeed(&["inspect", "--labels", target]);
        let line = labels.lines().find(|line| line.contains("image.created")).expect("the label is there").to_owned();
        (fs::read(place.file(target)).unwrap(), line)
    };
    let (first, line) = told("one.sif", &format!("{BASE}{POST}"));
    assert!(line.ends_with("2020-02-02T02:02:02Z"), "{line}");
    assert_eq!(open(&place.file("one.sif")).text("told"), "1580608922\n");
    let (second, _) = told("one.sif", &format!("{BASE}{POST}"));
    assert!(first == second);
    // Our image says no time in its header, but in its squashfs.
    let (_, line) = told("two.sif", "Bootstrap: localimage\nFrom: one.sif\n");
    assert!(line.ends_with("2020-02-02T02:02:02Z"), "{line}");
    let (_, line) = told("three.sif", "Bootstrap: scratch\n");
    assert!(line.ends_with("1970-01-01T00:00:00Z"), "{line}");
    place.write("x.def", BASE);
    let mut command = place.command(&[], &["build", "--reproducible", "four.sif", "x.def"]);
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    assert_eq!(place.outcome(command).code, Some(0));
    let labels = place.succeed(&["inspect", "--labels", "four.sif"]);
    assert!(labels.contains("2023-11-14T22:13:20Z"), "the date that was given wins: {labels}");
}

/// `cargo test --test build -- --ignored debian`: needs the network and root.
#[test]
#[ignore = "needs root and the mirror of a Debian host: tests/run runs it"]
fn a_debian_base_with_apt_get_gives_the_same_bytes_for_root_and_for_a_user() {
    let definition = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello.def")).unwrap();
    let definition =
        definition.replace("hello\n", "hello man-db python3-minimal openssh-server\n    useradd somebody\n");
    let bytes = |place: &Place, target: &str, threads: &str, days: usize| {
        place.write("x.def", &definition);
        let mut command = place.command(&[], &["build", "--no-reuse", threads, target, "x.def"]);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        Place::shift_days(&mut command, days);
        let outcome = place.outcome(command);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        fs::read(place.file(target)).unwrap()
    };
    let place = Place::new();
    let first = bytes(&place, "one.sif", "-j1", 0);
    assert!(first == bytes(&place, "two.sif", "-j4", 400), "a second run, on another day");
    let user = Place::of_user(RANGE_USER).expect("this runs as root, where uidmap is");
    assert!(first == bytes(&user, "one.sif", "-j4", 200), "a user with a range of ids");
    let single = Place::of_user(SINGLE_USER).expect("this runs as root, where users can be made");
    assert!(first == bytes(&single, "one.sif", "-j2", 300), "a user with one id");
    place.build(
        "more.sif",
        "Bootstrap: localimage\nFrom: one.sif\n%post\n  test -z \"$(dpkg --audit)\"\n  apt-get update\n  apt-get install -y sl\n  apt-get check\n",
        &[],
    );
}
