//! One 512-byte header block, as fields.

use super::{BLOCK, Error, shown};

/// A header whose checksum is right.
pub(super) struct Block(pub [u8; BLOCK]);

/// Which dialect's extra fields a header has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

impl Block {
    pub fn is_zero(bytes: &[u8; BLOCK]) -> bool {
        bytes.iter().all(|byte| *byte == 0)
    }

    /// Spec: the sum of all bytes, the checksum field taken as spaces. Some old writers summed signed bytes.
    pub fn new(bytes: [u8; BLOCK]) -> Option<Block> {
        let stored = number(&bytes[148..156])?;
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in bytes.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte as i8);
        }
        (stored == unsigned || stored == signed).then_some(Block(bytes))
    }

    pub fn format(&self) -> Format {
        match (&self.0[257..263], &self.0[508..512]) {
            (b"ustar\0", b"tar\0") => Format::Star,
            (b"ustar\0", _) => Format::Ustar,
            (b"ustar ", _) => Format::Gnu,
            _ => Format::V7,
        }
    }

    pub fn kind(&self) -> u8 {
        self.0[156]
    }

    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = match self.format() {
            Format::Ustar => text(&self.0[345..500]),
            Format::Star => text(&self.0[345..476]),
            Format::V7 | Format::Gnu => &[],
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub fn mode(&self, path: &[u8]) -> Result<i64, Error> {
        self.field(100, 8, "mode", path)
    }

    pub fn uid(&self, path: &[u8]) -> Result<i64, Error> {
        self.field(108, 8, "owner", path)
    }

    pub fn gid(&self, path: &[u8]) -> Result<i64, Error> {
        self.field(116, 8, "group", path)
    }

    pub fn size(&self, path: &[u8]) -> Result<u64, Error> {
        let size = self.field(124, 12, "size", path)?;
        u64::try_from(size).map_err(|_| Error::Number { path: shown(path), field: "size" })
    }

    pub fn mtime(&self, path: &[u8]) -> Result<i64, Error> {
        self.field(136, 12, "modification time", path)
    }

    pub fn device(&self, path: &[u8]) -> Result<(u32, u32), Error> {
        if self.format() == Format::V7 {
            return Ok((0, 0));
        }
        let part = |offset| {
            let value = self.field(offset, 8, "device number", path)?;
            u32::try_from(value).map_err(|_| Error::Number { path: shown(path), field: "device number" })
        };
        Ok((part(329)?, part(337)?))
    }

    fn field(&self, offset: usize, length: usize, name: &'static str, path: &[u8]) -> Result<i64, Error> {
        number(&self.0[offset..offset + length]).ok_or_else(|| Error::Number { path: shown(path), field: name })
    }
}

/// Up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// Spec: octal digits between spaces or NULs, or base-256 big-endian two's complement when the top bit is set.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Bit 6 is the sign; the rest is the number.
        let mut value: i128 = if first & 0x40 != 0 { -1 } else { 0 };
        value = (value << 6) | i128::from(first & 0x3f);
        for byte in &field[1..] {
            value = (value << 8) | i128::from(*byte);
        }
        return i64::try_from(value).ok();
    }
    let digits = text(field).trim_ascii();
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}
