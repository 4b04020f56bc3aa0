//! `vendor`, and builds from what it collected, without a network.

use super::mirror::{Key, Mirror as Archive, Package};
use super::place::{Outcome, Place, RANGE_USER, SINGLE_USER};
use super::rpm_mirror::Mirror;
use super::server::{Registry, copy_image};
use super::walk::BASE;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn definition(mirror: &Mirror, include: &str, post: &str) -> String {
    format!("Bootstrap: dnf\nMirrorURL: {}\nInclude: {include}\n\n%post\n{post}\n", mirror.url())
}

/// All files below a directory, with their bytes.
fn tree(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(tree(&entry)),
            false => found.push((entry.strip_prefix(directory).unwrap().to_path_buf(), fs::read(&entry).unwrap())),
        }
    }
    found.sort();
    found
}

/// Of `text`, written to a file and read back.
fn copy(from: &Place, to: &Place, name: &str) {
    let status = std::process::Command::new("cp").arg("-r").arg(from.file(name)).arg(to.file(name)).status().unwrap();
    assert!(status.success());
}

/// A build that has nothing but what lies in the directory.
fn build_offline(place: &Place, target: &str, flags: &[&str]) -> Outcome {
    let cache = place.file(&format!("{target}.cache"));
    let common = ["build", "--offline", "--reproducible", "--cache-dir", cache.to_str().unwrap()];
    place.run(&[&common, flags, &[target, "x.def"]].concat())
}

#[test]
fn a_vendored_base_is_built_without_its_mirror_by_everybody_with_the_same_bytes() {
    let mirror = Mirror::copy();
    let (place, key) = (Place::new(), mirror.key());
    place.write("x.def", definition(&mirror, "demo rpm findutils", "  rpm -q demo"));
    place.succeed(&["lock", "--keyring", &key, "x.def"]);
    place.succeed(&["build", "--reproducible", "first.sif", "x.def"]);
    let told = place.succeed(&["vendor", "x.def"]);
    assert!(told.contains("x.def.vendor has 9 files"), "{told}");
    place.succeed(&["vendor", "--cache-dir", place.file("other").to_str().unwrap(), "x.def", "again"]);
    assert!(tree(&place.file("x.def.vendor")) == tree(&place.file("again")), "two collections of one lock differ");
    place.succeed(&["vendor", "x.def", "oci-archive:x.tar"]);
    drop(mirror);
    let first = fs::read(place.file("first.sif")).unwrap();
    for (target, flags) in [("beside.sif", vec![]), ("archive.sif", vec!["--vendor", "oci-archive:x.tar"])] {
        let outcome = build_offline(&place, target, &flags);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        assert!(fs::read(place.file(target)).unwrap() == first, "{target}");
    }
    for user in [RANGE_USER, SINGLE_USER] {
        let Some(other) = Place::of_user(user) else { return };
        ["x.def", "x.def.lock", "x.def.vendor"].iter().for_each(|name| copy(&place, &other, name));
        let outcome = build_offline(&other, "x.sif", &[]);
        assert_eq!(outcome.code, Some(0), "{user}: {}", outcome.text);
        assert!(fs::read(other.file("x.sif")).unwrap() == first, "{user}");
    }
}

