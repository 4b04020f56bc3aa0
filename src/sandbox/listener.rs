//! Whether the kernel gives a listener for system calls (seccomp_unotify(2)), tried with what the fakeroot itself uses.

use super::fakeroot::notify;
use crate::doctor::{Listener, Refused};
use std::os::fd::AsFd;

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
    // One instruction: everything is allowed.
    let allow =
        libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let (listener, wait_killable) = match notify::install(&[allow]) {
        Ok(installed) => installed,
        Err(error) => return none(error.raw_os_error().unwrap_or(libc::EIO)),
    };
    Listener {
        obtained: Ok(()),
        wait_killable,
        sync_wake_up: notify::wake_in_place(listener.as_fd(), true).is_ok(),
        add_and_send: notify::sends_descriptors_at_once(listener.as_fd()),
    }
}
