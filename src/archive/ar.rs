//! ar archives, the outer form of Debian packages, read as a stream.
//!
//! Sources: ar(5); deb(5). Takes plain names, GNU's `name/`, `//` table and `/N` references, and BSD's `#1/N`.

use super::tar::shown;
use std::io::{self, Read};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;
/// Bytes of a BSD name or of the GNU table of names.
const MAXIMUM_NAMES: u64 = 1 << 20;

/// Reads members one after the other. What is left unread of one is skipped by the next call.
pub struct Reader<R> {
    inner: R,
    /// GNU's table of long names.
    names: Vec<u8>,
    name: Vec<u8>,
    left: u64,
    padding: u64,
}

/// One member; reading it gives the body.
pub struct Member<'a, R> {
    pub name: Vec<u8>,
    /// Bytes of the body.
    pub size: u64,
    /// Seconds since the epoch.
    pub mtime: u64,
    reader: &'a mut Reader<R>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this is not an ar archive (a Debian package starts with \"!<arch>\")")]
    NotAnArchive,
    #[error("the ar archive ends in the middle of {name:?}")]
    Truncated { name: String },
    #[error("the header behind the ar member {after:?} is malformed: {cause}")]
    Header { after: String, cause: &'static str },
    #[error("the ar archive cannot be read: {0}")]
    Read(#[source] io::Error),
}

impl<R: Read> Reader<R> {
    /// Reads and checks the magic.
    pub fn new(mut inner: R) -> Result<Reader<R>, Error> {
        let mut magic = [0; MAGIC.len()];
        match inner.read_exact(&mut magic) {
            Ok(()) if magic == *MAGIC => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(Error::Read(error)),
            _ => return Err(Error::NotAnArchive),
        }
        Ok(Reader { inner, names: Vec::new(), name: Vec::new(), left: 0, padding: 0 })
    }

    /// The next member; `None` at the end. GNU's own tables are taken in, not given.
    pub fn next_member(&mut self) -> Result<Option<Member<'_, R>>, Error> {
        loop {
            self.skip()?;
            let Some(header) = self.read_header()? else { return Ok(None) };
            let size = self.number(&header[48..58], "its size is not a number")?;
            let mtime = self.number(&header[16..28], "its time is not a number")?;
            let short = header[..16].trim_ascii_end();
            self.left = size;
            self.padding = size % 2;
            match short {
                b"//" => {
                    self.names = self.take_names(size)?;
                    continue;
                }
                // The symbol tables of linkers.
                b"/" | b"/SYM64/" => continue,
                _ => {}
            }
            self.name = self.full_name(short)?;
            return Ok(Some(Member { name: self.name.clone(), size: self.left, mtime, reader: self }));
        }
    }

    fn full_name(&mut self, short: &[u8]) -> Result<Vec<u8>, Error> {
        if let Some(length) = short.strip_prefix(b"#1/") {
            let length = self.number(length, "the length of its name is not a number")?;
            let name = self.take_names(length)?;
            return Ok(name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())].to_vec());
        }
        if let Some(offset) = short.strip_prefix(b"/") {
            let offset = self.number(offset, "the reference to its name is not a number")?;
            let rest = usize::try_from(offset).ok().and_then(|offset| self.names.get(offset..));
            let rest = rest.ok_or_else(|| self.fault("its name is not in the table of names"))?;
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let name = &rest[..end];
            return Ok(name.strip_suffix(b"/").unwrap_or(name).to_vec());
        }
        Ok(short.strip_suffix(b"/").unwrap_or(short).to_vec())
    }

    fn take_names(&mut self, length: u64) -> Result<Vec<u8>, Error> {
        if length > self.left || length > MAXIMUM_NAMES {
            return Err(self.fault("its names are too long"));
        }
        let mut names = Vec::new();
        self.inner.by_ref().take(length).read_to_end(&mut names).map_err(Error::Read)?;
        self.left -= names.len() as u64;
        if (names.len() as u64) < length {
            return Err(Error::Truncated { name: "a table of names".to_owned() });
        }
        Ok(names)
    }

    fn read_header(&mut self) -> Result<Option<[u8; HEADER]>, Error> {
        let mut header = Vec::with_capacity(HEADER);
        self.inner.by_ref().take(HEADER as u64).read_to_end(&mut header).map_err(Error::Read)?;
        if header.is_empty() {
            return Ok(None);
        }
        let header: [u8; HEADER] =
            header.try_into().map_err(|_| Error::Truncated { name: "a member's header".to_owned() })?;
        if header[58..] != *b"`\n" {
            return Err(self.fault("it does not end as a header does"));
        }
        Ok(Some(header))
    }

    fn skip(&mut self) -> Result<(), Error> {
        let skipped =
            io::copy(&mut self.inner.by_ref().take(self.left + self.padding), &mut io::sink()).map_err(Error::Read)?;
        // The padding byte behind the last member is often forgotten.
        if skipped < self.left {
            return Err(Error::Truncated { name: shown(&self.name) });
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn number(&self, field: &[u8], cause: &'static str) -> Result<u64, Error> {
        let digits = field.trim_ascii();
        if digits.is_empty() {
            return Ok(0);
        }
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(self.fault(cause));
        }
        let text = std::str::from_utf8(digits).map_err(|_| self.fault(cause))?;
        text.parse().map_err(|_| self.fault(cause))
    }

    fn fault(&self, cause: &'static str) -> Error {
        Error::Header { after: shown(&self.name), cause }
    }
}

