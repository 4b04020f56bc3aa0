//! The core of a Debian system as one tar archive: what must lie there before dpkg can run and install it properly.
//!
//! Source: the first stage of `debootstrap`. The core's packages are unpacked over each other (the first to bring a file wins), with `/bin` and
//! its kin made links into `/usr` where the suite has it so. [`super::script`] then lets the image's own dpkg do it again, with its records.

use super::package::{self, PackageError, Part};
use super::pin::{DebianPin, PackagePin};
use crate::archive::tar::{Error as TarError, Header, Kind, Reader, Writer};
use crate::tree::{PathError, TreePath, Xattrs};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};

/// Directories that a merged system has in `/usr` only.
const ALIASES: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin"];
/// Names in one base beyond which it is refused.
const MAXIMUM_ENTRIES: usize = 5_000_000;

#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error("{package} {cause}")]
    Package { package: String, cause: PackageError },
    #[error("{package}: {cause}")]
    Path { package: String, cause: PathError },
    #[error("{package} cannot be opened: {cause}")]
    Open { package: String, cause: io::Error },
    #[error("{package} cannot be unpacked: {cause}")]
    Unpack { package: String, cause: TarError },
    #[error("the packages hold more than {MAXIMUM_ENTRIES} files")]
    TooManyEntries,
    #[error("cannot write the base: {0}")]
    Write(#[from] io::Error),
}

/// Whether this release's systems have `/bin` and its kin as links into `/usr`.
/// Compat: as debootstrap, except that `buildd` bases are merged, too, wherever others are.
pub fn is_merged(codename: &str) -> bool {
    const SPLIT: [&str; 40] = [
        "potato",
        "woody",
        "sarge",
        "etch",
        "etch-m68k",
        "lenny",
        "squeeze",
        "wheezy",
        "jessie",
        "jessie-kfreebsd",
        "stretch",
        "warty",
        "hoary",
        "breezy",
        "dapper",
        "edgy",
        "feisty",
        "gutsy",
        "hardy",
        "intrepid",
        "jaunty",
        "karmic",
        "lucid",
        "maverick",
        "natty",
        "oneiric",
        "precise",
        "quantal",
        "raring",
        "saucy",
        "trusty",
        "utopic",
        "vivid",
        "wily",
        "xenial",
        "yakkety",
        "zesty",
        "artful",
        "bionic",
        "cosmic",
    ];
    !SPLIT.contains(&codename)
}

/// Writes the tar archive (uncompressed). `open` gives a package's file, already verified, from its beginning.
pub fn write(
    pin: &DebianPin,
    mut open: impl FnMut(&PackagePin) -> io::Result<Box<dyn Read + Send>>,
    output: impl Write,
) -> Result<(), BaseError> {
    let mut base = Base { pin, writer: Writer::new(output), seen: BTreeSet::new(), aliases: BTreeSet::new() };
    for package in pin.packages.iter().filter(|package| package.batch == 0) {
        let file = open(package).map_err(|cause| BaseError::Open { package: package.name.clone(), cause })?;
        base.add_package(package, file)?;
    }
    base.add_links()?;
    for (path, content) in made_up_files(pin) {
        base.add_file(path, content.as_bytes())?;
    }
    base.writer.finish()?.flush()?;
    Ok(())
}

struct Base<'a, W: Write> {
    pin: &'a DebianPin,
    writer: Writer<W>,
    seen: BTreeSet<TreePath>,
    /// Those of [`ALIASES`] that some package uses.
    aliases: BTreeSet<&'static str>,
}

