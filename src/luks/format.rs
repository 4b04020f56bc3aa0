//! The headers of LUKS2: a binary part of 4096 bytes, big endian, then JSON; twice, the second in reserve.
//!
//! Field names are the specification's. JSON keeps what LUKS2 says and we do not know when it is written again: we never write what we read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

pub const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
pub const SECONDARY_MAGIC: [u8; 6] = *b"SKUL\xba\xbe";
pub const VERSION: u16 = 2;
/// Bytes of the binary part.
pub const BINARY_SIZE: usize = 4096;
/// Sizes of binary part and JSON together that the specification allows; writers make the first.
pub const HEADER_SIZES: [u64; 9] =
    [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];
pub const CHECKSUM_ALGORITHM: &str = "sha256";

const CHECKSUM_AT: usize = 448;
const CHECKSUM_FIELD: usize = 64;

/// The binary part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryHeader {
    pub hdr_size: u64,
    pub seqid: u64,
    /// Without its padding, as the other texts.
    pub label: String,
    pub csum_alg: String,
    pub salt: [u8; 64],
    pub uuid: String,
    pub subsystem: String,
    pub hdr_offset: u64,
}

/// Why bytes are not a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("no LUKS magic number")]
    Magic,
    #[error("version {0} of LUKS is not known; 2 is (LUKS1 containers are not written by Apptainer)")]
    Version(u16),
    #[error("a header of {0} bytes, which LUKS2 does not have")]
    Size(u64),
    #[error("a header that says it lies at {found}, but lies at {expected}")]
    Offset { found: u64, expected: u64 },
    #[error("a header that is cut off")]
    CutOff,
    #[error("checksums by `{0}`; only sha256 is known")]
    ChecksumAlgorithm(String),
    #[error("a wrong checksum")]
    Checksum,
    #[error("metadata that are not those of LUKS2: {0}")]
    Json(String),
}

impl BinaryHeader {
    /// Size of the whole header that begins with `bytes`, checked against the sizes that exist.
    pub fn peek(bytes: &[u8; BINARY_SIZE], expected_offset: u64) -> Result<BinaryHeader, HeaderError> {
        let magic = &bytes[..6];
        if magic != if expected_offset == 0 { MAGIC } else { SECONDARY_MAGIC } {
            return Err(HeaderError::Magic);
        }
        let version = u16::from_be_bytes([bytes[6], bytes[7]]);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let header = BinaryHeader {
            hdr_size: number(bytes, 8),
            seqid: number(bytes, 16),
            label: text(&bytes[24..72]),
            csum_alg: text(&bytes[72..104]),
            salt: bytes[104..168].try_into().expect("the salt has 64 bytes"),
            uuid: text(&bytes[168..208]),
            subsystem: text(&bytes[208..256]),
            hdr_offset: number(bytes, 256),
        };
        if !HEADER_SIZES.contains(&header.hdr_size) {
            return Err(HeaderError::Size(header.hdr_size));
        }
        if header.hdr_offset != expected_offset {
            return Err(HeaderError::Offset { found: header.hdr_offset, expected: expected_offset });
        }
        if header.csum_alg != CHECKSUM_ALGORITHM {
            return Err(HeaderError::ChecksumAlgorithm(header.csum_alg));
        }
        Ok(header)
    }

    fn encode(&self) -> [u8; BINARY_SIZE] {
        let mut bytes = [0; BINARY_SIZE];
        bytes[..6].copy_from_slice(if self.hdr_offset == 0 { &MAGIC } else { &SECONDARY_MAGIC });
        bytes[6..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.hdr_size.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.seqid.to_be_bytes());
        for (at, text) in [(24, &self.label), (72, &self.csum_alg), (168, &self.uuid), (208, &self.subsystem)] {
            bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        bytes[104..168].copy_from_slice(&self.salt);
        bytes[256..264].copy_from_slice(&self.hdr_offset.to_be_bytes());
        bytes
    }
}

/// A whole header as it stands in the container, `hdr_size` bytes.
///
/// # Panics
/// If the JSON does not fit, or a text is longer than its field: both are ours.
pub fn encode(header: &BinaryHeader, metadata: &Metadata) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(&serde_json::to_vec(metadata).expect("metadata have nothing that JSON cannot say"));
    assert!((bytes.len() as u64) < header.hdr_size, "the metadata do not fit their area");
    bytes.resize(header.hdr_size as usize, 0);
    let sum = Sha256::digest(&bytes);
    bytes[CHECKSUM_AT..CHECKSUM_AT + sum.len()].copy_from_slice(&sum);
    bytes
}

