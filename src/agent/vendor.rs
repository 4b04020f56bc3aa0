//! What a lock file names, collected in one place, and taken from there again: an OCI layout (a directory or an archive of it), or the same
//! in a registry. Files are named by what the lock says of them, and none is used that has another checksum.

mod collect;
mod take;

pub use collect::write;
pub use take::Vendor;

use super::docker::kept_manifest;
use super::oci;
use super::packages::{self, PathError};
use crate::deb::pin::DebianPin;
use crate::fetch::FetchError;
use crate::oci::manifest::{OCI_CONFIG, OCI_MANIFEST};
use crate::oci::reference::{Reference, ReferenceError};
use crate::oci::vendor;
use crate::pacman::PacmanPin;
use crate::pins::BasePin;
use crate::rpm::metadata::Checksum;
use crate::rpm::pin::{PackagePin, RpmPin};
use std::path::{Path, PathBuf};

const SIF: &str = crate::oci::artifact::SIF_LAYER;

#[derive(Debug, thiserror::Error)]
pub enum VendorError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("{place}: {cause}")]
    Document { place: String, cause: vendor::VendorError },
    #[error(transparent)]
    Layout(#[from] oci::Error),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the lock file's base cannot be read: {0}")]
    Lock(String),
    #[error("the kept file {path} is damaged; remove it", path = path.display())]
    Damaged { path: PathBuf },
    #[error("{place}: the manifest {blob} is damaged; `sifbuild vendor` makes the collection anew")]
    DamagedManifest { place: String, blob: String },
    #[error(transparent)]
    Disk(#[from] crate::disk::Error),
    #[error("{place} is there and was not made by `sifbuild vendor`; remove it, or name another place")]
    Occupied { place: String },
    #[error("oras://{0}: a collection is pushed to a tag, and not to a digest")]
    NeedsTag(Reference),
}

/// Where a collection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Directory(PathBuf),
    Archive(PathBuf),
    Registry(Reference),
}

impl Place {
    /// `DIRECTORY`, `oci:DIRECTORY`, `oci-archive:FILE` or `oras://REFERENCE`.
    pub fn parse(text: &str) -> Result<Place, ReferenceError> {
        if let Some(rest) = text.strip_prefix("oras://") {
            return Reference::parse(rest).map(Place::Registry);
        }
        Ok(match text.strip_prefix("oci-archive:") {
            Some(path) => Place::Archive(path.into()),
            None => Place::Directory(text.strip_prefix("oci:").unwrap_or(text).into()),
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Directory(path) => write!(formatter, "{}", path.display()),
            Place::Archive(path) => write!(formatter, "oci-archive:{}", path.display()),
            Place::Registry(reference) => write!(formatter, "oras://{reference}"),
        }
    }
}

/// A file that a lock names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// For people.
    pub title: String,
    pub checksum: Checksum,
    pub media_type: String,
    /// In bytes, where the lock says it.
    pub size: Option<u64>,
}

impl Named {
    fn of(title: impl Into<String>, checksum: impl Into<Checksum>, media_type: &str, size: Option<u64>) -> Named {
        Named { title: title.into(), checksum: checksum.into(), media_type: media_type.to_owned(), size }
    }

    /// Among the blobs.
    fn place(&self, blobs: &Path) -> PathBuf {
        packages::place(blobs, &self.checksum)
    }

    /// Says what an image is made of, and is small.
    pub fn is_document(&self) -> bool {
        [OCI_MANIFEST, OCI_CONFIG].contains(&self.media_type.as_str())
    }
}

/// The files of a base, as far as they are known: those of an image when its manifest is among the blobs. Files on this host are none of
/// the lock's.
pub fn named(base: &BasePin, blobs: &Path) -> Result<Vec<Named>, VendorError> {
    let bad = |error: &dyn std::fmt::Display| VendorError::Lock(error.to_string());
    Ok(match base {
        BasePin::Scratch | BasePin::OciLayout { .. } | BasePin::Local { .. } => Vec::new(),
        BasePin::Docker { reference, manifest } => {
            let mut files = vec![Named::of(format!("{reference} manifest"), manifest, OCI_MANIFEST, None)];
            if let Some(image) = kept_manifest(blobs, manifest) {
                let (config, size) = (&image.config.digest, Some(image.config.size));
                files.push(Named::of(format!("{reference} config"), config, OCI_CONFIG, size));
                files.extend(image.layers.iter().enumerate().map(|(number, layer)| {
                    let title = format!("{reference} layer {}", number + 1);
                    Named::of(title, &layer.digest, &layer.media_type, Some(layer.size))
                }));
            }
            files
        }
        BasePin::Oras { reference, manifest, digest } => {
            let title = format!("{reference} manifest");
            vec![Named::of(title, manifest, OCI_MANIFEST, None), Named::of(reference, digest, SIF, None)]
        }
        BasePin::Library { reference, digest, .. } => vec![Named::of(reference, digest, SIF, None)],
        BasePin::Busybox { url, digest } => vec![Named::of(url, digest, "application/octet-stream", None)],
        BasePin::Debian { lines } => {
            let pin = DebianPin::parse(lines).map_err(|error| bad(&error))?;
            let named = |one: &crate::deb::pin::PackagePin| {
                let media_type = "application/vnd.debian.binary-package";
                Named::of(one.file_name(), &one.digest, media_type, Some(one.size))
            };
            pin.packages.iter().map(named).collect()
        }
        BasePin::Rpm { lines } => {
            let pin = RpmPin::parse(lines).map_err(|error| bad(&error))?;
            let named = |one: &PackagePin| {
                Named::of(one.file_name(), one.checksum.clone(), "application/x-rpm", Some(one.size))
            };
            pin.packages.iter().map(named).collect()
        }
        BasePin::Pacman { lines } => {
            let pin = PacmanPin::parse(lines).map_err(|error| bad(&error))?;
            let named = |one: &PackagePin| {
                Named::of(&one.location, one.checksum.clone(), "application/x-alpm-package", Some(one.size))
            };
            pin.base.packages.iter().map(named).collect()
        }
    })
}
