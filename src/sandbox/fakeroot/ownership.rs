//! chown, chmod, mknod.
//!
//! The kernel does what it can first (that copies a file up, sets its change time, clears set-id bits, and says of a read-only mount what it
//! must); what it cannot is recorded.

use super::calls::Call;
use super::credentials::{self, Credentials, KEEP, Owner};
use super::notify::Reply;
use super::process::{Place, Process};
use super::record::Device;
use super::status::Status;
use super::supervisor::{Answer, Supervisor};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The group of a file, and whether its set-group-id bit stays: chmod(2).
const SET_GROUP_ID: u32 = libc::S_ISGID;

impl Supervisor {
    pub(super) fn chown(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let (place, follow, first) = match call {
            Call::FileChown | Call::ShortFileChown => (process.descriptor(process.int(0)), true, 1),
            Call::ChownAt => {
                let flags = process.int(4);
                if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
                    return Ok(Reply::Continue.into());
                }
                let Some(place) = self.place_at(process, process.int(0), process.argument(1), flags)? else {
                    return Ok(Reply::Continue.into());
                };
                (place, flags & libc::AT_SYMLINK_NOFOLLOW == 0, 2)
            }
            Call::LinkChown | Call::ShortLinkChown => (self.place_of(process, 0)?, false, 1),
            _ => (self.place_of(process, 0)?, true, 1),
        };
        let short = matches!(call, Call::ShortChown | Call::ShortLinkChown | Call::ShortFileChown);
        let id = |index: usize| match process.word(index) {
            0xffff if short => KEEP,
            id if short => id & 0xffff,
            id => id,
        };
        let (user, group) = (id(first), id(first + 1));
        let credentials = self.credentials(process)?;
        process.within(|| {
            let file = process.hold(&place, follow)?;
            let before = process.status_of(file.as_fd())?;
            let owner = self.owner(&before);
            if !may_chown(&credentials, owner, user, group) {
                return Ok(Reply::Errno(libc::EPERM).into());
            }
            if !process.is_valid() {
                return Ok(Reply::Continue.into());
            }
            if let Err(error) = self.chown_really(file.as_fd(), &before, user, group) {
                return Ok(Reply::Errno(error).into());
            }
            let after = process.status_of(file.as_fd())?;
            let mut state = self.state();
            state.records.follow(&before, &after);
            state.records.change(&after, |record| {
                record.user = if user == KEEP { owner.user } else { user };
                record.group = if group == KEEP { owner.group } else { group };
            });
            Ok(Reply::Value(0).into())
        })
    }

    /// The kernel's part. `Err`: an errno for the process.
    fn chown_really(&self, file: BorrowedFd<'_>, before: &Status, user: u32, group: u32) -> Result<(), i32> {
        let chown = |user: u32, group: u32| {
            let id = |id: u32| (id != KEEP).then_some(id);
            let (user, group) = (id(user).map(Uid::from_raw), id(group).map(Gid::from_raw));
            rustix::fs::chownat(file, "", user, group, rustix::fs::AtFlags::EMPTY_PATH)
                .map_err(|error| error.raw_os_error())
        };
        if self.scope.is_remainder() {
            match chown(user, group) {
                Err(libc::EPERM | libc::EINVAL) => {}
                // The host's `/sys`: nothing shows that it is root's already, which rpm would look for.
                Err(libc::EROFS) if before.is_unmapped() => return Ok(()),
                other => return other,
            }
        }
        // With a range of ids what is to be kept is on disk.
        let placed = |id: u32| if id == KEEP && self.scope.is_remainder() { KEEP } else { 0 };
        match chown(placed(user), placed(group)) {
            // A file of the host's, on a mount of the host's.
            Err(libc::EPERM) if before.is_unmapped() || self.scope.is_remainder() => Ok(()),
            other => other,
        }
    }

    pub(super) fn chmod(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let (place, follow, mode) = match call {
            Call::FileChmod => (process.descriptor(process.int(0)), true, process.word(1)),
            Call::ChmodAt => (self.place(process, process.int(0), process.argument(1))?, true, process.word(2)),
            Call::ChmodAt2 => {
                let flags = process.int(3);
                let Some(place) = self.place_at(process, process.int(0), process.argument(1), flags)? else {
                    return Ok(Reply::Continue.into());
                };
                (place, flags & libc::AT_SYMLINK_NOFOLLOW == 0, process.word(2))
            }
            _ => (self.place_of(process, 0)?, true, process.word(1)),
        };
        let credentials = self.credentials(process)?;
        process.within(|| {
            let file = process.hold(&place, follow)?;
            let status = process.status_of(file.as_fd())?;
            if status.kind() == libc::S_IFLNK {
                return Ok(Reply::Continue.into());
            }
            let owner = self.owner(&status);
            if credentials.user.files != owner.user && !credentials.may(credentials::FOWNER) {
                return Ok(Reply::Errno(libc::EPERM).into());
            }
            let mut mode = mode & 0o7777;
            if !credentials.is_in_group(owner.group) && !credentials.may(credentials::FSETID) {
                mode &= !SET_GROUP_ID;
            }
            if !process.is_valid() {
                return Ok(Reply::Continue.into());
            }
            let held = process.held(file.as_fd());
            let errno = match rustix::fs::chmod(held.as_c_str(), Mode::from_raw_mode(mode)) {
                Ok(()) => 0,
                Err(error) => error.raw_os_error(),
            };
            let recorded = match errno {
                0 => None,
                libc::EPERM if status.is_unmapped() => Some(mode),
                libc::EROFS if status.is_unmapped() && self.scope.is_remainder() => Some(mode),
                _ => return Ok(Reply::Errno(errno).into()),
            };
            let after = process.status_of(file.as_fd())?;
            let mut state = self.state();
            if state.records.get(&status).is_some() || recorded.is_some() {
                state.records.follow(&status, &after);
                state.records.change(&after, |record| record.permissions = recorded);
            }
            Ok(Reply::Value(0).into())
        })
    }

    pub(super) fn make_node(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let (directory, first) = if call == Call::MakeNodeAt { (process.int(0), 1) } else { (libc::AT_FDCWD, 0) };
        let path = process.read_string(process.argument(first))?;
        let (mode, device) = (process.word(first + 1), process.argument(first + 2));
        let kind = mode & libc::S_IFMT;
        let credentials = self.credentials(process)?;
        let is_device = kind == libc::S_IFCHR || kind == libc::S_IFBLK;
        if !is_device {
            return match kind {
                0 | libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK if !self.scope.is_remainder() => {
                    self.make(process, directory, &path, &credentials, |place, mask| {
                        let kind = nix::sys::stat::SFlag::from_bits_truncate(kind);
                        let mode = nix::sys::stat::Mode::from_bits_truncate(mode & 0o7777 & !mask);
                        Ok(nix::sys::stat::mknod(place, kind, mode, 0)?)
                    })
                }
                _ => Ok(Reply::Continue.into()),
            };
        }
        if !credentials.may(credentials::MKNOD) {
            return Ok(Reply::Errno(libc::EPERM).into());
        }
        let mask = process.umask()?;
        process.within(|| {
            let place = process.place(directory, &path);
            let group = self.group_below(process, directory, &path, &credentials)?;
            if !process.is_valid() {
                return Ok(Reply::Continue.into());
            }
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
            let made = rustix::fs::open(place.as_c_str(), flags, Mode::from_raw_mode(mode & 0o7777 & !mask));
            let file = match made {
                Ok(file) => file,
                Err(error) => return Ok(Reply::Errno(error.raw_os_error()).into()),
            };
            let status = process.status_of(file.as_fd())?;
            // Spec: `new_decode_dev`: what the call itself is given, on each architecture.
            let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
            self.state().records.change(&status, |record| {
                record.device = Some(Device { kind, major: major as u32, minor: minor as u32 });
                record.user = credentials.user.files;
                record.group = group;
            });
            Ok(Reply::Value(0).into())
        })
    }

    /// The owner, group and mode that a file has for the container.
    pub(super) fn owner(&self, status: &Status) -> Owner {
        let state = self.state();
        let shown = status.with(state.records.get(status));
        let shown = shown.as_ref().unwrap_or(status);
        Owner { user: shown.user(), group: shown.group(), mode: shown.mode() }
    }

    /// The place that a path argument names.
    pub(super) fn place(&self, process: &Process<'_>, directory: i32, address: u64) -> io::Result<Place> {
        let path = process.read_string(address)?;
        match path.is_empty() {
            true => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            false => Ok(process.place(directory, &path)),
        }
    }

    pub(super) fn place_of(&self, process: &Process<'_>, argument: usize) -> io::Result<Place> {
        self.place(process, libc::AT_FDCWD, process.argument(argument))
    }

    /// With `AT_EMPTY_PATH` the descriptor itself; `None` where the kernel has its own word on an empty path.
    pub(super) fn place_at(
        &self,
        process: &Process<'_>,
        directory: i32,
        address: u64,
        flags: i32,
    ) -> io::Result<Option<Place>> {
        // Spec: statx(2): since Linux 6.11 no path at all is an empty one.
        let path = if address == 0 { Default::default() } else { process.read_string(address)? };
        match path.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
            true => Ok(None),
            false => Ok(Some(process.place(directory, &path))),
        }
    }
}

