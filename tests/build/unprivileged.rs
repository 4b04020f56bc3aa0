//! The same, as users without privileges: one with subordinate ids, one with a single id.

use super::image::{assert_base, open};
use super::place::{Place, RANGE_USER, SINGLE_USER};
use super::walk::BASE;
use std::fs;
use std::os::unix::fs::MetadataExt;

const SIMPLE: &str =
    "%post\n  echo made > /made\n  chmod 4711 /made\n  mkdir -p /a/b && ln /made /a/b/link\n%test\n  test -e /made\n";

#[test]
fn a_user_with_subordinate_ids_changes_owners() {
    let Some(place) = Place::of_user(RANGE_USER) else { return };
    let script = "%post\n  id -u\n  touch /owned\n  chown 33:42 /owned\n  chmod 640 /owned\n";
    place.build("x.sif", &format!("{BASE}{script}"), &[]);
    let root = open(&place.file("x.sif"));
    assert_base(&root);
    assert_eq!(root.owner("owned"), "0640 33:42");
    let file = fs::metadata(place.file("x.sif")).unwrap();
    assert_eq!(file.uid(), fs::metadata(place.file("")).unwrap().uid(), "the image is the user's");
    let text = place.build("y.sif", &format!("{BASE}{script}"), &[]);
    assert!(text.contains("post: reused"), "{text}");
}

#[test]
fn a_user_with_one_id_keeps_the_owners_of_the_base() {
    let Some(place) = Place::of_user(SINGLE_USER) else { return };
    let text = place.build("x.sif", &format!("{BASE}{SIMPLE}"), &[]);
    assert!(!text.contains("WARNING"), "{text}");
    let root = open(&place.file("x.sif"));
    assert_base(&root);
    assert_eq!(root.owner("made"), "4711 0:0");
    let text = place.build("y.sif", &format!("{BASE}{SIMPLE}"), &[]);
    assert!(text.contains("post: reused"), "{text}");
    assert_base(&open(&place.file("y.sif")));
}

#[test]
fn files_of_the_user_become_roots() {
    for user in [RANGE_USER, SINGLE_USER] {
        let Some(place) = Place::of_user(user) else { return };
        place.write("host.txt", "host");
        place.build("x.sif", &format!("{BASE}%files\n  host.txt /opt/host.txt\n%post\n  test -r /opt/host.txt\n"), &[]);
        let root = open(&place.file("x.sif"));
        assert_eq!(root.text("opt/host.txt"), "host");
        assert_eq!(root.owner("opt/host.txt"), "0644 0:0");
    }
}

#[test]
fn root_and_users_build_the_same_bytes() {
    let definition = format!("{BASE}%environment\n  export A=1\n{SIMPLE}");
    let own = Place::new().bytes("x.sif", &definition, &[]);
    for user in [RANGE_USER, SINGLE_USER] {
        let Some(place) = Place::of_user(user) else { return };
        assert!(own == place.bytes("x.sif", &definition, &[]), "root and {user}");
    }
}

#[test]
fn sandboxes_and_failed_builds_of_users_leave_nothing_in_the_way() {
    for user in [RANGE_USER, SINGLE_USER] {
        let Some(place) = Place::of_user(user) else { return };
        place.build("box", &format!("{BASE}{SIMPLE}"), &["--sandbox"]);
        assert_eq!(fs::read_to_string(place.file("box/made")).unwrap(), "made\n");
        place.build("box", &format!("{BASE}{SIMPLE}"), &["--sandbox", "--force"]);
        let outcome = place.fail("x.sif", &format!("{BASE}%post\n  exit 7\n"), &[]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        assert_eq!(fs::read_dir(place.store().join("1/work")).map_or(0, Iterator::count), 0);
        place.succeed(&["build", "y.sif", "box"]);
        assert_eq!(open(&place.file("y.sif")).text("made"), "made\n");
    }
}
