//! `Bootstrap: debootstrap` against archives made here, good ones and bad ones, and (by name) against the host's own mirror.

mod live;
mod mirror;

use mirror::{Key, Mirror, Package};
use sifbuild::agent::debian::{DebianBase, Options, pin, provide};
use sifbuild::agent::packages::{Elsewhere, Kept};
use sifbuild::arch::Arch;
use sifbuild::deb::DebianPin;
use sifbuild::definition::DebianBase as Header;
use sifbuild::event::{Event, Recorder, Silent};
use sifbuild::fetch::client::{Client, ClientOptions};
use sifbuild::source::{Span, Spanned};
use std::io::Read;
use std::path::{Path, PathBuf};

fn header(mirror: Option<&Mirror>, include: &[&str]) -> Header {
    let plain = |text: &str| Spanned::new(text.to_owned(), Span::default());
    Header {
        mirror_url: mirror.map(|mirror| plain(&mirror.url())),
        os_version: plain("testing"),
        include: include.iter().map(|name| plain(name)).collect(),
    }
}

fn client() -> Client {
    Client::new(ClientOptions::default()).unwrap()
}

fn options(key: &Key) -> Options {
    Options { keyrings: vec![key.public()], ..Options::default() }
}

fn ask(mirror: &Mirror, options: &Options, include: &[&str]) -> Result<DebianPin, String> {
    pin(&header(Some(mirror), include), options, Arch::Amd64, &client(), &Silent).map_err(|error| error.to_string())
}

fn bring(pin: &DebianPin, work: &Path) -> Result<DebianBase, String> {
    provide(pin, &work.join("blobs"), work, &Elsewhere::default(), &client(), &Silent)
        .map_err(|error| error.to_string())
}

fn names(pin: &DebianPin) -> Vec<String> {
    pin.packages.iter().map(|package| package.name.clone()).collect()
}

#[test]
fn pins_and_provides_a_base_from_a_signed_archive() {
    let (key, work) = (Key::new(), tempfile::tempdir().unwrap());
    let mirror = Mirror::new(&key);
    let pin = ask(&mirror, &options(&key), &["tool"]).unwrap();
    assert_eq!(names(&pin), ["dpkg", "libc6", "apt", "tool", "tool-data"]);
    assert_eq!((pin.codename.as_str(), pin.merged_usr, pin.signers.len()), ("trixie", true, 1));
    let base = bring(&pin, work.path()).unwrap();
    let mut paths = Vec::new();
    let mut archive = tar::Archive::new(base.layer.open_tar().unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        entry.read_to_end(&mut Vec::new()).unwrap();
        paths.push(entry.path().unwrap().to_string_lossy().into_owned());
    }
    for path in ["usr/bin/dpkg", "bin", "etc/apt/sources.list", "var/lib/dpkg/status"] {
        assert!(paths.iter().any(|known| known == path), "{path} in {paths:?}");
    }
    assert!(!paths.iter().any(|path| path.contains("tool")), "only the core is unpacked beforehand: {paths:?}");
    assert!(base.mounts[0].host.join("tool_1.5_amd64.deb").exists());
    assert!(base.script.contains("tool_1.5_amd64.deb"));
}

#[test]
fn packages_that_are_kept_stay_while_others_move() {
    let key = Key::new();
    let first = ask(&Mirror::new(&key), &options(&key), &["tool"]).unwrap();
    let mut packages = Package::usual();
    packages.push(Package::new("libc6", "2.42-1", "Priority: optional"));
    packages.push(Package::new("apt", "3.1", "Priority: important\nDepends: libc6"));
    packages.push(Package::new("tool", "2", "Depends: tool-data (>= 2)"));
    packages.push(Package::new("tool-data", "2", ""));
    let mirror = Mirror::with(&key, &packages, "");
    let versions = |pin: DebianPin| pin.packages.into_iter().map(|one| one.version).collect::<Vec<_>>();
    let lines = first.lines();
    let old = first.packages.into_iter().filter(|one| one.name != "tool");
    let kept = Kept {
        versions: old.map(|one| (one.name, one.version, one.architecture)).collect(),
        moving: ["tool".to_owned()].into(),
        lines,
        ..Kept::default()
    };
    let keeping = Options { kept: Some(kept), ..options(&key) };
    assert_eq!(versions(ask(&mirror, &keeping, &["tool"]).unwrap()), ["1.22", "2.41-1", "3.0", "2", "2"]);
    assert_eq!(versions(ask(&mirror, &options(&key), &["tool"]).unwrap()), ["1.22", "2.42-1", "3.1", "2", "2"]);
}

