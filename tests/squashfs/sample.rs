//! Trees to pack, and the one description that trees, directories and images are compared by.

use sifbuild::digest::Digest;
use sifbuild::squashfs::{Compression, Image, Options, ReadAt, Summary, Writer};
use sifbuild::tree::text::escape;
use sifbuild::tree::{Body, Change, Entry, InodeId, Kind, Layer, Metadata, Node, Source, Tree, TreePath, Xattrs};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::{Cursor, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const CODECS: [Compression; 5] = [
    Compression::Gzip { level: 6 },
    Compression::Zstd { level: 6 },
    Compression::Xz,
    Compression::Lz4,
    Compression::None,
];

/// A tree with the bytes of its stored files.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub layer: Layer,
    pub contents: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Sample {
    pub fn put(&mut self, path: &str, metadata: Metadata, kind: Kind) {
        self.layer.put(TreePath::parse(path).unwrap(), metadata, kind);
    }

    pub fn file(&mut self, path: &str, metadata: Metadata, bytes: Vec<u8>) {
        self.put(path, metadata, Kind::File { size: bytes.len() as u64, body: Body::Stored });
        self.contents.insert(path.as_bytes().to_vec(), bytes);
    }

    pub fn link(&mut self, path: &str, target: &str) {
        let change = Change::Link(TreePath::parse(target).unwrap());
        self.layer.entries.push(Entry { path: TreePath::parse(path).unwrap(), change });
    }

    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        tree.apply(&self.layer, 0).unwrap();
        tree
    }

    pub fn pack(&self, options: Options) -> (Vec<u8>, Summary) {
        pack(&self.tree(), &self.contents, options)
    }
}

pub fn pack(tree: &Tree, contents: &BTreeMap<Vec<u8>, Vec<u8>>, options: Options) -> (Vec<u8>, Summary) {
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
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

pub fn prose(length: usize, seed: u64) -> Vec<u8> {
    let line = |number: u64| format!("line {number} of the text, {}\n", number * number % 977).into_bytes();
    (seed..).flat_map(line).take(length).collect()
}

/// Every kind of inode and every shape of file.
pub fn everything() -> Sample {
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
        sample.link(path, target);
    }
    sample
}

/// One line for each name, sorted by path.
pub type Description = Vec<String>;

struct Described {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    links: u64,
    xattrs: Xattrs,
}

impl Described {
    fn line(&self, path: &[u8], first: &[u8]) -> String {
        let mut line = format!(
            "/{} {} {:04o} {}:{} {} links={}",
            escape(path),
            self.kind,
            self.mode,
            self.owner.0,
            self.owner.1,
            self.mtime,
            self.links
        );
        if path != first {
            line += &format!(" same=/{}", escape(first));
        }
        for (name, value) in &self.xattrs {
            line += &format!(" {}={}", escape(name), escape(value));
        }
        line
    }
}

impl Sample {
    /// What readers should see.
    pub fn describe(&self) -> Description {
        let tree = self.tree();
        describe(&tree, |id| match &tree.inode(id).node {
            Node::File { source: Source::Layer { path, .. }, .. } => self.contents[path.as_bytes()].clone(),
            Node::File { source: Source::Inline(bytes), .. } => bytes.to_vec(),
            _ => unreachable!(),
        })
    }
}

/// Reads an image with our reader.
pub fn describe_image<S: ReadAt>(image: &Image<S>) -> Description {
    describe(&image.tree, |id| {
        let mut bytes = Vec::new();
        image.body(id).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    })
}

fn describe(tree: &Tree, body: impl Fn(InodeId) -> Vec<u8>) -> Description {
    let names = tree.walk();
    let mut links: HashMap<InodeId, u64> = HashMap::new();
    let mut first: HashMap<InodeId, Vec<u8>> = HashMap::new();
    for (path, id) in &names {
        *links.entry(*id).or_default() += 1;
        let bytes = path.as_bytes().to_vec();
        first.entry(*id).and_modify(|first| *first = bytes.clone().min(first.clone())).or_insert(bytes);
    }
    let mut lines = Vec::new();
    for (path, id) in &names {
        let inode = tree.inode(*id);
        let (kind, links) = match &inode.node {
            Node::Directory(children) => {
                let below = |id: &&InodeId| matches!(tree.inode(**id).node, Node::Directory(_));
                ("d".to_owned(), 2 + children.values().filter(below).count() as u64)
            }
            Node::File { size, .. } => (format!("f {size} {}", Digest::of(&body(*id))), links[id]),
            Node::Symlink { target } => (format!("l {}", escape(target)), links[id]),
            Node::CharacterDevice { major, minor } => (format!("c {major}:{minor}"), links[id]),
            Node::BlockDevice { major, minor } => (format!("b {major}:{minor}"), links[id]),
            Node::Fifo => ("p".to_owned(), links[id]),
            Node::Socket => ("s".to_owned(), links[id]),
        };
        let metadata = &inode.metadata;
        let described = Described {
            kind,
            mode: u32::from(metadata.mode),
            owner: (metadata.uid, metadata.gid),
            mtime: metadata.mtime.clamp(0, i64::from(u32::MAX)),
            links,
            xattrs: metadata.xattrs.clone(),
        };
        lines.push(described.line(path.as_bytes(), &first[id]));
    }
    lines.sort();
    lines
}

