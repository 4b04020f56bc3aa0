//! Removal of a tree of any depth, owners and modes as hostile as they like.

use super::Error;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Removes `path` and all that is below it, without following symbolic links. A missing path is no error.
/// Subordinate owners can be removed only from within the user namespace that maps them.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::at("remove", path)(error)),
        Ok(metadata) if !metadata.is_dir() => return std::fs::remove_file(path).map_err(Error::at("remove", path)),
        Ok(_) => {}
    }
    let top = open_directory(rustix::fs::CWD, path.as_os_str()).map_err(Error::at("remove", path))?;
    empty(top.as_fd()).map_err(Error::at("remove what is in", path))?;
    std::fs::remove_dir(path).map_err(Error::at("remove", path))
}

/// Why: a script can nest directories deeper than paths are long or descriptors are many. So each directory
/// that has something in it is first moved up to the top; none is ever more than one level deep.
fn empty(top: BorrowedFd<'_>) -> io::Result<()> {
    let mut pending: VecDeque<CString> = VecDeque::new();
    let mut moved = 0_u64;
    clear(top, top, &mut pending, &mut moved)?;
    while let Some(name) = pending.pop_front() {
        let name = OsStr::from_bytes(name.to_bytes());
        let directory = open_directory(top, name)?;
        clear(top, directory.as_fd(), &mut pending, &mut moved)?;
        drop(directory);
        rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Unlinks what `directory` holds; directories that are not empty move to `top` under a fresh name.
fn clear(
    top: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    pending: &mut VecDeque<CString>,
    moved: &mut u64,
) -> io::Result<()> {
    let names: Vec<(CString, FileType)> = Dir::read_from(directory)?
        .map(|entry| entry.map(|entry| (entry.file_name().to_owned(), entry.file_type())))
        .collect::<Result<_, Errno>>()?;
    for (name, file_type) in names {
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if file_type != FileType::Directory {
            match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                // Some file systems do not tell the type in a listing.
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // Moving a directory rewrites its `..`, for which it must be writable.
        drop(open_directory(directory, OsStr::from_bytes(name.to_bytes()))?);
        let fresh = loop {
            *moved += 1;
            let fresh = CString::new(format!(".sifbuild-removal-{moved}")).unwrap_or_default();
            let free = rustix::fs::statat(top, &fresh, AtFlags::SYMLINK_NOFOLLOW).is_err();
            if free {
                break fresh;
            }
        };
        rustix::fs::renameat(directory, &name, top, &fresh)?;
        pending.push_back(fresh);
    }
    Ok(())
}

fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // Closed even to its owner. By way of a descriptor, so that no link put in its place is followed.
            let closed = rustix::fs::openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
            let place = format!("/proc/self/fd/{}", closed.as_raw_fd());
            rustix::fs::chmod(place, Mode::RWXU)?;
            rustix::fs::openat(parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let stat = rustix::fs::fstat(&directory)?;
    if stat.st_mode & 0o700 != 0o700 {
        // May be refused where the owner is another; the unlink after it tells.
        let _ = rustix::fs::fchmod(&directory, Mode::RWXU);
    }
    Ok(directory)
}
