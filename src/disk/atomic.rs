//! A file that appears under its name complete or not at all.

use super::{Error, Registered, register, without_path};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A temporary file beside `target`; removed when dropped without [`AtomicFile::commit`], or at an interrupt.
#[derive(Debug)]
pub struct AtomicFile {
    temporary: NamedTempFile,
    target: PathBuf,
    _registered: Registered,
}

impl AtomicFile {
    /// `mode` is reduced by the umask. The parent directory must exist.
    pub fn create(target: &Path, mode: u32) -> Result<AtomicFile, Error> {
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(target.file_name().unwrap_or_default());
        let temporary = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".part")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(parent(target))
            .map_err(|cause| Error::at("create a file beside", target)(without_path(cause)))?;
        let registered = register(temporary.path());
        Ok(AtomicFile { temporary, target: target.to_path_buf(), _registered: registered })
    }

    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    pub fn file_mut(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Where the bytes are until the commit.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Writes everything to the medium and gives the file its name; with `replace`, in place of what has it now.
    pub fn commit(self, replace: bool) -> Result<(), Error> {
        let AtomicFile { temporary, target, _registered } = self;
        temporary.as_file().sync_all().map_err(Error::at("write", &target))?;
        let persisted = if replace { temporary.persist(&target) } else { temporary.persist_noclobber(&target) };
        persisted.map_err(|failure| match failure.error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(target.clone()),
            _ => Error::at("replace", &target)(failure.error),
        })?;
        // Some network file systems cannot sync a directory; the file is complete all the same.
        let _ = File::open(parent(&target)).and_then(|directory| directory.sync_all());
        Ok(())
    }
}

/// Gives the directory `new` the name `target`. What has it now is `new` or `aside` afterwards; after a failure, all is as it was.
pub fn replace_directory(new: &Path, target: &Path, aside: &Path) -> Result<(), Error> {
    let rename = |from: &Path, to: &Path| std::fs::rename(from, to).map_err(Error::at("replace", target));
    match renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) if std::fs::symlink_metadata(target).is_err() => rename(new, target),
        // Not all file systems can exchange.
        Err(_) => {
            rename(target, aside)?;
            rename(new, target).or_else(|error| rename(aside, target).and(Err(error)))
        }
    }
}

fn parent(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
