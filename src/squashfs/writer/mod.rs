//! Writes an image in one pass: bodies first, in any order that the caller likes, then the tree.
//!
//! The bytes depend on the bodies' order, the tree and the options, and never on the number of threads.
//!
//! A *segment* is a layer whose bodies can be opened at will. Its fragments hold no tail of another segment, and where they are cut depends on
//! the sizes of the layer's files alone; so the blocks of a layer are the same in every image that shows the same files of it, and those
//! that an earlier image had ([`Kept`]) are copied, with the same result.
//!
//! # Why
//! A body's blocks are written as they come and taken back when the body turns out to be a duplicate: that needs no second read
//! and no memory that grows with the file. Duplicates are proved by SHA-256 over what is stored.

mod fragment;
mod inodes;
mod output;
mod segment;

pub use segment::{Open, SegmentBody, SegmentError};

use super::blocks::{Label, Pool, is_zero};
use super::compress::{CodecError, Compression, Compressor};
use super::format::{self, PADDING, SUPERBLOCK_SIZE, Superblock};
use super::kept::{Kept, Segment};
use super::metadata::encode_block;
use crate::tree::{InodeId, Node, Source, Tree, TreePath};
use fragment::Group;
use output::Output;
use segment::{Copied, Log};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

/// How an image is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub compression: Compression,
    /// Bytes in a data block: a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
    /// Workers that compress, besides the calling thread; 0 is taken as 1.
    pub threads: usize,
    /// The image's own date, in seconds since the epoch.
    pub modification_time: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { compression: Compression::default(), block_size: 128 << 10, threads: 1, modification_time: 0 }
    }
}

/// A body that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(u32);

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the image proper, as its superblock says.
    pub bytes_used: u64,
    /// Bytes with the padding to a multiple of 4096.
    pub size: u64,
    /// The farthest byte that was ever written, from the image's start. When larger than `size`, the last bodies were duplicates
    /// that were taken back, and a file that ends with the image must be cut to `size`.
    pub reach: u64,
    pub inodes: u32,
    pub fragments: u32,
    /// Bodies whose blocks or tail were in the image before.
    pub duplicates: u64,
    /// Those segments that were to be recorded.
    pub segments: Vec<Segment>,
    /// Attributes that squashfs cannot hold (all but `user.`, `trusted.` and `security.`): left out.
    pub unsupported_xattrs: Vec<UnsupportedXattr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedXattr {
    pub path: TreePath,
    pub name: Vec<u8>,
}

/// Why an image was not written. The writer is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot write the squashfs image: {cause}")]
    Output { cause: io::Error },
    #[error("cannot start a compressing thread: {cause}")]
    Thread { cause: io::Error },
    #[error("cannot read a file of {size} bytes after {read} bytes: {cause}")]
    Read { read: u64, size: u64, cause: io::Error },
    #[error("a file of {size} bytes ended after {read} bytes")]
    Short { read: u64, size: u64 },
    #[error("cannot copy blocks that were kept from an earlier image: {cause}; `sifbuild cache clean` removes them")]
    Kept { cause: io::Error },
    #[error("a file of {size} bytes is another than when its blocks were kept")]
    Changed { size: u64 },
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("squashfs block size {0} is not a power of two between 4 KiB and 1 MiB")]
    BlockSize(u32),
    #[error("{path} has {size} bytes and no content was given for it")]
    BodyMissing { path: TreePath, size: u64 },
    #[error("{path} has {size} bytes and the content given for it has {found}")]
    BodySize { path: TreePath, size: u64, found: u64 },
    #[error("{path} is owned by {id}: squashfs has room for 65535 different user and group ids")]
    TooManyIds { path: TreePath, id: u32 },
    #[error("{path} is device {major}:{minor}, which squashfs cannot store")]
    Device { path: TreePath, major: u32, minor: u32 },
    #[error("{path} is a symbolic link to nothing, or to a name longer than 4095 bytes")]
    Symlink { path: TreePath },
    #[error("{path} has a name that squashfs cannot store")]
    Name { path: TreePath },
    #[error("{path} is a directory with more than one name")]
    DirectoryLinked { path: TreePath },
    #[error("{what} is too large for squashfs")]
    TooLarge { what: &'static str },
}

/// A file's content in the image.
#[derive(Clone, Copy, Debug)]
struct Body {
    size: u64,
    /// Number of its run of blocks; `None` without whole blocks (and until the run is written).
    run: Option<u32>,
    tail: Tail,
}

#[derive(Clone, Copy, Debug)]
enum Tail {
    None,
    /// All zero: one more hole at the end of the run.
    Hole,
    Fragment(Place),
}

/// Where a tail is.
#[derive(Clone, Copy, Debug)]
struct Place {
    fragment: u32,
    offset: u32,
}

