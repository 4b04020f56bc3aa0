//! `localimage`: a base that is an image already, on this host: SIF, bare squashfs, or sandbox directory (facts §2.6).

use super::encrypted::{self, PartitionError, Source, Unlocking};
use crate::digest::{Algorithm, Digest, Hasher, HashingReader};
use crate::disk::{self, ScanOptions};
use crate::pins::LocalKind;
use crate::sif::format::{DataType, PartitionType};
use crate::sif::reader::{Sif, is_sif};
use crate::squashfs::format::{SUPERBLOCK_SIZE, Superblock};
use crate::squashfs::{Image, Window};
use crate::store::{Contents, Held};
use crate::tree::{Layer, text};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes looked at to know what an image is (facts §5.3).
const START: u64 = 2048;
/// Largest `oci-config.json` object taken over from a base.
const MAXIMUM_CONFIG: u64 = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("{path} does not exist", path = .0.display())]
    Missing(PathBuf),
    #[error("cannot read {path}: {cause}", path = path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("{path} is no image: neither a SIF, nor a squashfs, nor a directory", path = .0.display())]
    Unknown(PathBuf),
    #[error("{path} is not a sound SIF: {cause}", path = path.display())]
    Sif { path: PathBuf, cause: String },
    #[error("{path} holds no root filesystem: it has no primary system partition", path = .0.display())]
    NoPartition(PathBuf),
    #[error("{path} {cause}", path = path.display())]
    Partition { path: PathBuf, cause: PartitionError },
    #[error("{path}: its squashfs is not sound: {cause}", path = path.display())]
    Squashfs { path: PathBuf, cause: String },
    #[error("{path} changed while it was built from, or is not the image that the lock file names; build again", path = .0.display())]
    Changed(PathBuf),
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// A local image's content as a layer.
pub struct LocalBase {
    pub held: Held,
    /// The object `oci-config.json`, when the SIF has one.
    pub oci_config: Option<Vec<u8>>,
}

/// What the image at `path` is; `None` when it is none.
pub fn recognise(path: &Path) -> Result<Option<LocalKind>, LocalError> {
    let fault = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => LocalError::Missing(path.to_path_buf()),
        _ => LocalError::Read { path: path.to_path_buf(), cause },
    };
    if std::fs::metadata(path).map_err(fault)?.is_dir() {
        return Ok(Some(LocalKind::Sandbox));
    }
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(START).read_to_end(&mut start)).map_err(fault)?;
    Ok(if is_sif(&start) {
        Some(LocalKind::Sif)
    } else if start.starts_with(b"hsqs") {
        Some(LocalKind::Squashfs)
    } else {
        None
    })
}

/// Digests of files that were read, so that a file that nobody touched is not read twice.
#[derive(Default)]
pub struct Digests(RefCell<HashMap<PathBuf, (Stamp, Digest)>>);

/// An open file whose bytes were the pinned ones.
pub struct Pinned {
    pub file: File,
    stamp: Stamp,
    path: PathBuf,
}

impl Pinned {
    /// Whether they have been so all the time.
    pub fn check(&self) -> Result<(), LocalError> {
        let found = self.file.metadata().map_err(|cause| LocalError::Read { path: self.path.clone(), cause })?;
        if stamp(&found) == self.stamp { Ok(()) } else { Err(LocalError::Changed(self.path.clone())) }
    }
}

/// What changes when a file's bytes do: device, inode, length, times of modification and change.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamp(found: &Metadata) -> Stamp {
    let times = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    (found.dev(), found.ino(), found.len(), times.0, times.1)
}

impl Digests {
    /// A file was hashed while it was written.
    pub fn proven(&self, path: &Path, digest: &Digest) {
        if let Ok(found) = std::fs::metadata(path) {
            self.0.borrow_mut().insert(path.to_path_buf(), (stamp(&found), digest.clone()));
        }
    }

    /// Whether the file has these bytes; one of another length is not read.
    pub fn holds(&self, path: &Path, digest: &Digest, size: u64) -> bool {
        let right = std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size);
        right && self.of(path).is_ok_and(|found| found == *digest)
    }

    /// Opens the file, which must have these bytes.
    pub fn open(&self, path: &Path, digest: &Digest) -> Result<Pinned, LocalError> {
        let fault = |cause| LocalError::Read { path: path.to_path_buf(), cause };
        let file = File::open(path).map_err(fault)?;
        let stamp = stamp(&file.metadata().map_err(fault)?);
        let found = self.of(path)?;
        let is_same = self.0.borrow().get(path).is_some_and(|(then, _)| *then == stamp);
        if found != *digest || !is_same {
            return Err(LocalError::Changed(path.to_path_buf()));
        }
        Ok(Pinned { file, stamp, path: path.to_path_buf() })
    }

    fn of(&self, path: &Path) -> Result<Digest, LocalError> {
        let fault = |cause| LocalError::Read { path: path.to_path_buf(), cause };
        let file = File::open(path).map_err(fault)?;
        let now = stamp(&file.metadata().map_err(fault)?);
        if let Some((then, digest)) = self.0.borrow().get(path)
            && *then == now
        {
            return Ok(digest.clone());
        }
        let mut reader = HashingReader::new(file, Algorithm::Sha256);
        io::copy(&mut reader, &mut io::sink()).map_err(fault)?;
        let digest = reader.finish().0;
        self.0.borrow_mut().insert(path.to_path_buf(), (now, digest.clone()));
        Ok(digest)
    }
}

