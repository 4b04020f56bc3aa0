//! `build --verify-reproducible` and `compare`: what is the same, and in what images differ.

use super::place::{Place, RANGE_USER, SINGLE_USER};
use super::reproducible::POST;
use super::walk::BASE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Of everything that is another in the second build, one trace each.
const TRACES: &str = "%post
    date +%s > /date
    uname -n > /host
    echo $TERM > /term
    cat /proc/sys/kernel/random/uuid > /random
    ln -s $(cat /random) /link
    mkdir /only-$(cat /random)
    touch /only-$(cat /random)/below
";

#[test]
fn equal_images_of_two_builds_become_the_target() {
    for place in [Some(Place::new()), Place::of_user(RANGE_USER), Place::of_user(SINGLE_USER)].into_iter().flatten() {
        let text = place.build("x.sif", &format!("{BASE}{POST}"), &["--verify-reproducible"]);
        assert!(text.contains("Two builds gave equal images: x.sif"), "{text}");
        assert_eq!(text.matches("Running post scriptlet").count(), 2, "{text}");
        place.build("plain.sif", &format!("{BASE}{POST}"), &["--reproducible"]);
        assert_eq!(place.run(&["compare", "x.sif", "plain.sif"]).code, Some(0));
        assert_eq!(place.succeed(&["compare", "x.sif", "plain.sif"]), "");
        let left: Vec<_> = fs::read_dir(place.store()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["1"], "the second build leaves nothing");
    }
}

#[test]
fn a_definition_without_scripts_and_a_base_of_a_lock_are_verified_too() {
    let place = Place::new();
    place.build("x.sif", BASE, &["--verify-reproducible"]);
    place.build("y.sif", "Bootstrap: scratch\n", &["--verify-reproducible"]);
    place.write("x.def", BASE);
    place.succeed(&["lock", "x.def"]);
    place.succeed(&["build", "--verify-reproducible", "z.sif", "x.def"]);
    assert!(fs::read(place.file("x.sif")).unwrap() == fs::read(place.file("z.sif")).unwrap());
}

#[test]
fn differences_are_shown_by_path_and_the_target_stays_as_it_was() {
    let place = Place::new();
    place.write("x.sif", "an earlier image");
    let outcome =
        place.fail("x.sif", &format!("{BASE}{TRACES}"), &["--verify-reproducible", "--force", "--keep-failed"]);
    assert_eq!(outcome.code, Some(9), "{}", outcome.text);
    assert_eq!(fs::read_to_string(place.file("x.sif")).unwrap(), "an earlier image");
    let line = |start: &str| -> &str {
        let found = outcome.text.lines().find_map(|line| line.strip_prefix("WARNING: ")?.strip_prefix(start));
        found.unwrap_or_else(|| panic!("{start} in {}", outcome.text))
    };
    assert!(line("/date: ").starts_with("content from byte "), "{}", outcome.text);
    assert!(line("/host: ").contains("\"elsewhere\\n\""), "{}", outcome.text);
    assert!(line("/random: ").contains("content from byte 0"), "{}", outcome.text);
    assert!(line("/link: ").starts_with("link "), "{}", outcome.text);
    assert!(line("/term: ").contains("content"), "{}", outcome.text);
    let alone = outcome.text.lines().filter(|line| line.contains("/only-") && line.starts_with("WARNING")).count();
    assert_eq!(alone, 2, "a directory stands for what is below it: {}", outcome.text);
    let kept = outcome.text.split("they are in ").nth(1).unwrap().trim();
    let images = ["first.sif", "second.sif"].map(|name| format!("{kept}/{name}"));
    let compared = place.run(&["compare", &images[0], &images[1]]);
    assert_eq!(compared.code, Some(9));
    assert!(compared.text.contains("/random: content from byte 0"), "{}", compared.text);
}

#[test]
fn metadata_objects_and_headers_are_compared() {
    let place = Place::new();
    place.build("a.sif", &format!("{BASE}%labels\n  A one\n"), &["--reproducible"]);
    place.build("b.sif", &format!("{BASE}%labels\n  A two\n"), &["--reproducible"]);
    let text = place.run(&["compare", "a.sif", "b.sif"]).text;
    assert!(text.contains("object 1 (Def.FILE): content from byte "), "{text}");
    assert!(text.contains("/.singularity.d/labels.json: content from byte "), "{text}");
    place.build("c.sif", &format!("{BASE}%labels\n  A one\n"), &["--reproducible", "--compression", "gzip"]);
    let text = place.run(&["compare", "a.sif", "c.sif"]).text;
    assert!(text.contains("the same files, stored in another way"), "{text}");
    // The numbers of objects differ: a sandbox keeps no OCI configuration.
    place.build("box", BASE, &["--sandbox"]);
    place.succeed(&["build", "d.sif", "box"]);
    let text = place.run(&["compare", "a.sif", "d.sif"]).text;
    assert!(text.contains(": only in the first image"), "{text}");
    assert!(text.contains("/.singularity.d/labels.json: size "), "file by file: {text}");
    let absent = place.run(&["compare", "a.sif", "absent.sif"]);
    assert_eq!(absent.code, Some(4), "{}", absent.text);
}

