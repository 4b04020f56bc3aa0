//! Copies that share blocks where the file system can.

use super::{Error, ScanOptions, open_body, scan};
use crate::tree::{Change, Kind, Metadata, TreePath};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, lchown, symlink};
use std::path::Path;

/// Copies the rest of `from` into the empty file `to`: a reflink, else `copy_file_range`, else bytes.
pub fn copy_file(from: &mut File, to: &mut File) -> io::Result<u64> {
    if rustix::fs::ioctl_ficlone(to.as_fd(), from.as_fd()).is_ok() {
        return Ok(to.metadata()?.len());
    }
    io::copy(from, to)
}

/// Copies directory `from` to `to`, which is made or must be empty: owners, modes, times, attributes, hard links, devices.
pub fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    let layer = scan(from, &ScanOptions::default())?;
    let source = File::open(from).map_err(Error::at("open", from))?;
    match std::fs::create_dir(to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(Error::at("create", to)(error)),
        _ => {}
    }
    // Invariant: every parent below `to` is a directory that was made here, so plain paths meet no foreign link.
    for entry in &layer.entries {
        let place = entry.path.below(to);
        match &entry.change {
            Change::Put(metadata, kind) => {
                make(&source, &entry.path, kind, &place).map_err(Error::at("create", &place))?;
                if *kind != Kind::Directory {
                    describe(metadata, kind, &place).map_err(Error::at("set the metadata of", &place))?;
                }
            }
            Change::Link(first) => {
                std::fs::hard_link(first.below(to), &place).map_err(Error::at("link", &place))?;
            }
            Change::Whiteout | Change::Opaque => {}
        }
    }
    // Directories last and innermost first: their times and modes must survive what is made in them.
    for entry in layer.entries.iter().rev() {
        if let Change::Put(metadata, kind @ Kind::Directory) = &entry.change {
            let place = entry.path.below(to);
            describe(metadata, kind, &place).map_err(Error::at("set the metadata of", &place))?;
        }
    }
    Ok(())
}

fn make(source: &File, path: &TreePath, kind: &Kind, place: &Path) -> io::Result<()> {
    let special = |file_type, device| {
        rustix::fs::mknodat(CWD, place, file_type, Mode::RUSR | Mode::WUSR, device).map_err(io::Error::from)
    };
    match kind {
        Kind::Directory if path.is_root() => Ok(()),
        Kind::Directory => std::fs::create_dir(place),
        Kind::File { .. } => {
            let mut body = open_body(source.as_fd(), path)?;
            let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
            copy_file(&mut body, &mut copy).map(|_| ())
        }
        Kind::Symlink { target } => symlink(OsStr::from_bytes(target), place),
        Kind::CharacterDevice { major, minor } => {
            special(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
        }
        Kind::BlockDevice { major, minor } => special(FileType::BlockDevice, rustix::fs::makedev(*major, *minor)),
        Kind::Fifo => special(FileType::Fifo, 0),
        Kind::Socket => special(FileType::Socket, 0),
    }
}

fn describe(metadata: &Metadata, kind: &Kind, place: &Path) -> io::Result<()> {
    lchown(place, Some(metadata.uid), Some(metadata.gid))?;
    if !matches!(kind, Kind::Symlink { .. }) {
        // After the owner: chown clears setuid and capabilities.
        rustix::fs::chmodat(CWD, place, Mode::from_raw_mode(u32::from(metadata.mode)), AtFlags::empty())?;
    }
    for (name, value) in &metadata.xattrs {
        let name = OsStr::from_bytes(name);
        rustix::fs::lsetxattr(place, name, value, rustix::fs::XattrFlags::empty())?;
    }
    let time = Timespec { tv_sec: metadata.mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
