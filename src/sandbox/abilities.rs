//! What this host lets builds do, each ability tried for real, in child processes that end at once.

use super::ids::{IdMode, IdModeRequest, enter, single_stages};
use super::request::Root;
use super::{Error, diagnosis, listener, ranges, root, supervise, sys};
use crate::disk;
use crate::doctor::{
    Attempt, HostObservations, Identity, Inside, Listener, Mode, Place, Range, RangeObservations, Refused, Role, Single,
};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{ForkResult, Uid, User, chdir, chown, geteuid, pivot_root};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes that are written to see whether there is room at all.
const SAMPLE: usize = 256 << 10;
/// An id that is neither root nor the user.
const OTHER_ID: u32 = 1;

pub fn observe_host() -> HostObservations {
    let user = User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
    HostObservations {
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
            .map_or_else(|_| kernel(), |text| text.trim().to_owned()),
        uid: geteuid().as_raw(),
        user,
        program: std::env::current_exe().unwrap_or_default(),
        outer: diagnosis::outer().or_else(|| diagnosis::observe(0).seccomp.then_some(crate::doctor::Outer::Other)),
        apparmor: Path::new("/sys/module/apparmor").exists(),
    }
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The subordinate range, and whether it can be entered.
pub fn observe_range() -> Result<RangeObservations, Error> {
    let user = User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
    let own = ranges::find(user.as_deref(), geteuid().as_raw());
    let entered = in_child(|| match enter(IdModeRequest::Range) {
        Ok(_) => Ok(()),
        Err(Error::RangeUnavailable(reason)) => Err(reason),
        Err(error) => Err(error.to_string()),
    })?;
    let taken = ["/etc/subuid", "/etc/subgid"].into_iter().flat_map(|file| {
        let text = fs::read(file).unwrap_or_default();
        ranges::parse_all(&String::from_utf8_lossy(&text))
    });
    Ok(RangeObservations { own, taken: taken.collect::<Vec<Range>>(), entered })
}

/// A user namespace with one id.
pub fn observe_single() -> Result<Single, Error> {
    let refused = in_child(|| single_stages().err().map(|(stage, errno)| (stage, errno as i32)))?;
    Ok(match refused {
        None => Single::Good,
        Some((stage, errno)) => Single::Refused { stage, signs: diagnosis::observe(errno) },
    })
}

/// As a build lives, with its store at `store`; `None` where no mode can be entered.
pub fn observe_inside(store: &Path) -> Result<Option<Inside>, Error> {
    let store = nearest(store);
    in_child(|| {
        let entered = enter(IdModeRequest::Auto).ok()?;
        let mode = match entered.mode {
            IdMode::Root => Mode::Root,
            IdMode::Range => Mode::Range,
            IdMode::Single | IdMode::None => Mode::Single,
        };
        let identity = Identity { mode, highest_id: entered.highest_id, notes: entered.notes };
        let (namespaces, mounts) = try_mounts();
        let overlay = try_overlay(&store);
        let owners = if mode == Mode::Single { Ok(()) } else { try_owners(&store) };
        // Last: from then on this process has a filter.
        let listener = in_child(listener::try_listener).unwrap_or_else(|_| Listener {
            obtained: Err(Refused { action: "start a process".to_owned(), errno: libc::EAGAIN }),
            wait_killable: false,
            sync_wake_up: false,
            add_and_send: false,
        });
        Some(Inside {
            identity,
            namespaces,
            memory_file_system: mounts.memory,
            terminals: mounts.terminals,
            root: mounts.root,
            proc: mounts.proc,
            overlay,
            owners,
            listener,
        })
    })
}

/// A directory that builds write to, or the nearest above it.
pub fn observe_place(role: Role, path: &Path) -> Place {
    let path = nearest(path);
    let (written, attributes) = match try_writing(&path) {
        Ok(attributes) => (Ok(()), attributes),
        Err(error) => (Err(refused("write a file there", &error)), Ok(())),
    };
    let found = statvfs(&path).ok();
    let flags = found.map_or(FsFlags::empty(), |found| found.flags());
    Place {
        role,
        written,
        attributes,
        free_bytes: found.map_or(u64::MAX, |found| found.fragment_size().saturating_mul(found.blocks_available())),
        // Some file systems make room for files as they come, and say 0.
        free_files: found.filter(|found| found.files() > 0).map_or(u64::MAX >> 1, |found| found.files_available()),
        is_noexec: flags.contains(FsFlags::ST_NOEXEC),
        is_nosuid: flags.contains(FsFlags::ST_NOSUID),
        is_nodev: flags.contains(FsFlags::ST_NODEV),
        path,
    }
}

pub fn observe_fuse() -> Attempt {
    let opened = File::options().read(true).write(true).custom_flags(libc::O_CLOEXEC).open("/dev/fuse");
    let number = |file: File| {
        let found = rustix::fs::fstat(&file)?;
        let is_fuse = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev)) == (10, 229);
        if is_fuse { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENODEV)) }
    };
    opened.and_then(number).map_err(|error| refused("open /dev/fuse", &error))
}

/// Runs `work` in a child process, which may change its namespaces, and gives what it says.
fn in_child<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> T) -> Result<T, Error> {
    let fail = |action| move |cause| Error::Helper { action, cause };
    if !sys::is_single_threaded() {
        return Err(Error::Threads { mode: IdMode::None });
    }
    let (mut reader, mut writer) = io::pipe().map_err(fail("connect to"))?;
    match sys::fork().map_err(|errno| fail("fork")(errno.into()))? {
        ForkResult::Child => {
            drop(reader);
            let said = serde_json::to_vec(&work()).unwrap_or_default();
            let _ = writer.write_all(&said);
            supervise::exit(0)
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut said = Vec::new();
            let read = reader.read_to_end(&mut said);
            supervise::wait_for(child);
            read.map_err(fail("hear from"))?;
            serde_json::from_slice(&said).map_err(|error| fail("understand")(error.into()))
        }
    }
}

