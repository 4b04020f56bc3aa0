//! Ctrl-C, SIGTERM and SIGHUP: kill what runs, remove what is temporary, end.

use crate::disk;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, tcsetpgrp};
use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const HANDLED: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// How long killed processes may take to go before their directories are removed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Children that run now.
static RUNNING: Mutex<BTreeMap<i32, AtInterrupt>> = Mutex::new(BTreeMap::new());
/// Settings of the terminal, while an interactive program has it.
static LENT: Mutex<Option<Termios>> = Mutex::new(None);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Call in `main` after [`enter`](super::enter) and before other threads start. From then on a signal ends the process with
/// 128 and its number, after `announce` (with the signal's name), with nothing left running and nothing temporary left.
pub fn install(announce: impl Fn(&str) + Send + 'static) -> io::Result<()> {
    let signals: SigSet = HANDLED.into_iter().collect();
    signals.thread_block()?;
    std::thread::Builder::new().name("signals".to_string()).spawn(move || {
        if let Ok(signal) = signals.wait() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            end_all(signal);
            take_terminal_back();
            announce(signal.as_str());
            disk::remove_registered();
            std::process::exit(128 + signal as i32);
        }
    })?;
    Ok(())
}

/// Runs a program that removes at a signal itself what it made: an interrupt is passed to it, and its end awaited.
pub fn run_informed(command: &mut Command) -> io::Result<ExitStatus> {
    Running::new(command.spawn()?, AtInterrupt::Pass).wait()
}

/// What an interrupt is for a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtInterrupt {
    Kill,
    /// It leads a process group of its own.
    KillGroup,
    /// It gets the same signal.
    Pass,
}

/// A child that ends when the process is interrupted, and dies when this is dropped.
pub(super) struct Running {
    child: Child,
    at_interrupt: AtInterrupt,
    waited: bool,
}

impl Running {
    pub fn new(child: Child, at_interrupt: AtInterrupt) -> Running {
        running().insert(child.id() as i32, at_interrupt);
        Running { child, at_interrupt, waited: false }
    }

    pub fn id(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        // Invariant: off the list before it is reaped, so that no other process with its number is ever killed.
        wait_until_dead(self.id());
        running().remove(&self.id());
        self.waited = true;
        let status = self.child.wait();
        if INTERRUPTED.load(Ordering::SeqCst) {
            // The signal's thread is about to end the process; an error told by this thread would only mislead.
            loop {
                std::thread::park();
            }
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited {
            kill_one(self.id(), self.at_interrupt);
            let _ = self.wait();
        }
    }
}

/// Before an interactive program is the terminal's foreground group: its settings are kept.
pub(super) fn lend_terminal() {
    *lent() = tcgetattr(io::stdin()).ok();
}

/// After that: the terminal is this process's again, with the settings that it had.
pub(super) fn take_terminal_back() {
    let Some(settings) = lent().take() else { return };
    // A process in the background is stopped by SIGTTOU when it asks, unless the signal is blocked.
    let signal: SigSet = [Signal::SIGTTOU].into_iter().collect();
    if let Ok(old) = signal.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK) {
        let _ = tcsetpgrp(io::stdin(), getpgrp());
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &settings);
        let _ = old.thread_set_mask();
    }
}

fn lent() -> MutexGuard<'static, Option<Termios>> {
    LENT.lock().unwrap_or_else(|poison| poison.into_inner())
}

fn end_all(signal: Signal) {
    for (id, at_interrupt) in running().iter() {
        match at_interrupt {
            AtInterrupt::Pass => drop(kill(Pid::from_raw(*id), signal)),
            other => kill_one(*id, *other),
        }
    }
    let started = Instant::now();
    let is_awaited = |other: &AtInterrupt| *other == AtInterrupt::Pass || started.elapsed() < PATIENCE;
    while running().values().any(is_awaited) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill_one(id: i32, at_interrupt: AtInterrupt) {
    let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
    if at_interrupt == AtInterrupt::KillGroup {
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
}

fn wait_until_dead(id: i32) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    while let Err(nix::errno::Errno::EINTR) =
        waitid(Id::Pid(Pid::from_raw(id)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
    {}
}

fn running() -> MutexGuard<'static, BTreeMap<i32, AtInterrupt>> {
    RUNNING.lock().unwrap_or_else(|poison| poison.into_inner())
}
