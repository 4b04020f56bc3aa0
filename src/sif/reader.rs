//! Reading images, hostile ones included.
//!
//! Invariant: after [`Sif::read`], every used object lies inside the file, outside of header and table, and overlaps no other,
//! its id is its slot's, and at most one primary partition exists. What else the fields say is not relied on: images
//! of older tools have counts and padded sizes that do not add up.

use super::format::{
    DESCRIPTOR_SIZE, DataType, Descriptor, HEADER_SIZE, Header, MAGIC, PartitionExtra, PartitionType, VERSION,
};
use std::io::{self, Read, Seek, SeekFrom};

/// Descriptors that are accepted in one table; writers make 48.
pub const MAXIMUM_DESCRIPTORS: u64 = 65_536;

/// Compat: empty images of Singularity 3 are shorter than their data offset.
const OLD_DATA_OFFSET: u64 = 32_768;

/// Why a file is not read as a SIF image.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the file is not a SIF image: it has {size} bytes, and the header alone has 128")]
    TooSmall { size: u64 },
    #[error("the file is not a SIF image: SIF_MAGIC is missing")]
    Magic,
    #[error("SIF version {version:?} is not known; 01 is")]
    Version { version: String },
    #[error(
        "the descriptor table ({total} descriptors at offset {offset}) does not lie inside the file of {size} bytes"
    )]
    TableOutside { total: i64, offset: i64, size: u64 },
    #[error("the header counts {free} free of {total} descriptors, which cannot be")]
    Counts { free: i64, total: i64 },
    #[error("the data section (offset {offset}, size {size}) cannot be")]
    DataSection { offset: i64, size: i64 },
    #[error("the descriptor in slot {slot} has the id {id}, and should have {}", slot + 1)]
    Id { slot: usize, id: u32 },
    #[error(
        "object {id} (offset {offset}, size {object_size}) does not lie inside the file of {size} bytes; \
         is the file incomplete?"
    )]
    ObjectOutside { id: u32, offset: i64, object_size: i64, size: u64 },
    #[error("object {id} lies on the header or on the descriptor table")]
    ObjectOnTable { id: u32 },
    #[error("objects {first} and {second} overlap")]
    Overlap { first: u32, second: u32 },
    #[error("objects {first} and {second} are both primary partitions")]
    TwoPrimaryPartitions { first: u32, second: u32 },
    #[error("object {id} has {size} bytes; no more than {limit} are read of it")]
    TooLarge { id: u32, size: u64, limit: u64 },
}

/// An image whose header and descriptors have been read and checked.
#[derive(Debug)]
pub struct Sif<F> {
    file: F,
    header: Header,
    slots: Vec<Descriptor>,
}

/// Whether these bytes, the first of a file (128 suffice), begin a SIF image.
pub fn is_sif(start: &[u8]) -> bool {
    start.get(32..42) == Some(&MAGIC[..])
}

