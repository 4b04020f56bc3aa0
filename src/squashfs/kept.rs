//! Blocks of one image kept for the next: the compressed form of a layer's bodies.
//!
//! ```text
//! data      stored blocks, as images have them
//! index     settings (u16 length, text), bodies, groups
//! footer    magic "sifkept1", u64 offset and u64 length of the index, SHA-256 of the index
//! ```
//!
//! Numbers are little-endian. Bodies are in the order of the layer's index; one that the image did not show is absent. A *group* is a fragment
//! block; it is found by the SHA-256 of the SHA-256s of the tails that it holds, so it is taken for exactly these tails and no others.

use super::compress::Compression;
use super::format::{DATA_UNCOMPRESSED, FragmentEntry};
use super::reader::ReadAt;
use super::writer::{Options, SegmentBody};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;

const MAGIC: &[u8; 8] = b"sifkept1";
const FOOTER_SIZE: usize = 8 + 8 + 8 + 32;
/// Longest index that is read: that of some 20 million files.
const MAXIMUM_INDEX: u64 = 2 << 30;
/// Bytes copied at once.
const COPY_SIZE: usize = 1 << 20;

/// SHA-256 of stored blocks, a tail, or a list of tails.
pub(super) type Sum = [u8; 32];

/// Whole blocks of one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptRun {
    pub start: u64,
    /// In [`Index::words`].
    pub words: Range<usize>,
    pub holes: u32,
    /// Over size words and blocks, as the writer finds duplicates.
    pub sum: Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptTail {
    None,
    Hole,
    Fragment(Sum),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptBody {
    pub run: Option<KeptRun>,
    pub tail: KeptTail,
}

/// What is where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub bodies: Vec<Option<KeptBody>>,
    pub words: Vec<u32>,
    pub groups: Vec<(Sum, FragmentEntry)>,
}

/// Where the bodies of one segment are in an image that was written; [`Segment::keep`] takes them from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub(super) number: usize,
    pub(super) index: Index,
}

/// Kept blocks, opened.
pub struct Kept {
    data: Box<dyn ReadAt + Send>,
    index: Index,
    groups: HashMap<Sum, FragmentEntry>,
}

/// Why kept blocks are of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error("cannot read kept blocks: {0}")]
    Read(#[from] io::Error),
    #[error("the kept blocks are damaged: {0}")]
    Damaged(&'static str),
}

impl Segment {
    /// Which segment of the image this is, counted from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Copies the blocks from `image` and writes them with their index.
    pub fn keep(&self, image: &dyn ReadAt, options: &Options, out: &mut dyn Write) -> io::Result<()> {
        let mut index = self.index.clone();
        let mut copy = Copying { image, out, position: 0, pending: 0..0, places: HashMap::new() };
        for body in index.bodies.iter_mut().flatten() {
            if let Some(run) = &mut body.run {
                let length = stored(&self.index.words[run.words.clone()]);
                run.start = copy.place(run.start, length)?;
            }
        }
        for (_, entry) in &mut index.groups {
            entry.start_block = copy.place(entry.start_block, u64::from(entry.size & !DATA_UNCOMPRESSED))?;
        }
        copy.flush()?;
        let position = copy.position;
        seal(&index, options, position, out)
    }

    /// Makes the file that [`Writer::into_blocks`](super::Writer::into_blocks) ended at `end` one of kept blocks; `out` stands there.
    pub fn seal(&self, options: &Options, end: u64, out: &mut dyn Write) -> io::Result<()> {
        seal(&self.index, options, end, out)
    }
}

/// Writes index and footer behind blocks that end at `position`.
fn seal(index: &Index, options: &Options, position: u64, out: &mut dyn Write) -> io::Result<()> {
    let bytes = index.encode(options);
    out.write_all(&bytes)?;
    out.write_all(MAGIC)?;
    out.write_all(&position.to_le_bytes())?;
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(&Sha256::digest(&bytes))
}

/// Bytes of the blocks with these size words.
pub(super) fn stored(words: &[u32]) -> u64 {
    words.iter().map(|word| u64::from(word & !DATA_UNCOMPRESSED)).sum()
}

/// Copies ranges, neighbours together, each once.
struct Copying<'a> {
    image: &'a dyn ReadAt,
    out: &'a mut dyn Write,
    position: u64,
    pending: Range<u64>,
    places: HashMap<u64, u64>,
}

