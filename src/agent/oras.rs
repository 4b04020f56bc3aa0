//! `Bootstrap: oras`: a SIF from a registry, kept among the blobs and then read as a local image. And the way back: [`push`].
//!
//! Sources: facts §2.4, §6.1.

pub mod attach;
pub mod push;

use super::docker::{DockerError, blob_path, fetch_inner, keep, kept, kept_manifest};
use super::local::Digests;
use crate::digest::Digest;
use crate::event::{Event, Observer};
use crate::fetch::FetchError;
use crate::fetch::registry::{Pull, Registry};
use crate::oci::artifact::{ArtifactError, TITLE, sif_of};
use crate::oci::manifest::{self, Descriptor, Document, Manifest, ManifestError, Target};
use crate::oci::reference::{Reference, ReferenceError};
use crate::store::mark_used;
use std::path::{Path, PathBuf};

/// What a registry answered for a `From:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrasPin {
    /// As normalised, with the tag.
    pub reference: Reference,
    /// Of the manifest for the wanted platform.
    pub manifest: Digest,
    /// Of the SIF.
    pub digest: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum OrasError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{reference}: {cause}")]
    Manifest { reference: String, cause: ManifestError },
    #[error("{reference}: {cause}")]
    Artifact { reference: String, cause: ArtifactError },
    #[error(
        "{reference}: the manifest {manifest} holds the SIF {found}, and not {wanted}; build without the lock file, or correct it"
    )]
    AnotherSif { reference: String, manifest: Digest, wanted: Digest, found: Digest },
    #[error(transparent)]
    Blobs(#[from] DockerError),
    #[error("cannot push {path}: {cause}", path = path.display())]
    Image { path: PathBuf, cause: String },
    #[error("cannot write {path}: {cause}", path = path.display())]
    Place { path: PathBuf, cause: String },
    #[error("{path} does not say for which architecture it is, so that an index cannot name it", path = path.display())]
    NoArchitecture { path: PathBuf },
    #[error("{reference}: an image is pushed to a tag, and not to a digest")]
    NeedsTag { reference: String },
    #[error(
        "{reference} has images for {platforms}, which one image without --arch would replace; --arch puts it beside them, --force replaces them"
    )]
    WouldReplaceIndex { reference: String, platforms: String },
    #[error("{reference} is no SIF but something else, which would be replaced; use another tag, or --force")]
    WouldReplaceOther { reference: String },
}

/// Asks the registry which SIF the base is, and keeps the manifests among the blobs.
pub fn pin(
    from: &str,
    target: &Target,
    registry: &Registry<'_>,
    blobs_directory: &Path,
    observer: &dyn Observer,
) -> Result<OrasPin, OrasError> {
    let reference = Reference::parse(from.trim())?;
    let name = || reference.to_string();
    let pull = registry.pull(&reference, observer)?;
    let top = pull.manifest()?;
    keep(blobs_directory, &top)?;
    let fault = |cause| OrasError::Manifest { reference: name(), cause };
    let document = manifest::parse(&top.bytes, top.media_type.as_deref()).map_err(fault)?;
    let mut fetch = |descriptor: &Descriptor| fetch_inner(&pull, descriptor, blobs_directory);
    let (image, from) = manifest::resolve(document, target, &mut fetch).map_err(|error| match error {
        super::docker::Walk::Manifest(cause) => fault(cause),
        super::docker::Walk::Other(error) => OrasError::Blobs(error),
    })?;
    let sif = sif_of(&image).map_err(|cause| OrasError::Artifact { reference: name(), cause })?;
    let manifest = from.map_or_else(|| top.digest.clone(), |descriptor| descriptor.digest);
    Ok(OrasPin { digest: sif.digest.clone(), manifest, reference })
}

/// Brings the pinned SIF, if it is not among the blobs already, and gives its path. What lies there with other bytes is brought again.
pub fn provide(
    pin: &OrasPin,
    registry: &Registry<'_>,
    blobs_directory: &Path,
    digests: &Digests,
    observer: &dyn Observer,
) -> Result<PathBuf, OrasError> {
    let name = pin.reference.to_string();
    let pinned = Reference { digest: Some(pin.manifest.clone()), ..pin.reference.clone() };
    let pull = || -> Result<Pull<'_>, FetchError> { registry.pull(&pinned, observer) };
    let image = manifest_of(pin, &pull, blobs_directory)?;
    let sif = sif_of(&image).map_err(|cause| OrasError::Artifact { reference: name.clone(), cause })?;
    if sif.digest != pin.digest {
        let (manifest, wanted, found) = (pin.manifest.clone(), pin.digest.clone(), sif.digest.clone());
        return Err(OrasError::AnotherSif { reference: name, manifest, wanted, found });
    }
    let path = blob_path(blobs_directory, &sif.digest);
    if digests.holds(&path, &sif.digest, sif.size) {
        mark_used(&path);
        digests.proven(&path, &sif.digest);
        return Ok(path);
    }
    let title = sif.annotations.get(TITLE).map_or("a SIF", String::as_str);
    observer.observe(Event::Detail(format!("{name}: {title:?} has to be downloaded, {} bytes", sif.size)));
    pull()?.blobs(&[(sif, path.clone())], 1)?;
    digests.proven(&path, &sif.digest);
    Ok(path)
}

/// Bytes of a pinned SIF, where its manifest is kept.
pub fn kept_size(blobs_directory: &Path, manifest: &Digest, digest: &Digest) -> Option<u64> {
    let image = kept_manifest(blobs_directory, manifest)?;
    sif_of(&image).ok().filter(|sif| sif.digest == *digest).map(|sif| sif.size)
}

fn manifest_of<'a>(
    pin: &OrasPin,
    pull: &dyn Fn() -> Result<Pull<'a>, FetchError>,
    blobs_directory: &Path,
) -> Result<Manifest, OrasError> {
    let fault = |cause| OrasError::Manifest { reference: pin.reference.to_string(), cause };
    let (bytes, media_type) = match kept(blobs_directory, &pin.manifest) {
        Some(bytes) => (bytes, None),
        None => {
            let document = pull()?.manifest_of(&pin.manifest)?;
            keep(blobs_directory, &document)?;
            (document.bytes, document.media_type)
        }
    };
    match manifest::parse(&bytes, media_type.as_deref()).map_err(fault)? {
        Document::Manifest(image) => Ok(image),
        Document::Index(_) => {
            let (reference, digest) = (pin.reference.to_string(), pin.manifest.clone());
            Err(DockerError::NotAnImage { reference, digest }.into())
        }
    }
}

#[cfg(test)]
mod tests;
