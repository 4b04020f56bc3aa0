//! `busybox`: one static binary from a URL (facts §2.7). Its applets become symbolic links, made by itself inside the sandbox.

use crate::digest::Digest;
use crate::event::Observer;
use crate::fetch::FetchError;
use crate::fetch::download::{Expected, download};
use crate::fetch::http::{Fetch, parse_url};
use crate::store::mark_used;
use crate::tree::{Layer, Metadata, PathError, TreePath};
use std::path::{Path, PathBuf};

/// Largest binary accepted; real ones have 1 to 3 MB.
const MAXIMUM_SIZE: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum BusyboxError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("cannot keep {path}: {cause}", path = path.display())]
    Keep { path: PathBuf, cause: std::io::Error },
    #[error("{url} is not a program: it does not begin as an ELF file does")]
    NotElf { url: String },
    #[error(transparent)]
    Path(#[from] PathError),
}

/// Downloads the binary into the blob directory and gives its digest.
pub fn pin(url: &str, blobs: &Path, fetch: &dyn Fetch, observer: &dyn Observer) -> Result<Digest, BusyboxError> {
    let draft = tempfile::Builder::new()
        .prefix(".busybox-")
        .tempdir_in(blobs)
        .map_err(|cause| BusyboxError::Keep { path: blobs.to_path_buf(), cause })?;
    let file = draft.path().join("busybox");
    let got = download(
        fetch,
        &[parse_url(url)?],
        &file,
        &Expected { most: Some(MAXIMUM_SIZE), ..Expected::default() },
        observer,
        "busybox",
    )?;
    let place = place(blobs, &got.digest);
    std::fs::rename(&file, &place).map_err(|cause| BusyboxError::Keep { path: place.clone(), cause })?;
    Ok(got.digest)
}

/// Downloads the pinned binary where it is not at hand.
pub fn bring(
    url: &str,
    digest: &Digest,
    blobs: &Path,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<(), BusyboxError> {
    let place = place(blobs, digest);
    if !place.exists() {
        let expected = Expected { digest: Some(digest.clone()), size: None, most: Some(MAXIMUM_SIZE) };
        download(fetch, &[parse_url(url)?], &place, &expected, observer, "busybox")?;
    }
    Ok(())
}

/// `/bin/busybox`; [`INSTALL`] makes the applets, the skeleton users and hosts.
pub fn provide(url: &str, digest: &Digest, blobs: &Path, modification_time: i64) -> Result<Layer, BusyboxError> {
    let place = place(blobs, digest);
    mark_used(&place);
    let bytes = std::fs::read(&place).map_err(|cause| BusyboxError::Keep { path: place, cause })?;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(BusyboxError::NotElf { url: url.to_owned() });
    }
    let mut layer = Layer::default();
    layer.put_file(TreePath::parse("bin/busybox")?, Metadata::new(0o755, modification_time), bytes);
    Ok(layer)
}

/// What makes the applets, run inside the sandbox on the layer that [`provide`] gives.
pub const INSTALL: [&str; 3] = ["/bin/busybox", "--install", "/bin"];

fn place(blobs: &Path, digest: &Digest) -> PathBuf {
    blobs.join(digest.algorithm().name()).join(digest.hex())
}
