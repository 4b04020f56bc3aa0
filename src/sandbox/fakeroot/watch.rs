//! The threads: a call comes, it is answered, the process goes on.
//!
//! One thread waits. Others help only while calls queue up: every waiting thread would be woken by every call. The answer either puts
//! its process on this thread's processor (cheapest while one process is busy: 10 instead of 40 microseconds a call) or leaves it where it is
//! (several processes would queue up for one processor); which of the two is looked at anew every few milliseconds. Measured on Linux 6.18 with two
//! processors.

use super::notify;
use super::process::Outside;
use super::supervisor::Supervisor;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{Mode, OFlags};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Beyond this the kernel's own lock on the queue is what counts.
const MOST_HELPERS: usize = 3;
/// Calls between two looks at the queue.
const BETWEEN_LOOKS: u32 = 8;
/// Time between two looks at who else runs.
const INTERVAL: Duration = Duration::from_millis(8);
/// Threads that called last, among whom is looked.
const RECENT: usize = 16;

/// Shared by the threads of one run.
pub struct Watch {
    pub supervisor: Arc<Supervisor>,
    listener: OwnedFd,
    proc: OwnedFd,
    /// Threads that are answering right now.
    busy: AtomicUsize,
    backlog: Mutex<bool>,
    more: Condvar,
}

impl Watch {
    pub fn new(supervisor: Arc<Supervisor>, listener: OwnedFd, proc: OwnedFd) -> Watch {
        Watch {
            supervisor,
            listener,
            proc,
            busy: AtomicUsize::new(0),
            backlog: Mutex::new(false),
            more: Condvar::new(),
        }
    }

    /// Answers until no process is left that could call. `here` is where this thread stands.
    pub fn run(self: &Arc<Watch>, here: &Outside) {
        let _guard = AbortOnPanic;
        let helpers = thread::available_parallelism().map_or(1, |count| count.get() - 1).clamp(1, MOST_HELPERS);
        let mut helping = false;
        let mut wake = WakeUp::new(self);
        let mut until_look = BETWEEN_LOOKS;
        while let Some(thread) = self.next(here) {
            wake.called(thread);
            until_look -= 1;
            if until_look == 0 {
                until_look = BETWEEN_LOOKS;
                // One busy process has its next call waiting each time that this thread comes to look.
                if !wake.in_place && self.is_waiting() {
                    if !helping {
                        helping = true;
                        self.start_helpers(helpers, here);
                    }
                    *self.backlog.lock().expect("no thread panics here") = true;
                    self.more.notify_one();
                }
                wake.adapt();
            }
        }
    }

    /// Once the last process has ended: waits for answers that nobody hears any more but which may still change files.
    pub fn settle(&self) {
        let started = Instant::now();
        while self.busy.load(Ordering::SeqCst) > 0 && started.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for a call and answers it; gives who called. `None`: there is nobody left.
    fn next(&self, here: &Outside) -> Option<u32> {
        loop {
            match notify::receive(self.listener.as_fd()) {
                Ok(call) => {
                    self.busy.fetch_add(1, Ordering::SeqCst);
                    self.supervisor.serve(self.listener.as_fd(), call, here);
                    self.busy.fetch_sub(1, Ordering::SeqCst);
                    return Some(call.thread);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENOENT) if !self.is_deserted() => {}
                    Some(libc::EINTR) => {}
                    _ => return None,
                },
            }
        }
    }

    fn events(&self) -> PollFlags {
        let mut polled = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut polled, PollTimeout::ZERO);
        polled[0].revents().unwrap_or(PollFlags::empty())
    }

    fn is_waiting(&self) -> bool {
        self.events().contains(PollFlags::POLLIN)
    }

    fn is_deserted(&self) -> bool {
        self.events().contains(PollFlags::POLLHUP)
    }

    fn start_helpers(self: &Arc<Watch>, count: usize, here: &Outside) {
        for _ in 0..count {
            let watch = self.clone();
            let single = here.single;
            let Ok(proc) = self.proc.try_clone() else { return };
            // Where the host allows no more threads, one does.
            let _ = thread::Builder::new().spawn(move || {
                if let Ok(here) = Outside::enter(proc, single) {
                    watch.help(&here);
                }
            });
        }
    }

    fn help(&self, here: &Outside) {
        let _guard = AbortOnPanic;
        loop {
            let mut backlog = self.backlog.lock().expect("no thread panics here");
            while !*backlog {
                backlog = self.more.wait(backlog).expect("no thread panics here");
            }
            *backlog = false;
            drop(backlog);
            while self.is_waiting() {
                if self.next(here).is_none() {
                    return;
                }
            }
        }
    }
}

/// Invariant: a thread that panics takes the process with it. Otherwise the process that it was answering would wait for ever; so the kernel kills
/// the container, and the build says that its sandbox died.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Which of the two ways to wake a process is in use.
struct WakeUp<'a> {
    watch: &'a Watch,
    in_place: bool,
    available: bool,
    recent: VecDeque<u32>,
    looked: Instant,
    /// Of 256: how often others were found running of late.
    crowd: u32,
}

impl WakeUp<'_> {
    fn new(watch: &Watch) -> WakeUp<'_> {
        // Compat: since Linux 6.6.
        let available = notify::wake_in_place(watch.listener.as_fd(), true).is_ok();
        WakeUp { watch, in_place: available, available, recent: VecDeque::new(), looked: Instant::now(), crowd: 0 }
    }

    fn called(&mut self, thread: u32) {
        if self.recent.front() != Some(&thread) {
            self.recent.retain(|known| *known != thread);
            self.recent.push_front(thread);
            self.recent.truncate(RECENT);
        }
    }

    fn adapt(&mut self) {
        if !self.available || self.looked.elapsed() < INTERVAL {
            return;
        }
        self.looked = Instant::now();
        // The caller of the moment runs anyway: who else would?
        let others = self.recent.iter().skip(1).any(|thread| self.is_running(*thread));
        self.crowd = (self.crowd * 3 + if others { 256 } else { 0 }) / 4;
        let in_place = self.crowd < 128;
        if in_place != self.in_place && notify::wake_in_place(self.watch.listener.as_fd(), in_place).is_ok() {
            self.in_place = in_place;
        }
    }

    /// Spec: proc_pid_stat(5): the state stands behind the name, which ends with the last parenthesis.
    fn is_running(&self, thread: u32) -> bool {
        let read = || -> io::Result<bool> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&self.watch.proc, format!("{thread}/stat"), flags, Mode::empty())?;
            let mut text = [0; 128];
            let length = std::fs::File::from(file).read(&mut text)?;
            let text = &text[..length];
            let state = text.iter().rposition(|byte| *byte == b')').and_then(|end| text.get(end + 2));
            Ok(state == Some(&b'R'))
        };
        read().unwrap_or(false)
    }
}
