//! The parent's side of a run: start the sandbox process, pass its output on, hear its answer.

use super::output::Output;
use super::request::{Answer, Failure, Outcome, Request, Run, StandardInput};
use super::{Error, interrupt, role};
use crate::disk;
use crate::event::Observer;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use std::fs::File;
use std::io::{self, IoSlice, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// Runs a program in its root and waits for its end. A program that fails is an [`Outcome`], not an error.
///
/// Only after [`enter`](super::enter), with [`role`](super::role) called first in `main`. May be called from several threads at
/// once, for different roots.
pub fn run(run: &Run, observer: &dyn Observer) -> Result<Outcome, Error> {
    let fail = |action| move |cause| Error::Helper { action, cause };
    let session = tempfile::Builder::new().prefix("run-").tempdir_in(&run.temporary).map_err(fail("prepare"))?;
    let registered = disk::register(session.path());
    let result = supervise(run, session.path(), observer);
    // Files of subordinate owners may lie in /tmp: not every removal can do that.
    disk::remove_tree(session.path())?;
    let _ = session.keep();
    drop(registered);
    result
}

fn supervise(run: &Run, session: &Path, observer: &dyn Observer) -> Result<Outcome, Error> {
    let fail = |action| move |cause| Error::Helper { action, cause };
    let mut output = match run.interactive {
        true => None,
        false => Some(Output::new(observer, &run.step, &run.log)?),
    };
    let input = program_input(run).map_err(fail("prepare"))?;
    if run.interactive {
        interrupt::lend_terminal();
    }
    let (socket, theirs) = UnixStream::pair().map_err(fail("prepare"))?;
    let (child, reader) = start(theirs, run.interactive).map_err(fail("start"))?;
    let mut guard = interrupt::Running::new(child, interrupt::AtInterrupt::Kill);
    let request = Request { run: run.clone(), parent: std::process::id() as i32, session: session.to_path_buf() };
    let sent = send(&socket, &request, &input);
    if sent.is_ok() {
        drop(input);
        if let Some(output) = &mut output {
            copy_output(reader, output)?;
        }
    }
    let mut bytes = Vec::new();
    let heard = (&socket).take(role::LONGEST_MESSAGE).read_to_end(&mut bytes);
    let status = guard.wait().map_err(fail("wait for"))?;
    if run.interactive {
        interrupt::take_terminal_back();
    }
    sent.map_err(fail("talk to"))?;
    heard.map_err(fail("hear from"))?;
    let answer = serde_json::from_slice(&bytes).map_err(|_| Error::HelperDied { status: status.to_string() })?;
    let (last_lines, last_command) = output.map(Output::finish).unwrap_or_default();
    match answer {
        Answer::Finished { ending, milliseconds, recorded } => Ok(Outcome {
            ending,
            duration: Duration::from_millis(milliseconds),
            last_lines,
            last_command,
            log: run.log.clone(),
            recorded,
        }),
        Answer::Failed(failure) => Err(failure.into()),
    }
}

/// Its standard input is the socket, its output what the program's will be.
///
/// Its environment is empty: a script can read it in `/proc`, and ours may hold passphrases.
fn start(socket: UnixStream, interactive: bool) -> io::Result<(Child, PipeReader)> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(role::NAME).env_clear().stdin(OwnedFd::from(socket));
    if !interactive {
        command.stdout(writer.try_clone()?).stderr(writer);
    }
    Ok((command.spawn()?, reader))
}

fn program_input(run: &Run) -> io::Result<OwnedFd> {
    match run.standard_input {
        StandardInput::Inherit => io::stdin().as_fd().try_clone_to_owned(),
        StandardInput::Null => Ok(File::open("/dev/null")?.into()),
    }
}

fn send(socket: &UnixStream, request: &Request, input: &OwnedFd) -> io::Result<()> {
    let descriptors = [input.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(&[1])], &control, MsgFlags::MSG_NOSIGNAL, None)?;
    let bytes = serde_json::to_vec(request)?;
    let mut socket = socket;
    socket.write_all(&(bytes.len() as u64).to_le_bytes())?;
    socket.write_all(&bytes)
}

fn copy_output(mut reader: PipeReader, output: &mut Output<'_>) -> Result<(), Error> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => output.add(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(Error::Helper { action: "read from", cause }),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Operation { operation, errno } => Error::operation(operation, errno),
            Failure::Exec { program, errno } => Error::exec(program, errno),
        }
    }
}
