//! Bad input and bad hosts: what a person is told.

use super::base;
use super::place::{Outcome, Place, SINGLE_USER, is_root};
use super::walk::BASE;
use std::fmt::Write;
use std::fs;
use std::net::TcpListener;

/// The error, without what ran before, behind its exit code.
fn told(place: &Place, outcome: &Outcome) -> String {
    let message = outcome.text.find("ERROR:").map_or(outcome.text.as_str(), |at| &outcome.text[at..]);
    let code = outcome.code.map_or("killed".to_owned(), |code| code.to_string());
    format!("exit {code}\n{}\n", place.normalised(message.trim_end()))
}

#[test]
fn bad_input_is_told() {
    let place = Place::new();
    let mut text = String::new();
    for (name, definition, flags, prepare) in cases() {
        prepare(&place);
        place.write("x.def", definition);
        let outcome = place.run(&[&["build"], flags, &["x.sif", "x.def"]].concat());
        assert_ne!(outcome.code, Some(0), "{name}: {}", outcome.text);
        assert!(!place.file("x.sif").exists(), "{name}: {}", outcome.text);
        let _ = writeln!(text, "== {name}\n{}", told(&place, &outcome));
    }
    place.write("x.def", BASE);
    let outcome = place.run(&["build", "absent/x.sif", "x.def"]);
    let _ = writeln!(text, "== the target's directory is missing\n{}", told(&place, &outcome));
    let outcome = place.run(&["build", "x.sif", "absent.def"]);
    let _ = writeln!(text, "== the definition is missing\n{}", told(&place, &outcome));
    let mut command = place.command(&[], &["build", "x.sif", "x.def"]);
    command.env("SOURCE_DATE_EPOCH", "yesterday");
    let _ = writeln!(text, "== a bad SOURCE_DATE_EPOCH\n{}", told(&place, &place.outcome(command)));
    insta::assert_snapshot!(without_numbers(&text));
}

/// Digests as `DIGEST` and long numbers as `NUMBER`: they depend on the version of busybox.
fn without_numbers(text: &str) -> String {
    let mut result = String::new();
    for word in text.split_inclusive(|character: char| !character.is_ascii_alphanumeric()) {
        let (word, end) =
            word.split_at(word.trim_end_matches(|character: char| !character.is_ascii_alphanumeric()).len());
        result.push_str(match word.len() {
            64 => "DIGEST",
            5.. if word.bytes().all(|byte| byte.is_ascii_digit()) => "NUMBER",
            _ => word,
        });
        result.push_str(end);
    }
    result
}