/// Mounts of a container, in its namespaces.
#[derive(Serialize, Deserialize)]
struct Mounts {
    proc: Attempt,
    terminals: Attempt,
    memory: Attempt,
    root: Attempt,
}

/// Namespaces of a container; mounts in them where they can be had.
fn try_mounts() -> (Attempt, Mounts) {
    let none = || Mounts { proc: Ok(()), terminals: Ok(()), memory: Ok(()), root: Ok(()) };
    let failed = |action: &str, errno: Errno| (Err(refused_errno(action, errno)), none());
    let attempt = in_child(|| {
        let flags =
            CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWPID;
        if let Err(errno) = unshare(flags) {
            return failed("make the namespaces (mount, ipc, uts, pid)", errno);
        }
        match in_child(try_mounts_inside) {
            Ok(mounts) => (Ok(()), mounts),
            Err(_) => failed("start a process in a pid namespace", Errno::EAGAIN),
        }
    });
    attempt.unwrap_or_else(|_| failed("start a process", Errno::EAGAIN))
}

/// Each covers the one before, in this process's own namespace.
fn try_mounts_inside() -> Mounts {
    let place = Path::new("/proc");
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let try_one = |kind: &str, flags: MsFlags, options: Option<&str>| {
        let mounted = mount(Some(kind), place, Some(kind), flags, options);
        mounted.map_err(|errno| refused_errno(&format!("mount {kind}"), errno))
    };
    let proc = try_one("proc", quiet | MsFlags::MS_NODEV, None);
    let terminals = try_one("devpts", quiet, Some("newinstance,ptmxmode=0666,mode=620"));
    let memory = try_one("tmpfs", MsFlags::MS_NOSUID, Some("mode=755"));
    let private = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
    let root = private.and_then(|()| chdir(place)).and_then(|()| pivot_root(".", "."));
    let root = match &memory {
        Ok(()) => root.map_err(|errno| refused_errno("change the root (pivot_root)", errno)),
        Err(_) => Ok(()),
    };
    Mounts { proc, terminals, memory, root }
}

/// Tries an overlay in a directory, where builds will be: whether it can be mounted, replaces directories, and executes. Only after
/// [`enter`](super::enter).
pub fn try_overlay(store: &Path) -> Attempt {
    let fail = |action: &str| {
        let action = action.to_owned();
        move |error: io::Error| refused(&action, &error)
    };
    let place = tempfile::Builder::new().prefix("sifbuild-doctor-").tempdir_in(store);
    let place = place.map_err(|error| refused("make a directory in the store", &error))?;
    let [lower, upper, work, at] = ["lower", "upper", "work", "at"].map(|name| place.path().join(name));
    let result = (|| {
        for path in [&lower, &upper, &work, &at] {
            fs::create_dir(path).map_err(fail("make a directory in the store"))?;
        }
        let program = lower.join("program");
        fs::create_dir(lower.join("directory"))
            .and_then(|()| fs::write(&program, "#!/bin/sh\nexit 0\n"))
            .and_then(|()| fs::set_permissions(&program, PermissionsExt::from_mode(0o755)))
            .map_err(fail("write a file in the store"))?;
        let mounted =
            root::mount_root(&Root::Overlay { lower: vec![lower], upper, work }, &at).map_err(|error| match error {
                Error::Operation { operation, cause, .. } => refused(&operation, &cause),
                error => Refused { action: format!("prepare an overlay ({error})"), errno: libc::EIO },
            })?;
        // A mount may succeed where whiteouts, and directories that hide others, then do not.
        fs::remove_dir(at.join("directory"))
            .and_then(|()| fs::create_dir(at.join("directory")))
            .map_err(fail("replace a directory of an overlay"))?;
        if Path::new("/bin/sh").exists() {
            std::process::Command::new(at.join("program")).status().map_err(fail("execute a program of an overlay"))?;
        }
        fs::remove_file(at.join("program")).map_err(fail("remove a file of an overlay"))?;
        drop(mounted);
        Ok(())
    })();
    let _ = disk::remove_tree(place.path());
    let _ = place.keep();
    result
}

fn try_owners(store: &Path) -> Attempt {
    let file = tempfile::NamedTempFile::new_in(store).map_err(|error| refused("write a file in the store", &error))?;
    let other = Some(Uid::from_raw(OTHER_ID));
    chown(file.path(), other, None).map_err(|errno| refused_errno("give a file in the store to another id", errno))
}

/// The inner result is that of an extended attribute.
fn try_writing(directory: &Path) -> io::Result<Attempt> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&vec![1; SAMPLE])?;
    file.as_file().sync_all()?;
    let set = rustix::fs::fsetxattr(file.as_file(), "user.sifbuild", b"1", rustix::fs::XattrFlags::empty());
    Ok(set.map_err(|error| refused("set an extended attribute", &error.into())))
}

fn nearest(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

fn refused(action: &str, error: &io::Error) -> Refused {
    Refused { action: action.to_owned(), errno: errno_of(error) }
}

/// The kernel's number; where a library has wrapped it, that of its kind.
fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::StorageFull => libc::ENOSPC,
        io::ErrorKind::QuotaExceeded => libc::EDQUOT,
        io::ErrorKind::ReadOnlyFilesystem => libc::EROFS,
        io::ErrorKind::PermissionDenied => libc::EACCES,
        io::ErrorKind::NotFound => libc::ENOENT,
        _ => libc::EIO,
    })
}

fn refused_errno(action: &str, errno: Errno) -> Refused {
    Refused { action: action.to_owned(), errno: errno as i32 }
}
