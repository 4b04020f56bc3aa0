//! The definition language: what the author wrote, as immutable values with their places.
//!
//! Sources: facts §1 and the header keys of §2. Parsing splits first (that never fails), then small grammars fail locally, so
//! one run reports every fault.
//!
//! ```text
//! text ─lines, chunks→ stages' texts ─arguments put in→ lines, sections ─lower→ Stage ─check→ lints
//! ```

mod arguments;
mod bootstrap;
mod check;
mod codes;
mod files;
mod grammar;
mod header;
mod hint;
mod json;
mod lower;
mod parse;
pub mod render;
mod report;
mod uri;

pub use arguments::{ArgumentError, Arguments};
pub use codes::CODES;
pub use json::print_json;
pub use parse::{Parsed, parse};
pub use uri::{parse_spec_uri, read_text};

use crate::source::{SourceFile, Span, Spanned};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One definition file after arguments were put in.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The text that spans refer to (before arguments were put in).
    pub source: Arc<SourceFile>,
    pub stages: Vec<Stage>,
    /// The text that the image stores: every chunk with its arguments put in.
    pub raw: String,
}

/// One `Bootstrap:` and all that follows it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Value of `Stage:`.
    pub name: Option<Spanned<String>>,
    /// Header keys in order of first appearance, lower case; the last value of a repeated key.
    pub header: Vec<HeaderEntry>,
    pub bootstrap: Bootstrap,
    pub files: Vec<FilesBlock>,
    pub labels: Vec<Label>,
    pub help: Option<Script>,
    pub environment: Option<Script>,
    pub pre: Option<Script>,
    pub setup: Option<Script>,
    pub post: Option<Script>,
    pub test: Option<Script>,
    pub runscript: Option<Script>,
    pub startscript: Option<Script>,
    /// In order of first appearance.
    pub apps: Vec<App>,
    pub written: Written,
    pub span: Span,
}

impl Stage {
    /// A stage with a base and nothing else.
    pub fn new(bootstrap: Bootstrap, span: Span) -> Stage {
        Stage {
            name: None,
            header: Vec::new(),
            bootstrap,
            files: Vec::new(),
            labels: Vec::new(),
            help: None,
            environment: None,
            pre: None,
            setup: None,
            post: None,
            test: None,
            runscript: None,
            startscript: None,
            apps: Vec::new(),
            written: Written::default(),
            span,
        }
    }
}

/// What a stage's author wrote beyond what a build uses; the JSON form shows it (facts 1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The stage's text with its arguments put in.
    pub raw: String,
    /// `%arguments`.
    pub arguments: Option<Script>,
    /// Argument string and entries of each `%files`, those included that select nothing.
    pub files: Vec<(String, Vec<FileEntry>)>,
    /// Bodies of the app sections by `section NAME`.
    pub apps: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEntry {
    pub key: String,
    pub value: String,
    pub key_span: Span,
    /// The value's place; the key's when the value is empty.
    pub span: Span,
}

/// A section's body, exactly as the runtime gets it, with the argument string of its section line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What stands behind the section's name, verbatim; empty when nothing does.
    pub arguments: String,
    pub body: String,
    /// Section line and body in the source.
    pub span: Span,
    /// Line of the source (from 1) that the body's first line stands on.
    pub line: usize,
}

/// One `%files` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesBlock {
    /// `from STAGE`; absent for a copy from the host.
    pub from: Option<Spanned<String>>,
    pub entries: Vec<FileEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    pub source: String,
    /// Empty: the path of the source.
    pub destination: String,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub key: String,
    pub value: String,
    pub span: Span,
}

/// A SCIF app (facts §1.5, §4.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    pub name: String,
    pub install: Option<Script>,
    pub run: Option<Script>,
    pub start: Option<Script>,
    pub test: Option<Script>,
    pub environment: Option<Script>,
    pub help: Option<Script>,
    pub labels: Vec<Label>,
    pub files: Vec<FileEntry>,
}

/// Where a stage's base comes from, one variant an agent, its headers already checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// `docker://` registry.
    Docker(RegistryBase),
    /// OCI layout directory.
    Oci(FileBase),
    OciArchive(FileBase),
    DockerArchive(FileBase),
    DockerDaemon(FileBase),
    /// SIF, squashfs or sandbox directory.
    Localimage(FileBase),
    Scratch,
    Busybox {
        mirror_url: Spanned<String>,
    },
    Debootstrap(DebianBase),
    /// Known to Apptainer, not built in here yet: its name and the place where it stands.
    Absent(Spanned<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryBase {
    /// `From:` as written, without `//`.
    pub from: Spanned<String>,
    pub registry: Option<String>,
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileBase {
    pub from: Spanned<String>,
    /// Upper-case hexadecimal, from `Fingerprints:`.
    pub fingerprints: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianBase {
    /// Absent: the mirror in the host's own apt configuration.
    pub mirror_url: Option<Spanned<String>>,
    /// Suite or codename.
    pub os_version: Spanned<String>,
    pub include: Vec<Spanned<String>>,
}

#[cfg(test)]
mod tests;
