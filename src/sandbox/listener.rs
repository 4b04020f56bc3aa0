//! Whether the kernel gives a listener for system calls (seccomp_unotify(2)), tried.
//!
//! Why `unsafe` here: neither `libc` nor `nix` wraps the call and its requests. Every pointer passed is to a value that lives
//! through the call and has the size that the kernel expects; what comes back is owned at once.

use crate::doctor::{Listener, Refused};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
const SYNC_WAKE_UP: u64 = 1;
const ADDFD_SEND: u32 = 1 << 1;

/// `struct seccomp_notif_addfd` (Linux 5.14).
#[repr(C)]
struct AddDescriptor {
    id: u64,
    flags: u32,
    source: u32,
    target: u32,
    target_flags: u32,
}

/// Requests of `_IOW('!', number, type)`.
const fn request(number: u64, size: usize) -> libc::c_ulong {
    1 << 30 | (size as libc::c_ulong) << 16 | (b'!' as libc::c_ulong) << 8 | number as libc::c_ulong
}

/// Tries in this process, which has a filter from then on that allows everything: only in a child that ends at once.
pub fn try_listener() -> Listener {
    let none = |errno: i32| Listener {
        obtained: Err(Refused { action: "listen to system calls (seccomp)".to_owned(), errno }),
        wait_killable: false,
        sync_wake_up: false,
        add_and_send: false,
    };
    if let Err(errno) = nix::sys::prctl::set_no_new_privs() {
        return none(errno as i32);
    }
    let (listener, wait_killable) = match install(WAIT_KILLABLE_RECV).map(|listener| (listener, true)) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => match install(0) {
            Ok(listener) => (listener, false),
            Err(error) => return none(error.raw_os_error().unwrap_or(libc::EIO)),
        },
        Err(error) => return none(error.raw_os_error().unwrap_or(libc::EIO)),
        Ok(installed) => installed,
    };
    Listener {
        obtained: Ok(()),
        wait_killable,
        sync_wake_up: accepts_sync_wake_up(&listener),
        add_and_send: accepts_add_and_send(&listener),
    }
}

/// A filter of one instruction: everything is allowed.
fn install(flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let allow = libc::SECCOMP_RET_ALLOW;
    let mut instruction = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: allow };
    let program = libc::sock_fprog { len: 1, filter: &raw mut instruction };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | flags;
    // SAFETY: see the module; the kernel copies the program.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match i32::try_from(result) {
        // SAFETY: the kernel made this descriptor a moment ago, and nobody else knows its number.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn accepts_sync_wake_up(listener: &OwnedFd) -> bool {
    // SAFETY: this request takes its flags by value.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), request(4, size_of::<u64>()) as _, SYNC_WAKE_UP) };
    result == 0
}

/// No call waits, so the flag is known when the kernel looks for the call at all.
fn accepts_add_and_send(listener: &OwnedFd) -> bool {
    let add = AddDescriptor { id: u64::MAX, flags: ADDFD_SEND, source: 0, target: 0, target_flags: 0 };
    // SAFETY: see the module.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), request(3, size_of::<AddDescriptor>()) as _, &raw const add) };
    result < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL)
}
