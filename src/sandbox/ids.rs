//! The user namespace that a whole build lives in.
//!
//! Like `podman unshare`: extraction, chown, packing and clean-up all run where container root is uid 0 and the
//! subordinate ids are mapped, so that owners are simply what `stat` says. A fork is enough for that: there is only one
//! thread yet, so the child needs neither a fresh start nor a marker to know what it is. Sources: user_namespaces(7), newuidmap(1).

use super::ranges::{self, Range};
use super::{Error, diagnosis, supervise, sys};
use crate::doctor::Stage;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, User, getegid, geteuid, getppid};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

/// Which ids a container process can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdMode {
    /// Real root: all of them.
    Root,
    /// Container root is the user, the others are its subordinate range.
    Range,
    /// Only one: container root is the user.
    Single,
    /// Nothing is executed, so no namespace was made.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdModeRequest {
    /// Root if this is root, else a range, else the single id.
    #[default]
    Auto,
    Root,
    Range,
    Single,
}

/// Where this process lives from now on.
#[derive(Clone, Debug)]
pub struct Entered {
    pub mode: IdMode,
    /// Highest container id that exists.
    pub highest_id: u32,
    /// Why a better mode was not taken, for the user.
    pub notes: Vec<String>,
}

/// Makes sure that this process may build: as real root in a mount namespace of its own; else the process forks, the
/// child goes on in a user and mount namespace and this returns there, while the parent only passes signals on and
/// exits with the child's code. Always tried, never guessed. Call it first in `main`: it must be the only thread.
pub fn enter(requested: IdModeRequest) -> Result<Entered, Error> {
    let mut notes = Vec::new();
    if matches!(requested, IdModeRequest::Auto | IdModeRequest::Root) {
        match enter_as_root() {
            Ok(entered) if requested == IdModeRequest::Root && entered.mode != IdMode::Root => {
                return Err(Error::RootRequired("this is root of a user namespace only".to_string()));
            }
            Ok(entered) => return Ok(entered),
            Err(reason) if requested == IdModeRequest::Root => return Err(Error::RootRequired(reason)),
            Err(reason) if geteuid().is_root() => notes.push(format!("not running as real root: {reason}")),
            Err(_) => {}
        }
    }
    if requested != IdModeRequest::Single {
        match ranges_of_user() {
            Ok(ranges) => match fork_into(&Maps::Range(ranges.0, ranges.1))? {
                Attempt::Entered => return Ok(entered_range(ranges, notes)),
                Attempt::Refused(reason) if requested == IdModeRequest::Range => {
                    return Err(Error::RangeUnavailable(reason));
                }
                Attempt::Refused(reason) => notes.push(reason),
            },
            Err(reason) if requested == IdModeRequest::Range => return Err(Error::RangeUnavailable(reason)),
            Err(reason) => notes.push(format!("only one id is available: {reason}")),
        }
    }
    match fork_into(&Maps::Single)? {
        Attempt::Entered => Ok(Entered { mode: IdMode::Single, highest_id: 0, notes }),
        Attempt::Refused(reason) => {
            Err(Error::Namespace { cause: reason, remedy: "Run as root, or on another host".to_string() })
        }
    }
}

/// For a program of the calling user: real root stays, in a mount namespace of its own; everybody else becomes root of a user
/// namespace with this one id, in this very process. It must be the only thread.
pub fn enter_for_program() -> Result<IdMode, Error> {
    if let Ok(entered) = enter_as_root() {
        return Ok(entered.mode);
    }
    if !sys::is_single_threaded() {
        return Err(Error::Threads { mode: IdMode::Single });
    }
    single_stages().map_err(|(stage, errno)| diagnosis::explain_at(&diagnosis::observe(errno as i32), stage))?;
    Ok(IdMode::Single)
}

/// Makes a user namespace with one id, in this very process; tells where the kernel refused.
pub(super) fn single_stages() -> Result<(), (Stage, Errno)> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|errno| (Stage::Unshare, errno))?;
    write_own_maps((0, uid.as_raw()), (0, gid.as_raw()))
        .map_err(|error| (Stage::Map, error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))?;
    receive_mounts_only().map_err(|errno| (Stage::Mount, errno))
}

