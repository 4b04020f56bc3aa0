//! The bootstrap root as one tar archive: rpm and what it needs, unpacked over each other, without scriptlets.
//!
//! Everything belongs to root, and nothing of it reaches the image. The first package to bring a file wins; `filesystem`, which brings the
//! links of a merged `/usr`, comes first, and what others bring below such a link goes where it leads.

use super::package::{Package, PackageError};
use super::pin::{PackagePin, RpmPin};
use crate::archive::cpio::{self, Error as CpioError};
use crate::archive::tar::{Header, Kind, Writer};
use crate::rpm::header::{Header as RpmHeader, HeaderError, tag};
use crate::tree::{PathError, TreePath, Xattrs};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};

/// Names in one root beyond which it is refused.
const MAXIMUM_ENTRIES: usize = 2_000_000;
/// Links that are followed for one path.
const MAXIMUM_LINKS: usize = 40;
const MAXIMUM_TARGET: u64 = 4096;
/// What no program of the root reads while it installs packages in the language C.
const UNREAD: [&[u8]; 5] =
    [b"usr/share/doc/", b"usr/share/info/", b"usr/share/licenses/", b"usr/share/locale/", b"usr/share/man/"];

#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("{package}: {cause}")]
    Package { package: String, cause: PackageError },
    #[error("{package}: {cause}")]
    Path { package: String, cause: PathError },
    #[error("{package} cannot be opened: {cause}")]
    Open { package: String, cause: io::Error },
    #[error("{package} cannot be unpacked: {cause}")]
    Unpack { package: String, cause: CpioError },
    #[error("the packages hold more than {MAXIMUM_ENTRIES} files")]
    TooManyEntries,
    #[error("cannot write the bootstrap root: {0}")]
    Write(#[from] io::Error),
}

/// Writes the tar archive (uncompressed). `open` gives a package's file, already verified, from its beginning.
pub fn write(
    pin: &RpmPin,
    mut open: impl FnMut(&PackagePin) -> io::Result<Box<dyn Read + Send>>,
    output: impl Write,
) -> Result<(), BootstrapError> {
    let mut root = Root { writer: Writer::new(output), seen: BTreeMap::new(), date: pin.date.max(0) };
    let mut packages: Vec<&PackagePin> = pin.packages.iter().filter(|package| package.bootstrap).collect();
    packages.sort_by_key(|package| (package.name != "filesystem", &package.name, &package.arch));
    for package in packages {
        let file = open(package).map_err(|cause| BootstrapError::Open { package: package.nevra(), cause })?;
        root.add_package(&package.nevra(), file)?;
    }
    for (path, content) in [("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")] {
        root.add_file(path, content.as_bytes())?;
    }
    for path in ["tmp", "var/tmp", "root", "proc", "dev", "sys"] {
        root.add_directory(&TreePath::parse(path).expect("a constant is a path"))?;
    }
    root.writer.finish()?.flush()?;
    Ok(())
}

/// What lies at a path already.
enum Found {
    Directory,
    Link(Vec<u8>),
    Other,
}

struct Root<W: Write> {
    writer: Writer<W>,
    seen: BTreeMap<TreePath, Found>,
    date: i64,
}

impl<W: Write> Root<W> {
    fn add_package(&mut self, name: &str, mut file: Box<dyn Read + Send>) -> Result<(), BootstrapError> {
        let fault = |cause| BootstrapError::Package { package: name.to_owned(), cause };
        let unpack = |cause| BootstrapError::Unpack { package: name.to_owned(), cause };
        let package = Package::read(&mut file).map_err(fault)?;
        let files =
            described_files(&package.header).map_err(|cause| fault(PackageError::Header { part: "header", cause }))?;
        let mut archive = cpio::Reader::with_files(package.payload(file).map_err(fault)?, files);
        // Names of a file whose body comes with the last of them.
        let mut linked: HashMap<(u32, u32, u32), Vec<TreePath>> = HashMap::new();
        while let Some(mut member) = archive.next_member().map_err(unpack)? {
            let header = member.header.clone();
            let path = self.place(name, &header.name)?;
            if path.is_root() {
                continue;
            }
            let mode = (header.mode & 0o777) as u16;
            match header.mode & 0o170_000 {
                0o040_000 => self.add_directory(&path)?,
                0o120_000 => {
                    let mut target = Vec::new();
                    (&mut member).take(MAXIMUM_TARGET).read_to_end(&mut target)?;
                    if self.note(&path, Found::Link(target.clone()))? {
                        self.append(&path, Kind::Symlink(target), 0o777, 0, &mut io::empty())?;
                    }
                }
                0o100_000 if header.links <= 1 && UNREAD.iter().any(|place| path.as_bytes().starts_with(place)) => {}
                0o100_000 if header.links > 1 && header.size == 0 => {
                    linked.entry(header.inode).or_default().push(path);
                }
                0o100_000 => {
                    let names = linked.remove(&header.inode).filter(|_| header.links > 1).unwrap_or_default();
                    if self.note(&path, Found::Other)? {
                        self.append(&path, Kind::File, mode | 0o600, header.size, &mut member)?;
                        for other in names {
                            if self.note(&other, Found::Other)? {
                                let target = path.as_bytes().to_vec();
                                self.append(&other, Kind::HardLink(target), mode | 0o600, 0, &mut io::empty())?;
                            }
                        }
                    }
                }
                // Devices and pipes are not needed to install packages.
                _ => {}
            }
        }
        for path in linked.into_values().flatten() {
            if self.note(&path, Found::Other)? {
                self.append(&path, Kind::File, 0o644, 0, &mut io::empty())?;
            }
        }
        Ok(())
    }

