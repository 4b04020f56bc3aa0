//! The fakeroot: a supervisor that answers system calls of the container, so that owners, devices and identities which the user
//! namespace does not have are as a real root would have left them.
//!
//! By seccomp's user notification: the kernel stops a process at a call of the [table](calls), tells the supervisor, and does what it says. Nothing
//! is placed in the container, no library is preloaded, any libc and static programs are covered. What was asked for is [recorded](record) by
//! inode and shown again when a program looks; at the end it becomes the owners, devices and attributes of the layer. It is no wall: the
//! supervisor has the rights of the processes that it serves and no more, and acts in their root.
//!
//! What it does not imitate: refusing users to read or write what exists (they are the one id, and may), numbers in `/proc/PID/status`,
//! `SO_PEERCRED`, the contents of devices that scripts make; `nosuid` mounts (set-id bits count there); ids of a user namespace that the container
//! makes; that root's writing leaves set-id bits alone (the kernel takes them from a file that a user namespace's root writes to). Sources: seccomp_unotify(2), and the measurements named in each module.

mod attributes;
mod calls;
mod creation;
mod credentials;
mod filter;
mod identity;
pub(super) mod notify;
mod ownership;
mod process;
mod record;
mod shown;
mod sockets;
mod status;
mod supervisor;
mod watch;

pub use calls::Scope;

use super::request::Failure;
use crate::tree::{Change, Entry, Kind, Layer, Metadata, Tree, TreePath, Xattrs, text};
use process::Outside;
use record::{Record, Records};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use status::Status;
use std::ffi::CString;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use supervisor::Supervisor;
use watch::Watch;

/// What a run is to be told of owners.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fakeroot {
    pub scope: Scope,
    /// Whose files the kernel has wrong: a [layer's text](crate::tree::text).
    known: String,
}

impl Fakeroot {
    /// For a root that holds `tree`, whose files all belong to container root on disk unless `scope` is for a range of ids.
    pub fn new(scope: Scope, tree: &Tree) -> Fakeroot {
        let mut layer = Layer::default();
        for (path, id) in tree.walk() {
            let inode = tree.inode(id);
            let kind = inode.node.kind();
            let is_device = matches!(kind, Kind::CharacterDevice { .. } | Kind::BlockDevice { .. });
            let foreign = !scope.is_remainder() && (inode.metadata.uid, inode.metadata.gid) != (0, 0);
            let privileged = inode.metadata.xattrs.keys().any(|name| !name.starts_with(b"user."));
            if is_device || foreign || privileged {
                layer.put(path, inode.metadata.clone(), kind);
            }
        }
        Fakeroot { scope, known: text::write(&layer) }
    }

    /// The same after a run: what it recorded goes before what was known.
    pub fn after(&self, recorded: &str) -> Result<Fakeroot, text::TextError> {
        let (mut known, recorded) = (text::parse(&self.known)?, text::parse(recorded)?);
        let paths: std::collections::HashSet<&TreePath> = recorded.entries.iter().map(|entry| &entry.path).collect();
        known.entries.retain(|entry| !paths.contains(&entry.path));
        known.entries.extend(recorded.entries.iter().cloned());
        Ok(Fakeroot { scope: self.scope, known: text::write(&known) })
    }
}

/// Tries in a child process that ends at once whether system calls can be answered. Only where there is one thread.
pub fn try_fakeroot(scope: Scope) -> io::Result<()> {
    if !filter::is_supported() {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    match super::sys::fork()? {
        nix::unistd::ForkResult::Child => {
            let made = notify::free_lock_limit().and_then(|()| notify::install(&filter::program(scope)));
            let errno = match made {
                Ok(_) => 0,
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            super::supervise::exit(errno)
        }
        nix::unistd::ForkResult::Parent { child } => match super::supervise::wait_for(child) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
    }
}

/// The supervisor of one run, in the process that made the namespaces.
pub(super) struct Supervision {
    socket: UnixStream,
    proc: OwnedFd,
    /// The directory that holds the changes.
    upper: OwnedFd,
    /// What lies below keeps its numbers for as long as the run lasts.
    overlay: bool,
    fakeroot: Fakeroot,
}

/// The same while processes run.
pub(super) struct Running {
    watcher: thread::JoinHandle<io::Result<Option<Arc<Watch>>>>,
    watch: std::sync::mpsc::Receiver<Arc<Watch>>,
    upper: OwnedFd,
    scope: Scope,
}

/// Both ends, before the process that runs the program is forked: the supervisor's, and the socket for [`submit`]. The host's `/proc` and
/// the directory of changes can still be seen.
pub(super) fn prepare(fakeroot: &Fakeroot, upper: &Path, overlay: bool) -> Result<(Supervision, UnixStream), Failure> {
    if !filter::is_supported() {
        return Err(Failure::new("emulate root on this architecture", nix::errno::Errno::ENOSYS));
    }
    let fail = |error: io::Error| Failure::new("prepare the emulation of root", error);
    let (ours, theirs) = UnixStream::pair().map_err(fail)?;
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Failure::new(format!("open {}", path.display()), error))
    };
    let supervision = Supervision {
        socket: ours,
        proc: open(Path::new("/proc"))?,
        upper: open(upper)?,
        overlay,
        fakeroot: fakeroot.clone(),
    };
    Ok((supervision, theirs))
}