type Case = (&'static str, String, &'static [&'static str], fn(&Place));

fn cases() -> Vec<Case> {
    let nothing: fn(&Place) = |_| {};
    let base = |rest: &str| format!("{BASE}{rest}");
    let layout = |name: &str| format!("Bootstrap: oci\nFrom: {name}:t\n");
    let local = |name: &str| format!("Bootstrap: localimage\nFrom: {name}\n");
    vec![
        ("a layer with a flipped byte", layout("flipped"), &[], flip_a_byte),
        ("a layer with a flipped byte, and a script", layout("flipped") + "%post\n  true\n", &[], nothing),
        ("a digest that no blob has", layout("lost"), &[], lose_a_blob),
        ("a layer that leaves the root", layout("escape"), &[], leave_the_root),
        ("a SIF that is cut off", local("cut.sif"), &[], cut_a_sif),
        ("text instead of an image", local("text.sif"), &[], |place| place.write("text.sif", "no image at all\n")),
        ("no image at all", local("absent.sif"), &[], nothing),
        ("no From", "Bootstrap: docker\n".to_owned(), &[], nothing),
        ("a file that is not there", base("%files\n  absent.txt /opt/\n"), &[], nothing),
        ("a file over a directory", base("%files\n  x.def /opt/sub\n"), &[], |place| {
            let layers = [base::layers(), vec![base::archive(&[base::directory("opt/sub/x.def", 0o755)])]].concat();
            fs::remove_dir_all(place.file("layout")).unwrap();
            base::layout(&place.file("layout"), &layers);
            base::layout_archive(&place.file("base.tar"), &place.file("layout"));
        }),
        ("a stage that is not there", base("%files from absent\n  /a /b\n"), &[], nothing),
        ("-c without a command", base("%post -c\n  true\n"), &[], nothing),
        ("an interpreter that is not in the image", base("%post -c /bin/absent\n  true\n"), &[], nothing),
        ("an image for another architecture", base(""), &["--arch", "s390x"], nothing),
        ("an unknown architecture", base(""), &["--arch", "z80"], nothing),
        ("an unknown section", base(""), &["--section", "poost"], nothing),
        ("an unknown compression", base(""), &["--compression", "zip"], nothing),
        ("a level beyond the compression's", base(""), &["--compression", "gzip:40"], nothing),
        ("a block size that is no power of two", base(""), &["--block-size", "5000"], nothing),
        (
            "an agent that is not built in",
            "Bootstrap: yum\nOSVersion: 9\nMirrorURL: http://localhost/\nInclude: yum\n".to_owned(),
            &[],
            nothing,
        ),
        ("a build argument that nothing uses", base(""), &["--build-arg", "UNUSED=1"], nothing),
    ]
}

fn flip_a_byte(place: &Place) {
    let directory = place.file("flipped");
    // Does not compress, so that the byte lies in the file's body.
    base::layout(&directory, &[base::archive(&[base::file("noise", 0o644, &noise(100_000))])]);
    let entries = fs::read_dir(directory.join("blobs/sha256")).unwrap().flatten();
    let largest = entries.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap().path();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(largest, bytes).unwrap();
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    bytes.take(length).collect()
}

fn lose_a_blob(place: &Place) {
    let directory = place.file("lost");
    base::layout(&directory, &[base::archive(&[base::file("a", 0o644, b"a")])]);
    let entries = fs::read_dir(directory.join("blobs/sha256")).unwrap().flatten();
    fs::remove_file(entries.min_by_key(|entry| entry.metadata().unwrap().len()).unwrap().path()).unwrap();
}

fn leave_the_root(place: &Place) {
    base::layout(&place.file("escape"), &[base::archive(&[base::file("../../escaped", 0o644, b"out")])]);
}

fn cut_a_sif(place: &Place) {
    place.build("whole.sif", BASE, &[]);
    let bytes = fs::read(place.file("whole.sif")).unwrap();
    place.write("cut.sif", &bytes[..bytes.len() / 2]);
}

#[test]
fn an_unreachable_registry_is_told() {
    let place = Place::new();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let definition = format!("Bootstrap: docker\nRegistry: localhost:{port}\nFrom: example/image:1\n");
    let outcome = place.fail("x.sif", &definition, &["--no-https"]);
    insta::assert_snapshot!(told(&place, &outcome).replace(&port.to_string(), "PORT"));
    let outcome = place.fail("x.sif", &definition, &["--offline"]);
    insta::assert_snapshot!(told(&place, &outcome).replace(&port.to_string(), "PORT"));
}

#[test]
fn a_target_directory_that_cannot_be_written_is_told() {
    let Some(place) = Place::of_user(SINGLE_USER) else { return };
    fs::create_dir(place.file("roots")).unwrap();
    place.write("x.def", "Bootstrap: scratch\n");
    let outcome = place.run(&["build", "roots/x.sif", "x.def"]);
    // The end of a temporary file's name is made up.
    let text = told(&place, &outcome);
    let (start, _) = text.split_once(".sifbuild-").expect("the file that could not be made is named");
    insta::assert_snapshot!(start);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    if !is_root("a full disk") {
        return;
    }
    let place = Place::new();
    place.write("noise", noise(3 << 20));
    fs::create_dir(place.file("full")).unwrap();
    place.write("x.def", "Bootstrap: scratch\n%files\n  noise /noise\n");
    let script = "mount -t tmpfs -o size=1m none full; \"$@\"; code=$?; ls -A full; exit $code";
    let prefix = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let outcome = place.outcome(place.command(&prefix, &["build", "full/x.sif", "x.def"]));
    // `ls` has nothing to say, so that all output is the build's.
    insta::assert_snapshot!(format!("exit {:?}\n{}", outcome.code, place.normalised(&outcome.text)));
}

#[test]
fn a_host_without_namespaces_is_told() {
    let Some(place) = Place::of_user(SINGLE_USER) else { return };
    place.write("x.def", format!("{BASE}%post\n  true\n"));
    // As a user who is not root, for root of a namespace needs no other one.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --ambient-caps=-all --inh-caps=-all \"$@\"";
    let prefix = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", script, "sh"];
    let outcome = place.outcome(place.command(&prefix, &["build", "x.sif", "x.def"]));
    insta::assert_snapshot!(told(&place, &outcome));
    place.write("x.def", BASE);
    let outcome = place.outcome(place.command(&prefix, &["build", "x.sif", "x.def"]));
    assert_eq!(outcome.code, Some(0), "what executes nothing builds: {}", outcome.text);
    super::image::assert_base(&super::image::open(&place.file("x.sif")));
}
