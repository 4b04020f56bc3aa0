//! Opens below a directory that cannot be led astray by symbolic links.

use crate::tree::TreePath;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

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

/// Makes a regular file below `directory`, and the directories on its way that are missing; gives those. Nothing leads through a symbolic link, nothing
/// is replaced. What is made is of the time `time`, modes are 0644 and 0755; the time of a directory that was there stays.
pub fn write_beneath(
    directory: BorrowedFd<'_>,
    path: &TreePath,
    bytes: &[u8],
    time: SystemTime,
) -> io::Result<Vec<TreePath>> {
    let (mut made, mut parent) = (Vec::new(), TreePath::root());
    let mut components: Vec<&[u8]> = path.components().collect();
    let name = components.pop().ok_or(io::ErrorKind::InvalidInput)?;
    let open = |path: &TreePath| open_beneath(directory, path, OFlags::RDONLY | OFlags::DIRECTORY).map(File::from);
    let mut here = open(&parent)?;
    let mut kept = here.metadata()?.modified()?;
    for component in components {
        parent = parent.join(component).map_err(io::Error::other)?;
        let is_new = match rustix::fs::mkdirat(&here, OsStr::from_bytes(component), Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        here.set_modified(kept)?;
        here = open(&parent)?;
        kept = if is_new { time } else { here.metadata()?.modified()? };
        if is_new {
            here.set_permissions(Permissions::from_mode(0o755))?;
            made.push(parent.clone());
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&here, OsStr::from_bytes(name), flags, Mode::from_raw_mode(0o600))?);
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.set_modified(time)?;
    here.set_modified(kept)?;
    Ok(made)
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
