//! The header structure of package files and of rpm's database: an index of tags over a store of bytes.
//!
//! Source: rpm's manual, "RPM v4 format", "Header".

use std::io::{self, Read};

/// Bounds of rpm itself.
const MAXIMUM_ENTRIES: u32 = 0xffff;
const MAXIMUM_STORE: u32 = 256 << 20;
const MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
const ENTRY: usize = 16;

/// Tags, by rpm's names.
pub mod tag {
    pub const NAME: u32 = 1000;
    pub const VERSION: u32 = 1001;
    pub const RELEASE: u32 = 1002;
    pub const EPOCH: u32 = 1003;
    pub const BUILDTIME: u32 = 1006;
    pub const ARCH: u32 = 1022;
    pub const SOURCERPM: u32 = 1044;
    pub const FILENAMES: u32 = 1027;
    pub const PAYLOADFORMAT: u32 = 1124;
    pub const DIRINDEXES: u32 = 1116;
    pub const BASENAMES: u32 = 1117;
    pub const DIRNAMES: u32 = 1118;
    pub const FILESIZES: u32 = 1028;
    pub const FILEMODES: u32 = 1030;
    pub const LONGFILESIZES: u32 = 5008;
    pub const PAYLOADDIGEST: u32 = 5092;
    pub const PAYLOADDIGESTALGO: u32 = 5093;
    /// Of the signature header.
    pub const DSAHEADER: u32 = 267;
    pub const RSAHEADER: u32 = 268;
    pub const SHA1HEADER: u32 = 269;
    pub const SHA256HEADER: u32 = 273;
    pub const OPENPGP: u32 = 278;
    pub const SIGPGP: u32 = 1002;
    pub const SIGGPG: u32 = 1005;
}

#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("a header does not begin as one")]
    Magic,
    #[error("a header has {0} entries or bytes, which is impossible")]
    Size(u32),
    #[error("a header's entry of tag {0} leads out of it, or is of another type than it should be")]
    Entry(u32),
    #[error("it ends in the middle of a header")]
    Truncated,
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// A header as read, and its bytes.
#[derive(Clone, Debug)]
pub struct Header {
    /// From the magic to the end of the store: what digests and signatures are over.
    bytes: Vec<u8>,
    entries: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    kind: u32,
    offset: usize,
    count: usize,
}

impl Header {
    /// Reads one header, without padding behind it.
    pub fn read(reader: &mut impl Read) -> Result<Header, HeaderError> {
        let mut bytes = take(reader, 16)?;
        if bytes[..4] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (entries, store) = (number(8), number(12));
        if entries > MAXIMUM_ENTRIES {
            return Err(HeaderError::Size(entries));
        }
        if store > MAXIMUM_STORE {
            return Err(HeaderError::Size(store));
        }
        bytes.extend(take(reader, entries as usize * ENTRY + store as usize)?);
        Ok(Header { bytes, entries: entries as usize })
    }

    /// What digests and signatures are over.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn store(&self) -> &[u8] {
        &self.bytes[16 + self.entries * ENTRY..]
    }

    fn entry(&self, tag: u32) -> Option<Entry> {
        let index = &self.bytes[16..16 + self.entries * ENTRY];
        index.chunks_exact(ENTRY).find_map(|entry| {
            let number = |at: usize| u32::from_be_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
            (number(0) == tag).then(|| Entry {
                kind: number(4),
                offset: number(8) as usize,
                count: number(12) as usize,
            })
        })
    }

    pub fn has(&self, tag: u32) -> bool {
        self.entry(tag).is_some()
    }

    /// A string, the first of an array or of translations.
    pub fn text(&self, tag: u32) -> Result<Option<String>, HeaderError> {
        Ok(self.texts(tag)?.map(|texts| texts.into_iter().next().unwrap_or_default()))
    }

    /// Types 6 (string), 8 (array) and 9 (translations).
    pub fn texts(&self, tag: u32) -> Result<Option<Vec<String>>, HeaderError> {
        let Some(entry) = self.entry(tag) else { return Ok(None) };
        let fault = || HeaderError::Entry(tag);
        let count = match entry.kind {
            6 => 1,
            8 | 9 => entry.count,
            _ => return Err(fault()),
        };
        let mut rest = self.store().get(entry.offset..).ok_or_else(fault)?;
        let mut texts = Vec::new();
        for _ in 0..count {
            let end = rest.iter().position(|byte| *byte == 0).ok_or_else(fault)?;
            texts.push(String::from_utf8_lossy(&rest[..end]).into_owned());
            rest = &rest[end + 1..];
        }
        Ok(Some(texts))
    }

    /// Type 4 (32 bits) and 3 (16 bits).
    pub fn numbers(&self, tag: u32) -> Result<Option<Vec<u32>>, HeaderError> {
        let Some(entry) = self.entry(tag) else { return Ok(None) };
        let width = match entry.kind {
            3 => 2,
            4 => 4,
            _ => return Err(HeaderError::Entry(tag)),
        };
        let bytes = self.slice(tag, entry, width)?;
        Ok(Some(
            bytes
                .chunks_exact(width)
                .map(|number| number.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
                .collect(),
        ))
    }

    /// Type 5 (64 bits).
    pub fn long_numbers(&self, tag: u32) -> Result<Option<Vec<u64>>, HeaderError> {
        match self.entry(tag) {
            None => Ok(None),
            Some(entry) if entry.kind == 5 => {
                let bytes = self.slice(tag, entry, 8)?;
                let number = |number: &[u8]| number.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
                Ok(Some(bytes.chunks_exact(8).map(number).collect()))
            }
            Some(_) => Err(HeaderError::Entry(tag)),
        }
    }

    /// Type 7 (bytes).
    pub fn binary(&self, tag: u32) -> Result<Option<&[u8]>, HeaderError> {
        match self.entry(tag) {
            None => Ok(None),
            Some(entry) if entry.kind == 7 => self.slice(tag, entry, 1).map(Some),
            Some(_) => Err(HeaderError::Entry(tag)),
        }
    }

    fn slice(&self, tag: u32, entry: Entry, width: usize) -> Result<&[u8], HeaderError> {
        let length = entry.count.checked_mul(width).ok_or(HeaderError::Entry(tag))?;
        let end = entry.offset.checked_add(length).ok_or(HeaderError::Entry(tag))?;
        self.store().get(entry.offset..end).ok_or(HeaderError::Entry(tag))
    }
}

