//! Reads images: the whole tree at once, bodies as they are asked for.
//!
//! Everything in an image is taken as hostile: each length is checked against what is there, and the memory for a tree is bounded by
//! the image's size (`Budget`). Only metadata blocks that are asked for are decompressed.

mod body;
mod metadata;
mod source;
mod walk;

pub use body::BodyReader;
pub use source::{ReadAt, Window};

use super::compress::{Codec, CodecError, Decompressor};
use super::format::inode::{self, Inode};
use super::format::{
    FRAGMENT_ENTRY_SIZE, FragmentEntry, InodeReference, METADATA_SIZE, NO_TABLE, SUPERBLOCK_SIZE, Superblock,
    SuperblockError, XATTR_ID_SIZE, XATTR_TABLE_HEADER_SIZE, XattrId,
};
use crate::tree::{InodeId, Tree};
use metadata::{Blocks, Cursor};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Fragments kept decompressed: neighbours in the tree mostly share one.
const FRAGMENTS_KEPT: usize = 8;

/// Why an image was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {length} bytes at {offset} of the squashfs image: {cause}")]
    Source { offset: u64, length: usize, cause: io::Error },
    #[error("not a squashfs image that can be read: {0}")]
    Superblock(#[from] SuperblockError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the squashfs image is cut off: it has {found} of {expected} bytes")]
    CutOff { found: u64, expected: u64 },
    #[error("the squashfs image is damaged: {subject} {cause}")]
    Damaged { subject: String, cause: &'static str },
    #[error("reading the squashfs image's tree would take more than {limit} bytes of memory")]
    Memory { limit: u64 },
    #[error("inode {0:?} is no file of this squashfs image")]
    NoFile(InodeId),
}

pub(super) fn damaged(subject: impl Into<String>, cause: &'static str) -> ReadError {
    ReadError::Damaged { subject: subject.into(), cause }
}

/// An image that was opened. May be shared by threads that read bodies.
pub struct Image<S> {
    /// All names with their metadata; files have [`crate::tree::Source::Layer`] with layer 0 and one of their paths.
    pub tree: Tree,
    superblock: Superblock,
    blocks: Blocks<S>,
    ids: Vec<u32>,
    xattrs: Option<XattrPlace>,
    /// By [`InodeId`].
    references: Vec<InodeReference>,
    holes: u64,
    decompressors: Mutex<Vec<Decompressor>>,
    fragments: Mutex<VecDeque<(u32, Arc<Vec<u8>>)>>,
}

struct XattrPlace {
    lists: Range<u64>,
    count: u32,
}

impl<S: ReadAt> Image<S> {
    /// Reads superblock, tables and the whole tree. `source` begins with the superblock and may be longer than the image.
    pub fn open(source: S) -> Result<Image<S>, ReadError> {
        let mut bytes = [0; SUPERBLOCK_SIZE];
        let found = source.length();
        if found < SUPERBLOCK_SIZE as u64 {
            return Err(ReadError::CutOff { found, expected: SUPERBLOCK_SIZE as u64 });
        }
        source::read(&source, &mut bytes, 0)?;
        let superblock = Superblock::parse(&bytes)?;
        if found < superblock.bytes_used {
            return Err(ReadError::CutOff { found, expected: superblock.bytes_used });
        }
        check_layout(&superblock)?;
        let codec = Codec::from_number(superblock.compression)?;
        let blocks = Blocks::new(source, Decompressor::new(codec)?);
        let mut image = Image {
            tree: Tree::new(),
            superblock,
            blocks,
            ids: Vec::new(),
            xattrs: None,
            references: Vec::new(),
            holes: 0,
            decompressors: Mutex::new(Vec::new()),
            fragments: Mutex::new(VecDeque::new()),
        };
        image.ids = image.read_ids()?;
        image.xattrs = image.find_xattrs()?;
        let walked = walk::read(&image)?;
        (image.tree, image.references, image.holes) = (walked.tree, walked.references, walked.holes);
        Ok(image)
    }

    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Bytes of files that are holes, as the image says: they take no room when it is written out.
    pub fn holes(&self) -> u64 {
        self.holes
    }

    /// The bytes of a file. [`ReadError::NoFile`] for any other inode.
    pub fn body(&self, id: InodeId) -> Result<BodyReader<'_, S>, ReadError> {
        let reference = self.references.get(id.0 as usize).ok_or(ReadError::NoFile(id))?;
        let (inode, cursor) = self.inode(*reference)?;
        match inode.body {
            inode::Body::File { .. } => BodyReader::new(self, &inode, cursor),
            _ => Err(ReadError::NoFile(id)),
        }
    }

    pub(super) fn reference(&self, id: InodeId) -> Option<InodeReference> {
        self.references.get(id.0 as usize).copied()
    }

    /// An inode, and the place behind it, where a file has its size words.
    pub(super) fn inode(&self, reference: InodeReference) -> Result<(Inode, Cursor<'_, S>), ReadError> {
        let table = self.superblock.inode_table_start..self.superblock.directory_table_start;
        let mut cursor = self.blocks.cursor(table, reference)?;
        let inode = Inode::parse(&mut |buffer| cursor.read(buffer), |cause| {
            damaged(format!("the inode at {}:{}", reference.block(), reference.offset()), cause)
        })?;
        Ok((inode, cursor))
    }

    pub(super) fn listing(&self, reference: InodeReference) -> Result<Cursor<'_, S>, ReadError> {
        let end = self.superblock.bytes_used;
        self.blocks.cursor(self.superblock.directory_table_start..end, reference)
    }

    pub(super) fn xattr_list(&self, place: InodeReference) -> Result<Cursor<'_, S>, ReadError> {
        let xattrs = self.xattrs.as_ref().ok_or_else(|| damaged("the attribute table", "is absent"))?;
        self.blocks.cursor(xattrs.lists.clone(), place)
    }

    pub(super) fn xattr_id(&self, number: u32) -> Result<XattrId, ReadError> {
        let count = self.xattrs.as_ref().map_or(0, |xattrs| xattrs.count);
        if number >= count {
            return Err(damaged(format!("attribute list {number}"), "is not in the table"));
        }
        let mut entry = [0; XATTR_ID_SIZE];
        let index = self.superblock.xattr_id_table_start + XATTR_TABLE_HEADER_SIZE as u64;
        self.read_entry(index, number, &mut entry)?;
        Ok(XattrId::parse(&entry))
    }

    /// A fragment's bytes; the last few stay decompressed.
    pub(super) fn fragment(
        &self,
        number: u32,
        decompressor: &mut Decompressor,
        scratch: &mut Vec<u8>,
    ) -> Result<Arc<Vec<u8>>, ReadError> {
        let kept = || self.fragments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = kept().iter().find(|(kept, _)| *kept == number) {
            return Ok(Arc::clone(bytes));
        }
        if number >= self.superblock.fragments {
            return Err(damaged(format!("fragment {number}"), "is not in the table"));
        }
        let mut entry = [0; FRAGMENT_ENTRY_SIZE];
        self.read_entry(self.superblock.fragment_table_start, number, &mut entry)?;
        let entry = FragmentEntry::parse(&entry);
        let mut bytes = Vec::new();
        self.read_data(entry.start_block, entry.size, decompressor, scratch, &mut bytes)?;
        let bytes = Arc::new(bytes);
        let mut kept = kept();
        if kept.len() == FRAGMENTS_KEPT {
            kept.pop_front();
        }
        kept.push_back((number, Arc::clone(&bytes)));
        Ok(bytes)
    }

    /// Reads the data block at `offset` that has the given size word.
    pub(super) fn read_data(
        &self,
        offset: u64,
        word: u32,
        decompressor: &mut Decompressor,
        scratch: &mut Vec<u8>,
        output: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let block_size = self.superblock.block_size as usize;
        let size = (word & !super::format::DATA_UNCOMPRESSED) as usize;
        let subject = || format!("the data block at {offset}");
        if size > block_size {
            return Err(damaged(subject(), "is larger than the block size"));
        }
        if offset.checked_add(size as u64).is_none_or(|end| end > self.superblock.bytes_used) {
            return Err(damaged(subject(), "lies outside of the image"));
        }
        let source = self.blocks.source();
        if word & super::format::DATA_UNCOMPRESSED != 0 {
            output.resize(size, 0);
            return source::read(source, output, offset);
        }
        scratch.resize(size, 0);
        source::read(source, scratch, offset)?;
        Ok(decompressor.decompress(scratch, block_size, output)?)
    }

    pub(super) fn take_decompressor(&self) -> Result<Decompressor, ReadError> {
        let spare = self.decompressors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match spare {
            Some(decompressor) => Ok(decompressor),
            None => Ok(Decompressor::new(Codec::from_number(self.superblock.compression)?)?),
        }
    }

    pub(super) fn return_decompressor(&self, decompressor: Decompressor) {
        self.decompressors.lock().unwrap_or_else(PoisonError::into_inner).push(decompressor);
    }

    fn read_ids(&self) -> Result<Vec<u32>, ReadError> {
        let mut ids = Vec::with_capacity(usize::from(self.superblock.no_ids));
        for number in 0..self.superblock.no_ids {
            let mut entry = [0; 4];
            self.read_entry(self.superblock.id_table_start, u32::from(number), &mut entry)?;
            ids.push(u32::from_le_bytes(entry));
        }
        Ok(ids)
    }

    fn find_xattrs(&self) -> Result<Option<XattrPlace>, ReadError> {
        let start = self.superblock.xattr_id_table_start;
        if start == NO_TABLE {
            return Ok(None);
        }
        let mut header = [0; XATTR_TABLE_HEADER_SIZE];
        self.read_plain(start, &mut header)?;
        let lists_start = super::format::u64_at(&header, 0);
        if lists_start > start {
            return Err(damaged("the attribute table", "begins after its end"));
        }
        Ok(Some(XattrPlace { lists: lists_start..start, count: super::format::u32_at(&header, 8) }))
    }

    /// Reads one entry of a two-level table whose second level is at `index`.
    fn read_entry(&self, index: u64, number: u32, entry: &mut [u8]) -> Result<(), ReadError> {
        let entries_in_block = METADATA_SIZE as u64 / entry.len() as u64;
        let (block, within) = (u64::from(number) / entries_in_block, u64::from(number) % entries_in_block);
        let mut pointer = [0; 8];
        let at = index.checked_add(block * 8).ok_or_else(|| damaged("a table", "lies outside of the image"))?;
        self.read_plain(at, &mut pointer)?;
        let place = InodeReference::new(0, (within * entry.len() as u64) as u16);
        self.blocks.cursor(u64::from_le_bytes(pointer)..self.superblock.bytes_used, place)?.read(entry)
    }

    fn read_plain(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.superblock.bytes_used) {
            return Err(damaged("a table", "lies outside of the image"));
        }
        source::read(self.blocks.source(), buffer, offset)
    }
}

fn check_layout(superblock: &Superblock) -> Result<(), ReadError> {
    let ordered = SUPERBLOCK_SIZE as u64 <= superblock.inode_table_start
        && superblock.inode_table_start < superblock.directory_table_start
        && superblock.directory_table_start < superblock.bytes_used;
    if ordered { Ok(()) } else { Err(damaged("the order of the tables", "is not that of the format")) }
}

#[cfg(test)]
mod tests;
