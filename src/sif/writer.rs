//! Making an image in one pass: objects one after the other, header and table last.
//!
//! The partition is not handed over as bytes: [`Writer::begin_partition`] positions the file where it goes, the filesystem's own
//! writer writes there, and [`Writer::end_partition`] records how long it became.

use super::format::{
    DEFAULT_GROUP, DESCRIPTOR_CAPACITY, DESCRIPTORS_OFFSET, DataType, Descriptor, Extra, FileSystem, GROUP_MASK,
    Header, LAUNCH_SCRIPT, Link, NAME_SIZE, NIL_ID, PARTITION_ALIGNMENT, PartitionExtra, PartitionType, UNSET_TIME,
    arch_code,
};
use crate::arch::Arch;
use std::io::{self, Seek, SeekFrom, Write};

/// Largest accepted alignment of an object: 1 GiB.
pub const MAXIMUM_ALIGNMENT: u64 = 1 << 30;

/// Why an object does not go into an image.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the image cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("insufficient descriptor capacity: all {capacity} descriptors of the image are in use")]
    NoFreeDescriptor { capacity: usize },
    #[error("image already contains a primary partition (object {id})")]
    PrimaryPartitionExists { id: u32 },
    #[error("the object name {name:?} has more than 128 bytes")]
    NameTooLong { name: String },
    #[error("alignment {alignment} is not a power of two up to 1 GiB")]
    Alignment { alignment: u64 },
    #[error("group or object number {number} is too large (below {GROUP_MASK} is allowed)")]
    Number { number: u32 },
    #[error("the image would grow beyond 8 EiB")]
    TooLarge,
}

/// How an image is made.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// `None`: the nil UUID of reproducible images.
    pub id: Option<[u8; 16]>,
    /// Unix seconds. `None`: the unset time of reproducible images.
    pub time: Option<i64>,
    pub descriptor_capacity: u32,
    /// At most 31 bytes; empty for none.
    pub launch_script: &'static str,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions { id: None, time: None, descriptor_capacity: DESCRIPTOR_CAPACITY, launch_script: LAUNCH_SCRIPT }
    }
}

/// What is said about an object beside its bytes.
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    pub data_type: DataType,
    /// At most 128 bytes; empty for none.
    pub name: String,
    pub group: Option<u32>,
    pub link: Link,
    /// A power of two; 0 and 1 mean none.
    pub alignment: u64,
    pub extra: Extra,
}

impl ObjectOptions {
    /// Group 1, no link, no name; partitions aligned to 4096.
    pub fn new(data_type: DataType) -> ObjectOptions {
        let alignment = if data_type == DataType::PARTITION { PARTITION_ALIGNMENT } else { 0 };
        ObjectOptions {
            data_type,
            name: String::new(),
            group: Some(DEFAULT_GROUP),
            link: Link::None,
            alignment,
            extra: Extra::None,
        }
    }

    pub fn named(data_type: DataType, name: impl Into<String>) -> ObjectOptions {
        ObjectOptions { name: name.into(), ..ObjectOptions::new(data_type) }
    }

    /// A partition; the architecture becomes the header's if it is the primary one.
    pub fn partition(file_system: FileSystem, partition_type: PartitionType, arch: Arch) -> ObjectOptions {
        let extra = Extra::Partition(PartitionExtra { file_system, partition_type, arch: arch_code(arch) });
        ObjectOptions { extra, ..ObjectOptions::new(DataType::PARTITION) }
    }

    /// The partition that a container is run from.
    pub fn primary_squashfs(arch: Arch) -> ObjectOptions {
        ObjectOptions::partition(FileSystem::SQUASHFS, PartitionType::PRIMARY_SYSTEM, arch)
    }