/// Spec: chown(2).
fn may_chown(credentials: &Credentials, owner: Owner, user: u32, group: u32) -> bool {
    if credentials.may(credentials::CHOWN) {
        return true;
    }
    let is_own = credentials.user.files == owner.user;
    let keeps_user = user == KEEP || (is_own && user == owner.user);
    let keeps_group = group == KEEP || (is_own && (group == owner.group || credentials.is_in_group(group)));
    keeps_user && keeps_group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_give_their_files_to_their_own_groups_only() {
        let mut user = Credentials::root();
        user.set_groups(vec![50]).unwrap();
        user.set_group(10).unwrap();
        user.set_user(10).unwrap();
        let own = Owner { user: 10, group: 10, mode: libc::S_IFREG | 0o644 };
        let foreign = Owner { user: 11, group: 10, mode: libc::S_IFREG | 0o644 };
        assert!(
            may_chown(&user, own, KEEP, 50) && may_chown(&user, own, 10, KEEP) && may_chown(&user, foreign, KEEP, KEEP)
        );
        assert!(
            !may_chown(&user, own, 11, KEEP)
                && !may_chown(&user, own, KEEP, 51)
                && !may_chown(&user, foreign, KEEP, 50)
        );
        assert!(may_chown(&Credentials::root(), foreign, 5, 5));
    }
}
