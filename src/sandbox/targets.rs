//! Mount points inside a root that may not have them: found as the container would find them, made on demand,
//! removed without a trace.

use crate::disk::open_beneath;
use crate::tree::TreePath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAXIMUM_SYMLINKS: u32 = 40;
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Directory,
    File,
}

/// A place in the root: its descriptor, and its path with all links followed.
pub struct Target {
    pub place: OwnedFd,
    pub path: TreePath,
}

/// All places made in one root.
pub struct Targets {
    root: OwnedFd,
    created: Vec<Created>,
}

struct Created {
    parent: TreePath,
    name: Vec<u8>,
    shape: Shape,
    /// Removed whatever it holds: the script itself.
    ours: bool,
    /// The parent's modification time before and after.
    before: Timespec,
    after: Timespec,
}

impl Targets {
    pub fn new(root: &Path) -> io::Result<Targets> {
        let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Targets { root, created: Vec::new() })
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Finds `path` as a process rooted here would, and makes what is missing of it.
    pub fn prepare(&mut self, path: &Path, shape: Shape) -> io::Result<Target> {
        let mut pending: Vec<Vec<u8>> = components(path.as_os_str().as_bytes());
        let mut stack: Vec<(Vec<u8>, OwnedFd)> = Vec::new();
        let mut symlinks = 0;
        while let Some(name) = pending.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    stack.pop();
                    continue;
                }
                _ => {}
            }
            let here = stack.last().map_or(self.root.as_fd(), |(_, place)| place.as_fd());
            let last = pending.iter().all(|rest| rest.is_empty());
            let wanted = if last { shape } else { Shape::Directory };
            let place = match rustix::fs::openat(here, OsStr::from_bytes(&name), HANDLE, Mode::empty()) {
                Ok(place) => place,
                Err(Errno::NOENT) => {
                    let parent = tree_path(&stack)?;
                    let (place, created) = create(here, parent, &name, wanted)?;
                    self.created.push(created);
                    place
                }
                Err(error) => return Err(error.into()),
            };
            match FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) {
                FileType::Symlink => {
                    symlinks += 1;
                    if symlinks > MAXIMUM_SYMLINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let link = rustix::fs::readlinkat(here, OsStr::from_bytes(&name), Vec::new())?;
                    if link.to_bytes().starts_with(b"/") {
                        stack.clear();
                    }
                    pending.extend(components(link.to_bytes()));
                }
                FileType::Directory if wanted == Shape::File => return Err(Errno::ISDIR.into()),
                FileType::Directory => stack.push((name, place)),
                _ if wanted == Shape::File => stack.push((name, place)),
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        let path = tree_path(&stack)?;
        let place = match stack.pop() {
            Some((_, place)) => place,
            None => rustix::fs::openat(&self.root, ".", HANDLE, Mode::empty())?,
        };
        Ok(Target { place, path })
    }

    /// Writes an executable file to be removed after; what had its name is replaced.
    pub fn place_script(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        use std::io::Write;
        let parent = self.prepare(path.parent().unwrap_or(Path::new("/")), Shape::Directory)?;
        let name = path.file_name().unwrap_or_default().as_bytes();
        match rustix::fs::unlinkat(&parent.place, OsStr::from_bytes(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let (_, mut created) = create(parent.place.as_fd(), parent.path, name, Shape::File)?;
        created.ours = true;
        self.created.push(created);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file =
            std::fs::File::from(rustix::fs::openat(&parent.place, OsStr::from_bytes(name), flags, Mode::empty())?);
        file.write_all(bytes)?;
        Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(0o755))?)
    }

    /// Removes what was made and is still empty, newest first, once nothing is mounted on it. A directory that nobody else has
    /// changed meanwhile gets its old time back.
    pub fn remove(self) {
        for created in self.created.iter().rev() {
            // Whatever the script did to these places is its right; then they are content.
            let _ = remove_one(self.root.as_fd(), created);
        }
    }
}

