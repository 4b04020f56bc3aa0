//! The tree's part of the image: inode and directory tables, and the numbers that inodes get.
//!
//! Directories are written from the leaves up, since a listing points to inodes and a directory's inode to its listing. The inodes of one
//! directory's children lie side by side, so that a listing needs few headers.

use super::super::compress::Compressor;
use super::super::format::directory::{Entry, Header, MAXIMUM_NAME, MAXIMUM_RUN};
use super::super::format::inode::{self, DirectoryIndex, Inode, LISTING_SIZE_BIAS, MAXIMUM_SYMLINK};
use super::super::format::{InodeReference, NO_FRAGMENT, encode_device};
use super::super::metadata::MetadataWriter;
use super::super::tables::{IdTable, XattrTable};
use super::{BodyId, Tail, UnsupportedXattr, WriteError, Writer};
use crate::tree::{InodeId, Metadata, Node, Tree, TreePath};
use std::collections::BTreeMap;
use std::io::{Seek, Write};

/// The order in which inodes are written, and what follows from the tree's shape.
pub(super) struct Plan {
    /// Reachable inodes in the order of their numbers, which begin at 1; the root is last.
    pub order: Vec<InodeId>,
    /// Directories, each after all below it.
    directories: Vec<InodeId>,
    /// By inode: its number (0 if unreachable), its links, and for directories their parent.
    numbers: Vec<u32>,
    links: Vec<u32>,
    parents: Vec<InodeId>,
}

impl Plan {
    pub(super) fn new(tree: &Tree) -> Result<Plan, WriteError> {
        let mut plan = Plan {
            order: Vec::new(),
            directories: Vec::new(),
            numbers: vec![0; tree.capacity()],
            links: vec![0; tree.capacity()],
            parents: vec![Tree::ROOT; tree.capacity()],
        };
        plan.order_directories(tree)?;
        for directory in plan.directories.clone() {
            for child in children(tree, directory).values() {
                plan.number(*child);
            }
        }
        plan.number(Tree::ROOT);
        Ok(plan)
    }

    /// Parents first, later children first; reversed, that is leaves first in the order of names.
    fn order_directories(&mut self, tree: &Tree) -> Result<(), WriteError> {
        let mut pending = vec![Tree::ROOT];
        let mut seen = vec![false; tree.capacity()];
        while let Some(directory) = pending.pop() {
            if std::mem::replace(&mut seen[directory.0 as usize], true) {
                return Err(WriteError::DirectoryLinked { path: path_of(tree, directory) });
            }
            self.directories.push(directory);
            self.links[directory.0 as usize] = 2;
            for child in children(tree, directory).values() {
                if matches!(tree.inode(*child).node, Node::Directory(_)) {
                    self.links[directory.0 as usize] += 1;
                    self.parents[child.0 as usize] = directory;
                    pending.push(*child);
                } else {
                    self.links[child.0 as usize] += 1;
                }
            }
        }
        self.directories.reverse();
        Ok(())
    }

    fn number(&mut self, id: InodeId) {
        if self.numbers[id.0 as usize] == 0 {
            self.order.push(id);
            self.numbers[id.0 as usize] = self.order.len() as u32;
        }
    }
}

/// The tree's tables, ready to be written.
pub(super) struct Tables {
    pub inodes: Vec<u8>,
    pub directories: Vec<u8>,
    /// Entries of the export table: by number, where each inode is.
    pub export: Vec<u8>,
    pub ids: IdTable,
    pub xattrs: XattrTable,
    pub root: InodeReference,
    pub unsupported_xattrs: Vec<UnsupportedXattr>,
}

