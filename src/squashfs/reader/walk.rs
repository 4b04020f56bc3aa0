//! From listings and inodes to a [`Tree`].

use super::super::format::directory::{self, Entry, Header, MAXIMUM_NAME, MAXIMUM_RUN};
use super::super::format::inode::{Body, Inode};
use super::super::format::{
    InodeReference, NO_XATTR, XATTR_PREFIXES, XATTR_VALUE_OUT_OF_LINE, decode_device, u16_at, u64_at,
};
use super::source::ReadAt;
use super::{Image, ReadError, damaged};
use crate::tree::{self, InodeId, Metadata, Node, Source, Tree, TreePath, Xattrs};
use std::collections::{BTreeMap, HashMap};

/// Memory that any image may take, and how much more for each of its bytes.
const BUDGET_BASE: u64 = 128 << 20;
const BUDGET_FOR_EACH_BYTE: u64 = 64;
/// What a name costs in the tree, beside its bytes.
const NAME_COST: u64 = 64;
const INODE_COST: u64 = 160;
const XATTR_COST: u64 = 96;
/// What an entry of a directory's index costs, beside its name: not kept, but read with its inode.
const INDEX_COST: u64 = 40;
/// Longest attribute value that Linux allows.
const MAXIMUM_XATTR: u32 = 65_536;

/// What a walk finds.
pub(super) struct Walked {
    pub tree: Tree,
    /// By inode: where each is in the image.
    pub references: Vec<InodeReference>,
    /// Bytes of files that are holes.
    pub holes: u64,
}

/// Reads the whole tree.
pub(super) fn read<S: ReadAt>(image: &Image<S>) -> Result<Walked, ReadError> {
    let limit = image.superblock.bytes_used.saturating_mul(BUDGET_FOR_EACH_BYTE).saturating_add(BUDGET_BASE);
    let mut walk = Walk {
        image,
        tree: Tree::new(),
        references: Vec::new(),
        holes: 0,
        linked: HashMap::new(),
        pending: Vec::new(),
        budget: Budget { limit, taken: 0 },
    };
    walk.read_root()?;
    while let Some(directory) = walk.pending.pop() {
        walk.read_directory(&directory)?;
    }
    Ok(Walked { tree: walk.tree, references: walk.references, holes: walk.holes })
}

/// Memory that the tree takes, and may take.
struct Budget {
    limit: u64,
    taken: u64,
}

impl Budget {
    fn take(&mut self, bytes: u64) -> Result<(), ReadError> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken > self.limit { Err(ReadError::Memory { limit: self.limit }) } else { Ok(()) }
    }
}

/// A directory whose names are still to be read.
struct Directory {
    id: InodeId,
    path: TreePath,
    place: InodeReference,
    size: u32,
}

struct Walk<'a, S> {
    image: &'a Image<S>,
    tree: Tree,
    references: Vec<InodeReference>,
    holes: u64,
    /// Inodes that may have more names, and all directories.
    linked: HashMap<InodeReference, InodeId>,
    pending: Vec<Directory>,
    budget: Budget,
}