fn create(here: BorrowedFd<'_>, parent: TreePath, name: &[u8], shape: Shape) -> io::Result<(OwnedFd, Created)> {
    let before = modified(here)?;
    let file_name = OsStr::from_bytes(name);
    match shape {
        Shape::Directory => rustix::fs::mkdirat(here, file_name, Mode::from_raw_mode(0o755))?,
        Shape::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            drop(rustix::fs::openat(here, file_name, flags, Mode::from_raw_mode(0o644))?);
        }
    }
    let after = modified(here)?;
    let place = rustix::fs::openat(here, file_name, HANDLE, Mode::empty())?;
    Ok((place, Created { parent, name: name.to_vec(), shape, ours: false, before, after }))
}

fn remove_one(root: BorrowedFd<'_>, created: &Created) -> io::Result<()> {
    let parent = open_beneath(root, &created.parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let name = OsStr::from_bytes(&created.name);
    let current = modified(parent.as_fd())?;
    match created.shape {
        Shape::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?,
        Shape::File => {
            let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let empty = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
            if created.ours || empty {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
            }
        }
    }
    let untouched = (current.tv_sec, current.tv_nsec) == (created.after.tv_sec, created.after.tv_nsec);
    let restored = if untouched { created.before } else { current };
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: restored,
    };
    Ok(rustix::fs::futimens(&parent, &times)?)
}

fn modified(directory: BorrowedFd<'_>) -> io::Result<Timespec> {
    let stat = rustix::fs::fstat(directory)?;
    Ok(Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ })
}

fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect()
}

fn tree_path(stack: &[(Vec<u8>, OwnedFd)]) -> io::Result<TreePath> {
    let names: Vec<&[u8]> = stack.iter().map(|(name, _)| name.as_slice()).collect();
    TreePath::parse(names.join(&b'/')).map_err(|_| io::Error::from(Errno::NAMETOOLONG))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn prepare(root: &Path, path: &str, shape: Shape) -> io::Result<String> {
        let mut targets = Targets::new(root)?;
        targets.prepare(Path::new(path), shape).map(|target| target.path.to_string())
    }

    #[test]
    fn follows_links_within_the_root_only() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir_all(root.join("usr")).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        symlink("/usr", root.join("abs")).unwrap();
        symlink("../../../../usr", root.join("etc/up")).unwrap();
        symlink("../run/stub/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(prepare(&root, "/abs/x", Shape::Directory).unwrap(), "/usr/x");
        assert_eq!(prepare(&root, "/etc/up/y", Shape::File).unwrap(), "/usr/y");
        assert_eq!(prepare(&root, "/etc/resolv.conf", Shape::File).unwrap(), "/run/stub/resolv.conf");
        assert_eq!(prepare(&root, "/../../z", Shape::Directory).unwrap(), "/z");
        assert!(prepare(&root, "/loop/x", Shape::Directory).is_err());
        assert!(prepare(&root, "/usr/y/x", Shape::Directory).is_err());
        assert!(prepare(&root, "/usr", Shape::File).is_err());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_made_leaves_no_trace_unless_it_was_used() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        fs::create_dir(root.join("etc")).unwrap();
        let modified = |path: &Path| (path.metadata().unwrap().mtime(), path.metadata().unwrap().mtime_nsec());
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        for path in [root.to_path_buf(), root.join("etc")] {
            fs::File::open(path).unwrap().set_modified(old).unwrap();
        }
        let (before, etc_before) = (modified(root), modified(&root.join("etc")));
        let mut targets = Targets::new(root).unwrap();
        for (path, shape) in [("/a/b/c", Shape::Directory), ("/etc/hosts", Shape::File), ("/used/x", Shape::Directory)]
        {
            targets.prepare(Path::new(path), shape).unwrap();
        }
        targets.place_script(Path::new("/.post.script"), b"echo").unwrap();
        fs::write(root.join("used/file"), "").unwrap();
        targets.remove();
        let names: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(root.join("used/file").exists() && !root.join("used/x").exists());
        assert_eq!(modified(&root.join("etc")), etc_before);
        assert_ne!(modified(root), before);
    }
}
