use super::*;
use crate::squashfs::{Options, Writer};
use crate::tree::{Metadata, Source, TreePath};
use proptest::prelude::*;
use std::fs::File;

/// `/file` (with an attribute), `/directory/link`.
fn image() -> Image<Vec<u8>> {
    let mut tree = Tree::new();
    let mut add = |directory: InodeId, name: &[u8], mode: u16, node: Node| {
        let mut metadata = Metadata::new(mode, 5);
        (metadata.uid, metadata.gid) = (3, 4);
        if name == b"file" {
            metadata.xattrs.insert(b"user.x".to_vec(), b"note".to_vec());
        }
        let id = tree.add(Inode { metadata, node });
        tree.set_child(directory, name.to_vec(), id);
        id
    };
    let source = Source::Inline(b"content"[..].into());
    add(Tree::ROOT, b"file", 0o640, Node::File { size: 7, source });
    let directory = add(Tree::ROOT, b"directory", 0o755, Node::Directory(Default::default()));
    add(directory, b"link", 0o777, Node::Symlink { target: b"../file".to_vec() });
    let file = tempfile::NamedTempFile::new().unwrap();
    let opened = File::options().read(true).write(true).open(file.path()).unwrap();
    Writer::new(opened, Options::default()).unwrap().finish(&tree, &|_| None).unwrap();
    Image::open(std::fs::read(file.path()).unwrap()).unwrap()
}

fn request(opcode: u32, node: u64, arguments: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; wire::REQUEST_HEADER];
    bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
    bytes[8..16].copy_from_slice(&77u64.to_ne_bytes());
    bytes[16..24].copy_from_slice(&node.to_ne_bytes());
    bytes.extend_from_slice(arguments);
    bytes
}

/// Errno and what is behind the header.
fn ask(server: &mut Server<'_, Vec<u8>>, opcode: u32, node: u64, arguments: &[u8]) -> (i32, Vec<u8>) {
    let answer = server.answer(&request(opcode, node, arguments)).unwrap();
    assert_eq!(u32_at(&answer, 0), Some(answer.len() as u32));
    assert_eq!(u64_at(&answer, 8), Some(77));
    (-(u32_at(&answer, 4).unwrap() as i32), answer[16..].to_vec())
}

fn span(offset: u64, size: u32) -> Vec<u8> {
    [&0u64.to_ne_bytes()[..], &offset.to_ne_bytes(), &size.to_ne_bytes(), &[0; 20]].concat()
}

#[test]
fn names_lead_to_attributes_and_contents() {
    let image = image();
    let mut server = Server::new(&image, Owners::OfTheImage);
    let (errno, entry) = ask(&mut server, wire::LOOKUP, 1, b"file\0");
    assert_eq!((errno, entry.len()), (0, 128));
    let node = u64_at(&entry, 0).unwrap();
    let (errno, attributes) = ask(&mut server, wire::GETATTR, node, &[0; 16]);
    assert_eq!((errno, attributes.len()), (0, 104));
    let numbers: Vec<u32> = (0..4).map(|at| u32_at(&attributes, 16 + 60 + 4 * at).unwrap()).collect();
    assert_eq!((u64_at(&attributes, 24), numbers), (Some(7), vec![FILE | 0o640, 1, 3, 4]));
    assert_eq!(ask(&mut server, wire::READ, node, &span(0, 100)), (0, b"content".to_vec()));
    assert_eq!(ask(&mut server, wire::READ, node, &span(3, 2)), (0, b"te".to_vec()));
    assert_eq!(ask(&mut server, wire::READ, node, &span(1, 2)), (0, b"on".to_vec()));
    assert_eq!(ask(&mut server, wire::READ, node, &span(7, 2)), (0, Vec::new()));
    // A name that is not there is remembered by the kernel as such.
    let (errno, absent) = ask(&mut server, wire::LOOKUP, 1, b"absent\0");
    assert_eq!((errno, u64_at(&absent, 0)), (0, Some(0)));
    let mut server = Server::new(&image, Owners::Root);
    let (_, attributes) = ask(&mut server, wire::GETATTR, node, &[0; 16]);
    assert_eq!((u32_at(&attributes, 84), u32_at(&attributes, 88)), (Some(0), Some(0)));
}

