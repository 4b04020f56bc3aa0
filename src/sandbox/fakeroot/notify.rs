//! The kernel's side of the supervision, as safe functions: installing the filter, notifications and their answers, and
//! the few calls on another process that no crate wraps.
//!
//! Sources: seccomp(2), seccomp_unotify(2), `include/uapi/linux/seccomp.h`, prlimit(2), statx(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` (Linux 6.6): the answer puts its process on this CPU.
const SYNC_WAKE_UP: u64 = 1;
/// Size of `struct statx`.
const STATX_SIZE: usize = 256;
/// Spec: x86-64 and aarch64 number it alike in no table; libc knows each.
const LIMIT_OF_LOCKS: libc::c_int = libc::RLIMIT_LOCKS as libc::c_int;

/// A system call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    pub id: u64,
    /// Thread, in the supervisor's pid namespace.
    pub thread: u32,
    pub number: i32,
    /// `AUDIT_ARCH_…`.
    pub arch: u32,
    pub arguments: [u64; 6],
}

/// What the process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The kernel performs the call as if nobody had asked.
    Continue,
    Value(i64),
    Errno(i32),
}

/// Installs `program` for this thread and all that it starts; gives the descriptor at which its calls arrive, and whether a call that is being
/// answered is never repeated because of a signal.
///
/// The caller has `CAP_SYS_ADMIN` in its user namespace; `no_new_privs` is not set, so that setuid programs work.
pub fn install(program: &[libc::sock_filter]) -> io::Result<(OwnedFd, bool)> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let description = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let usual = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // Compat: WAIT_KILLABLE_RECV came with Linux 5.19; it keeps signals from repeating a call that is being answered.
    let patient = usual | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    for flags in [patient, usual] {
        // SAFETY: `description` and the program that it points to live through the call; the kernel copies and checks both.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER as libc::c_uint,
                flags,
                &raw const description,
            )
        };
        if result >= 0 {
            // SAFETY: the kernel has just made this descriptor for this process.
            return Ok((unsafe { OwnedFd::from_raw_fd(result as i32) }, flags == patient));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Waits for the next call. `ENOENT`: its process is gone already, ask again.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    // SAFETY: plain numbers, for which zero is a value; the kernel demands zeroes.
    let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request writes one `seccomp_notif`, whose size is part of its number, to a place that is one.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut raw) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Notification { id: raw.id, thread: raw.pid, number: raw.data.nr, arch: raw.data.arch, arguments: raw.data.args })
}

/// Answers. `ENOENT`: the process was killed or its call interrupted meanwhile.
pub fn send(listener: BorrowedFd<'_>, id: u64, reply: Reply) -> io::Result<()> {
    let (val, error, flags) = match reply {
        Reply::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Reply::Value(value) => (value, 0, 0),
        Reply::Errno(errno) => (0, -errno, 0),
    };
    let mut raw = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: the request reads one `seccomp_notif_resp` from a place that is one.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut raw) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the call still waits: what was read of the process since it came is then the process's own.
pub fn is_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the request reads one u64 from a place that is one.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &raw const id) == 0 }
}

/// Gives the process a copy of `descriptor` as the answer to its call.
pub fn send_descriptor(
    listener: BorrowedFd<'_>,
    id: u64,
    descriptor: BorrowedFd<'_>,
    close_on_exec: bool,
) -> io::Result<()> {
    let mut raw = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: descriptor.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    let add = |raw: &mut libc::seccomp_notif_addfd| {
        // SAFETY: the request reads one `seccomp_notif_addfd` from a place that is one.
        let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD as _, &raw mut *raw) };
        if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error()) }
    };
    match add(&mut raw) {
        // Compat: both in one step since Linux 5.14.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            raw.flags = 0;
            let number = add(&mut raw)?;
            send(listener, id, Reply::Value(i64::from(number)))
        }
        other => other.map(|_| ()),
    }
}

/// Whether adding a descriptor and answering is one step (Linux 5.14). No call waits, so the flag is judged before the call is looked for.
pub fn sends_descriptors_at_once(listener: BorrowedFd<'_>) -> bool {
    let raw = libc::seccomp_notif_addfd {
        id: u64::MAX,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: 0,
        newfd: 0,
        newfd_flags: 0,
    };
    // SAFETY: the request reads one `seccomp_notif_addfd` from a place that is one.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD as _, &raw const raw) };
    result < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL)
}

/// Whether answers put their process on this CPU: cheapest for one busy process, ruinous for several.
pub fn wake_in_place(listener: BorrowedFd<'_>, yes: bool) -> io::Result<()> {
    let flags: u64 = if yes { SYNC_WAKE_UP } else { 0 };
    // SAFETY: the request takes its number by value.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes this process's own bound off the limit in which identities are kept. `EPERM`: the host bounds it for good.
pub fn free_lock_limit() -> io::Result<()> {
    if lock_limit(0)? == libc::RLIM64_INFINITY { Ok(()) } else { set_lock_limit(0, libc::RLIM64_INFINITY) }
}

/// The soft limit of file locks of a process, which no kernel since 2.4 has used.
pub fn lock_limit(process: u32) -> io::Result<u64> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads nothing, writes one `rlimit64` to a place that is one.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            process as libc::pid_t,
            LIMIT_OF_LOCKS,
            std::ptr::null::<libc::rlimit64>(),
            &raw mut old,
        )
    };
    if result == 0 { Ok(old.rlim_cur) } else { Err(io::Error::last_os_error()) }
}

pub fn set_lock_limit(process: u32, soft: u64) -> io::Result<()> {
    let new = libc::rlimit64 { rlim_cur: soft, rlim_max: libc::RLIM64_INFINITY };
    // SAFETY: reads one `rlimit64` from a place that is one, writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            process as libc::pid_t,
            LIMIT_OF_LOCKS,
            &raw const new,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads on in an open directory: entries as the kernel writes them, and how many bytes they take. 0: there are no more.
pub fn list(directory: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most as many bytes as the buffer, whose length is given, has.
    let result = unsafe {
        libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len() as libc::c_uint)
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `statx` relative to the working directory: the structure as the kernel writes it, which is the same for every architecture.
pub fn statx(path: &CStr, flags: i32, mask: u32) -> io::Result<[u8; STATX_SIZE]> {
    statx_at(libc::AT_FDCWD, path, flags, mask)
}

/// The same of an open file.
pub fn statx_of(file: BorrowedFd<'_>) -> io::Result<[u8; STATX_SIZE]> {
    statx_at(file.as_raw_fd(), c"", libc::AT_EMPTY_PATH, super::status::MASK)
}

fn statx_at(directory: i32, path: &CStr, flags: i32, mask: u32) -> io::Result<[u8; STATX_SIZE]> {
    let mut buffer = [0; STATX_SIZE];
    // SAFETY: `path` ends with NUL; the kernel writes one `struct statx`, which is as long as the buffer and has no alignment of its own
    // to the kernel's copy.
    let result = unsafe { libc::syscall(libc::SYS_statx, directory, path.as_ptr(), flags, mask, buffer.as_mut_ptr()) };
    if result == 0 { Ok(buffer) } else { Err(io::Error::last_os_error()) }
}
