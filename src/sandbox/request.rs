//! What a script needs to run; also the message to the sandbox process and its answer.

use super::fakeroot::Fakeroot;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// One program to run in a root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub root: Root,
    /// The program and its arguments; a name without `/` is looked up in the `PATH` of `environment`.
    pub argv: Vec<OsString>,
    /// Exactly this; nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// In the container; must exist.
    #[serde(with = "path")]
    pub working_directory: PathBuf,
    /// Builds run with 0o002.
    pub umask: u32,
    pub binds: Vec<Bind>,
    pub read_only_root: bool,
    /// Binds copies of the host's `/etc/resolv.conf` and `/etc/hosts` over the root's.
    pub host_name_resolution: bool,
    /// Placed in the root before the program starts and removed after.
    pub script: Option<Script>,
    /// Named in each [`Event::Output`](crate::event::Event::Output).
    pub step: String,
    /// All output is appended here; not used when `interactive`.
    #[serde(with = "path")]
    pub log: PathBuf,
    pub standard_input: StandardInput,
    /// The program gets this process's own terminal, as for a shell in a failed step.
    pub interactive: bool,
    /// Whether owners and devices that the user namespace does not have are imitated.
    pub fakeroot: Option<Fakeroot>,
    /// An existing directory of the host, on disk, in which a private `/tmp` and the like are made and removed again.
    #[serde(with = "path")]
    pub temporary: PathBuf,
}

/// The file system that the program sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Root {
    /// Kernel overlay: `lower` from the top down, at most 500, none for an empty root; changes land in `upper`, which is not
    /// synced to disk. `work` belongs to the kernel, lies on the
    /// file system of `upper`, and is emptied first.
    Overlay {
        #[serde(with = "paths")]
        lower: Vec<PathBuf>,
        #[serde(with = "path")]
        upper: PathBuf,
        #[serde(with = "path")]
        work: PathBuf,
    },
    /// A plain directory that is changed in place: the fallback where no overlay is possible, and sandbox images.
    Directory(#[serde(with = "path")] PathBuf),
}

/// A file or directory of the host shown in the container; mounts below it come along.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    #[serde(with = "path")]
    pub source: PathBuf,
    /// Made when missing, and removed after when still empty.
    #[serde(with = "path")]
    pub destination: PathBuf,
    pub read_only: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Script {
    /// `/.post.script`; what has that name in the root already is replaced.
    #[serde(with = "path")]
    pub path_in_root: PathBuf,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StandardInput {
    Inherit,
    Null,
}

/// How the program ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub ending: Ending,
    pub duration: Duration,
    /// At most 20, the last of the output.
    pub last_lines: Vec<String>,
    /// The last line that `sh -x` traced, without its `+`.
    pub last_command: Option<String>,
    pub log: PathBuf,
    /// What the fakeroot recorded of the files that were changed, for [`correct`](super::correct).
    pub recorded: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    Exited(i32),
    Signaled(i32),
}

impl Outcome {
    pub fn is_success(&self) -> bool {
        self.ending == Ending::Exited(0)
    }

    /// As a shell says it: 128 and the number of the signal.
    pub fn code(&self) -> i32 {
        match self.ending {
            Ending::Exited(code) => code,
            Ending::Signaled(signal) => 128 + signal,
        }
    }
}

/// The first and only message to the sandbox process.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub run: Run,
    pub parent: i32,
    /// Private to this run, removed by the parent.
    #[serde(with = "path")]
    pub session: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Finished { ending: Ending, milliseconds: u64, recorded: Option<String> },
    Failed(Failure),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Operation { operation: String, errno: i32 },
    Exec { program: String, errno: i32 },
}

impl Failure {
    pub fn new(operation: impl Into<String>, errno: impl Into<std::io::Error>) -> Failure {
        let errno = errno.into().raw_os_error().unwrap_or(libc::EIO);
        Failure::Operation { operation: operation.into(), errno }
    }
}

/// Why: serde writes a `PathBuf` only if it is UTF-8; an `OsString` goes through whole.
mod path {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        OsString::deserialize(deserializer).map(PathBuf::from)
    }
}

mod paths {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::ffi::OsString;
    use std::path::PathBuf;

    pub fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| path.as_os_str()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<OsString>::deserialize(deserializer)?.into_iter().map(PathBuf::from).collect())
    }
}
