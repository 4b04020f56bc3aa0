//! The sandbox process: one straight line from its request to its answer.

use super::mounts::Mounts;
use super::request::{Answer, Ending, Failure, Request, Root};
use super::{fakeroot, init, root, supervise, sys};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::unistd::{ForkResult, getppid};
use std::ffi::OsString;
use std::io::{self, IoSliceMut, PipeReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// `argv[0]` of the sandbox process.
pub(super) const NAME: &str = "sifbuild-sandbox";

/// Answers are a few hundred bytes, requests some kilobytes and the script.
pub(super) const LONGEST_MESSAGE: u64 = 256 << 20;

/// Call first in `main`. When this process was started as the sandbox, plays that part and gives the exit code.
pub fn role(argv: impl IntoIterator<Item = OsString>) -> Option<i32> {
    if argv.into_iter().next()? != NAME {
        return None;
    }
    let socket = nix::unistd::dup(io::stdin()).ok().map(UnixStream::from)?;
    let received = receive(&socket).and_then(|(request, input)| {
        // Closing the last copy of the socket must tell the parent, so it must not outlive this process in another.
        nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        nix::unistd::dup2_stdin(&input)?;
        Ok(request)
    });
    let answer = match received {
        Ok(request) => perform(&request).unwrap_or_else(Answer::Failed),
        Err(error) => Answer::Failed(Failure::new("read the request", error)),
    };
    let bytes = serde_json::to_vec(&answer).unwrap_or_default();
    Some(i32::from((&socket).write_all(&bytes).is_err()))
}

/// One byte that carries the standard input of the program, the length, the request.
fn receive(socket: &UnixStream) -> io::Result<(Request, OwnedFd)> {
    let mut byte = [0];
    let mut control = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let input = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let input = input.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let input = sys::own(input);
    let mut length = [0; 8];
    (&mut &*socket).read_exact(&mut length)?;
    let mut bytes = Vec::new();
    socket.take(u64::from_le_bytes(length).min(LONGEST_MESSAGE)).read_to_end(&mut bytes)?;
    Ok((serde_json::from_slice(&bytes)?, input))
}

fn perform(request: &Request) -> Result<Answer, Failure> {
    // Invariant: when the parent dies, so does this process, then init, then by the kernel all of the pid namespace.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| Failure::new("follow the parent", errno))?;
    if getppid().as_raw() != request.parent {
        return Err(Failure::new("follow the parent", nix::errno::Errno::ESRCH));
    }
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces).map_err(|errno| Failure::new("make the namespaces (mount, ipc, uts)", errno))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|errno| Failure::new("mount everything private", errno))?;
    let run = &request.run;
    let root = root::mount_for_run(run, &request.session)?;
    let mounts = Mounts::make(run, &root, &request.session)?;
    let (supervision, socket) = match &run.fakeroot {
        Some(fakeroot) => {
            Some(fakeroot::prepare(fakeroot, changes(&run.root), matches!(run.root, Root::Overlay { .. }))?).unzip()
        }
        None => (None, None),
    };
    std::env::set_current_dir(&root).map_err(|error| Failure::new("enter the root", error))?;
    let (reader, writer) = io::pipe().map_err(|error| Failure::new("make a pipe", error))?;
    match sys::fork_into_pid_namespace().map_err(|error| Failure::new("make the pid namespace", error))? {
        ForkResult::Child => {
            drop(reader);
            init::run(run, &mounts, socket.as_ref(), writer)
        }
        ForkResult::Parent { child } => {
            drop((writer, socket));
            let running = supervision.map(fakeroot::Supervision::start).transpose().inspect_err(|_| {
                // It would wait for answers for ever.
                let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
            })?;
            let heard = hear(reader);
            let code = supervise::wait_for(child);
            mounts.take_down(run);
            let mut answer =
                heard.unwrap_or(Answer::Finished { ending: Ending::Exited(code), milliseconds: 0, recorded: None });
            // A supervisor that failed comes first: the program's failure to start is its consequence.
            let told = running.map(fakeroot::Running::finish).transpose()?;
            if let Answer::Finished { recorded, .. } = &mut answer {
                *recorded = told;
            }
            Ok(answer)
        }
    }
}

/// The directory that the program's changes land in.
fn changes(root: &Root) -> &Path {
    match root {
        Root::Overlay { upper, .. } => upper,
        Root::Directory(directory) => directory,
    }
}

/// The first answer: what the program's own process says of a failed exec comes before what init says.
fn hear(reader: PipeReader) -> Option<Answer> {
    let mut bytes = Vec::new();
    reader.take(LONGEST_MESSAGE).read_to_end(&mut bytes).ok()?;
    serde_json::Deserializer::from_slice(&bytes).into_iter().next()?.ok()
}