    fn check(&self) -> Result<(), WriteError> {
        if self.name.len() > NAME_SIZE {
            return Err(WriteError::NameTooLong { name: self.name.clone() });
        }
        if self.alignment != 0 && (!self.alignment.is_power_of_two() || self.alignment > MAXIMUM_ALIGNMENT) {
            return Err(WriteError::Alignment { alignment: self.alignment });
        }
        let link = match self.link {
            Link::None => 0,
            Link::Object(number) | Link::Group(number) => number,
        };
        match self.group.into_iter().chain([link]).find(|number| *number >= GROUP_MASK) {
            Some(number) => Err(WriteError::Number { number }),
            None => Ok(()),
        }
    }
}

/// Header and table of an image that is being made or changed, and where its next object goes.
///
/// Knows no file: [`Writer`] and [`crate::sif::edit`] do the writing.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub header: Header,
    pub slots: Vec<Descriptor>,
}

/// An object that has its slot and its offset, but no size yet.
#[derive(Debug)]
pub(super) struct Placed {
    slot: usize,
    descriptor: Descriptor,
    /// Bytes to skip or fill before the object.
    pub padding: u64,
}

impl Placed {
    pub fn offset(&self) -> u64 {
        self.descriptor.offset as u64
    }
}

impl Table {
    /// Chooses the first free slot and the first aligned offset behind `end`.
    pub fn place(&self, options: &ObjectOptions, end: i64, time: i64) -> Result<Placed, WriteError> {
        options.check()?;
        let slot = self
            .slots
            .iter()
            .position(|descriptor| !descriptor.used)
            .ok_or(WriteError::NoFreeDescriptor { capacity: self.slots.len() })?;
        let mut descriptor = Descriptor {
            data_type: options.data_type,
            used: true,
            id: slot as u32 + 1,
            group_id: options.group.unwrap_or(0) | GROUP_MASK,
            linked_id: options.link.to_raw(),
            offset: aligned(end, options.alignment)?,
            created_at: time,
            modified_at: time,
            extra: options.extra.encode(),
            ..Descriptor::UNUSED
        };
        descriptor.name[..options.name.len()].copy_from_slice(options.name.as_bytes());
        if descriptor.is_primary_partition()
            && let Some(other) = self.slots.iter().find(|descriptor| descriptor.is_primary_partition())
        {
            return Err(WriteError::PrimaryPartitionExists { id: other.id });
        }
        let padding = (descriptor.offset - end) as u64;
        Ok(Placed { slot, descriptor, padding })
    }

    /// Records the object once its `size` is known; `extra` replaces the one of the options. Returns its id.
    pub fn record(&mut self, placed: Placed, size: u64, extra: Option<&Extra>) -> Result<u32, WriteError> {
        let Placed { slot, mut descriptor, padding } = placed;
        descriptor.size = i64::try_from(size).map_err(|_| WriteError::TooLarge)?;
        descriptor.size_with_padding = descriptor.size.checked_add_unsigned(padding).ok_or(WriteError::TooLarge)?;
        descriptor.offset.checked_add(descriptor.size).ok_or(WriteError::TooLarge)?;
        if let Some(extra) = extra {
            descriptor.extra = extra.encode();
        }
        self.header.data_size =
            self.header.data_size.checked_add(descriptor.size_with_padding).ok_or(WriteError::TooLarge)?;
        self.header.descriptors_free = (self.header.descriptors_free - 1).max(0);
        if let Some(partition) = descriptor.partition().filter(|_| descriptor.is_primary_partition()) {
            self.header.arch = partition.arch;
        }
        let id = descriptor.id;
        self.slots[slot] = descriptor;
        Ok(id)
    }

    /// Writes header and descriptors to their places.
    pub fn write(&self, file: &mut (impl Write + Seek)) -> Result<(), WriteError> {
        let table: Vec<u8> = self.slots.iter().flat_map(Descriptor::encode).collect();
        file.seek(SeekFrom::Start(self.header.descriptors_offset as u64))?;
        file.write_all(&table)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&self.header.encode())?;
        Ok(())
    }
}

