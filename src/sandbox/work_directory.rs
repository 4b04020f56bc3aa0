//! Temporary directories that are found and removed by a later run when their owner was killed.
//!
//! `NAME.lock` beside the directory `NAME` is locked as long as the owner lives.

use super::Error;
use crate::disk;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const PREFIX: &str = "sifbuild-";
const SUFFIX: &str = ".lock";

/// A fresh directory, private to the user, removed when dropped or at an interrupt.
#[derive(Debug)]
pub struct WorkDirectory {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
    kept: bool,
    _registered: [disk::Registered; 2],
}

impl WorkDirectory {
    /// `parent` must exist. Sweep it first.
    pub fn create(parent: &Path) -> Result<WorkDirectory, Error> {
        loop {
            let (lock, lock_path) = create_lock(parent)?;
            let path = parent.join(name_of(&lock_path));
            // Compat: some network file systems have no locks; then no sweep gets one either, and nothing is removed by mistake.
            let _ = flock(&lock, FlockOperation::NonBlockingLockExclusive);
            // A sweep may have come between and taken the file for a leftover.
            if !is_file_at(&lock, &lock_path) {
                continue;
            }
            let registered = [disk::register(&lock_path), disk::register(&path)];
            // 0700: files in it may be setuid and owned by the user.
            DirBuilder::new().mode(0o700).create(&path).map_err(|cause| Error::Lock { path: path.clone(), cause })?;
            return Ok(WorkDirectory { path, lock_path, _lock: lock, kept: false, _registered: registered });
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory behind for a person to look at; no sweep will remove it.
    pub fn keep(mut self) -> PathBuf {
        self.kept = true;
        let _ = fs::remove_file(&self.lock_path);
        self.path.clone()
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        if !self.kept && disk::remove_tree(&self.path).is_ok() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// Removes the directories below `parent` whose owner is gone; gives them. Owners with subordinate ids can be removed only after
/// [`enter`](super::enter); what cannot be removed, or belongs to another user, stays.
pub fn sweep(parent: &Path) -> Vec<PathBuf> {
    locks(parent).filter_map(|lock_path| sweep_one(parent, &lock_path)).collect()
}

/// The directories below `parent`, whether their owner lives or is gone.
pub fn owned(parent: &Path) -> Vec<PathBuf> {
    locks(parent).map(|lock_path| parent.join(name_of(&lock_path))).collect()
}

fn locks(parent: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes())
    })
}

fn sweep_one(parent: &Path, lock_path: &Path) -> Option<PathBuf> {
    let lock = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(lock_path).ok()?;
    let metadata = lock.metadata().ok()?;
    if !metadata.is_file() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return None;
    }
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    if !is_file_at(&lock, lock_path) {
        return None;
    }
    let path = parent.join(name_of(lock_path));
    disk::remove_tree(&path).ok()?;
    fs::remove_file(lock_path).ok()?;
    Some(path)
}

fn create_lock(parent: &Path) -> Result<(File, PathBuf), Error> {
    let created = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(parent);
    let created = created.map_err(|cause| Error::Lock { path: parent.to_path_buf(), cause })?;
    created.keep().map_err(|failure| Error::Lock { path: parent.to_path_buf(), cause: failure.error })
}

fn is_file_at(lock: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|found| (found.dev(), found.ino()));
    identity(fs::symlink_metadata(path)) == identity(lock.metadata())
}

fn name_of(lock_path: &Path) -> String {
    let name = lock_path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(SUFFIX).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_only_what_has_no_owner() {
        let parent = tempfile::tempdir().unwrap();
        let owned = WorkDirectory::create(parent.path()).unwrap();
        let orphan = WorkDirectory::create(parent.path()).unwrap();
        let (path, lock_path) = (orphan.path.clone(), orphan.lock_path.clone());
        fs::write(path.join("file"), "").unwrap();
        let unrelated = parent.path().join("sifbuild-other");
        fs::create_dir(&unrelated).unwrap();
        // As after SIGKILL: the lock is released, nothing is removed.
        flock(&orphan._lock, FlockOperation::Unlock).unwrap();
        std::mem::forget(orphan);
        assert_eq!(sweep(parent.path()), std::slice::from_ref(&path));
        assert!(!path.exists() && !lock_path.exists());
        assert!(owned.path().exists() && unrelated.exists());
        drop(owned);
        fs::remove_dir(unrelated).unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_kept_directory_survives() {
        let parent = tempfile::tempdir().unwrap();
        let kept = WorkDirectory::create(parent.path()).unwrap().keep();
        assert_eq!(sweep(parent.path()), Vec::<PathBuf>::new());
        assert!(kept.exists());
    }
}
