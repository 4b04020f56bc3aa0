//! The tables behind inodes and directories, while they are being built: owners, attributes, and the two-level form of a table.

use super::compress::{CodecError, Compressor};
use super::format::{NO_XATTR, XATTR_PREFIXES, XattrId};
use super::metadata::MetadataWriter;
use crate::tree::Xattrs;
use std::collections::HashMap;

/// User and group ids, numbered in order of first use.
#[derive(Default)]
pub(super) struct IdTable {
    index: HashMap<u32, u16>,
    ids: Vec<u8>,
}

impl IdTable {
    /// `None` when 65,535 ids are taken, all that the format can hold.
    pub(super) fn add(&mut self, id: u32) -> Option<u16> {
        if let Some(index) = self.index.get(&id) {
            return Some(*index);
        }
        let index = u16::try_from(self.index.len()).ok().filter(|index| *index < u16::MAX)?;
        self.index.insert(id, index);
        self.ids.extend_from_slice(&id.to_le_bytes());
        Some(index)
    }

    pub(super) fn count(&self) -> u16 {
        self.index.len() as u16
    }

    /// The table's entries, 4 bytes each.
    pub(super) fn entries(&self) -> &[u8] {
        &self.ids
    }
}

/// Attribute lists; inodes with equal lists share one.
#[derive(Default)]
pub(super) struct XattrTable {
    known: HashMap<Vec<u8>, u32>,
    lists: MetadataWriter,
    ids: Vec<u8>,
}

impl XattrTable {
    /// Gives the number of the list, or [`NO_XATTR`] when nothing of it can be stored; `unsupported` is told each name that cannot.
    pub(super) fn add(
        &mut self,
        xattrs: &Xattrs,
        compressor: &mut Compressor,
        mut unsupported: impl FnMut(&[u8]),
    ) -> Result<u32, CodecError> {
        let mut list = Vec::new();
        let mut count = 0;
        for (name, value) in xattrs {
            if encode_xattr(name, value, &mut list) {
                count += 1;
            } else {
                unsupported(name);
            }
        }
        if count == 0 {
            return Ok(NO_XATTR);
        }
        if let Some(number) = self.known.get(&list) {
            return Ok(*number);
        }
        let number = self.known.len() as u32;
        let id = XattrId { xattr: self.lists.position(), count, size: list.len() as u32 };
        self.ids.extend_from_slice(&id.encode());
        self.lists.write(&list, compressor)?;
        self.known.insert(list, number);
        Ok(number)
    }

    /// The whole table for a place in the image, and the offset in it that the superblock points to. `None` when there are no lists.
    pub(super) fn finish(self, place: u64, compressor: &mut Compressor) -> Result<Option<(Vec<u8>, u64)>, CodecError> {
        if self.known.is_empty() {
            return Ok(None);
        }
        let count = self.known.len() as u32;
        let (mut bytes, _) = self.lists.finish(compressor)?;
        let (blocks, starts) = encode_blocks(&self.ids, compressor)?;
        let ids_at = place + bytes.len() as u64;
        bytes.extend_from_slice(&blocks);
        let header_at = bytes.len() as u64;
        bytes.extend_from_slice(&place.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for start in starts {
            bytes.extend_from_slice(&(ids_at + start).to_le_bytes());
        }
        Ok(Some((bytes, header_at)))
    }
}

/// A two-level table for a place in the image: the blocks of entries, then the place of each block. The superblock
/// points to the second level, whose offset in the bytes is given too.
pub(super) fn encode_table(
    entries: &[u8],
    place: u64,
    compressor: &mut Compressor,
) -> Result<(Vec<u8>, u64), CodecError> {
    let (mut bytes, starts) = encode_blocks(entries, compressor)?;
    let index_at = bytes.len() as u64;
    for start in starts {
        bytes.extend_from_slice(&(place + start).to_le_bytes());
    }
    Ok((bytes, index_at))
}

fn encode_blocks(entries: &[u8], compressor: &mut Compressor) -> Result<(Vec<u8>, Vec<u64>), CodecError> {
    let mut writer = MetadataWriter::default();
    writer.write(entries, compressor)?;
    writer.finish(compressor)
}

fn encode_xattr(name: &[u8], value: &[u8], list: &mut Vec<u8>) -> bool {
    for (number, prefix) in XATTR_PREFIXES.iter().enumerate() {
        let Some(rest) = name.strip_prefix(*prefix).filter(|rest| !rest.is_empty()) else { continue };
        let (Ok(name_size), Ok(value_size)) = (u16::try_from(rest.len()), u32::try_from(value.len())) else {
            return false;
        };
        list.extend_from_slice(&(number as u16).to_le_bytes());
        list.extend_from_slice(&name_size.to_le_bytes());
        list.extend_from_slice(rest);
        list.extend_from_slice(&value_size.to_le_bytes());
        list.extend_from_slice(value);
        return true;
    }
    false
}