#[test]
fn packages_that_are_kept_are_read_from_their_files_when_the_archive_has_newer_ones_only() {
    let (key, work) = (Key::new(), tempfile::tempdir().unwrap());
    let old = Mirror::new(&key);
    let first = ask(&old, &options(&key), &["tool"]).unwrap();
    bring(&first, work.path()).unwrap();
    let newer = |name, fields: &str| Package::new(name, "9", fields);
    let mirror = Mirror::with(
        &key,
        &[
            newer("dpkg", "Priority: required\nEssential: yes\nPre-Depends: libc6"),
            newer("libc6", "Priority: optional"),
            newer("apt", "Priority: important\nDepends: libc6"),
            newer("tool", "Depends: tool-data"),
            newer("tool-data", ""),
        ],
        "",
    );
    let kept = |blobs: PathBuf| Kept {
        versions: first
            .packages
            .iter()
            .map(|one| (one.name.clone(), one.version.clone(), one.architecture.clone()))
            .collect(),
        moving: ["apt".to_owned()].into(),
        lines: first.lines(),
        blobs,
    };
    let versions = |blobs: &str| {
        let keeping = Options { kept: Some(kept(work.path().join(blobs))), ..options(&key) };
        let observer = Recorder::default();
        let pin = pin(&header(Some(&mirror), &["tool"]), &keeping, Arch::Amd64, &client(), &observer).unwrap();
        let told = observer.events.lock().unwrap().iter().filter(|event| matches!(event, Event::Warning(_))).count();
        (pin.packages.into_iter().map(|one| one.version).collect::<Vec<_>>(), told)
    };
    let text = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    assert_eq!(versions("blobs"), (text(&["1.22", "2.41-1", "9", "1.5", "1.5"]), 0));
    assert_eq!(versions("nothing"), (text(&["9", "9", "9", "9", "9"]), 4), "with a warning for each that cannot stay");
}

#[test]
fn provides_again_without_a_mirror() {
    let (key, work) = (Key::new(), tempfile::tempdir().unwrap());
    let mirror = Mirror::new(&key);
    let pin = ask(&mirror, &options(&key), &[]).unwrap();
    let first = bring(&pin, work.path()).unwrap();
    drop(mirror);
    let second = bring(&DebianPin::parse(&pin.lines()).unwrap(), work.path()).unwrap();
    assert_eq!(first.layer.digest, second.layer.digest);
}

#[test]
fn keeps_answers_as_long_as_the_release_is_the_same() {
    let (key, work) = (Key::new(), tempfile::tempdir().unwrap());
    let mirror = Mirror::new(&key);
    let options = Options { answers: Some(work.path().join("answers")), ..options(&key) };
    let first = ask(&mirror, &options, &[]).unwrap();
    std::fs::remove_dir_all(mirror.path("dists/testing/main")).unwrap();
    assert_eq!(ask(&mirror, &options, &[]), Ok(first));
    assert!(ask(&mirror, &options, &["tool"]).is_err(), "another question is asked anew");
}

#[test]
fn takes_the_mirror_and_the_key_from_the_hosts_apt_configuration() {
    let (key, root) = (Key::new(), tempfile::tempdir().unwrap());
    let mirror = Mirror::new(&key);
    let folder = root.path().join("etc/apt/sources.list.d");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(root.path().join("keys")).unwrap();
    std::fs::copy(key.public(), root.path().join("keys/test.gpg")).unwrap();
    let text =
        format!("Types: deb\nURIs: {}\nSuites: testing\nComponents: main\nSigned-By: /keys/test.gpg\n", mirror.url());
    std::fs::write(folder.join("test.sources"), text).unwrap();
    let options = Options { host_root: root.path().to_owned(), ..Options::default() };
    let found = pin(&header(None, &[]), &options, Arch::Amd64, &client(), &Silent).unwrap();
    assert_eq!(found.mirror, mirror.url());
}