#[test]
fn a_package_that_is_nowhere_is_named_with_what_to_do() {
    let mirror = Mirror::copy();
    let (place, key) = (Place::new(), mirror.key());
    place.write("x.def", definition(&mirror, "choosy rpm", "  rpm -q choosy"));
    place.succeed(&["lock", "--keyring", &key, "x.def"]);
    place.succeed(&["vendor", "x.def"]);
    let vault = place.file("vault");
    fs::create_dir_all(vault.join("Packages")).unwrap();
    let package = mirror.package("choosy");
    let kept = vault.join("Packages").join(package.file_name().unwrap());
    fs::rename(&package, &kept).unwrap();
    let damaged = sifbuild::digest::Digest::of(&fs::read(&kept).unwrap());
    let blob = place.file("x.def.vendor/blobs/sha256").join(damaged.hex());
    fs::write(&blob, "damaged").unwrap();
    let gone = build_offline(&place, "gone.sif", &[]);
    assert_eq!(gone.code, Some(4), "{}", gone.text);
    for part in [
        "choosy-1-1.noarch.rpm in x.def.vendor is damaged, and is looked for elsewhere",
        &format!("the package choosy-1-1.noarch (Packages/choosy-1-1.noarch.rpm, {damaged}) cannot be had: "),
        "/os/Packages/choosy-1-1.noarch.rpm answered 404",
        "x.def.lock names it; the cache and x.def.vendor do not have it",
        "--vault URL",
        "`sifbuild lock x.def --update choosy`",
    ] {
        assert!(gone.text.contains(part), "{part:?} in {}", gone.text);
    }
    let url = format!("file://{}", vault.display());
    let found = build_offline(&place, "found.sif", &["--vault", "file:///nowhere/", "--vault", &url]);
    assert_eq!(found.code, Some(0), "{}", found.text);
    fs::write(kept, "another").unwrap();
    let another = build_offline(&place, "another.sif", &["--vault", &url]);
    assert_eq!(another.code, Some(4));
    assert!(another.text.contains("vault/Packages/choosy-1-1.noarch.rpm is 7 bytes long"), "{}", another.text);
}