impl<R: Read> Read for Member<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.reader;
        let count = buffer.len().min(usize::try_from(reader.left).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        let count = reader.inner.read(&mut buffer[..count])?;
        if count == 0 {
            let error = Error::Truncated { name: shown(&reader.name) };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        reader.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(name: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 7, 0, 0, 100644, body.len()).into_bytes();
        bytes.extend_from_slice(body);
        if body.len() % 2 == 1 {
            bytes.push(b'\n');
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut reader = Reader::new(bytes).map_err(|error| error.to_string())?;
        let mut members = Vec::new();
        while let Some(mut member) = reader.next_member().map_err(|error| error.to_string())? {
            let mut body = Vec::new();
            member.read_to_end(&mut body).map_err(|error| error.to_string())?;
            members.push((String::from_utf8_lossy(&member.name).into_owned(), body));
        }
        Ok(members)
    }

    #[test]
    fn reads_the_names_of_debian_gnu_and_bsd() {
        let bytes = [
            MAGIC.to_vec(),
            member("debian-binary", b"2.0\n"),
            member("//", b"a-name-longer-than-16-bytes/\nsecond/\n"),
            member("control.tar.xz/", b"odd"),
            member("/0", b"x"),
            member("/29", b"y"),
            member("#1/8", b"bsd\0\0\0\0\0body"),
        ]
        .concat();
        let members = read(&bytes).unwrap();
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["debian-binary", "control.tar.xz", "a-name-longer-than-16-bytes", "second", "bsd"]);
        assert_eq!(members[1].1, b"odd");
        assert_eq!(members[4].1, b"body");
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(read(b"PK\x03\x04").unwrap_err().starts_with("this is not an ar archive"));
        let mut cut = [MAGIC.to_vec(), member("data.tar", &[1; 50])].concat();
        cut.truncate(80);
        assert_eq!(read(&cut).unwrap_err(), "the ar archive ends in the middle of \"data.tar\"");
        let lost = [MAGIC.to_vec(), member("/5", b"")].concat();
        assert!(read(&lost).unwrap_err().ends_with("its name is not in the table of names"));
        let long = [MAGIC.to_vec(), member("#1/9", b"abc")].concat();
        assert!(read(&long).unwrap_err().ends_with("its names are too long"));
    }

    proptest! {
        #[test]
        fn mutated_archives_never_panic(at in 0usize..140, byte in any::<u8>(), tail in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = [MAGIC.to_vec(), member("//", b"abc/\n"), member("/0", b"body"), tail].concat();
            if let Some(target) = bytes.get_mut(at) {
                *target = byte;
            }
            let _ = read(&bytes);
        }
    }
}