/// An image under construction.
pub struct Writer<W: Write + Seek> {
    options: Options,
    pool: Pool,
    output: Output<W>,
    bodies: Vec<Body>,
    group: Group,
    fragment_number: u32,
    tails: HashMap<[u8; 32], Place>,
    tail: Vec<u8>,
    shared_tails: u64,
    /// What is copied from kept blocks, in the order of its marks in the queue.
    copied: VecDeque<Copied>,
    kept: Option<Arc<Kept>>,
    segments: usize,
    logs: Vec<Log>,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins an image at the present position of `out`; all offsets in it are relative to there.
    pub fn new(out: W, options: Options) -> Result<Writer<W>, WriteError> {
        if !format::is_block_size(options.block_size) {
            return Err(WriteError::BlockSize(options.block_size));
        }
        options.compression.check()?;
        let pool = Pool::new(options.threads, options.compression, options.block_size)
            .map_err(|cause| WriteError::Thread { cause })?;
        let mut output = Output::new(out)?;
        output.write(&[0; SUPERBLOCK_SIZE])?;
        if let Some(record) = options.compression.option_record() {
            let mut block = Vec::new();
            encode_block(&record, true, &mut block);
            output.write(&block)?;
        }
        Ok(Writer {
            options,
            pool,
            output,
            bodies: Vec::new(),
            group: Group::default(),
            fragment_number: 0,
            tails: HashMap::new(),
            tail: Vec::new(),
            shared_tails: 0,
            copied: VecDeque::new(),
            kept: None,
            segments: 0,
            logs: Vec::new(),
        })
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Reads exactly `size` bytes and puts them into the image, or finds them there.
    pub fn body(&mut self, reader: &mut dyn Read, size: u64) -> Result<BodyId, WriteError> {
        self.account(size, None)?;
        Ok(self.read_body(reader, size)?.0)
    }

    /// Ends a fragment, so that what follows shares none with what came before.
    pub fn part(&mut self) -> Result<(), WriteError> {
        self.close_group(None)
    }

    /// Gives the digest of the tail too.
    fn read_body(&mut self, reader: &mut dyn Read, size: u64) -> Result<(BodyId, Option<[u8; 32]>), WriteError> {
        let number = self.new_body(size)?;
        let block_size = u64::from(self.options.block_size);
        let mut remaining = size;
        while remaining >= block_size {
            let mut raw = self.pool.buffer();
            raw.resize(self.options.block_size as usize, 0);
            fill(reader, &mut raw, size, size - remaining)?;
            remaining -= block_size;
            if is_zero(&raw) {
                self.pool.return_buffer(raw);
                self.pool.mark(Label::Hole);
            } else {
                self.pool.submit(Label::Data, raw);
            }
            self.settle(false)?;
        }
        let mut sum = None;
        let mut tail = Tail::None;
        if remaining > 0 {
            let mut bytes = std::mem::take(&mut self.tail);
            bytes.resize(remaining as usize, 0);
            fill(reader, &mut bytes, size, size - remaining)?;
            if is_zero(&bytes) {
                tail = Tail::Hole;
                self.pool.mark(Label::Hole);
            } else {
                let digest = Sha256::digest(&bytes).into();
                tail = Tail::Fragment(self.place_tail(digest, fragment::Bytes::Here(&bytes)));
                sum = Some(digest);
            }
            self.tail = bytes;
        }
        self.bodies[number as usize].tail = tail;
        if size >= block_size || matches!(tail, Tail::Hole) {
            self.pool.mark(Label::EndOfRun(number));
        }
        self.settle(false)?;
        Ok((BodyId(number), sum))
    }

    fn new_body(&mut self, size: u64) -> Result<u32, WriteError> {
        let number =
            u32::try_from(self.bodies.len()).map_err(|_| WriteError::TooLarge { what: "the number of files" })?;
        self.bodies.push(Body { size, run: None, tail: Tail::None });
        Ok(number)
    }

    /// Writes the tables and the superblock. `body_of` tells the body of each file that is not empty; those with
    /// [`Source::Inline`] may be left to the writer.
    pub fn finish(
        mut self,
        tree: &Tree,
        body_of: &dyn Fn(InodeId) -> Option<BodyId>,
    ) -> Result<(W, Summary), WriteError> {
        let plan = inodes::Plan::new(tree)?;
        let bodies = self.assign_bodies(tree, &plan, body_of)?;
        self.close_group(None)?;
        self.settle(true)?;
        self.output.flush_copy()?;
        let mut compressor = Compressor::new(self.options.compression, self.options.block_size)?;
        let tables = inodes::Tables::build(&self, tree, &plan, &bodies, &mut compressor)?;
        self.write_tables(tables, &plan, &mut compressor)
    }

    /// Ends without tables: for blocks that are kept, and are no image by themselves. `out` is left behind the last block, which ends at the offset.
    pub fn into_blocks(mut self) -> Result<(W, u64, Vec<Segment>), WriteError> {
        self.close_group(None)?;
        self.settle(true)?;
        self.output.flush_copy()?;
        let segments = self.take_segments();
        let (out, end) = self.output.into_blocks()?;
        Ok((out, end, segments))
    }

    /// Takes finished blocks from the queue to the output: those that are ready, as many as make room, or all.
    fn settle(&mut self, all: bool) -> Result<(), WriteError> {
        while let Some((label, block)) = self.pool.next(all || self.pool.is_full())? {
            let done = match label {
                Label::Copied => self.emit_copied()?,
                label => self.output.emit(label, block.as_ref())?,
            };
            if let Some((body, run)) = done {
                self.bodies[body as usize].run = Some(run);
            }
            if let Some(block) = block {
                self.pool.recycle(block);
            }
        }
        Ok(())
    }

    /// Finds the body of every file, by inode; writes those inline ones that the caller left.
    fn assign_bodies(
        &mut self,
        tree: &Tree,
        plan: &inodes::Plan,
        body_of: &dyn Fn(InodeId) -> Option<BodyId>,
    ) -> Result<Vec<Option<BodyId>>, WriteError> {
        let mut bodies = vec![None; tree.capacity()];
        for id in &plan.order {
            let Node::File { size, source } = &tree.inode(*id).node else { continue };
            let body = match (body_of(*id), source) {
                (Some(body), _) => body,
                (None, _) if *size == 0 => continue,
                (None, Source::Inline(bytes)) => self.body(&mut &bytes[..], *size)?,
                (None, Source::Layer { .. }) => {
                    return Err(WriteError::BodyMissing { path: inodes::path_of(tree, *id), size: *size });
                }
            };
            let found = self.bodies[body.0 as usize].size;
            if found != *size {
                return Err(WriteError::BodySize { path: inodes::path_of(tree, *id), size: *size, found });
            }
            bodies[id.0 as usize] = Some(body);
        }
        Ok(bodies)
    }

    fn write_tables(
        mut self,
        tables: inodes::Tables,
        plan: &inodes::Plan,
        compressor: &mut Compressor,
    ) -> Result<(W, Summary), WriteError> {
        let inode_table_start = self.output.position();
        self.output.write(&tables.inodes)?;
        let directory_table_start = self.output.position();
        self.output.write(&tables.directories)?;
        let fragments: Vec<u8> = self.output.fragments.iter().flat_map(format::FragmentEntry::encode).collect();
        let fragment_table_start = self.write_table(&fragments, compressor)?;
        let lookup_table_start = self.write_table(&tables.export, compressor)?;
        let id_table_start = self.write_table(tables.ids.entries(), compressor)?;
        let place = self.output.position();
        let mut xattr_id_table_start = format::NO_TABLE;
        if let Some((bytes, header_at)) = tables.xattrs.finish(place, compressor)? {
            self.output.write(&bytes)?;
            xattr_id_table_start = place + header_at;
        }
        let bytes_used = self.output.position();
        self.output.write(&vec![0; (bytes_used.next_multiple_of(PADDING) - bytes_used) as usize])?;
        let superblock = Superblock {
            inodes: plan.order.len() as u32,
            mkfs_time: self.options.modification_time,
            block_size: self.options.block_size,
            fragments: self.output.fragments.len() as u32,
            compression: self.options.compression.codec().number(),
            flags: self.flags(),
            no_ids: tables.ids.count(),
            root_inode: tables.root,
            bytes_used,
            id_table_start,
            xattr_id_table_start,
            inode_table_start,
            directory_table_start,
            fragment_table_start,
            lookup_table_start,
        };
        let summary = Summary {
            bytes_used,
            size: self.output.position(),
            reach: self.output.reach,
            inodes: superblock.inodes,
            fragments: superblock.fragments,
            duplicates: self.output.shared_runs + self.shared_tails,
            segments: self.take_segments(),
            unsupported_xattrs: tables.unsupported_xattrs,
        };
        Ok((self.output.finish(&superblock.encode())?, summary))
    }

    fn write_table(&mut self, entries: &[u8], compressor: &mut Compressor) -> Result<u64, WriteError> {
        let place = self.output.position();
        let (bytes, index_at) = super::tables::encode_table(entries, place, compressor)?;
        self.output.write(&bytes)?;
        Ok(place + index_at)
    }

    fn flags(&self) -> u16 {
        let mut flags = format::FLAG_ALWAYS_FRAGMENTS | format::FLAG_DUPLICATES | format::FLAG_EXPORTABLE;
        if self.options.compression == Compression::None {
            flags |= format::FLAG_UNCOMPRESSED_INODES
                | format::FLAG_UNCOMPRESSED_DATA
                | format::FLAG_UNCOMPRESSED_FRAGMENTS
                | format::FLAG_UNCOMPRESSED_XATTRS
                | format::FLAG_UNCOMPRESSED_IDS;
        }
        if self.options.compression.option_record().is_some() {
            flags |= format::FLAG_COMPRESSOR_OPTIONS;
        }
        flags
    }
}

/// Fills the buffer; `before` bytes of the body's `size` were read already.
fn fill(reader: &mut dyn Read, buffer: &mut [u8], size: u64, before: u64) -> Result<(), WriteError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => return Err(WriteError::Short { read: before + filled as u64, size }),
            Ok(count) => filled += count,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(WriteError::Read { read: before + filled as u64, size, cause }),
        }
    }
    Ok(())
}
