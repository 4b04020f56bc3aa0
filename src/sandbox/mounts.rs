//! What is mounted in a root besides the root itself, in order; every operation says what it does.

use super::request::{Bind, Failure};
use super::targets::{Shape, Target, Targets};
use super::{Run, sys};
use crate::tree::TreePath;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Files of the host by which names are resolved.
const NAME_RESOLUTION: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// One mount below the root.
#[derive(Clone, Debug)]
enum Operation {
    Temporary { at: PathBuf, options: &'static str },
    Terminals { at: PathBuf },
    Bind { source: PathBuf, at: PathBuf, read_only: bool, shape: Shape },
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Temporary { at, .. } => write!(formatter, "mount a memory file system at {}", at.display()),
            Operation::Terminals { at } => write!(formatter, "mount terminals (devpts) at {}", at.display()),
            Operation::Bind { source, at, .. } => {
                write!(formatter, "mount (bind) {} at {} of the container", source.display(), at.display())
            }
        }
    }
}

/// What is mounted, to be taken down again.
pub struct Mounts {
    pub targets: Targets,
    mounted: Vec<TreePath>,
    /// Where init will mount `/proc`, which only a process of the new pid namespace can.
    pub proc: OwnedFd,
}

impl Mounts {
    /// Mounts everything but `/proc` below `root`; the host's own tree is still visible.
    pub fn make(run: &Run, root: &Path, session: &Path) -> Result<Mounts, Failure> {
        let fail = |error: io::Error| Failure::new(format!("open {}", root.display()), error);
        let mut targets = Targets::new(root).map_err(fail)?;
        let proc = find(&mut targets, Path::new("/proc"), Shape::Directory)?.place;
        let mut mounts = Mounts { targets, mounted: Vec::new(), proc };
        for operation in device_operations() {
            mounts.perform(&operation)?;
        }
        mounts.link_devices()?;
        for operation in private_operations(run, session)? {
            mounts.perform(&operation)?;
        }
        for bind in &run.binds {
            mounts.perform(&user_operation(bind)?)?;
        }
        if let Some(script) = &run.script {
            let placed = mounts.targets.place_script(&script.path_in_root, &script.bytes);
            placed.map_err(|error| Failure::new(format!("write {}", script.path_in_root.display()), error))?;
        }
        Ok(mounts)
    }

