//! Builds for which there is not enough room: told before anything is done.

use super::base;
use super::place::{Outcome, Place};
use super::refusals::noise;
use super::server::{Registry, copy_image};
use sifbuild::archive::compress::Compression;
use std::fs;

/// Of bytes that do not compress.
const SIZE: usize = 6 << 20;

/// Makes `noisy.tar` and `noisy`, an image of [`SIZE`] bytes.
fn noisy(place: &Place) -> String {
    let layers = [base::archive(&[base::file("noise", 0o644, &noise(SIZE))])];
    base::layout_with(&place.file("noisy"), &layers, Compression::Zstd);
    base::layout_archive(&place.file("noisy.tar"), &place.file("noisy"));
    "Bootstrap: oci-archive\nFrom: noisy.tar:t\n".to_owned()
}

/// Runs with a tmpfs over each of `mounts`, names below the directory where builds are called, with its options. Says `LEFT` of files
/// of more than 100 KiB that are there at the end.
fn run(place: &Place, mounts: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let mut script = String::new();
    for (directory, options) in mounts {
        fs::create_dir_all(place.file(directory)).unwrap();
        script.push_str(&format!("mount -t tmpfs -o {options} none {directory} || exit 99\n"));
    }
    script.push_str("\"$@\"; code=$?\n");
    for (directory, _) in mounts {
        script.push_str(&format!("find {directory} -type f -size +100k -exec echo LEFT {{}} \\;\n"));
    }
    script.push_str("exit $code\n");
    // What is refused is refused before any sandbox, so that root of a namespace will do.
    let user: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let prefix = [&["unshare", "--mount"], user, &["sh", "-c", &script, "sh"]].concat();
    place.outcome(place.command(&prefix, &[&["build"], arguments].concat()))
}

/// The build was refused for lack of room, and nothing ran, came or stayed.
fn assert_refused(place: &Place, outcome: &Outcome, words: &[&str]) {
    let text = place.normalised(&outcome.text);
    assert_eq!(outcome.code, Some(6), "{text}");
    assert!(text.contains("there is not enough room: at least") && !text.contains("LEFT"), "{text}");
    assert!(!place.file("ran").exists() && !place.file("x.sif").exists(), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[test]
fn an_archive_that_does_not_fit_into_the_cache_is_refused_before_it_is_unpacked() {
    let place = Place::new();
    place.write("x.def", noisy(&place) + &format!("%pre\n  touch {}\n%post\n  true\n", place.file("ran").display()));
    let outcome = run(&place, &[("../scratch", "size=4m")], &["x.sif", "x.def"]);
    let words = [
        "5.4 MiB are needed on the disk of the cache PLACE/scratch/store, which has",
        "\n  the files of oci-archive:noisy.tar:t, unpacked (cache): 5.4 MiB at least, 18.0 MiB probably",
        "room is in: PLACE/work (",
        "--cache-dir DIRECTORY or SIFBUILD_CACHEDIR",
    ];
    assert_refused(&place, &outcome, &words);
    let outcome = run(&place, &[("../scratch", "size=4m")], &["--disable-cache", "x.sif", "x.def"]);
    assert_refused(&place, &outcome, &["the temporary directory PLACE/scratch/sifbuild-", "--tmpdir DIRECTORY"]);
}

#[test]
fn a_build_that_fits_is_not_refused() {
    let place = Place::new();
    place.write("x.def", noisy(&place));
    // The image streams: the cache stays empty.
    let outcome = run(&place, &[("../scratch", "size=1m"), ("target", "size=8m")], &["target/x.sif", "x.def"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(!outcome.text.contains("room"), "{}", outcome.text);
    let outcome = run(&place, &[("../scratch", "size=8m,nr_inodes=100")], &["-v", "--sandbox", "box", "x.def"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(outcome.text.contains("WARNING: the room may be too little: 18.0 MiB are probably"), "{}", outcome.text);
    assert!(
        outcome.text.contains("Room for the files of oci-archive:noisy.tar:t, unpacked (cache)"),
        "{}",
        outcome.text
    );
}

#[test]
fn a_target_that_does_not_fit_is_refused() {
    let place = Place::new();
    place.write("x.def", noisy(&place));
    let outcome = run(&place, &[("target", "size=2m")], &["target/x.sif", "x.def"]);
    let words = ["3.0 MiB are needed on the disk of the target's directory target", "name a target elsewhere"];
    assert_refused(&place, &outcome, &words);
}

#[test]
fn needs_on_one_disk_add_up_and_apart_they_do_not() {
    let place = Place::new();
    place.write("x.def", noisy(&place));
    let arguments = ["--sandbox", "../scratch/box", "x.def"];
    let outcome = run(&place, &[("../scratch", "size=10m")], &arguments);
    assert_refused(
        &place,
        &outcome,
        &["10.8 MiB are needed", "the cache PLACE/scratch/store and the target's directory"],
    );
    let outcome = run(&place, &[("../scratch", "size=10m")], &["--sandbox", "box", "x.def"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
}

#[test]
fn a_download_that_does_not_fit_does_not_begin() {
    let place = Place::new();
    noisy(&place);
    let registry = Registry::start(&place.file("registry"), false);
    let source = format!("oci:{}:t", place.file("noisy").display());
    copy_image(&[], &source, &format!("docker://{}/org/noisy:1", registry.host));
    place.write("x.def", format!("Bootstrap: docker\nFrom: {}/org/noisy:1\n", registry.host));
    let outcome = run(&place, &[("../scratch", "size=4m")], &["--no-https", "x.sif", "x.def"]);
    let name = format!("the download of {}/org/noisy:1 (cache): 6.0 MiB, 1 file", registry.host);
    assert_refused(&place, &outcome, &["6.0 MiB are needed on the disk of the cache", &name]);
}

#[test]
fn files_are_counted_where_they_are_known() {
    let place = Place::new();
    for number in 0..300 {
        place.write(&format!("box/{number}"), "");
    }
    place.write("image.def", "Bootstrap: localimage\nFrom: box\n");
    place.succeed(&["build", "image.sif", "image.def"]);
    for from in ["box", "image.sif"] {
        place.write("x.def", format!("Bootstrap: localimage\nFrom: {from}\n%test\n  true\n"));
        let outcome = run(&place, &[("../scratch", "size=64m,nr_inodes=200")], &["x.sif", "x.def"]);
        let words = ["files and directories are needed on the disk of the cache", "which has room for"];
        assert_refused(&place, &outcome, &words);
        // Nothing is unpacked for it: none is needed.
        place.write("x.def", format!("Bootstrap: localimage\nFrom: {from}\n"));
        let outcome = run(&place, &[("../scratch", "size=64m,nr_inodes=200")], &["--force", "y.sif", "x.def"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    }
    place.write("x.def", "Bootstrap: localimage\nFrom: image.sif\n");
    let outcome = run(&place, &[("target", "size=64m,nr_inodes=200")], &["--sandbox", "target/box", "x.def"]);
    assert_refused(
        &place,
        &outcome,
        &["files and directories are needed on the disk of the target's directory target"],
    );
}

#[test]
fn what_is_kept_already_needs_no_room() {
    let place = Place::new();
    place.write("shell.def", super::walk::BASE.to_owned() + "%post\n  true\n");
    place.succeed(&["build", "first.sif", "shell.def"]);
    let text = place.succeed(&["build", "-v", "second.sif", "shell.def"]);
    assert!(!text.contains("unpacked (cache)") && text.contains("Room for the image on"), "{text}");
}
