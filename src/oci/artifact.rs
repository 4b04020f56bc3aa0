//! What is stored in registries besides container images: SIF files, several of them under one tag, and what is attached to them.
//!
//! Sources: facts §6.1 (Apptainer's SIF artifact); OCI image-spec 1.1, manifest.md ("Guidelines for Artifact Usage", `subject`) and
//! image-index.md; distribution-spec 1.1, "Referrers Tag Schema".

use super::manifest::{Descriptor, Document, Manifest, ManifestError, OCI_INDEX, OCI_MANIFEST, Platform, parse};
use crate::digest::Digest;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub const SIF_CONFIG: &str = "application/vnd.sylabs.sif.config.v1+json";
pub const SIF_LAYER: &str = "application/vnd.sylabs.sif.layer.v1.sif";
/// Compat: what a prototype of the SIF artifact wrote, misspelt.
const SIF_LAYER_PROTOTYPE: &str = "appliciation/vnd.sylabs.sif.layer.tar";
/// The config of an artifact that needs none.
pub const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";
/// All that such a config holds.
pub const EMPTY_OBJECT: &[u8] = b"{}";

/// Annotation with a file's name.
pub const TITLE: &str = "org.opencontainers.image.title";
pub const CREATED: &str = "org.opencontainers.image.created";
pub const DESCRIPTION: &str = "org.opencontainers.image.description";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    #[error("it is a container image and no SIF: use docker://")]
    ContainerImage,
    #[error("it is no SIF: its content has the media type {media_type:?}")]
    NotASif { media_type: String },
    #[error("it is no SIF: {count} files are in it, and a SIF is one")]
    Files { count: usize },
    #[error("it is one image, and no index of several")]
    NotAnIndex,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// A file as an artifact's manifest tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub media_type: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// The file's name.
    pub title: String,
}

/// The manifest of a SIF, as Apptainer writes it.
pub fn write_sif_manifest(sif: &Content, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": empty_config(SIF_CONFIG),
        "layers": [layer(sif)],
        "annotations": annotations,
    }))
}

/// The manifest of a file that is attached to `subject`.
pub fn write_referrer(
    subject: &Descriptor,
    artifact_type: &str,
    file: &Content,
    annotations: &BTreeMap<String, String>,
) -> Vec<u8> {
    to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": empty_config(EMPTY_CONFIG),
        "layers": [layer(file)],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest.to_string(), "size": subject.size},
        "annotations": annotations,
    }))
}

/// The SIF that a manifest is of.
pub fn sif_of(manifest: &Manifest) -> Result<&Descriptor, ArtifactError> {
    let is_sif = |layer: &Descriptor| layer.media_type == SIF_LAYER || layer.media_type == SIF_LAYER_PROTOTYPE;
    match manifest.layers.as_slice() {
        [layer] if is_sif(layer) => Ok(layer),
        layers if layers.iter().any(is_sif) => Err(ArtifactError::Files { count: layers.len() }),
        [layer, ..] if layer.layer_compression().is_ok() => Err(ArtifactError::ContainerImage),
        layers => {
            let media_type = layers.first().map_or(&manifest.config.media_type, |layer| &layer.media_type);
            Err(ArtifactError::NotASif { media_type: media_type.chars().take(160).collect() })
        }
    }
}

/// An index with `entry` in it: in the place of the image for the same platform, else behind all others. What else the index holds stays
/// as it is, unknown members too.
pub fn merge_platform(index: Option<&[u8]>, entry: &Descriptor) -> Result<Vec<u8>, ArtifactError> {
    let platform = entry.platform.clone().map(with_variant);
    merge(index, entry, &|other: &Descriptor| other.platform.clone().map(with_variant) == platform)
}

/// The index under a referrers tag with `entry` in it.
pub fn merge_referrer(index: Option<&[u8]>, entry: &Descriptor) -> Result<Vec<u8>, ArtifactError> {
    merge(index, entry, &|other: &Descriptor| other.digest == entry.digest)
}

/// Spec: distribution-spec 1.1: `:` becomes `-`.
pub fn referrers_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().name(), subject.hex())
}

/// The images of an index, attestations left out.
pub fn entries(bytes: &[u8], media_type: Option<&str>) -> Result<Vec<Descriptor>, ArtifactError> {
    match parse(bytes, media_type)? {
        Document::Index(index) => Ok(index.manifests.into_iter().filter(|entry| !entry.is_attestation()).collect()),
        Document::Manifest(_) => Err(ArtifactError::NotAnIndex),
    }
}

fn with_variant(platform: Platform) -> (String, String, String) {
    (platform.os, platform.architecture, platform.variant.unwrap_or_default())
}

fn merge(
    index: Option<&[u8]>,
    entry: &Descriptor,
    replaces: &dyn Fn(&Descriptor) -> bool,
) -> Result<Vec<u8>, ArtifactError> {
    let malformed = |error: serde_json::Error| ManifestError::Malformed { cause: error.to_string() };
    let (mut members, old) = match index {
        Some(bytes) => {
            let Document::Index(old) = parse(bytes, Some(OCI_INDEX))? else { return Err(ArtifactError::NotAnIndex) };
            let members: Map<String, Value> = serde_json::from_slice(bytes).map_err(malformed)?;
            (members, old.manifests)
        }
        None => {
            let mut members = Map::new();
            members.insert("schemaVersion".to_owned(), json!(2));
            members.insert("mediaType".to_owned(), json!(OCI_INDEX));
            (members, Vec::new())
        }
    };
    let mut values = match members.get_mut("manifests").map(Value::take) {
        Some(Value::Array(values)) => values,
        _ => Vec::new(),
    };
    let new = serde_json::to_value(entry).map_err(malformed)?;
    // Invariant: `old` was read from the same array, one by one.
    let mut places = old.iter().enumerate().filter(|(_, other)| replaces(other)).map(|(at, _)| at);
    match places.next() {
        Some(first) => {
            let later: Vec<usize> = places.collect();
            values[first] = new;
            later.into_iter().rev().for_each(|at| drop(values.remove(at)));
        }
        None => values.push(new),
    }
    members.insert("manifests".to_owned(), Value::Array(values));
    Ok(to_bytes(&Value::Object(members)))
}

fn empty_config(media_type: &str) -> Value {
    json!({
        "mediaType": media_type,
        "digest": Digest::of(EMPTY_OBJECT).to_string(),
        "size": EMPTY_OBJECT.len(),
        "data": "e30=",
    })
}

fn layer(file: &Content) -> Value {
    json!({
        "mediaType": file.media_type,
        "digest": file.digest.to_string(),
        "size": file.size,
        "annotations": {TITLE: file.title},
    })
}

fn to_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests;
