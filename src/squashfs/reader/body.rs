//! The bytes of one file: blocks, holes, tail.

use super::super::compress::Decompressor;
use super::super::format::inode::{Body, Inode};
use super::super::format::{DATA_UNCOMPRESSED, NO_FRAGMENT};
use super::metadata::Cursor;
use super::source::ReadAt;
use super::{Image, ReadError, damaged};
use std::io::{self, Read};

/// Reads a file from begin to end; after the last byte, nothing.
pub struct BodyReader<'a, S: ReadAt> {
    image: &'a Image<S>,
    words: Cursor<'a, S>,
    /// `None` only while being dropped.
    decompressor: Option<Decompressor>,
    inode_number: u32,
    /// Bytes of the file that are not in `block` or `zeros` yet.
    remaining: u64,
    blocks_left: u64,
    /// Where the next block is.
    position: u64,
    fragment: u32,
    fragment_offset: u32,
    block: Vec<u8>,
    /// Bytes of `block` that were given out.
    given: usize,
    /// Bytes of a hole that are still to be given out.
    zeros: u64,
    scratch: Vec<u8>,
}

impl<'a, S: ReadAt> BodyReader<'a, S> {
    pub(super) fn new(
        image: &'a Image<S>,
        inode: &Inode,
        words: Cursor<'a, S>,
    ) -> Result<BodyReader<'a, S>, ReadError> {
        let Body::File { start_block, file_size, fragment, offset, .. } = inode.body else {
            unreachable!("the caller looked at the kind");
        };
        let block_size = u64::from(image.superblock.block_size);
        let blocks_left = if fragment == NO_FRAGMENT { file_size.div_ceil(block_size) } else { file_size / block_size };
        Ok(BodyReader {
            image,
            words,
            decompressor: Some(image.take_decompressor()?),
            inode_number: inode.inode_number,
            remaining: file_size,
            blocks_left,
            position: start_block,
            fragment,
            fragment_offset: offset,
            block: Vec::new(),
            given: 0,
            zeros: 0,
            scratch: Vec::new(),
        })
    }

    /// Passes over `count` bytes, or to the end; whole blocks are not decompressed.
    pub fn skip(&mut self, count: u64) -> io::Result<()> {
        let block_size = u64::from(self.image.superblock.block_size);
        let mut left = count;
        while left > 0 {
            let given = left.min((self.block.len() - self.given) as u64);
            self.given += given as usize;
            left -= given;
            let zeros = left.min(self.zeros);
            self.zeros -= zeros;
            left -= zeros;
            if left == 0 || self.remaining == 0 {
                break;
            }
            if self.blocks_left > 0 && left >= self.remaining.min(block_size) {
                let word = self.words.read_array().map(u32::from_le_bytes);
                let word = word.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let passed = self.remaining.min(block_size);
                self.position += u64::from(word & !DATA_UNCOMPRESSED);
                (self.blocks_left, self.remaining, left) =
                    (self.blocks_left - 1, self.remaining - passed, left - passed);
            } else {
                self.load()?;
            }
        }
        Ok(())
    }

    fn load(&mut self) -> io::Result<()> {
        let advanced = self.advance();
        if advanced.is_err() {
            // Invariant: after an error nothing more is given out as if it were content.
            (self.remaining, self.zeros) = (0, 0);
            self.block.clear();
            self.given = 0;
        }
        advanced.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn advance(&mut self) -> Result<(), ReadError> {
        let wanted = self.remaining.min(u64::from(self.image.superblock.block_size));
        self.remaining -= wanted;
        if self.blocks_left == 0 {
            return self.take_tail(wanted as usize);
        }
        self.blocks_left -= 1;
        let word = u32::from_le_bytes(self.words.read_array()?);
        let size = word & !DATA_UNCOMPRESSED;
        if size == 0 {
            self.zeros = wanted;
            return Ok(());
        }
        let decompressor = self.decompressor.as_mut().expect("held until the drop");
        self.given = 0;
        self.image.read_data(self.position, word, decompressor, &mut self.scratch, &mut self.block)?;
        if self.block.len() as u64 != wanted {
            return Err(self.damaged("has a block of the wrong length"));
        }
        self.position += u64::from(size);
        Ok(())
    }

    fn take_tail(&mut self, wanted: usize) -> Result<(), ReadError> {
        let decompressor = self.decompressor.as_mut().expect("held until the drop");
        let fragment = self.image.fragment(self.fragment, decompressor, &mut self.scratch)?;
        let start = self.fragment_offset as usize;
        let tail = start.checked_add(wanted).and_then(|end| fragment.get(start..end));
        let tail = tail.ok_or_else(|| self.damaged("has its tail outside of its fragment"))?;
        self.given = 0;
        self.block.clear();
        self.block.extend_from_slice(tail);
        Ok(())
    }

    fn damaged(&self, cause: &'static str) -> ReadError {
        damaged(format!("the file with inode number {}", self.inode_number), cause)
    }
}

impl<S: ReadAt> Read for BodyReader<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.given == self.block.len() && self.zeros == 0 && self.remaining > 0 {
            self.load()?;
        }
        if self.zeros > 0 {
            let count = self.zeros.min(buffer.len() as u64);
            buffer[..count as usize].fill(0);
            self.zeros -= count;
            return Ok(count as usize);
        }
        let here = &self.block[self.given..];
        let count = here.len().min(buffer.len());
        buffer[..count].copy_from_slice(&here[..count]);
        self.given += count;
        Ok(count)
    }
}

impl<S: ReadAt> Drop for BodyReader<'_, S> {
    fn drop(&mut self) {
        if let Some(decompressor) = self.decompressor.take() {
            self.image.return_decompressor(decompressor);
        }
    }
}
