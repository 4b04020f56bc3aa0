//! `Bootstrap: docker`: an image from a registry.
//!
//! Blobs are files `ALGORITHM/HEX` of a directory that builds share. What is there with the right size is taken as it is (its digest is
//! checked when the layer is read); what is not there is downloaded beside its place and renamed.
//!
//! Sources: facts §2.2, §6.2.

use super::ImageBase;
use crate::definition::RegistryBase;
use crate::digest::{Digest, Hasher};
use crate::event::{Event, Observer};
use crate::fetch::FetchError;
use crate::fetch::registry::{ManifestDocument, Pull, Registry};
use crate::oci::MAXIMUM_DOCUMENT;
use crate::oci::config::{self, ConfigError, ImageConfig};
use crate::oci::manifest::{self, Descriptor, Document, Manifest, ManifestError, Target};
use crate::oci::reference::{Reference, ReferenceError};
use crate::store::{LayerBlob, mark_used};
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Layers that are downloaded at once, unless the user says otherwise (`APPTAINER_DOWNLOAD_CONCURRENCY`).
pub const CONCURRENCY: usize = 3;

/// What a registry answered for a `From:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerPin {
    /// As normalised: `docker.io/library/alpine:3.20`.
    pub reference: Reference,
    /// Of what the reference names: an index, or an image.
    pub manifest_digest: Digest,
    /// Of the image for the wanted platform; the same as `manifest_digest` where there is no index.
    pub platform_digest: Digest,
}