impl<F: Read + Seek> Sif<F> {
    pub fn read(mut file: F) -> Result<Sif<F>, ReadError> {
        let size = file.seek(SeekFrom::End(0))?;
        if size < HEADER_SIZE as u64 {
            return Err(ReadError::TooSmall { size });
        }
        let mut bytes = [0; HEADER_SIZE];
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut bytes)?;
        let header = Header::decode(&bytes);
        check_header(&header, size)?;
        let slots = read_slots(&mut file, &header)?;
        check_objects(&header, &slots, size)?;
        Ok(Sif { file, header, slots })
    }

    /// The object's bytes, as a file of their own.
    pub fn open(&mut self, descriptor: &Descriptor) -> Window<&mut F> {
        Window::new(&mut self.file, descriptor.offset as u64, descriptor.size as u64)
    }

    /// Bytes of the whole file.
    pub fn size(&mut self) -> io::Result<u64> {
        self.file.seek(SeekFrom::End(0))
    }

    /// Any `size` bytes from `start`; the sum must not overflow.
    pub fn window(&mut self, start: u64, size: u64) -> Window<&mut F> {
        Window::new(&mut self.file, start, size)
    }

    /// As [`Sif::open`], keeping the file.
    pub fn into_window(self, descriptor: &Descriptor) -> Window<F> {
        Window::new(self.file, descriptor.offset as u64, descriptor.size as u64)
    }

    /// The object's bytes in memory; an error if it has more than `limit`.
    pub fn contents(&mut self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, ReadError> {
        let size = descriptor.size as u64;
        if size > limit {
            return Err(ReadError::TooLarge { id: descriptor.id, size, limit });
        }
        let mut bytes = Vec::new();
        self.open(descriptor).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl<F> Sif<F> {
    pub fn file(&self) -> &F {
        &self.file
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All slots of the table, unused ones too.
    pub fn slots(&self) -> &[Descriptor] {
        &self.slots
    }

    /// Descriptors in use, in the order of the table.
    pub fn objects(&self) -> impl Iterator<Item = &Descriptor> {
        self.slots.iter().filter(|descriptor| descriptor.used)
    }

    pub fn object(&self, id: u32) -> Option<&Descriptor> {
        self.objects().find(|descriptor| descriptor.id == id)
    }

    /// The first object of a type.
    pub fn find(&self, data_type: DataType) -> Option<&Descriptor> {
        self.objects().find(|descriptor| descriptor.data_type == data_type)
    }

    /// The first object of a type that has this name.
    pub fn find_named(&self, data_type: DataType, name: &str) -> Option<&Descriptor> {
        self.objects().find(|descriptor| descriptor.data_type == data_type && descriptor.name() == name)
    }

    pub fn partition(&self, partition_type: PartitionType) -> Option<(&Descriptor, PartitionExtra)> {
        self.objects()
            .filter_map(|descriptor| Some((descriptor, descriptor.partition()?)))
            .find(|(_, extra)| extra.partition_type == partition_type)
    }

    /// The partition that containers run from.
    pub fn primary_partition(&self) -> Option<(&Descriptor, PartitionExtra)> {
        self.partition(PartitionType::PRIMARY_SYSTEM)
    }

    pub fn into_parts(self) -> (F, Header, Vec<Descriptor>) {
        (self.file, self.header, self.slots)
    }
}

fn check_header(header: &Header, size: u64) -> Result<(), ReadError> {
    if header.magic != MAGIC {
        return Err(ReadError::Magic);
    }
    if header.version != VERSION {
        return Err(ReadError::Version { version: String::from_utf8_lossy(&header.version).into_owned() });
    }
    let (total, offset) = (header.descriptors_total, header.descriptors_offset);
    let outside = ReadError::TableOutside { total, offset, size };
    match table_end(header) {
        Some(end) if offset >= HEADER_SIZE as i64 && end as u64 <= size && total as u64 <= MAXIMUM_DESCRIPTORS => {}
        _ => return Err(outside),
    }
    if header.descriptors_free < 0 || header.descriptors_free > total {
        return Err(ReadError::Counts { free: header.descriptors_free, total });
    }
    let data_end = header.data_offset.checked_add(header.data_size);
    let is_inside = header.data_offset >= 0 && header.data_offset as u64 <= size.max(OLD_DATA_OFFSET);
    if !is_inside || Some(header.data_offset) < table_end(header) || header.data_size < 0 || data_end.is_none() {
        return Err(ReadError::DataSection { offset: header.data_offset, size: header.data_size });
    }
    Ok(())
}

/// Offset behind the descriptor table; `None` for numbers that no table has.
fn table_end(header: &Header) -> Option<i64> {
    let total = header.descriptors_total.checked_mul(DESCRIPTOR_SIZE as i64).filter(|bytes| *bytes >= 0)?;
    header.descriptors_offset.checked_add(total)
}

fn read_slots<F: Read + Seek>(file: &mut F, header: &Header) -> Result<Vec<Descriptor>, ReadError> {
    file.seek(SeekFrom::Start(header.descriptors_offset as u64))?;
    let mut slots = Vec::new();
    let mut reader = io::BufReader::new(file);
    for _ in 0..header.descriptors_total {
        let mut bytes = [0; DESCRIPTOR_SIZE];
        reader.read_exact(&mut bytes)?;
        slots.push(Descriptor::decode(&bytes));
    }
    Ok(slots)
}

fn check_objects(header: &Header, slots: &[Descriptor], size: u64) -> Result<(), ReadError> {
    let table_end = table_end(header).unwrap_or(i64::MAX);
    let mut objects: Vec<&Descriptor> = Vec::new();
    for (slot, object) in slots.iter().enumerate().filter(|(_, object)| object.used) {
        let (id, offset, object_size) = (object.id, object.offset, object.size);
        if id as usize != slot + 1 {
            return Err(ReadError::Id { slot, id });
        }
        let end = offset.checked_add(object_size).filter(|end| offset >= 0 && object_size >= 0 && *end as u64 <= size);
        if end.is_none() {
            return Err(ReadError::ObjectOutside { id, offset, object_size, size });
        }
        if object_size > 0 && offset < table_end {
            return Err(ReadError::ObjectOnTable { id });
        }
        objects.push(object);
    }
    let mut primary = objects.iter().filter(|object| object.is_primary_partition());
    if let (Some(first), Some(second)) = (primary.next(), primary.next()) {
        return Err(ReadError::TwoPrimaryPartitions { first: first.id, second: second.id });
    }
    objects.retain(|object| object.size > 0);
    objects.sort_by_key(|object| object.offset);
    match objects.windows(2).find(|pair| pair[0].end() > pair[1].offset) {
        Some(pair) => Err(ReadError::Overlap { first: pair[0].id, second: pair[1].id }),
        None => Ok(()),
    }
}

/// A part of a file that reads and seeks like a whole one.
#[derive(Debug)]
pub struct Window<R> {
    inner: R,
    start: u64,
    size: u64,
    position: u64,
}

impl<R> Window<R> {
    /// `size` bytes of `inner` from `start`; the sum must not overflow.
    pub fn new(inner: R, start: u64, size: u64) -> Window<R> {
        Window { inner, start, size, position: 0 }
    }

    /// Bytes in the window.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read + Seek> Read for Window<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let remaining = self.size.saturating_sub(self.position);
        let length = buffer.len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(0);
        }
        // The file's own position may be anywhere: other windows share it.
        self.inner.seek(SeekFrom::Start(self.start + self.position))?;
        let count = self.inner.read(&mut buffer[..length])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<R> Seek for Window<R> {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.size.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start of the object"))?;
        Ok(self.position)
    }
}
