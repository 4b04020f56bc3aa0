//! Directory listings: runs of sorted entries, each run under a header that names their inodes' metadata block.

use super::{u16_at, u32_at};

pub const HEADER_SIZE: usize = 12;
pub const ENTRY_SIZE: usize = 8;
/// Most entries that one header may have.
pub const MAXIMUM_RUN: usize = 256;
/// Longest name that Linux allows.
pub const MAXIMUM_NAME: usize = 255;

/// Stands before a run of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Entries in the run, 1 to 256.
    pub count: u32,
    /// The inode table's metadata block that holds all inodes of the run.
    pub start_block: u32,
    /// Entries' inode numbers are stored relative to this.
    pub inode_number: u32,
}

impl Header {
    pub fn parse(bytes: &[u8; HEADER_SIZE]) -> Header {
        Header {
            count: u32_at(bytes, 0).saturating_add(1),
            start_block: u32_at(bytes, 4),
            inode_number: u32_at(bytes, 8),
        }
    }

    pub fn encode(&self, bytes: &mut Vec<u8>) {
        for word in [self.count - 1, self.start_block, self.inode_number] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
}

/// One name; `name_size` bytes of it follow the fixed part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub offset: u16,
    pub inode_number_delta: i16,
    /// Basic type of the inode.
    pub inode_type: u16,
    pub name_size: usize,
}

impl Entry {
    pub fn parse(bytes: &[u8; ENTRY_SIZE]) -> Entry {
        Entry {
            offset: u16_at(bytes, 0),
            inode_number_delta: u16_at(bytes, 2) as i16,
            inode_type: u16_at(bytes, 4),
            name_size: usize::from(u16_at(bytes, 6)) + 1,
        }
    }

    pub fn encode(&self, bytes: &mut Vec<u8>) {
        for half in [self.offset, self.inode_number_delta as u16, self.inode_type, (self.name_size - 1) as u16] {
            bytes.extend_from_slice(&half.to_le_bytes());
        }
    }
}