/// From root of a namespace to a user without privileges, in a namespace of its own. Needs `/proc`.
pub(super) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // The kernel takes a moment to forget a thread that has been joined.
    for _ in 0..1000 {
        match unshare(CloneFlags::CLONE_NEWUSER) {
            Err(Errno::EINVAL) if !sys::is_single_threaded() => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(errno) => return Err(errno.into()),
            Ok(()) => return write_own_maps((uid, 0), (gid, 0)),
        }
    }
    Err(Errno::EINVAL.into())
}

/// Maps one id each: inside, outside.
fn write_own_maps(uid: (u32, u32), gid: (u32, u32)) -> io::Result<()> {
    // Spec: user_namespaces(7): without privileges, gid_map may be written only once setgroups is denied.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{} {} 1", uid.0, uid.1))?;
    fs::write("/proc/self/gid_map", format!("{} {} 1", gid.0, gid.1))
}

enum Maps {
    Range(Range, Range),
    Single,
}

enum Attempt {
    /// Returned in the child only.
    Entered,
    Refused(String),
}

fn enter_as_root() -> Result<Entered, String> {
    if !geteuid().is_root() {
        return Err("the caller is not root".to_string());
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("a mount namespace was refused ({})", errno.desc()))?;
    receive_mounts_only().map_err(|errno| format!("changing mount propagation was refused ({})", errno.desc()))?;
    Ok(describe_root(&id_map("uid"), &id_map("gid")))
}

/// Root of a namespace that somebody else made (`unshare`, an outer container) has only the ids that are mapped there.
fn describe_root(uids: &str, gids: &str) -> Entered {
    let highest_id = highest(uids).min(highest(gids));
    let mode = match highest_id {
        0 => IdMode::Single,
        _ if is_identity(uids) && is_identity(gids) => IdMode::Root,
        _ => IdMode::Range,
    };
    Entered { mode, highest_id, notes: Vec::new() }
}

fn id_map(kind: &str) -> String {
    fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap_or_default()
}

/// Whether the map is that of the initial user namespace.
fn is_identity(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

pub(super) fn in_initial_user_namespace() -> bool {
    is_identity(&id_map("uid"))
}

/// Spec: user_namespaces(7): lines of first id inside, first id outside, count.
fn highest(map: &str) -> u32 {
    let numbers = |line: &str| line.split_whitespace().filter_map(|field| field.parse().ok()).collect::<Vec<u32>>();
    let last = |line: &str| match numbers(line).as_slice() {
        [inside, _, count] if *count > 0 => Some(inside.saturating_add(count - 1)),
        _ => None,
    };
    map.lines().filter_map(last).max().unwrap_or(0)
}

fn entered_range((uids, gids): (Range, Range), mut notes: Vec<String>) -> Entered {
    let highest_id = uids.count.min(gids.count);
    if highest_id < ranges::USUAL - 1 {
        notes.push(format!(
            "the subordinate range holds {highest_id} ids, {} are usual: packages that use higher ids will fail",
            ranges::USUAL
        ));
    }
    Entered { mode: IdMode::Range, highest_id, notes }
}

fn ranges_of_user() -> Result<(Range, Range), String> {
    let uid = geteuid();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    ranges::find(name.as_deref(), uid.as_raw())
}

fn fork_into(maps: &Maps) -> Result<Attempt, Error> {
    if !sys::is_single_threaded() {
        let mode = if matches!(maps, Maps::Single) { IdMode::Single } else { IdMode::Range };
        return Err(Error::Threads { mode });
    }
    let (ours, theirs) = UnixStream::pair().map_err(helper("connect to"))?;
    let signals = supervise::block_signals().map_err(|errno| helper("guard")(errno.into()))?;
    let parent = nix::unistd::getpid();
    match sys::fork().map_err(|errno| helper("fork")(errno.into()))? {
        ForkResult::Child => {
            drop(ours);
            supervise::restore_signals(&signals);
            become_inner(parent, theirs);
            Ok(Attempt::Entered)
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            match map_child(child, maps, ours) {
                Ok(()) => supervise::until_exit(child),
                Err(refusal) => {
                    let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
                    supervise::wait_for(child);
                    supervise::restore_signals(&signals);
                    refusal.map(Attempt::Refused)
                }
            }
        }
    }
}

/// The child's side: unshare, report, wait for the maps, take the mounts over. Ends the process when refused.
fn become_inner(parent: Pid, mut stream: UnixStream) {
    // SIGTERM rather than SIGKILL, so that the build removes its temporary files when the parent is gone.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
    if getppid() != parent {
        supervise::exit(1);
    }
    let unshared = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS);
    report(&mut stream, unshared);
    let mut go = [0];
    if stream.read_exact(&mut go).is_err() {
        supervise::exit(1);
    }
    report(&mut stream, receive_mounts_only());
    // Changes of credentials clear it.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
}