impl Copying<'_> {
    /// Where the range that begins at `start` of the image comes to lie.
    fn place(&mut self, start: u64, length: u64) -> io::Result<u64> {
        if length == 0 {
            return Ok(0);
        }
        if let Some(place) = self.places.get(&start) {
            return Ok(*place);
        }
        if self.pending.end != start {
            self.flush()?;
            self.pending = start..start;
        }
        let place = self.position + (self.pending.end - self.pending.start);
        self.pending.end += length;
        self.places.insert(start, place);
        Ok(place)
    }

    fn flush(&mut self) -> io::Result<()> {
        let range = std::mem::take(&mut self.pending);
        copy_range(self.image, range.clone(), &mut |bytes| self.out.write_all(bytes))?;
        self.position += range.end - range.start;
        Ok(())
    }
}

/// Passes the bytes of a range on, piece by piece.
pub(super) fn copy_range(
    source: &dyn ReadAt,
    range: Range<u64>,
    each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_SIZE.min((range.end - range.start) as usize)];
    let mut at = range.start;
    while at < range.end {
        let part = buffer.len().min((range.end - at) as usize);
        source.read_exact_at(&mut buffer[..part], at)?;
        each(&buffer[..part])?;
        at += part as u64;
    }
    Ok(())
}

impl Kept {
    /// Reads the index. `None`: these blocks were made with other settings, or for a layer with another number of bodies.
    pub fn open(data: Box<dyn ReadAt + Send>, options: &Options, bodies: usize) -> Result<Option<Kept>, KeptError> {
        let length = data.length();
        let footer_at = length.checked_sub(FOOTER_SIZE as u64).ok_or(KeptError::Damaged("they are cut off"))?;
        let mut footer = [0; FOOTER_SIZE];
        data.read_exact_at(&mut footer, footer_at)?;
        let number = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().expect("eight bytes"));
        let (index_at, index_length) = (number(8), number(16));
        let whole = index_at.checked_add(index_length) == Some(footer_at);
        if &footer[..8] != MAGIC || !whole || index_length > MAXIMUM_INDEX {
            return Err(KeptError::Damaged("their footer is not whole"));
        }
        let mut bytes = vec![0; index_length as usize];
        data.read_exact_at(&mut bytes, index_at)?;
        if Sha256::digest(&bytes)[..] != footer[24..] {
            return Err(KeptError::Damaged("their index has another checksum"));
        }
        let mut cursor = Cursor { bytes: &bytes };
        let Some(index) = Index::decode(&mut cursor, options, index_at)? else { return Ok(None) };
        if index.bodies.len() != bodies {
            return Ok(None);
        }
        let groups = index.groups.iter().copied().collect();
        Ok(Some(Kept { data, index, groups }))
    }

    /// What blocks with these settings are called.
    pub fn name(options: &Options) -> String {
        let level = match options.compression {
            Compression::Gzip { level } | Compression::Zstd { level } => format!("-{level}"),
            _ => String::new(),
        };
        let codec = match options.compression {
            Compression::None => "none",
            Compression::ZstdGreedy => "zstd-greedy",
            compression => compression.codec().name(),
        };
        format!("blocks-{codec}{level}-{}", options.block_size)
    }

    /// Whether nearly all that is to be shown of the layer is here.
    pub fn covers(&self, bodies: &[SegmentBody], options: &Options) -> bool {
        let (mut all, mut missing) = (0, 0);
        for (number, body) in bodies.iter().enumerate().filter(|(_, body)| body.visible) {
            all += body.size;
            missing += if self.body(number, body.size, options.block_size).is_none() { body.size } else { 0 };
        }
        missing <= all / 8
    }

    /// The body with this number in the layer, if it is of this size.
    pub(super) fn body(&self, number: usize, size: u64, block_size: u32) -> Option<&KeptBody> {
        let body = self.index.bodies.get(number)?.as_ref()?;
        let (blocks, rest) = (size / u64::from(block_size), size % u64::from(block_size));
        let words = body.run.as_ref().map_or(0, |run| run.words.len() as u64);
        let fits = match body.tail {
            KeptTail::None => rest == 0 && words == blocks,
            KeptTail::Hole => rest > 0 && words == blocks + 1,
            KeptTail::Fragment(_) => rest > 0 && words == blocks,
        };
        fits.then_some(body)
    }

    pub(super) fn words(&self, run: &KeptRun) -> &[u32] {
        &self.index.words[run.words.clone()]
    }

    pub(super) fn group(&self, sum: &Sum) -> Option<FragmentEntry> {
        self.groups.get(sum).copied()
    }

    pub(super) fn data(&self) -> &dyn ReadAt {
        self.data.as_ref()
    }
}

