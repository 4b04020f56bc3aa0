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
    /// The file that `held` is read from, to be checked when all of it was read. A directory has none.
    pub pinned: Option<Pinned>,
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
pub fn pin(path: &Path, digests: &Digests) -> Result<(LocalKind, Digest), LocalError> {
    let kind = recognise(path)?.ok_or_else(|| LocalError::Unknown(path.to_path_buf()))?;
    let digest = match kind {
        LocalKind::Sandbox => digest_of_directory(&disk::scan(path, &ScanOptions::default())?),
        LocalKind::Squashfs | LocalKind::Sif => digests.of(path)?,
    };
    Ok((kind, digest))
}

/// Refuses a SIF whose root filesystem does not open, with the key if it needs one, before any work. For a base that was judged: of one that
/// nobody vouches for, nothing is unwrapped.
pub fn check_opens(
    path: &Path,
    pinned: &Digest,
    digests: &Digests,
    unlocking: Option<&Unlocking>,
) -> Result<(), LocalError> {
    let file = digests.open(path, pinned)?.file;
    open_sif(path, file, unlocking).map(drop)
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
        return Ok(LocalBase { held: Held { layer, contents }, oci_config: None, pinned: None });
    }
    let pinned = digests.open(path, pinned)?;
    provide_pinned(path, kind, pinned, unlocking)
}

/// Invariant: all is read from the descriptor whose bytes were hashed; the path may name another file by now.
fn provide_pinned(
    path: &Path,
    kind: LocalKind,
    pinned: Pinned,
    unlocking: Option<&Unlocking>,
) -> Result<LocalBase, LocalError> {
    let fault = |cause| LocalError::Read { path: path.to_path_buf(), cause };
    let mut file = pinned.file.try_clone().map_err(fault)?;
    let (held, oci_config) = match kind {
        LocalKind::Sif => provide_sif(path, file, unlocking)?,
        _ => {
            let size = file.seek(SeekFrom::End(0)).map_err(fault)?;
            (open_squashfs(path, Box::new(Window::new(file, 0, size)))?, None)
        }
    };
    pinned.check()?;
    Ok(LocalBase { held, oci_config, pinned: Some(pinned) })
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

fn provide_sif(path: &Path, file: File, unlocking: Option<&Unlocking>) -> Result<(Held, Option<Vec<u8>>), LocalError> {
    let (mut sif, source) = open_sif(path, file, unlocking)?;
    let config = sif.find_named(DataType::GENERIC_JSON, "oci-config.json").cloned();
    let oci_config = config
        .map(|config| sif.contents(&config, MAXIMUM_CONFIG))
        .transpose()
        .map_err(|error| LocalError::Sif { path: path.to_path_buf(), cause: error.to_string() })?;
    Ok((open_squashfs(path, source)?, oci_config))
}

/// A SIF, and the squashfs that is its root filesystem.
fn open_sif(path: &Path, file: File, unlocking: Option<&Unlocking>) -> Result<(Sif<File>, Source), LocalError> {
    let mut sif =
        Sif::read(file).map_err(|error| LocalError::Sif { path: path.to_path_buf(), cause: error.to_string() })?;
    let (descriptor, partition) =
        sif.partition(PartitionType::PRIMARY_SYSTEM).ok_or_else(|| LocalError::NoPartition(path.to_path_buf()))?;
    let place = (descriptor.id, descriptor.offset as u64, descriptor.size as u64);
    let source = encrypted::open(&mut sif, place, &partition, unlocking)
        .map_err(|cause| LocalError::Partition { path: path.to_path_buf(), cause })?;
    Ok((sif, source))
}

/// The root filesystem of an image file as it is now, for who looks into it: nothing is pinned.
pub fn open(path: &Path, kind: LocalKind, unlocking: Option<&Unlocking>) -> Result<Image<Source>, LocalError> {
    let fault = |cause| LocalError::Read { path: path.to_path_buf(), cause };
    let mut file = File::open(path).map_err(fault)?;
    let source = match kind {
        LocalKind::Sif => open_sif(path, file, unlocking)?.1,
        _ => {
            let size = file.seek(SeekFrom::End(0)).map_err(fault)?;
            Box::new(Window::new(file, 0, size))
        }
    };
    open_image(path, source)
}

fn open_image(path: &Path, source: Source) -> Result<Image<Source>, LocalError> {
    Image::open(source).map_err(|error| LocalError::Squashfs { path: path.to_path_buf(), cause: error.to_string() })
}

fn open_squashfs(path: &Path, source: Source) -> Result<Held, LocalError> {
    let image = open_image(path, source)?;
    Ok(Held { layer: image.tree.layer(), contents: Contents::Squashfs(Arc::new(image)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::squashfs::{Options, Writer};
    use crate::tree::Tree;
    use std::os::unix::fs::{FileExt, symlink};
    use std::time::Duration;

    /// An empty image of that date.
    fn image(path: &Path, modification_time: u32) {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let writer = Writer::new(file, Options { modification_time, ..Options::default() }).unwrap();
        writer.finish(&Tree::new(), &|_| None).unwrap();
    }

    fn date(base: &LocalBase) -> u32 {
        match &base.held.contents {
            Contents::Squashfs(image) => image.superblock().mkfs_time,
            _ => panic!("no squashfs"),
        }
    }

    #[test]
    fn the_base_is_the_file_that_was_hashed_and_not_what_the_path_names_by_now() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        image(&at("good"), 1);
        image(&at("other"), 2);
        symlink("good", at("base")).unwrap();
        let digests = Digests::default();
        let (kind, digest) = pin(&at("base"), &digests).unwrap();
        assert_eq!(date(&provide(&at("base"), kind, &digest, &digests, None).unwrap()), 1);

        let pinned = digests.open(&at("base"), &digest).unwrap();
        std::fs::remove_file(at("base")).unwrap();
        symlink("other", at("base")).unwrap();
        assert_eq!(date(&provide_pinned(&at("base"), kind, pinned, None).unwrap()), 1);
        let swapped = provide(&at("base"), kind, &digest, &digests, None);
        assert!(matches!(swapped.err(), Some(LocalError::Changed(_))));
    }

    #[test]
    fn a_base_that_is_overwritten_in_place_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("base");
        image(&path, 1);
        let digests = Digests::default();
        let (kind, digest) = pin(&path, &digests).unwrap();
        let base = provide(&path, kind, &digest, &digests, None).unwrap();
        let pinned = base.pinned.unwrap();
        pinned.check().unwrap();
        // Times in a filesystem are as coarse as the kernel's tick.
        std::thread::sleep(Duration::from_millis(20));
        File::options().write(true).open(&path).unwrap().write_all_at(b"x", 100).unwrap();
        assert!(matches!(pinned.check(), Err(LocalError::Changed(_))));
    }
}
