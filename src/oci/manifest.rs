//! Manifests and indexes, of OCI and of Docker's schema 2, and the choice of a platform.
//!
//! Spec: OCI image-spec descriptor.md, manifest.md, image-index.md; Docker `manifest.v2+json` and `manifest.list.v2+json`.

use super::MAXIMUM_DOCUMENT;
use crate::arch::Arch;
use crate::archive::compress::Compression;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";

/// For an `Accept` header: every document that [`parse`] understands.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// Indexes that may stand one inside the other.
pub const MAXIMUM_DEPTH: usize = 4;

/// Documents that are asked for on the way to one image.
const MAXIMUM_DOCUMENTS: usize = 64;

/// Annotation that names a manifest in a layout.
pub const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

/// A pointer to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    #[serde(with = "digest_text")]
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// OCI index or Docker manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    /// Bottom up.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest request may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a handful exist at a time")]
pub enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// Linux on this processor; `variant` as in `v7`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub arch: Arch,
    pub variant: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest has {size} bytes, more than the {} that are read", MAXIMUM_DOCUMENT)]
    TooLarge { size: usize },
    #[error("the manifest is not valid: {cause}")]
    Malformed { cause: String },
    #[error(
        "the manifest has Docker's schema 1, which registries and this program no longer support; push the image again with a current tool"
    )]
    SchemaOne,
    #[error("media type {media_type:?} is neither an image manifest nor an index")]
    UnknownMediaType { media_type: String },
    #[error("no image for linux/{target}; there is {available}")]
    NoPlatform { target: String, available: String },
    #[error("indexes stand more than 4 deep inside each other")]
    TooDeep,
    #[error("more than 64 indexes stand inside each other")]
    TooMany,
    #[error("layer {digest} has media type {media_type:?}, which is not a filesystem layer{hint}")]
    NotALayer { digest: Digest, media_type: String, hint: &'static str },
    #[error("the manifest has no layers that hold files")]
    NoLayers,
}

/// Reads a manifest or index; `media_type` is what the transport said of it, if anything.
pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Document, ManifestError> {
    if bytes.len() > MAXIMUM_DOCUMENT {
        return Err(ManifestError::TooLarge { size: bytes.len() });
    }
    let malformed = |error: serde_json::Error| ManifestError::Malformed { cause: error.to_string() };
    let shape: Shape = serde_json::from_slice(bytes).map_err(malformed)?;
    // Spec: the document's own media type is the truth where it has one; older OCI documents have none.
    let declared = shape.media_type.as_deref().filter(|text| !text.is_empty()).or(media_type).unwrap_or_default();
    let declared = declared.split(';').next().unwrap_or_default().trim();
    if shape.schema_version == Some(1) || declared.starts_with(DOCKER_SCHEMA_1) {
        return Err(ManifestError::SchemaOne);
    }
    match (declared, shape.manifests.is_some(), shape.config.is_some()) {
        // One that is both could be read as either: refused, as containerd does (CVE-2021-41190).
        (_, true, true) => {
            Err(ManifestError::Malformed { cause: "both `manifests` and `config` are there".to_owned() })
        }
        (OCI_INDEX | DOCKER_LIST, _, false) | ("", true, false) => {
            serde_json::from_slice(bytes).map(Document::Index).map_err(malformed)
        }
        (OCI_MANIFEST | DOCKER_MANIFEST, false, _) | ("", false, true) => {
            serde_json::from_slice(bytes).map(Document::Manifest).map_err(malformed)
        }
        // Registries that serve a generic type are judged by shape.
        ("application/json" | "text/plain" | "application/octet-stream", true, false) => {
            serde_json::from_slice(bytes).map(Document::Index).map_err(malformed)
        }
        ("application/json" | "text/plain" | "application/octet-stream", false, true) => {
            serde_json::from_slice(bytes).map(Document::Manifest).map_err(malformed)
        }
        ("", false, false) => {
            Err(ManifestError::Malformed { cause: "it has neither `manifests` nor `config`".to_owned() })
        }
        (OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST, _, _) => {
            Err(ManifestError::Malformed { cause: format!("its content does not fit its media type {declared}") })
        }
        (other, _, _) => Err(ManifestError::UnknownMediaType { media_type: other.chars().take(160).collect() }),
    }
}

/// Just enough to tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

impl Descriptor {
    pub fn is_index(&self) -> bool {
        self.media_type == OCI_INDEX || self.media_type == DOCKER_LIST
    }

    /// Buildkit's attestations are entries for the platform `unknown/unknown`.
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self.platform.as_ref().is_some_and(|platform| platform.architecture == "unknown")
    }

    /// How the media type says that a layer is compressed; an error for what is not a tar layer.
    pub fn layer_compression(&self) -> Result<Compression, ManifestError> {
        let bare = self.media_type.split(';').next().unwrap_or_default();
        let suffix = [
            OCI_LAYER,
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
        ]
        .iter()
        .find_map(|prefix| bare.strip_prefix(prefix));
        match suffix {
            Some("") => Ok(Compression::None),
            Some("+gzip" | ".gzip") => Ok(Compression::Gzip),
            Some("+zstd" | ".zstd") => Ok(Compression::Zstd),
            _ => Err(ManifestError::NotALayer {
                digest: self.digest.clone(),
                media_type: self.media_type.chars().take(160).collect(),
                hint: hint_for(bare),
            }),
        }
    }
}