impl DockerPin {
    /// An image that was chosen before: its reference and the digest of its own manifest.
    pub fn chosen(reference: &str, manifest: &Digest) -> Result<DockerPin, ReferenceError> {
        let (manifest_digest, platform_digest) = (manifest.clone(), manifest.clone());
        Ok(DockerPin { reference: Reference::parse(reference)?, manifest_digest, platform_digest })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{reference}: {cause}")]
    Manifest { reference: String, cause: ManifestError },
    #[error("{reference}: {cause}")]
    Config { reference: String, cause: ConfigError },
    #[error("{reference}: the manifest {digest} is an index where an image was expected")]
    NotAnImage { reference: String, digest: Digest },
    #[error("{reference}: the image has {layers} layers, but its config speaks of {diff_ids}")]
    LayerCount { reference: String, layers: usize, diff_ids: usize },
    #[error("{reference}: the image config {digest} has {size} bytes, more than the {MAXIMUM_DOCUMENT} that are read")]
    ConfigSize { reference: String, digest: Digest, size: u64 },
    #[error("cannot keep {path} among the downloaded blobs: {cause}")]
    Store { path: PathBuf, cause: io::Error },
}

/// Asks the registry which image the base is, and keeps the manifests among the blobs.
pub fn pin(
    base: &RegistryBase,
    target: &Target,
    registry: &Registry<'_>,
    blobs_directory: &Path,
    observer: &dyn Observer,
) -> Result<DockerPin, DockerError> {
    let reference = reference_of(base)?;
    let pull = registry.pull(&reference, observer)?;
    let top = pull.manifest()?;
    keep(blobs_directory, &top)?;
    let fault = |cause| DockerError::Manifest { reference: reference.to_string(), cause };
    let document = manifest::parse(&top.bytes, top.media_type.as_deref()).map_err(fault)?;
    let mut fetch = |descriptor: &Descriptor| fetch_inner(&pull, descriptor, blobs_directory);
    let (image, from) = manifest::resolve(document, target, &mut fetch).map_err(|error| match error {
        Walk::Manifest(cause) => fault(cause),
        Walk::Other(error) => error,
    })?;
    image.filesystem_layers().map_err(fault)?;
    let platform_digest = from.map_or_else(|| top.digest.clone(), |descriptor| descriptor.digest);
    Ok(DockerPin { reference, manifest_digest: top.digest, platform_digest })
}

/// Brings all layers of a pinned image, at most `concurrency` at a time. What is among the blobs already is not asked for; when all is,
/// the registry is not asked anything.
pub fn provide(
    pin: &DockerPin,
    registry: &Registry<'_>,
    blobs_directory: &Path,
    concurrency: usize,
    observer: &dyn Observer,
) -> Result<ImageBase, DockerError> {
    let name = pin.reference.to_string();
    let source = Source { pin, registry, blobs_directory, observer };
    let image = source.manifest()?;
    let fault = |cause| DockerError::Manifest { reference: name.clone(), cause };
    let layers = image.filesystem_layers().map_err(fault)?;
    let mut wanted: Vec<&Descriptor> = vec![source.config_descriptor(&image)?];
    wanted.extend(layers.iter().map(|(descriptor, _)| *descriptor));
    source.blobs(&wanted, concurrency)?;
    let config = source.config(&image)?;
    if config.diff_ids.len() != layers.len() {
        let (layers, diff_ids) = (layers.len(), config.diff_ids.len());
        return Err(DockerError::LayerCount { reference: name, layers, diff_ids });
    }
    let layers = layers
        .iter()
        .zip(&config.diff_ids)
        .map(|((descriptor, compression), diff_id)| LayerBlob {
            digest: Some(descriptor.digest.clone()),
            diff_id: Some(diff_id.clone()),
            file: blob_path(blobs_directory, &descriptor.digest),
            offset: 0,
            length: descriptor.size,
            compression: *compression,
        })
        .collect();
    Ok(ImageBase { layers, config, manifest_digest: pin.platform_digest.clone(), name })
}

/// The manifest of a pinned image, asked for where it is not kept yet.
pub fn manifest(
    pin: &DockerPin,
    registry: &Registry<'_>,
    blobs_directory: &Path,
    observer: &dyn Observer,
) -> Result<Manifest, DockerError> {
    Source { pin, registry, blobs_directory, observer }.manifest()
}

/// A manifest that an earlier question left among the blobs.
pub fn kept_manifest(blobs_directory: &Path, digest: &Digest) -> Option<Manifest> {
    match manifest::parse(&kept(blobs_directory, digest)?, None).ok()? {
        Document::Manifest(image) => Some(image),
        Document::Index(_) => None,
    }
}

/// When a pinned image was made, as its config says, in seconds since the epoch.
pub fn created(
    pin: &DockerPin,
    registry: &Registry<'_>,
    blobs_directory: &Path,
    observer: &dyn Observer,
) -> Result<Option<i64>, DockerError> {
    let source = Source { pin, registry, blobs_directory, observer };
    Ok(source.config(&source.manifest()?)?.created_at())
}

/// `[REGISTRY/][NAMESPACE/]FROM`.
pub fn reference_of(base: &RegistryBase) -> Result<Reference, ReferenceError> {
    let mut text = String::new();
    for part in [&base.registry, &base.namespace].into_iter().flatten() {
        text.push_str(part.trim_end_matches('/'));
        text.push('/');
    }
    let from = base.from.value.trim();
    let from = from.strip_prefix("docker:").unwrap_or(from);
    text.push_str(from.strip_prefix("//").unwrap_or(from));
    Reference::parse(&text)
}

/// Where a blob lies below the directory of blobs.
pub fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join(digest.algorithm().name()).join(digest.hex())
}

/// An error on the way down an index.
pub(super) enum Walk {
    Manifest(ManifestError),
    Other(DockerError),
}

impl From<ManifestError> for Walk {
    fn from(cause: ManifestError) -> Walk {
        Walk::Manifest(cause)
    }
}

pub(super) fn fetch_inner(pull: &Pull<'_>, descriptor: &Descriptor, blobs_directory: &Path) -> Result<Document, Walk> {
    let document = pull.manifest_of(&descriptor.digest).map_err(|error| Walk::Other(error.into()))?;
    keep(blobs_directory, &document).map_err(Walk::Other)?;
    Ok(manifest::parse(&document.bytes, document.media_type.as_deref().or(Some(&descriptor.media_type)))?)
}

/// Keeps a manifest, so that a later build with the same pin needs no network.
pub(super) fn keep(directory: &Path, document: &ManifestDocument) -> Result<(), DockerError> {
    if kept(directory, &document.digest).is_some() {
        return Ok(());
    }
    let path = blob_path(directory, &document.digest);
    let write = || {
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent)?;
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        file.write_all(&document.bytes)?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(|cause| DockerError::Store { path: path.clone(), cause })
}

