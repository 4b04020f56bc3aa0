//! What agents of distributions do with package files, whatever their format: keep them as blobs, show them under their names, and make
//! one layer of what is unpacked from them.

use crate::archive::compress::Compression;
use crate::digest::{Algorithm, HashingWriter};
use crate::store::LayerBlob;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// Package files on their way at the same time.
pub const CONCURRENCY: usize = 8;

/// A file or directory of ours that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {cause}", path = path.display())]
pub struct PathError {
    pub action: &'static str,
    pub path: PathBuf,
    pub cause: io::Error,
}

impl PathError {
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PathError {
        let path = path.to_path_buf();
        move |cause| PathError { action, path, cause }
    }
}

/// Makes the directory in which `blob` will lie.
pub fn make_place(blob: &Path) -> Result<(), PathError> {
    match blob.parent() {
        Some(folder) => std::fs::create_dir_all(folder).map_err(PathError::at("cannot make", folder)),
        None => Ok(()),
    }
}

/// The folder `packages` in `work` with `files` (blob, name): other names for the blobs, or copies.
pub fn stage(files: impl Iterator<Item = (PathBuf, String)>, work: &Path) -> Result<PathBuf, PathError> {
    let folder = work.join("packages");
    std::fs::create_dir_all(&folder).map_err(PathError::at("cannot make", &folder))?;
    for (source, name) in files {
        let target = folder.join(name);
        // Invariant: a copy must never be written through a name that an earlier run made of the blob itself.
        match std::fs::remove_file(&target) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(PathError::at("cannot remove", &target)(cause));
            }
            _ => {}
        }
        if std::fs::hard_link(&source, &target).is_err() {
            std::fs::copy(&source, &target).map_err(PathError::at("cannot write", &target))?;
        }
    }
    Ok(folder)
}

/// The uncompressed tar archive that `write` writes to `path`, as a layer.
pub fn write_layer<E: From<PathError>>(
    path: PathBuf,
    write: impl FnOnce(&mut HashingWriter<BufWriter<File>>) -> Result<(), E>,
) -> Result<LayerBlob, E> {
    let file = File::create(&path).map_err(PathError::at("cannot write", &path))?;
    let mut writer = HashingWriter::new(BufWriter::with_capacity(1 << 20, file), Algorithm::Sha256);
    write(&mut writer)?;
    let (_, digest, length) = writer.finish();
    Ok(LayerBlob {
        digest: Some(digest.clone()),
        diff_id: Some(digest),
        file: path,
        offset: 0,
        length,
        compression: Compression::None,
    })
}
