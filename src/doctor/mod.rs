//! What a host can do for builds: from what was observed to what it means, its cause and the one remedy.
//!
//! Pure: `sandbox::abilities` tries, this judges. So advice for a host is tested without having such a host.
//! Sources: user_namespaces(7), newuidmap(1), seccomp_unotify(2), the manuals of Docker, GitLab Runner and Kubernetes.

mod judge;
pub mod namespaces;
mod observations;
mod remedy;
mod render;

pub use judge::judge;
pub use observations::{
    Attempt, HostObservations, Identity, Inside, Listener, Mode, Observations, Outer, Place, Range, RangeObservations,
    Reached, Refused, Role, Single, Stage,
};
pub use render::{json, text};

/// What was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The mode that a build takes; `None` where nothing can be executed.
    pub mode: Option<Mode>,
    /// Whether a definition with `%post` can be built.
    pub executes: bool,
    /// Whether the store and the temporary directory take what a build writes.
    pub stores: bool,
    /// In the order in which a build needs them.
    pub findings: Vec<Finding>,
}

/// One ability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `user-namespace`, `overlay`: stable, for programs.
    pub ability: &'static str,
    pub state: State,
    /// What was seen, for a person.
    pub detail: String,
    pub cause: Option<String>,
    /// What to do, one way; several lines where it is a file or a command with its flags.
    pub remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Good,
    /// Builds work without it, or with less.
    Note,
    /// Builds with scripts, or all, fail.
    Failed,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Note => "note",
            State::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests;
