//! What a signature says: one line of JSON with the digests of the header and of each object.
//!
//! Spec: `{"version":1,"header":{"digest":"sha256:…"},"objects":[{"relativeId":0,"descriptorDigest":"sha256:…","objectDigest":"sha256:…"},…]}`,
//! objects by id, ids relative to the lowest of the group.

use super::digest::{Algorithm, Checksum, ChecksumError, Digests, of_descriptor, of_header};
use crate::sif::format::Descriptor;
use crate::sif::reader::Sif;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Seek};

const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub header: Checksum,
    pub objects: Vec<ObjectMetadata>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMetadata {
    /// Id minus the lowest id of the group.
    pub relative_id: u32,
    pub descriptor: Checksum,
    pub object: Checksum,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("what it signs is not the metadata of an image: {0}")]
    Json(String),
    #[error("what it signs has version {0}; 1 is known")]
    Version(u32),
    #[error("object {relative_id} is signed twice")]
    Twice { relative_id: u32 },
    #[error(transparent)]
    Checksum(#[from] ChecksumError),
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    header: DocumentHeader,
    objects: Vec<DocumentObject>,
}

#[derive(Serialize, Deserialize)]
struct DocumentHeader {
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct DocumentObject {
    #[serde(rename = "relativeId")]
    relative_id: u32,
    #[serde(rename = "descriptorDigest")]
    descriptor_digest: String,
    #[serde(rename = "objectDigest")]
    object_digest: String,
}

impl Metadata {
    /// Of these objects, which belong to the group whose lowest id is `lowest_id`. Reads them whole.
    pub fn of<F: Read + Seek>(
        sif: &mut Sif<F>,
        objects: &[Descriptor],
        lowest_id: u32,
        digests: &mut Digests,
    ) -> io::Result<Metadata> {
        let algorithm = Algorithm::Sha256;
        let mut signed = Vec::new();
        for object in objects {
            signed.push(ObjectMetadata {
                relative_id: object.id.wrapping_sub(lowest_id),
                descriptor: of_descriptor(object, lowest_id, algorithm),
                object: digests.of_object(sif, object, algorithm)?,
            });
        }
        signed.sort_by_key(|object| object.relative_id);
        Ok(Metadata { header: of_header(sif.header(), algorithm), objects: signed })
    }

    /// Reads a signed text. The caller bounds its length.
    pub fn parse(bytes: &[u8]) -> Result<Metadata, MetadataError> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| MetadataError::Json(error.to_string()))?;
        if document.version != VERSION {
            return Err(MetadataError::Version(document.version));
        }
        let mut objects = Vec::new();
        for object in document.objects {
            objects.push(ObjectMetadata {
                relative_id: object.relative_id,
                descriptor: Checksum::parse(&object.descriptor_digest)?,
                object: Checksum::parse(&object.object_digest)?,
            });
        }
        objects.sort_by_key(|object| object.relative_id);
        match objects.windows(2).find(|pair| pair[0].relative_id == pair[1].relative_id) {
            Some(pair) => Err(MetadataError::Twice { relative_id: pair[0].relative_id }),
            None => Ok(Metadata { header: Checksum::parse(&document.header.digest)?, objects }),
        }
    }

    pub fn to_json(&self) -> String {
        let objects = self.objects.iter().map(|object| DocumentObject {
            relative_id: object.relative_id,
            descriptor_digest: object.descriptor.to_string(),
            object_digest: object.object.to_string(),
        });
        let document = Document {
            version: VERSION,
            header: DocumentHeader { digest: self.header.to_string() },
            objects: objects.collect(),
        };
        serde_json::to_string(&document).expect("text and numbers have a JSON form")
    }
}
