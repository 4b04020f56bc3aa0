//! On-disk structures of squashfs 4.0, little endian, with the names of the kernel's `squashfs_fs.h`.
//!
//! Source: Linux `Documentation/filesystems/squashfs.rst` and <https://dr-emann.github.io/squashfs/>.

pub mod directory;
pub mod inode;

/// `hsqs`.
pub const MAGIC: u32 = 0x7371_7368;
pub const SUPERBLOCK_SIZE: usize = 96;
pub const VERSION: (u16, u16) = (4, 0);
/// Uncompressed bytes in a metadata block.
pub const METADATA_SIZE: usize = 8192;
/// Bit of a metadata block's header: the block is stored as it is.
pub const METADATA_UNCOMPRESSED: u16 = 0x8000;
/// Bit of a data block's or fragment's size word: stored as it is.
pub const DATA_UNCOMPRESSED: u32 = 1 << 24;
pub const MINIMUM_BLOCK_SIZE: u32 = 4096;
pub const MAXIMUM_BLOCK_SIZE: u32 = 1 << 20;
/// The image is padded to this, so that a loop device shows its end.
pub const PADDING: u64 = 4096;
/// A table that is absent.
pub const NO_TABLE: u64 = u64::MAX;
pub const NO_FRAGMENT: u32 = u32::MAX;
pub const NO_XATTR: u32 = u32::MAX;

pub const FLAG_UNCOMPRESSED_INODES: u16 = 0x0001;
pub const FLAG_UNCOMPRESSED_DATA: u16 = 0x0002;
pub const FLAG_UNCOMPRESSED_FRAGMENTS: u16 = 0x0008;
pub const FLAG_ALWAYS_FRAGMENTS: u16 = 0x0020;
pub const FLAG_DUPLICATES: u16 = 0x0040;
pub const FLAG_EXPORTABLE: u16 = 0x0080;
pub const FLAG_UNCOMPRESSED_XATTRS: u16 = 0x0100;
pub const FLAG_COMPRESSOR_OPTIONS: u16 = 0x0400;
pub const FLAG_UNCOMPRESSED_IDS: u16 = 0x0800;

/// The first 96 bytes of an image. Table fields are byte offsets from the image's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    pub inodes: u32,
    pub mkfs_time: u32,
    pub block_size: u32,
    pub fragments: u32,
    pub compression: u16,
    pub flags: u16,
    pub no_ids: u16,
    pub root_inode: InodeReference,
    pub bytes_used: u64,
    pub id_table_start: u64,
    pub xattr_id_table_start: u64,
    pub inode_table_start: u64,
    pub directory_table_start: u64,
    pub fragment_table_start: u64,
    pub lookup_table_start: u64,
}

/// Why bytes are not a superblock that we read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    #[error("no squashfs magic number")]
    Magic,
    #[error("squashfs version {0}.{1}; only 4.0 is read")]
    Version(u16, u16),
    #[error("block size {0} is not a power of two between 4 KiB and 1 MiB")]
    BlockSize(u32),
    #[error("block size {block_size} and its logarithm {block_log} disagree")]
    BlockLog { block_size: u32, block_log: u16 },
}

impl Superblock {
    pub fn parse(bytes: &[u8; SUPERBLOCK_SIZE]) -> Result<Superblock, SuperblockError> {
        if u32_at(bytes, 0) != MAGIC {
            return Err(SuperblockError::Magic);
        }
        let version = (u16_at(bytes, 28), u16_at(bytes, 30));
        if version != VERSION {
            return Err(SuperblockError::Version(version.0, version.1));
        }
        let block_size = u32_at(bytes, 12);
        if !is_block_size(block_size) {
            return Err(SuperblockError::BlockSize(block_size));
        }
        let block_log = u16_at(bytes, 22);
        if u32::from(block_log) != block_size.trailing_zeros() {
            return Err(SuperblockError::BlockLog { block_size, block_log });
        }
        Ok(Superblock {
            inodes: u32_at(bytes, 4),
            mkfs_time: u32_at(bytes, 8),
            block_size,
            fragments: u32_at(bytes, 16),
            compression: u16_at(bytes, 20),
            flags: u16_at(bytes, 24),
            no_ids: u16_at(bytes, 26),
            root_inode: InodeReference(u64_at(bytes, 32)),
            bytes_used: u64_at(bytes, 40),
            id_table_start: u64_at(bytes, 48),
            xattr_id_table_start: u64_at(bytes, 56),
            inode_table_start: u64_at(bytes, 64),
            directory_table_start: u64_at(bytes, 72),
            fragment_table_start: u64_at(bytes, 80),
            lookup_table_start: u64_at(bytes, 88),
        })
    }