impl Tables {
    pub(super) fn build<W: Write + Seek>(
        writer: &Writer<W>,
        tree: &Tree,
        plan: &Plan,
        bodies: &[Option<BodyId>],
        compressor: &mut Compressor,
    ) -> Result<Tables, WriteError> {
        let mut builder = Builder {
            writer,
            tree,
            plan,
            bodies,
            compressor,
            inodes: MetadataWriter::default(),
            directories: MetadataWriter::default(),
            ids: IdTable::default(),
            xattrs: XattrTable::default(),
            references: vec![None; tree.capacity()],
            listings: BTreeMap::new(),
            unsupported: Vec::new(),
            scratch: Vec::new(),
        };
        for directory in &plan.directories {
            for child in children(tree, *directory).values() {
                builder.write_inode(*child)?;
            }
            builder.write_listing(*directory)?;
        }
        builder.write_inode(Tree::ROOT)?;
        builder.finish()
    }
}

/// A directory's listing that was written and whose inode was not yet.
struct Listing {
    place: InodeReference,
    size: u32,
    index: Vec<DirectoryIndex>,
}

struct Builder<'a, W: Write + Seek> {
    writer: &'a Writer<W>,
    tree: &'a Tree,
    plan: &'a Plan,
    bodies: &'a [Option<BodyId>],
    compressor: &'a mut Compressor,
    inodes: MetadataWriter,
    directories: MetadataWriter,
    ids: IdTable,
    xattrs: XattrTable,
    /// By inode, once it is written.
    references: Vec<Option<InodeReference>>,
    listings: BTreeMap<InodeId, Listing>,
    unsupported: Vec<(InodeId, Vec<u8>)>,
    scratch: Vec<u8>,
}