impl Index {
    fn encode(&self, options: &Options) -> Vec<u8> {
        let settings = settings(options);
        let mut out = Vec::new();
        out.extend((settings.len() as u16).to_le_bytes());
        out.extend(settings.as_bytes());
        out.extend((self.bodies.len() as u32).to_le_bytes());
        for body in &self.bodies {
            let Some(body) = body else {
                out.push(0);
                continue;
            };
            let tail = match body.tail {
                KeptTail::None => 0,
                KeptTail::Hole => 1,
                KeptTail::Fragment(_) => 2,
            };
            out.push(1 | u8::from(body.run.is_some()) << 1 | tail << 2);
            if let Some(run) = &body.run {
                out.extend(run.start.to_le_bytes());
                out.extend((run.words.len() as u32).to_le_bytes());
                out.extend(run.holes.to_le_bytes());
                out.extend(run.sum);
                out.extend(self.words[run.words.clone()].iter().flat_map(|word| word.to_le_bytes()));
            }
            if let KeptTail::Fragment(sum) = body.tail {
                out.extend(sum);
            }
        }
        out.extend((self.groups.len() as u32).to_le_bytes());
        for (sum, entry) in &self.groups {
            out.extend(sum);
            out.extend(entry.start_block.to_le_bytes());
            out.extend(entry.size.to_le_bytes());
        }
        out
    }

    /// `end`: where the data end.
    fn decode(cursor: &mut Cursor<'_>, options: &Options, end: u64) -> Result<Option<Index>, KeptError> {
        let length = usize::from(u16::from_le_bytes(cursor.take()?));
        if cursor.slice(length)? != settings(options).as_bytes() {
            return Ok(None);
        }
        let inside = |start: u64, length: u64| {
            let fits = start.checked_add(length).is_some_and(|stop| stop <= end);
            if fits { Ok(()) } else { Err(KeptError::Damaged("a block lies outside")) }
        };
        let mut index = Index::default();
        for _ in 0..u32::from_le_bytes(cursor.take()?) {
            let [kind] = cursor.take()?;
            if kind == 0 {
                index.bodies.push(None);
                continue;
            }
            let mut run = None;
            if kind & 2 != 0 {
                let start = u64::from_le_bytes(cursor.take()?);
                let count = u32::from_le_bytes(cursor.take()?) as usize;
                let holes = u32::from_le_bytes(cursor.take()?);
                let sum = cursor.take()?;
                let from = index.words.len();
                for bytes in cursor.slice(count.saturating_mul(4))?.chunks_exact(4) {
                    let word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
                    if word & !DATA_UNCOMPRESSED > options.block_size {
                        return Err(KeptError::Damaged("a block is too large"));
                    }
                    index.words.push(word);
                }
                let words = from..index.words.len();
                if index.words[words.clone()].iter().filter(|word| **word == 0).count() != holes as usize {
                    return Err(KeptError::Damaged("holes are miscounted"));
                }
                inside(start, stored(&index.words[words.clone()]))?;
                run = Some(KeptRun { start, words, holes, sum });
            }
            let tail = match kind >> 2 {
                0 => KeptTail::None,
                1 => KeptTail::Hole,
                2 => KeptTail::Fragment(cursor.take()?),
                _ => return Err(KeptError::Damaged("a body is of no kind")),
            };
            index.bodies.push(Some(KeptBody { run, tail }));
        }
        for _ in 0..u32::from_le_bytes(cursor.take()?) {
            let sum = cursor.take()?;
            let start_block = u64::from_le_bytes(cursor.take()?);
            let size = u32::from_le_bytes(cursor.take()?);
            if size & !DATA_UNCOMPRESSED > options.block_size {
                return Err(KeptError::Damaged("a block is too large"));
            }
            inside(start_block, u64::from(size & !DATA_UNCOMPRESSED))?;
            index.groups.push((sum, FragmentEntry { start_block, size }));
        }
        if !cursor.bytes.is_empty() {
            return Err(KeptError::Damaged("their index is too long"));
        }
        Ok(Some(index))
    }
}

/// Everything that the stored form of a block depends on, besides its bytes. Another version may have other compressors.
pub(super) fn settings(options: &Options) -> String {
    let (version, zstd) = (env!("CARGO_PKG_VERSION"), zstd::zstd_safe::version_number());
    format!("{:?} {} {version} {zstd}", options.compression, options.block_size)
}

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8], KeptError> {
        let (part, rest) = self.bytes.split_at_checked(length).ok_or(KeptError::Damaged("their index is cut off"))?;
        self.bytes = rest;
        Ok(part)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], KeptError> {
        Ok(self.slice(N)?.try_into().expect("a slice of this length"))
    }
}
