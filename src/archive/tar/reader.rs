//! The stream of members.

use super::header::{Block, Format, number};
use super::pax::{self, Records};
use super::sparse::{self, Segment};
use super::{BLOCK, Error, Header, Kind, MAXIMUM_EXTENSION, MAXIMUM_SEGMENTS, shown};
use std::io::{self, Read, Seek, SeekFrom};

/// Extension blocks (pax, long names) that may stand before one member.
const MAXIMUM_EXTENSIONS: usize = 16;

/// Reads members one after the other. What an entry's body leaves unread is skipped by the next call.
pub struct Reader<R> {
    inner: R,
    /// Passes over bytes; gives how many there were.
    skip: fn(&mut R, u64) -> io::Result<u64>,
    /// Bytes read from `inner`.
    position: u64,
    global: Records,
    body: Body,
    finished: bool,
}

/// The member that was read last: where its data goes and what of it is still to come.
#[derive(Default)]
struct Body {
    path: Vec<u8>,
    /// Size with holes, and how far the caller has read.
    size: u64,
    at: u64,
    /// Data ranges still to come, the next one last.
    segments: Vec<Segment>,
    /// Data bytes and padding in the stream before the next header.
    packed: u64,
    padding: u64,
}

/// One member; reading it gives the body, holes as zeros.
pub struct Entry<'a, R> {
    pub header: Header,
    /// Where the body starts in the stream, in bytes; `None` when it is not stored in one piece (sparse).
    pub offset: Option<u64>,
    reader: &'a mut Reader<R>,
}

impl<R: Read> Read for Entry<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read_body(buffer)
    }
}

impl<R: Read> Reader<R> {
    pub fn new(inner: R) -> Reader<R> {
        Reader::with_skip(inner, |inner, count| io::copy(&mut inner.take(count), &mut io::sink()))
    }

    /// For a file that can seek: bodies that nobody reads are jumped over.
    pub fn seeking(inner: R) -> Reader<R>
    where
        R: Seek,
    {
        Reader::with_skip(inner, |inner, count| {
            let at = inner.stream_position()?;
            let end = inner.seek(SeekFrom::End(0))?;
            let target = at.saturating_add(count).min(end).max(at);
            inner.seek(SeekFrom::Start(target))?;
            Ok(target - at)
        })
    }

    fn with_skip(inner: R, skip: fn(&mut R, u64) -> io::Result<u64>) -> Reader<R> {
        Reader { inner, skip, position: 0, global: Records::default(), body: Body::default(), finished: false }
    }

