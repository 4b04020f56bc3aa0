//! What was tried on a host, and how it went.

use super::namespaces::Signs;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the kernel said to an attempt.
pub type Attempt = Result<(), Refused>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What was tried, in words that follow "cannot".
    pub action: String,
    pub errno: i32,
}

impl Refused {
    pub fn system(&self) -> String {
        std::io::Error::from_raw_os_error(self.errno).to_string()
    }
}

/// Everything that [`judge`](super::judge) knows.
#[derive(Clone, Debug)]
pub struct Observations {
    pub host: HostObservations,
    pub range: RangeObservations,
    pub single: Single,
    /// As a build lives: `None` where none of its modes could be entered.
    pub inside: Option<Inside>,
    pub places: Vec<Place>,
    /// Why `/dev/fuse` cannot be opened, if so.
    pub fuse: Attempt,
    pub registries: Vec<Reached>,
}

/// A registry's host, and why it does not answer, if so.
pub type Reached = (String, Result<(), String>);

/// The calling process and what is around it.
#[derive(Clone, Debug)]
pub struct HostObservations {
    /// Release of the kernel.
    pub kernel: String,
    pub uid: u32,
    pub user: Option<String>,
    /// Path of this program.
    pub program: PathBuf,
    pub outer: Option<Outer>,
    /// Whether AppArmor runs.
    pub apparmor: bool,
}

/// What the process runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    Docker,
    Podman,
    Kubernetes,
    GitlabDocker,
    GitlabKubernetes,
    /// Apptainer or Singularity.
    Apptainer,
    /// Another, told by its seccomp filter.
    Other,
}

/// Host ids `start` to `start + count - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub start: u32,
    pub count: u32,
}

#[derive(Clone, Debug)]
pub struct RangeObservations {
    /// The user's own, for users and groups; or why there are none.
    pub own: Result<(Range, Range), String>,
    /// All that the files give to anybody.
    pub taken: Vec<Range>,
    /// Whether entering it works; the sentence says why not.
    pub entered: Result<(), String>,
}

/// The namespace with one id: made by nobody's leave, so its failure is that of all modes.
#[derive(Clone, Debug)]
pub enum Single {
    Good,
    Refused { stage: Stage, signs: Signs },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    Unshare,
    Map,
    Mount,
}

/// Which ids a container process can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    Root,
    Range,
    Single,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Root => "root",
            Mode::Range => "range",
            Mode::Single => "single",
        }
    }
}

/// Who a build is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub mode: Mode,
    pub highest_id: u32,
    pub notes: Vec<String>,
}

/// What a process that lives as a build does could do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    pub identity: Identity,
    /// pid, ipc, uts.
    pub namespaces: Attempt,
    pub memory_file_system: Attempt,
    pub terminals: Attempt,
    /// `pivot_root`.
    pub root: Attempt,
    /// A `/proc` of the container's own processes.
    pub proc: Attempt,
    /// In the store: mount, remove, execute.
    pub overlay: Attempt,
    /// In the store: giving a file to another id.
    pub owners: Attempt,
    pub listener: Listener,
}

/// seccomp user notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub obtained: Attempt,
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, Linux 5.19.
    pub wait_killable: bool,
    /// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6.
    pub sync_wake_up: bool,
    /// `SECCOMP_ADDFD_FLAG_SEND`, Linux 5.14.
    pub add_and_send: bool,
}

/// A directory that builds write to.
#[derive(Clone, Debug)]
pub struct Place {
    pub role: Role,
    /// The directory, or the nearest one above that exists.
    pub path: PathBuf,
    /// A file was made, filled and removed.
    pub written: Attempt,
    /// A `user.` attribute was set.
    pub attributes: Attempt,
    /// Bytes and files for this user.
    pub free_bytes: u64,
    pub free_files: u64,
    pub is_noexec: bool,
    pub is_nosuid: bool,
    pub is_nodev: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Store,
    Temporary,
    /// Named as the place for images.
    Target,
    /// Where the command was called: perhaps the place for images.
    Current,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Store => "store",
            Role::Temporary => "temporary directory",
            Role::Target => "target directory",
            Role::Current => "current directory",
        }
    }
}
