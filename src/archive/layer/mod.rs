//! One tar archive as one [`tree::Layer`](crate::tree::Layer), its file bodies handed on while they pass by.
//!
//! Spec: OCI image-spec layer.md: `.wh.NAME` removes NAME of lower layers, `.wh..wh..opq` all that they have in its directory.
//! Compat: attributes that describe the machine which packed the layer are dropped as container runtimes do (overlay's own
//! bookkeeping, SELinux and NFS labels).

use super::tar::{self, shown};
use crate::tree::{Body, Change, Entry, Kind, Layer, Metadata, TreePath, Xattrs};
use std::collections::HashMap;
use std::io::{self, Read};

/// Members of one layer; a layer's index is kept in memory.
const MAXIMUM_ENTRIES: usize = 4 << 20;
/// Bytes of all names, targets and attributes of one layer together; a gigabyte of them may come from a megabyte of gzip.
const MAXIMUM_INDEX: usize = 1 << 30;
/// Longest symlink target, in bytes (Linux `PATH_MAX` with its NUL).
const MAXIMUM_TARGET: usize = 4095;
/// All attributes of one file together, in bytes; Linux allows 64 KiB of each.
const MAXIMUM_XATTRS: usize = 256 << 10;

/// What special names mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// An image layer: `.wh.` names are whiteouts.
    Oci,
    /// A plain archive (a package's data): every name means itself.
    Plain,
}

