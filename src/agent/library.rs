//! `Bootstrap: library`: a SIF from a library, kept among the blobs and then read as a local image.
//!
//! Source: facts §2.3.

use super::docker::blob_path;
use super::local::Digests;
use crate::arch::Arch;
use crate::digest::Digest;
use crate::event::Observer;
use crate::fetch::http::Fetch;
use crate::fetch::library::{LibraryError, LibraryReference, Settings};
use crate::store::mark_used;
use std::path::{Path, PathBuf};

/// What a library answered for a `From:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryPin {
    pub reference: LibraryReference,
    /// The library's address.
    pub url: String,
    /// Of the SIF.
    pub digest: Digest,
    /// Its bytes, where the library was asked just now.
    pub size: Option<u64>,
}

/// Asks the library that is meant (`header` is `Library:`) which SIF the base is.
pub fn pin(
    from: &str,
    header: Option<&str>,
    arch: Arch,
    settings: &Settings,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<LibraryPin, LibraryError> {
    let reference = LibraryReference::parse(from.trim())?;
    let library = settings.open(header, &reference, fetch, observer)?;
    let image = library.image(&reference, arch, observer)?;
    Ok(LibraryPin { url: library.url(), digest: image.digest, size: Some(image.size), reference })
}

/// Brings the pinned SIF, if it is not among the blobs already, and gives its path.
pub fn provide(
    pin: &LibraryPin,
    arch: Arch,
    settings: &Settings,
    fetch: &dyn Fetch,
    blobs_directory: &Path,
    digests: &Digests,
    observer: &dyn Observer,
) -> Result<PathBuf, LibraryError> {
    let path = blob_path(blobs_directory, &pin.digest);
    if std::fs::metadata(&path).is_ok_and(|found| digests.holds(&path, &pin.digest, found.len())) {
        mark_used(&path);
        digests.proven(&path, &pin.digest);
        return Ok(path);
    }
    let library = settings.open_at(&pin.url, fetch, observer)?;
    let image = library.image(&pin.reference.with_digest(&pin.digest), arch, observer)?;
    library.download(&pin.reference, arch, &image, &path, observer)?;
    digests.proven(&path, &pin.digest);
    Ok(path)
}
