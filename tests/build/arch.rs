//! `Bootstrap: arch`, from a small mirror that is made here, good and spoiled.

use super::arch_mirror::Mirror;
use super::place::{Place, RANGE_USER, SINGLE_USER};
use sifbuild::archive::compress::detecting_decoder;
use std::fs;
use std::io::Read;

fn definition(mirror: &Mirror, more: &str, post: &str) -> String {
    format!("Bootstrap: arch\nMirrorURL: {}\n{more}\n%post\n{post}\n", mirror.url())
}

/// What the base must be, said by the image's own pacman.
const JUDGE: &str = "  set -e
  test \"$(pacman -Qqe)\" = base
  set -- $(pacman -Qqd)
  test $# = 8
  pacman -Dk
  test \"$(stat -c '%a %U %G' /usr/share/demo/tool)\" = '2755 root mail'
  test \"$(stat -c '%a %U %G' /usr/share/demo/letter)\" = '640 mail mail'
  test \"$(stat -c %a /usr/share/demo)\" = 750
  test \"$(stat -c %h /usr/share/demo/data)\" = 2
  test \"$(cat /usr/demo-post)\" = 0
  test -e /usr/demo-hook
  test \"$(stat -c %U /var/demo)\" = mail
  pacman -Qi demo
  test ! -e /.packages
  test ! -e /.final
  test ! -e /var/log/pacman.log";

#[test]
fn the_distributions_own_pacman_installs_the_base_and_each_user_gets_the_same_bytes() {
    let mirror = Mirror::new();
    let mut images: Vec<(String, Vec<u8>)> = Vec::new();
    for place in [Some(Place::new()), Place::of_user(RANGE_USER), Place::of_user(SINGLE_USER)].into_iter().flatten() {
        let who = place.user().map_or("self".to_owned(), |user| user.name.clone());
        let key = mirror.keyring();
        let text = place.build("x.sif", &definition(&mirror, "", JUDGE), &["--keyring", &key, "--reproducible"]);
        assert!(text.contains("Installing 9 packages"), "{who}: {text}");
        for line in [
            "Install Date    : Tue Nov 14 22:13:20 2023",
            "Install Reason  : Installed as a dependency",
            "Validated By    : Signature",
        ] {
            assert!(text.contains(line), "{who}: {line}: {text}");
        }
        images.push((who, fs::read(place.file("x.sif")).unwrap()));
    }
    let (first, rest) = images.split_first().unwrap();
    for (who, bytes) in rest {
        assert!(*bytes == first.1, "{who} and {} have different images", first.0);
    }
}

#[test]
fn each_spoiled_mirror_is_refused_by_its_own_words() {
    let mirror = Mirror::new();
    let key = mirror.keyring();
    let refusal = |more: &str, flags: &[&str]| {
        Place::new().fail("x.sif", &definition(&mirror, more, "  true"), &[&["--keyring", &key], flags].concat()).text
    };
    let refused = |include: &str, parts: &[&str]| {
        let text = refusal(&format!("Include: {include} pacman findutils"), &[]);
        parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} in {text}"));
    };
    refused("lonely", &["nothing provides no-such-thing>=3, needed by lonely-1-1"]);
    refused("nowhere", &["there is no package, provision or group \"nowhere\""]);
    refused("demo rival", &["rival-1-1 and demo-1-1 cannot be installed together"]);

    let member = mirror.package("member");
    let good = fs::read(&member).unwrap();
    let flipped = {
        let mut bytes = good.clone();
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    fs::write(&member, &flipped).unwrap();
    refused("band", &["was expected: the file on the server is another one or damaged"]);
    // The database agrees with the file, which ends with an empty frame more, but the signature is of another one.
    fs::write(&member, [&good[..], b"\x50\x2a\x4d\x18\0\0\0\0"].concat()).unwrap();
    mirror.index("core");
    refused("band", &["the package member-1-1.x86_64 from the repository core is refused", "does not fit"]);
    fs::write(&member, &good).unwrap();
    let other = super::mirror::Key::new();
    fs::write(format!("{}.sig", member.display()), other.gpg(&["--detach-sign"], &good)).unwrap();
    mirror.index("core");
    refused("band", &["the package member is signed by the key", "--keyring FILE"]);
    fs::remove_file(format!("{}.sig", member.display())).unwrap();
    mirror.index("core");
    refused("band", &["the package member is not signed, neither in its database nor beside it"]);

    // A database may call a good package by another name.
    mirror.sign(&member);
    mirror.index("core");
    let database = mirror.path("core/x86_64/core.db");
    let mut bytes = Vec::new();
    detecting_decoder(fs::File::open(&database).unwrap()).unwrap().1.read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(14).position(|window| window == b"%NAME%\nmember\n").unwrap();
    bytes[at + 7] = b'n';
    fs::remove_file(&database).unwrap();
    fs::write(&database, &bytes).unwrap();
    refused("nember", &["it is member-1-1.x86_64, not nember-1-1.x86_64"]);
    fs::write(&database, b"<html>").unwrap();
    refused("base", &["core.db"]);

    fs::remove_file(&database).unwrap();
    refused("base", &["the repository core has no usable mirror", "core.db"]);
    assert!(refusal("", &["--arch", "arm64"]).contains("core.db"));
    let place = Place::new();
    let text = place.fail("x.sif", "Bootstrap: arch\nMirrorURL: file:///x/core\n", &["--keyring", &key]).text;
    assert!(text.contains("must hold `$repo`"), "{text}");
    let text = place.fail("x.sif", "Bootstrap: arch\n", &["--keyring", &key, "--arch", "arm64"]).text;
    assert!(text.contains("packages for aarch64 are not in the distribution's own mirror"), "{text}");
    let text = place
        .fail(
            "x.sif",
            &definition(&mirror, "Fingerprints: 00000000000000000000000000000000000000AA", ""),
            &["--keyring", &key],
        )
        .text;
    assert!(text.contains("there is no key to check packages with"), "{text}");
}