impl<W: Write + Seek> Builder<'_, W> {
    fn finish(self) -> Result<Tables, WriteError> {
        let reference = |id: &InodeId| self.references[id.0 as usize].expect("every inode of the plan was written");
        let export = self.plan.order.iter().flat_map(|id| reference(id).0.to_le_bytes()).collect();
        let root = reference(&Tree::ROOT);
        let unsupported_xattrs = name_paths(self.tree, self.unsupported);
        Ok(Tables {
            inodes: self.inodes.finish(self.compressor)?.0,
            directories: self.directories.finish(self.compressor)?.0,
            export,
            ids: self.ids,
            xattrs: self.xattrs,
            root,
            unsupported_xattrs,
        })
    }

    /// Writes an inode unless another name of it came before.
    fn write_inode(&mut self, id: InodeId) -> Result<(), WriteError> {
        if self.references[id.0 as usize].is_some() {
            return Ok(());
        }
        let place = self.inodes.position();
        if place.block() > u64::from(u32::MAX) {
            return Err(WriteError::TooLarge { what: "the inode table" });
        }
        self.references[id.0 as usize] = Some(place);
        let (inode, words) = self.make_inode(id)?;
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        inode.encode(&mut bytes);
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        self.inodes.write(&bytes, self.compressor)?;
        self.scratch = bytes;
        Ok(())
    }

    fn make_inode(&mut self, id: InodeId) -> Result<(Inode, Vec<u32>), WriteError> {
        let metadata = &self.tree.inode(id).metadata;
        let unsupported = &mut self.unsupported;
        let xattr = self.xattrs.add(&metadata.xattrs, self.compressor, |name| unsupported.push((id, name.to_vec())))?;
        let (body, words) = self.make_body(id)?;
        let inode = Inode {
            inode_type: body.basic_type(),
            mode: metadata.mode & 0o7777,
            uid_index: self.id_index(id, metadata.uid)?,
            gid_index: self.id_index(id, metadata.gid)?,
            mtime: clamp_time(metadata),
            inode_number: self.plan.numbers[id.0 as usize],
            nlink: self.plan.links[id.0 as usize],
            xattr,
            body,
        };
        Ok((inode, words))
    }

    fn make_body(&mut self, id: InodeId) -> Result<(inode::Body, Vec<u32>), WriteError> {
        let device = |major, minor| {
            let path = || path_of(self.tree, id);
            encode_device(major, minor).ok_or_else(|| WriteError::Device { path: path(), major, minor })
        };
        let body = match &self.tree.inode(id).node {
            Node::Directory(_) => self.make_directory(id),
            Node::File { size, .. } => return Ok(self.make_file(id, *size)),
            Node::Symlink { target } if target.is_empty() || target.len() > MAXIMUM_SYMLINK => {
                return Err(WriteError::Symlink { path: path_of(self.tree, id) });
            }
            Node::Symlink { target } => inode::Body::Symlink { target: target.clone() },
            Node::BlockDevice { major, minor } => inode::Body::BlockDevice { rdev: device(*major, *minor)? },
            Node::CharacterDevice { major, minor } => inode::Body::CharacterDevice { rdev: device(*major, *minor)? },
            Node::Fifo => inode::Body::Fifo,
            Node::Socket => inode::Body::Socket,
        };
        Ok((body, Vec::new()))
    }

    fn make_directory(&mut self, id: InodeId) -> inode::Body {
        let listing = self.listings.remove(&id).expect("a listing is written before its directory");
        let parent_inode = if id == Tree::ROOT {
            // Compat: mksquashfs gives the root a parent that does not exist.
            self.plan.order.len() as u32 + 1
        } else {
            self.plan.numbers[self.plan.parents[id.0 as usize].0 as usize]
        };
        inode::Body::Directory {
            start_block: listing.place.block() as u32,
            offset: listing.place.offset(),
            listing_size: listing.size,
            parent_inode,
            index: listing.index,
        }
    }

    fn make_file(&self, id: InodeId, file_size: u64) -> (inode::Body, Vec<u32>) {
        let Some(number) = self.bodies[id.0 as usize] else {
            let body = inode::Body::File { start_block: 0, file_size, sparse: 0, fragment: NO_FRAGMENT, offset: 0 };
            return (body, Vec::new());
        };
        let body = self.writer.bodies[number.0 as usize];
        let block_size = u64::from(self.writer.options.block_size);
        let (mut start_block, mut sparse, mut words) = (0, 0, Vec::new());
        if let Some(number) = body.run {
            let (run, size_words) = self.writer.output.run(number);
            (start_block, sparse, words) = (run.start, u64::from(run.holes) * block_size, size_words.to_vec());
        }
        let (mut fragment, mut offset) = (NO_FRAGMENT, 0);
        match body.tail {
            Tail::None => {}
            Tail::Hole => sparse -= block_size - file_size % block_size,
            Tail::Fragment(place) => (fragment, offset) = (place.fragment, place.offset),
        }
        (inode::Body::File { start_block, file_size, sparse, fragment, offset }, words)
    }

    fn id_index(&mut self, id: InodeId, owner: u32) -> Result<u16, WriteError> {
        self.ids.add(owner).ok_or_else(|| WriteError::TooManyIds { path: path_of(self.tree, id), id: owner })
    }

    /// Writes a directory's names, in runs of which each has one header.
    fn write_listing(&mut self, directory: InodeId) -> Result<(), WriteError> {
        let place = self.directories.position();
        let mut listing = Listing { place, size: 0, index: Vec::new() };
        let mut indexed_block = place.block();
        let children: Vec<(&Vec<u8>, InodeId)> =
            children(self.tree, directory).iter().map(|(name, id)| (name, *id)).collect();
        let mut rest = children.as_slice();
        while !rest.is_empty() {
            let (run, later) = rest.split_at(self.run_length(rest));
            let here = self.directories.position().block();
            if here != indexed_block && listing.index.len() < usize::from(u16::MAX) {
                let name = run[0].0.clone();
                listing.index.push(DirectoryIndex { index: listing.size, start_block: here as u32, name });
                indexed_block = here;
            }
            let mut bytes = std::mem::take(&mut self.scratch);
            bytes.clear();
            self.encode_run(run, &mut bytes)?;
            let size = u64::from(listing.size) + bytes.len() as u64;
            listing.size = u32::try_from(size)
                .ok()
                .filter(|size| *size <= u32::MAX - LISTING_SIZE_BIAS)
                .ok_or(WriteError::TooLarge { what: "a directory" })?;
            self.directories.write(&bytes, self.compressor)?;
            self.scratch = bytes;
            rest = later;
        }
        if self.directories.position().block() > u64::from(u32::MAX) {
            return Err(WriteError::TooLarge { what: "the directory table" });
        }
        self.listings.insert(directory, listing);
        Ok(())
    }

    /// How many of the names can share the first one's header.
    fn run_length(&self, names: &[(&Vec<u8>, InodeId)]) -> usize {
        let first = names[0].1;
        let block = self.reference(first).block();
        let number = i64::from(self.plan.numbers[first.0 as usize]);
        let fits = |id: InodeId| {
            self.reference(id).block() == block
                && i16::try_from(i64::from(self.plan.numbers[id.0 as usize]) - number).is_ok()
        };
        names.iter().take(MAXIMUM_RUN).take_while(|(_, id)| fits(*id)).count()
    }

    fn encode_run(&self, run: &[(&Vec<u8>, InodeId)], bytes: &mut Vec<u8>) -> Result<(), WriteError> {
        let first = run[0].1;
        let inode_number = self.plan.numbers[first.0 as usize];
        let start_block = self.reference(first).block() as u32;
        Header { count: run.len() as u32, start_block, inode_number }.encode(bytes);
        for (name, id) in run {
            let unusual = name.contains(&b'/') || name.contains(&0) || matches!(name.as_slice(), b"" | b"." | b"..");
            if unusual || name.len() > MAXIMUM_NAME {
                return Err(WriteError::Name { path: path_of(self.tree, *id) });
            }
            let number = self.plan.numbers[id.0 as usize];
            let entry = Entry {
                offset: self.reference(*id).offset(),
                inode_number_delta: (i64::from(number) - i64::from(inode_number)) as i16,
                inode_type: basic_type(&self.tree.inode(*id).node),
                name_size: name.len(),
            };
            entry.encode(bytes);
            bytes.extend_from_slice(name);
        }
        Ok(())
    }

    fn reference(&self, id: InodeId) -> InodeReference {
        self.references[id.0 as usize].expect("children are written before the listing that names them")
    }
}

