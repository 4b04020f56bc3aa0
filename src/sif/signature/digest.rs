//! What is hashed of an image, and with what.

use crate::sif::format::{Descriptor, HashType, Header};
use crate::sif::reader::Sif;
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek};

/// Hashes that are accepted in signatures. SHA-224 and SHA-512/224 are known by others, and too weak here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
    Sha512_256,
}

impl Algorithm {
    const ALL: [Algorithm; 4] = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512, Algorithm::Sha512_256];

    fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
            Algorithm::Sha512_256 => "sha512_256",
        }
    }

    fn size(self) -> usize {
        match self {
            Algorithm::Sha256 | Algorithm::Sha512_256 => 32,
            Algorithm::Sha384 => 48,
            Algorithm::Sha512 => 64,
        }
    }

    /// The hash that a signature's descriptor names. BLAKE2 was never written by anything.
    pub fn of_descriptor(hash: HashType) -> Option<Algorithm> {
        match hash {
            HashType::SHA256 => Some(Algorithm::Sha256),
            HashType::SHA384 => Some(Algorithm::Sha384),
            HashType::SHA512 => Some(Algorithm::Sha512),
            _ => None,
        }
    }
}

/// A hash value with its algorithm, as text `sha256:<hex>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Checksum {
    pub algorithm: Algorithm,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    #[error("{0:?} is not a digest")]
    Malformed(String),
    #[error("the digest {0} is too weak")]
    Weak(String),
}

impl Checksum {
    pub fn parse(text: &str) -> Result<Checksum, ChecksumError> {
        let malformed = || ChecksumError::Malformed(text.chars().take(160).collect());
        let (name, hex) = text.split_once(':').ok_or_else(malformed)?;
        if matches!(name, "sha224" | "sha512_224") {
            return Err(ChecksumError::Weak(name.to_owned()));
        }
        let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(malformed)?;
        Checksum::from_hexadecimal(algorithm, hex).ok_or_else(malformed)
    }

    pub fn from_hexadecimal(algorithm: Algorithm, hex: &str) -> Option<Checksum> {
        let digits: Option<Vec<u8>> =
            hex.chars().map(|character| character.to_digit(16).map(|digit| digit as u8)).collect();
        let digits = digits.filter(|digits| digits.len() == 2 * algorithm.size())?;
        Some(Checksum { algorithm, bytes: digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect() })
    }

    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.algorithm.name())?;
        self.bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

enum Hasher {
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
    Sha512_256(sha2::Sha512_256),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha384 => Hasher::Sha384(sha2::Sha384::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
            Algorithm::Sha512_256 => Hasher::Sha512_256(sha2::Sha512_256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(state) => state.update(bytes),
            Hasher::Sha384(state) => state.update(bytes),
            Hasher::Sha512(state) => state.update(bytes),
            Hasher::Sha512_256(state) => state.update(bytes),
        }
    }

    fn finish(self) -> Checksum {
        let (algorithm, bytes) = match self {
            Hasher::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            Hasher::Sha384(state) => (Algorithm::Sha384, state.finalize().to_vec()),
            Hasher::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
            Hasher::Sha512_256(state) => (Algorithm::Sha512_256, state.finalize().to_vec()),
        };
        Checksum { algorithm, bytes }
    }
}

/// Spec: launch script, magic, version and id. Not the architecture, not the times, not the counts and places.
pub fn of_header(header: &Header, algorithm: Algorithm) -> Checksum {
    let bytes = header.encode();
    Checksum::of(algorithm, &[&bytes[..45], &bytes[48..64]].concat())
}

/// Spec: everything but group, place, padded size and modification time; the id relative to the lowest of the group.
pub fn of_descriptor(object: &Descriptor, lowest_id: u32, algorithm: Algorithm) -> Checksum {
    let mut bytes = Vec::with_capacity(557);
    bytes.extend_from_slice(&object.data_type.0.to_le_bytes());
    bytes.push(u8::from(object.used));
    bytes.extend_from_slice(&object.id.wrapping_sub(lowest_id).to_le_bytes());
    bytes.extend_from_slice(&object.linked_id.to_le_bytes());
    for number in [object.size, object.created_at, object.uid, object.gid] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&object.name);
    bytes.extend_from_slice(&object.extra);
    Checksum::of(algorithm, &bytes)
}

/// Digests of objects' bytes; each is computed once, however many signatures cover it.
#[derive(Default)]
pub struct Digests {
    known: BTreeMap<(Vec<u32>, Algorithm), Checksum>,
}

impl Digests {
    pub fn of_object<F: Read + Seek>(
        &mut self,
        sif: &mut Sif<F>,
        object: &Descriptor,
        algorithm: Algorithm,
    ) -> io::Result<Checksum> {
        self.of_objects(sif, std::slice::from_ref(object), algorithm)
    }

    /// Of the objects' bytes one after the other.
    pub fn of_objects<F: Read + Seek>(
        &mut self,
        sif: &mut Sif<F>,
        objects: &[Descriptor],
        algorithm: Algorithm,
    ) -> io::Result<Checksum> {
        let key = (objects.iter().map(|object| object.id).collect(), algorithm);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; 1 << 18];
        for object in objects {
            let mut contents = sif.open(object);
            loop {
                match contents.read(&mut buffer)? {
                    0 => break,
                    count => hasher.update(&buffer[..count]),
                }
            }
        }
        let checksum = hasher.finish();
        self.known.insert(key, checksum.clone());
        Ok(checksum)
    }
}