#[test]
fn directories_are_listed_in_pieces() {
    let image = image();
    let mut server = Server::new(&image, Owners::OfTheImage);
    let mut names = Vec::new();
    let mut offset = 0;
    loop {
        // Room for one entry.
        let (errno, bytes) = ask(&mut server, wire::READDIR, 1, &span(offset, 40));
        assert_eq!(errno, 0);
        let Some(next) = u64_at(&bytes, 8) else { break };
        let length = u32_at(&bytes, 16).unwrap() as usize;
        names.push(String::from_utf8(bytes[24..24 + length].to_vec()).unwrap());
        offset = next;
    }
    assert_eq!(names, [".", "..", "directory", "file"]);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let image = image();
    let mut server = Server::new(&image, Owners::OfTheImage);
    let (_, entry) = ask(&mut server, wire::LOOKUP, 1, b"directory\0");
    let directory = u64_at(&entry, 0).unwrap();
    let (_, entry) = ask(&mut server, wire::LOOKUP, directory, b"link\0");
    let link = u64_at(&entry, 0).unwrap();
    assert_eq!(ask(&mut server, wire::READLINK, link, b""), (0, b"../file".to_vec()));
    assert_eq!(ask(&mut server, wire::READLINK, directory, b"").0, libc::EINVAL);
    assert_eq!(ask(&mut server, wire::READ, directory, &span(0, 1)).0, libc::EISDIR);
    assert_eq!(ask(&mut server, wire::READDIR, link, &span(0, 100)).0, libc::ENOTDIR);
    assert_eq!(ask(&mut server, wire::LOOKUP, link, b"x\0").0, libc::ENOTDIR);
    assert_eq!(ask(&mut server, wire::GETATTR, 99, &[0; 16]).0, libc::ENOENT);
    assert_eq!(ask(&mut server, wire::GETATTR, 0, &[0; 16]).0, libc::ENOENT);
    assert_eq!(ask(&mut server, wire::OPEN, 1, &[0; 8]).0, libc::ENOSYS);
    for opcode in wire::CHANGES {
        assert_eq!(ask(&mut server, opcode, 1, &[0; 64]).0, libc::EROFS);
    }
    assert!(server.answer(&request(wire::FORGET, 1, &[0; 8])).is_none());
    assert!(server.answer(&[0; 10]).is_none());
}

#[test]
fn attributes_are_given_as_long_as_there_is_room() {
    let image = image();
    let mut server = Server::new(&image, Owners::OfTheImage);
    let node = u64::from(image.tree.get(&TreePath::parse("file").unwrap()).unwrap().0) + 1;
    let get = |size: u32, name: &[u8]| [&size.to_ne_bytes()[..], &[0; 4], name, b"\0"].concat();
    assert_eq!(ask(&mut server, wire::GETXATTR, node, &get(0, b"user.x")).1[..4], 4u32.to_ne_bytes());
    assert_eq!(ask(&mut server, wire::GETXATTR, node, &get(100, b"user.x")), (0, b"note".to_vec()));
    assert_eq!(ask(&mut server, wire::GETXATTR, node, &get(2, b"user.x")).0, libc::ERANGE);
    assert_eq!(ask(&mut server, wire::GETXATTR, node, &get(9, b"user.y")).0, libc::ENODATA);
    assert_eq!(ask(&mut server, wire::LISTXATTR, node, &[100, 0, 0, 0, 0, 0, 0, 0]), (0, b"user.x\0".to_vec()));
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(opcode in 0u32..60, node in 0u64..6, arguments in prop::collection::vec(any::<u8>(), 0..80)) {
        let image = image();
        let mut server = Server::new(&image, Owners::OfTheImage);
        if let Some(answer) = server.answer(&request(opcode, node, &arguments)) {
            prop_assert_eq!(u32_at(&answer, 0), Some(answer.len() as u32));
        }
        server.answer(&arguments);
    }
}
