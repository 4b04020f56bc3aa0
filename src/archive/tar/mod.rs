//! tar: ustar, pax and GNU, read as a stream and written.
//!
//! Our own parser, because the `tar` crate hands out pax sparse members as their packed form, under a made-up name
//! (tar-rs #295), and because every length here comes from strangers. What it takes: ustar prefixes, star's, pax records local
//! and global, GNU long names and links, base-256 numbers, and all four sparse forms (old GNU, pax 0.0, 0.1, 1.0), which read as
//! files with zeros in their holes.
//!
//! Sources: POSIX.1-2024 pax "Extended Description"; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
//! Compat: as Go's archive/tar, which container runtimes use: links, devices and directories have no body whatever their size
//! says, an archive may end without zero blocks. Unlike it, global owner and time records are applied.

mod header;
mod pax;
mod reader;
mod sparse;
pub mod write;

pub use reader::{Entry, Reader};
pub use write::Writer;

use crate::tree::Xattrs;

pub(crate) const BLOCK: usize = 512;
/// Longest pax header, long name or long link, in bytes (Go's limit too).
const MAXIMUM_EXTENSION: u64 = 1 << 20;
/// Data segments of one sparse file.
const MAXIMUM_SEGMENTS: usize = 1 << 18;
/// Largest sparse file with its holes, in bytes: ext4's limit.
const MAXIMUM_SPARSE_SIZE: u64 = 16 << 40;

/// What an archive says of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// As written, unchecked; `tree::TreePath::parse` is the check.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch, rounded down.
    pub mtime: i64,
    pub xattrs: Xattrs,
    /// Bytes of the body with its holes; zero for what has none.
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    /// Another name for an earlier member; the target as written.
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Directory,
    Fifo,
}

/// Why a stream is not the tar archive that it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("byte {offset} of the archive should start a tar header, but its checksum does not fit")]
    NotAHeader { offset: u64 },
    #[error("the archive ends in the middle of {path}")]
    Truncated { path: String },
    #[error("tar member {path}: the {field} is not a number that fits")]
    Number { path: String, field: &'static str },
    #[error("tar member {path}: its {what} is {size} bytes long, more than the {limit} that are read")]
    ExtensionTooLong { path: String, what: &'static str, size: u64, limit: u64 },
    #[error("tar member {path}: the extended header is malformed: {cause}")]
    Pax { path: String, cause: &'static str },
    #[error("tar member {path}: the map of the sparse file is malformed: {cause}")]
    Sparse { path: String, cause: &'static str },
    #[error("tar member {path} has the unknown type {kind:?}")]
    UnknownKind { path: String, kind: char },
    #[error("the archive cannot be read: {0}")]
    Read(#[source] std::io::Error),
}

/// For messages: at most 300 bytes, control characters escaped.
pub(crate) fn shown(path: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(&path[..path.len().min(300)]).chars() {
        if character.is_control() { text.extend(character.escape_default()) } else { text.push(character) }
    }
    text
}

#[cfg(test)]
mod tests;
