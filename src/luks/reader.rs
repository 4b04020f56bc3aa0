//! Opens containers, hostile ones included.
//!
//! Headers have at most 4 MiB, passphrases are stretched within [`Limits`], and what a header asks for that is not known here is named.

use super::cipher::{self, KEY_SIZE, Sectors};
use super::format::{self, BINARY_SIZE, BinaryHeader, HEADER_SIZES, HeaderError, Keyslot, Metadata, VolumeKeyDigest};
use super::keyslot::{self, VolumeKey};
use crate::squashfs::ReadAt;
use std::io;
use zeroize::Zeroizing;

pub use super::keyslot::Limits;

/// Why a container is not opened.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is no LUKS2 container that can be read: its first header has {0}; its second has {1}")]
    Header(HeaderError, HeaderError),
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    #[error("uses the {what} `{found}`, which is not known here; cryptsetup may know it")]
    Unknown { what: String, found: String },
    #[error("asks for {found} to check a passphrase, which is more than is spent on an image that may be hostile")]
    Cost { found: String },
    #[error("needs {kib} KiB of memory to check a passphrase, which cannot be had")]
    Memory { kib: u32 },
    #[error("does not open with this passphrase or key")]
    Passphrase,
    #[error("has no keyslot: nothing can open it")]
    NoKeyslot,
}

/// A container whose headers were read.
#[derive(Debug)]
pub struct Container<S> {
    source: S,
    pub header: BinaryHeader,
    pub metadata: Metadata,
}

/// Whether these bytes begin a LUKS container of any version.
pub fn is_luks(start: &[u8]) -> bool {
    start.starts_with(&format::MAGIC)
}

impl<S: ReadAt> Container<S> {
    /// Reads the newer of the two headers that are sound.
    pub fn read(source: S) -> Result<Container<S>, UnlockError> {
        let primary = read_header(&source, 0)?;
        // Where the second one lies is known from the first, if that is sound; else it is looked for.
        let places = match &primary {
            Ok((header, _)) => vec![header.hdr_size],
            Err(_) => HEADER_SIZES.to_vec(),
        };
        let mut secondary = Err(HeaderError::CutOff);
        for place in places {
            let found = read_header(&source, place)?;
            let stop = found.is_ok();
            if stop || !matches!(found, Err(HeaderError::Magic | HeaderError::CutOff)) || secondary.is_err() {
                secondary = found;
            }
            if stop {
                break;
            }
        }
        let (header, metadata) = match (primary, secondary) {
            (Ok(first), Ok(second)) => {
                if second.0.seqid > first.0.seqid {
                    second
                } else {
                    first
                }
            }
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => found,
            (Err(first), Err(second)) => return Err(UnlockError::Header(first, second)),
        };
        check_requirements(&metadata)?;
        Ok(Container { source, header, metadata })
    }