struct Source<'a> {
    pin: &'a DockerPin,
    registry: &'a Registry<'a>,
    blobs_directory: &'a Path,
    observer: &'a dyn Observer,
}

impl Source<'_> {
    fn manifest(&self) -> Result<Manifest, DockerError> {
        let digest = &self.pin.platform_digest;
        let reference = || self.pin.reference.to_string();
        let (bytes, media_type) = match kept(self.blobs_directory, digest) {
            Some(bytes) => (bytes, None),
            None => {
                let document = self.registry.pull(&self.pinned(), self.observer)?.manifest_of(digest)?;
                keep(self.blobs_directory, &document)?;
                (document.bytes, document.media_type)
            }
        };
        let document = manifest::parse(&bytes, media_type.as_deref())
            .map_err(|cause| DockerError::Manifest { reference: reference(), cause })?;
        match document {
            Document::Manifest(image) => Ok(image),
            Document::Index(_) => Err(DockerError::NotAnImage { reference: reference(), digest: digest.clone() }),
        }
    }

    fn config_descriptor<'m>(&self, image: &'m Manifest) -> Result<&'m Descriptor, DockerError> {
        let Descriptor { digest, size, .. } = &image.config;
        if *size > MAXIMUM_DOCUMENT as u64 {
            let reference = self.pin.reference.to_string();
            return Err(DockerError::ConfigSize { reference, digest: digest.clone(), size: *size });
        }
        Ok(&image.config)
    }

    /// Layers are checked when they are read, the config here: one that was damaged on the disk is brought again.
    fn config(&self, image: &Manifest) -> Result<ImageConfig, DockerError> {
        let descriptor = self.config_descriptor(image)?;
        let path = blob_path(self.blobs_directory, &descriptor.digest);
        if kept(self.blobs_directory, &descriptor.digest).is_none() {
            let _ = std::fs::remove_file(&path);
            self.blobs(&[descriptor], 1)?;
        }
        let bytes = std::fs::read(&path).map_err(|cause| DockerError::Store { path, cause })?;
        config::parse(&bytes).map_err(|cause| DockerError::Config { reference: self.pin.reference.to_string(), cause })
    }

    /// The reference with its digest: mirrors that serve only digests may be used.
    fn pinned(&self) -> Reference {
        Reference { digest: Some(self.pin.manifest_digest.clone()), ..self.pin.reference.clone() }
    }

    fn blobs(&self, wanted: &[&Descriptor], concurrency: usize) -> Result<(), DockerError> {
        let mut missing: Vec<(&Descriptor, PathBuf)> = Vec::new();
        for descriptor in wanted {
            let path = blob_path(self.blobs_directory, &descriptor.digest);
            let present = std::fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == descriptor.size);
            if present {
                mark_used(&path);
            } else if !missing.iter().any(|(other, _)| other.digest == descriptor.digest) {
                // One layer may occur twice.
                missing.push((descriptor, path));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let bytes: u64 = missing.iter().map(|(descriptor, _)| descriptor.size).fold(0, u64::saturating_add);
        self.observer.observe(Event::Detail(format!(
            "{}: {} of {} blobs to download, {bytes} bytes",
            self.pin.reference,
            missing.len(),
            wanted.len()
        )));
        self.registry.pull(&self.pinned(), self.observer)?.blobs(&missing, concurrency)?;
        Ok(())
    }
}

/// A kept document whose bytes are still right.
pub(super) fn kept(directory: &Path, digest: &Digest) -> Option<Vec<u8>> {
    let path = blob_path(directory, digest);
    let length = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?.len();
    if length > MAXIMUM_DOCUMENT as u64 {
        return None;
    }
    let bytes = std::fs::read(&path).ok()?;
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(&bytes);
    let sound = hasher.finish() == *digest;
    if sound {
        mark_used(&path);
    }
    sound.then_some(bytes)
}

#[cfg(test)]
mod tests;
