//! Metadata: a stream of bytes cut into blocks of 8 KiB, each compressed and found by its place in the compressed stream.

use super::compress::{CodecError, Compressor};
use super::format::{InodeReference, METADATA_SIZE, METADATA_UNCOMPRESSED};

/// Builds one table in memory.
#[derive(Default)]
pub(super) struct MetadataWriter {
    pending: Vec<u8>,
    scratch: Vec<u8>,
    blocks: Vec<u8>,
    /// Where each block begins in `blocks`.
    starts: Vec<u64>,
}

impl MetadataWriter {
    /// Where the next byte will be.
    pub(super) fn position(&self) -> InodeReference {
        InodeReference::new(self.blocks.len() as u64, self.pending.len() as u16)
    }

    pub(super) fn write(&mut self, mut bytes: &[u8], compressor: &mut Compressor) -> Result<(), CodecError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(METADATA_SIZE - self.pending.len()));
            self.pending.extend_from_slice(now);
            // Invariant: `pending` is never full between calls, so that positions have offsets below 8192.
            if self.pending.len() == METADATA_SIZE {
                self.flush(compressor)?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Ends the table: its bytes, and the start of each block in them.
    pub(super) fn finish(mut self, compressor: &mut Compressor) -> Result<(Vec<u8>, Vec<u64>), CodecError> {
        if !self.pending.is_empty() {
            self.flush(compressor)?;
        }
        Ok((self.blocks, self.starts))
    }

    fn flush(&mut self, compressor: &mut Compressor) -> Result<(), CodecError> {
        self.starts.push(self.blocks.len() as u64);
        let smaller = compressor.compress(&self.pending, &mut self.scratch)?;
        let stored = if smaller { &self.scratch } else { &self.pending };
        encode_block(stored, !smaller, &mut self.blocks);
        self.pending.clear();
        Ok(())
    }
}

/// Appends one block with its header.
pub(super) fn encode_block(stored: &[u8], uncompressed: bool, output: &mut Vec<u8>) {
    let header = stored.len() as u16 | if uncompressed { METADATA_UNCOMPRESSED } else { 0 };
    output.extend_from_slice(&header.to_le_bytes());
    output.extend_from_slice(stored);
}
