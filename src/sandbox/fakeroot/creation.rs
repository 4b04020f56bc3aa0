//! Calls that make or remove names: new files get the owner that they would have, sticky directories protect.
//!
//! Container root making a file of its own is the kernel's work alone. Else the supervisor makes the file itself, with the caller's mask
//! in the caller's directory, records whose it is, and hands the descriptor over.

use super::calls::Call;
use super::credentials::{self, Credentials, Owner, may_access};
use super::notify::Reply;
use super::process::Process;
use super::supervisor::{Answer, Supervisor};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Spec: openat2(2): flags, mode, resolve, each 64 bits.
const OPEN_HOW: usize = 24;
const TEMPORARY: u32 = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;

/// What an open call asks.
struct Open {
    directory: i32,
    path: CString,
    flags: u32,
    mode: u32,
    resolve: u64,
}

impl Supervisor {
    pub(super) fn open(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let credentials = self.credentials(process)?;
        let Some(open) = self.read_open(process, call)? else { return Ok(Reply::Continue.into()) };
        process.within(|| self.create(process, &open, &credentials))
    }

    fn read_open(&self, process: &Process<'_>, call: Call) -> io::Result<Option<Open>> {
        let (directory, first) = match call {
            Call::OpenAt | Call::OpenAt2 => (process.int(0), 1),
            _ => (libc::AT_FDCWD, 0),
        };
        let mut open = Open {
            directory,
            path: CString::default(),
            flags: process.word(first + 1),
            mode: process.word(first + 2),
            resolve: 0,
        };
        match call {
            Call::Create => {
                open.mode = process.word(1);
                open.flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u32;
            }
            Call::OpenAt2 => {
                if process.argument(3) < OPEN_HOW as u64 {
                    return Ok(None);
                }
                let how = process.read_array::<OPEN_HOW>(process.argument(2))?;
                let field =
                    |index: usize| u64::from_le_bytes(how[index * 8..index * 8 + 8].try_into().expect("eight bytes"));
                open.flags = field(0) as u32;
                open.mode = field(1) as u32;
                open.resolve = field(2);
            }
            _ => {}
        }
        if open.flags & (libc::O_CREAT as u32 | TEMPORARY) == 0 || open.flags & libc::O_PATH as u32 != 0 {
            return Ok(None);
        }
        // Another root for one call: what it makes is the kernel's, and root's.
        if open.resolve & ResolveFlags::IN_ROOT.bits() != 0 {
            return Ok(None);
        }
        open.path = process.read_string(process.argument(first))?;
        Ok((!open.path.is_empty()).then_some(open))
    }

