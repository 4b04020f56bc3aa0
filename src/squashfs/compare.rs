//! In what two file systems differ, file by file.

use super::reader::{Image, ReadAt};
use crate::tree::text::escape;
use crate::tree::{InodeId, Metadata, Node, TreePath};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

/// Bytes of two contents that are shown from where they differ.
const SHOWN: usize = 32;

/// One path, and what about it differs: both values, the first image's first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub path: TreePath,
    pub what: Vec<String>,
}

/// Differences in the order of paths. Of what is below a directory that only one image has, nothing is told.
pub fn compare<S: ReadAt, T: ReadAt>(first: &Image<S>, second: &Image<T>) -> io::Result<Vec<Difference>> {
    let (names, others) = (Names::of(first), Names::of(second));
    let mut found: Vec<Difference> = Vec::new();
    let mut alone: BTreeSet<TreePath> = BTreeSet::new();
    let paths: BTreeSet<&TreePath> = names.ids.keys().chain(others.ids.keys()).collect();
    for path in paths {
        if path.parent().is_some_and(|parent| alone.contains(&parent)) {
            alone.insert(path.clone());
            continue;
        }
        let what = match (names.ids.get(path), others.ids.get(path)) {
            (Some(one), Some(other)) => {
                let mut what = differing_inodes(first, *one, second, *other)?;
                what.extend(differing("same file as", &names.first[one], &others.first[other]));
                what
            }
            (one, _) => {
                alone.insert(path.clone());
                vec![format!("only in the {} image", if one.is_some() { "first" } else { "second" })]
            }
        };
        if !what.is_empty() {
            found.push(Difference { path: path.clone(), what });
        }
    }
    Ok(found)
}

/// All names, and the first one of each inode.
struct Names {
    ids: BTreeMap<TreePath, InodeId>,
    first: BTreeMap<InodeId, TreePath>,
}

impl Names {
    fn of<S>(image: &Image<S>) -> Names {
        let mut names = Names { ids: BTreeMap::new(), first: BTreeMap::new() };
        for (path, id) in image.tree.walk() {
            names.first.entry(id).or_insert_with(|| path.clone());
            names.ids.insert(path, id);
        }
        names
    }
}

fn differing_inodes<S: ReadAt, T: ReadAt>(
    first: &Image<S>,
    one: InodeId,
    second: &Image<T>,
    other: InodeId,
) -> io::Result<Vec<String>> {
    let (inode, another) = (first.tree.inode(one), second.tree.inode(other));
    let mut what = Vec::new();
    match (&inode.node, &another.node) {
        (Node::Directory(_), Node::Directory(_)) => {}
        (Node::File { size, .. }, Node::File { size: size_there, .. }) => {
            what.extend(differing("size", size, size_there));
            let bodies = (first.body(one).map_err(io::Error::other)?, second.body(other).map_err(io::Error::other)?);
            what.extend(differing_bytes(bodies.0, bodies.1)?);
        }
        (Node::Symlink { target }, Node::Symlink { target: there }) => {
            what.extend(differing("link", &escape(target), &escape(there)));
        }
        (node, there) => what.extend(differing("kind", &kind(node), &kind(there))),
    }
    let (here, there): (&Metadata, &Metadata) = (&inode.metadata, &another.metadata);
    what.extend(differing("mode", &format!("{:04o}", here.mode), &format!("{:04o}", there.mode)));
    what.extend(differing("owner", &format!("{}:{}", here.uid, here.gid), &format!("{}:{}", there.uid, there.gid)));
    what.extend(differing("time", &here.mtime, &there.mtime));
    let names: BTreeSet<&Vec<u8>> = here.xattrs.keys().chain(there.xattrs.keys()).collect();
    for name in names {
        let value = |metadata: &Metadata| metadata.xattrs.get(name).map_or("none".to_owned(), |value| escape(value));
        what.extend(differing(&format!("attribute {}", escape(name)), &value(here), &value(there)));
    }
    Ok(what)
}

fn differing<T: PartialEq + std::fmt::Display>(name: &str, first: &T, second: &T) -> Option<String> {
    (first != second).then(|| format!("{name} {first}, {second}"))
}

fn kind(node: &Node) -> String {
    match node {
        Node::Directory(_) => "directory".to_owned(),
        Node::File { .. } => "file".to_owned(),
        Node::Symlink { .. } => "link".to_owned(),
        Node::CharacterDevice { major, minor } => format!("character device {major}:{minor}"),
        Node::BlockDevice { major, minor } => format!("block device {major}:{minor}"),
        Node::Fifo => "pipe".to_owned(),
        Node::Socket => "socket".to_owned(),
    }
}

/// From which byte two contents differ, with some bytes from there; `None` where they are equal.
pub fn differing_bytes(mut first: impl Read, mut second: impl Read) -> io::Result<Option<String>> {
    let (mut one, mut other) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut offset = 0u64;
    loop {
        let (count, count_there) = (fill(&mut first, &mut one)?, fill(&mut second, &mut other)?);
        let (here, there) = (&one[..count], &other[..count_there]);
        if here != there {
            let common = here.iter().zip(there).take_while(|(here, there)| here == there).count();
            let shown = |bytes: &[u8]| bytes[common..bytes.len().min(common + SHOWN)].escape_ascii().to_string();
            let at = offset + common as u64;
            return Ok(Some(format!("content from byte {at} \"{}\", \"{}\"", shown(here), shown(there))));
        }
        if count == 0 {
            return Ok(None);
        }
        offset += count as u64;
    }
}

/// As many bytes as there are, up to the buffer's length.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_differ_from_a_byte_on_also_where_one_ends() {
        let differing = |one: &[u8], other: &[u8]| differing_bytes(one, other).unwrap();
        assert_eq!(differing(b"same", b"same"), None);
        assert_eq!(differing(b"day 1\n", b"day 2\n").as_deref(), Some("content from byte 4 \"1\\n\", \"2\\n\""));
        assert_eq!(differing(b"day", b"days").as_deref(), Some("content from byte 3 \"\", \"s\""));
        let long = vec![0; 200_000];
        assert!(differing(&long, &[&long[..], b"x"].concat()).unwrap().contains("byte 200000 \"\", \"x\""));
    }
}
