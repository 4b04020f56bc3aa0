//! Bad input and bad hosts: what a person is told.

use super::base;
use super::mirror::{Key, Mirror, Package};
use super::place::{Outcome, Place, RANGE_USER, SINGLE_USER, is_root};
use super::server::{Registry, copy_image};
use super::walk::BASE;
use std::fmt::Write;
use std::fs;
use std::net::TcpListener;

/// The error, without what ran before, behind its exit code.
fn told(place: &Place, outcome: &Outcome) -> String {
    let message = outcome.text.find("ERROR:").map_or(outcome.text.as_str(), |at| &outcome.text[at..]);
    let code = outcome.code.map_or("killed".to_owned(), |code| code.to_string());
    format!("exit {code}\n{}\n", without_names(&place.normalised(message.trim_end())))
}

/// Directories of one build have made-up names.
fn without_names(text: &str) -> String {
    let mut parts = text.split("/sifbuild-");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(part.len());
        result.push_str("/sifbuild-RANDOM");
        result.push_str(&part[end..]);
    }
    result
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
        ("a squashfs that is cut off", local("cut.squashfs"), &[], cut_a_squashfs),
        ("a SIF of nothing but its header", local("header.sif"), &[], |place| {
            place.succeed(&["sif", "new", "header.sif"]);
        }),
        ("an archive that is not there", "Bootstrap: oci-archive\nFrom: absent.tar:t\n".to_owned(), &[], nothing),
        (
            "a tag that the archive does not have",
            "Bootstrap: oci-archive\nFrom: base.tar:other\n".to_owned(),
            &[],
            nothing,
        ),
        ("a text for an archive", "Bootstrap: oci-archive\nFrom: text.sif\n".to_owned(), &[], nothing),
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
        ("an agent that is not built in", "Bootstrap: buildkit\nFrom: x\n".to_owned(), &[], nothing),
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
pub fn noise(length: usize) -> Vec<u8> {
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

/// The squashfs of an image, without its second half.
fn cut_a_squashfs(place: &Place) {
    let sif = sifbuild::sif::reader::Sif::read(fs::File::open(place.file("whole.sif")).unwrap()).unwrap();
    let (partition, _) = sif.primary_partition().unwrap();
    let (start, size) = (partition.offset as usize, partition.size as usize);
    let bytes = fs::read(place.file("whole.sif")).unwrap();
    place.write("cut.squashfs", &bytes[start..start + size / 2]);
}

#[test]
fn what_a_registry_refuses_or_does_not_have_is_told() {
    let place = Place::new();
    let (open, closed) = (Registry::start(&place.file("open"), false), Registry::start(&place.file("closed"), true));
    let layout = format!("oci:{}:t", place.file("layout").display());
    copy_image(&[], &layout, &format!("docker://{}/org/app:1.0", open.host));
    let mut text = String::new();
    for (name, host, from, flags) in [
        ("a tag that is not there", &open.host, "org/app:2.0", &[][..]),
        ("an image that is not there", &open.host, "org/other:1.0", &[]),
        (
            "no image of that digest",
            &open.host,
            "org/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            &[],
        ),
        ("no login", &closed.host, "org/app:1.0", &[]),
        (
            "a wrong password",
            &closed.host,
            "org/app:1.0",
            &["--docker-username", "bob", "--docker-password", "guessed"],
        ),
    ] {
        let definition = format!("Bootstrap: docker\nRegistry: {host}\nFrom: {from}\n");
        let outcome = place.fail("x.sif", &definition, &[&["--no-https"], flags].concat());
        assert!(!outcome.text.contains("guessed"), "{}", outcome.text);
        let _ = writeln!(text, "== {name}\n{}", told(&place, &outcome).replace(host.as_str(), "REGISTRY"));
    }
    insta::assert_snapshot!(without_numbers(&text));
}

#[test]
fn a_bad_debian_mirror_is_told() {
    let place = Place::new();
    let (key, other) = (Key::new(), Key::new());
    let good = Mirror::new(&key);
    let changed = Mirror::new(&key);
    changed.edit("dists/testing/InRelease", |text| text.replace("Label: test", "Label: evil"));
    let expired = Mirror::with(&key, &Package::usual(), "Valid-Until: Sat, 01 Feb 2020 10:00:00 UTC\n");
    let damaged = Mirror::new(&key);
    damaged.damage(&damaged.by_hash_index());
    let (public, strange) = (key.public(), other.public());
    let (public, strange) = (public.to_str().unwrap(), strange.to_str().unwrap());
    let mut text = String::new();
    for (name, mirror, suite, include, keyring) in [
        ("an expired release", &expired, "testing", "", public),
        ("a release that was changed", &changed, "testing", "", public),
        ("a key that is not in the keyring", &good, "testing", "", strange),
        ("a keyring that is not there", &good, "testing", "", "absent.gpg"),
        ("a keyring that is none", &good, "testing", "", "x.def"),
        ("a suite that is not there", &good, "absent", "", public),
        ("a package that is not there", &good, "testing", "Include: tol\n", public),
        ("a damaged index", &damaged, "testing", "", public),
    ] {
        let definition = format!("Bootstrap: debootstrap\nOSVersion: {suite}\nMirrorURL: {}\n{include}", mirror.url());
        let outcome = place.fail("x.sif", &definition, &["--arch", "amd64", "--keyring", keyring]);
        let told = told(&place, &outcome).replace(&mirror.url(), "MIRROR").replace(keyring, "KEYRING");
        let _ = writeln!(text, "== {name}\n{}", told.replace(&key.fingerprint, "KEY"));
    }
    insta::assert_snapshot!(without_numbers(&text));
}

#[test]
fn a_user_without_a_range_is_told() {
    let Some(place) = Place::of_user(SINGLE_USER) else { return };
    let outcome = place.fail("x.sif", &format!("{BASE}%post\n  true\n"), &["--id-mode", "range"]);
    insta::assert_snapshot!(without_sizes(&told(&place, &outcome)));
}

#[test]
fn an_owner_beyond_the_range_is_told() {
    let Some(place) = Place::of_user(RANGE_USER) else { return };
    let layers =
        [base::layers(), vec![base::archive(&[base::file("far", 0o644, b"far").owned(70_000, 70_001)])]].concat();
    base::layout(&place.file("far-owner"), &layers);
    let definition = "Bootstrap: oci\nFrom: far-owner:t\n";
    let outcome = place.fail("x.sif", &format!("{definition}%post\n  true\n"), &[]);
    insta::assert_snapshot!(told(&place, &outcome));
    place.build("x.sif", definition, &[]);
    assert_eq!(super::image::open(&place.file("x.sif")).owner("far"), "0644 70000:70001", "where nothing is executed");
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
    insta::assert_snapshot!(told(&place, &outcome));
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    if !is_root("a full disk") {
        return;
    }
    let place = Place::new();
    place.write("noise", noise(3 << 20));
    place.write("x.def", "Bootstrap: scratch\n%files\n  noise /noise\n");
    place.write("post.def", format!("{BASE}%post\n  sleep 1\n  cat /bin/busybox /bin/busybox /bin/busybox > /much\n"));
    let mut text = String::new();
    for (name, directory, options, arguments) in [
        ("the target's disk is full", "full", "size=1m", &["full/x.sif", "x.def"][..]),
        ("a sandbox's disk is full", "full", "size=1m", &["--sandbox", "full/box", "x.def"]),
        ("a layout's disk is full", "full", "size=1m", &["--oci-layout", "full/layout", "x.def"]),
        ("the target's disk is read-only", "full", "ro", &["full/x.sif", "x.def"]),
        ("the cache's disk is full", "../scratch", "size=1600k", &["x.sif", "post.def"]),
        ("a script fills the cache's disk", "../scratch", "size=4m", &["x.sif", "post.def"]),
        (
            "the temporary directory's disk is full",
            "../scratch",
            "size=1600k",
            &["--disable-cache", "x.sif", "post.def"],
        ),
        ("the cache's disk is read-only", "../scratch", "ro", &["x.sif", "post.def"]),
    ] {
        fs::create_dir_all(place.file(directory)).unwrap();
        let script = format!(
            "mount -t tmpfs -o {options} none {directory}; \"$@\"; code=$?; \
             find {directory} \\( -name '.sifbuild*' -o -name '*.part' -o -path '*/work/*' \\) -exec echo LEFT {{}} \\;; exit $code"
        );
        let prefix = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        let outcome = place.outcome(place.command(&prefix, &[&["build"], arguments].concat()));
        assert!(!place.file("x.sif").exists() && !outcome.text.contains("LEFT"), "{name}: {}", outcome.text);
        let _ = writeln!(text, "== {name}\n{}", told(&place, &outcome));
    }
    insta::assert_snapshot!(without_sizes(&text));
}

/// Seconds and what is free depend on the host.
fn without_sizes(text: &str) -> String {
    let mut result = String::new();
    for line in text.split_inclusive('\n') {
        let line = match (line.split_once(" in all, "), line.split_once(" free now)")) {
            (Some((before, _)), Some((_, after))) => format!("{before} in all, SOME free now){after}"),
            _ => line.to_owned(),
        };
        match (line.split_once(" after "), line.ends_with(" s\n")) {
            (Some((before, _)), true) => result.push_str(&format!("{before} after SOME s\n")),
            _ => result.push_str(&line),
        }
    }
    result
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