/// The first path of an inode, for messages.
pub(super) fn path_of(tree: &Tree, id: InodeId) -> TreePath {
    let mut pending = vec![(TreePath::root(), Tree::ROOT)];
    let mut seen = vec![false; tree.capacity()];
    while let Some((path, at)) = pending.pop() {
        if at == id {
            return path;
        }
        if std::mem::replace(&mut seen[at.0 as usize], true) {
            continue;
        }
        for (name, child) in children(tree, at).iter().rev() {
            pending.push((path.join(name).unwrap_or_else(|_| path.clone()), *child));
        }
    }
    TreePath::root()
}

fn name_paths(tree: &Tree, unsupported: Vec<(InodeId, Vec<u8>)>) -> Vec<UnsupportedXattr> {
    if unsupported.is_empty() {
        return Vec::new();
    }
    let mut paths = BTreeMap::new();
    for (path, id) in tree.walk() {
        paths.entry(id).or_insert(path);
    }
    let named = |(id, name)| UnsupportedXattr { path: paths.get(&id).cloned().unwrap_or_default(), name };
    unsupported.into_iter().map(named).collect()
}

fn children(tree: &Tree, directory: InodeId) -> &BTreeMap<Vec<u8>, InodeId> {
    static NONE: BTreeMap<Vec<u8>, InodeId> = BTreeMap::new();
    match &tree.inode(directory).node {
        Node::Directory(children) => children,
        _ => &NONE,
    }
}

fn basic_type(node: &Node) -> u16 {
    match node {
        Node::Directory(_) => inode::DIRECTORY,
        Node::File { .. } => inode::FILE,
        Node::Symlink { .. } => inode::SYMLINK,
        Node::BlockDevice { .. } => inode::BLOCK_DEVICE,
        Node::CharacterDevice { .. } => inode::CHARACTER_DEVICE,
        Node::Fifo => inode::FIFO,
        Node::Socket => inode::SOCKET,
    }
}

/// Dates before 1970 become 1970, those after 2106 become 2106.
fn clamp_time(metadata: &Metadata) -> u32 {
    metadata.mtime.clamp(0, i64::from(u32::MAX)) as u32
}
