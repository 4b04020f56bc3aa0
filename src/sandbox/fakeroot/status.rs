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

#[cfg(test)]
mod tests {
    use super::super::notify;
    use super::*;

    /// The kernel's own word on a file in both forms.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_structure_is_the_kernel_s() {
        for path in [c"/proc/self/exe", c"/dev/null", c"/"] {
            let status = Status::new(notify::statx(path, 0, MASK).unwrap(), false);
            let stat = rustix::fs::stat(path).unwrap();
            let bytes = status.as_stat(X86_64).unwrap();
            let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!(bytes.len(), size_of_val(&stat));
            assert_eq!([long(0), long(8), long(16)], [stat.st_dev, stat.st_ino, stat.st_nlink]);
            assert_eq!([word(24), word(28), word(32)], [stat.st_mode, stat.st_uid, stat.st_gid]);
            assert_eq!(
                [long(40), long(48), long(56), long(64)].map(|value| value as i64),
                [stat.st_rdev as i64, stat.st_size, stat.st_blksize, stat.st_blocks]
            );
            assert_eq!([long(88) as i64, long(104) as i64], [stat.st_mtime, stat.st_ctime]);
            assert_eq!([long(96), long(112)], [stat.st_mtime_nsec, stat.st_ctime_nsec]);
        }
    }

    #[test]
    fn every_form_has_its_size_and_shows_what_is_recorded() {
        let mut bytes = [0; 256];
        bytes[28..30].copy_from_slice(&((libc::S_IFREG | 0o640) as u16).to_ne_bytes());
        let status = Status::new(bytes, true);
        let device = Some(Device { kind: libc::S_IFBLK, major: 8, minor: 257 });
        let record = Record { user: 70_000, group: 5, device, ..Record::default() };
        let shown = status.with(Some(&record)).unwrap();
        assert_eq!((shown.user(), shown.group(), shown.mode()), (70_000, 5, libc::S_IFBLK | 0o640));
        let at = |architecture: u32, offset: usize| {
            let bytes = shown.as_stat(architecture).unwrap();
            u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
        };
        assert_eq!([at(X86_64, 28), at(AARCH64, 24), at(I386, 24)], [70_000; 3]);
        // Major 8, minor 257, as the kernel packs them.
        assert_eq!([at(X86_64, 40), at(AARCH64, 32), at(I386, 32)], [0x0010_0801; 3]);
        let sizes = [X86_64, AARCH64, I386].map(|architecture| shown.as_stat(architecture).unwrap().len());
        assert_eq!(sizes, [144, 128, 96]);
    }

    #[test]
    fn files_of_the_host_are_root_s_where_there_is_one_id() {
        let mut bytes = [0; 256];
        bytes[20..24].copy_from_slice(&UNMAPPED.to_ne_bytes());
        assert_eq!(Status::new(bytes, true).with(None).map(|shown| shown.user()), Some(0));
        assert!(Status::new(bytes, false).with(None).is_none(), "the container's own nobody");
    }
}
