//! Opens below a directory that cannot be led astray by symbolic links.

use crate::tree::TreePath;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Opens `path` below `directory`. No component, the last included, may be a symbolic link (`ELOOP`).
pub fn open_beneath(directory: BorrowedFd<'_>, path: &TreePath, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let name = if path.is_root() { b"." } else { path.as_bytes() };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(directory, OsStr::from_bytes(name), flags, Mode::empty(), resolve) {
        // Compat: kernels before 5.6 lack openat2, and older container seccomp profiles answer EPERM for it.
        Err(Errno::NOSYS | Errno::PERM) => open_by_components(directory, path, flags),
        Err(error) => Err(error.into()),
        Ok(file) => Ok(file),
    }
}

/// Opens a regular file below `directory` for reading, without blocking on pipes and devices.
pub fn open_body(directory: BorrowedFd<'_>, path: &TreePath) -> io::Result<File> {
    let file = File::from(open_beneath(directory, path, OFlags::RDONLY | OFlags::NONBLOCK)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

fn open_by_components(directory: BorrowedFd<'_>, path: &TreePath, flags: OFlags) -> io::Result<OwnedFd> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(directory, ".", step, Mode::empty())?;
    if let Some(parent) = path.parent() {
        for component in parent.components() {
            here = rustix::fs::openat(here.as_fd(), OsStr::from_bytes(component), step, Mode::empty())?;
        }
    }
    let name = if path.is_root() { b"." } else { path.name() };
    Ok(rustix::fs::openat(here.as_fd(), OsStr::from_bytes(name), flags, Mode::empty())?)
}
