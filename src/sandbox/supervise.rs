//! The outer process: nothing but signals in, exit code out.

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

const FORWARDED: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Blocks what will be forwarded; gives the mask as it was.
pub fn block_signals() -> nix::Result<SigSet> {
    let old = SigSet::thread_get_mask()?;
    watched().thread_block()?;
    Ok(old)
}

pub fn restore_signals(old: &SigSet) {
    let _ = old.thread_set_mask();
}

/// Passes signals to `child` until it ends, then ends with its code, or 128 and the number of its signal.
pub fn until_exit(child: Pid) -> ! {
    let Ok(signals) = SignalFd::new(&watched()) else { exit(wait_for(child)) };
    loop {
        if let Ok(Some(information)) = signals.read_signal() {
            match Signal::try_from(information.ssi_signo as i32) {
                // A signal from the terminal has reached the child already: it is in the same process group.
                Ok(signal) if signal != Signal::SIGCHLD && information.ssi_code != libc::SI_KERNEL => {
                    let _ = kill(child, signal);
                }
                _ => {}
            }
        }
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(status @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..))) => exit(code(status)),
            Err(nix::errno::Errno::ECHILD) => exit(1),
            _ => {}
        }
    }
}

/// Waits for the end of `child` and gives its code.
pub fn wait_for(child: Pid) -> i32 {
    loop {
        match waitpid(child, None) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(status) => return code(status),
            Err(_) => return 1,
        }
    }
}

/// Ends the process.
pub fn exit(code: i32) -> ! {
    std::process::exit(code)
}

fn code(status: WaitStatus) -> i32 {
    match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 1,
    }
}

fn watched() -> SigSet {
    FORWARDED.into_iter().chain([Signal::SIGCHLD]).collect()
}
