//! Images that are mounted through FUSE: the same as unpacked ones, and nothing is left of them.

use super::place::{Place, RANGE_USER, SINGLE_USER};
use super::programs::wait_for;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Everything of an image's own tree: types, modes, sizes, owners, times, targets, contents.
const SHOW: &str = "cd /; b=/bin/busybox; for d in bin etc opt usr data; do $b find $d -xdev | $b sort; done > /tmp/names.$$; \
    while read -r n; do $b stat -c '%n %f %s %u:%g %h %Y' \"$n\"; [ -L \"$n\" ] && $b readlink \"$n\"; done < /tmp/names.$$; \
    $b find data etc opt -type f -exec $b md5sum {} + | $b sort; $b rm /tmp/names.$$";

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A place with `x.sif`, which has what is hard to serve.
fn image(place: Place) -> Place {
    place.write("data/large", noise(3_000_000));
    let mut hole = vec![0; 2_000_000];
    hole.extend_from_slice(b"end");
    place.write("data/hole", hole);
    place.write("data/empty", "");
    for number in 0..500 {
        place.write(&format!("data/many/{number}"), format!("{number}\n").repeat(number % 50));
    }
    symlink("large", place.file("data/link")).unwrap();
    place.build("x.sif", "Bootstrap: oci-archive\nFrom: base.tar:t\n%files\n  data /\n", &[]);
    place
}

fn is_there() -> bool {
    fs::File::options().read(true).write(true).open("/dev/fuse").is_ok() || {
        assert!(std::env::var_os("CI").is_none(), "/dev/fuse cannot be opened: chmod 666 /dev/fuse");
        eprintln!("/dev/fuse cannot be opened, so nothing is mounted: chmod 666 /dev/fuse");
        false
    }
}

fn places() -> Vec<Place> {
    if !is_there() {
        return Vec::new();
    }
    let users = [RANGE_USER, SINGLE_USER].into_iter().filter_map(Place::of_user);
    std::iter::once(Place::new()).chain(users).map(image).collect()
}

#[test]
fn a_mounted_image_equals_an_unpacked_one() {
    for place in places() {
        let mut kinds = vec![&["exec"][..]];
        if place.user().is_some_and(|user| user.name == RANGE_USER) {
            kinds.push(&["exec", "--fakeroot"]);
        }
        for kind in kinds {
            let mounted = place.succeed(&[kind, &["x.sif", "sh", "-c", SHOW]].concat());
            assert!(mounted.lines().count() > 1000, "{mounted}");
            assert_eq!(place.succeed(&["cache", "steps"]), "", "nothing was unpacked");
            let unpacked = place.succeed(&[kind, &["--unpack", "x.sif", "sh", "-c", SHOW]].concat());
            // The size of a directory is the file system's own.
            let lines = |text: &str| {
                let made = ["etc/group", "etc/hosts", "etc/localtime", "etc/passwd", "etc/resolv.conf"];
                let is_told = |line: &&str| {
                    let of_directory = line.contains(" 41") || line.contains(" 45");
                    !of_directory && !line.contains("Unpacking") && !made.iter().any(|name| line.contains(name))
                };
                text.lines().filter(is_told).map(str::to_owned).collect::<Vec<String>>()
            };
            let (mounted, unpacked) = (lines(&mounted), lines(&unpacked));
            for (one, other) in mounted.iter().zip(&unpacked) {
                assert_eq!(one, other);
            }
            assert_eq!(mounted.len(), unpacked.len());
            place.succeed(&["cache", "clean"]);
        }
    }
}

#[test]
fn a_large_file_is_read_from_anywhere() {
    let Some(place) = places().into_iter().next() else { return };
    let bytes = noise(3_000_000);
    // Single pages, backwards and forwards, past what the kernel read ahead.
    for page in [700, 3, 500, 501, 4, 731, 732] {
        let script = format!("busybox dd if=/data/large bs=4096 skip={page} count=1 2>/dev/null");
        let output = place.command(&[], &["exec", "x.sif", "busybox", "sh", "-c", &script]).output().unwrap();
        let end = bytes.len().min((page + 1) * 4096);
        assert!(output.stdout == bytes[(page * 4096).min(end)..end], "page {page}");
    }
}

/// Processes whose command line has `word`.
fn processes(word: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(word.len()).any(|part| part == word.as_bytes())).count()
}

#[test]
fn the_server_is_nobodys_child_and_goes_with_the_last_program() {
    for place in places() {
        let program = place.file("../sifbuild").canonicalize().unwrap();
        let program = program.to_str().unwrap();
        let ready = place.file("ready");
        let script = format!(
            "read -r children < /proc/$$/task/$$/children; echo $children; (sleep 2; cat /opt/above > {0}/late) >/dev/null 2>&1 & touch {0}/ready; sleep 1",
            place.file("").display()
        );
        let mut command = place.command(&[], &["exec", "x.sif", "sh", "-c", &script]);
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        wait_for(&ready);
        assert_eq!(processes(program), 1, "one process serves");
        // What the program left in the background still reads; nobody waits for it.
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "");
        wait_for(&place.file("late"));
        let started = Instant::now();
        while processes(program) > 0 {
            assert!(started.elapsed() < Duration::from_secs(10), "the server stays");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(fs::read_to_string(place.file("late")).unwrap(), "above");
        assert!(Path::new(program).exists());
    }
}