    /// Once the last process of the container is gone, and the root is `/` here.
    pub fn take_down(self, run: &Run) {
        let _ = umount2("/proc", MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        for path in self.mounted.iter().rev() {
            // Moved or gone by the script's doing: the namespace ends soon anyway.
            let _ = umount2(&path.below(Path::new("/")), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        }
        if run.read_only_root {
            let _ = self.targets.root().try_clone_to_owned().map(|root| remount(&root, "/", MsFlags::empty()));
        }
        self.targets.remove();
    }

    fn perform(&mut self, operation: &Operation) -> Result<(), Failure> {
        let (at, shape) = match operation {
            Operation::Temporary { at, .. } | Operation::Terminals { at } => (at, Shape::Directory),
            Operation::Bind { at, shape, .. } => (at, *shape),
        };
        let target = find(&mut self.targets, at, shape)?;
        let place = format!("/proc/self/fd/{}", target.place.as_raw_fd());
        let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        let result = match operation {
            Operation::Temporary { options, .. } => {
                mount(Some("tmpfs"), place.as_str(), Some("tmpfs"), MsFlags::MS_NOSUID, Some(*options))
            }
            Operation::Terminals { .. } => {
                // Group 5 is `tty`; with a single id it does not exist.
                let base = "newinstance,ptmxmode=0666,mode=620";
                let with_group = format!("{base},gid=5");
                mount(Some("devpts"), place.as_str(), Some("devpts"), quiet, Some(with_group.as_str()))
                    .or_else(|_| mount(Some("devpts"), place.as_str(), Some("devpts"), quiet, Some(base)))
            }
            Operation::Bind { source, .. } => {
                mount(Some(source), place.as_str(), None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            }
        };
        result.map_err(|errno| Failure::new(operation.to_string(), errno))?;
        self.mounted.push(target.path);
        if let Operation::Bind { read_only: true, at, shape, source } = operation {
            let mounted = find(&mut self.targets, at, *shape)?;
            let result = make_read_only(&mounted.place);
            // The host's /sys is protected as far as this kernel can; a bind that was asked for must be.
            if source != Path::new("/sys") {
                result.map_err(|error| Failure::new(format!("{operation} read-only"), error))?;
            }
        }
        Ok(())
    }

    fn link_devices(&mut self) -> Result<(), Failure> {
        let devices = find(&mut self.targets, Path::new("/dev"), Shape::Directory)?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", devices.place.as_raw_fd()));
        for (name, link) in DEVICE_LINKS {
            symlink(link, place.join(name)).map_err(|error| Failure::new(format!("create /dev/{name}"), error))?;
        }
        Ok(())
    }
}

/// Read-only with all below it; on old kernels the mount itself.
pub fn make_read_only(place: &OwnedFd) -> io::Result<()> {
    if sys::make_mounts_read_only(place.as_fd()).is_ok() {
        return Ok(());
    }
    remount(place, &format!("/proc/self/fd/{}", place.as_raw_fd()), MsFlags::MS_RDONLY)
}

/// Changes the flags of the mount that `place` lies on, whose path is `target`.
pub fn remount(place: &OwnedFd, target: &str, more: MsFlags) -> io::Result<()> {
    // Flags that the source has are locked in a user namespace and must be repeated.
    let present = fstatvfs(place)?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | more;
    for (seen, flag) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
    ] {
        if present.contains(seen) {
            flags |= flag;
        }
    }
    Ok(mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?)
}

fn find(targets: &mut Targets, at: &Path, shape: Shape) -> Result<Target, Failure> {
    targets
        .prepare(at, shape)
        .map_err(|error| Failure::new(format!("make a mount point at {} of the container", at.display()), error))
}

fn device_operations() -> Vec<Operation> {
    let mut operations = vec![Operation::Temporary { at: "/dev".into(), options: "mode=755" }];
    let present = DEVICES.iter().map(|name| Path::new("/dev").join(name)).filter(|device| device.exists());
    operations.extend(present.map(|device| Operation::Bind {
        source: device.clone(),
        at: device,
        read_only: false,
        shape: Shape::File,
    }));
    operations.push(Operation::Terminals { at: "/dev/pts".into() });
    operations.push(Operation::Temporary { at: "/dev/shm".into(), options: "mode=1777" });
    operations
}

/// `/sys`, and what is fresh for each run so that it leaves nothing in the image.
fn private_operations(run: &Run, session: &Path) -> Result<Vec<Operation>, Failure> {
    // A fresh sysfs needs a network namespace of one's own; this is the host's network.
    let sys = Path::new("/sys");
    let mut operations =
        vec![Operation::Bind { source: sys.into(), at: sys.into(), read_only: true, shape: Shape::Directory }];
    let bound = |at: &str| run.binds.iter().any(|bind| bind.destination == Path::new(at));
    for at in ["/tmp", "/var/tmp"] {
        // On disk: scripts unpack and compile there.
        let source = session.join(at[1..].replace('/', "-"));
        let fail = |error| Failure::new(format!("create {}", source.display()), error);
        fs::create_dir(&source).map_err(fail)?;
        fs::set_permissions(&source, Permissions::from_mode(0o1777)).map_err(fail)?;
        operations.push(Operation::Bind { source, at: at.into(), read_only: false, shape: Shape::Directory });
    }
    for at in NAME_RESOLUTION.iter().filter(|at| run.host_name_resolution && !bound(at)) {
        let Ok(mut bytes) = fs::read(at) else { continue };
        // Compat: one more line end, so that package managers see a file changed by the administrator and keep it.
        bytes.push(b'\n');
        let source = session.join(Path::new(at).file_name().unwrap_or_default());
        let fail = |error| Failure::new(format!("write {}", source.display()), error);
        fs::write(&source, bytes).map_err(fail)?;
        fs::set_permissions(&source, Permissions::from_mode(0o644)).map_err(fail)?;
        operations.push(Operation::Bind { source, at: at.into(), read_only: false, shape: Shape::File });
    }
    Ok(operations)
}

fn user_operation(bind: &Bind) -> Result<Operation, Failure> {
    let metadata = fs::metadata(&bind.source)
        .map_err(|error| Failure::new(format!("bind {} into the container", bind.source.display()), error))?;
    if !bind.destination.is_absolute() {
        return Err(Failure::new(
            format!("bind at {}, which is not absolute", bind.destination.display()),
            Errno::EINVAL,
        ));
    }
    let shape = if metadata.is_dir() { Shape::Directory } else { Shape::File };
    Ok(Operation::Bind { source: bind.source.clone(), at: bind.destination.clone(), read_only: bind.read_only, shape })
}
