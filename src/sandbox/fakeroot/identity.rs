//! Who the caller is and becomes: set*id, get*id, capabilities, exec; and the limit in which its number is kept.

use super::calls::Call;
use super::credentials::{self, Credentials, KEEP, MOST_GROUPS, Refused};
use super::filter::I386;
use super::notify::Reply;
use super::process::Process;
use super::supervisor::{Answer, Supervisor};
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `_LINUX_CAPABILITY_VERSION_1`: one pair of words; 2 and 3 have two.
const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;
/// Ids beyond 16 bits, as the kernel shows them to calls of 16 bits.
const OVERFLOW: u32 = 65534;

/// A process that was given the identity of the program which one of its threads is about to make of it.
#[derive(Clone, Copy)]
struct Executing {
    thread: u32,
    before: usize,
    after: usize,
    program: (u64, u64, u64),
}

/// By process; those that have not been seen to have become it, nor to have been refused.
#[derive(Default)]
pub(super) struct AllExecuting {
    count: AtomicUsize,
    processes: Mutex<HashMap<u32, Executing>>,
}

impl AllExecuting {
    fn are_none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Also forgets those that `lives` not.
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<u32, Executing>) -> T, lives: impl Fn(u32) -> bool) -> T {
        let mut processes = self.processes.lock().expect("no thread panics with the lines in its hands");
        processes.retain(|process, _| lives(*process));
        let result = change(&mut processes);
        self.count.store(processes.len(), Ordering::Release);
        result
    }
}

impl Supervisor {
    pub(super) fn get_identity(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let number = process.identity();
        // The kernel's list of groups is the caller's on the host, and cannot be given up there.
        if number == 0 && !matches!(call, Call::GetGroups { .. }) {
            return Ok(Reply::Continue.into());
        }
        let of = self.credentials_of(number);
        match call {
            Call::GetUser => Ok(Reply::Value(i64::from(of.user.real)).into()),
            Call::GetEffectiveUser => Ok(Reply::Value(i64::from(of.user.effective)).into()),
            Call::GetGroup => Ok(Reply::Value(i64::from(of.group.real)).into()),
            Call::GetEffectiveGroup => Ok(Reply::Value(i64::from(of.group.effective)).into()),
            Call::GetUsers { short } => {
                self.write_ids(process, [of.user.real, of.user.effective, of.user.saved], short)
            }
            Call::GetGroupsIds { short } => {
                self.write_ids(process, [of.group.real, of.group.effective, of.group.saved], short)
            }
            Call::GetGroups { short } => self.get_groups(process, &of, short),
            _ => Ok(Reply::Continue.into()),
        }
    }

    fn write_ids(&self, process: &Process<'_>, ids: [u32; 3], short: bool) -> io::Result<Answer> {
        for (index, id) in ids.into_iter().enumerate() {
            let bytes = if short { narrow(id).to_le_bytes().to_vec() } else { id.to_le_bytes().to_vec() };
            process.write(process.argument(index), &bytes)?;
        }
        Ok(Reply::Value(0).into())
    }

    fn get_groups(&self, process: &Process<'_>, of: &Credentials, short: bool) -> io::Result<Answer> {
        let (room, count) = (process.int(0), of.groups.len());
        if room < 0 || (room > 0 && (room as usize) < count) {
            return Ok(Reply::Errno(libc::EINVAL).into());
        }
        if room > 0 && count > 0 {
            let bytes: Vec<u8> = match short {
                true => of.groups.iter().flat_map(|id| narrow(*id).to_le_bytes()).collect(),
                false => of.groups.iter().flat_map(|id| id.to_le_bytes()).collect(),
            };
            process.write(process.argument(1), &bytes)?;
        }
        Ok(Reply::Value(count as i64).into())
    }

    pub(super) fn set_identity(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let short = matches!(
            call,
            Call::SetUser { short: true }
                | Call::SetGroup { short: true }
                | Call::SetUsers2 { short: true }
                | Call::SetGroups2 { short: true }
                | Call::SetUsers3 { short: true }
                | Call::SetGroups3 { short: true }
                | Call::SetFileUser { short: true }
                | Call::SetFileGroup { short: true }
        );
        let id = |index: usize| match process.word(index) {
            0xffff if short => KEEP,
            id if short => id & 0xffff,
            id => id,
        };
        if matches!(call, Call::SetUser { .. } | Call::SetGroup { .. }) && id(0) == KEEP {
            return Ok(Reply::Errno(libc::EINVAL).into());
        }
        let mut value = 0;
        let new_groups = match call {
            Call::SetGroups { short } => match self.read_groups(process, short)? {
                Some(groups) => groups,
                None => return Ok(Reply::Errno(libc::EINVAL).into()),
            },
            _ => Vec::new(),
        };
        self.change_identity(process, |credentials| match call {
            Call::SetUser { .. } => credentials.set_user(id(0)),
            Call::SetGroup { .. } => credentials.set_group(id(0)),
            Call::SetUsers2 { .. } => credentials.set_users2(id(0), id(1)),
            Call::SetGroups2 { .. } => credentials.set_groups2(id(0), id(1)),
            Call::SetUsers3 { .. } => credentials.set_users3([id(0), id(1), id(2)]),
            Call::SetGroups3 { .. } => credentials.set_groups3([id(0), id(1), id(2)]),
            Call::SetGroups { .. } => credentials.set_groups(new_groups),
            Call::SetFileUser { .. } => {
                value = credentials.set_file_user(id(0));
                Ok(())
            }
            _ => {
                value = credentials.set_file_group(id(0));
                Ok(())
            }
        })
        .map(|answer| match answer {
            Answer::Reply(Reply::Value(_)) => Reply::Value(i64::from(value)).into(),
            other => other,
        })
    }

