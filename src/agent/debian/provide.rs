//! Brings what a pin names: the package files, verified, and the unpacked core as one layer.

use crate::agent::packages::{self, DownloadError, Elsewhere, Missing, PathError, write_layer};
use crate::deb::base::{self, BaseError};
use crate::deb::pin::{DebianPin, PackagePin};
use crate::deb::script::{PACKAGES_DIRECTORY, configure_script};
use crate::digest::HashingReader;
use crate::event::Observer;
use crate::fetch::http::Fetch;
use crate::rpm::metadata::Checksum;
use crate::store::{LayerBlob, mark_used};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A base that is ready for the sandbox: lay out `layer`, bind `mounts`, run `script` with `/bin/sh` as root of the image.
#[derive(Clone, Debug)]
pub struct DebianBase {
    /// The core, unpacked: an uncompressed tar archive with true owners.
    pub layer: LayerBlob,
    pub script: String,
    pub mounts: Vec<Mount>,
}

/// A directory of the host that the script sees, read only; no trace of its target may stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub host: PathBuf,
    /// Absolute, in the image.
    pub target: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub enum ProvideError {
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Base(#[from] BaseError),
    #[error("the kept package file {path} is damaged; remove it", path = path.display())]
    Damaged { path: PathBuf },
}

/// Downloads what is not in `blobs` yet (`sha256/HEX` below it), and makes the layer and a folder of package files in `work`, which
/// must outlive the script.
pub fn provide(
    pin: &DebianPin,
    blobs: &Path,
    work: &Path,
    elsewhere: &Elsewhere,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<DebianBase, ProvideError> {
    bring(pin, blobs, elsewhere, fetch, observer)?;
    let files = pin.packages.iter().map(|package| (blob(blobs, package), package.file_name()));
    let packages = packages::stage(files, work)?;
    let open = |package: &PackagePin| packages::open(&blob(blobs, package));
    let layer =
        write_layer(work.join("base.tar"), |writer| base::write(pin, open, writer).map_err(ProvideError::from))?;
    let mounts = vec![Mount { host: packages, target: PACKAGES_DIRECTORY }];
    Ok(DebianBase { layer, script: configure_script(pin), mounts })
}

pub(super) fn blob(blobs: &Path, package: &PackagePin) -> PathBuf {
    packages::place(blobs, &Checksum::from(&package.digest))
}

/// Brings the package files that are not among the blobs.
pub fn bring(
    pin: &DebianPin,
    blobs: &Path,
    elsewhere: &Elsewhere,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<(), ProvideError> {
    let mut missing = Vec::new();
    for package in &pin.packages {
        let destination = blob(blobs, package);
        match File::open(&destination) {
            Ok(file) => check(package, &destination, file)?,
            Err(_) => missing.push(Missing {
                label: format!("{} {}", package.name, package.version),
                name: &package.name,
                checksum: Checksum::from(&package.digest),
                size: package.size,
                location: &package.filename,
                bases: vec![format!("{}/", pin.mirror)],
                destination,
            }),
        }
    }
    Ok(elsewhere.download(&missing, fetch, observer)?)
}

/// What lies there was verified when it came; disks and other programs may have changed it since.
fn check(package: &PackagePin, path: &Path, file: File) -> Result<(), ProvideError> {
    let mut reader = HashingReader::new(file, package.digest.algorithm());
    io::copy(&mut reader, &mut io::sink()).map_err(PathError::at("cannot read", path))?;
    match reader.finish().0 == package.digest {
        true => {
            mark_used(path);
            Ok(())
        }
        false => Err(ProvideError::Damaged { path: path.to_path_buf() }),
    }
}