#[test]
fn checks_can_be_turned_off_by_a_flag_that_is_told() {
    let mirror = Mirror::new();
    fs::remove_file(format!("{}.sig", mirror.package("demo").display())).unwrap();
    mirror.index("core");
    let place = Place::new();
    let text = place.build("x.sif", &definition(&mirror, "", "  pacman -Qi demo"), &["--no-check-signatures"]);
    assert!(text.contains("signatures of packages are not checked"), "{text}");
    assert!(text.contains("Validated By    : SHA-256 Sum"), "{text}");
    let labels = place.succeed(&["inspect", "--labels", "x.sif"]);
    assert!(labels.contains("org.sifbuild.unchecked: --no-check-signatures"), "{labels}");
}

#[test]
fn a_lock_keeps_the_base_and_a_vendor_directory_has_all_of_it() {
    let mirror = Mirror::new();
    // A configuration with a repository of its own before the others; signatures beside the packages, not in the database.
    let signature = format!("{}.sig", mirror.package("demo").display());
    let kept = fs::read(&signature).unwrap();
    fs::remove_file(&signature).unwrap();
    mirror.index("core");
    fs::write(&signature, kept).unwrap();
    let conf = "[options]\nSigLevel = Never\nIgnorePkg = member\n[extra]\n[core]\nInclude = /etc/pacman.d/mirrorlist\n";
    fs::write(mirror.path("pacman.conf"), conf).unwrap();
    let header = format!("ConfURL: file://{}", mirror.path("pacman.conf").display());
    let (place, key) = (Place::new(), mirror.keyring());
    place.write("x.def", definition(&mirror, &header, "  pacman -Q demo"));
    let told = place.succeed(&["lock", "--keyring", &key, "x.def"]);
    assert!(
        told.contains("x.def.lock has ") && told.contains("changes nothing: signatures of packages are checked"),
        "{told}"
    );
    place.succeed(&["build", "--reproducible", "first.sif", "x.def"]);
    let told = place.succeed(&["vendor", "x.def"]);
    assert!(told.contains("x.def.vendor has 10 files"), "{told}");
    fs::copy(place.file("x.def.lock"), place.file("before.lock")).unwrap();
    drop(mirror);
    let cache = place.file("empty");
    let offline =
        ["build", "--offline", "--reproducible", "--cache-dir", cache.to_str().unwrap(), "second.sif", "x.def"];
    place.succeed(&offline);
    assert!(fs::read(place.file("first.sif")).unwrap() == fs::read(place.file("second.sif")).unwrap());
    let lock = fs::read_to_string(place.file("before.lock")).unwrap().replace(" demo-data 1-1 ", " demo-data 1-2 ");
    place.write("after.lock", lock);
    assert_eq!(place.succeed(&["lock", "--diff", "before.lock", "after.lock"]).trim(), "~ demo-data.x86_64 1-1 -> 1-2");
}