#[test]
fn says_how_to_name_a_mirror_or_a_keyring() {
    let (key, root) = (Key::new(), tempfile::tempdir().unwrap());
    let options = Options { host_root: root.path().to_owned(), ..Options::default() };
    let error = pin(&header(None, &[]), &options, Arch::Amd64, &client(), &Silent).unwrap_err().to_string();
    assert!(error.contains("MirrorURL"), "{error}");
    let error = ask(&Mirror::new(&key), &options, &[]).unwrap_err();
    assert!(error.contains("--keyring"), "{error}");
}

#[test]
fn accepts_a_detached_signature_where_there_is_no_inrelease() {
    let key = Key::new();
    let mirror = Mirror::new(&key);
    mirror.use_detached_signature(&key);
    assert_eq!(ask(&mirror, &options(&key), &[]).unwrap().packages.len(), 3);
    let path = mirror.path("dists/testing/Release");
    let text = std::fs::read_to_string(&path).unwrap().replace("Label: t", "Label: u");
    std::fs::write(&path, text).unwrap();
    let error = ask(&mirror, &options(&key), &[]).unwrap_err();
    assert!(error.contains("does not fit the text"), "{error}");
}

#[test]
fn refuses_a_release_that_was_changed_after_signing() {
    let key = Key::new();
    let mirror = Mirror::new(&key);
    mirror.edit("dists/testing/InRelease", |text| text.replace("Label: test", "Label: evil"));
    let error = ask(&mirror, &options(&key), &[]).unwrap_err();
    assert!(error.contains("InRelease is not trusted") && error.contains("does not fit the text"), "{error}");
}

#[test]
fn refuses_text_around_the_signed_text() {
    let key = Key::new();
    let mirror = Mirror::new(&key);
    mirror.edit("dists/testing/InRelease", |text| format!("{text}SHA256:\n"));
    let error = ask(&mirror, &options(&key), &[]).unwrap_err();
    assert!(error.contains("goes on after the signature"), "{error}");
}

#[test]
fn refuses_keys_that_are_unknown_expired_revoked_or_weak() {
    let (good, other) = (Key::new(), Key::new());
    let mirror = Mirror::new(&good);
    let error = ask(&mirror, &options(&other), &[]).unwrap_err();
    assert!(error.contains(&good.fingerprint) && error.contains("not in the keyring"), "{error}");

    good.revoke();
    let error = ask(&mirror, &options(&good), &[]).unwrap_err();
    assert!(error.contains("has been revoked"), "{error}");

    let expired = Key::expired();
    let error = ask(&Mirror::new(&expired), &options(&expired), &[]).unwrap_err();
    assert!(error.contains("the key has expired"), "{error}");

    let weak = Key::new();
    let mirror = Mirror::new(&weak);
    mirror.sign(&weak, &["--digest-algo", "SHA1"]);
    let error = ask(&mirror, &options(&weak), &[]).unwrap_err();
    assert!(error.contains("weak digest"), "{error}");
}

#[test]
fn accepts_a_signing_subkey_and_one_good_signature_among_several() {
    let (key, stranger) = (Key::with_subkey(), Key::new());
    let mirror = Mirror::new(&key);
    let pin = ask(&mirror, &options(&key), &[]).unwrap();
    assert_eq!(pin.signers, std::slice::from_ref(&key.fingerprint), "the primary key is named");
    mirror.sign_twice(&stranger, &key);
    assert_eq!(ask(&mirror, &options(&key), &[]).unwrap().signers, std::slice::from_ref(&key.fingerprint));
    // Armored keyrings, several blocks in one file.
    let both = mirror.path("both.asc");
    std::fs::write(&both, [stranger.armored(), key.armored()].concat()).unwrap();
    let options = Options { keyrings: vec![both], ..Options::default() };
    assert_eq!(ask(&mirror, &options, &[]).unwrap().signers.len(), 2);
}