#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error(transparent)]
    Tar(#[from] tar::Error),
    #[error("the layer is refused: member {path:?} {cause}")]
    Path { path: String, cause: &'static str },
    #[error("the layer is refused: member {path:?} is a hard link to {target:?}, which {cause}")]
    LinkTarget { path: String, target: String, cause: &'static str },
    #[error("the layer is refused: member {path:?} {cause}")]
    Member { path: String, cause: &'static str },
    #[error("the layer is refused: it has more than {} members", MAXIMUM_ENTRIES)]
    TooManyEntries,
    #[error("the layer is refused: the names and attributes of its members have more than {limit} bytes")]
    IndexTooLarge { limit: usize },
    #[error("{path}: {cause}")]
    Body { path: TreePath, cause: io::Error },
}

/// Called with every entry, and with the body of a regular file.
pub type EachEntry<'a> = dyn FnMut(&Entry, Option<&mut dyn Read>) -> io::Result<()> + 'a;

/// Reads a tar to its end, also what stands behind it, so that a checking reader below sees its own end.
///
/// `each` gets every entry as it arrives, with the body of a regular file to read as much of as it likes. Entries keep arrival
/// order; of a file that comes twice only the later one stays in the layer that is returned.
pub fn read_layer(reader: impl Read, dialect: Dialect, each: &mut EachEntry<'_>) -> Result<Layer, LayerError> {
    read_bounded(reader, dialect, MAXIMUM_INDEX, each)
}

fn read_bounded(
    reader: impl Read,
    dialect: Dialect,
    limit: usize,
    each: &mut EachEntry<'_>,
) -> Result<Layer, LayerError> {
    let mut archive = tar::Reader::new(reader);
    let mut layer = Layer::default();
    let mut indexed = 0;
    while let Some(mut member) = archive.next_entry()? {
        let Some(entry) = translate(&mut member.header, dialect)? else { continue };
        if layer.entries.len() >= MAXIMUM_ENTRIES {
            return Err(LayerError::TooManyEntries);
        }
        indexed += index_size(&entry);
        if indexed > limit {
            return Err(LayerError::IndexTooLarge { limit });
        }
        let is_file = matches!(entry.change, Change::Put(_, Kind::File { .. }));
        let body = is_file.then_some(&mut member as &mut dyn Read);
        each(&entry, body).map_err(|cause| LayerError::Body { path: entry.path.clone(), cause })?;
        layer.entries.push(entry);
    }
    archive.drain()?;
    drop_replaced_files(&mut layer)?;
    Ok(layer)
}

/// Bytes of an entry that are as long as a stranger made them.
fn index_size(entry: &Entry) -> usize {
    let more = match &entry.change {
        Change::Put(metadata, kind) => {
            let target = if let Kind::Symlink { target } = kind { target.len() } else { 0 };
            target + metadata.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        }
        Change::Link(target) => target.as_bytes().len(),
        Change::Whiteout | Change::Opaque => 0,
    };
    entry.path.as_bytes().len() + more
}

/// `None` for what says nothing of the filesystem (aufs bookkeeping).
fn translate(header: &mut tar::Header, dialect: Dialect) -> Result<Option<Entry>, LayerError> {
    let path = TreePath::parse(&header.path)
        .map_err(|error| LayerError::Path { path: shown(&header.path), cause: error.cause })?;
    if dialect == Dialect::Oci
        && let Some(hidden) = path.name().strip_prefix(b".wh.")
    {
        return whiteout(&path, hidden);
    }
    let fault = |cause| LayerError::Member { path: shown(&header.path), cause };
    let kind = match &header.kind {
        tar::Kind::HardLink(target) => return link(&path, target, dialect).map(Some),
        _ if path.is_root() && header.kind != tar::Kind::Directory => {
            return Err(fault("would replace the root directory"));
        }
        tar::Kind::File => Kind::File { size: header.size, body: Body::Stored },
        tar::Kind::Symlink(target) if target.is_empty() => return Err(fault("is a symbolic link to nothing")),
        tar::Kind::Symlink(target) if target.len() > MAXIMUM_TARGET || target.contains(&0) => {
            return Err(fault("is a symbolic link with an impossible target"));
        }
        tar::Kind::Symlink(target) => Kind::Symlink { target: target.clone() },
        tar::Kind::CharacterDevice { major, minor } => Kind::CharacterDevice { major: *major, minor: *minor },
        tar::Kind::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
        tar::Kind::Directory => Kind::Directory,
        tar::Kind::Fifo => Kind::Fifo,
    };
    let xattrs = keep_xattrs(std::mem::take(&mut header.xattrs));
    if xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAXIMUM_XATTRS {
        return Err(fault("has more than 256 KiB of extended attributes"));
    }
    if xattrs.keys().any(|name| name.is_empty() || name.len() > 255 || name.contains(&0)) {
        return Err(fault("has an extended attribute with an impossible name"));
    }
    // Compat: a symlink's permission bits mean nothing; Linux shows 0777.
    let mode = if matches!(kind, Kind::Symlink { .. }) { 0o777 } else { header.mode };
    let metadata = Metadata { mode, uid: header.uid, gid: header.gid, mtime: header.mtime, xattrs };
    Ok(Some(Entry { path, change: Change::Put(metadata, kind) }))
}

fn whiteout(path: &TreePath, hidden: &[u8]) -> Result<Option<Entry>, LayerError> {
    let parent = path.parent().unwrap_or_default();
    if hidden == b".wh..opq" {
        return Ok(Some(Entry { path: parent, change: Change::Opaque }));
    }
    // aufs: `.wh..wh.plnk`, `.wh..wh.orph`, `.wh..wh.aufs`.
    if hidden.starts_with(b".wh.") {
        return Ok(None);
    }
    let fault = |cause| LayerError::Path { path: shown(path.as_bytes()), cause };
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(fault("is a whiteout of no file"));
    }
    let path = parent.join(hidden).map_err(|error| fault(error.cause))?;
    Ok(Some(Entry { path, change: Change::Whiteout }))
}

fn link(path: &TreePath, target: &[u8], dialect: Dialect) -> Result<Entry, LayerError> {
    let fault = |cause| LayerError::LinkTarget { path: shown(path.as_bytes()), target: shown(target), cause };
    let target = TreePath::parse(target).map_err(|error| fault(error.cause))?;
    if target.is_root() || path.is_root() {
        return Err(fault("is no file"));
    }
    if dialect == Dialect::Oci && target.name().starts_with(b".wh.") {
        return Err(fault("is a whiteout"));
    }
    if target == *path {
        return Err(fault("is the member itself"));
    }
    Ok(Entry { path: path.clone(), change: Change::Link(target) })
}

fn keep_xattrs(mut xattrs: Xattrs) -> Xattrs {
    xattrs.retain(|name, _| {
        !name.starts_with(b"trusted.overlay.")
            && !name.starts_with(b"user.overlay.")
            && !matches!(name.as_slice(), b"security.selinux" | b"system.nfs4_acl" | b"security.nfs4")
    });
    xattrs
}

/// Keeps the last of the files that share a path: bodies are found by path, so there can be one.
fn drop_replaced_files(layer: &mut Layer) -> Result<(), LayerError> {
    let mut last: HashMap<&TreePath, usize> = HashMap::new();
    let mut replaced = Vec::new();
    for (number, entry) in layer.entries.iter().enumerate() {
        if matches!(entry.change, Change::Put(_, Kind::File { .. }))
            && let Some(before) = last.insert(&entry.path, number)
        {
            replaced.push((before, number));
        }
    }
    if replaced.is_empty() {
        return Ok(());
    }
    let mut links: HashMap<&TreePath, Vec<(usize, &TreePath)>> = HashMap::new();
    for (number, entry) in layer.entries.iter().enumerate() {
        if let Change::Link(target) = &entry.change {
            links.entry(target).or_default().push((number, &entry.path));
        }
    }
    for (before, after) in &replaced {
        let target = &layer.entries[*before].path;
        let between = links.get(target).into_iter().flatten().find(|(number, _)| (*before..*after).contains(number));
        if let Some((_, path)) = between {
            let (path, target) = (shown(path.as_bytes()), shown(target.as_bytes()));
            return Err(LayerError::LinkTarget { path, target, cause: "comes a second time later" });
        }
    }
    let replaced: std::collections::HashSet<usize> = replaced.into_iter().map(|(before, _)| before).collect();
    let mut number = 0;
    layer.entries.retain(|_| {
        number += 1;
        !replaced.contains(&(number - 1))
    });
    Ok(())
}

#[cfg(test)]
mod tests;