/// Takes a whole header apart; `bytes` are those that [`BinaryHeader::peek`] gave the size of.
pub fn decode(bytes: &[u8], expected_offset: u64) -> Result<(BinaryHeader, Metadata), HeaderError> {
    let binary = bytes.first_chunk::<BINARY_SIZE>().ok_or(HeaderError::CutOff)?;
    let header = BinaryHeader::peek(binary, expected_offset)?;
    if bytes.len() as u64 != header.hdr_size {
        return Err(HeaderError::CutOff);
    }
    let mut hasher = Sha256::new();
    hasher.update(&bytes[..CHECKSUM_AT]);
    hasher.update([0; CHECKSUM_FIELD]);
    hasher.update(&bytes[CHECKSUM_AT + CHECKSUM_FIELD..]);
    if hasher.finalize()[..] != bytes[CHECKSUM_AT..CHECKSUM_AT + 32] {
        return Err(HeaderError::Checksum);
    }
    let json = &bytes[BINARY_SIZE..];
    let end = json.iter().position(|byte| *byte == 0).unwrap_or(json.len());
    let metadata = serde_json::from_slice(&json[..end]).map_err(|error| HeaderError::Json(error.to_string()))?;
    Ok((header, metadata))
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("a number has 8 bytes"))
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// The JSON. Objects by number, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    pub keyslots: BTreeMap<String, Keyslot>,
    pub tokens: BTreeMap<String, serde_json::Value>,
    pub segments: BTreeMap<String, Segment>,
    pub digests: BTreeMap<String, VolumeKeyDigest>,
    pub config: Config,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyslot {
    #[serde(rename = "type")]
    pub kind: String,
    pub key_size: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub af: Option<AntiForensic>,
    pub area: Area,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdf: Option<KdfParameters>,
    /// 0: only when asked for; 1: normal; 2: first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AntiForensic {
    #[serde(rename = "type")]
    pub kind: String,
    pub stripes: u32,
    pub hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    #[serde(rename = "type")]
    pub kind: String,
    pub offset: Number,
    pub size: Number,
    #[serde(default)]
    pub encryption: String,
    #[serde(default)]
    pub key_size: u32,
}

/// How a passphrase is stretched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum KdfParameters {
    /// `memory` in KiB.
    Argon2i {
        time: u32,
        memory: u32,
        cpus: u32,
        salt: Base64,
    },
    Argon2id {
        time: u32,
        memory: u32,
        cpus: u32,
        salt: Base64,
    },
    Pbkdf2 {
        hash: String,
        iterations: u32,
        salt: Base64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    #[serde(rename = "type")]
    pub kind: String,
    pub offset: Number,
    /// Bytes, or `dynamic`: to the end of the container.
    pub size: String,
    pub iv_tweak: Number,
    #[serde(default)]
    pub encryption: String,
    #[serde(default)]
    pub sector_size: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// By which a volume key is known to be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeKeyDigest {
    #[serde(rename = "type")]
    pub kind: String,
    pub keyslots: Vec<String>,
    pub segments: Vec<String>,
    pub hash: String,
    pub iterations: u32,
    pub salt: Base64,
    pub digest: Base64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub json_size: Number,
    #[serde(default)]
    pub keyslots_size: Number,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,
}

/// What a reader must know to read this container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    #[serde(default)]
    pub mandatory: Vec<String>,
}

/// A number of 64 bits, which LUKS2 writes as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number(pub u64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Number).map_err(|_| serde::de::Error::custom("a number is not one"))
    }
}

/// Bytes, written in base 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Base64, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Base64).map_err(|_| serde::de::Error::custom("base 64 is expected"))
    }
}
