//! `Bootstrap: arch`, from a small mirror that is made here, good and spoiled.

use super::arch_mirror::Mirror;
use super::place::{Place, RANGE_USER, SINGLE_USER};
use std::fs;

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