/// In the process that will become the program, last before exec: from here on the supervisor is asked.
pub(super) fn submit(scope: Scope, socket: &UnixStream) -> io::Result<()> {
    notify::free_lock_limit()?;
    let (listener, patient) = notify::install(&filter::program(scope))?;
    let descriptors = [listener.as_raw_fd()];
    let control = [nix::sys::socket::ControlMessage::ScmRights(&descriptors)];
    let flags = nix::sys::socket::MsgFlags::MSG_NOSIGNAL;
    nix::sys::socket::sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[u8::from(patient)])], &control, flags, None)?;
    Ok(())
}

impl Supervision {
    /// Starts to answer, as soon as there is somebody who asks.
    pub fn start(self) -> Result<Running, Failure> {
        let Supervision { socket, proc, upper, overlay, fakeroot } = self;
        let scope = fakeroot.scope;
        let (sender, watch) = std::sync::mpsc::channel();
        let work = move || -> io::Result<Option<Arc<Watch>>> {
            let Some((listener, patient)) = receive(&socket)? else { return Ok(None) };
            // The container's root is this process's own by now.
            let here = Outside::enter(proc.try_clone()?, !scope.is_remainder())?;
            let records = load(&fakeroot, overlay)?;
            let supervisor = Arc::new(Supervisor::new(scope, records, patient));
            let watch = Arc::new(Watch::new(supervisor, listener, proc));
            let _ = sender.send(watch.clone());
            watch.run(&here);
            Ok(Some(watch))
        };
        let watcher = thread::Builder::new()
            .name("fakeroot".to_string())
            .spawn(work)
            .map_err(|error| Failure::new("start the emulation of root", error))?;
        Ok(Running { watcher, watch, upper, scope })
    }
}

impl Running {
    /// What was recorded of the changed files, once the last process has ended and nothing but the root is mounted any more at `/`: a layer's text.
    pub fn finish(self) -> Result<String, Failure> {
        let fail = |error: io::Error| Failure::new("emulate root for the program", error);
        // Comes as soon as there is one, or not at all when the thread has ended without.
        let watch = match self.watch.recv() {
            Ok(watch) => watch,
            Err(_) => match self.watcher.join() {
                Ok(Ok(Some(watch))) => watch,
                // The program never came to ask.
                Ok(Ok(None)) => return Ok(String::new()),
                Ok(Err(error)) => return Err(fail(error)),
                Err(_) => return Err(fail(io::Error::other("the supervisor has panicked"))),
            },
        };
        watch.settle();
        let state = watch.supervisor.state();
        let layer = collect(&state.records, &self.upper, !self.scope.is_remainder()).map_err(fail)?;
        Ok(text::write(&layer))
    }
}

