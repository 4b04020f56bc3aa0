//! Changing an image: what siftool's `add`, `del` and `setprim` do, byte for byte.
//!
//! The file is changed in place; whoever wants the change to be atomic works on a copy and renames it.

use super::format::{ARCH_UNKNOWN, DataType, Descriptor, Extra, PartitionType, UNSET_TIME};
use super::reader::{ReadError, Sif};
use super::writer::{ObjectOptions, Table, WriteError};
use crate::digest::{Algorithm, HashingReader};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Why an image is not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the image cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("object {id} not found")]
    NotFound { id: u32 },
    #[error("object {id} is not a partition")]
    NotPartition { id: u32 },
    #[error("object {id} is not a system partition")]
    NotSystem { id: u32 },
}

/// Appends an object behind the last one. `now` is ignored by deterministic images, which keep the unset time.
/// OCI objects without an [`Extra`] get the digest of `contents`. Returns the new id.
pub fn add<F: Read + Write + Seek>(
    file: &mut F,
    options: &ObjectOptions,
    contents: &mut dyn Read,
    now: i64,
) -> Result<u32, EditError> {
    let (mut table, time) = load(file, now)?;
    let end = data_end(&table);
    let placed = table.place(options, end, time)?;
    file.seek(SeekFrom::Start(end as u64))?;
    io::copy(&mut io::repeat(0).take(placed.padding), file)?;
    let mut contents = HashingReader::new(contents, Algorithm::Sha256);
    io::copy(&mut contents, file)?;
    let (digest, size) = contents.finish();
    let is_oci = matches!(options.data_type, DataType::OCI_ROOT_INDEX | DataType::OCI_BLOB);
    let extra = (is_oci && options.extra == Extra::None).then(|| Extra::Oci { digest: digest.to_string() });
    let id = table.record(placed, size, extra.as_ref())?;
    store(file, table, time)?;
    Ok(id)
}

/// Frees the object's descriptor. Its bytes stay in the file, and its id is given to the next object.
pub fn delete<F: Read + Write + Seek>(file: &mut F, id: u32, now: i64) -> Result<(), EditError> {
    let (mut table, time) = load(file, now)?;
    let slot = find(&table, id)?;
    if table.slots[slot].is_primary_partition() {
        table.header.arch = ARCH_UNKNOWN;
    }
    table.slots[slot] = Descriptor::UNUSED;
    table.header.descriptors_free = (table.header.descriptors_free + 1).min(table.header.descriptors_total);
    store(file, table, time)
}

/// Makes a system partition the primary one; the one that was it becomes a system partition.
pub fn set_primary<F: Read + Write + Seek>(file: &mut F, id: u32, now: i64) -> Result<(), EditError> {
    let (mut table, time) = load(file, now)?;
    let slot = find(&table, id)?;
    let extra = table.slots[slot].partition().ok_or(EditError::NotPartition { id })?;
    match extra.partition_type {
        PartitionType::PRIMARY_SYSTEM => return Ok(()),
        PartitionType::SYSTEM => {}
        _ => return Err(EditError::NotSystem { id }),
    }
    if let Some(previous) = table.slots.iter_mut().find(|descriptor| descriptor.is_primary_partition()) {
        set_partition_type(previous, PartitionType::SYSTEM, time);
    }
    set_partition_type(&mut table.slots[slot], PartitionType::PRIMARY_SYSTEM, time);
    table.header.arch = extra.arch;
    store(file, table, time)
}

fn load<F: Read + Seek>(file: &mut F, now: i64) -> Result<(Table, i64), EditError> {
    let (_, header, slots) = Sif::read(file)?.into_parts();
    let time = if header.is_deterministic() { UNSET_TIME } else { now };
    Ok((Table { header, slots }, time))
}

fn store<F: Write + Seek>(file: &mut F, mut table: Table, time: i64) -> Result<(), EditError> {
    table.header.modified_at = time;
    table.write(file)?;
    file.flush()?;
    Ok(())
}

fn find(table: &Table, id: u32) -> Result<usize, EditError> {
    table.slots.iter().position(|slot| slot.used && slot.id == id).ok_or(EditError::NotFound { id })
}

/// Offset behind the last object in use.
fn data_end(table: &Table) -> i64 {
    let objects = table.slots.iter().filter(|slot| slot.used).map(Descriptor::end);
    objects.fold(table.header.data_offset, i64::max)
}

fn set_partition_type(descriptor: &mut Descriptor, partition_type: PartitionType, time: i64) {
    if let Some(mut extra) = descriptor.partition() {
        extra.partition_type = partition_type;
        descriptor.extra = Extra::Partition(extra).encode();
        descriptor.modified_at = time;
    }
}
