//! The root file system of a script, mounted.

use super::ids::in_initial_user_namespace;
use super::request::{Failure, Root};
use super::{Error, Run};
use crate::disk;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// A root mounted at a path of the host, in this process's own mount namespace; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
}

/// Mounts `root` at `at`, an existing directory, for `%setup` and copies. Only after [`enter`](super::enter), in whose mount
/// namespace it happens: the host's other processes see nothing of it.
pub fn mount_root(root: &Root, at: &Path) -> Result<Mounted, Error> {
    let beside = at.parent().unwrap_or(Path::new("/"));
    let links = tempfile::Builder::new()
        .prefix("lower-")
        .tempdir_in(beside)
        .map_err(|cause| Error::Helper { action: "prepare", cause })?;
    // Why a thread: overlay options are relative to the working directory, which all threads share unless they say otherwise.
    let result = std::thread::scope(|scope| {
        let mounting = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS).map_err(|errno| Failure::new("part with the working directory", errno))?;
            mount_here(root, at, links.path())
        });
        mounting.join().unwrap_or_else(|_| Err(Failure::new("mount the root", Errno::EIO)))
    });
    result.map_err(Error::from)?;
    Ok(Mounted { at: at.to_path_buf() })
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
}

/// Changes the working directory to `links`.
pub(super) fn mount_here(root: &Root, at: &Path, links: &Path) -> Result<(), Failure> {
    match root {
        Root::Directory(directory) => {
            let operation = format!("mount (bind) {} at {}", directory.display(), at.display());
            mount(Some(directory), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|errno| Failure::new(operation, errno))
        }
        Root::Overlay { lower, upper, work } => mount_overlay(lower, upper, work, at, links),
    }
}

fn mount_overlay(lower: &[PathBuf], upper: &Path, work: &Path, at: &Path, links: &Path) -> Result<(), Failure> {
    let prepare = |error: io::Error| Failure::new(format!("prepare the overlay at {}", upper.display()), error);
    adopt_root_metadata(lower, upper).map_err(prepare)?;
    // What a mount with `volatile` leaves behind forbids the next one.
    disk::remove_tree(work).map_err(|_| prepare(Errno::EBUSY.into()))?;
    fs::create_dir(work).map_err(prepare)?;
    // Why links: options must fit into one page, and `:` and `,` in paths would need quoting.
    let nothing = [links.join("nothing")];
    let lower = if lower.is_empty() { &nothing[..] } else { lower };
    if lower == nothing {
        fs::create_dir(&nothing[0]).map_err(prepare)?;
    }
    for (number, directory) in lower.iter().enumerate() {
        symlink(directory, links.join(number.to_string())).map_err(prepare)?;
    }
    symlink(upper, links.join("u")).map_err(prepare)?;
    symlink(work, links.join("w")).map_err(prepare)?;
    std::env::set_current_dir(links).map_err(prepare)?;
    let numbers: Vec<String> = (0..lower.len()).map(|number| number.to_string()).collect();
    let base = format!("lowerdir={},upperdir=u,workdir=w", numbers.join(":"));
    // A directory of the upper must say all by itself, so no redirects and no files without their data. In a user namespace the
    // kernel has these off for good.
    let flavour = if in_initial_user_namespace() { "redirect_dir=off,metacopy=off,index=off" } else { "userxattr" };
    let result = [",volatile", ""].iter().find_map(|volatile| {
        let options = format!("{base},{flavour}{volatile}");
        match mount(Some("overlay"), at, Some("overlay"), MsFlags::empty(), Some(options.as_str())) {
            // Compat: `volatile` (no waiting for the disk in a layer that a crash throws away anyway) came with Linux 5.10.
            Err(Errno::EINVAL) if !volatile.is_empty() => None,
            other => Some(other),
        }
    });
    let operation =
        || format!("mount an overlay of {} layers and {} at {}", lower.len(), upper.display(), at.display());
    result.unwrap_or(Ok(())).map_err(|errno| Failure::new(operation(), errno))
}

/// The merged root directory is the upper's own: a fresh one takes owner, mode and time from the layer below.
fn adopt_root_metadata(lower: &[PathBuf], upper: &Path) -> io::Result<()> {
    let Some(top) = lower.first() else { return Ok(()) };
    if fs::read_dir(upper)?.next().is_some() {
        return Ok(());
    }
    let metadata = fs::metadata(top)?;
    match lchown(upper, Some(metadata.uid()), Some(metadata.gid())) {
        // An owner that this namespace does not have, as of another user's sandbox directory.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => {}
        done => done?,
    }
    fs::set_permissions(upper, metadata.permissions())?;
    fs::File::open(upper)?.set_modified(metadata.modified()?)
}

/// The directory in which a run's root is mounted, within its session.
pub(super) fn mount_for_run(run: &Run, session: &Path) -> Result<PathBuf, Failure> {
    let (at, links) = (session.join("root"), session.join("lower"));
    for path in [&at, &links] {
        fs::create_dir(path).map_err(|error| Failure::new(format!("create {}", path.display()), error))?;
    }
    mount_here(&run.root, &at, &links)?;
    Ok(at)
}
