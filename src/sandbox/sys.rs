//! The system calls that have no safe wrapper. Besides this file only `fakeroot/notify.rs` says `unsafe`, for the notifications of seccomp.

use nix::sys::signal::{SigHandler, Signal};
use nix::unistd::ForkResult;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Whether this is the only thread of the process; when it cannot be told, no.
pub fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Forks. Invariant: the caller is single-threaded, so that the child may do whatever the parent may.
pub fn fork() -> nix::Result<ForkResult> {
    // SAFETY: `enter` checks for a single thread first, and the role is a fresh process that starts none; so no lock
    // can be held by a thread that the child lacks.
    unsafe { nix::unistd::fork() }
}

/// Forks a child that is process 1 of a new pid namespace. Unlike after `unshare`, the caller may still start threads.
pub fn fork_into_pid_namespace() -> io::Result<ForkResult> {
    let flags = libc::c_long::from(libc::CLONE_NEWPID | libc::SIGCHLD);
    // SAFETY: without a stack of its own and with nothing shared, clone is fork; the caller is single-threaded (see `fork`), so no lock of
    // the C library needs a handler that only its own `fork` would run.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(ForkResult::Child),
        child => Ok(ForkResult::Parent { child: nix::unistd::Pid::from_raw(child as i32) }),
    }
}

/// Sets the default disposition.
pub fn default_signal(signal: Signal) -> nix::Result<()> {
    // SAFETY: no handler function is involved.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.map(|_| ())
}

pub fn ignore_signal(signal: Signal) -> nix::Result<()> {
    // SAFETY: no handler function is involved.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }.map(|_| ())
}

/// Makes a mount and all below it read-only (Linux 5.12 or later, else `ENOSYS`).
pub fn make_mounts_read_only(place: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a NUL-terminated constant, `attributes` lives through the call and its true size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            place.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Marks every descriptor above the standard three to be closed by exec.
pub fn close_descriptors_on_exec() {
    // SAFETY: marks numbers only; nothing is closed under its owner.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3 as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    if result == 0 {
        return;
    }
    // Compat: kernels before 5.11.
    for descriptor in 3..4096 {
        // SAFETY: sets a flag on a number; one that is not open gives EBADF.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Takes over a descriptor that has just come in a message.
pub fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel made it for this process a moment ago, and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
