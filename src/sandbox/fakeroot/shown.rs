//! What the container sees of files: the stat family, access.

use super::calls::Call;
use super::credentials::{Ids, may_access};
use super::notify::{self, Reply};
use super::process::Process;
use super::supervisor::{Answer, Supervisor};
use std::io;
use std::os::fd::AsFd;

/// As much as a C library asks for at once.
const LONGEST_LIST: usize = 1 << 20;
const EMPTY_OR_LINK: i32 = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;

impl Supervisor {
    /// Nothing recorded: the kernel answers. Else its answer, with what is recorded put in place.
    pub(super) fn stat(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let (place, follow, buffer) = match call {
            Call::FileStat => (process.descriptor(process.int(0)), true, process.argument(1)),
            Call::StatAt => {
                let flags = process.int(3);
                let Some(place) = self.place_at(process, process.int(0), process.argument(1), flags)? else {
                    return Ok(Reply::Continue.into());
                };
                (place, flags & libc::AT_SYMLINK_NOFOLLOW == 0, process.argument(2))
            }
            Call::LinkStat => (self.place_of(process, 0)?, false, process.argument(1)),
            _ => (self.place_of(process, 0)?, true, process.argument(1)),
        };
        let status = process.within(|| process.status(&place, follow))?;
        let shown = status.with(self.state().records.get(&status));
        match shown.and_then(|shown| shown.as_stat(process.call.arch)) {
            Some(bytes) => {
                process.write(buffer, &bytes)?;
                Ok(Reply::Value(0).into())
            }
            None => Ok(Reply::Continue.into()),
        }
    }

    pub(super) fn statx(&self, process: &Process<'_>) -> io::Result<Answer> {
        let (flags, mask) = (process.int(2), process.word(3));
        let Some(place) = self.place_at(process, process.int(0), process.argument(1), flags)? else {
            return Ok(Reply::Continue.into());
        };
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        let status = process.within(|| process.status_with(&place, follow, flags & !EMPTY_OR_LINK, mask))?;
        let shown = status.with(self.state().records.get(&status));
        match shown {
            Some(shown) => {
                process.write(process.argument(4), shown.as_statx())?;
                Ok(Reply::Value(0).into())
            }
            None => Ok(Reply::Continue.into()),
        }
    }

    /// A list of names says that a stand-in is a file: it gets the type of its device. Where there are none the kernel answers.
    pub(super) fn list_directory(&self, process: &Process<'_>) -> io::Result<Answer> {
        // A list that is read twice because of a signal would lack its first part.
        if !self.patient || !self.state().records.have_devices() {
            return Ok(Reply::Continue.into());
        }
        let directory = process.copy_descriptor(process.int(0))?;
        let device = process.status_of(directory.as_fd())?.key().0;
        let mut buffer = vec![0; (process.word(2) as usize).min(LONGEST_LIST)];
        if !process.is_valid() {
            return Ok(Reply::Continue.into());
        }
        let length = match notify::list(directory.as_fd(), &mut buffer) {
            Ok(length) => length,
            Err(error) => return Ok(Reply::Errno(error.raw_os_error().unwrap_or(libc::EIO)).into()),
        };
        buffer.truncate(length);
        {
            let state = self.state();
            // The number alone may have been used again: the name tells.
            let held = process.held(directory.as_fd());
            set_types(&mut buffer, |inode, name| {
                let kind = state.records.device((device, inode))?.kind;
                let status = process.status_below(&held, name).ok()?;
                state.records.get(&status).is_some_and(|record| record.device.is_some()).then_some(kind)
            });
        }
        if process.write(process.argument(1), &buffer).is_err() {
            return Ok(Reply::Errno(libc::EFAULT).into());
        }
        Ok(Reply::Value(length as i64).into())
    }

    /// The kernel knows what container root may; of the others it knows nothing.
    pub(super) fn access(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let number = process.identity();
        if number == 0 {
            return Ok(Reply::Continue.into());
        }
        let (directory, first, flags) = match call {
            Call::Access => (libc::AT_FDCWD, 0, 0),
            Call::AccessAt => (process.int(0), 1, 0),
            _ => (process.int(0), 1, process.int(3)),
        };
        let wanted = process.word(first + 1);
        let Some(place) = self.place_at(process, directory, process.argument(first), flags)? else {
            return Ok(Reply::Continue.into());
        };
        let mut credentials = self.credentials_of(number);
        if flags & libc::AT_EACCESS == 0 {
            // Spec: access(2): by the real ids, with the capabilities that they would have.
            credentials.user = Ids::all(credentials.user.real);
            credentials.group = Ids::all(credentials.group.real);
            credentials.effective = if credentials.user.real == 0 { credentials.permitted } else { 0 };
        }
        let status = process.within(|| process.status(&place, flags & libc::AT_SYMLINK_NOFOLLOW == 0))?;
        match wanted == 0 || may_access(&credentials, self.owner(&status), wanted) {
            // The kernel still knows of read-only mounts.
            true => Ok(Reply::Continue.into()),
            false => Ok(Reply::Errno(libc::EACCES).into()),
        }
    }
}

/// Spec: getdents64(2): inode 8 bytes, offset 8, length of the entry 2, type 1, name. Types are those of a mode, shifted.
fn set_types(mut entries: &mut [u8], kind: impl Fn(u64, &[u8]) -> Option<u32>) {
    while entries.len() > 18 {
        let inode = u64::from_ne_bytes(entries[..8].try_into().expect("eight bytes"));
        let length = usize::from(u16::from_ne_bytes([entries[16], entries[17]]));
        let name = entries[19..].split(|byte| *byte == 0).next().unwrap_or_default();
        if let Some(kind) = kind(inode, name) {
            entries[18] = (kind >> 12) as u8;
        }
        if length == 0 || length > entries.len() {
            return;
        }
        entries = &mut entries[length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_get_their_type_in_lists() {
        let entry = |inode: u64, name: &[u8]| {
            let mut entry = [&inode.to_ne_bytes()[..], &[0; 8], &24u16.to_ne_bytes(), &[8], name].concat();
            entry.resize(24, 0);
            entry
        };
        let mut list = [entry(1, b"one"), entry(2, b"two"), entry(3, b"three")].concat();
        set_types(&mut list, |inode, name| (inode == 2 && name == b"two").then_some(libc::S_IFBLK));
        assert_eq!([list[18], list[24 + 18], list[48 + 18]], [8, 6, 8]);
        set_types(&mut list[..30], |_, _| Some(libc::S_IFCHR));
        set_types(&mut [0; 24], |_, _| Some(libc::S_IFCHR));
    }
}
