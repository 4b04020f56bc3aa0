//! Metadata blocks by their place, the last ones kept, and cursors that read across them.

use super::super::compress::Decompressor;
use super::super::format::{InodeReference, METADATA_SIZE, METADATA_UNCOMPRESSED};
use super::source::{self, ReadAt};
use super::{ReadError, damaged};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks kept decompressed, 8 KiB each.
const KEPT: usize = 256;

pub(super) struct Blocks<S> {
    source: S,
    cache: Mutex<Cache>,
}

struct Cache {
    decompressor: Decompressor,
    scratch: Vec<u8>,
    blocks: HashMap<u64, Arc<Block>>,
    /// In the order of their coming.
    order: VecDeque<u64>,
}

struct Block {
    bytes: Vec<u8>,
    /// Where the next block begins.
    next: u64,
}

impl<S: ReadAt> Blocks<S> {
    pub(super) fn new(source: S, decompressor: Decompressor) -> Blocks<S> {
        let cache = Cache { decompressor, scratch: Vec::new(), blocks: HashMap::new(), order: VecDeque::new() };
        Blocks { source, cache: Mutex::new(cache) }
    }

    pub(super) fn source(&self) -> &S {
        &self.source
    }

    /// A cursor at a place of the table that takes the given bytes of the image.
    pub(super) fn cursor(&self, table: Range<u64>, place: InodeReference) -> Result<Cursor<'_, S>, ReadError> {
        let at = table.start.checked_add(place.block()).filter(|at| *at < table.end);
        let at = at.ok_or_else(|| damaged(format!("metadata block {}", place.block()), "lies outside of its table"))?;
        let block = self.block(at, table.end)?;
        let offset = usize::from(place.offset());
        if offset > block.bytes.len() {
            return Err(damaged(format!("offset {offset}"), "lies outside of its metadata block"));
        }
        Ok(Cursor { blocks: self, end: table.end, block, offset })
    }

    fn block(&self, at: u64, end: u64) -> Result<Arc<Block>, ReadError> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let block = match cache.blocks.get(&at) {
            Some(block) => Arc::clone(block),
            None => {
                let block = Arc::new(cache.read(&self.source, at, end)?);
                cache.keep(at, &block);
                block
            }
        };
        if block.next > end {
            return Err(damaged(format!("the metadata block at {at}"), "reaches beyond its table"));
        }
        Ok(block)
    }
}

impl Cache {
    fn read<S: ReadAt>(&mut self, source: &S, at: u64, end: u64) -> Result<Block, ReadError> {
        let subject = || format!("the metadata block at {at}");
        let mut header = [0; 2];
        source::read(source, &mut header, at)?;
        let header = u16::from_le_bytes(header);
        let size = usize::from(header & !METADATA_UNCOMPRESSED);
        if size == 0 || size > METADATA_SIZE {
            return Err(damaged(subject(), "is empty or larger than 8 KiB"));
        }
        let next = at + 2 + size as u64;
        if next > end {
            return Err(damaged(subject(), "reaches beyond its table"));
        }
        self.scratch.resize(size, 0);
        source::read(source, &mut self.scratch, at + 2)?;
        if header & METADATA_UNCOMPRESSED != 0 {
            return Ok(Block { bytes: self.scratch.clone(), next });
        }
        let mut bytes = Vec::new();
        self.decompressor.decompress(&self.scratch, METADATA_SIZE, &mut bytes)?;
        if bytes.is_empty() {
            return Err(damaged(subject(), "holds nothing"));
        }
        Ok(Block { bytes, next })
    }

    fn keep(&mut self, at: u64, block: &Arc<Block>) {
        if self.order.len() == KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.blocks.remove(&oldest);
        }
        self.order.push_back(at);
        self.blocks.insert(at, Arc::clone(block));
    }
}

/// Reads a table's uncompressed bytes, from a place onwards.
pub(in super::super) struct Cursor<'a, S> {
    blocks: &'a Blocks<S>,
    end: u64,
    block: Arc<Block>,
    offset: usize,
}

impl<S: ReadAt> Cursor<'_, S> {
    /// Fills the buffer; the end of the table before that is an error.
    pub(in super::super) fn read(&mut self, mut buffer: &mut [u8]) -> Result<(), ReadError> {
        while !buffer.is_empty() {
            if self.offset == self.block.bytes.len() {
                if self.block.next >= self.end {
                    return Err(damaged("a metadata table", "ends too early"));
                }
                self.block = self.blocks.block(self.block.next, self.end)?;
                self.offset = 0;
            }
            let here = &self.block.bytes[self.offset..];
            let count = here.len().min(buffer.len());
            let (now, later) = buffer.split_at_mut(count);
            now.copy_from_slice(&here[..count]);
            self.offset += count;
            buffer = later;
        }
        Ok(())
    }

    pub(in super::super) fn read_array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }
}
