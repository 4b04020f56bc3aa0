//! The metadata of a sandbox directory, read without leaving it.

use super::MAXIMUM_SIZE;
use crate::disk;
use crate::sif::metadata::{self, Metadata};
use crate::tree::TreePath;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

/// Reads the directory's metadata. What cannot be read is as if it were not there.
pub fn describe(root: &File) -> Metadata {
    metadata::describe(&|path| read(root, path).ok(), &|path| list(root, path).unwrap_or_default())
}

fn read(root: &File, path: &str) -> io::Result<Vec<u8>> {
    let file = File::from(open(root, path, OFlags::RDONLY | OFlags::NONBLOCK)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAXIMUM_SIZE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn list(root: &File, path: &str) -> io::Result<Vec<String>> {
    let directory = open(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let name = String::from_utf8_lossy(entry?.file_name().to_bytes()).into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Symbolic links are followed as the container would see them: the sandbox is their root.
fn open(root: &File, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path.trim_start_matches('/'), flags, Mode::empty(), resolve) {
        // Compat: kernels before 5.6 lack openat2, and older container seccomp profiles answer EPERM for it. Links are
        // not followed then.
        Err(Errno::NOSYS | Errno::PERM) => {
            let path = TreePath::parse(path.trim_start_matches("/")).map_err(io::Error::other)?;
            disk::open_beneath(root.as_fd(), &path, flags)
        }
        result => Ok(result?),
    }
}
