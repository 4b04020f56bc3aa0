//! One step's change to a filesystem, as an index: who owns what, in arrival order.

use super::path::TreePath;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Extended attributes by full name (`security.capability`, `user.x`), sorted.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What an inode says of itself, besides its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: the low 12 bits of `st_mode`.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch; squashfs keeps no more.
    pub mtime: i64,
    pub xattrs: Xattrs,
}

impl Metadata {
    /// Owned by root, without attributes.
    pub fn new(mode: u16, mtime: i64) -> Metadata {
        Metadata { mode, uid: 0, gid: 0, mtime, xattrs: Xattrs::new() }
    }
}

/// Where the bytes of a regular file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In the contents that belong to this layer (archive or directory), under the entry's own path.
    Stored,
    /// Here; for what sifbuild writes itself.
    Inline(Arc<[u8]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File { size: u64, body: Body },
    Symlink { target: Vec<u8> },
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
    Socket,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Create or replace. A directory put over a directory keeps its content and takes the new metadata.
    Put(Metadata, Kind),
    /// Another name for the file at the given path, which is in this layer or below it.
    Link(TreePath),
    /// The path is gone.
    Whiteout,
    /// All that lower layers have below this path is gone; the directory itself stays.
    Opaque,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: TreePath,
    pub change: Change,
}

/// Entries in arrival order (an archive's own, or sorted paths of a scanned directory). Whiteouts and
/// opaque marks act on lower layers only, wherever they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    pub entries: Vec<Entry>,
}

impl Layer {
    pub fn put(&mut self, path: TreePath, metadata: Metadata, kind: Kind) {
        self.entries.push(Entry { path, change: Change::Put(metadata, kind) });
    }

    /// Adds a small file whose bytes live in the index.
    pub fn put_file(&mut self, path: TreePath, metadata: Metadata, bytes: impl Into<Arc<[u8]>>) {
        let bytes = bytes.into();
        self.put(path, metadata, Kind::File { size: bytes.len() as u64, body: Body::Inline(bytes) });
    }
}
