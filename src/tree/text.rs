//! The canonical text form of a layer's index: one line an entry, in the layer's order.
//!
//! `KIND MODE UID GID MTIME EXTRA PATH [NAME=VALUE…]`, fields parted by one space; bytes outside printable ASCII, and space,
//! `\`, `=` are written `\xNN`. Kinds: `d` directory, `f` file (EXTRA is its size), `i` file with inline bytes (EXTRA is
//! the bytes), `l` symlink (EXTRA is the target), `c`/`b` devices (`MAJOR:MINOR`), `p` fifo, `s` socket; `h TARGET PATH` hard link,
//! `w PATH` whiteout, `o PATH` opaque. The store keeps layers in this form; tests compare it.

use super::{Body, Change, Entry, Kind, Layer, Metadata, TreePath, Xattrs};
use std::fmt::Write;

/// Why a line is not an entry. `line` counts from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the layer index: {cause}")]
pub struct TextError {
    pub line: usize,
    pub cause: &'static str,
}

pub fn write(layer: &Layer) -> String {
    let mut text = String::new();
    for entry in &layer.entries {
        write_entry(&mut text, entry);
    }
    text
}

pub fn parse(text: &str) -> Result<Layer, TextError> {
    let mut layer = Layer::default();
    for (number, line) in text.lines().enumerate() {
        let entry = parse_entry(line).map_err(|cause| TextError { line: number + 1, cause })?;
        layer.entries.push(entry);
    }
    Ok(layer)
}

/// Writes bytes so that they hold no space, line end, `=` or `\`.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' | b'=' | b' ' => {
                let _ = write!(text, "\\x{byte:02x}");
            }
            0x21..=0x7e => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

fn write_entry(text: &mut String, entry: &Entry) {
    let path = escape(format_path(&entry.path).as_slice());
    let _ = match &entry.change {
        Change::Whiteout => writeln!(text, "w {path}"),
        Change::Opaque => writeln!(text, "o {path}"),
        Change::Link(target) => writeln!(text, "h {} {path}", escape(&format_path(target))),
        Change::Put(metadata, kind) => {
            let (letter, extra) = match kind {
                Kind::Directory => ('d', "-".to_owned()),
                Kind::File { size, body: Body::Stored } => ('f', size.to_string()),
                Kind::File { body: Body::Inline(bytes), .. } => ('i', format!("\"{}", escape(bytes))),
                Kind::Symlink { target } => ('l', format!("\"{}", escape(target))),
                Kind::CharacterDevice { major, minor } => ('c', format!("{major}:{minor}")),
                Kind::BlockDevice { major, minor } => ('b', format!("{major}:{minor}")),
                Kind::Fifo => ('p', "-".to_owned()),
                Kind::Socket => ('s', "-".to_owned()),
            };
            let _ = write!(
                text,
                "{letter} {:04o} {} {} {} {extra} {path}",
                metadata.mode, metadata.uid, metadata.gid, metadata.mtime
            );
            for (name, value) in &metadata.xattrs {
                let _ = write!(text, " {}={}", escape(name), escape(value));
            }
            writeln!(text)
        }
    };
}

fn format_path(path: &TreePath) -> Vec<u8> {
    [b"/", path.as_bytes()].concat()
}

fn parse_entry(line: &str) -> Result<Entry, &'static str> {
    let fields: Vec<&str> = line.split(' ').collect();
    let path = |text: &str| unescape(text).and_then(|bytes| TreePath::parse(bytes).map_err(|_| "bad path"));
    let change = match fields.as_slice() {
        ["w", at] => return Ok(Entry { path: path(at)?, change: Change::Whiteout }),
        ["o", at] => return Ok(Entry { path: path(at)?, change: Change::Opaque }),
        ["h", target, at] => return Ok(Entry { path: path(at)?, change: Change::Link(path(target)?) }),
        [letter, mode, uid, gid, mtime, extra, at, xattrs @ ..] => {
            let metadata = Metadata {
                mode: u16::from_str_radix(mode, 8).map_err(|_| "bad mode")?,
                uid: uid.parse().map_err(|_| "bad uid")?,
                gid: gid.parse().map_err(|_| "bad gid")?,
                mtime: mtime.parse().map_err(|_| "bad mtime")?,
                xattrs: parse_xattrs(xattrs)?,
            };
            return Ok(Entry { path: path(at)?, change: Change::Put(metadata, parse_kind(letter, extra)?) });
        }
        _ => "wrong number of fields",
    };
    Err(change)
}

fn parse_xattrs(fields: &[&str]) -> Result<Xattrs, &'static str> {
    let mut xattrs = Xattrs::new();
    for field in fields {
        let (name, value) = field.split_once('=').ok_or("attribute without '='")?;
        xattrs.insert(unescape(name)?, unescape(value)?);
    }
    Ok(xattrs)
}

fn parse_kind(letter: &str, extra: &str) -> Result<Kind, &'static str> {
    let quoted = || unescape(extra.strip_prefix('"').ok_or("missing quote")?);
    let device = || -> Result<(u32, u32), &'static str> {
        let (major, minor) = extra.split_once(':').ok_or("bad device")?;
        Ok((major.parse().map_err(|_| "bad device")?, minor.parse().map_err(|_| "bad device")?))
    };
    Ok(match letter {
        "d" => Kind::Directory,
        "f" => Kind::File { size: extra.parse().map_err(|_| "bad size")?, body: Body::Stored },
        "i" => {
            let bytes = quoted()?;
            Kind::File { size: bytes.len() as u64, body: Body::Inline(bytes.into()) }
        }
        "l" => Kind::Symlink { target: quoted()? },
        "c" => device().map(|(major, minor)| Kind::CharacterDevice { major, minor })?,
        "b" => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
        "p" => Kind::Fifo,
        "s" => Kind::Socket,
        _ => return Err("unknown kind"),
    })
}

fn unescape(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.get(1..3).filter(|_| after[0] == b'x').ok_or("bad escape")?;
        let digits = std::str::from_utf8(digits).map_err(|_| "bad escape")?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| "bad escape")?);
        rest = &after[3..];
    }
    Ok(bytes)
}