fn hint_for(media_type: &str) -> &'static str {
    if media_type.contains("sylabs.sif") || media_type.contains("singularity") {
        "; this is a SIF: use oras://"
    } else if media_type.contains("encrypted") {
        "; it is encrypted"
    } else {
        ""
    }
}

impl Manifest {
    /// The layers bottom up, each checked to be a filesystem layer.
    pub fn filesystem_layers(&self) -> Result<Vec<(&Descriptor, Compression)>, ManifestError> {
        let layers: Result<Vec<_>, _> =
            self.layers.iter().map(|layer| Ok((layer, layer.layer_compression()?))).collect();
        match layers {
            Ok(layers) if layers.is_empty() => Err(ManifestError::NoLayers),
            other => other,
        }
    }
}

impl Target {
    pub fn new(arch: Arch, variant: Option<&str>) -> Target {
        Target { arch, variant: variant.map(str::to_owned) }
    }

    /// Variants in order of preference; the empty one stands for "none said".
    /// Compat: as containers/image: from the wanted variant down, or none first and then all from the newest.
    fn variants(&self) -> Vec<&str> {
        let known: &[&str] = match self.arch {
            Arch::Arm => &["v8", "v7", "v6", "v5"],
            Arch::Arm64 => &["v8"],
            _ => &[],
        };
        match self.variant.as_deref() {
            Some(wanted) => {
                let from = known.iter().position(|variant| *variant == wanted);
                let mut variants = from.map_or(vec![wanted], |at| known[at..].to_vec());
                variants.push("");
                variants
            }
            None => std::iter::once("").chain(known.iter().copied()).collect(),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.arch)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl Index {
    /// What may hold an image for `target`, best first: exact platforms, then entries without a platform
    /// (indexes inside this index, or a single manifest). Attestations are skipped.
    pub fn candidates(&self, target: &Target) -> Vec<&Descriptor> {
        let images: Vec<&Descriptor> = self.manifests.iter().filter(|entry| !entry.is_attestation()).collect();
        let mut chosen = Vec::new();
        for variant in target.variants() {
            chosen.extend(images.iter().copied().filter(|entry| {
                entry.platform.as_ref().is_some_and(|platform| {
                    platform.os == "linux"
                        && platform.architecture == target.arch.oci()
                        && platform.variant.as_deref().unwrap_or_default() == variant
                })
            }));
        }
        chosen.extend(images.iter().copied().filter(|entry| entry.platform.is_none() && entry.is_index()));
        if chosen.is_empty() && images.len() == 1 && images[0].platform.is_none() {
            chosen.push(images[0]);
        }
        chosen
    }

    /// Platforms of the images, for messages.
    pub fn platforms(&self) -> impl Iterator<Item = String> {
        let images = self.manifests.iter().filter(|entry| !entry.is_attestation());
        images.filter_map(|entry| entry.platform.as_ref()).map(|platform| {
            let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
            format!("{}/{}{variant}", platform.os, platform.architecture)
        })
    }
}

/// Finds the image for `target` under a document, asking `fetch` for what indexes point to, at most [`MAXIMUM_DEPTH`] deep.
/// Gives the manifest with the descriptor that led to it (`None`: it was the document itself).
pub fn resolve<E: From<ManifestError>>(
    document: Document,
    target: &Target,
    fetch: &mut dyn FnMut(&Descriptor) -> Result<Document, E>,
) -> Result<(Manifest, Option<Descriptor>), E> {
    let mut search = Search { target, fetch, asked: 0, available: Vec::new() };
    match search.descend(document, None, MAXIMUM_DEPTH)? {
        Some(found) => Ok(found),
        None => Err(no_platform(target, search.available).into()),
    }
}

fn no_platform(target: &Target, mut available: Vec<String>) -> ManifestError {
    available.dedup();
    let available = if available.is_empty() { "none with a platform".to_owned() } else { available.join(", ") };
    ManifestError::NoPlatform { target: target.to_string(), available: available.chars().take(1000).collect() }
}

/// The walk through indexes.
struct Search<'a, E> {
    target: &'a Target,
    fetch: &'a mut dyn FnMut(&Descriptor) -> Result<Document, E>,
    /// Documents that were asked for.
    asked: usize,
    /// Platforms that were seen.
    available: Vec<String>,
}

impl<E: From<ManifestError>> Search<'_, E> {
    /// An exact platform is the answer; of indexes in this index each is looked into, in order.
    fn descend(
        &mut self,
        document: Document,
        from: Option<Descriptor>,
        depth: usize,
    ) -> Result<Option<(Manifest, Option<Descriptor>)>, E> {
        let index = match document {
            Document::Manifest(manifest) => return Ok(Some((manifest, from))),
            Document::Index(_) if depth == 0 => return Err(ManifestError::TooDeep.into()),
            Document::Index(index) => index,
        };
        self.available.extend(index.platforms().take(40_usize.saturating_sub(self.available.len())));
        for candidate in index.candidates(self.target) {
            self.asked += 1;
            if self.asked > MAXIMUM_DOCUMENTS {
                return Err(ManifestError::TooMany.into());
            }
            let inner = (self.fetch)(candidate)?;
            if let Some(found) = self.descend(inner, Some(candidate.clone()), depth - 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

mod digest_text {
    use crate::digest::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Compat: Go writes absent slices and maps as `null`.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
