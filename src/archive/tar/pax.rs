//! Records of pax extended headers: `LENGTH KEY=VALUE\n`.

use super::{Error, MAXIMUM_SEGMENTS, shown};
use crate::tree::Xattrs;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// What records say; absent means "ask the header block".
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub mtime: Option<i64>,
    pub xattrs: Xattrs,
    pub sparse: Sparse,
}

/// The `GNU.sparse.*` records.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    /// Size of the file with its holes: `GNU.sparse.realsize` or `GNU.sparse.size`.
    pub size: Option<u64>,
    /// Offsets and lengths of the data, of forms 0.0 and 0.1.
    pub map: Option<Vec<u64>>,
}

impl Records {
    /// Reads a header's body; `path` names the member in errors.
    pub fn parse(body: &[u8], path: &[u8]) -> Result<Records, Error> {
        let mut records = Records::default();
        let mut rest = body;
        let fault = |cause| Error::Pax { path: shown(path), cause };
        // Some writers pad with NULs inside the declared size.
        while rest.first().is_some_and(|byte| *byte != 0) {
            let (key, value, after) = split_record(rest).map_err(fault)?;
            records.take(key, value).map_err(fault)?;
            rest = after;
        }
        Ok(records)
    }

    /// Fills what local records leave open from global ones: owner and time, all that is meant for many members.
    pub fn inherit(&mut self, global: &Records) {
        self.uid = self.uid.or(global.uid);
        self.gid = self.gid.or(global.gid);
        self.mtime = self.mtime.or(global.mtime);
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            // Spec: an empty value takes a record back.
            b"path" => self.path = (!value.is_empty()).then(|| value.to_vec()),
            b"linkpath" => self.link = (!value.is_empty()).then(|| value.to_vec()),
            b"size" => self.size = optional(value, unsigned)?,
            b"uid" => self.uid = optional(value, signed)?,
            b"gid" => self.gid = optional(value, signed)?,
            b"mtime" => self.mtime = optional(value, seconds)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let trimmed = value.trim_ascii_end();
                    let bare = &trimmed[..trimmed.iter().position(|byte| *byte == b'=').unwrap_or(trimmed.len())];
                    let value = STANDARD_NO_PAD.decode(bare).map_err(|_| "an attribute is not base64")?;
                    // bsdtar writes both forms of each attribute; they say the same.
                    self.xattrs.entry(percent_decode(name)).or_insert(value);
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(name, value)?;
                }
            }
        }
        Ok(())
    }
}

impl Sparse {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match name {
            b"major" => self.major = Some(unsigned(value)?),
            b"minor" => self.minor = Some(unsigned(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" | b"size" => self.size = Some(unsigned(value)?),
            // Form 0.0: two records a segment, in order.
            b"offset" | b"numbytes" => {
                let map = self.map.get_or_insert_default();
                if map.len() % 2 != usize::from(name == b"numbytes") {
                    return Err("the records of a sparse file are out of order");
                }
                if map.len() >= 2 * MAXIMUM_SEGMENTS {
                    return Err("a sparse file has too many segments");
                }
                map.push(unsigned(value)?);
            }
            // Form 0.1: all in one.
            b"map" => {
                let numbers: Result<Vec<u64>, _> =
                    value.split(|byte| *byte == b',').filter(|number| !number.is_empty()).map(unsigned).collect();
                self.map = Some(numbers?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Key, value, and what stands behind the record.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn split_record(bytes: &[u8]) -> Result<Split<'_>, &'static str> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or("a record has no length")?;
    let length = unsigned(&bytes[..space]).map_err(|_| "the length of a record is not a number")?;
    let length = usize::try_from(length).map_err(|_| "a record is too long")?;
    if length <= space + 1 || length > bytes.len() {
        return Err("a record is longer than the header");
    }
    let (record, after) = bytes.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n").ok_or("a record does not end with a line end")?;
    // An attribute's name may hold '=' (percent-encoded by libarchive, raw by nobody): the first one counts.
    let equals = record.iter().position(|byte| *byte == b'=').ok_or("a record has no '='")?;
    if equals == 0 {
        return Err("a record has no key");
    }
    Ok((&record[..equals], &record[equals + 1..], after))
}

fn optional<T>(value: &[u8], parse: impl Fn(&[u8]) -> Result<T, &'static str>) -> Result<Option<T>, &'static str> {
    if value.is_empty() { Ok(None) } else { parse(value).map(Some) }
}

pub(super) fn unsigned(digits: &[u8]) -> Result<u64, &'static str> {
    let fault = "a value is not a number that fits";
    if digits.is_empty() {
        return Err(fault);
    }
    let mut number: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(fault);
        }
        number = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0'))).ok_or(fault)?;
    }
    if number > i64::MAX as u64 { Err(fault) } else { Ok(number) }
}

fn signed(digits: &[u8]) -> Result<i64, &'static str> {
    match digits.strip_prefix(b"-") {
        Some(digits) => unsigned(digits).map(|number| -(number as i64)),
        None => unsigned(digits).map(|number| number as i64),
    }
}

/// Decimal seconds with an optional fraction, rounded down.
fn seconds(value: &[u8]) -> Result<i64, &'static str> {
    let point = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len());
    let (whole, fraction) = (&value[..point], value.get(point + 1..).unwrap_or_default());
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("a time is not a number");
    }
    let negative = whole.starts_with(b"-");
    let whole = if whole.is_empty() || whole == b"-" { 0 } else { signed(whole)? };
    let below = negative && fraction.iter().any(|digit| *digit != b'0');
    Ok(whole - i64::from(below))
}

fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match code {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}
