//! Everything that stops a build, each with its subject.

use crate::diagnostic::Diagnostic;
use crate::tree::TreePath;
use std::path::PathBuf;
use std::time::Duration;

/// Kinds of failure: one exit code each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Definition,
    Script,
    Source,
    Sandbox,
    Output,
    Target,
    /// A base that is not signed as is asked, or not one that a policy accepts.
    Trust,
}

/// A script that ended badly, with what a person wants to know of it.
#[derive(Clone, Debug)]
pub struct ScriptFailure {
    /// `%post`.
    pub section: String,
    /// Definition's name and the line of the section: `app.def:12`.
    pub place: String,
    /// `exit status 2`, or the signal.
    pub status: String,
    pub duration: Duration,
    /// Where the command stands, when that can be told.
    pub command_place: Option<String>,
    /// The last command that the shell traced.
    pub command: Option<String>,
    pub last_lines: Vec<String>,
    pub log: PathBuf,
    /// Where the failed state was kept, when that was asked for.
    pub kept: Option<PathBuf>,
    /// It ran in the sandbox and no shell was asked for: there is a state to look at.
    pub can_look_around: bool,
    /// Only one user id was available and no fakeroot, which makes `chown` and the like fail.
    pub single_id: bool,
    /// The disk that the script wrote to is full.
    pub full: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot read the definition {path}: {cause}", path = path.display())]
    ReadDefinition { path: PathBuf, cause: std::io::Error },
    #[error("{name} has {count} faults", count = diagnostics.len())]
    Definition { name: String, diagnostics: Vec<Diagnostic> },
    #[error("{place}: {cause}")]
    Header { place: String, cause: String },
    #[error("{place}: cannot copy {source_path}: {cause}")]
    Copy { place: String, source_path: String, cause: String },
    #[error("{place}: `Bootstrap: {agent}` is not built in yet; {remedy}")]
    AgentAbsent { place: String, agent: String, remedy: &'static str },
    #[error("{place}: {cause}")]
    Base { place: String, cause: String },
    #[error(
        "{place}: {subject} is needed, but --offline forbids to ask for it; build once without --offline, or use a lock file"
    )]
    Offline { place: String, subject: String },
    #[error(
        "{place}: {lock} does not say what this base is: the definition changed since it was written; run `sifbuild lock` on the definition, or \
         build with --no-lock",
        lock = lock.display()
    )]
    NotLocked { place: String, lock: PathBuf },
    #[error("{place}: {cause}")]
    Untrusted { place: String, cause: String },
    #[error("{}", failed_script(.0))]
    Script(Box<ScriptFailure>),
    #[error("cannot run {section} ({place}): {cause}")]
    Sandbox { section: String, place: String, cause: crate::sandbox::Error },
    #[error("cannot pack {path}: {cause}")]
    Pack { path: TreePath, cause: String },
    #[error("cannot write the image {path}: {cause}", path = path.display())]
    Write { path: PathBuf, cause: String },
    #[error("build target '{path}' already exists. Use --force if you want to overwrite it", path = path.display())]
    TargetExists { path: PathBuf },
    #[error("the target {path} cannot be used: {cause}", path = path.display())]
    Target { path: PathBuf, cause: String },
    #[error("{place}\n  cause: {cause}")]
    Full { place: super::full::FullPlace, cause: Box<BuildError> },
    #[error("{0}")]
    NoRoom(Box<super::space::room::Shortage>),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Disk(#[from] crate::disk::Error),
}

impl BuildError {
    pub fn kind(&self) -> Failure {
        use BuildError::*;
        match self {
            ReadDefinition { .. } | Definition { .. } | Header { .. } => Failure::Definition,
            AgentAbsent { .. } | Base { .. } | Offline { .. } | NotLocked { .. } | Copy { .. } => Failure::Source,
            Untrusted { .. } => Failure::Trust,
            Script(_) => Failure::Script,
            Sandbox { .. } => Failure::Sandbox,
            Pack { .. } | Write { .. } | Full { .. } | NoRoom(_) | Store(_) | Disk(_) => Failure::Output,
            TargetExists { .. } | Target { .. } => Failure::Target,
        }
    }
}

fn failed_script(failure: &ScriptFailure) -> String {
    let mut text = format!(
        "{} failed ({}) with {} after {:.1} s",
        failure.section,
        failure.place,
        failure.status,
        failure.duration.as_secs_f64()
    );
    if let Some(command) = &failure.command {
        match &failure.command_place {
            Some(place) => text.push_str(&format!("\n  command ({place}): {command}")),
            None => text.push_str(&format!("\n  command: {command}")),
        }
    }
    if !failure.last_lines.is_empty() {
        text.push_str("\n  last lines:");
        for line in &failure.last_lines {
            text.push_str(&format!("\n    {line}"));
        }
    }
    if failure.log.exists() {
        text.push_str(&format!("\n  log: {}", failure.log.display()));
    }
    if failure.single_id {
        text.push_str("\n  note: only one user id is available here and this kernel lets nobody answer system calls, so chown, useradd and setgroups fail; with a range of ids in /etc/subuid and /etc/subgid they work");
    }
    if let Some(full) = &failure.full {
        text.push_str(&format!("\n  note: {full}"));
    }
    match &failure.kept {
        Some(kept) => {
            text.push_str(&format!("\n  kept: {0}\n  to look around in it: sifbuild shell {0}", kept.display()))
        }
        None if failure.can_look_around => text.push_str(
            "\n  to look around in this state: build again with --on-fail shell, or keep it with --keep-failed",
        ),
        None => {}
    }
    text
}