    fn read_groups(&self, process: &Process<'_>, short: bool) -> io::Result<Option<Vec<u32>>> {
        let Some(count) = usize::try_from(process.int(0)).ok().filter(|count| *count <= MOST_GROUPS) else {
            return Ok(None);
        };
        let size = if short { 2 } else { 4 };
        let bytes = if count == 0 { Vec::new() } else { process.read(process.argument(1), count * size)? };
        if bytes.len() != count * size {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        Ok(Some(bytes.chunks(size).map(word).collect()))
    }

    /// Computes the caller's next identity and gives it to it.
    fn change_identity(
        &self,
        process: &Process<'_>,
        change: impl FnOnce(&mut Credentials) -> Result<(), Refused>,
    ) -> io::Result<Answer> {
        let mut credentials = self.credentials(process)?;
        if change(&mut credentials).is_err() {
            return Ok(Reply::Errno(libc::EPERM).into());
        }
        let Some(number) = self.state().identities.number(credentials) else {
            return Ok(Reply::Errno(libc::EAGAIN).into());
        };
        if !process.is_valid() {
            return Ok(Reply::Continue.into());
        }
        match process.set_identity(number) {
            Ok(()) => Ok(Reply::Value(0).into()),
            Err(error) => Ok(Reply::Errno(error.raw_os_error().unwrap_or(libc::EPERM)).into()),
        }
    }

    pub(super) fn get_capabilities(&self, process: &Process<'_>) -> io::Result<Answer> {
        let number = process.identity();
        let Some((version, true)) = self.capability_header(process)? else { return Ok(Reply::Continue.into()) };
        if number == 0 || process.argument(1) == 0 {
            return Ok(Reply::Continue.into());
        }
        let of = self.credentials_of(number);
        let words = if version == VERSION_1 { 1 } else { 2 };
        let bytes: Vec<u8> = (0..words)
            .flat_map(|word| [of.effective, of.permitted, of.inheritable].map(|set| (set >> (32 * word)) as u32))
            .flat_map(u32::to_le_bytes)
            .collect();
        process.write(process.argument(1), &bytes)?;
        Ok(Reply::Value(0).into())
    }

    pub(super) fn set_capabilities(&self, process: &Process<'_>) -> io::Result<Answer> {
        let Some((version, own)) = self.capability_header(process)? else { return Ok(Reply::Continue.into()) };
        if !own {
            return Ok(Reply::Errno(libc::EPERM).into());
        }
        let words = if version == VERSION_1 { 1 } else { 2 };
        let bytes = process.read_array::<24>(process.argument(1)).or_else(|error| match words {
            1 => process.read_array::<12>(process.argument(1)).map(|short| {
                let mut bytes = [0; 24];
                bytes[..12].copy_from_slice(&short);
                bytes
            }),
            _ => Err(error),
        })?;
        let word = |index: usize| {
            u64::from(u32::from_le_bytes(bytes[index * 4..index * 4 + 4].try_into().expect("four bytes")))
        };
        let set = |first: usize| word(first) | if words == 2 { word(first + 3) << 32 } else { 0 };
        self.change_identity(process, |credentials| credentials.set_capabilities(set(0), set(1), set(2)))
    }

    /// Version, and whether the caller means itself; `None` for a version that the kernel has its own word on.
    fn capability_header(&self, process: &Process<'_>) -> io::Result<Option<(u32, bool)>> {
        let header = process.read_array::<8>(process.argument(0))?;
        let [version, pid] = [0, 4].map(|at| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes")));
        if ![VERSION_1, VERSION_2, VERSION_3].contains(&version) {
            return Ok(None);
        }
        // Its own number within the container is the last of the line.
        let own = pid == 0 || process.status_line("NSpid")?.split_whitespace().last() == Some(pid.to_string().as_str());
        Ok(Some((version, own)))
    }

    pub(super) fn process_control(&self, process: &Process<'_>) -> io::Result<Answer> {
        match process.int(0) {
            libc::PR_GET_KEEPCAPS => {
                let kept = self.credentials(process)?.keep_capabilities;
                Ok(Reply::Value(i64::from(kept)).into())
            }
            libc::PR_SET_KEEPCAPS if process.argument(1) <= 1 => self.change_identity(process, |credentials| {
                credentials.keep_capabilities = process.argument(1) == 1;
                Ok(())
            }),
            libc::PR_CAP_AMBIENT => self.ambient(process),
            _ => Ok(Reply::Continue.into()),
        }
    }

    fn ambient(&self, process: &Process<'_>) -> io::Result<Answer> {
        let capability = process.word(2);
        match process.int(1) {
            libc::PR_CAP_AMBIENT_IS_SET if capability < 64 => {
                let set = self.credentials(process)?.ambient >> capability & 1;
                Ok(Reply::Value(set as i64).into())
            }
            libc::PR_CAP_AMBIENT_RAISE => self.change_identity(process, |of| of.raise_ambient(capability)),
            libc::PR_CAP_AMBIENT_LOWER if capability < 64 => self.change_identity(process, |of| {
                of.ambient &= !(1 << capability);
                Ok(())
            }),
            libc::PR_CAP_AMBIENT_CLEAR_ALL => self.change_identity(process, |of| {
                of.ambient = 0;
                Ok(())
            }),
            _ => Ok(Reply::Continue.into()),
        }
    }

    /// Before the kernel performs it: set-id bits of a file that is somebody else's for the container.
    pub(super) fn execute(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let number = process.identity();
        let (directory, argument, flags) = match call {
            Call::ExecuteAt => (process.int(0), 1, process.int(4)),
            _ => (libc::AT_FDCWD, 0, 0),
        };
        let Some(place) = self.place_at(process, directory, process.argument(argument), flags)? else {
            return Ok(Reply::Continue.into());
        };
        process.within(|| {
            let status = process.status(&place, flags & libc::AT_SYMLINK_NOFOLLOW == 0)?;
            let owner = self.owner(&status);
            let regular = status.kind() == libc::S_IFREG && owner.mode & 0o111 != 0;
            let has_bits = owner.mode & (libc::S_ISUID | libc::S_ISGID) != 0;
            if !regular || (number == 0 && !has_bits) {
                return Ok(Reply::Continue.into());
            }
            let credentials = self.credentials_of(number);
            if !credentials::may_access(&credentials, owner, 1) {
                return Ok(Reply::Errno(libc::EACCES).into());
            }
            let honoured = has_bits && self.is_program(process, &place)? && process.status_line("NoNewPrivs")? != "1";
            let set_user = (honoured && owner.mode & libc::S_ISUID != 0).then_some(owner.user);
            // Spec: execve(2): without group execution the bit means something else.
            let by_group = owner.mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP;
            let set_group = (honoured && by_group).then_some(owner.group);
            let mut after = credentials.clone();
            after.execute(set_user, set_group);
            if after == credentials {
                return Ok(Reply::Continue.into());
            }
            let program = process.program()?;
            let next = self.state().identities.number(after);
            if let Some(next) = next.filter(|_| process.is_valid()) {
                let (group, thread) = (process.group()?, process.call.thread);
                let executing = Executing { thread, before: number, after: next, program };
                self.executing.change(|all| all.insert(group, executing), |other| process.lives(other));
                process.set_identity(next)?;
            }
            Ok(Reply::Continue.into())
        })
    }

    /// An exec that the kernel refuses after all (`E2BIG`, `ENOMEM`, a bad format) gives nothing: seen when the same program calls again, in
    /// whichever of its threads. While one thread is in exec the others are who they were: if it succeeds, they are no more.
    pub(super) fn settle(&self, process: &Process<'_>) {
        if self.executing.are_none() {
            return;
        }
        let Ok(group) = process.group() else { return };
        let find = |all: &mut HashMap<u32, Executing>| all.get(&group).copied();
        let Some(of) = self.executing.change(find, |other| process.lives(other)) else { return };
        let refused = process.identity() == of.after && process.program().is_ok_and(|program| program == of.program);
        if refused && of.thread != process.call.thread && process.may_execute(of.thread) {
            process.acts_as.set(Some(of.before));
            return;
        }
        if refused {
            // It is gone, or runs on as what it is.
            let _ = process.set_identity(of.before);
        }
        self.executing.change(|all| all.remove(&group), |_| true);
    }

    /// A script gets nothing of its file's owner, nor does a file that the kernel will not run and a shell then reads.
    fn is_program(&self, process: &Process<'_>, place: &super::process::Place) -> io::Result<bool> {
        let file = process.hold(place, true)?;
        let held = process.held(file.as_fd());
        let opened =
            rustix::fs::open(held.as_c_str(), OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
        let mut start = [0; 4];
        let got = std::fs::File::from(opened).read(&mut start)?;
        Ok(got == 4 && &start == b"\x7fELF")
    }

    /// The limit in which the identity is kept looks as it does to everybody: without bounds.
    pub(super) fn limit(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let wide = process.call.arch != I386 || call == Call::ProcessLimit;
        let infinite = |wide: bool| if wide { vec![0xff; 16] } else { vec![0xff; 8] };
        let old = match call {
            Call::ProcessLimit => process.argument(3),
            Call::GetLimit => process.argument(1),
            _ => 0,
        };
        if old != 0 {
            process.write(old, &infinite(wide))?;
        }
        Ok(Reply::Value(0).into())
    }
}

fn narrow(id: u32) -> u16 {
    u16::try_from(id).unwrap_or(OVERFLOW as u16)
}
