//! cpio archives in the forms "newc" and "crc", the payload of RPM packages, read as a stream.
//!
//! Packages with large files have a third form, whose members are numbers of files that the package's header describes.
//!
//! Source: rpm's manual, "Payload format"; cpio(5), "New ASCII Format" and "New CRC Format". Hard links are members that share a device and inode number; only
//! the last of them carries the body.

use super::tar::shown;
use std::io::{self, Read};

const HEADER: usize = 110;
const MAGIC: usize = 6;
/// Longest member name, in bytes.
const MAXIMUM_NAME: u64 = 4096;
const TRAILER: &[u8] = b"TRAILER!!!";

/// Reads members one after the other. What is left unread of one is skipped by the next call.
pub struct Reader<R> {
    inner: R,
    name: Vec<u8>,
    left: u64,
    padding: u64,
    /// Of form "crc": the sum of all bytes that the header promises, and the sum so far.
    check: Option<(u32, u32)>,
    /// What members of the third form are numbers of.
    files: Vec<Header>,
    finished: bool,
}

/// What the archive says of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// As written, unchecked.
    pub name: Vec<u8>,
    /// Device and inode number of the machine that packed it: equal for hard links.
    pub inode: (u32, u32, u32),
    /// `st_mode` with its type bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    /// Seconds since the epoch.
    pub mtime: u32,
    /// Bytes of the body; a symlink's body is its target.
    pub size: u64,
    pub device: (u32, u32),
}

