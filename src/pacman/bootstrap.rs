//! The bootstrap root as one tar archive: pacman and what it needs.

use super::package;
use super::pin::PacmanPin;
use crate::archive::root::{Root, RootError, is_unread};
use crate::archive::tar::{Error as TarError, Kind, Reader};
use crate::rpm::pin::PackagePin;
use std::io::{self, Read, Write};

#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("{package} cannot be opened: {cause}")]
    Open { package: String, cause: io::Error },
    #[error("{package} cannot be unpacked: {cause}")]
    Unpack { package: String, cause: TarError },
    #[error(transparent)]
    Root(#[from] RootError),
}

/// Writes the tar archive (uncompressed). `open` gives a package's file, already verified, from its beginning.
pub fn write(
    pin: &PacmanPin,
    mut open: impl FnMut(&PackagePin) -> io::Result<Box<dyn Read + Send>>,
    output: impl Write,
) -> Result<(), BootstrapError> {
    let mut root = Root::new(output, pin.base.date);
    for package in pin.base.bootstrap() {
        let name = package.nevra();
        let file = open(package).and_then(package::open);
        let file = file.map_err(|cause| BootstrapError::Open { package: name.clone(), cause })?;
        add_package(&mut root, &name, file)?;
    }
    Ok(root.finish()?)
}

fn add_package<W: Write>(root: &mut Root<W>, name: &str, file: Box<dyn Read + Send>) -> Result<(), BootstrapError> {
    let mut archive = Reader::new(file);
    let unpack = |cause| BootstrapError::Unpack { package: name.to_owned(), cause };
    while let Some(mut entry) = archive.next_entry().map_err(unpack)? {
        let header = entry.header.clone();
        // The package's own description and scriptlets.
        if header.path.starts_with(b".") && !header.path.contains(&b'/') {
            continue;
        }
        let path = root.place(name, &header.path)?;
        let mode = header.mode & 0o777 | 0o600;
        match header.kind {
            _ if path.is_root() => {}
            Kind::Directory => root.add_directory(&path)?,
            Kind::Symlink(_) => root.add(&path, header.kind, 0o777, 0, &mut io::empty())?,
            Kind::File if !is_unread(&path) => root.add(&path, Kind::File, mode, header.size, &mut entry)?,
            Kind::HardLink(target) => {
                let target = root.place(name, &target)?;
                if root.has(&target) {
                    root.add(&path, Kind::HardLink(target.as_bytes().to_vec()), mode, 0, &mut io::empty())?;
                }
            }
            // Devices and pipes are not needed to install packages.
            _ => {}
        }
    }
    Ok(())
}
