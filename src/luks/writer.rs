//! Makes a container around a stream: the headers at once, the payload as it is written.
//!
//! # Why
//! cryptsetup leaves 16 MiB before the payload. Here it is 1 MiB (its alignment): room for three keyslots and no 15 MiB of zeros in
//! each image that travels. cryptsetup and Apptainer take the place of the payload from the header. Sectors have 512 bytes, what cryptsetup chooses
//! on a loop device, so that the container opens on every device.

use super::Entropy;
use super::cipher::{self, KEY_SIZE, Sectors};
use super::format::{self, BinaryHeader, Config, Metadata, Number, Segment};
use super::keyslot::{self, AREA_SIZE, Kdf, VolumeKey};
use super::reader;
use crate::squashfs::ReadAt;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use zeroize::Zeroizing;

/// Bytes before the payload.
pub const PAYLOAD_OFFSET: u64 = 1 << 20;
/// The payload's length must be a multiple of this.
pub const SECTOR_SIZE: usize = 512;

const HEADER_SIZE: u64 = format::HEADER_SIZES[0];
const KEYSLOTS_OFFSET: u64 = 2 * HEADER_SIZE;
/// Sectors that are enciphered and written together.
const BUFFER: usize = 256 << 10;

/// A new container: the bytes before its payload, and the key for it.
pub struct Container {
    /// [`PAYLOAD_OFFSET`] bytes.
    pub header: Vec<u8>,
    key: VolumeKey,
}

impl Container {
    /// Chooses keys and makes the headers. Takes as long as the passphrase is stretched.
    pub fn new(passphrase: &[u8], kdf: Kdf, random: Entropy<'_>) -> io::Result<Container> {
        let mut key: VolumeKey = Zeroizing::new([0; KEY_SIZE]);
        random(&mut key[..])?;
        let (keyslot, area) = keyslot::seal(&key, passphrase, kdf, KEYSLOTS_OFFSET, random)?;
        let metadata = Metadata {
            keyslots: BTreeMap::from([("0".to_owned(), keyslot)]),
            tokens: BTreeMap::new(),
            segments: BTreeMap::from([("0".to_owned(), segment())]),
            digests: BTreeMap::from([("0".to_owned(), keyslot::digest_of(&key, random)?)]),
            config: Config {
                json_size: Number(HEADER_SIZE - format::BINARY_SIZE as u64),
                keyslots_size: Number(PAYLOAD_OFFSET - KEYSLOTS_OFFSET),
                requirements: None,
            },
        };
        let uuid = uuid(random)?;
        let mut header = Vec::with_capacity(PAYLOAD_OFFSET as usize);
        for hdr_offset in [0, HEADER_SIZE] {
            let mut salt = [0; 64];
            random(&mut salt)?;
            let binary = BinaryHeader {
                hdr_size: HEADER_SIZE,
                seqid: 1,
                label: String::new(),
                csum_alg: format::CHECKSUM_ALGORITHM.to_owned(),
                salt,
                uuid: uuid.clone(),
                subsystem: String::new(),
                hdr_offset,
            };
            header.extend_from_slice(&format::encode(&binary, &metadata));
        }
        debug_assert_eq!(area.len() as u64, AREA_SIZE);
        header.extend_from_slice(&area);
        header.resize(PAYLOAD_OFFSET as usize, 0);
        Ok(Container { header, key })
    }

    /// The payload in the clear, where `container` holds all of it.
    pub fn opened<S: ReadAt>(&self, container: S) -> reader::Payload<S> {
        reader::Payload::of_new(container, &self.key, PAYLOAD_OFFSET, SECTOR_SIZE)
    }

    /// Writes the payload to `out`, where it begins at `start`.
    pub fn payload<F: Read + Write + Seek>(&self, out: F, start: u64) -> Payload<F> {
        let sectors = Sectors::new(&self.key, SECTOR_SIZE);
        Payload { out, start, sectors, position: 0, buffer: Vec::new(), buffer_at: 0, dirty: false, end: 0 }
    }
}

