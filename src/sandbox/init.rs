//! Process 1 of a container: finishes the mounts, starts the program, reaps, ends with it.

use super::mounts::{Mounts, remount};
use super::request::{Answer, Ending, Failure, Run};
use super::{fakeroot, supervise, sys};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, execve, fchdir, pivot_root, setgroups, setpgid, tcsetpgrp};
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

/// Never returns; the answer goes to `report`.
pub fn run(run: &Run, mounts: &Mounts, supervisor: Option<&UnixStream>, mut report: PipeWriter) -> ! {
    let answer = perform(run, mounts, supervisor, &mut report).unwrap_or_else(Answer::Failed);
    send(&mut report, &answer);
    supervise::exit(0)
}

fn perform(
    run: &Run,
    mounts: &Mounts,
    supervisor: Option<&UnixStream>,
    report: &mut PipeWriter,
) -> Result<Answer, Failure> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| Failure::new("follow the parent", errno))?;
    mount_proc(mounts)?;
    pivot(run, mounts).map_err(|error| Failure::new("make the container's root the root", error))?;
    let started = Instant::now();
    let program = match sys::fork().map_err(|errno| Failure::new("fork", errno))? {
        ForkResult::Child => {
            let failure = execute(run, supervisor);
            send(report, &Answer::Failed(failure));
            supervise::exit(127)
        }
        ForkResult::Parent { child } => child,
    };
    let ending = reap_until_end_of(program);
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Answer::Finished { ending, milliseconds, recorded: None })
}

fn mount_proc(mounts: &Mounts) -> Result<(), Failure> {
    // Invariant: before the old root goes; a user namespace may mount proc only while another one is visible.
    let place = format!("/proc/self/fd/{}", mounts.proc.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), place.as_str(), Some("proc"), flags, None::<&str>)
        // Where an outer container masks parts of proc, the kernel refuses a whole one: show that same one.
        .or_else(|_| {
            mount(Some("/proc"), place.as_str(), None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        })
        .map_err(|errno| Failure::new("mount /proc of the container", errno))
}

fn pivot(run: &Run, mounts: &Mounts) -> io::Result<()> {
    fchdir(mounts.targets.root())?;
    // Spec: pivot_root(2): stacks the old root over the new one, from where it is taken away.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    if run.read_only_root {
        // The root's own mount only: private directories and binds in it stay writable.
        remount(&mounts.targets.root().try_clone_to_owned()?, "/", MsFlags::MS_RDONLY)?;
    }
    Ok(())
}

/// Orphans come to process 1. When it ends, the kernel kills what is left, daemons included.
fn reap_until_end_of(program: Pid) -> Ending {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => return Ending::Exited(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => return Ending::Signaled(signal as i32),
            Err(Errno::ECHILD) => return Ending::Exited(1),
            _ => {}
        }
    }
}

/// Returns only when the program could not be started.
fn execute(run: &Run, supervisor: Option<&UnixStream>) -> Failure {
    let name = run.argv.first().map(OsString::as_os_str).unwrap_or_default();
    let (arguments, environment) = match prepare(run) {
        Ok(prepared) => prepared,
        Err(failure) => return failure,
    };
    if let (Some(fakeroot), Some(socket)) = (&run.fakeroot, supervisor)
        && let Err(error) = fakeroot::submit(fakeroot.scope, socket)
    {
        return Failure::new("have system calls answered (seccomp user notification)", error);
    }
    let mut last = Errno::ENOENT;
    for candidate in candidates(name, run) {
        let Err(errno) = execve(&candidate, &arguments, &environment);
        // As execvp(3): a later directory of the path is tried, but the telling error is kept.
        if errno != Errno::ENOENT || last == Errno::ENOENT {
            last = errno;
        }
    }
    Failure::Exec { program: name.to_string_lossy().into_owned(), errno: last as i32 }
}

/// Everything that the program inherits is set or reset here.
fn prepare(run: &Run) -> Result<(Vec<CString>, Vec<CString>), Failure> {
    let strings = |what: &str, strings: Vec<Vec<u8>>| {
        strings
            .into_iter()
            .map(CString::new)
            .collect::<Result<Vec<CString>, _>>()
            .map_err(|_| Failure::new(format!("pass {what} that contains a NUL byte"), Errno::EINVAL))
    };
    let arguments = strings("an argument", run.argv.iter().map(|argument| argument.as_bytes().to_vec()).collect())?;
    let pair = |(name, value): &(OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    let environment = strings("a variable", run.environment.iter().map(pair).collect())?;
    // Groups of the host mean nothing in the container. With a single id they cannot be given up.
    let _ = setgroups(&[]);
    umask(Mode::from_bits_truncate(run.umask));
    chdir(&run.working_directory)
        .map_err(|errno| Failure::new(format!("enter the directory {}", run.working_directory.display()), errno))?;
    if run.interactive {
        take_terminal();
    }
    // Rust ignores SIGPIPE; pipelines in scripts need it.
    let _ = sys::default_signal(Signal::SIGPIPE);
    let _ = SigSet::empty().thread_set_mask();
    sys::close_descriptors_on_exec();
    Ok((arguments, environment))
}

/// A shell with job control wants to be the terminal's foreground group; without a terminal nothing happens.
fn take_terminal() {
    let own = nix::unistd::getpid();
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    let _ = sys::ignore_signal(Signal::SIGTTOU);
    let _ = tcsetpgrp(io::stdin(), own);
    let _ = sys::default_signal(Signal::SIGTTOU);
}

fn candidates(name: &OsStr, run: &Run) -> Vec<CString> {
    let path = run.environment.iter().find(|(variable, _)| variable == "PATH").map(|(_, value)| value.as_bytes());
    let directories = path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let paths: Vec<Vec<u8>> = match name.as_bytes().contains(&b'/') {
        true => vec![name.as_bytes().to_vec()],
        false => directories
            .split(|byte| *byte == b':')
            .map(|directory| Path::new(OsStr::from_bytes(directory)).join(name).into_os_string().into_encoded_bytes())
            .collect(),
    };
    paths.into_iter().filter_map(|path| CString::new(path).ok()).collect()
}

fn send(report: &mut PipeWriter, answer: &Answer) {
    let bytes = serde_json::to_vec(answer).unwrap_or_default();
    // Nobody is left to hear of a failure here; the parent then tells the exit status.
    let _ = report.write_all(&bytes);
}