/// Invariant: memory grows with what is really there.
pub(super) fn take(reader: &mut impl Read, count: usize) -> Result<Vec<u8>, HeaderError> {
    let mut bytes = Vec::new();
    reader.take(count as u64).read_to_end(&mut bytes)?;
    if bytes.len() < count { Err(HeaderError::Truncated) } else { Ok(bytes) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes a header of strings (type 6), string arrays (8), bytes (7) and numbers (4).
    pub(crate) enum Value {
        Text(&'static str),
        Texts(Vec<String>),
        Bytes(Vec<u8>),
        Numbers(Vec<u32>),
    }

    pub(crate) fn write(entries: &[(u32, Value)]) -> Vec<u8> {
        let (mut index, mut store) = (Vec::new(), Vec::new());
        for (tag, value) in entries {
            let (kind, count, bytes) = match value {
                Value::Text(text) => (6, 1, [text.as_bytes(), b"\0"].concat()),
                Value::Texts(texts) => {
                    (8, texts.len(), texts.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect())
                }
                Value::Bytes(bytes) => (7, bytes.len(), bytes.clone()),
                Value::Numbers(numbers) => {
                    (4, numbers.len(), numbers.iter().flat_map(|number| number.to_be_bytes()).collect())
                }
            };
            if kind == 4 {
                store.resize(usize::next_multiple_of(store.len(), 4), 0);
            }
            for number in [*tag, kind, store.len() as u32, count as u32] {
                index.extend(number.to_be_bytes());
            }
            store.extend(bytes);
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0; 4]);
        bytes.extend((entries.len() as u32).to_be_bytes());
        bytes.extend((store.len() as u32).to_be_bytes());
        [bytes, index, store].concat()
    }

    fn sample() -> Vec<u8> {
        write(&[
            (tag::NAME, Value::Text("bash")),
            (tag::BASENAMES, Value::Texts(vec!["a".into(), "b".into()])),
            (tag::RSAHEADER, Value::Bytes(vec![1, 2, 3])),
            (tag::EPOCH, Value::Numbers(vec![7])),
        ])
    }

    #[test]
    fn reads_every_type_that_is_needed() {
        let header = Header::read(&mut &sample()[..]).unwrap();
        assert_eq!(header.text(tag::NAME).unwrap().as_deref(), Some("bash"));
        assert_eq!(header.texts(tag::BASENAMES).unwrap().unwrap(), ["a", "b"]);
        assert_eq!(header.binary(tag::RSAHEADER).unwrap(), Some(&[1, 2, 3][..]));
        assert_eq!(header.numbers(tag::EPOCH).unwrap(), Some(vec![7]));
        assert_eq!(header.text(tag::ARCH).unwrap(), None);
        assert!(header.binary(tag::NAME).is_err());
        assert_eq!(header.bytes(), sample());
    }

    #[test]
    fn refuses_what_leads_out_of_it() {
        let mut bytes = sample();
        bytes[16 + 8] = 0x7f;
        assert!(Header::read(&mut &bytes[..]).unwrap().text(tag::NAME).is_err());
        let mut bytes = sample();
        bytes[12] = 0xff;
        assert!(matches!(Header::read(&mut &bytes[..]), Err(HeaderError::Size(_))));
        assert!(matches!(Header::read(&mut &sample()[..20]), Err(HeaderError::Truncated)));
        assert!(matches!(Header::read(&mut &[0; 64][..]), Err(HeaderError::Magic)));
    }

    proptest! {
        #[test]
        fn mutated_headers_never_panic(at in 0usize..120, byte: u8) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(header) = Header::read(&mut &bytes[..]) {
                for tag in [tag::NAME, tag::BASENAMES, tag::RSAHEADER, tag::EPOCH] {
                    let _ = (header.texts(tag), header.binary(tag), header.numbers(tag));
                }
            }
        }
    }
}