impl<S: ReadAt> Walk<'_, S> {
    fn read_root(&mut self) -> Result<(), ReadError> {
        let reference = self.image.superblock.root_inode;
        let (inode, _) = self.image.inode(reference)?;
        let Body::Directory { start_block, offset, listing_size, .. } = inode.body else {
            return Err(damaged("the root", "is not a directory"));
        };
        self.tree.inode_mut(Tree::ROOT).metadata = self.read_metadata(&inode)?;
        self.references.push(reference);
        self.linked.insert(reference, Tree::ROOT);
        let place = InodeReference::new(u64::from(start_block), offset);
        self.pending.push(Directory { id: Tree::ROOT, path: TreePath::root(), place, size: listing_size });
        Ok(())
    }

    fn read_directory(&mut self, directory: &Directory) -> Result<(), ReadError> {
        if directory.size == 0 {
            return Ok(());
        }
        let subject = || format!("directory {}", directory.path);
        let mut cursor = self.image.listing(directory.place)?;
        let mut left = directory.size as usize;
        let mut name = [0; MAXIMUM_NAME];
        while left > 0 {
            left = left.checked_sub(directory::HEADER_SIZE).ok_or_else(|| damaged(subject(), "ends in a header"))?;
            let header = Header::parse(&cursor.read_array()?);
            if header.count as usize > MAXIMUM_RUN {
                return Err(damaged(subject(), "has more than 256 entries under one header"));
            }
            for _ in 0..header.count {
                let entry = Entry::parse(&cursor.read_array()?);
                let size = directory::ENTRY_SIZE + entry.name_size;
                left = left.checked_sub(size).ok_or_else(|| damaged(subject(), "ends in an entry"))?;
                let name = name
                    .get_mut(..entry.name_size)
                    .ok_or_else(|| damaged(subject(), "has a name longer than 255 bytes"))?;
                cursor.read(name)?;
                self.add_entry(directory, &header, &entry, name)?;
            }
        }
        Ok(())
    }

    fn add_entry(
        &mut self,
        directory: &Directory,
        header: &Header,
        entry: &Entry,
        name: &[u8],
    ) -> Result<(), ReadError> {
        let subject = || format!("directory {}", directory.path);
        if name.contains(&b'/') || name.contains(&0) || matches!(name, b"" | b"." | b"..") {
            return Err(damaged(subject(), "has a name that no file can have"));
        }
        if self.tree.child(directory.id, name).is_some() {
            return Err(damaged(subject(), "has a name twice"));
        }
        self.budget.take(NAME_COST + name.len() as u64)?;
        let reference = InodeReference::new(u64::from(header.start_block), entry.offset);
        let id = match self.linked.get(&reference) {
            Some(id) if matches!(self.tree.inode(*id).node, Node::Directory(_)) => {
                return Err(damaged(subject(), "holds a directory that is in the tree already"));
            }
            Some(id) => *id,
            None => {
                let path = directory.path.join(name);
                let path = path.map_err(|_| damaged(subject(), "holds a path longer than 4096 bytes"))?;
                self.add_inode(reference, entry, path)?
            }
        };
        self.tree.set_child(directory.id, name.to_vec(), id);
        Ok(())
    }

    fn add_inode(&mut self, reference: InodeReference, entry: &Entry, path: TreePath) -> Result<InodeId, ReadError> {
        let (inode, _) = self.image.inode(reference)?;
        if inode.body.basic_type() != entry.inode_type {
            return Err(damaged(format!("{path}"), "has another type in its directory than in its inode"));
        }
        self.budget.take(INODE_COST + path.as_bytes().len() as u64)?;
        // Overlapping inodes may share one long index, which is read for each of them.
        if let Body::Directory { index, .. } = &inode.body {
            self.budget.take(index.iter().map(|entry| INDEX_COST + entry.name.len() as u64).sum())?;
        }
        let metadata = self.read_metadata(&inode)?;
        let node = match &inode.body {
            Body::Directory { .. } => Node::Directory(BTreeMap::new()),
            Body::File { file_size, sparse, .. } => {
                self.holes = self.holes.saturating_add((*sparse).min(*file_size));
                Node::File { size: *file_size, source: Source::Layer { layer: 0, path: path.clone() } }
            }
            Body::Symlink { target } => {
                self.budget.take(target.len() as u64)?;
                Node::Symlink { target: target.clone() }
            }
            Body::BlockDevice { rdev } => {
                let (major, minor) = decode_device(*rdev);
                Node::BlockDevice { major, minor }
            }
            Body::CharacterDevice { rdev } => {
                let (major, minor) = decode_device(*rdev);
                Node::CharacterDevice { major, minor }
            }
            Body::Fifo => Node::Fifo,
            Body::Socket => Node::Socket,
        };
        let id = self.tree.add(tree::Inode { metadata, node });
        self.references.push(reference);
        if let Body::Directory { start_block, offset, listing_size, .. } = inode.body {
            let place = InodeReference::new(u64::from(start_block), offset);
            self.pending.push(Directory { id, path, place, size: listing_size });
            self.linked.insert(reference, id);
        } else if inode.nlink > 1 {
            self.linked.insert(reference, id);
        }
        Ok(id)
    }

    fn read_metadata(&mut self, inode: &Inode) -> Result<Metadata, ReadError> {
        let owner = |index: u16| {
            let subject = || format!("owner {index} of inode number {}", inode.inode_number);
            self.image.ids.get(usize::from(index)).copied().ok_or_else(|| damaged(subject(), "is not in the table"))
        };
        let (uid, gid) = (owner(inode.uid_index)?, owner(inode.gid_index)?);
        let xattrs = if inode.xattr == NO_XATTR { Xattrs::new() } else { self.read_xattrs(inode.xattr)? };
        Ok(Metadata { mode: inode.mode, uid, gid, mtime: i64::from(inode.mtime), xattrs })
    }

    fn read_xattrs(&mut self, number: u32) -> Result<Xattrs, ReadError> {
        let subject = || format!("attribute list {number}");
        let id = self.image.xattr_id(number)?;
        let mut cursor = self.image.xattr_list(id.xattr)?;
        let mut xattrs = Xattrs::new();
        for _ in 0..id.count {
            let head: [u8; 4] = cursor.read_array()?;
            let (xattr_type, name_size) = (u16_at(&head, 0), usize::from(u16_at(&head, 2)));
            let prefix = XATTR_PREFIXES.get(usize::from(xattr_type & !XATTR_VALUE_OUT_OF_LINE));
            let prefix = prefix.ok_or_else(|| damaged(subject(), "has a name with an unknown prefix"))?;
            if name_size > MAXIMUM_NAME {
                return Err(damaged(subject(), "has a name longer than 255 bytes"));
            }
            let mut name = prefix.to_vec();
            name.resize(prefix.len() + name_size, 0);
            cursor.read(&mut name[prefix.len()..])?;
            let mut size = u32::from_le_bytes(cursor.read_array()?);
            let mut elsewhere = None;
            if xattr_type & XATTR_VALUE_OUT_OF_LINE != 0 {
                let place: [u8; 8] = cursor.read_array()?;
                let mut there = self.image.xattr_list(InodeReference(u64_at(&place, 0)))?;
                size = u32::from_le_bytes(there.read_array()?);
                elsewhere = Some(there);
            }
            if size > MAXIMUM_XATTR {
                return Err(damaged(subject(), "has a value longer than 64 KiB"));
            }
            self.budget.take(XATTR_COST + name.len() as u64 + u64::from(size))?;
            let mut value = vec![0; size as usize];
            elsewhere.as_mut().unwrap_or(&mut cursor).read(&mut value)?;
            if xattrs.insert(name, value).is_some() {
                return Err(damaged(subject(), "has a name twice"));
            }
        }
        Ok(xattrs)
    }
}
