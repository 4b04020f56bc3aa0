//! `%pre` and `%setup`: scripts that run on the host, in this process's own namespaces.

use super::Error;
use super::interrupt::{AtInterrupt, Running};
use super::output::Output;
use super::request::{Ending, Outcome, StandardInput};
use crate::event::Observer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use std::ffi::OsString;
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// One program to run on the host.
#[derive(Clone, Debug)]
pub struct HostScript {
    /// `/bin/sh -ex …` with the path of a script file.
    pub argv: Vec<OsString>,
    /// All that it sees of variables: this process's own may hold secrets.
    pub environment: Vec<(OsString, OsString)>,
    /// Where `sifbuild` was called.
    pub working_directory: PathBuf,
    pub step: String,
    pub log: PathBuf,
    pub standard_input: StandardInput,
}

/// Runs it and waits for its end. What it leaves in the background lives on and holds nothing up.
pub fn host_script(script: &HostScript, observer: &dyn Observer) -> Result<Outcome, Error> {
    let program = script.argv.first().cloned().unwrap_or_default();
    let fail = |cause| Error::HostProgram { program: program.to_string_lossy().into_owned(), cause };
    let mut output = Output::new(observer, &script.step, &script.log)?;
    let (mut reader, writer) = io::pipe().map_err(fail)?;
    let leads_group = script.standard_input == StandardInput::Null;
    let mut command = Command::new(&program);
    command
        .args(script.argv.iter().skip(1))
        .env_clear()
        .envs(script.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&script.working_directory)
        .stdout(writer.try_clone().map_err(fail)?)
        .stderr(writer);
    if leads_group {
        // Why not with a terminal for input: a group in the background may not read from it.
        command.stdin(Stdio::null()).process_group(0);
    }
    let at_interrupt = if leads_group { AtInterrupt::KillGroup } else { AtInterrupt::Kill };
    let started = Instant::now();
    let mut child = Running::new(command.spawn().map_err(fail)?, at_interrupt);
    drop(command);
    let died = rustix::process::Pid::from_raw(child.id()).and_then(|id| pidfd_open(id, PidfdFlags::empty()).ok());
    copy_until_death(&mut reader, died.as_ref(), &mut output)?;
    let status = child.wait().map_err(fail)?;
    let (last_lines, last_command) = output.finish();
    let ending = match status.code() {
        Some(code) => Ending::Exited(code),
        None => Ending::Signaled(status.signal().unwrap_or(0)),
    };
    Ok(Outcome {
        ending,
        duration: started.elapsed(),
        last_lines,
        last_command,
        log: script.log.clone(),
        recorded: None,
    })
}

/// Reads to the end of the pipe, or until the program is dead and the pipe is drained.
fn copy_until_death(reader: &mut PipeReader, died: Option<&OwnedFd>, output: &mut Output<'_>) -> Result<(), Error> {
    let fail = |cause| Error::Helper { action: "read from", cause };
    let mut buffer = vec![0; 64 * 1024];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut dead = false;
    loop {
        let mut waits = vec![PollFd::new(&*reader, PollFlags::IN)];
        waits.extend(died.map(|descriptor| PollFd::new(descriptor, PollFlags::IN)));
        match poll(&mut waits, dead.then_some(&now)) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(fail(error.into())),
            Ok(_) => {}
        }
        let readable = !waits[0].revents().is_empty();
        dead |= waits.get(1).is_some_and(|wait| !wait.revents().is_empty());
        drop(waits);
        if readable {
            match reader.read(&mut buffer).map_err(fail)? {
                0 => return Ok(()),
                length => output.add(&buffer[..length])?,
            }
        } else if dead {
            return Ok(());
        }
    }
}

/// Gives this process, and what it starts, a name of the host that nobody else sees.
pub fn rename_host(name: &str) -> nix::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS)?;
    nix::unistd::sethostname(name)
}