fn receive(socket: &UnixStream) -> io::Result<Option<(OwnedFd, bool)>> {
    let mut byte = [0];
    let mut control = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = nix::sys::socket::MsgFlags::MSG_CMSG_CLOEXEC;
    let message = nix::sys::socket::recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let descriptor = message.cmsgs()?.find_map(|part| match part {
        nix::sys::socket::ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    Ok(descriptor.map(|descriptor| (super::sys::own(descriptor), byte == [1])))
}

/// The inodes of what is known of the root, as it is mounted now.
fn load(fakeroot: &Fakeroot, overlay: bool) -> io::Result<Records> {
    let layer = text::parse(&fakeroot.known).map_err(|error| io::Error::other(error.to_string()))?;
    let single = !fakeroot.scope.is_remainder();
    let mut records = Records::default();
    for Entry { path, change } in layer.entries {
        let Change::Put(metadata, kind) = change else { continue };
        let place = path.below(Path::new("/"));
        let name = CString::new(place.as_os_str().as_bytes()).map_err(io::Error::from)?;
        // What cannot be made here at all (a device for which there is no place) is in the index alone.
        let Ok(bytes) = notify::statx(&name, libc::AT_SYMLINK_NOFOLLOW, status::MASK) else { continue };
        let mut record = Record::known(&metadata, &kind);
        for (name, value) in &metadata.xattrs {
            let mut buffer = vec![0; value.len() + 1];
            let told = rustix::fs::lgetxattr(&place, std::ffi::OsStr::from_bytes(name), &mut buffer[..]);
            if told != Ok(value.len()) || buffer[..value.len()] != value[..] {
                record.attributes.insert(name.clone(), value.clone());
            }
        }
        let status = Status::new(bytes, single);
        records.remember(status.key(), record, if overlay { None } else { status.birth() });
    }
    Ok(records)
}

/// Looks up every file of the directory of changes as it appears in the root.
fn collect(records: &Records, upper: &OwnedFd, single: bool) -> io::Result<Layer> {
    let mut layer = Layer::default();
    let mut pending = vec![TreePath::root()];
    while let Some(path) = pending.pop() {
        add(&mut layer, records, &path, single)?;
        let directory = crate::disk::open_beneath(upper.as_fd(), &path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let below = path.join(name).map_err(io::Error::other)?;
            match kind(&directory, &entry)? {
                FileType::Directory => pending.push(below),
                _ => add(&mut layer, records, &below, single)?,
            }
        }
    }
    Ok(layer)
}

fn kind(directory: &OwnedFd, entry: &rustix::fs::DirEntry) -> io::Result<FileType> {
    match entry.file_type() {
        FileType::Unknown => {
            let stat = rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(FileType::from_raw_mode(stat.st_mode))
        }
        known => Ok(known),
    }
}

fn add(layer: &mut Layer, records: &Records, path: &TreePath, single: bool) -> io::Result<()> {
    let place = path.below(Path::new("/"));
    let name = CString::new(place.as_os_str().as_bytes()).map_err(io::Error::from)?;
    let status = match notify::statx(&name, libc::AT_SYMLINK_NOFOLLOW, status::MASK) {
        Ok(bytes) => Status::new(bytes, single),
        // A whiteout.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(record) = records.get(&status) else { return Ok(()) };
    let kind = match record.device {
        Some(device) if device.kind == libc::S_IFCHR => {
            Kind::CharacterDevice { major: device.major, minor: device.minor }
        }
        Some(device) => Kind::BlockDevice { major: device.major, minor: device.minor },
        // Any other kind: told by the directory of changes itself.
        None => Kind::Directory,
    };
    let metadata = Metadata {
        mode: record.permissions.unwrap_or(status.mode() & 0o7777) as u16,
        uid: record.user,
        gid: record.group,
        mtime: 0,
        xattrs: record.attributes.clone(),
    };
    layer.put(path.clone(), metadata, kind);
    Ok(())
}

/// Puts what was recorded into the index of the changes. With one id, what was not recorded is container root's.
pub fn correct(layer: &mut Layer, recorded: &str) -> Result<(), text::TextError> {
    use std::collections::HashMap;
    let recorded = text::parse(recorded)?;
    let by_path: HashMap<&TreePath, &Change> =
        recorded.entries.iter().map(|entry| (&entry.path, &entry.change)).collect();
    for entry in &mut layer.entries {
        let (Change::Put(metadata, kind), Some(Change::Put(truth, device))) =
            (&mut entry.change, by_path.get(&entry.path))
        else {
            continue;
        };
        (metadata.uid, metadata.gid, metadata.mode) = (truth.uid, truth.gid, truth.mode);
        let xattrs: &Xattrs = &truth.xattrs;
        metadata.xattrs.extend(xattrs.iter().map(|(name, value)| (name.clone(), value.clone())));
        if *device != Kind::Directory {
            *kind = device.clone();
        }
    }
    Ok(())
}
