//! A package file: a compressed tar archive of files, with its own description in `.PKGINFO`.
//!
//! Source: alpm-package(7), PKGINFO(5).

use crate::archive::compress::detecting_decoder;
use crate::archive::tar::{Error as TarError, Reader};
use std::io::{self, Read};

const MAXIMUM_DESCRIPTION: u64 = 4 << 20;
/// Bytes that one package may unpack to.
const MAXIMUM_UNPACKED: u64 = 64 << 30;
/// Members among which the description is looked for: it is one of the first.
const MAXIMUM_MEMBERS: usize = 16;

/// Its uncompressed tar archive.
pub fn open<'a>(file: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let (_, decoder) = detecting_decoder(file)?;
    Ok(Box::new(decoder.take(MAXIMUM_UNPACKED)))
}

/// What a package file says that it is: `NAME-VERSION.ARCHITECTURE`.
pub fn identity(file: impl Read + Send) -> io::Result<String> {
    let mut archive = Reader::new(open(file)?);
    let wrong = |cause: &str| io::Error::new(io::ErrorKind::InvalidData, cause.to_owned());
    for _ in 0..MAXIMUM_MEMBERS {
        let entry = archive.next_entry().map_err(|error| match error {
            TarError::Read(cause) => cause,
            other => wrong(&other.to_string()),
        })?;
        let Some(mut entry) = entry else { break };
        if entry.header.path != b".PKGINFO" {
            continue;
        }
        let mut text = String::new();
        (&mut entry).take(MAXIMUM_DESCRIPTION).read_to_string(&mut text)?;
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).unwrap_or_default()
        };
        return Ok(format!("{}-{}.{}", field("pkgname"), field("pkgver"), field("arch")));
    }
    Err(wrong("it has no .PKGINFO"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tar::{Header, Kind, Writer};
    use proptest::prelude::*;

    fn package(path: &str) -> Vec<u8> {
        let text = "# x\npkgname = a\npkgver = 1:2-3\narch = any\n";
        let mut writer = Writer::new(Vec::new());
        let (path, size, xattrs) = (path.as_bytes().to_vec(), text.len() as u64, Default::default());
        let header = Header { path, kind: Kind::File, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs, size };
        writer.append(&header, &mut text.as_bytes()).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn a_package_says_what_it_is() {
        assert_eq!(identity(&package(".PKGINFO")[..]).unwrap(), "a-1:2-3.any");
        assert!(identity(&package("other")[..]).unwrap_err().to_string().contains("no .PKGINFO"));
        assert!(identity(&b"<html>"[..]).is_err());
    }

    proptest! {
        #[test]
        fn mutated_packages_never_panic(at in 0usize..600, byte: u8) {
            let mut bytes = package(".PKGINFO");
            bytes[at] = byte;
            let _ = identity(&bytes[..]);
        }
    }
}