    fn create(&self, process: &Process<'_>, open: &Open, credentials: &Credentials) -> io::Result<Answer> {
        let temporary = open.flags & TEMPORARY != 0;
        let parent = match temporary {
            true => process.place(open.directory, &open.path),
            false => match process.parent(open.directory, &open.path) {
                Some((parent, _)) => parent,
                None => return Ok(Reply::Continue.into()),
            },
        };
        let parent = self.owner(&process.status(&parent, true)?);
        let group = new_group(parent.group, parent.mode, credentials);
        if (credentials.user.files, group) == (0, 0) || parent.mode & libc::S_IFMT != libc::S_IFDIR {
            return Ok(Reply::Continue.into());
        }
        let place = process.place(open.directory, &open.path);
        // What exists is opened, not made; so is a link, wherever it leads (`/dev/stderr`, say, of this process's own).
        if !temporary && process.status(&place, false).is_ok() {
            return Ok(Reply::Continue.into());
        }
        if !may_access(credentials, parent, 3) {
            return Ok(Reply::Errno(libc::EACCES).into());
        }
        let mask = process.umask()?;
        if !process.is_valid() {
            return Ok(Reply::Continue.into());
        }
        let file = match self.open_new(process, open, mask) {
            Ok(file) => file,
            // Somebody else made it meanwhile.
            Err(rustix::io::Errno::EXIST) if open.flags & libc::O_EXCL as u32 == 0 => return Ok(Reply::Continue.into()),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
                return Ok(Reply::Continue.into());
            }
            Err(errno) => return Ok(Reply::Errno(errno.raw_os_error()).into()),
        };
        let status = process.status_of(file.as_fd())?;
        self.state().records.change(&status, |record| {
            record.user = credentials.user.files;
            record.group = group;
        });
        Ok(Answer::Descriptor { file, close_on_exec: open.flags & libc::O_CLOEXEC as u32 != 0 })
    }

    fn open_new(&self, process: &Process<'_>, open: &Open, mask: u32) -> rustix::io::Result<OwnedFd> {
        let mode = Mode::from_raw_mode(open.mode & 0o7777 & !mask);
        let mut flags = OFlags::from_bits_retain(open.flags) | OFlags::CLOEXEC | OFlags::NOCTTY;
        if open.flags & TEMPORARY == 0 {
            // Made here or not at all: else a pipe that appears meanwhile would hold this thread up.
            flags |= OFlags::EXCL;
        }
        if open.resolve == 0 {
            let place = process.place(open.directory, &open.path);
            return rustix::fs::open(place.as_c_str(), flags, mode);
        }
        let start = match open.path.to_bytes().starts_with(b"/") {
            true => process.place(libc::AT_FDCWD, c"/"),
            false => process.place(open.directory, c""),
        };
        let start = process.hold(&start, true).map_err(|_| rustix::io::Errno::BADF)?;
        let resolve = ResolveFlags::from_bits_retain(open.resolve);
        rustix::fs::openat2(&start, open.path.as_c_str(), flags, mode, resolve)
    }

    pub(super) fn make_directory(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let (directory, first) = if call == Call::MakeDirectoryAt { (process.int(0), 1) } else { (libc::AT_FDCWD, 0) };
        let path = process.read_string(process.argument(first))?;
        let mode = process.word(first + 1);
        let credentials = self.credentials(process)?;
        self.make(process, directory, &path, &credentials, |place, mask| {
            Ok(rustix::fs::mkdir(place, Mode::from_raw_mode(mode & 0o1777 & !mask))?)
        })
    }

    pub(super) fn make_link(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let (directory, second) = if call == Call::MakeLinkAt { (process.int(1), 2) } else { (libc::AT_FDCWD, 1) };
        let path = process.read_string(process.argument(second))?;
        let target = process.read_string(process.argument(0))?;
        let credentials = self.credentials(process)?;
        self.make(process, directory, &path, &credentials, |place, _| Ok(rustix::fs::symlink(&target, place)?))
    }

    /// Overlay gives the new name of what it copies up another number than the old one shows.
    pub(super) fn hard_link(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let (from, first, to, second, flags) = match call {
            Call::HardLinkAt => (process.int(0), 1, process.int(2), 3, process.int(4)),
            _ => (libc::AT_FDCWD, 0, libc::AT_FDCWD, 1, 0),
        };
        if flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
            return Ok(Reply::Continue.into());
        }
        let follow = flags & libc::AT_SYMLINK_FOLLOW != 0;
        let Some(old) = self.place_at(process, from, process.argument(first), flags)? else {
            return Ok(Reply::Continue.into());
        };
        let path = process.read_string(process.argument(second))?;
        let credentials = self.credentials(process)?;
        process.within(|| {
            let before = process.status(&old, follow)?;
            let Some((parent, _)) = process.parent(to, &path) else { return Ok(Reply::Continue.into()) };
            let parent = self.owner(&process.status(&parent, true)?);
            let new = process.place(to, &path);
            let in_directory = parent.mode & libc::S_IFMT == libc::S_IFDIR;
            if before.kind() == libc::S_IFDIR || !in_directory || process.status(&new, false).is_ok() {
                return Ok(Reply::Continue.into());
            }
            if !may_access(&credentials, parent, 3) {
                return Ok(Reply::Errno(libc::EACCES).into());
            }
            if !may_link(&credentials, self.owner(&before)) {
                return Ok(Reply::Errno(libc::EPERM).into());
            }
            let file = process.hold(&old, follow)?;
            if !process.is_valid() {
                return Ok(Reply::Continue.into());
            }
            let held = process.held(file.as_fd());
            let flags = rustix::fs::AtFlags::SYMLINK_FOLLOW;
            match rustix::fs::linkat(rustix::fs::CWD, &held, rustix::fs::CWD, new.as_c_str(), flags) {
                Ok(()) => {
                    let (old, new) = (process.status(&old, follow)?, process.status(&new, false)?);
                    self.state().records.join(&before, &old, &new);
                    Ok(Reply::Value(0).into())
                }
                Err(errno) => Ok(Reply::Errno(errno.raw_os_error()).into()),
            }
        })
    }

    /// Makes something that no descriptor comes of, and records whose it is.
    pub(super) fn make(
        &self,
        process: &Process<'_>,
        directory: i32,
        path: &CStr,
        credentials: &Credentials,
        perform: impl FnOnce(&CStr, u32) -> io::Result<()>,
    ) -> io::Result<Answer> {
        process.within(|| {
            let Some((parent, _)) = process.parent(directory, path) else { return Ok(Reply::Continue.into()) };
            let parent = self.owner(&process.status(&parent, true)?);
            let group = new_group(parent.group, parent.mode, credentials);
            if (credentials.user.files, group) == (0, 0) || parent.mode & libc::S_IFMT != libc::S_IFDIR {
                return Ok(Reply::Continue.into());
            }
            let place = process.place(directory, path);
            if process.status(&place, false).is_ok() {
                return Ok(Reply::Continue.into());
            }
            if !may_access(credentials, parent, 3) {
                return Ok(Reply::Errno(libc::EACCES).into());
            }
            let mask = process.umask()?;
            if !process.is_valid() {
                return Ok(Reply::Continue.into());
            }
            if let Err(error) = perform(place.as_c_str(), mask) {
                return Ok(Reply::Errno(error.raw_os_error().unwrap_or(libc::EIO)).into());
            }
            let status = process.status(&place, false)?;
            self.state().records.change(&status, |record| {
                record.user = credentials.user.files;
                record.group = group;
            });
            Ok(Reply::Value(0).into())
        })
    }

    /// The group of what is made as `path`.
    pub(super) fn group_below(
        &self,
        process: &Process<'_>,
        directory: i32,
        path: &CStr,
        credentials: &Credentials,
    ) -> io::Result<u32> {
        let Some((parent, _)) = process.parent(directory, path) else { return Ok(credentials.group.files) };
        let parent = self.owner(&process.status(&parent, true)?);
        Ok(new_group(parent.group, parent.mode, credentials))
    }

    /// Whether the caller may take the names away that the call takes away. Root may.
    pub(super) fn remove(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let credentials = self.credentials(process)?;
        if credentials.may(credentials::FOWNER) && credentials.may(credentials::DAC_OVERRIDE) {
            return Ok(Reply::Continue.into());
        }
        let names: &[(i32, usize)] = match call {
            Call::RemoveAt => &[(process.int(0), 1)],
            Call::Rename => &[(libc::AT_FDCWD, 0), (libc::AT_FDCWD, 1)],
            Call::RenameAt => &[(process.int(0), 1), (process.int(2), 3)],
            _ => &[(libc::AT_FDCWD, 0)],
        };
        for (number, (directory, argument)) in names.iter().enumerate() {
            let path = process.read_string(process.argument(*argument))?;
            let new_name = number == 1;
            if let Err(errno) =
                process.within(|| self.may_remove(process, *directory, &path, new_name, &credentials))?
            {
                return Ok(Reply::Errno(errno).into());
            }
        }
        Ok(Reply::Continue.into())
    }

    /// `Err`: why not. A name that is not there is the kernel's to miss, unless it is to be made.
    fn may_remove(
        &self,
        process: &Process<'_>,
        directory: i32,
        path: &CStr,
        new_name: bool,
        credentials: &Credentials,
    ) -> io::Result<Result<(), i32>> {
        let Some((parent, _)) = process.parent(directory, path) else { return Ok(Ok(())) };
        let found = process.status(&process.place(directory, path), false);
        if found.is_err() && !new_name {
            return Ok(Ok(()));
        }
        let parent = self.owner(&process.status(&parent, true)?);
        if !may_access(credentials, parent, 3) {
            return Ok(Err(libc::EACCES));
        }
        let Ok(found) = found else { return Ok(Ok(())) };
        if parent.mode & libc::S_ISVTX == 0 || credentials.may(credentials::FOWNER) {
            return Ok(Ok(()));
        }
        let owner = self.owner(&found);
        match credentials.user.files == owner.user || credentials.user.files == parent.user {
            true => Ok(Ok(())),
            false => Ok(Err(libc::EPERM)),
        }
    }
}

/// Spec: proc_sys_fs(5), `protected_hardlinks`.
fn may_link(credentials: &Credentials, owner: Owner) -> bool {
    let set_id = owner.mode & libc::S_ISUID != 0
        || owner.mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP;
    let safe = owner.mode & libc::S_IFMT == libc::S_IFREG && !set_id && may_access(credentials, owner, 6);
    safe || credentials.user.files == owner.user || credentials.may(credentials::FOWNER)
}

/// Spec: open(2): below a set-group-id directory its group, else the caller's.
fn new_group(parent_group: u32, parent_mode: u32, credentials: &Credentials) -> u32 {
    if parent_mode & libc::S_ISGID != 0 { parent_group } else { credentials.group.files }
}
