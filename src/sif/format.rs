//! On-disk layout: a 128-byte global header, then a table of 585-byte descriptors, all little-endian and packed.

use crate::arch::Arch;

pub use super::codes::{DataType, FileSystem, HashType, MessageFormat, MessageType, PartitionType, SbomFormat};

pub const LAUNCH_SCRIPT: &str = "#!/usr/bin/env run-singularity\n";
pub const MAGIC: [u8; 10] = *b"SIF_MAGIC\0";
pub const VERSION: [u8; 3] = *b"01\0";
/// Header and descriptor architecture of an image without a primary partition.
pub const ARCH_UNKNOWN: [u8; 3] = *b"00\0";

pub const HEADER_SIZE: usize = 128;
pub const DESCRIPTOR_SIZE: usize = 585;
pub const NAME_SIZE: usize = 128;
pub const EXTRA_SIZE: usize = 384;
/// Where every writer so far puts the descriptor table.
pub const DESCRIPTORS_OFFSET: u64 = 4096;
pub const DESCRIPTOR_CAPACITY: u32 = 48;
/// Alignment of partitions, so that they can be mounted or mapped in place.
pub const PARTITION_ALIGNMENT: u64 = 4096;

/// Group and link numbers carry this mask where they mean a group.
pub const GROUP_MASK: u32 = 0xF000_0000;
pub const DEFAULT_GROUP: u32 = 1;

/// Spec: the time of deterministic images, Go's zero time (0001-01-01 00:00:00 UTC) in Unix seconds. Readers hide it.
pub const UNSET_TIME: i64 = -62_135_596_800;
pub const NIL_ID: [u8; 16] = [0; 16];

/// The global header. Offsets and sizes are bytes, times Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub launch_script: [u8; 32],
    pub magic: [u8; 10],
    pub version: [u8; 3],
    /// Architecture of the primary partition: two digits and NUL.
    pub arch: [u8; 3],
    pub id: [u8; 16],
    pub created_at: i64,
    pub modified_at: i64,
    pub descriptors_free: i64,
    pub descriptors_total: i64,
    pub descriptors_offset: i64,
    pub descriptors_size: i64,
    pub data_offset: i64,
    pub data_size: i64,
}

impl Header {
    /// The header of an image without objects.
    pub fn new(launch_script: &str, id: [u8; 16], time: i64, descriptor_capacity: u32) -> Header {
        let capacity = i64::from(descriptor_capacity);
        let descriptors_size = capacity * DESCRIPTOR_SIZE as i64;
        Header {
            launch_script: padded(launch_script.as_bytes()),
            magic: MAGIC,
            version: VERSION,
            arch: ARCH_UNKNOWN,
            id,
            created_at: time,
            modified_at: time,
            descriptors_free: capacity,
            descriptors_total: capacity,
            descriptors_offset: DESCRIPTORS_OFFSET as i64,
            descriptors_size,
            data_offset: DESCRIPTORS_OFFSET as i64 + descriptors_size,
            data_size: 0,
        }
    }

    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Header {
        let mut fields = Fields { bytes };
        Header {
            launch_script: fields.take(),
            magic: fields.take(),
            version: fields.take(),
            arch: fields.take(),
            id: fields.take(),
            created_at: i64::from_le_bytes(fields.take()),
            modified_at: i64::from_le_bytes(fields.take()),
            descriptors_free: i64::from_le_bytes(fields.take()),
            descriptors_total: i64::from_le_bytes(fields.take()),
            descriptors_offset: i64::from_le_bytes(fields.take()),
            descriptors_size: i64::from_le_bytes(fields.take()),
            data_offset: i64::from_le_bytes(fields.take()),
            data_size: i64::from_le_bytes(fields.take()),
        }
    }

    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = Vec::with_capacity(HEADER_SIZE);
        bytes.extend_from_slice(&self.launch_script);
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&self.version);
        bytes.extend_from_slice(&self.arch);
        bytes.extend_from_slice(&self.id);
        for number in [
            self.created_at,
            self.modified_at,
            self.descriptors_free,
            self.descriptors_total,
            self.descriptors_offset,
            self.descriptors_size,
            self.data_offset,
            self.data_size,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        padded(&bytes)
    }

    /// Architecture of the primary partition, if there is one that is known.
    pub fn arch(&self) -> Option<Arch> {
        arch_from_code(&self.arch)
    }

    /// Images that were made to be reproducible stay so when they are changed.
    pub fn is_deterministic(&self) -> bool {
        self.id == NIL_ID && self.created_at == UNSET_TIME
    }
}