#[test]
fn refuses_an_expired_release_and_names_date_and_flag() {
    let key = Key::new();
    let mirror = Mirror::with(&key, &Package::usual(), "Valid-Until: Sat, 01 Feb 2020 10:00:00 UTC\n");
    let error = ask(&mirror, &options(&key), &[]).unwrap_err();
    assert!(error.contains("01 Feb 2020") && error.contains("--ignore-valid-until"), "{error}");
    let options = Options { ignore_valid_until: true, ..options(&key) };
    let observer = Recorder::default();
    pin(&header(Some(&mirror), &[]), &options, Arch::Amd64, &client(), &observer).unwrap();
    let events = observer.events.lock().unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::Warning(text) if text.contains("01 Feb 2020"))));
}

#[test]
fn refuses_another_suites_release_in_this_ones_place() {
    let key = Key::new();
    let mirror = Mirror::new(&key);
    std::fs::create_dir_all(mirror.path("dists/stable")).unwrap();
    std::fs::copy(mirror.path("dists/testing/InRelease"), mirror.path("dists/stable/InRelease")).unwrap();
    let mut header = header(Some(&mirror), &[]);
    header.os_version.value = "stable".into();
    let error = pin(&header, &options(&key), Arch::Amd64, &client(), &Silent).unwrap_err().to_string();
    assert!(error.contains("is the release testing or trixie, but stable was asked for"), "{error}");
    header.os_version.value = "../testing".into();
    let error = pin(&header, &options(&key), Arch::Amd64, &client(), &Silent).unwrap_err().to_string();
    assert!(error.contains("not the name of a release"), "{error}");
    header.os_version.value = "absent".into();
    let error = pin(&header, &options(&key), Arch::Amd64, &client(), &Silent).unwrap_err().to_string();
    assert!(error.contains("no release absent"), "{error}");
}

#[test]
fn refuses_an_index_or_a_package_that_is_not_the_promised_one() {
    let (key, work) = (Key::new(), tempfile::tempdir().unwrap());
    let mirror = Mirror::new(&key);
    let pin = ask(&mirror, &options(&key), &["tool"]).unwrap();
    mirror.damage("pool/tool_1.5_amd64.deb");
    let error = bring(&pin, work.path()).unwrap_err();
    assert!(error.contains("tool_1.5_amd64.deb") && error.contains("digest"), "{error}");
    let index = mirror.by_hash_index();
    mirror.damage(&index);
    let error = ask(&mirror, &options(&key), &[]).unwrap_err();
    assert!(error.contains("by-hash") && error.contains("not the file that the signed release lists"), "{error}");
}

#[test]
fn notices_a_kept_package_that_was_damaged() {
    let (key, work) = (Key::new(), tempfile::tempdir().unwrap());
    let mirror = Mirror::new(&key);
    let pin = ask(&mirror, &options(&key), &[]).unwrap();
    let blob = work.path().join("blobs/sha256").join(pin.packages[0].digest.hex());
    std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
    std::fs::write(&blob, "x").unwrap();
    let error = bring(&pin, work.path()).unwrap_err();
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn explains_names_and_dependencies_that_the_archive_does_not_have() {
    let key = Key::new();
    let mut packages = Package::usual();
    packages.push(Package::new("broken", "1", "Depends: middle"));
    packages.push(Package::new("middle", "1", "Depends: tool (>= 9)"));
    packages.push(Package::new("hostile", "1", "Conflicts: tool"));
    let mirror = Mirror::with(&key, &packages, "");
    let error = |include: &[&str]| ask(&mirror, &options(&key), include).unwrap_err();
    let unknown = error(&["tol"]);
    assert!(unknown.contains("no package \"tol\"") && unknown.contains("did you mean tool?"), "{unknown}");
    let chain = error(&["broken"]);
    assert!(chain.contains("tool (>= 9) cannot be had, needed by middle 1, needed by broken 1"), "{chain}");
    let conflict = error(&["tool", "hostile"]);
    assert!(conflict.contains("Conflicts: tool"), "{conflict}");
    let mut options = options(&key);
    options.components = vec!["universe".into()];
    let component = ask(&mirror, &options, &[]).unwrap_err();
    assert!(component.contains("no component universe; it has main"), "{component}");
}
