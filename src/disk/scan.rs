//! A directory on disk, or the upper directory of an overlay, as a [`Layer`].

use super::{Error, open_beneath};
use crate::tree::{Body, Change, Entry, Kind, Layer, Metadata, TreePath, Xattrs};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Linux bounds both the list of names and one value to 64 KiB.
const XATTR_LIMIT: usize = 65536;

#[derive(Clone, Copy, Debug, Default)]
pub struct ScanOptions {
    /// The directory is an overlay's upper one: character devices 0:0 are whiteouts, the `overlay.opaque`
    /// attribute is an opaque mark, and the overlay's own attributes are left out.
    pub overlay: bool,
}

/// Reads all of `directory`, the root entry first, children sorted by name; owners as this process's user
/// namespace shows them. Second names of a file become [`Change::Link`] to its first.
pub fn scan(directory: &Path, options: &ScanOptions) -> Result<Layer, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty()).map_err(Error::at("open", directory))?;
    let mut scanner = Scanner {
        directory,
        root,
        options: *options,
        names: HashMap::new(),
        layer: Layer::default(),
        buffer: vec![0; XATTR_LIMIT],
    };
    scanner.walk()?;
    Ok(scanner.layer)
}

struct Scanner<'a> {
    directory: &'a Path,
    root: OwnedFd,
    options: ScanOptions,
    /// First name of each inode that has several.
    names: HashMap<(u64, u64), TreePath>,
    layer: Layer,
    buffer: Vec<u8>,
}

struct Found {
    path: TreePath,
    stat: Stat,
    xattrs: Xattrs,
    target: Vec<u8>,
}

impl Scanner<'_> {
    /// Invariant: at most one directory is open at a time, however deep the tree.
    fn walk(&mut self) -> Result<(), Error> {
        let stat = rustix::fs::fstat(&self.root).map_err(Error::at("read", self.directory))?;
        let place = format!("/proc/self/fd/{}/.", self.root.as_raw_fd());
        let xattrs = self.xattrs(Path::new(&place), &TreePath::root())?;
        let mut pending = vec![Found { path: TreePath::root(), stat, xattrs, target: Vec::new() }];
        while let Some(found) = pending.pop() {
            let path = found.path.clone();
            if self.add(found) {
                let mut children = self.children(&path)?;
                children.sort_by(|a, b| b.path.cmp(&a.path));
                pending.append(&mut children);
            }
        }
        Ok(())
    }

    fn children(&mut self, path: &TreePath) -> Result<Vec<Found>, Error> {
        let shown = path.below(self.directory);
        let opened = open_beneath(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(Error::at("open", &shown))?;
        let mut children = Vec::new();
        for entry in Dir::read_from(&opened).map_err(Error::at("list", &shown))? {
            let entry = entry.map_err(Error::at("list", &shown))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let below =
                path.join(name).map_err(|cause| Error::Name { directory: self.directory.to_path_buf(), cause })?;
            children.push(self.look(opened.as_fd(), name, below)?);
        }
        Ok(children)
    }

    fn look(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: TreePath) -> Result<Found, Error> {
        let shown = path.below(self.directory);
        let name = OsStr::from_bytes(name);
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::at("read", &shown))?;
        let target = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            rustix::fs::readlinkat(parent, name, Vec::new()).map_err(Error::at("read", &shown))?.into_bytes()
        } else {
            Vec::new()
        };
        // Why: there is no listxattrat before Linux 6.13, and opening each file would block on pipes.
        let place = Path::new(&format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
        let xattrs = self.xattrs(&place, &path)?;
        Ok(Found { path, stat, xattrs, target })
    }

    fn xattrs(&mut self, place: &Path, path: &TreePath) -> Result<Xattrs, Error> {
        let mut xattrs = Xattrs::new();
        let length = match rustix::fs::llistxattr(place, &mut self.buffer[..]) {
            Ok(length) => length,
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(xattrs),
            Err(error) => return Err(Error::at("read the attributes of", &path.below(self.directory))(error)),
        };
        let names = self.buffer[..length].to_vec();
        for name in names.split(|byte| *byte == 0).filter(|name| is_content(name)) {
            match rustix::fs::lgetxattr(place, OsStr::from_bytes(name), &mut self.buffer[..]) {
                Ok(length) => {
                    xattrs.insert(name.to_vec(), self.buffer[..length].to_vec());
                }
                Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {}
                Err(error) => return Err(Error::at("read the attributes of", &path.below(self.directory))(error)),
            }
        }
        Ok(xattrs)
    }

    /// Gives whether the entry is a directory to descend into.
    fn add(&mut self, found: Found) -> bool {
        let Found { path, stat, mut xattrs, target } = found;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let mut opaque = false;
        if self.options.overlay {
            if file_type == FileType::CharacterDevice && (major, minor) == (0, 0) {
                self.layer.entries.push(Entry { path, change: Change::Whiteout });
                return false;
            }
            opaque = [&b"user.overlay.opaque"[..], b"trusted.overlay.opaque"]
                .iter()
                .any(|name| xattrs.get(*name).is_some_and(|value| value == b"y"));
            xattrs.retain(|name, _| !name.starts_with(b"user.overlay.") && !name.starts_with(b"trusted.overlay."));
        }
        if file_type != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.names.get(&(stat.st_dev, stat.st_ino)) {
                self.layer.entries.push(Entry { path, change: Change::Link(first.clone()) });
                return false;
            }
            self.names.insert((stat.st_dev, stat.st_ino), path.clone());
        }
        let kind = match file_type {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink { target },
            FileType::CharacterDevice => Kind::CharacterDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            _ => Kind::File { size: stat.st_size as u64, body: Body::Stored },
        };
        let metadata = Metadata {
            mode: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: stat.st_mtime,
            xattrs,
        };
        self.layer.put(path.clone(), metadata, kind);
        if opaque {
            self.layer.entries.push(Entry { path, change: Change::Opaque });
        }
        file_type == FileType::Directory
    }
}

/// Labels of the host's security modules and of its network file systems are no part of an image.
fn is_content(name: &[u8]) -> bool {
    const LUSTRE: [&[u8]; 8] = [b"lov", b"lma", b"lmv", b"link", b"hsm", b"fid", b"som", b"version"];
    match name.strip_prefix(b"trusted.") {
        Some(rest) => !LUSTRE.contains(&rest),
        None => {
            name.starts_with(b"user.")
                || [&b"security.capability"[..], b"system.posix_acl_access", b"system.posix_acl_default"]
                    .contains(&name)
        }
    }
}