/// What a link points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    None,
    Object(u32),
    Group(u32),
}

impl Link {
    pub fn from_raw(number: u32) -> Link {
        match number {
            number if number & GROUP_MASK == GROUP_MASK && number != GROUP_MASK => Link::Group(number & !GROUP_MASK),
            number if number & !GROUP_MASK == 0 => Link::None,
            number => Link::Object(number),
        }
    }

    pub fn to_raw(self) -> u32 {
        match self {
            Link::None => 0,
            Link::Object(id) => id,
            Link::Group(group) => group | GROUP_MASK,
        }
    }
}

/// One slot of the descriptor table. Offsets and sizes are bytes, times Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub data_type: DataType,
    pub used: bool,
    /// Slot index + 1.
    pub id: u32,
    /// With [`GROUP_MASK`]; the bare mask means no group.
    pub group_id: u32,
    /// See [`Link`].
    pub linked_id: u32,
    pub offset: i64,
    pub size: i64,
    /// The padding before the object, and the object.
    pub size_with_padding: i64,
    pub created_at: i64,
    pub modified_at: i64,
    pub uid: i64,
    pub gid: i64,
    pub name: [u8; NAME_SIZE],
    pub extra: [u8; EXTRA_SIZE],
}

impl Descriptor {
    /// A free slot: all zero.
    pub const UNUSED: Descriptor = Descriptor {
        data_type: DataType(0),
        used: false,
        id: 0,
        group_id: 0,
        linked_id: 0,
        offset: 0,
        size: 0,
        size_with_padding: 0,
        created_at: 0,
        modified_at: 0,
        uid: 0,
        gid: 0,
        name: [0; NAME_SIZE],
        extra: [0; EXTRA_SIZE],
    };

    pub fn decode(bytes: &[u8; DESCRIPTOR_SIZE]) -> Descriptor {
        let mut fields = Fields { bytes };
        Descriptor {
            data_type: DataType(i32::from_le_bytes(fields.take())),
            used: fields.take::<1>() != [0],
            id: u32::from_le_bytes(fields.take()),
            group_id: u32::from_le_bytes(fields.take()),
            linked_id: u32::from_le_bytes(fields.take()),
            offset: i64::from_le_bytes(fields.take()),
            size: i64::from_le_bytes(fields.take()),
            size_with_padding: i64::from_le_bytes(fields.take()),
            created_at: i64::from_le_bytes(fields.take()),
            modified_at: i64::from_le_bytes(fields.take()),
            uid: i64::from_le_bytes(fields.take()),
            gid: i64::from_le_bytes(fields.take()),
            name: fields.take(),
            extra: fields.take(),
        }
    }

    pub fn encode(&self) -> [u8; DESCRIPTOR_SIZE] {
        let mut bytes = Vec::with_capacity(DESCRIPTOR_SIZE);
        bytes.extend_from_slice(&self.data_type.0.to_le_bytes());
        bytes.push(u8::from(self.used));
        for number in [self.id, self.group_id, self.linked_id] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in
            [self.offset, self.size, self.size_with_padding, self.created_at, self.modified_at, self.uid, self.gid]
        {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.name);
        bytes.extend_from_slice(&self.extra);
        padded(&bytes)
    }

    /// Group number without the mask.
    pub fn group(&self) -> Option<u32> {
        Some(self.group_id & !GROUP_MASK).filter(|group| *group != 0)
    }

    pub fn link(&self) -> Link {
        Link::from_raw(self.linked_id)
    }

    /// The name up to its NUL padding; bytes that are not UTF-8 are replaced.
    pub fn name(&self) -> String {
        String::from_utf8_lossy(unpadded(&self.name)).into_owned()
    }

    /// The type-specific part, read by the data type.
    pub fn extra(&self) -> Extra {
        Extra::decode(self.data_type, &self.extra)
    }

    pub fn partition(&self) -> Option<PartitionExtra> {
        match self.extra() {
            Extra::Partition(partition) => Some(partition),
            _ => None,
        }
    }

    pub fn is_primary_partition(&self) -> bool {
        self.used && self.partition().is_some_and(|extra| extra.partition_type == PartitionType::PRIMARY_SYSTEM)
    }

