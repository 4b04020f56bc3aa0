//! What the verification of an image found: each signature with its signer and objects, and what no signature covers.

use super::envelope::EnvelopeError;
use super::metadata::MetadataError;
use crate::openpgp::policy::BlockError;
use crate::openpgp::{CleartextError, Fingerprint, Refusal, Verified};
use std::fmt;

/// Fields of the header that no signature covers.
pub const UNCOVERED_HEADER_FIELDS: [&str; 9] = [
    "architecture",
    "creation time",
    "modification time",
    "descriptors free",
    "descriptors total",
    "descriptors offset",
    "descriptors size",
    "data offset",
    "data size",
];

/// Fields of a signed object's descriptor that no signature covers.
pub const UNCOVERED_DESCRIPTOR_FIELDS: [&str; 4] = ["group", "offset", "size with padding", "modification time"];

/// What must be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    Group(u32),
    Object(u32),
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Group(number) => write!(formatter, "object group {number}"),
            Task::Object(id) => write!(formatter, "object {id}"),
        }
    }
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    Pgp(Verified),
    /// Ids of the given keys that signed, as [`super::PublicKey::id`].
    Keys(Vec<String>),
}

/// Why a signature does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it has {size} bytes, and no more than 1 MiB are read")]
    TooLarge { size: u64 },
    #[error("signature format not recognized: {0}")]
    Format(CleartextError),
    #[error("key material not provided for PGP clear-sign signature")]
    NoKeyring,
    #[error("key material not provided for DSSE envelope signature")]
    NoKeys,
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Envelope(#[from] EnvelopeError),
    #[error("its hash type is not SHA-256, SHA-384 or SHA-512")]
    HashType,
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("what it signs is no SIFHASH of the hash type that its descriptor names")]
    Legacy,
    #[error("fingerprint in descriptor does not correspond to signing entity: it was made by {made_by}")]
    OtherEntity { made_by: Fingerprint },
    #[error("object not signed: {id}")]
    NotSigned { id: u32 },
    #[error("signed object not found: {id}")]
    NotFound { id: u64 },
    #[error("header integrity compromised")]
    Header,
    #[error("data object descriptor integrity compromised: {id}")]
    Descriptor { id: u32 },
    #[error("data object integrity compromised: {id}")]
    Object { id: u32 },
    #[error("data objects integrity compromised")]
    Objects,
}

impl Fault {
    /// Whether the signature itself is good, and what it says is not true of this image.
    pub fn is_integrity(&self) -> bool {
        matches!(
            self,
            Fault::NotSigned { .. }
                | Fault::NotFound { .. }
                | Fault::Header
                | Fault::Descriptor { .. }
                | Fault::Object { .. }
                | Fault::Objects
        )
    }
}

/// Why the image as a whole is not what was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageFault {
    #[error("signature not found for {0}")]
    NotSigned(Task),
    #[error("non-signature object not associated with object group: {id}")]
    Ungrouped { id: u32 },
    #[error("signature object {id} covers nothing: what it is linked to is not in the image")]
    CoversNothing { id: u32 },
    #[error("signature object {id} is linked to no object group, so that it cannot be judged")]
    WithoutGroup { id: u32 },
}

/// What should be known of an image whose signatures hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("{0}")]
    Key(crate::openpgp::Warning),
    #[error(
        "the header says architecture {header}, the primary partition {partition}; no signature covers the header's"
    )]
    Architecture { header: String, partition: String },
    #[error("{count} bytes outside of all objects are not zero; no signature covers them")]
    HiddenBytes { count: u64 },
    #[error("object {id} is a legacy signature, which was not looked at")]
    Legacy { id: u32 },
    #[error("legacy signatures do not cover the header, the kinds and names of objects, nor other objects")]
    LegacyCover,
}

/// One signature object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureReport {
    /// Id of the signature object.
    pub id: u32,
    pub task: Task,
    /// Known where the signature is good, whether or not what it says is true of the image.
    pub signer: Option<Signer>,
    /// Ids of the objects that were checked against the signature and hold.
    pub covered: Vec<u32>,
    pub fault: Option<Fault>,
}

impl SignatureReport {
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        match &self.signer {
            Some(Signer::Pgp(verified)) => Some(&verified.fingerprint),
            _ => None,
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub signatures: Vec<SignatureReport>,
    pub faults: Vec<ImageFault>,
    /// Ids of objects, other than signatures, that no good signature covers.
    pub uncovered: Vec<u32>,
    pub doubts: Vec<Doubt>,
}

impl Report {
    /// Whether everything that was to be signed is, and every signature that was found for it holds.
    pub fn holds(&self) -> bool {
        !self.signatures.is_empty()
            && self.faults.is_empty()
            && self.signatures.iter().all(|signature| signature.fault.is_none())
    }

    /// OpenPGP keys that have signed everything that was to be signed. Empty unless [`Report::holds`].
    pub fn signers_of_everything(&self) -> Vec<Fingerprint> {
        if !self.holds() {
            return Vec::new();
        }
        let signed = |task: Task, fingerprint: &Fingerprint| {
            let mut of_task = self.signatures.iter().filter(|signature| signature.task == task);
            of_task.any(|signature| signature.fingerprint() == Some(fingerprint))
        };
        let mut all: Vec<Fingerprint> =
            self.signatures.iter().filter_map(|signature| signature.fingerprint().cloned()).collect();
        all.sort();
        all.dedup();
        all.retain(|fingerprint| self.signatures.iter().all(|signature| signed(signature.task, fingerprint)));
        all
    }

    /// The first thing that is wrong, as a sentence.
    pub fn complaint(&self) -> Option<String> {
        if let Some(fault) = self.faults.first() {
            return Some(format!("integrity: {fault}"));
        }
        let faulty = self.signatures.iter().find_map(|signature| Some((signature, signature.fault.as_ref()?)));
        match faulty {
            Some((_, fault)) if fault.is_integrity() => Some(format!("integrity: {fault}")),
            Some((signature, fault)) => {
                Some(format!("integrity: signature object {} not valid: {fault}", signature.id))
            }
            None if self.signatures.is_empty() => Some("integrity: signature not found".to_owned()),
            None => None,
        }
    }
}
