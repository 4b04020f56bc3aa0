//! What can go wrong around a script, each with its subject, its cause and what to do.

use super::IdMode;
use crate::disk;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No user namespace, so nothing can be executed.
    #[error("cannot make a user namespace: {cause}. {remedy}")]
    Namespace { cause: String, remedy: String },
    #[error("running as real root was asked for, but {0}")]
    RootRequired(String),
    #[error("a range of subordinate ids was asked for, but {0}")]
    RangeUnavailable(String),
    #[error("cannot enter a user namespace ({mode:?}) from a process with several threads")]
    Threads { mode: IdMode },
    /// One step of setting the sandbox up; `operation` says which, with its paths.
    #[error("cannot {operation}: {cause}{hint}")]
    Operation { operation: String, cause: io::Error, hint: &'static str },
    #[error("cannot execute {program} in the container: {cause}{hint}")]
    Exec { program: String, cause: io::Error, hint: &'static str },
    #[error("cannot {action} the sandbox process: {cause}")]
    Helper { action: &'static str, cause: io::Error },
    #[error("the sandbox process ended early ({status}); if memory ran out, the kernel log tells")]
    HelperDied { status: String },
    #[error("cannot write the log {}: {cause}", path.display())]
    Log { path: PathBuf, cause: io::Error },
    #[error("cannot run {program} on the host: {cause}")]
    HostProgram { program: String, cause: io::Error },
    #[error("cannot lock {}: {cause}", path.display())]
    Lock { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

impl Error {
    pub(super) fn operation(operation: String, errno: i32) -> Error {
        let hint = match errno {
            libc::ENODEV if operation.contains("overlay") => {
                ": this kernel has no overlay file system; the plain-directory root works without it"
            }
            libc::EINVAL | libc::EOPNOTSUPP | libc::EPERM if operation.contains("overlay") => {
                ": the file system of the build directory may not carry an overlay (NFS, Lustre, another overlay), or the \
                 kernel is older than 5.11; choose another temporary directory, or the plain-directory root"
            }
            libc::EACCES | libc::EPERM if operation.starts_with("mount") => {
                ": a security module or an outer container forbids mounts in user namespaces"
            }
            _ => "",
        };
        Error::Operation { operation, cause: io::Error::from_raw_os_error(errno), hint }
    }

    pub(super) fn exec(program: String, errno: i32) -> Error {
        let hint = match errno {
            libc::ENOEXEC => ": it is built for another architecture, or is not a program",
            libc::ENOENT => ": the image has no such program, or not the loader that it needs",
            libc::EACCES => ": it is not executable",
            _ => "",
        };
        Error::Exec { program, cause: io::Error::from_raw_os_error(errno), hint }
    }
}
