//! Brings what a pin names: the package files, verified, and the unpacked core as one layer.

use crate::archive::compress::Compression;
use crate::deb::base::{self, BaseError};
use crate::deb::pin::{DebianPin, PackagePin};
use crate::deb::script::{PACKAGES_DIRECTORY, configure_script};
use crate::digest::{Algorithm, HashingReader, HashingWriter};
use crate::event::Observer;
use crate::fetch::FetchError;
use crate::fetch::download::{Expected, Job, download_all};
use crate::fetch::http::{Fetch, parse_url};
use crate::store::{LayerBlob, mark_used};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};

/// Package files on their way at the same time.
const CONCURRENCY: usize = 8;

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
    Fetch(#[from] FetchError),
    #[error("{action} {path}: {cause}", path = path.display())]
    Path { action: &'static str, path: PathBuf, cause: io::Error },
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
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<DebianBase, ProvideError> {
    download(pin, blobs, fetch, observer)?;
    let packages = stage(pin, blobs, work)?;
    let path = work.join("base.tar");
    let fault = |cause| ProvideError::Path { action: "cannot write", path: path.clone(), cause };
    let file = File::create(&path).map_err(fault)?;
    let mut writer = HashingWriter::new(BufWriter::with_capacity(1 << 20, file), Algorithm::Sha256);
    let open = |package: &PackagePin| -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(BufReader::new(File::open(blob(blobs, package))?)))
    };
    base::write(pin, open, &mut writer)?;
    let (_, digest, length) = writer.finish();
    Ok(DebianBase {
        layer: LayerBlob {
            digest: Some(digest.clone()),
            diff_id: Some(digest),
            file: path,
            offset: 0,
            length,
            compression: Compression::None,
        },
        script: configure_script(pin),
        mounts: vec![Mount { host: packages, target: PACKAGES_DIRECTORY }],
    })
}

fn blob(blobs: &Path, package: &PackagePin) -> PathBuf {
    blobs.join(package.digest.algorithm().name()).join(package.digest.hex())
}

fn download(pin: &DebianPin, blobs: &Path, fetch: &dyn Fetch, observer: &dyn Observer) -> Result<(), ProvideError> {
    let mut jobs = Vec::new();
    for package in &pin.packages {
        let destination = blob(blobs, package);
        if let Some(folder) = destination.parent() {
            let fault = |cause| ProvideError::Path { action: "cannot make", path: folder.to_path_buf(), cause };
            std::fs::create_dir_all(folder).map_err(fault)?;
        }
        match File::open(&destination) {
            Ok(file) => check(package, &destination, file)?,
            Err(_) => jobs.push(Job {
                urls: vec![parse_url(&format!("{}/{}", pin.mirror, package.filename))?],
                destination,
                expected: Expected { digest: Some(package.digest.clone()), size: Some(package.size), most: None },
                label: format!("{} {}", package.name, package.version),
            }),
        }
    }
    download_all(fetch, &jobs, CONCURRENCY, observer)?;
    Ok(())
}

/// What lies there was verified when it came; disks and other programs may have changed it since.
fn check(package: &PackagePin, path: &Path, file: File) -> Result<(), ProvideError> {
    let fault = |cause| ProvideError::Path { action: "cannot read", path: path.to_path_buf(), cause };
    let mut reader = HashingReader::new(file, package.digest.algorithm());
    io::copy(&mut reader, &mut io::sink()).map_err(fault)?;
    match reader.finish().0 == package.digest {
        true => {
            mark_used(path);
            Ok(())
        }
        false => Err(ProvideError::Damaged { path: path.to_path_buf() }),
    }
}

/// A folder with the package files under the names that the script uses: other names for the blobs, or copies.
fn stage(pin: &DebianPin, blobs: &Path, work: &Path) -> Result<PathBuf, ProvideError> {
    let folder = work.join("packages");
    let fault = |action, path: &Path, cause| ProvideError::Path { action, path: path.to_path_buf(), cause };
    std::fs::create_dir_all(&folder).map_err(|cause| fault("cannot make", &folder, cause))?;
    for package in &pin.packages {
        let (source, target) = (blob(blobs, package), folder.join(package.file_name()));
        // Invariant: a copy must never be written through a name that an earlier run made of the blob itself.
        match std::fs::remove_file(&target) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(fault("cannot remove", &target, cause));
            }
            _ => {}
        }
        if std::fs::hard_link(&source, &target).is_err() {
            std::fs::copy(&source, &target).map_err(|cause| fault("cannot write", &target, cause))?;
        }
    }
    Ok(folder)
}
