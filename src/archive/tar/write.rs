//! A writer of deterministic archives: ustar, with pax records where ustar cannot say it.

use super::{BLOCK, Header, Kind};
use std::io::{self, Read, Write};

/// Largest numbers that octal fields of 8 and 12 bytes hold.
const MAXIMUM_OCTAL_8: u64 = 0o7_777_777;
const MAXIMUM_OCTAL_12: u64 = 0o77_777_777_777;

/// Writes members in the order in which they are given.
pub struct Writer<W> {
    inner: W,
}

impl<W: Write> Writer<W> {
    pub fn new(inner: W) -> Writer<W> {
        Writer { inner }
    }

    /// Writes one member. For a regular file `body` must give exactly `header.size` bytes; for others it is not read.
    pub fn append(&mut self, header: &Header, body: &mut dyn Read) -> io::Result<()> {
        let mut path = header.path.clone();
        if header.kind == Kind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let records = pax_records(header, &path);
        if !records.is_empty() {
            self.write_header(b"PaxHeaders/member", b"", b'x', 0o644, 0, 0, 0, records.len() as u64, (0, 0))?;
            self.inner.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let (kind, link, device): (u8, &[u8], (u32, u32)) = match &header.kind {
            Kind::File => (b'0', b"", (0, 0)),
            Kind::HardLink(target) => (b'1', target, (0, 0)),
            Kind::Symlink(target) => (b'2', target, (0, 0)),
            Kind::CharacterDevice { major, minor } => (b'3', b"", (*major, *minor)),
            Kind::BlockDevice { major, minor } => (b'4', b"", (*major, *minor)),
            Kind::Directory => (b'5', b"", (0, 0)),
            Kind::Fifo => (b'6', b"", (0, 0)),
        };
        let size = if header.kind == Kind::File { header.size } else { 0 };
        let mtime = u64::try_from(header.mtime).unwrap_or(0);
        self.write_header(&path, link, kind, header.mode, header.uid, header.gid, mtime, size, device)?;
        if size > 0 {
            let copied = io::copy(&mut body.take(size), &mut self.inner)?;
            if copied != size {
                let what = format!("the body of {} has {copied} bytes instead of {size}", super::shown(&header.path));
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            self.pad(size)?;
        }
        Ok(())
    }

    /// Ends the archive with two zero blocks.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        Ok(self.inner)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        self.inner.write_all(&[0; BLOCK][..padding as usize])
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one block, written once")]
    fn write_header(
        &mut self,
        path: &[u8],
        link: &[u8],
        kind: u8,
        mode: u16,
        uid: u32,
        gid: u32,
        mtime: u64,
        size: u64,
        device: (u32, u32),
    ) -> io::Result<()> {
        let mut block = [0; BLOCK];
        put(&mut block[..100], path);
        octal(&mut block[100..108], u64::from(mode));
        octal(&mut block[108..116], u64::from(uid).min(MAXIMUM_OCTAL_8));
        octal(&mut block[116..124], u64::from(gid).min(MAXIMUM_OCTAL_8));
        octal(&mut block[124..136], size.min(MAXIMUM_OCTAL_12));
        octal(&mut block[136..148], mtime.min(MAXIMUM_OCTAL_12));
        block[148..156].fill(b' ');
        block[156] = kind;
        put(&mut block[157..257], link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], u64::from(device.0).min(MAXIMUM_OCTAL_8));
        octal(&mut block[337..345], u64::from(device.1).min(MAXIMUM_OCTAL_8));
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block[148..155], sum);
        self.inner.write_all(&block)
    }
}

/// What the header block cannot hold.
fn pax_records(header: &Header, path: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    if path.len() > 100 {
        record(&mut records, b"path", path);
    }
    if let Kind::HardLink(target) | Kind::Symlink(target) = &header.kind
        && target.len() > 100
    {
        record(&mut records, b"linkpath", target);
    }
    if header.kind == Kind::File && header.size > MAXIMUM_OCTAL_12 {
        record(&mut records, b"size", header.size.to_string().as_bytes());
    }
    for (key, value) in [("uid", header.uid), ("gid", header.gid)] {
        if u64::from(value) > MAXIMUM_OCTAL_8 {
            record(&mut records, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    if u64::try_from(header.mtime).map_or(true, |mtime| mtime > MAXIMUM_OCTAL_12) {
        record(&mut records, b"mtime", header.mtime.to_string().as_bytes());
    }
    for (name, value) in &header.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

/// Spec: the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + 1;
    while bare + length.to_string().len() != length {
        length = bare + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// Digits with leading zeros and a NUL behind them.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    put(&mut field[..digits], text.as_bytes());
}