fn segment() -> Segment {
    Segment {
        kind: "crypt".to_owned(),
        offset: Number(PAYLOAD_OFFSET),
        size: "dynamic".to_owned(),
        iv_tweak: Number(0),
        encryption: cipher::NAME.to_owned(),
        sector_size: SECTOR_SIZE as u32,
        integrity: None,
        flags: Vec::new(),
    }
}

fn uuid(random: Entropy<'_>) -> io::Result<String> {
    let mut bytes = [0; 16];
    random(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        text += if [4, 6, 8, 10].contains(&at) { "-" } else { "" };
        text += &format!("{byte:02x}");
    }
    Ok(text)
}

/// A payload in the making: what is written here arrives encrypted. Any place may be written again.
///
/// Invariant: `buffer` holds at most [`BUFFER`] bytes, whole sectors in the clear, that begin at `buffer_at`; behind `end` nothing was stored.
/// The writer above leaves no gaps: what is skipped has no defined content.
pub struct Payload<F: Read + Write + Seek> {
    out: F,
    start: u64,
    sectors: Sectors,
    position: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    dirty: bool,
    /// Bytes in `out`, whole sectors.
    end: u64,
}

impl<F: Read + Write + Seek> Payload<F> {
    /// Puts the buffer in its place.
    fn store(&mut self) -> io::Result<()> {
        if !self.dirty {
            return Ok(());
        }
        let mut sealed = self.buffer.clone();
        self.sectors.encrypt(&mut sealed, self.buffer_at / SECTOR_SIZE as u64);
        self.out.seek(SeekFrom::Start(self.start + self.buffer_at))?;
        self.out.write_all(&sealed)?;
        self.end = self.end.max(self.buffer_at + sealed.len() as u64);
        self.dirty = false;
        Ok(())
    }

    /// Makes the buffer hold the sectors of the next `count` bytes. What is overwritten whole is not read.
    fn load(&mut self, within: usize, count: usize) -> io::Result<()> {
        let (old, last) = (self.buffer.len(), within + count);
        let wanted = last.next_multiple_of(SECTOR_SIZE);
        if wanted <= old {
            return Ok(());
        }
        self.buffer.resize(wanted, 0);
        if within > old {
            self.recall(old)?;
        }
        let tail = wanted - SECTOR_SIZE;
        if last < wanted && (within <= old || tail > old) {
            self.recall(tail)?;
        }
        Ok(())
    }

    /// Fetches the sector at `at` of the buffer, if it was stored before.
    fn recall(&mut self, at: usize) -> io::Result<()> {
        let place = self.buffer_at + at as u64;
        if place < self.end {
            let sector = &mut self.buffer[at..at + SECTOR_SIZE];
            self.out.seek(SeekFrom::Start(self.start + place))?;
            self.out.read_exact(sector)?;
            self.sectors.decrypt(sector, place / SECTOR_SIZE as u64);
        }
        Ok(())
    }
}

impl<F: Read + Write + Seek> Write for Payload<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.buffer_at + self.buffer.len() as u64;
        let is_near = (self.buffer_at..=end).contains(&self.position);
        if !is_near || (self.position == end && self.buffer.len() >= BUFFER) {
            self.store()?;
            self.buffer.clear();
            self.buffer_at = self.position - self.position % SECTOR_SIZE as u64;
        }
        let within = (self.position - self.buffer_at) as usize;
        let count = bytes.len().min(BUFFER - within);
        self.load(within, count)?;
        self.buffer[within..within + count].copy_from_slice(&bytes[..count]);
        self.dirty |= count > 0;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.store()?;
        self.out.flush()
    }
}

impl<F: Read + Write + Seek> Seek for Payload<F> {
    /// From the start or the current place; the end is not known before it is written.
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            SeekFrom::End(distance) => {
                self.end.max(self.buffer_at + self.buffer.len() as u64).checked_add_signed(distance)
            }
        };
        self.position = position
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start of the payload"))?;
        Ok(self.position)
    }
}