/// One member; reading it gives the body.
pub struct Member<'a, R> {
    pub header: Header,
    reader: &'a mut Reader<R>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the header behind the cpio member {after:?} is malformed: {cause}")]
    Header { after: String, cause: &'static str },
    #[error("the cpio archive ends in the middle of {name:?}")]
    Truncated { name: String },
    #[error("the cpio member {name:?} is corrupt: the sum of its bytes is {actual:08x}, not {expected:08x}")]
    Sum { name: String, expected: u32, actual: u32 },
    #[error("the cpio archive cannot be read: {0}")]
    Read(#[source] io::Error),
}

impl<R: Read> Reader<R> {
    pub fn new(inner: R) -> Reader<R> {
        Reader { inner, name: Vec::new(), left: 0, padding: 0, check: None, files: Vec::new(), finished: false }
    }

    /// Also reads members that are numbers of these files.
    pub fn with_files(inner: R, files: Vec<Header>) -> Reader<R> {
        Reader { files, ..Reader::new(inner) }
    }

    /// The next member; `None` behind the trailer.
    pub fn next_member(&mut self) -> Result<Option<Member<'_, R>>, Error> {
        self.finish_member()?;
        if self.finished {
            return Ok(None);
        }
        let mut bytes = self.read_exactly(MAGIC as u64)?;
        if bytes == b"07070X" {
            return self.numbered_member().map(Some);
        }
        bytes.extend(self.read_exactly((HEADER - MAGIC) as u64)?);
        let summed = match &bytes[..MAGIC] {
            b"070701" => false,
            b"070702" => true,
            _ => return Err(self.fault("it does not start with 070701, 070702 or 07070X")),
        };
        let mut fields = [0u32; 13];
        for (field, digits) in fields.iter_mut().zip(bytes[6..].chunks_exact(8)) {
            *field = hexadecimal(digits).ok_or_else(|| self.fault("a field is not hexadecimal"))?;
        }
        let [inode, mode, uid, gid, links, mtime, size, major, minor, rmajor, rminor, length, check] = fields;
        let length = u64::from(length);
        if length == 0 || length > MAXIMUM_NAME {
            return Err(self.fault("the length of its name is impossible"));
        }
        // Spec: header and name together are padded to four bytes, and so is the body.
        let padded = (HEADER as u64 + length).next_multiple_of(4) - HEADER as u64;
        let mut name = self.read_exactly(padded)?;
        name.truncate(length as usize - 1);
        if name == TRAILER {
            self.finished = true;
            return Ok(None);
        }
        self.name = name.clone();
        self.left = u64::from(size);
        self.padding = self.left.next_multiple_of(4) - self.left;
        self.check = summed.then_some((check, 0));
        let header = Header {
            name,
            inode: (major, minor, inode),
            mode,
            uid,
            gid,
            links,
            mtime,
            size: u64::from(size),
            device: (rmajor, rminor),
        };
        Ok(Some(Member { header, reader: self }))
    }

    fn numbered_member(&mut self) -> Result<Member<'_, R>, Error> {
        let digits = self.read_exactly(8)?;
        // Spec: number and magic are padded to four bytes.
        self.read_exactly(2)?;
        let file = hexadecimal(&digits).and_then(|number| self.files.get(number as usize)).cloned();
        let Some(header) = file else { return Err(self.fault("it is the number of no file of the package")) };
        self.name.clone_from(&header.name);
        self.left = header.size;
        self.padding = self.left.next_multiple_of(4) - self.left;
        self.check = None;
        Ok(Member { header, reader: self })
    }

    fn finish_member(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 8192];
        while self.left > 0 {
            match self.read_body(&mut buffer) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Our own errors come back wrapped.
                    return Err(error.downcast::<Error>().unwrap_or_else(Error::Read));
                }
            }
        }
        let padding = std::mem::take(&mut self.padding);
        self.read_exactly(padding)?;
        Ok(())
    }

    fn read_body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..count])?;
        if count == 0 {
            let error = Error::Truncated { name: shown(&self.name) };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        self.left -= count as u64;
        if let Some((expected, sum)) = &mut self.check {
            for byte in &buffer[..count] {
                *sum = sum.wrapping_add(u32::from(*byte));
            }
            if self.left == 0 && expected != sum {
                let error = Error::Sum { name: shown(&self.name), expected: *expected, actual: *sum };
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        Ok(count)
    }

    fn read_exactly(&mut self, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.inner.by_ref().take(length).read_to_end(&mut bytes).map_err(Error::Read)?;
        if (bytes.len() as u64) < length {
            return Err(Error::Truncated { name: shown(&self.name) });
        }
        Ok(bytes)
    }

    fn fault(&self, cause: &'static str) -> Error {
        Error::Header { after: shown(&self.name), cause }
    }
}

impl<R: Read> Read for Member<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read_body(buffer)
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, digit| Some((value << 4) | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(magic: &str, name: &[u8], body: &[u8]) -> Vec<u8> {
        let sum: u32 = body.iter().map(|byte| u32::from(*byte)).sum();
        let check = if magic == "070702" { sum } else { 0 };
        let mut bytes = magic.as_bytes().to_vec();
        for field in [5, 0o100_644, 1, 2, 1, 99, body.len() as u32, 8, 1, 0, 0, name.len() as u32 + 1, check] {
            bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Header, Vec<u8>)>, String> {
        let mut reader = Reader::new(bytes);
        let mut members = Vec::new();
        while let Some(mut member) = reader.next_member().map_err(|error| error.to_string())? {
            let mut body = Vec::new();
            member.read_to_end(&mut body).map_err(|error| error.to_string())?;
            members.push((member.header, body));
        }
        Ok(members)
    }

    #[test]
    fn reads_both_forms_up_to_the_trailer() {
        for magic in ["070701", "070702"] {
            let bytes = [
                member(magic, b"./usr/bin/x", b"body!"),
                member(magic, b"empty", b""),
                member(magic, TRAILER, b""),
                vec![0; 300],
            ]
            .concat();
            let members = read(&bytes).unwrap();
            assert_eq!(members.len(), 2);
            assert_eq!((members[0].0.name.as_slice(), members[0].1.as_slice()), (&b"./usr/bin/x"[..], &b"body!"[..]));
            assert_eq!((members[0].0.mode, members[0].0.uid, members[0].0.mtime), (0o100_644, 1, 99));
            assert_eq!(members[0].0.inode, (8, 1, 5));
        }
    }

    #[test]
    fn reads_members_that_are_numbers_of_files() {
        let file = |name: &[u8], size| Header {
            name: name.to_vec(),
            inode: (0, 0, 1),
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            links: 1,
            mtime: 0,
            size,
            device: (0, 0),
        };
        let bytes = [b"07070X00000001\0\0body!\0\0\0".to_vec(), member("070701", TRAILER, b"")].concat();
        let mut reader = Reader::with_files(&bytes[..], vec![file(b"a", 0), file(b"b", 5)]);
        let mut found = reader.next_member().unwrap().unwrap();
        let mut body = Vec::new();
        found.read_to_end(&mut body).unwrap();
        assert_eq!((found.header.name.as_slice(), body.as_slice()), (&b"b"[..], &b"body!"[..]));
        assert!(reader.next_member().unwrap().is_none());
        assert!(read(&bytes).unwrap_err().contains("number of no file"));
    }

    #[test]
    fn says_what_is_wrong() {
        let mut bytes = [member("070702", b"a", b"body"), member("070702", TRAILER, b"")].concat();
        bytes[112] ^= 1;
        assert!(read(&bytes).unwrap_err().starts_with("the cpio member \"a\" is corrupt"));
        let mut skipping = Reader::new(&bytes[..]);
        skipping.next_member().unwrap();
        assert!(matches!(skipping.next_member(), Err(Error::Sum { .. })), "also when the body is skipped");
        bytes.truncate(114);
        assert_eq!(read(&bytes).unwrap_err(), "the cpio archive ends in the middle of \"a\"");
        assert!(read(&[b'x'; 200]).unwrap_err().contains("does not start with"));
        let long = member("070701", &[b'n'; 5000], b"");
        assert!(read(&long).unwrap_err().contains("the length of its name is impossible"));
    }

    proptest! {
        #[test]
        fn mutated_archives_never_panic(at in 0usize..160, byte in any::<u8>(), tail in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = [member("070702", b"name", b"body"), tail].concat();
            if let Some(target) = bytes.get_mut(at) {
                *target = byte;
            }
            let _ = read(&bytes);
        }
    }
}
