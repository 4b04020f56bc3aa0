//! A package file: an `ar` archive of three members, of which two are compressed tar archives.
//!
//! Source: deb(5).

use crate::archive::compress::detecting_decoder;
use crate::archive::tar;
use std::io::{self, Read};

const GLOBAL_HEADER: &[u8; 8] = b"!<arch>\n";
const MEMBER_HEADER: usize = 60;
/// Members before the data that are looked at.
const MAXIMUM_MEMBERS: usize = 32;
/// Bytes of one control file; real ones have some thousand.
const MAXIMUM_CONTROL: u64 = 1 << 20;
/// Bytes that one package may unpack to.
const MAXIMUM_UNPACKED: u64 = 64 << 30;

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("is not a package file: {0}")]
    NotAPackage(&'static str),
    #[error("has no member {0}")]
    MissingMember(&'static str),
    #[error("is of package format {0:?}; 2 is known")]
    Format(String),
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Which of the two tar archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Control file and maintainer scripts.
    Control,
    /// The files.
    Data,
}

/// The decompressed tar archive of a package file read from its beginning.
pub fn open<'a>(mut reader: impl Read + Send + 'a, part: Part) -> Result<Box<dyn Read + Send + 'a>, PackageError> {
    let wanted = match part {
        Part::Control => "control.tar",
        Part::Data => "data.tar",
    };
    let mut magic = [0; 8];
    reader
        .read_exact(&mut magic)
        .map_err(|_| PackageError::NotAPackage("it is shorter than an ar archive's header"))?;
    if magic != *GLOBAL_HEADER {
        return Err(PackageError::NotAPackage("it does not begin as an ar archive"));
    }
    for number in 0..MAXIMUM_MEMBERS {
        let Some((name, size)) = read_member(&mut reader)? else { break };
        if number == 0 {
            check_format(&name, size, &mut reader)?;
        } else if name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
            let (_, decoder) = detecting_decoder(reader.take(size))?;
            return Ok(Box::new(decoder.take(MAXIMUM_UNPACKED)));
        } else {
            skip(&mut reader, size)?;
        }
        skip(&mut reader, size % 2)?;
    }
    Err(PackageError::MissingMember(wanted))
}

/// The control file of a package file read from its beginning.
pub fn control<'a>(reader: impl Read + Send + 'a) -> Result<String, PackageError> {
    let mut archive = tar::Reader::new(open(reader, Part::Control)?);
    let fault = |error: tar::Error| PackageError::Read(io::Error::other(error));
    while let Some(mut entry) = archive.next_entry().map_err(fault)? {
        if entry.header.path.strip_prefix(b"./").unwrap_or(&entry.header.path) != b"control" {
            continue;
        }
        if entry.header.size > MAXIMUM_CONTROL {
            break;
        }
        let mut text = Vec::new();
        entry.read_to_end(&mut text)?;
        return Ok(String::from_utf8_lossy(&text).into_owned());
    }
    Err(PackageError::MissingMember("control"))
}

/// Name and size in bytes of the next member; `None` at the end.
fn read_member(reader: &mut impl Read) -> Result<Option<(String, u64)>, PackageError> {
    let mut header = Vec::with_capacity(MEMBER_HEADER);
    reader.by_ref().take(MEMBER_HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    if header.len() < MEMBER_HEADER || !header.ends_with(b"`\n") {
        return Err(PackageError::NotAPackage("a member's header is damaged"));
    }
    let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim().to_owned();
    let size = text(48..58).parse().map_err(|_| PackageError::NotAPackage("a member's size is not a number"))?;
    // Compat: System V archives end names with a slash.
    Ok(Some((text(0..16).trim_end_matches('/').to_owned(), size)))
}

fn check_format(name: &str, size: u64, reader: &mut impl Read) -> Result<(), PackageError> {
    if name != "debian-binary" || size > 64 {
        return Err(PackageError::NotAPackage("its first member is not debian-binary"));
    }
    let mut text = String::new();
    reader.by_ref().take(size).read_to_string(&mut text)?;
    match text.starts_with("2.") {
        true => Ok(()),
        false => Err(PackageError::Format(text.trim().to_owned())),
    }
}

fn skip(reader: &mut impl Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.by_ref().take(count), &mut io::sink())?;
    if skipped < count {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is cut short"));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A package file of the given tar archives.
    pub(crate) fn write(control: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = GLOBAL_HEADER.to_vec();
        for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", control), ("data.tar", data)] {
            bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes());
            bytes.extend(content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn read(bytes: &[u8], part: Part) -> Result<Vec<u8>, PackageError> {
        let mut content = Vec::new();
        open(bytes, part)?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn finds_both_parts() {
        let bytes = write(b"odd", b"even");
        assert_eq!(read(&bytes, Part::Control).unwrap(), b"odd");
        assert_eq!(read(&bytes, Part::Data).unwrap(), b"even");
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let good = write(b"odd", b"even");
        let error = |bytes: &[u8]| read(bytes, Part::Data).unwrap_err().to_string();
        assert!(error(b"").contains("shorter"));
        assert!(error(b"<html>...").contains("begin as an ar"));
        assert!(error(&good[..20]).contains("damaged"));
        assert!(error(&good[..good.len() - 64]).contains("no member data.tar"));
        let old = String::from_utf8(good).unwrap().replace("2.0\n", "3.0\n");
        assert!(error(old.as_bytes()).contains("format \"3.0\""));
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(at in 0usize..200, byte: u8, cut in 0usize..220) {
            let mut bytes = write(b"odd", b"even");
            let last = bytes.len() - 1;
            bytes[at.min(last)] = byte;
            bytes.truncate(bytes.len() - cut.min(last));
            let _ = read(&bytes, Part::Data);
        }
    }
}