impl<W: Write> Base<'_, W> {
    fn add_package(&mut self, package: &PackagePin, file: Box<dyn Read + Send>) -> Result<(), BaseError> {
        let unpack = |cause| BaseError::Unpack { package: package.name.clone(), cause };
        let data = package::open(file, Part::Data)
            .map_err(|cause| BaseError::Package { package: package.name.clone(), cause })?;
        let mut archive = Reader::new(data);
        while let Some(mut entry) = archive.next_entry().map_err(unpack)? {
            let checked = inside(&package.name, &entry.header.path)?;
            let is_alias = checked.parent().is_some_and(|parent| parent.is_root()) && self.alias(&checked).is_some();
            let path = self.place(checked);
            // The links are made at the end; a package that brings one itself agrees.
            if path.is_root()
                || (is_alias && matches!(entry.header.kind, Kind::Symlink(_)))
                || !self.seen.insert(path.clone())
            {
                continue;
            }
            if self.seen.len() > MAXIMUM_ENTRIES {
                return Err(BaseError::TooManyEntries);
            }
            let mut header = entry.header.clone();
            if let Kind::HardLink(target) = &mut header.kind {
                let place = inside(&package.name, target)?;
                *target = self.place(place).as_bytes().to_vec();
            }
            header.path = path.as_bytes().to_vec();
            self.writer.append(&header, &mut entry)?;
        }
        Ok(())
    }

    fn alias(&self, path: &TreePath) -> Option<&'static str> {
        let first = path.components().next()?;
        ALIASES.iter().copied().find(|alias| self.pin.merged_usr && alias.as_bytes() == first)
    }

    /// Where a package's path lies in this system.
    fn place(&mut self, path: TreePath) -> TreePath {
        let Some(alias) = self.alias(&path) else { return path };
        self.aliases.insert(alias);
        TreePath::parse("usr").and_then(|usr| usr.join(path.as_bytes())).unwrap_or(path)
    }

    fn add_links(&mut self) -> Result<(), BaseError> {
        for alias in std::mem::take(&mut self.aliases) {
            self.add_directory(&format!("usr/{alias}"))?;
            let target = format!("usr/{alias}").into_bytes();
            let header = self.header(alias, Kind::Symlink(target), 0o777, 0);
            self.writer.append(&header, &mut io::empty())?;
        }
        Ok(())
    }

    fn add_file(&mut self, path: &str, content: &[u8]) -> Result<(), BaseError> {
        for (at, _) in path.match_indices('/') {
            self.add_directory(&path[..at])?;
        }
        let header = self.header(path, Kind::File, 0o644, content.len() as u64);
        self.writer.append(&header, &mut &*content)?;
        Ok(())
    }

    fn add_directory(&mut self, path: &str) -> Result<(), BaseError> {
        let known = TreePath::parse(path).is_ok_and(|path| !self.seen.insert(path));
        if !known {
            let header = self.header(path, Kind::Directory, 0o755, 0);
            self.writer.append(&header, &mut io::empty())?;
        }
        Ok(())
    }

    fn header(&self, path: &str, kind: Kind, mode: u16, size: u64) -> Header {
        let path = path.as_bytes().to_vec();
        Header { path, kind, mode, uid: 0, gid: 0, mtime: self.pin.date.max(0), xattrs: Xattrs::new(), size }
    }
}

fn inside(package: &str, path: &[u8]) -> Result<TreePath, BaseError> {
    TreePath::parse(path).map_err(|cause| BaseError::Path { package: package.to_owned(), cause })
}

/// What no package brings, by path.
fn made_up_files(pin: &DebianPin) -> Vec<(&'static str, String)> {
    // Compat: dpkg must believe that it is installed before it can install itself.
    let dpkg =
        pin.packages.iter().find(|package| package.name == "dpkg").map_or("0", |package| package.version.as_str());
    vec![
        ("etc/apt/sources.list", sources_list(pin)),
        ("etc/fstab", "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n".into()),
        ("var/lib/dpkg/available", String::new()),
        ("var/lib/dpkg/cmethopt", "apt apt\n".into()),
        ("var/lib/dpkg/info/dpkg.list", String::new()),
        (
            "var/lib/dpkg/status",
            format!("Package: dpkg\nVersion: {dpkg}\nMaintainer: unknown\nStatus: install ok installed\n"),
        ),
    ]
}

/// `/etc/apt/sources.list` of the image: the mirror, without a login.
pub fn sources_list(pin: &DebianPin) -> String {
    let mirror = match pin.mirror.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            format!("{scheme}://{}{path}", host.rsplit_once('@').map_or(host, |(_, host)| host))
        }
        None => pin.mirror.clone(),
    };
    format!("deb {mirror} {} {}\n", pin.suite, pin.components.join(" "))
}

#[cfg(test)]
mod tests;