#[test]
fn a_lock_moves_only_the_packages_that_are_named_and_what_they_need() {
    let mirror = Mirror::copy();
    let (place, key) = (Place::new(), mirror.key());
    let spec = |version: u32, more: &str| {
        format!("Version: {version}\nRelease: 1\nBuildArch: noarch\n{more}%description\nx\n%files\n")
    };
    // As subpackages of one source do: each wants the other in its own version.
    mirror.build("twin", &spec(1, "Requires: twin-data = 1\n"));
    mirror.build("twin-data", &spec(1, "Requires: twin = 1\n"));
    mirror.index();
    place.write("x.def", definition(&mirror, "choosy twin demo-doc rpm", "  true"));
    place.succeed(&["lock", "--keyring", &key, "x.def"]);
    mirror.build("twin", &spec(2, "Requires: twin-data = 2\n"));
    mirror.build("twin-data", &spec(2, "Requires: twin = 2\n"));
    mirror.build("choosy", &spec(2, ""));
    mirror.build("demo-doc", &spec(2, ""));
    mirror.index();
    let moved = |arguments: &[&str]| {
        let told = place.succeed(&[&["-q", "lock", "--keyring", &key], arguments].concat());
        told.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(moved(&["x.def", "--update", "twin"]), ["~ twin-data.noarch 1-1 -> 2-1", "~ twin.noarch 1-1 -> 2-1"]);
    assert_eq!(moved(&["--update", "choosy", "x.def"]), ["~ choosy.noarch 1-1 -> 2-1"]);
    assert_eq!(moved(&["--update", "choosy", "x.def"]), Vec::<String>::new());
    assert_eq!(moved(&["--update", "x.def"]), ["~ demo-doc.noarch 1-1 -> 2-1"]);
    let unknown = place.run(&["lock", "--update", "chosy", "x.def"]);
    assert_eq!(unknown.code, Some(4));
    assert!(unknown.text.contains("x.def.lock has no package of this name"), "{}", unknown.text);
}

#[test]
fn packages_stay_though_the_mirror_has_newer_ones_only_where_their_files_are_kept() {
    let mirror = Mirror::copy();
    let (place, key) = (Place::new(), mirror.key());
    place.write("x.def", definition(&mirror, "choosy demo rpm findutils", "  true"));
    place.succeed(&["lock", "--keyring", &key, "x.def"]);
    place.succeed(&["vendor", "x.def"]);
    let before = fs::read(place.file("x.def.lock")).unwrap();
    for name in ["choosy", "demo", "demo-doc"] {
        fs::remove_file(mirror.package(name)).unwrap();
        let needs = if name == "demo" { "Requires: runtime\nRecommends: demo-doc\n" } else { "" };
        mirror.build(name, &format!("Version: 2\nRelease: 1\nBuildArch: noarch\n{needs}%description\nx\n%files\n"));
    }
    mirror.index();
    let moved = |cache: &str| {
        fs::write(place.file("x.def.lock"), &before).unwrap();
        let cache = place.file(cache);
        let flags =
            ["-q", "lock", "--cache-dir", cache.to_str().unwrap(), "--keyring", &key, "--update", "choosy", "x.def"];
        place.succeed(&flags)
    };
    // From the vendor directory.
    assert_eq!(moved("one"), "~ choosy.noarch 1-1 -> 2-1\n");
    let built = build_offline(&place, "x.sif", &[]);
    assert_eq!(built.code, Some(0), "the mirror is a directory, and the rest is vendored: {}", built.text);
    fs::rename(place.file("x.def.vendor"), place.file("away")).unwrap();
    let told = moved("two");
    for part in
        ["~ demo-doc.noarch 1-1 -> 2-1", "demo-doc-1-1.noarch left the repository base and cannot stay: its file"]
    {
        assert!(told.contains(part), "{part:?} in {told}");
    }
}

#[test]
fn only_what_vendor_made_is_replaced_and_read() {
    let mirror = Mirror::good();
    let place = Place::new();
    place.write("x.def", definition(&mirror, "choosy rpm", "  true"));
    let refuse = |arguments: &[&str], code: i32, part: &str| {
        let outcome = place.run(arguments);
        assert_eq!(outcome.code, Some(code), "{arguments:?}: {}", outcome.text);
        assert!(outcome.text.contains(part), "{arguments:?}: {}", outcome.text);
    };
    refuse(&["vendor", "x.def"], 4, "x.def.lock is not there: `sifbuild lock x.def` writes it");
    place.succeed(&["lock", "--keyring", &mirror.key(), "x.def"]);
    place.write("mine/file", "x");
    refuse(&["vendor", "x.def", "mine"], 7, "was not made by `sifbuild vendor`");
    refuse(&["vendor", "x.def", "layout"], 7, "was not made by `sifbuild vendor`");
    refuse(&["build", "--vendor", "layout", "x.sif", "x.def"], 4, "it was not made by `sifbuild vendor`");
    refuse(&["build", "--vendor", "nowhere", "x.sif", "x.def"], 4, "nowhere: ");
    refuse(&["vendor", "x.def", "oci-archive:mine/file"], 7, "was not made by `sifbuild vendor`");
    assert_eq!(fs::read(place.file("mine/file")).unwrap(), b"x");
    symlink("there", place.file("link")).unwrap();
    for target in ["there", "there", "link", "oci-archive:x.tar", "oci-archive:x.tar"] {
        place.succeed(&["vendor", "x.def", target]);
    }
    assert!(place.file("link").is_symlink() && place.file("there").is_dir());
}

#[test]
fn a_damaged_collection_stops_nothing_and_is_made_anew() {
    let mirror = Mirror::good();
    let place = Place::new();
    place.write("x.def", definition(&mirror, "choosy rpm", "  true"));
    place.succeed(&["lock", "--keyring", &mirror.key(), "x.def"]);
    place.succeed(&["vendor", "x.def"]);
    let before = tree(&place.file("x.def.vendor"));
    place.write("x.def.vendor/index.json", "{");
    assert!(place.succeed(&["plan", "x.def"]).contains("nothing is taken from x.def.vendor: "));
    place.succeed(&["vendor", "x.def"]);
    assert!(tree(&place.file("x.def.vendor")) == before);
    // The index has another name; the lock is no JSON.
    let (digest, _) = before.iter().find(|(name, bytes)| name.as_os_str().len() == 64 && bytes[0] == b'{').unwrap();
    let name = format!("blobs/sha256/{}", digest.display());
    place.write(&format!("x.def.vendor/{name}"), "{");
    let cut = place.run(&["build", "--vendor", "x.def.vendor", "x.sif", "x.def"]);
    assert_eq!(cut.code, Some(4));
    assert!(cut.text.contains(&format!("the manifest {name} is damaged")), "{}", cut.text);
}

#[test]
fn packages_move_within_the_variant_and_architecture_of_the_lock() {
    let key = Key::new();
    let packages = [Package::usual(), vec![Package::new("extra", "1", "Priority: important")]].concat();
    let mirror = Archive::with(&key, &packages, "");
    let place = Place::new();
    place.write("x.def", format!("Bootstrap: debootstrap\nOSVersion: testing\nMirrorURL: {}\n", mirror.url()));
    let keyring = key.public();
    let command = |flags: &[&str]| {
        place.command(&[], &[&["lock", "--keyring", keyring.to_str().unwrap(), "x.def"], flags].concat())
    };
    let lock = |flags: &[&str]| place.outcome(command(flags)).code;
    let has_extra = || fs::read_to_string(place.file("x.def.lock")).unwrap().contains(" extra 1 ");
    for flags in [&["--debian-variant", "default"][..], &["--update", "apt"], &["--update"]] {
        assert_eq!(lock(flags), Some(0), "{flags:?}");
        assert!(has_extra(), "{flags:?}");
    }
    for flags in [["--debian-variant", "minbase"], ["--arch", "arm64"]] {
        assert_eq!(lock(&[&["--update", "apt"], &flags[..]].concat()), Some(1), "{flags:?}");
    }
    // What changed is printed to nobody, and written all the same.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut other = command(&["--update", "--debian-variant", "minbase"]);
    assert!(other.stdout(writer).status().unwrap().success());
    assert!(!has_extra());
}

#[test]
fn images_of_registries_are_vendored_and_a_registry_holds_collections() {
    let place = Place::new();
    let registry = Registry::start(&place.file("registry"), false);
    let image = format!("{}/base:1", registry.host);
    copy_image(&[], &format!("oci:{}:t", place.file("layout").display()), &format!("docker://{image}"));
    place.write("x.def", format!("Bootstrap: docker\nFrom: {image}\n\n%post\n  true\n"));
    place.succeed(&["lock", "--no-https", "x.def"]);
    assert!(fs::read_to_string(place.file("x.def.lock")).unwrap().contains("manifest sha256:"));
    let collection = format!("oras://{}/vendor:1", registry.host);
    place.succeed(&["vendor", "--no-https", "x.def"]);
    place.succeed(&["vendor", "--no-https", "x.def", &collection]);
    let cache = place.file("cache");
    let flags = ["build", "--no-https", "--cache-dir", cache.to_str().unwrap(), "--vendor", &collection];
    place.succeed(&[&flags[..], &["registry.sif", "x.def"]].concat());
    let occupied = place.run(&["vendor", "--no-https", "x.def", &format!("oras://{image}")]);
    assert!(occupied.text.contains("was not made by `sifbuild vendor`"), "{}", occupied.text);
    drop(registry);
    let outcome = build_offline(&place, "beside.sif", &["--no-https"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    fs::remove_dir_all(place.file("x.def.vendor")).unwrap();
    let outcome = build_offline(&place, "nothing.sif", &[]);
    assert!(outcome.text.contains("is not asked, for --offline forbids it"), "{}", outcome.text);
    place.write("x.def", BASE);
    place.succeed(&["lock", "x.def"]);
    assert!(place.succeed(&["vendor", "x.def"]).contains("is on this host, and is not collected"));
}

#[test]
fn debian_packages_are_vendored() {
    let key = Key::new();
    let old = Archive::new(&key);
    let place = Place::new();
    let lock = |mirror: &Archive, arguments: &[&str]| {
        let text = format!("Bootstrap: debootstrap\nOSVersion: testing\nMirrorURL: {}\nInclude: tool\n", mirror.url());
        place.write("x.def", text);
        let keyring = key.public();
        place.run(&[&["-q", "lock", "--keyring", keyring.to_str().unwrap(), "x.def"], arguments].concat())
    };
    assert_eq!(lock(&old, &[]).code, Some(0));
    assert!(place.succeed(&["vendor", "x.def"]).contains("x.def.vendor has 5 files"));
    let before = tree(&place.file("x.def.vendor"));
    // From the collection alone.
    fs::remove_dir_all(old.path("pool")).unwrap();
    let empty = place.file("empty");
    let again = ["vendor", "--cache-dir", empty.to_str().unwrap(), "--vendor", "x.def.vendor", "x.def", "again"];
    place.succeed(&again);
    assert!(tree(&place.file("again")) == before);
}
