//! The bootstrap root as one tar archive: rpm and what it needs. `filesystem`, which brings the links of a merged `/usr`, comes first.

use super::package::{Package, PackageError};
use super::pin::{PackagePin, RpmPin};
use crate::archive::cpio::{self, Error as CpioError};
use crate::archive::root::{Root, RootError, is_unread};
use crate::archive::tar::Kind;
use crate::rpm::header::{Header as RpmHeader, HeaderError, tag};
use crate::tree::TreePath;
use std::collections::HashMap;
use std::io::{self, Read, Write};

const MAXIMUM_TARGET: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("{package}: {cause}")]
    Package { package: String, cause: PackageError },
    #[error("{package} cannot be opened: {cause}")]
    Open { package: String, cause: io::Error },
    #[error("{package} cannot be unpacked: {cause}")]
    Unpack { package: String, cause: CpioError },
    #[error(transparent)]
    Root(#[from] RootError),
}

/// Writes the tar archive (uncompressed). `open` gives a package's file, already verified, from its beginning.
pub fn write(
    pin: &RpmPin,
    mut open: impl FnMut(&PackagePin) -> io::Result<Box<dyn Read + Send>>,
    output: impl Write,
) -> Result<(), BootstrapError> {
    let mut root = Root::new(output, pin.date);
    for package in pin.bootstrap() {
        let file = open(package).map_err(|cause| BootstrapError::Open { package: package.nevra(), cause })?;
        add_package(&mut root, &package.nevra(), file)?;
    }
    Ok(root.finish()?)
}

fn add_package<W: Write>(root: &mut Root<W>, name: &str, mut file: Box<dyn Read + Send>) -> Result<(), BootstrapError> {
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
        let path = root.place(name, &header.name)?;
        if path.is_root() {
            continue;
        }
        let mode = (header.mode & 0o777) as u16;
        match header.mode & 0o170_000 {
            0o040_000 => root.add_directory(&path)?,
            0o120_000 => {
                let mut target = Vec::new();
                (&mut member).take(MAXIMUM_TARGET).read_to_end(&mut target).map_err(RootError::Write)?;
                root.add(&path, Kind::Symlink(target), 0o777, 0, &mut io::empty())?;
            }
            0o100_000 if header.links <= 1 && is_unread(&path) => {}
            0o100_000 if header.links > 1 && header.size == 0 => {
                linked.entry(header.inode).or_default().push(path);
            }
            0o100_000 => {
                let names = linked.remove(&header.inode).filter(|_| header.links > 1).unwrap_or_default();
                if !root.has(&path) {
                    root.add(&path, Kind::File, mode | 0o600, header.size, &mut member)?;
                    for other in names {
                        let target = path.as_bytes().to_vec();
                        root.add(&other, Kind::HardLink(target), mode | 0o600, 0, &mut io::empty())?;
                    }
                }
            }
            // Devices and pipes are not needed to install packages.
            _ => {}
        }
    }
    for path in linked.into_values().flatten() {
        root.add(&path, Kind::File, 0o644, 0, &mut io::empty())?;
    }
    Ok(())
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
