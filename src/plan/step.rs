//! One step of a plan.

use super::key::{Key, KeyDocument};
use crate::definition::{FileEntry, Script};
use crate::digest::Digest;
use crate::pins::BasePin;
use crate::skeleton::Origin;
use crate::source::Span;

/// Index of a step in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

#[derive(Clone, Debug)]
pub struct Step {
    pub id: StepId,
    /// Unique in the plan, without blanks: `post`, `build/post`.
    pub name: String,
    /// Index of the stage that it belongs to.
    pub stage: usize,
    /// Where the definition asks for it.
    pub origin: Span,
    /// Line of `origin`, from 1.
    pub line: usize,
    /// Steps whose results it works on. Invariant: all are before it. The first is the step whose filesystem it
    /// continues, if any.
    pub needs: Vec<StepId>,
    pub action: Action,
    pub reuse: Reuse,
}

/// What is done. Scripts come with their arguments; `skeleton::script_argv` makes the command line at the place
/// where the script lies.
#[derive(Clone, Debug)]
pub enum Action {
    /// `%pre`, on the host.
    Pre { script: Script },
    /// The stage's first filesystem.
    Base { pin: BasePin },
    /// `skeleton::after_base`.
    Skeleton { origin: Origin },
    /// `skeleton::apps`, then `%appfiles`.
    Apps { files: Vec<AppFile> },
    /// `%files from`. `source` is absent when there is no such stage before this one: performing that is an error.
    CopyFromStage { name: String, source: Option<usize>, entries: Vec<FileEntry> },
    /// `%setup`, on the host.
    Setup { script: Script },
    /// `%files`.
    CopyFromHost { files: Vec<HostFile> },
    /// `%post` with the installation of apps, in the sandbox.
    Post { script: Script },
    /// `skeleton::definition_metadata`.
    Metadata,
    /// `%test`, in the sandbox, on a filesystem that cannot be written.
    Test { script: Script },
    /// Writes the image from the last stage.
    Pack,
}

/// One line of `%files` and the content that was pinned for it; absent when it could not be read then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFile {
    pub entry: FileEntry,
    pub content: Option<Digest>,
}

/// One line of an app's `%appfiles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppFile {
    pub app: String,
    pub file: HostFile,
}

/// Whether a step's result from an earlier build may stand for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Yes, one that is remembered under this key.
    Keyed { key: Key, document: KeyDocument },
    /// It is not remembered: it says the time of the build, or is the output itself.
    Anew,
    /// No: what it works on may be different without a trace. `line` is that of the cause, from 1.
    Never { because: String, line: usize },
}

impl Step {
    pub fn key(&self) -> Option<&Key> {
        match &self.reuse {
            Reuse::Keyed { key, .. } => Some(key),
            _ => None,
        }
    }

    pub fn document(&self) -> Option<&KeyDocument> {
        match &self.reuse {
            Reuse::Keyed { document, .. } => Some(document),
            _ => None,
        }
    }
}

impl Action {
    /// One line for a person.
    pub fn describe(&self) -> String {
        let paths = |entries: Vec<&str>| match entries.as_slice() {
            [] => "nothing".to_owned(),
            [one] => (*one).to_owned(),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        };
        match self {
            Action::Pre { .. } => "run %pre on the host".to_owned(),
            Action::Base { pin } => describe_pin(pin),
            Action::Skeleton { .. } => "write /.singularity.d".to_owned(),
            Action::Apps { .. } => "write /scif".to_owned(),
            Action::CopyFromStage { name, entries, .. } => {
                format!("copy {} from stage {name}", paths(entries.iter().map(|entry| entry.source.as_str()).collect()))
            }
            Action::Setup { .. } => "run %setup on the host".to_owned(),
            Action::CopyFromHost { files } => {
                format!("copy {}", paths(files.iter().map(|file| file.entry.source.as_str()).collect()))
            }
            Action::Post { .. } => "run %post".to_owned(),
            Action::Metadata => "write labels, definition and scripts".to_owned(),
            Action::Test { .. } => "run %test".to_owned(),
            Action::Pack => "write the image".to_owned(),
        }
    }
}

fn describe_pin(pin: &BasePin) -> String {
    match pin {
        BasePin::Scratch => "begin with nothing".to_owned(),
        BasePin::Docker { reference, manifest } => format!("take {reference} ({manifest})"),
        BasePin::OciLayout { source, manifest } => format!("take {source} ({manifest})"),
        BasePin::Local { path, digest, .. } => format!("take {path} ({digest})"),
        BasePin::Oras { reference, manifest, .. } => format!("take {reference} ({manifest})"),
        BasePin::Library { reference, digest, .. } => format!("take {reference} ({digest})"),
        BasePin::Busybox { url, .. } => format!("take {url}"),
        BasePin::Debian { lines } => format!("unpack Debian packages ({} lines)", lines.len()),
        BasePin::Rpm { lines } => format!("install RPM packages ({} lines)", lines.len()),
        BasePin::Pacman { lines } => format!("install pacman packages ({} lines)", lines.len()),
    }
}
