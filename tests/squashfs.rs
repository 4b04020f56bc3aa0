//! Images of ours, read by others: unsquashfs, the kernel, squashfuse, backhand. And theirs, read by us.

use sifbuild::squashfs::{Compression, Options, Summary, Writer};
use sifbuild::tree::{Body, Change, Entry, InodeId, Kind, Layer, Metadata, Node, Source, Tree, TreePath};
use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

const CODECS: [Compression; 5] = [
    Compression::Gzip { level: 6 },
    Compression::Zstd { level: 6 },
    Compression::Xz,
    Compression::Lz4,
    Compression::None,
];

/// A tree with the bytes of its stored files.
#[derive(Default)]
struct Sample {
    layer: Layer,
    contents: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Sample {
    fn put(&mut self, path: &str, metadata: Metadata, kind: Kind) {
        self.layer.put(TreePath::parse(path).unwrap(), metadata, kind);
    }

    fn file(&mut self, path: &str, metadata: Metadata, bytes: Vec<u8>) {
        self.put(path, metadata, Kind::File { size: bytes.len() as u64, body: Body::Stored });
        self.contents.insert(path.as_bytes().to_vec(), bytes);
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        tree.apply(&self.layer, 0).unwrap();
        tree
    }

    fn pack(&self, options: Options) -> (Vec<u8>, Summary) {
        pack(&self.tree(), &self.contents, options)
    }
}

fn pack(tree: &Tree, contents: &BTreeMap<Vec<u8>, Vec<u8>>, options: Options) -> (Vec<u8>, Summary) {
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
    let mut bodies = HashMap::new();
    for (_, id) in tree.walk() {
        if let Node::File { size, source: Source::Layer { path, .. } } = &tree.inode(id).node
            && !bodies.contains_key(&id)
        {
            let mut bytes = contents[path.as_bytes()].as_slice();
            bodies.insert(id, writer.body(&mut bytes, *size).unwrap());
        }
    }
    let (out, summary) = writer.finish(tree, &|id: InodeId| bodies.get(&id).copied()).unwrap();
    let mut bytes = out.into_inner();
    bytes.truncate(summary.size as usize);
    (bytes, summary)
}

/// Bytes that do not compress, the same for equal seeds.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn prose(length: usize, seed: u64) -> Vec<u8> {
    let line = |number: u64| format!("line {number} of the text, {}\n", number * number % 977).into_bytes();
    (seed..).flat_map(line).take(length).collect()
}

/// Every kind of inode and every shape of file.
fn everything() -> Sample {
    let mut sample = Sample::default();
    let metadata = |mode, uid, gid, mtime| Metadata { uid, gid, ..Metadata::new(mode, mtime) };
    sample.put("dir", metadata(0o1777, 1, 2, 1_000_000_000), Kind::Directory);
    sample.put("dir/empty", metadata(0o700, 0, 0, 1), Kind::Directory);
    let block = 128 << 10;
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("small", b"hello\n".to_vec()),
        ("small-again", b"hello\n".to_vec()),
        ("block", prose(block, 1)),
        ("block-again", prose(block, 1)),
        ("block-and-one", prose(block + 1, 2)),
        ("blocks", prose(5 * block + 777, 3)),
        ("noise", noise(2 * block + 4000, 4)),
        ("noise-again", noise(2 * block + 4000, 4)),
        ("noise-same-start", [noise(2 * block, 4), noise(5, 9)].concat()),
        ("zero", vec![0; 3 * block]),
        ("zero-odd", vec![0; 3 * block + 99]),
        ("zero-byte", vec![0]),
        ("holes", [vec![0; block], prose(block, 5), vec![0; 2 * block], prose(100, 6)].concat()),
        ("holes-end", [prose(block, 5), vec![0; block + 5]].concat()),
    ] {
        sample.file(name, metadata(0o644, 1000, 100, 1_700_000_000), bytes);
    }
    let mut capable = metadata(0o4755, 0, 70_000, 5);
    capable.xattrs.insert(b"security.capability".to_vec(), b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec());
    capable.xattrs.insert(b"user.note".to_vec(), b"a note".to_vec());
    sample.file("dir/capable", capable.clone(), b"#!/bin/true\n".to_vec());
    let mut trusted = metadata(0o755, 0, 0, 6);
    trusted.xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
    trusted.xattrs.insert(b"user.empty".to_vec(), Vec::new());
    sample.put("dir/trusted", trusted.clone(), Kind::Directory);
    trusted.xattrs.remove(b"user.empty".as_slice());
    sample.put("pipe", metadata(0o600, 3, 3, 7), Kind::Fifo);
    sample.put("pipe-trusted", trusted.clone(), Kind::Fifo);
    sample.put("socket", metadata(0o755, 3, 3, 8), Kind::Socket);
    sample.put("null", metadata(0o666, 0, 0, 9), Kind::CharacterDevice { major: 1, minor: 3 });
    sample.put("disk", metadata(0o660, 0, 6, 10), Kind::BlockDevice { major: 259, minor: 70_000 });
    sample.put("disk-trusted", trusted.clone(), Kind::BlockDevice { major: 8, minor: 1 });
    sample.put("link", metadata(0o777, 0, 0, 11), Kind::Symlink { target: b"dir/capable".to_vec() });
    let trusted = Metadata { mode: 0o777, ..trusted };
    sample.put("link-trusted", trusted, Kind::Symlink { target: b"gone".to_vec() });
    sample.put("link-long", metadata(0o777, 0, 0, 12), Kind::Symlink { target: vec![b'x'; 4000] });
    sample.put(&"n".repeat(255), metadata(0o644, 0, 0, 13), Kind::Directory);
    sample.put("caf\u{e9} \n", metadata(0o644, 4_000_000_000, 0, 4_000_000_000), Kind::Fifo);
    for (path, target) in [("dir/zz-blocks", "blocks"), ("a-small", "small"), ("dir/null", "null"), ("zz-link", "link")]
    {
        let change = Change::Link(TreePath::parse(target).unwrap());
        sample.layer.entries.push(Entry { path: TreePath::parse(path).unwrap(), change });
    }
    sample
}

fn run(program: &str, package: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    let output = Command::new(program).args(arguments.iter().map(|argument| argument.as_ref())).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; install it: apt-get install {package}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed: {text}");
    text
}

fn unsquash(image: &[u8], directory: &Path) -> std::path::PathBuf {
    let (file, root) = (directory.join("image"), directory.join("root"));
    std::fs::write(&file, image).unwrap();
    let _ = std::fs::remove_dir_all(&root);
    run("unsquashfs", "squashfs-tools", &[&"-no-progress", &"-d", &root, &file]);
    root
}

#[test]
fn unsquashfs_takes_every_codec() {
    let sample = everything();
    for compression in CODECS {
        let directory = tempfile::tempdir().unwrap();
        let (image, summary) = sample.pack(Options { compression, ..Options::default() });
        assert_eq!(image.len() % 4096, 0);
        assert_eq!(summary.unsupported_xattrs, []);
        let root = unsquash(&image, directory.path());
        for (path, bytes) in &sample.contents {
            let path = root.join(std::str::from_utf8(path).unwrap());
            assert!(std::fs::read(&path).unwrap() == *bytes, "{path:?} with {compression:?}");
        }
    }
}