#[test]
fn what_cannot_be_verified_is_refused_before_any_work() {
    let place = Place::new();
    for (flags, reason) in
        [(["--sign"], "sign the image then"), (["--encrypt"], "random"), (["--sandbox"], "only SIF images")]
    {
        let outcome = place.fail("x.sif", BASE, &[&["--verify-reproducible"], &flags[..]].concat());
        assert_eq!(outcome.code, Some(1), "{}", outcome.text);
        assert!(outcome.text.contains(reason) && !outcome.text.contains("Starting"), "{}", outcome.text);
    }
    place.write("x.sif", "an earlier image");
    place.write("full/file", "");
    for (target, flags) in [("x.sif", &[][..]), ("absent/x.sif", &[]), ("full", &["--force"])] {
        let outcome = place.fail(target, BASE, &[&["--verify-reproducible"], flags].concat());
        assert_eq!(outcome.code, Some(7), "{}", outcome.text);
        assert!(!outcome.text.contains("Starting"), "{}", outcome.text);
    }
    let mut command = place.command(&[], &["build", "--verify-reproducible", "new.sif", "x.def"]);
    command.env("SIFBUILD_SANDBOX", "1");
    let outcome = place.outcome(command);
    assert!(outcome.code == Some(1) && outcome.text.contains("only SIF images"), "{}", outcome.text);
    let outcome = place.fail("y.sif", &format!("{BASE}%post\n  exit 3\n"), &["--verify-reproducible"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    assert_eq!(outcome.text.matches("exit status 3").count(), 1, "the second build is not begun: {}", outcome.text);
}

#[test]
fn the_command_line_and_the_variables_are_those_of_a_plain_build() {
    let place = Place::new();
    place.write("x.def", "Bootstrap: scratch\n");
    place.write("build", "an earlier image");
    let words = ["--progress", "plain", "build", "--verify-reproducible", "--", "build", "x.def"];
    let mut command = place.command(&[], &words);
    command.env("SIFBUILD_FORCE", "1");
    let outcome = place.outcome(command);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(fs::read(place.file("build")).unwrap().starts_with(b"#!/usr/bin/env run-singularity"));
}

#[test]
fn an_interrupted_verification_leaves_nothing_and_tells_the_signal() {
    for place in [Some(Place::new()), Place::of_user(RANGE_USER)].into_iter().flatten() {
        place.write("x.def", format!("{BASE}%post\n  sleep 1000\n"));
        let mut command = place.command(&[], &["build", "--verify-reproducible", "x.sif", "x.def"]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        lines.find(|line| line.contains("Running post scriptlet")).unwrap();
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        // To the end of the pipe: nothing runs any more that holds it.
        let text: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(128 + libc::SIGTERM), "{text:?}");
        assert!(text.iter().any(|line| line.contains("interrupted by SIGTERM; x.sif is not written")), "{text:?}");
        let left: Vec<_> = fs::read_dir(place.store()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["1"]);
        let killed = place.fail("x.sif", "Bootstrap: scratch\n%pre\n  kill -9 $PPID\n", &["--verify-reproducible"]);
        assert_eq!(killed.code, Some(128 + libc::SIGKILL), "{}", killed.text);
    }
}

#[test]
fn what_a_killed_verification_left_is_counted_and_cleaned() {
    let place = Place::new();
    place.build("x.sif", "Bootstrap: scratch\n", &[]);
    let abandon = || {
        fs::create_dir(place.store().join("sifbuild-abc")).unwrap();
        fs::write(place.store().join("sifbuild-abc/first.sif"), [1; 8192]).unwrap();
        fs::write(place.store().join("sifbuild-abc.lock"), "").unwrap();
    };
    abandon();
    let text = place.succeed(&["cache", "list"]);
    assert!(text.contains("in 1 verifications that run, or were killed"), "{text}");
    let text = place.succeed(&["cache", "clean"]);
    assert!(text.starts_with("removed ") && !text.starts_with("removed 0 B"), "{text}");
    assert!(!place.store().join("sifbuild-abc").exists() && !place.store().join("sifbuild-abc.lock").exists());
    abandon();
    place.build("x.sif", "Bootstrap: scratch\n", &["--force"]);
    assert!(!place.store().join("sifbuild-abc").exists(), "the next build does it too");
}