    /// The payload, if a keyslot opens with the passphrase. Takes as long as it is stretched, once for each keyslot.
    pub fn unlock(self, passphrase: &[u8], limits: Limits) -> Result<Payload<S>, UnlockError> {
        let place = Place::of(&self.metadata, self.source.length())?;
        let mut limits = limits;
        let mut failure = UnlockError::NoKeyslot;
        for (number, keyslot) in keyslots(&self.metadata) {
            match self.try_keyslot(number, keyslot, passphrase, &mut limits) {
                Ok(key) => return Ok(Payload::new(self.source, &key, place)),
                // That a passphrase is wrong is said last: another keyslot may be the one that it opens.
                Err(error) if matches!(failure, UnlockError::NoKeyslot | UnlockError::Passphrase) => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    fn try_keyslot(
        &self,
        number: &str,
        keyslot: &Keyslot,
        passphrase: &[u8],
        limits: &mut Limits,
    ) -> Result<VolumeKey, UnlockError> {
        let digest = digest_for(&self.metadata, number)?;
        let mut material = Zeroizing::new(vec![0; keyslot::material_size(keyslot)?]);
        let (start, size) = (keyslot.area.offset.0, material.len() as u64);
        if start.checked_add(size).is_none_or(|end| end > self.source.length()) {
            return Err(UnlockError::Damaged("a keyslot lies outside of it"));
        }
        self.source.read_exact_at(&mut material, start)?;
        let key = keyslot::open(keyslot, &mut material, passphrase, limits)?;
        let mut found = vec![0; digest.digest.0.len()];
        keyslot::pbkdf2(&digest.hash, digest.iterations, &key[..], &digest.salt, limits, &mut found)?;
        if found == digest.digest.0 { Ok(key) } else { Err(UnlockError::Passphrase) }
    }
}

fn read_header(source: &impl ReadAt, place: u64) -> Result<Result<(BinaryHeader, Metadata), HeaderError>, UnlockError> {
    let length = source.length();
    if place + BINARY_SIZE as u64 > length {
        return Ok(Err(HeaderError::CutOff));
    }
    let mut binary = [0; BINARY_SIZE];
    source.read_exact_at(&mut binary, place)?;
    let header = match BinaryHeader::peek(&binary, place) {
        Ok(header) if place + header.hdr_size > length => return Ok(Err(HeaderError::CutOff)),
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    let mut bytes = vec![0; header.hdr_size as usize];
    source.read_exact_at(&mut bytes, place)?;
    Ok(format::decode(&bytes, place))
}

fn check_requirements(metadata: &Metadata) -> Result<(), UnlockError> {
    match metadata.config.requirements.as_ref().and_then(|needed| needed.mandatory.first()) {
        Some(found) => Err(UnlockError::Unknown { what: "requirement".to_owned(), found: found.clone() }),
        None => Ok(()),
    }
}

/// In the order in which they are tried. Those of priority 0 are for those who name them.
fn keyslots(metadata: &Metadata) -> Vec<(&str, &Keyslot)> {
    let mut found: Vec<(&str, &Keyslot)> = metadata
        .keyslots
        .iter()
        .filter(|(_, keyslot)| keyslot.priority != Some(0))
        .map(|(number, keyslot)| (number.as_str(), keyslot))
        .collect();
    found.sort_by_key(|(number, keyslot)| {
        (std::cmp::Reverse(keyslot.priority.unwrap_or(1)), number.parse::<u32>().ok())
    });
    found.truncate(MAXIMUM_KEYSLOTS);
    found
}

/// As many as LUKS2 has.
const MAXIMUM_KEYSLOTS: usize = 32;

fn digest_for<'a>(metadata: &'a Metadata, keyslot: &str) -> Result<&'a VolumeKeyDigest, UnlockError> {
    let has = |list: &[String], number: &str| list.iter().any(|found| found == number);
    let (segment, _) = segment(metadata)?;
    let digest =
        metadata.digests.values().find(|digest| has(&digest.keyslots, keyslot) && has(&digest.segments, segment));
    match digest {
        Some(digest) if digest.kind != "pbkdf2" => {
            Err(UnlockError::Unknown { what: "digest".to_owned(), found: digest.kind.clone() })
        }
        Some(digest) if (20..=64).contains(&digest.digest.0.len()) => Ok(digest),
        Some(_) => Err(UnlockError::Damaged("the digest of its key has no length that a digest has")),
        None => Err(UnlockError::Damaged("nothing tells whether a key is the right one")),
    }
}

fn segment(metadata: &Metadata) -> Result<(&str, &format::Segment), UnlockError> {
    let mut segments = metadata.segments.iter();
    match (segments.next(), segments.next()) {
        (Some((number, segment)), None) => Ok((number, segment)),
        (None, _) => Err(UnlockError::Damaged("it has no segment")),
        (Some(_), Some(_)) => Err(UnlockError::Damaged("it has several segments: a re-encryption was not finished")),
    }
}

/// Where the payload lies and how it is enciphered, checked.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u64,
    length: u64,
    sector_size: usize,
    /// Added to the number of each sector, in units of 512 bytes.
    tweak: u64,
}

impl Place {
    fn of(metadata: &Metadata, container: u64) -> Result<Place, UnlockError> {
        let (_, segment) = segment(metadata)?;
        let unknown = |what: &str, found: &str| UnlockError::Unknown { what: what.to_owned(), found: found.to_owned() };
        if segment.kind != "crypt" {
            return Err(unknown("segment", &segment.kind));
        }
        if segment.encryption != cipher::NAME {
            return Err(unknown("cipher", &segment.encryption));
        }
        if segment.integrity.is_some() {
            return Err(unknown("integrity", "dm-integrity"));
        }
        let sector_size = segment.sector_size as usize;
        if ![512, 1024, 2048, 4096].contains(&sector_size) {
            return Err(UnlockError::Damaged("its sectors have no size that sectors have"));
        }
        let (start, tweak) = (segment.offset.0, segment.iv_tweak.0);
        let room = container.checked_sub(start).ok_or(UnlockError::Damaged("its payload lies outside of it"))?;
        let length = match segment.size.as_str() {
            "dynamic" => room - room % sector_size as u64,
            size => size
                .parse()
                .ok()
                .filter(|size| *size <= room)
                .ok_or(UnlockError::Damaged("its payload lies outside of it"))?,
        };
        // The cipher counts in sectors of the payload's size, so that the first number must be one.
        if length % sector_size as u64 != 0 || tweak % (sector_size as u64 / cipher::TWEAK_UNIT) != 0 {
            return Err(UnlockError::Damaged("its payload is not made of whole sectors"));
        }
        Ok(Place { start, length, sector_size, tweak })
    }
}

/// An opened payload: what is read here is in the clear.
pub struct Payload<S> {
    source: S,
    sectors: Sectors,
    place: Place,
}

impl<S> Payload<S> {
    fn new(source: S, key: &[u8; KEY_SIZE], place: Place) -> Payload<S> {
        Payload { source, sectors: Sectors::new(key, place.sector_size), place }
    }
}

impl<S: ReadAt> Payload<S> {
    /// Of a container that was written just now: its payload goes from `start` to its end.
    pub(super) fn of_new(source: S, key: &[u8; KEY_SIZE], start: u64, sector_size: usize) -> Payload<S> {
        let length = source.length().saturating_sub(start);
        Payload::new(source, key, Place { start, length, sector_size, tweak: 0 })
    }
}

impl<S: ReadAt> ReadAt for Payload<S> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let outside = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end =
            offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.place.length).ok_or_else(outside)?;
        let size = self.place.sector_size as u64;
        let first_number = self.place.tweak / (size / cipher::TWEAK_UNIT);
        let mut scratch = Zeroizing::new(Vec::new());
        let mut at = offset;
        while at < end {
            let first = at - at % size;
            let stop = end.next_multiple_of(size).min(first + SCRATCH);
            scratch.resize((stop - first) as usize, 0);
            self.source.read_exact_at(&mut scratch, self.place.start + first)?;
            self.sectors.decrypt(&mut scratch, first_number.wrapping_add(first / size));
            let until = end.min(stop);
            let clear = &scratch[(at - first) as usize..(until - first) as usize];
            buffer[(at - offset) as usize..(until - offset) as usize].copy_from_slice(clear);
            at = until;
        }
        Ok(())
    }

    fn length(&self) -> u64 {
        self.place.length
    }
}

/// Bytes that are deciphered together.
const SCRATCH: u64 = 64 << 10;