/// Kind and identity of an image: of a file the digest of its bytes, of a directory that of its names, metadata and sizes.
///
/// An encrypted image that does not open is refused here, before any work.
pub fn pin(path: &Path, digests: &Digests, unlocking: Option<&Unlocking>) -> Result<(LocalKind, Digest), LocalError> {
    let kind = recognise(path)?.ok_or_else(|| LocalError::Unknown(path.to_path_buf()))?;
    if kind == LocalKind::Sif {
        open_sif(path, unlocking)?;
    }
    let digest = match kind {
        LocalKind::Sandbox => digest_of_directory(&disk::scan(path, &ScanOptions::default())?),
        LocalKind::Squashfs | LocalKind::Sif => digests.of(path)?,
    };
    Ok((kind, digest))
}

fn digest_of_directory(layer: &Layer) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(text::write(layer).as_bytes());
    hasher.finish()
}

/// The content of an image that [`pin`] gave the digest of.
pub fn provide(
    path: &Path,
    kind: LocalKind,
    pinned: &Digest,
    digests: &Digests,
    unlocking: Option<&Unlocking>,
) -> Result<LocalBase, LocalError> {
    let changed = || LocalError::Changed(path.to_path_buf());
    if kind == LocalKind::Sandbox {
        let layer = disk::scan(path, &ScanOptions::default())?;
        if digest_of_directory(&layer) != *pinned {
            return Err(changed());
        }
        let contents = Contents::Directory(path.to_path_buf());
        return Ok(LocalBase { held: Held { layer, contents }, oci_config: None });
    }
    if digests.of(path)? != *pinned {
        return Err(changed());
    }
    if kind == LocalKind::Sif {
        return provide_sif(path, unlocking);
    }
    let fault = |cause| LocalError::Read { path: path.to_path_buf(), cause };
    let mut file = File::open(path).map_err(fault)?;
    let size = file.seek(SeekFrom::End(0)).map_err(fault)?;
    open_squashfs(path, Box::new(Window::new(file, 0, size))).map(|held| LocalBase { held, oci_config: None })
}

/// When the image was made, in seconds since the epoch: what the SIF says, else its squashfs. A directory does not say.
pub fn created(path: &Path, kind: LocalKind) -> Result<Option<i64>, LocalError> {
    let fault = |cause| LocalError::Read { path: path.to_path_buf(), cause };
    let mut file = match kind {
        LocalKind::Sandbox => return Ok(None),
        LocalKind::Sif | LocalKind::Squashfs => File::open(path).map_err(fault)?,
    };
    let mut offset = 0;
    if kind == LocalKind::Sif {
        let sif =
            Sif::read(file).map_err(|error| LocalError::Sif { path: path.to_path_buf(), cause: error.to_string() })?;
        let time = sif.header().created_at;
        if time > 0 {
            return Ok(Some(time));
        }
        offset = sif.partition(PartitionType::PRIMARY_SYSTEM).map_or(0, |(descriptor, _)| descriptor.offset as u64);
        (file, _, _) = sif.into_parts();
    }
    let mut bytes = [0; SUPERBLOCK_SIZE];
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(fault)?;
    Ok(Superblock::parse(&bytes).ok().map(|superblock| i64::from(superblock.mkfs_time)))
}

fn provide_sif(path: &Path, unlocking: Option<&Unlocking>) -> Result<LocalBase, LocalError> {
    let (mut sif, source) = open_sif(path, unlocking)?;
    let config = sif.find_named(DataType::GENERIC_JSON, "oci-config.json").cloned();
    let oci_config = config
        .map(|config| sif.contents(&config, MAXIMUM_CONFIG))
        .transpose()
        .map_err(|error| LocalError::Sif { path: path.to_path_buf(), cause: error.to_string() })?;
    Ok(LocalBase { held: open_squashfs(path, source)?, oci_config })
}

/// A SIF, and the squashfs that is its root filesystem.
fn open_sif(path: &Path, unlocking: Option<&Unlocking>) -> Result<(Sif<File>, Source), LocalError> {
    let file = File::open(path).map_err(|cause| LocalError::Read { path: path.to_path_buf(), cause })?;
    let mut sif =
        Sif::read(file).map_err(|error| LocalError::Sif { path: path.to_path_buf(), cause: error.to_string() })?;
    let (descriptor, partition) =
        sif.partition(PartitionType::PRIMARY_SYSTEM).ok_or_else(|| LocalError::NoPartition(path.to_path_buf()))?;
    let place = (descriptor.id, descriptor.offset as u64, descriptor.size as u64);
    let source = encrypted::open(&mut sif, place, &partition, unlocking)
        .map_err(|cause| LocalError::Partition { path: path.to_path_buf(), cause })?;
    Ok((sif, source))
}

fn open_squashfs(path: &Path, source: Source) -> Result<Held, LocalError> {
    let image = Image::open(source)
        .map_err(|error| LocalError::Squashfs { path: path.to_path_buf(), cause: error.to_string() })?;
    Ok(Held { layer: image.tree.layer(), contents: Contents::Squashfs(Arc::new(image)) })
}