    pub fn encode(&self) -> [u8; SUPERBLOCK_SIZE] {
        let mut bytes = Vec::with_capacity(SUPERBLOCK_SIZE);
        for word in [MAGIC, self.inodes, self.mkfs_time, self.block_size, self.fragments] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let block_log = self.block_size.trailing_zeros() as u16;
        for half in [self.compression, block_log, self.flags, self.no_ids, VERSION.0, VERSION.1] {
            bytes.extend_from_slice(&half.to_le_bytes());
        }
        for offset in [
            self.root_inode.0,
            self.bytes_used,
            self.id_table_start,
            self.xattr_id_table_start,
            self.inode_table_start,
            self.directory_table_start,
            self.fragment_table_start,
            self.lookup_table_start,
        ] {
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        let mut block = [0; SUPERBLOCK_SIZE];
        block.copy_from_slice(&bytes);
        block
    }
}

/// Whether a block size is allowed: a power of two from 4 KiB to 1 MiB.
pub fn is_block_size(size: u32) -> bool {
    size.is_power_of_two() && (MINIMUM_BLOCK_SIZE..=MAXIMUM_BLOCK_SIZE).contains(&size)
}

/// Place of an inode or of an attribute list: metadata block (bytes from its table's start) and offset in its uncompressed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeReference(pub u64);

impl InodeReference {
    pub fn new(block: u64, offset: u16) -> InodeReference {
        InodeReference(block << 16 | u64::from(offset))
    }

    pub fn block(self) -> u64 {
        self.0 >> 16
    }

    pub fn offset(self) -> u16 {
        self.0 as u16
    }
}

/// One entry of the fragment table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentEntry {
    pub start_block: u64,
    pub size: u32,
}

pub const FRAGMENT_ENTRY_SIZE: usize = 16;

impl FragmentEntry {
    pub fn parse(bytes: &[u8; FRAGMENT_ENTRY_SIZE]) -> FragmentEntry {
        FragmentEntry { start_block: u64_at(bytes, 0), size: u32_at(bytes, 8) }
    }

    pub fn encode(&self) -> [u8; FRAGMENT_ENTRY_SIZE] {
        let mut bytes = [0; FRAGMENT_ENTRY_SIZE];
        bytes[..8].copy_from_slice(&self.start_block.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }
}

/// The prefixes of attribute names that the format can hold, by their number.
pub const XATTR_PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Bit of an attribute's type: its value is a reference to another's.
pub const XATTR_VALUE_OUT_OF_LINE: u16 = 0x0100;
pub const XATTR_ID_SIZE: usize = 16;
pub const XATTR_TABLE_HEADER_SIZE: usize = 16;

/// One entry of the attribute id table: where a list of attributes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XattrId {
    pub xattr: InodeReference,
    pub count: u32,
    pub size: u32,
}

impl XattrId {
    pub fn parse(bytes: &[u8; XATTR_ID_SIZE]) -> XattrId {
        XattrId { xattr: InodeReference(u64_at(bytes, 0)), count: u32_at(bytes, 8), size: u32_at(bytes, 12) }
    }

    pub fn encode(&self) -> [u8; XATTR_ID_SIZE] {
        let mut bytes = [0; XATTR_ID_SIZE];
        bytes[..8].copy_from_slice(&self.xattr.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }
}

/// Linux's `new_encode_dev`: 12 bits of major, 20 of minor. `None` if they do not fit.
pub fn encode_device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// Major and minor number of a device word.
pub fn decode_device(device: u32) -> (u32, u32) {
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