    /// The next member; `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_, R>>, Error> {
        self.skip_body()?;
        if self.finished {
            return Ok(None);
        }
        let mut extension = Extension::default();
        for _ in 0..MAXIMUM_EXTENSIONS {
            let Some(block) = self.read_header(&extension)? else {
                self.finished = true;
                return Ok(None);
            };
            if self.take_extension(&block, &mut extension)? {
                continue;
            }
            let Some((header, offset)) = self.start_member(&block, extension)? else {
                // A volume label: not a member.
                self.skip_body()?;
                extension = Extension::default();
                continue;
            };
            return Ok(Some(Entry { header, offset, reader: self }));
        }
        Err(Error::Pax { path: format!("at byte {}", self.position), cause: "too many extended headers in a row" })
    }

    /// Reads what stands behind the archive's end, so that a checking stream below sees its own end.
    pub fn drain(mut self) -> Result<(), Error> {
        self.skip_body()?;
        io::copy(&mut self.inner, &mut io::sink()).map_err(Error::Read)?;
        Ok(())
    }

    fn read_header(&mut self, extension: &Extension) -> Result<Option<Block>, Error> {
        let offset = self.position;
        let Some(bytes) = self.read_block()? else {
            // An extension without its member is a cut-off archive.
            return if extension.is_empty() { Ok(None) } else { Err(Error::Truncated { path: extension.shown() }) };
        };
        if Block::is_zero(&bytes) {
            return Ok(None);
        }
        Block::new(bytes).map(Some).ok_or(Error::NotAHeader { offset })
    }

    /// Takes in a header that speaks of the next member or of all; false for a member's own.
    fn take_extension(&mut self, block: &Block, extension: &mut Extension) -> Result<bool, Error> {
        let what = match block.kind() {
            b'x' | b'X' | b'g' => "extended header",
            b'L' => "long name",
            b'K' => "long link target",
            _ => return Ok(false),
        };
        let path = block.path();
        let size = block.size(&path)?;
        if size > MAXIMUM_EXTENSION {
            return Err(Error::ExtensionTooLong { path: shown(&path), what, size, limit: MAXIMUM_EXTENSION });
        }
        let bytes = self.read_padded(size, &path)?;
        match block.kind() {
            b'L' => extension.long_name = Some(super::header::text(&bytes).to_vec()),
            b'K' => extension.long_link = Some(super::header::text(&bytes).to_vec()),
            b'g' => {
                let records = Records::parse(&bytes, &path)?;
                self.global.uid = records.uid.or(self.global.uid);
                self.global.gid = records.gid.or(self.global.gid);
                self.global.mtime = records.mtime.or(self.global.mtime);
            }
            _ => extension.records = Some(Records::parse(&bytes, &path)?),
        }
        Ok(true)
    }

    fn start_member(&mut self, block: &Block, extension: Extension) -> Result<Option<(Header, Option<u64>)>, Error> {
        let mut records = extension.records.unwrap_or_default();
        records.inherit(&self.global);
        let path = records.sparse.name.clone().or(extension.long_name).or(records.path.take());
        let path = path.unwrap_or_else(|| block.path());
        let link = extension.long_link.or(records.link.take()).unwrap_or_else(|| block.link());
        let packed = match records.size {
            Some(size) => size,
            None => block.size(&path)?,
        };
        let kind = match block.kind() {
            // Spec: before POSIX a directory was a file whose name ends with a slash.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'3' | b'4' => {
                let (major, minor) = block.device(&path)?;
                if block.kind() == b'3' {
                    Kind::CharacterDevice { major, minor }
                } else {
                    Kind::BlockDevice { major, minor }
                }
            }
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'V' => {
                self.body = Body::new(path, 0, Vec::new(), packed);
                return Ok(None);
            }
            other => return Err(Error::UnknownKind { path: shown(&path), kind: char::from(other) }),
        };
        let has_body = kind == Kind::File || block.kind() == b'D';
        self.body = Body::new(path.clone(), 0, Vec::new(), if has_body { packed } else { 0 });
        let mut offset = None;
        if kind == Kind::File {
            offset = self.lay_out_body(block, &records, &path, packed)?;
        }
        let owner = |value: i64, field| u32::try_from(value).map_err(|_| Error::Number { path: shown(&path), field });
        let header = Header {
            mode: (block.mode(&path)? & 0o7777) as u16,
            uid: owner(records.uid.map_or_else(|| block.uid(&path), Ok)?, "owner")?,
            gid: owner(records.gid.map_or_else(|| block.gid(&path), Ok)?, "group")?,
            mtime: records.mtime.map_or_else(|| block.mtime(&path), Ok)?,
            xattrs: records.xattrs,
            size: self.body.size,
            kind,
            path,
        };
        Ok(Some((header, offset)))
    }

    /// Finds the data ranges of a regular file; the offset of its body if that is in one piece.
    fn lay_out_body(
        &mut self,
        block: &Block,
        records: &Records,
        path: &[u8],
        packed: u64,
    ) -> Result<Option<u64>, Error> {
        let sparse = &records.sparse;
        let fault = |cause| Error::Sparse { path: shown(path), cause };
        let (size, segments) = if block.kind() == b'S' {
            if block.format() != Format::Gnu {
                return Err(fault("its dialect is not known"));
            }
            let real = number(&block.0[483..495]).and_then(|number| u64::try_from(number).ok());
            (real.ok_or_else(|| fault("the size is not a number"))?, self.read_old_map(block, path)?)
        } else if sparse.major == Some(1) {
            let size = sparse.size.ok_or_else(|| fault("the size is missing"))?;
            let segments = self.read_map_lines(path)?;
            (size, segments)
        } else if let Some(numbers) = &sparse.map {
            (sparse.size.ok_or_else(|| fault("the size is missing"))?, sparse::from_pairs(numbers, path)?)
        } else if sparse.major.is_some_and(|major| major > 1) {
            return Err(fault("its version is not known"));
        } else {
            let whole = Segment { offset: 0, length: packed };
            self.body.size = packed;
            self.body.segments = vec![whole];
            return Ok(Some(self.position));
        };
        sparse::check(&segments, size, self.body.packed, path)?;
        self.body.size = size;
        self.body.segments = segments.into_iter().rev().filter(|segment| segment.length > 0).collect();
        Ok(None)
    }

    fn read_old_map(&mut self, block: &Block, path: &[u8]) -> Result<Vec<Segment>, Error> {
        let mut segments = Vec::new();
        sparse::push_slots(&block.0[386..482], &mut segments, path)?;
        let mut extended = block.0[482] != 0;
        while extended {
            let bytes = self.read_block()?.ok_or_else(|| Error::Truncated { path: shown(path) })?;
            sparse::push_slots(&bytes[..504], &mut segments, path)?;
            extended = bytes[504] != 0;
        }
        Ok(segments)
    }

    /// Spec: pax form 1.0: the map stands before the data, as decimal lines (a count, then pairs), padded to a block.
    fn read_map_lines(&mut self, path: &[u8]) -> Result<Vec<Segment>, Error> {
        let fault = |cause| Error::Sparse { path: shown(path), cause };
        let mut numbers: Vec<u64> = Vec::new();
        let mut line: Vec<u8> = Vec::new();
        loop {
            self.body.packed =
                self.body.packed.checked_sub(BLOCK as u64).ok_or_else(|| fault("it is longer than the member"))?;
            let block = self.read_block()?.ok_or_else(|| Error::Truncated { path: shown(path) })?;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(fault("a line is not a number"));
                    }
                    continue;
                }
                numbers.push(pax::unsigned(&line).map_err(|_| fault("a line is not a number"))?);
                line.clear();
                let count = numbers[0];
                if count > MAXIMUM_SEGMENTS as u64 {
                    return Err(fault("it has too many ranges"));
                }
                if numbers.len() as u64 == 1 + 2 * count {
                    return sparse::from_pairs(&numbers[1..], path);
                }
            }
        }
    }

    fn read_body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let body = &mut self.body;
        let left = body.size - body.at;
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let until_data = body.segments.last().map_or(left, |segment| segment.offset - body.at);
        if until_data > 0 {
            let count = wanted.min(usize::try_from(until_data).unwrap_or(usize::MAX));
            buffer[..count].fill(0);
            body.at += count as u64;
            return Ok(count);
        }
        let Some(segment) = body.segments.last_mut() else { return Ok(0) };
        let count = wanted.min(usize::try_from(segment.length).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..count])?;
        if count == 0 {
            let error = Error::Truncated { path: shown(&body.path) };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        segment.offset += count as u64;
        segment.length -= count as u64;
        if segment.length == 0 {
            body.segments.pop();
        }
        body.at += count as u64;
        body.packed -= count as u64;
        self.position += count as u64;
        Ok(count)
    }

    fn skip_body(&mut self) -> Result<(), Error> {
        let rest = self.body.packed + self.body.padding;
        if rest > 0 {
            let copied = (self.skip)(&mut self.inner, rest).map_err(Error::Read)?;
            self.position += copied;
            // Padding that is missing at the very end harms nobody.
            if copied < self.body.packed {
                return Err(Error::Truncated { path: shown(&self.body.path) });
            }
        }
        self.body = Body::default();
        Ok(())
    }

    fn read_padded(&mut self, size: u64, path: &[u8]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let padded = size.next_multiple_of(BLOCK as u64);
        self.inner.by_ref().take(padded).read_to_end(&mut bytes).map_err(Error::Read)?;
        self.position += bytes.len() as u64;
        if (bytes.len() as u64) < padded {
            return Err(Error::Truncated { path: shown(path) });
        }
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    /// `None`: the stream ended exactly here.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Error::Truncated { path: format!("the header at byte {}", self.position) }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        }
        self.position += BLOCK as u64;
        Ok(Some(block))
    }
}

impl Body {
    fn new(path: Vec<u8>, size: u64, segments: Vec<Segment>, packed: u64) -> Body {
        let padding = (BLOCK as u64 - packed % BLOCK as u64) % BLOCK as u64;
        Body { path, size, at: 0, segments, packed, padding }
    }
}

/// What extended headers said of the member to come.
#[derive(Default)]
struct Extension {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extension {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }

    fn shown(&self) -> String {
        let records = self.records.as_ref().and_then(|records| records.path.as_ref());
        self.long_name.as_ref().or(records).map_or_else(|| "an extended header".to_owned(), |path| shown(path))
    }
}
