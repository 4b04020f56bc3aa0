//! The host's file system, touched carefully: scans, copies and removals that never follow a symbolic link
//! out of their directory, and files that appear under their name only when complete.

mod atomic;
mod behind;
mod copy;
mod open;
mod remove;
mod scan;
mod temporary;

pub use atomic::{AtomicFile, replace_directory};
pub use behind::WriteBehind;
pub use copy::{copy_file, copy_tree};
pub use open::{open_beneath, open_body, write_beneath};
pub use remove::remove_tree;
pub use scan::{ScanOptions, scan};
pub use temporary::{Registered, register, remove_registered};

use crate::tree::PathError;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong with which path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {}: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    #[error("below {}: {cause}", directory.display())]
    Name { directory: PathBuf, cause: PathError },
}

impl Error {
    /// Makes a closure for `map_err`.
    fn at<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
        let path = path.to_path_buf();
        move |cause| Error::Io { action, path, cause: cause.into() }
    }
}

/// The bare cause of a failure of `tempfile`, which names a path that nobody chose.
pub fn without_path(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((cause, _)) => io::Error::new(error.kind(), cause),
        None => error,
    }
}

#[cfg(test)]
mod tests;