    /// Where a package's path lies: links on the way to it are followed, inside the root.
    fn place(&self, package: &str, path: &[u8]) -> Result<TreePath, BootstrapError> {
        let fault = |cause| BootstrapError::Path { package: package.to_owned(), cause };
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
                Some(Found::Link(target)) if !rest.is_empty() && links < MAXIMUM_LINKS => {
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

    /// Notes what will lie at a path, and makes the directories above it. False: something lies there already.
    fn note(&mut self, path: &TreePath, found: Found) -> Result<bool, BootstrapError> {
        if self.seen.contains_key(path) {
            return Ok(false);
        }
        if self.seen.len() >= MAXIMUM_ENTRIES {
            return Err(BootstrapError::TooManyEntries);
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.is_root()) {
            self.add_directory(&parent)?;
        }
        self.seen.insert(path.clone(), found);
        Ok(true)
    }

    fn add_directory(&mut self, path: &TreePath) -> Result<(), BootstrapError> {
        if self.note(path, Found::Directory)? {
            self.append(path, Kind::Directory, 0o755, 0, &mut io::empty())?;
        }
        Ok(())
    }

    fn add_file(&mut self, path: &str, content: &[u8]) -> Result<(), BootstrapError> {
        let path = TreePath::parse(path).expect("a constant is a path");
        if self.note(&path, Found::Other)? {
            self.append(&path, Kind::File, 0o644, content.len() as u64, &mut &*content)?;
        }
        Ok(())
    }

    fn append(
        &mut self,
        path: &TreePath,
        kind: Kind,
        mode: u16,
        size: u64,
        body: &mut dyn Read,
    ) -> Result<(), BootstrapError> {
        let path = path.as_bytes().to_vec();
        let header = Header { path, kind, mode, uid: 0, gid: 0, mtime: self.date, xattrs: Xattrs::new(), size };
        Ok(self.writer.append(&header, body)?)
    }
}

fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
}

/// Files as the package's header describes them, for payloads whose members are numbers of them.
fn described_files(header: &RpmHeader) -> Result<Vec<cpio::Header>, HeaderError> {
    let Some(names) = header.texts(tag::BASENAMES)? else { return Ok(Vec::new()) };
    let folders = header.texts(tag::DIRNAMES)?.unwrap_or_default();
    let places = header.numbers(tag::DIRINDEXES)?.unwrap_or_default();
    let modes = header.numbers(tag::FILEMODES)?.unwrap_or_default();
    let sizes = match header.numbers(tag::FILESIZES)? {
        Some(sizes) => sizes.into_iter().map(u64::from).collect(),
        None => header.long_numbers(tag::LONGFILESIZES)?.unwrap_or_default(),
    };
    let files = names.iter().enumerate().map(|(at, name)| {
        let folder = places.get(at).and_then(|place| folders.get(*place as usize)).map_or("", String::as_str);
        let mode = modes.get(at).copied().unwrap_or(0o100_644);
        let size = sizes.get(at).copied().unwrap_or(0);
        cpio::Header {
            name: format!("{folder}{name}").into_bytes(),
            inode: (0, 0, at as u32),
            mode,
            uid: 0,
            gid: 0,
            links: 1,
            mtime: 0,
            // The sizes of directories mean nothing; they have no body.
            size: if mode & 0o170_000 == 0o040_000 { 0 } else { size },
            device: (0, 0),
        }
    });
    Ok(files.collect())
}

#[cfg(test)]
mod tests;
