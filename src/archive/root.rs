//! Packages unpacked over each other, without their scriptlets, as one tar archive: a root whose programs install the real one.
//!
//! Everything belongs to root, and nothing of it reaches the image. The first package to bring a file wins; what is brought below a link
//! that an earlier package made goes where it leads.

use super::tar::{Header, Kind, Writer};
use crate::tree::{PathError, TreePath, Xattrs};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Names in one root beyond which it is refused.
const MAXIMUM_ENTRIES: usize = 2_000_000;
/// Links that are followed for one path.
const MAXIMUM_LINKS: usize = 40;
/// What no program of the root reads while it installs packages in the language C.
const UNREAD: [&[u8]; 5] =
    [b"usr/share/doc/", b"usr/share/info/", b"usr/share/licenses/", b"usr/share/locale/", b"usr/share/man/"];

#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("{package}: {cause}")]
    Path { package: String, cause: PathError },
    #[error("the packages hold more than {MAXIMUM_ENTRIES} files")]
    TooManyEntries,
    #[error("cannot write the bootstrap root: {0}")]
    Write(#[from] io::Error),
}

pub struct Root<W: Write> {
    writer: Writer<W>,
    /// What lies there already; of links their targets.
    seen: BTreeMap<TreePath, Option<Vec<u8>>>,
    date: i64,
}

impl<W: Write> Root<W> {
    /// `date` is the time of all files, in seconds since 1970.
    pub fn new(output: W, date: i64) -> Root<W> {
        Root { writer: Writer::new(output), seen: BTreeMap::new(), date: date.max(0) }
    }

    /// Ends the archive, with what every program expects to find.
    pub fn finish(mut self) -> Result<(), RootError> {
        for (path, content) in [("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")] {
            let path = TreePath::parse(path).expect("a constant is a path");
            self.add(&path, Kind::File, 0o644, content.len() as u64, &mut content.as_bytes())?;
        }
        for path in ["tmp", "var/tmp", "root", "proc", "dev", "sys"] {
            self.add_directory(&TreePath::parse(path).expect("a constant is a path"))?;
        }
        Ok(self.writer.finish()?.flush()?)
    }

    /// Where a package's path lies: links on the way to it are followed, inside the root.
    pub fn place(&self, package: &str, path: &[u8]) -> Result<TreePath, RootError> {
        let fault = |cause| RootError::Path { package: package.to_owned(), cause };
        let mut rest: Vec<Vec<u8>> = parts(path);
        rest.reverse();
        let mut place = TreePath::root();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    place = place.parent().unwrap_or_else(TreePath::root);
                    continue;
                }
                _ => {}
            }
            let next = place.join(&part).map_err(fault)?;
            match self.seen.get(&next) {
                Some(Some(target)) if !rest.is_empty() && links < MAXIMUM_LINKS => {
                    links += 1;
                    if target.starts_with(b"/") {
                        place = TreePath::root();
                    }
                    rest.extend(parts(target).into_iter().rev());
                }
                _ => place = next,
            }
        }
        Ok(place)
    }

    pub fn add_directory(&mut self, path: &TreePath) -> Result<(), RootError> {
        self.add(path, Kind::Directory, 0o755, 0, &mut io::empty())
    }

    /// Adds what does not lie there already, below directories.
    pub fn add(
        &mut self,
        path: &TreePath,
        kind: Kind,
        mode: u16,
        size: u64,
        body: &mut dyn Read,
    ) -> Result<(), RootError> {
        if self.seen.contains_key(path) {
            return Ok(());
        }
        if self.seen.len() >= MAXIMUM_ENTRIES {
            return Err(RootError::TooManyEntries);
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.is_root()) {
            self.add_directory(&parent)?;
        }
        let target = if let Kind::Symlink(target) = &kind { Some(target.clone()) } else { None };
        self.seen.insert(path.clone(), target);
        let path = path.as_bytes().to_vec();
        let header = Header { path, kind, mode, uid: 0, gid: 0, mtime: self.date, xattrs: Xattrs::new(), size };
        Ok(self.writer.append(&header, body)?)
    }

    pub fn has(&self, path: &TreePath) -> bool {
        self.seen.contains_key(path)
    }
}

/// Whether a file may stay away.
pub fn is_unread(path: &TreePath) -> bool {
    UNREAD.iter().any(|place| path.as_bytes().starts_with(place))
}

fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
}