/// Describes a directory of this machine, extracted or mounted.
pub fn describe_directory(root: &Path) -> Description {
    let mut paths = vec![PathBuf::new()];
    let mut at = 0;
    while at < paths.len() {
        let path = paths[at].clone();
        at += 1;
        let place = root.join(&path);
        if std::fs::symlink_metadata(&place).unwrap().is_dir() {
            paths.extend(std::fs::read_dir(&place).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
    }
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    let mut first: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut lines = Vec::new();
    for path in paths {
        let place = root.join(&path);
        let metadata = std::fs::symlink_metadata(&place).unwrap();
        let kind = metadata.file_type();
        let device = |letter| {
            let device = metadata.rdev();
            format!("{letter} {}:{}", rustix::fs::major(device), rustix::fs::minor(device))
        };
        let text = if kind.is_dir() {
            "d".to_owned()
        } else if kind.is_file() {
            format!("f {} {}", metadata.len(), Digest::of(&std::fs::read(&place).unwrap()))
        } else if kind.is_symlink() {
            format!("l {}", escape(std::fs::read_link(&place).unwrap().as_os_str().as_bytes()))
        } else if kind.is_char_device() {
            device('c')
        } else if kind.is_block_device() {
            device('b')
        } else if kind.is_fifo() {
            "p".to_owned()
        } else {
            "s".to_owned()
        };
        let bytes = path.as_os_str().as_bytes().to_vec();
        let first =
            if kind.is_dir() { bytes.clone() } else { first.entry(metadata.ino()).or_insert(bytes.clone()).clone() };
        let described = Described {
            kind: text,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            mtime: metadata.mtime(),
            links: metadata.nlink(),
            xattrs: read_xattrs(&place),
        };
        lines.push(described.line(&bytes, &first));
    }
    lines.sort();
    lines
}

fn read_xattrs(path: &Path) -> Xattrs {
    let mut list = vec![0; 65_536];
    let size = rustix::fs::llistxattr(path, &mut list).unwrap();
    let mut xattrs = Xattrs::new();
    for name in list[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let size = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value)
            .unwrap_or_else(|error| panic!("{path:?} {:?}: {error}", escape(name)));
        xattrs.insert(name.to_vec(), value[..size].to_vec());
    }
    xattrs
}

/// Compares line by line, so that a difference is short enough to read.
pub fn assert_same(found: &Description, expected: &Description) {
    let missing: Vec<_> = expected.iter().filter(|line| found.binary_search(line).is_err()).take(5).collect();
    let surplus: Vec<_> = found.iter().filter(|line| expected.binary_search(line).is_err()).take(5).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing: {missing:#?}\nsurplus: {surplus:#?}");
}

/// Runs a program that must succeed; gives what it printed.
pub fn run(package: &str, words: &[&OsStr]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output =
        output.unwrap_or_else(|error| panic!("{:?}: {error}; install it: apt-get install {package}", words[0]));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?} failed: {text}");
    text
}

/// Words of a command line; `%` stands for the next path.
pub fn words(line: &str, paths: &[&Path]) -> Vec<OsString> {
    let mut paths = paths.iter();
    let word = |word: &str| match word {
        "%" => paths.next().unwrap().as_os_str().to_owned(),
        word => OsString::from_vec(word.as_bytes().to_vec()),
    };
    line.split(' ').map(word).collect()
}

/// [`run`] of [`words`].
pub fn command(package: &str, line: &str, paths: &[&Path]) -> String {
    let words = words(line, paths);
    run(package, &words.iter().map(OsString::as_os_str).collect::<Vec<_>>())
}

/// Whether this process is root; where a CI system runs it must be.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "owners, devices and mounts are tested as root: sudo tests/run");
    root
}