    /// Offset behind the last byte. [`crate::sif::reader`] has checked that it does not overflow.
    pub fn end(&self) -> i64 {
        self.offset.saturating_add(self.size)
    }
}

/// Extra part of a partition's descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionExtra {
    pub file_system: FileSystem,
    pub partition_type: PartitionType,
    /// Two digits and NUL.
    pub arch: [u8; 3],
}

impl PartitionExtra {
    pub fn arch(&self) -> Option<Arch> {
        arch_from_code(&self.arch)
    }
}

/// The type-specific part of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Types that have none, and types that are not known.
    None,
    Partition(PartitionExtra),
    /// `entity` is the PGP fingerprint, or zeros.
    Signature {
        hash_type: HashType,
        entity: [u8; 20],
    },
    CryptoMessage {
        format: MessageFormat,
        message_type: MessageType,
    },
    Sbom(SbomFormat),
    /// Digest as text, `sha256:<hex>`.
    Oci {
        digest: String,
    },
}

impl Extra {
    pub fn decode(data_type: DataType, bytes: &[u8; EXTRA_SIZE]) -> Extra {
        let mut fields = Fields { bytes };
        match data_type {
            DataType::PARTITION => Extra::Partition(PartitionExtra {
                file_system: FileSystem(i32::from_le_bytes(fields.take())),
                partition_type: PartitionType(i32::from_le_bytes(fields.take())),
                arch: fields.take(),
            }),
            DataType::SIGNATURE => {
                Extra::Signature { hash_type: HashType(i32::from_le_bytes(fields.take())), entity: fields.take() }
            }
            DataType::CRYPTO_MESSAGE => Extra::CryptoMessage {
                format: MessageFormat(i32::from_le_bytes(fields.take())),
                message_type: MessageType(i32::from_le_bytes(fields.take())),
            },
            DataType::SBOM => Extra::Sbom(SbomFormat(i32::from_le_bytes(fields.take()))),
            DataType::OCI_ROOT_INDEX | DataType::OCI_BLOB => {
                Extra::Oci { digest: String::from_utf8_lossy(unpadded(bytes)).into_owned() }
            }
            _ => Extra::None,
        }
    }

    /// The inverse of [`Extra::decode`]. A digest text beyond the field's 384 bytes is cut.
    pub fn encode(&self) -> [u8; EXTRA_SIZE] {
        let mut bytes = Vec::new();
        match self {
            Extra::None => {}
            Extra::Partition(partition) => {
                bytes.extend_from_slice(&partition.file_system.0.to_le_bytes());
                bytes.extend_from_slice(&partition.partition_type.0.to_le_bytes());
                bytes.extend_from_slice(&partition.arch);
            }
            Extra::Signature { hash_type, entity } => {
                bytes.extend_from_slice(&hash_type.0.to_le_bytes());
                bytes.extend_from_slice(entity);
            }
            Extra::CryptoMessage { format, message_type } => {
                bytes.extend_from_slice(&format.0.to_le_bytes());
                bytes.extend_from_slice(&message_type.0.to_le_bytes());
            }
            Extra::Sbom(format) => bytes.extend_from_slice(&format.0.to_le_bytes()),
            Extra::Oci { digest } => bytes.extend_from_slice(digest.as_bytes()),
        }
        padded(&bytes)
    }
}

/// The architecture's code as headers and descriptors hold it.
pub fn arch_code(arch: Arch) -> [u8; 3] {
    padded(arch.sif().as_bytes())
}

fn arch_from_code(code: &[u8; 3]) -> Option<Arch> {
    Arch::from_sif(std::str::from_utf8(unpadded(code)).ok()?)
}

/// A version 4 (random) UUID from 16 random bytes.
pub fn random_id(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    bytes
}

/// The bytes before the NUL padding.
pub fn unpadded(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

fn padded<const SIZE: usize>(bytes: &[u8]) -> [u8; SIZE] {
    let mut field = [0; SIZE];
    let length = bytes.len().min(SIZE);
    field[..length].copy_from_slice(&bytes[..length]);
    field
}

/// Fixed-size fields, one after the other. The callers' structures are smaller than their buffers by construction.
struct Fields<'a> {
    bytes: &'a [u8],
}

impl Fields<'_> {
    fn take<const SIZE: usize>(&mut self) -> [u8; SIZE] {
        let (field, rest) = self.bytes.split_first_chunk::<SIZE>().expect("fields fit their fixed-size structure");
        self.bytes = rest;
        *field
    }
}