fn report(stream: &mut UnixStream, result: Result<(), Errno>) {
    let errno = result.err().map_or(0, |errno| errno as i32);
    if stream.write_all(&errno.to_le_bytes()).is_err() || errno != 0 {
        supervise::exit(1);
    }
}

/// The parent's side. The inner error is fatal for every mode, or a reason to try the next one.
fn map_child(child: Pid, maps: &Maps, mut stream: UnixStream) -> Result<(), Result<String, Error>> {
    hear(&mut stream)?;
    match maps {
        Maps::Range(uids, gids) => {
            run_map_program("newuidmap", child, geteuid().as_raw(), *uids).map_err(Ok)?;
            run_map_program("newgidmap", child, getegid().as_raw(), *gids).map_err(Ok)?;
        }
        Maps::Single => write_single_maps(child).map_err(|error| Err(refused(&error)))?,
    }
    stream.write_all(&[1]).map_err(|error| Err(helper("talk to")(error)))?;
    hear(&mut stream)
}

fn hear(stream: &mut UnixStream) -> Result<(), Result<String, Error>> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).map_err(|error| Err(helper("hear from")(error)))?;
    match i32::from_le_bytes(bytes) {
        0 => Ok(()),
        errno => Err(Err(diagnosis::explain(&diagnosis::observe(errno)))),
    }
}

fn refused(error: &io::Error) -> Error {
    diagnosis::explain(&diagnosis::observe(error.raw_os_error().unwrap_or(libc::EPERM)))
}

fn run_map_program(program: &str, child: Pid, own: u32, range: Range) -> Result<(), String> {
    let numbers = [0, own, 1, 1, range.start, range.count].map(|number| number.to_string());
    let output = Command::new(program).arg(child.to_string()).args(numbers).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!(
                "{program} failed: {}. It must be installed setuid root or with the capability cap_setuid/cap_setgid",
                said.trim()
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "there is a subordinate range, but {program} is not installed (package uidmap on Debian, shadow-utils on Fedora)"
        )),
        Err(error) => Err(format!("cannot run {program}: {error}")),
    }
}

fn write_single_maps(child: Pid) -> io::Result<()> {
    // Spec: user_namespaces(7): without privileges, gid_map may be written only once setgroups is denied.
    fs::write(format!("/proc/{child}/setgroups"), "deny")?;
    fs::write(format!("/proc/{child}/uid_map"), format!("0 {} 1", geteuid()))?;
    fs::write(format!("/proc/{child}/gid_map"), format!("0 {} 1", getegid()))
}

/// Mounts of the host still appear here (automounted homes), none of ours appear there.
fn receive_mounts_only() -> Result<(), Errno> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
}

fn helper(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Helper { action, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_real_root_from_root_of_a_namespace() {
        let mode = |uids, gids| {
            let entered = describe_root(uids, gids);
            (entered.mode, entered.highest_id)
        };
        let all = "         0          0 4294967295\n";
        assert_eq!(mode(all, all), (IdMode::Root, u32::MAX - 1));
        assert_eq!(mode("0 1000 1\n", "0 1000 1\n"), (IdMode::Single, 0));
        assert_eq!(mode("0 1000 1\n1 100000 65536\n", "0 1000 1\n1 100000 999\n"), (IdMode::Range, 999));
    }
}
