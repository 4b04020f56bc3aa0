//! A real Debian base from this host's own mirror, finished in a plain chroot: needs root, the network and a Debian host, so it is run by
//! name: `cargo test --test debian -- --ignored`. `SIFBUILD_TEST_KEEP=DIRECTORY` leaves the result there.

use sifbuild::agent::debian::{self, Options};
use sifbuild::agent::packages::Elsewhere;
use sifbuild::arch::Arch;
use sifbuild::definition::DebianBase;
use sifbuild::event::Silent;
use sifbuild::fetch::client::{Client, ClientOptions};
use sifbuild::source::{Span, Spanned};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{text}\n{errors}", output.status);
    text
}

fn os_release(name: &str) -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap().trim_matches('"').to_owned()
}

/// The root, and the mirror and suite that it came from.
fn bootstrap(work: &Path, blobs: &Path, include: &[&str]) -> (PathBuf, String, String) {
    let plain = |text: &str| Spanned::new(text.to_owned(), Span::default());
    let suite = std::env::var("SIFBUILD_TEST_SUITE").unwrap_or_else(|_| os_release("VERSION_CODENAME"));
    let header = DebianBase {
        mirror_url: None,
        os_version: plain(&suite),
        include: include.iter().map(|name| plain(name)).collect(),
    };
    let fetch = Client::new(ClientOptions::default()).unwrap();
    let began = std::time::Instant::now();
    let pin = debian::pin(&header, &Options::default(), Arch::host(), &fetch, &Silent)
        .unwrap_or_else(|error| panic!("{error}"));
    println!("pinned {} packages in {:?}", pin.packages.len(), began.elapsed());
    assert_eq!(sifbuild::deb::DebianPin::parse(&pin.lines()), Ok(pin.clone()));
    let base = debian::provide(&pin, blobs, work, &Elsewhere::default(), &fetch, &Silent)
        .unwrap_or_else(|error| panic!("{error}"));
    println!("provided after {:?}", began.elapsed());
    let root = work.join("root");
    std::fs::create_dir_all(&root).unwrap();
    run("tar", &["-xpf", base.layer.file.to_str().unwrap(), "-C", root.to_str().unwrap(), "--numeric-owner"]);
    let script = work.join("script");
    std::fs::write(&script, &base.script).unwrap();
    let [mount] = &base.mounts[..] else { panic!("one mount is expected") };
    let target = root.join(&mount.target[1..]);
    std::fs::create_dir_all(&target).unwrap();
    let steps = format!(
        "set -e; mount --bind -o ro {} {}; mount -t proc proc {root}/proc; mount --rbind /dev {root}/dev; exec chroot {root} /bin/sh -c \"$(cat {})\"",
        mount.host.display(),
        target.display(),
        script.display(),
        root = root.display(),
    );
    let log = run("unshare", &["--mount", "--pid", "--fork", "sh", "-c", &steps]);
    println!("configured after {:?}\n{log}", began.elapsed());
    std::fs::remove_dir(target).unwrap();
    (root, pin.mirror, pin.suite)
}

#[test]
#[ignore = "needs root and the mirror of a Debian host: tests/run runs it"]
fn makes_the_base_that_debootstrap_makes() {
    let kept = std::env::var_os("SIFBUILD_TEST_KEEP").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let work = kept.unwrap_or_else(|| temporary.path().to_owned());
    let blobs = work.join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let (root, mirror, suite) = bootstrap(&work, &blobs, &["ca-certificates"]);
    let root_text = root.to_str().unwrap();
    assert_eq!(run("chroot", &[root_text, "dpkg", "--audit"]), "");
    run("chroot", &[root_text, "apt-get", "check"]);
    let scratch = work.join("debootstrap");
    // Compat: what Apptainer excludes, but for openssl, which ca-certificates needs.
    let flags =
        ["--variant=minbase", "--include=ca-certificates", "--exclude=udev,debconf-i18n,e2fsprogs", "--print-debs"];
    let theirs = run("debootstrap", &[&flags[..], &[&suite, scratch.to_str().unwrap(), &mirror]].concat());
    let theirs: BTreeSet<&str> = theirs.split_whitespace().collect();
    let ours = run("chroot", &[root_text, "dpkg-query", "-W", "-f", "${Package}\n"]);
    assert_eq!(ours.lines().collect::<BTreeSet<&str>>(), theirs);
}
