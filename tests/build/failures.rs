//! Scripts that fail, and targets that exist.

use super::image::open;
use super::place::Place;
use super::walk::BASE;
use std::fs;

#[test]
fn a_failing_post_is_told_with_line_command_status_and_last_lines() {
    let place = Place::new();
    let definition =
        format!("{BASE}%post\n  echo before\n  sh -c 'echo words of the failure; exit 42'\n  echo never\n");
    let outcome = place.fail("x.sif", &definition, &[]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    let (_, message) = outcome.text.split_once("ERROR:").expect("the error is told");
    for expected in [
        "%post",
        "%post failed (x.def:3)",
        "42",
        "command (x.def:5): ",
        "sh -c",
        "words of the failure",
        "--on-fail shell",
    ] {
        assert!(message.contains(expected), "{expected} in {message}");
    }
    assert!(!outcome.text.lines().any(|line| line == "never"), "{}", outcome.text);
    assert_eq!(names(&place), ["base.tar", "layout", "x.def"], "no target, nothing half made");
    assert_eq!(fs::read_dir(place.store().join("1/work")).map_or(0, Iterator::count), 0, "no work is left");
}

#[test]
fn a_failing_command_in_a_repeated_section_is_told_with_its_own_line() {
    let place = Place::new();
    let definition = format!("{BASE}%post\n  echo one\n%labels\n  A b\n%post\n  echo two\n  cat /absent\n");
    let outcome = place.fail("x.sif", &definition, &[]);
    assert!(outcome.text.contains("%post failed (x.def:7)"), "{}", outcome.text);
    assert!(outcome.text.contains("command (x.def:9): cat /absent"), "{}", outcome.text);
    let definition = format!("{BASE}%post\n  true\n%appinstall tool\n  echo here\n  cat /absent\n");
    let outcome = place.fail("x.sif", &definition, &[]);
    assert!(outcome.text.contains("command (x.def:7): cat /absent"), "{}", outcome.text);
}

#[test]
fn a_failing_test_leaves_no_image_and_notest_builds_it() {
    let place = Place::new();
    let definition = format!("{BASE}%test\n  exit 9\n");
    let outcome = place.fail("x.sif", &definition, &[]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    assert!(outcome.text.contains("%test failed (x.def:3)"), "{}", outcome.text);
    assert!(!place.file("x.sif").exists());
    place.build("x.sif", &definition, &["--notest"]);
}

#[test]
fn a_failing_pre_or_setup_stops_before_post() {
    let place = Place::new();
    for section in ["pre", "setup"] {
        let outcome = place.fail("x.sif", &format!("{BASE}%{section}\n  exit 9\n%post\n  echo post-ran\n"), &[]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        assert!(outcome.text.contains(&format!("%{section} failed (x.def:3)")), "{}", outcome.text);
        assert!(!outcome.text.lines().any(|line| line == "post-ran"), "{}", outcome.text);
    }
}

#[test]
fn an_existing_target_is_kept_unless_forced_and_also_when_the_build_fails() {
    let place = Place::new();
    place.write("x.sif", "precious");
    let kept = || fs::read_to_string(place.file("x.sif")).unwrap_or_default() == "precious";
    let outcome = place.fail("x.sif", BASE, &[]);
    assert_eq!(outcome.code, Some(7), "{}", outcome.text);
    assert!(kept());
    let outcome = place.fail("x.sif", &format!("{BASE}%post\n  false\n"), &["--force"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    assert!(kept(), "a failed build replaces nothing");
    place.build("x.sif", BASE, &["--force"]);
    assert!(open(&place.file("x.sif")).find("bin/busybox").is_some());
}

#[test]
fn a_forced_sandbox_replaces_the_old_one() {
    let place = Place::new();
    place.build("box", &format!("{BASE}%post\n  touch /old\n"), &["--sandbox"]);
    place.build("box", &format!("{BASE}%post\n  touch /new\n"), &["--sandbox", "--force"]);
    assert!(place.file("box/new").exists() && !place.file("box/old").exists());
    assert_eq!(names(&place), ["base.tar", "box", "layout", "x.def"], "the old one is gone");
}

/// What lies where the build was called.
fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.file("")).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
