//! What the kernel says of a file, and the same in the form that each architecture's calls want.
//!
//! Sources: statx(2), `arch/x86/include/uapi/asm/stat.h`, `include/uapi/asm-generic/stat.h`, `arch/x86/include/uapi/asm/stat.h` (i386:
//! `struct stat64`).

use super::filter::{AARCH64, I386, X86_64};
use super::record::{Birth, Device, Key, Record};

/// All that `struct stat` has, and the time of birth.
pub const MASK: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
/// How the kernel shows an id that the user namespace does not have.
pub const UNMAPPED: u32 = 65534;

/// A `struct statx` as the kernel wrote it.
#[derive(Clone)]
pub struct Status {
    bytes: [u8; 256],
    /// Whether container root is the only id that there is.
    single: bool,
}

impl Status {
    pub fn new(bytes: [u8; 256], single: bool) -> Status {
        Status { bytes, single }
    }

    pub fn key(&self) -> Key {
        (u64::from(self.word(136)) << 32 | u64::from(self.word(140)), self.long(32))
    }

    pub fn birth(&self) -> Option<Birth> {
        (self.word(0) & libc::STATX_BTIME != 0).then(|| (self.long(80) as i64, self.word(88)))
    }

    /// Type and permissions as on disk.
    pub fn mode(&self) -> u32 {
        u32::from(u16::from_ne_bytes([self.bytes[28], self.bytes[29]]))
    }

    pub fn kind(&self) -> u32 {
        self.mode() & libc::S_IFMT
    }

    /// As the kernel shows it.
    pub fn user(&self) -> u32 {
        self.word(20)
    }

    pub fn group(&self) -> u32 {
        self.word(24)
    }

    pub fn links(&self) -> u32 {
        self.word(16)
    }

    /// The owner of what is not recorded. Files of the host (`/proc`, `/sys`, devices) belong to its root, whom nobody here can name: they are
    /// root's here too.
    pub fn shown_owner(&self) -> (u32, u32) {
        // With a range of ids it may be the container's own user `nobody`.
        let shown = |id: u32| if id == UNMAPPED && self.single { 0 } else { id };
        (shown(self.user()), shown(self.group()))
    }

    /// Whether a file of the host's own.
    pub fn is_unmapped(&self) -> bool {
        self.user() == UNMAPPED || self.group() == UNMAPPED
    }

    /// Puts what is recorded in the place of what the kernel says; `None` if that is the same.
    pub fn with(&self, record: Option<&Record>) -> Option<Status> {
        let mut shown = self.clone();
        let owner = record.map_or(self.shown_owner(), |record| (record.user, record.group));
        shown.set_word(20, owner.0);
        shown.set_word(24, owner.1);
        if let Some(record) = record {
            let permissions = record.permissions.unwrap_or(self.mode() & 0o7777);
            let kind = record.device.map_or(self.kind(), |device| device.kind);
            shown.bytes[28..30].copy_from_slice(&((kind | permissions) as u16).to_ne_bytes());
            if let Some(Device { major, minor, .. }) = record.device {
                shown.set_word(128, major);
                shown.set_word(132, minor);
            }
        }
        (shown.bytes != self.bytes).then_some(shown)
    }

    pub fn as_statx(&self) -> &[u8] {
        &self.bytes
    }

    /// `struct stat` of x86-64 and aarch64, `struct stat64` of i386.
    pub fn as_stat(&self, architecture: u32) -> Option<Vec<u8>> {
        Some(match architecture {
            X86_64 => self.x86_64(),
            I386 => self.i386(),
            AARCH64 => self.aarch64(),
            _ => return None,
        })
    }

    fn x86_64(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(144);
        for value in [self.device(136), self.long(32), u64::from(self.links())] {
            out.extend(value.to_le_bytes());
        }
        for value in [self.mode(), self.user(), self.group(), 0] {
            out.extend(value.to_le_bytes());
        }
        for value in [self.device(128), self.long(40), u64::from(self.word(4)), self.long(48)] {
            out.extend(value.to_le_bytes());
        }
        self.times(|seconds, nanoseconds| {
            out.extend(seconds.to_le_bytes());
            out.extend(u64::from(nanoseconds).to_le_bytes());
        });
        out.resize(144, 0);
        out
    }

    fn aarch64(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        for value in [self.device(136), self.long(32)] {
            out.extend(value.to_le_bytes());
        }
        for value in [self.mode(), self.links(), self.user(), self.group()] {
            out.extend(value.to_le_bytes());
        }
        for value in [self.device(128), 0, self.long(40)] {
            out.extend(value.to_le_bytes());
        }
        for value in [self.word(4), 0] {
            out.extend(value.to_le_bytes());
        }
        out.extend(self.long(48).to_le_bytes());
        self.times(|seconds, nanoseconds| {
            out.extend(seconds.to_le_bytes());
            out.extend(u64::from(nanoseconds).to_le_bytes());
        });
        out.resize(128, 0);
        out
    }

    fn i386(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.extend(self.device(136).to_le_bytes());
        for value in [0, self.long(32) as u32, self.mode(), self.links(), self.user(), self.group()] {
            out.extend(value.to_le_bytes());
        }
        out.extend(self.device(128).to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.long(40).to_le_bytes());
        out.extend(self.word(4).to_le_bytes());
        out.extend(self.long(48).to_le_bytes());
        self.times(|seconds, nanoseconds| {
            out.extend((seconds as u32).to_le_bytes());
            out.extend(nanoseconds.to_le_bytes());
        });
        out.extend(self.long(32).to_le_bytes());
        out
    }

    /// Access, modification, change.
    fn times(&self, mut put: impl FnMut(u64, u32)) {
        for offset in [64, 112, 96] {
            put(self.long(offset), self.word(offset + 8));
        }
    }

    /// Spec: `new_encode_dev` of the kernel.
    fn device(&self, offset: usize) -> u64 {
        let (major, minor) = (self.word(offset), self.word(offset + 4));
        u64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
    }

    fn word(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.bytes[offset..offset + 4].try_into().expect("four bytes"))
    }

    fn long(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.bytes[offset..offset + 8].try_into().expect("eight bytes"))
    }

    fn set_word(&mut self, offset: usize, value: u32) {
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
}
