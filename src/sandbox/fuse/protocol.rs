//! Requests and answers on the wire, in the host's byte order.

/// Version of the protocol that is spoken: 7.31 (Linux 5.4).
pub const MAJOR: u32 = 7;
pub const MINOR: u32 = 31;

pub const LOOKUP: u32 = 1;
pub const FORGET: u32 = 2;
pub const GETATTR: u32 = 3;
pub const READLINK: u32 = 5;
pub const OPEN: u32 = 14;
pub const READ: u32 = 15;
pub const STATFS: u32 = 17;
pub const RELEASE: u32 = 18;
pub const GETXATTR: u32 = 22;
pub const LISTXATTR: u32 = 23;
pub const INIT: u32 = 26;
pub const OPENDIR: u32 = 27;
pub const READDIR: u32 = 28;
pub const RELEASEDIR: u32 = 29;
pub const INTERRUPT: u32 = 36;
pub const DESTROY: u32 = 38;
pub const BATCH_FORGET: u32 = 42;
/// Requests that change something.
pub const CHANGES: [u32; 17] = [4, 6, 8, 9, 10, 11, 12, 13, 16, 20, 21, 24, 30, 35, 43, 45, 51];

const ASYNC_READ: u32 = 1;
/// `OPEN` and `OPENDIR` may be answered with ENOSYS once; then the kernel opens by itself and keeps what it read.
const NO_OPEN: u32 = 1 << 17;
const PARALLEL_DIRECTORIES: u32 = 1 << 18;
const MAX_PAGES: u32 = 1 << 22;
const CACHE_SYMLINKS: u32 = 1 << 23;
const NO_OPEN_DIRECTORY: u32 = 1 << 24;
/// Of 4 KiB, in one read.
const PAGES: u16 = 256;

pub const REQUEST_HEADER: usize = 40;
const ANSWER_HEADER: usize = 16;
/// Names and attributes never change; seconds that the kernel may keep them.
const VALID: u64 = 365 * 86_400;

/// One request, its arguments still bytes.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub opcode: u32,
    pub unique: u64,
    pub node: u64,
    pub arguments: &'a [u8],
}

impl<'a> Request<'a> {
    pub fn parse(bytes: &'a [u8]) -> Option<Request<'a>> {
        let arguments = bytes.get(REQUEST_HEADER..)?;
        Some(Request { opcode: u32_at(bytes, 4)?, unique: u64_at(bytes, 8)?, node: u64_at(bytes, 16)?, arguments })
    }

    /// The name that begins at `at` of the arguments.
    pub fn name(&self, at: usize) -> Option<&'a [u8]> {
        let bytes = self.arguments.get(at..)?;
        bytes.split(|byte| *byte == 0).next()
    }
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// An answer in the making.
pub struct Answer(Vec<u8>);

impl Answer {
    pub fn new(unique: u64) -> Answer {
        let mut bytes = vec![0; ANSWER_HEADER];
        bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
        Answer(bytes)
    }

    pub fn error(unique: u64, errno: i32) -> Vec<u8> {
        let mut answer = Answer::new(unique);
        answer.0[4..8].copy_from_slice(&(-errno).to_ne_bytes());
        answer.finish()
    }

    pub fn u16(&mut self, number: u16) -> &mut Answer {
        self.bytes(&number.to_ne_bytes())
    }

    pub fn u32(&mut self, number: u32) -> &mut Answer {
        self.bytes(&number.to_ne_bytes())
    }

    pub fn u64(&mut self, number: u64) -> &mut Answer {
        self.bytes(&number.to_ne_bytes())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Answer {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes behind the header.
    pub fn length(&self) -> usize {
        self.0.len() - ANSWER_HEADER
    }

    pub fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }

    /// `struct fuse_init_out`: what of the kernel's flags is wanted.
    pub fn init(&mut self, read_ahead: u32, flags: u32) -> &mut Answer {
        let wanted = ASYNC_READ | NO_OPEN | PARALLEL_DIRECTORIES | MAX_PAGES | CACHE_SYMLINKS | NO_OPEN_DIRECTORY;
        self.u32(MAJOR).u32(MINOR).u32(read_ahead).u32(flags & wanted);
        // Requests in the background, and from how many on there is congestion.
        self.u16(16).u16(12);
        // Longest write, granularity of times, pages of a request, and what is not used.
        self.u32(4096).u32(1_000_000_000).u16(PAGES).u16(0).bytes(&[0; 32])
    }

    /// `struct fuse_entry_out`; node 0 says that there is no such name.
    pub fn entry(&mut self, node: u64, attributes: &Attributes) -> &mut Answer {
        self.u64(node).u64(0).u64(VALID).u64(VALID).u32(0).u32(0).attributes(attributes)
    }

    /// `struct fuse_attr_out`.
    pub fn attribute_answer(&mut self, attributes: &Attributes) -> &mut Answer {
        self.u64(VALID).u32(0).u32(0).attributes(attributes)
    }

    /// `struct fuse_attr`.
    fn attributes(&mut self, attributes: &Attributes) -> &mut Answer {
        let Attributes { node, size, mtime, mode, links, uid, gid, device } = *attributes;
        self.u64(node).u64(size).u64(size.div_ceil(512)).u64(mtime).u64(mtime).u64(mtime).u32(0).u32(0).u32(0);
        self.u32(mode).u32(links).u32(uid).u32(gid).u32(device).u32(4096).u32(0)
    }

    /// `struct fuse_dirent`, unless it goes beyond `limit`; says whether it was added.
    pub fn directory_entry(&mut self, limit: usize, node: u64, next: u64, kind: u32, name: &[u8]) -> bool {
        let length = (24 + name.len()).next_multiple_of(8);
        if self.length() + length > limit {
            return false;
        }
        self.u64(node).u64(next).u32(name.len() as u32).u32(kind).bytes(name);
        let padding = length - 24 - name.len();
        self.bytes(&[0; 8][..padding]);
        true
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    pub node: u64,
    pub size: u64,
    pub mtime: u64,
    /// With the type.
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    /// As the kernel packs it.
    pub device: u32,
}
