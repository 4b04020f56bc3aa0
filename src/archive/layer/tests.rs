use super::tar::{Header, Kind as Member, Writer};
use super::*;
use crate::tree::text;
use proptest::prelude::*;

fn archive(members: &[(&str, Member, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, kind, body) in members {
        let header = Header {
            path: (*path).into(),
            kind: kind.clone(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: Xattrs::new(),
            size: body.len() as u64,
        };
        writer.append(&header, &mut &**body).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8], dialect: Dialect) -> Result<(String, Vec<String>), LayerError> {
    let mut bodies = Vec::new();
    let layer = read_layer(bytes, dialect, &mut |entry, body| {
        if let Some(body) = body {
            let mut text = String::new();
            body.read_to_string(&mut text)?;
            bodies.push(format!("{}={text}", entry.path));
        }
        Ok(())
    })?;
    Ok((text::write(&layer), bodies))
}

fn refusal(members: &[(&str, Member, &[u8])]) -> String {
    read(&archive(members), Dialect::Oci).unwrap_err().to_string()
}

#[test]
fn translates_whiteouts_links_and_bodies() {
    let bytes = archive(&[
        ("./", Member::Directory, b""),
        ("etc/.wh.gone", Member::File, b""),
        ("opt/.wh..wh..opq", Member::File, b""),
        (".wh..wh.plnk", Member::Directory, b""),
        ("a", Member::File, b"body"),
        ("b", Member::HardLink(b"./a".to_vec()), b""),
    ]);
    let (layer, bodies) = read(&bytes, Dialect::Oci).unwrap();
    assert_eq!(layer, "d 0644 0 0 0 - /\nw /etc/gone\no /opt\nf 0644 0 0 0 4 /a\nh /a /b\n");
    assert_eq!(bodies, ["/a=body"]);
    let (plain, _) = read(&bytes, Dialect::Plain).unwrap();
    assert!(plain.contains("f 0644 0 0 0 0 /etc/.wh.gone\n"), "{plain}");
}

#[test]
fn names_of_more_bytes_than_the_limit_are_refused() {
    let bytes = archive(&[("abc", Member::File, b"body"), ("d", Member::Symlink(b"target".to_vec()), b"")]);
    let read = |limit| read_bounded(&bytes[..], Dialect::Oci, limit, &mut |_, _| Ok(()));
    assert_eq!(read(10).unwrap().entries.len(), 2);
    assert!(matches!(read(9), Err(LayerError::IndexTooLarge { limit: 9 })));
}

#[test]
fn paths_that_climb_out_are_refused_by_name() {
    assert_eq!(
        refusal(&[("a/../../etc/passwd", Member::File, b"x")]),
        "the layer is refused: member \"a/../../etc/passwd\" climbs out with '..'"
    );
    assert_eq!(
        refusal(&[("h", Member::HardLink(b"../etc/shadow".to_vec()), b"")]),
        "the layer is refused: member \"h\" is a hard link to \"../etc/shadow\", which climbs out with '..'"
    );
    assert_eq!(
        refusal(&[(".wh...", Member::File, b"")]),
        "the layer is refused: member \".wh...\" is a whiteout of no file"
    );
    assert_eq!(
        refusal(&[(".", Member::File, b"")]),
        "the layer is refused: member \".\" would replace the root directory"
    );
    assert_eq!(
        refusal(&[("l", Member::Symlink(vec![]), b"")]),
        "the layer is refused: member \"l\" is a symbolic link to nothing"
    );
}

#[test]
fn absolute_paths_lie_below_the_root_of_the_image() {
    let bytes = archive(&[("/etc/x", Member::File, b""), ("/y", Member::HardLink(b"/etc/x".to_vec()), b"")]);
    assert_eq!(read(&bytes, Dialect::Oci).unwrap().0, "f 0644 0 0 0 0 /etc/x\nh /etc/x /y\n");
}

#[test]
fn of_a_file_that_comes_twice_the_later_one_stays() {
    let bytes = archive(&[("a", Member::File, b"old"), ("b", Member::File, b""), ("./a", Member::File, b"newer")]);
    assert_eq!(read(&bytes, Dialect::Oci).unwrap().0, "f 0644 0 0 0 0 /b\nf 0644 0 0 0 5 /a\n");
    assert_eq!(
        refusal(&[("a", Member::File, b"1"), ("b", Member::HardLink(b"a".to_vec()), b""), ("a", Member::File, b"2")]),
        "the layer is refused: member \"b\" is a hard link to \"a\", which comes a second time later"
    );
}

#[test]
fn attributes_of_the_packing_machine_are_dropped() {
    let xattrs: Xattrs = ["trusted.overlay.opaque", "user.overlay.origin", "security.selinux", "user.kept"]
        .iter()
        .map(|name| (name.as_bytes().to_vec(), b"v".to_vec()))
        .collect();
    let mut writer = Writer::new(Vec::new());
    let header =
        Header { path: b"a".to_vec(), kind: Member::File, mode: 0o4755, uid: 1, gid: 2, mtime: 3, xattrs, size: 0 };
    writer.append(&header, &mut io::empty()).unwrap();
    assert_eq!(read(&writer.finish().unwrap(), Dialect::Oci).unwrap().0, "f 4755 1 2 3 0 /a user.kept=v\n");
}

#[test]
fn a_consumer_may_leave_bodies_unread_and_its_errors_name_the_file() {
    let bytes = archive(&[("a", Member::File, &[1; 5000]), ("b", Member::File, b"x")]);
    let layer = read_layer(&bytes[..], Dialect::Oci, &mut |_, _| Ok(())).unwrap();
    assert_eq!(layer.entries.len(), 2);
    let full = read_layer(&bytes[..], Dialect::Oci, &mut |_, _| Err(io::Error::other("no space left")));
    assert_eq!(full.unwrap_err().to_string(), "/a: no space left");
}

proptest! {
    #[test]
    fn no_member_ever_leaves_the_root(path in "[a.wh/]{0,24}", target in "[ab./]{0,12}") {
        let bytes = archive(&[(&path, Member::File, b"x"), ("q", Member::HardLink(target.into_bytes()), b"")]);
        if let Ok((layer, _)) = read(&bytes, Dialect::Oci) {
            prop_assert!(!layer.contains("/../"));
        }
    }
}