/// Writes a new image. Nothing valid is in the file before [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<W> {
    file: W,
    table: Table,
    time: i64,
    /// Offset behind the last object.
    end: i64,
    partition: Option<Placed>,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts an image at the beginning of an empty file.
    pub fn new(mut file: W, options: &WriterOptions) -> Result<Writer<W>, WriteError> {
        let time = options.time.unwrap_or(UNSET_TIME);
        let id = options.id.unwrap_or(NIL_ID);
        let header = Header::new(options.launch_script, id, time, options.descriptor_capacity);
        let end = header.data_offset;
        file.seek(SeekFrom::Start(0))?;
        fill(&mut file, end as u64)?;
        let slots = vec![Descriptor::UNUSED; options.descriptor_capacity as usize];
        Ok(Writer { file, table: Table { header, slots }, time, end, partition: None })
    }

    /// Adds an object whose bytes are in memory. Returns its id.
    pub fn add(&mut self, options: &ObjectOptions, bytes: &[u8]) -> Result<u32, WriteError> {
        let placed = self.place(options)?;
        self.file.write_all(bytes)?;
        self.record(placed, bytes.len() as u64)
    }

    /// Positions the file at the partition's offset, which is returned. The caller writes the filesystem there, through
    /// [`Writer::file`], and then calls [`Writer::end_partition`].
    ///
    /// # Panics
    /// If another partition was begun and not ended.
    pub fn begin_partition(&mut self, options: &ObjectOptions) -> Result<u64, WriteError> {
        assert!(self.partition.is_none(), "a partition was begun and not ended");
        let placed = self.place(options)?;
        let offset = placed.offset();
        self.partition = Some(placed);
        Ok(offset)
    }

    /// The file, for the filesystem's writer.
    pub fn file(&mut self) -> &mut W {
        &mut self.file
    }

    /// Records a partition of `size` bytes. Returns its id.
    ///
    /// # Panics
    /// If no partition was begun.
    pub fn end_partition(&mut self, size: u64) -> Result<u32, WriteError> {
        let placed = self.partition.take().expect("end_partition follows begin_partition");
        self.record(placed, size)
    }

    /// Writes header and table and gives the file back, positioned anywhere.
    ///
    /// # Panics
    /// If a partition was begun and not ended.
    pub fn finish(mut self) -> Result<W, WriteError> {
        assert!(self.partition.is_none(), "a partition was begun and not ended");
        self.table.write(&mut self.file)?;
        self.file.flush()?;
        Ok(self.file)
    }

    fn place(&mut self, options: &ObjectOptions) -> Result<Placed, WriteError> {
        let placed = self.table.place(options, self.end, self.time)?;
        self.file.seek(SeekFrom::Start(self.end as u64))?;
        fill(&mut self.file, placed.padding)?;
        Ok(placed)
    }

    fn record(&mut self, placed: Placed, size: u64) -> Result<u32, WriteError> {
        let offset = placed.offset() as i64;
        let id = self.table.record(placed, size, None)?;
        self.end = offset.checked_add_unsigned(size).ok_or(WriteError::TooLarge)?;
        Ok(id)
    }
}

fn aligned(offset: i64, alignment: u64) -> Result<i64, WriteError> {
    let offset = u64::try_from(offset).map_err(|_| WriteError::TooLarge)?;
    let aligned = offset.checked_next_multiple_of(alignment.max(1)).ok_or(WriteError::TooLarge)?;
    i64::try_from(aligned).map_err(|_| WriteError::TooLarge)
}

fn fill(file: &mut impl Write, mut count: u64) -> io::Result<()> {
    let zeros = [0; DESCRIPTORS_OFFSET as usize];
    while count > 0 {
        let length = count.min(zeros.len() as u64);
        file.write_all(&zeros[..length as usize])?;
        count -= length;
    }
    Ok(())
}
