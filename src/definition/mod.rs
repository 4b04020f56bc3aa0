//! The definition language: what the author wrote, as immutable values with their places.
//!
//! Sources: facts §1 and the header keys of §2. Parsing splits first (that never fails), then small grammars fail locally, so
//! one run reports every fault.
//!
//! ```text
//! text ─lines, chunks→ stages' texts ─arguments put in→ lines, sections ─lower→ Stage ─check→ lints
//! ```
//!
//! # Differences from Apptainer
//!
//! A file that Apptainer builds means the same here, but for the rows marked `*`. The other rows are files that Apptainer refuses
//! or crashes on.
//!
//! | what is written | Apptainer | here |
//! |---|---|---|
//! | `%` or `Bootstrap:` lines in a here-document, where cutting it there cannot be built: an unknown section, or a terminator that lands in a header, in `%files`, or in a script run by `sh -e` | cuts the script | keeps the here-document whole (note SB034) |
//! | the same where the cut gives a file that can be built | cuts the script | the same (warning SB029) |
//! | a header or section of more than 64 KiB | refused | no limit; 64 MiB a stage after arguments |
//! | byte order mark at the start | refused | skipped (SB108) |
//! | an indented section line with a known name | refused | read (SB030) |
//! | a tab or another blank behind a section's name | refused | read as the space (SB031) |
//! | `%AppRun NAME` | refused | read as `%apprun NAME` (SB032) |
//! | a blank or comment line inside a continuation | crashes | skipped; a line that is itself a known `Key:` ends the continuation (SB027) |
//! | `Include: \` with its first word on the next line | refused | continued |
//! | `From`, `Bootstrap`, `MirrorURL`, `OSVersion` whose last line ends in `\` | drops the key and fails | keeps the value (SB026); other keys are dropped as there |
//! | `#` directly behind a character in a URL-valued key | cut | kept in the header `*`; of mirrors' addresses a fragment is dropped, and a `#` in the password is written `%23` |
//! | `#` in any other header value | cut | the same (SB028) |
//! | `'a b'` in `%files` | two broken paths | one path; inside a path an apostrophe is literal `*` |
//! | `From: docker://…` with `Bootstrap: docker`, and so on | refused | the scheme is dropped (SB107) |
//! | debootstrap without `MirrorURL` | refused | the mirror of the host's own apt configuration |
//! | `arch` with several words in `Include` | one argument, refused | so many packages |
//! | `arch` with `MirrorURL` | ignored | the mirror `*` |
//! | `%files from` its own stage or a later one | copies what is there, mostly nothing | refused (SB022) `*` |
//! | comments and blank lines in a build-arg file | warned of | skipped |
//! | text that is not UTF-8 | taken as bytes | refused (SB042) `*` |
//! | a placeholder whose name is not defined, inside an otherwise refused file | one error at a time | all at once |

mod agents;
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
    /// Of each line of the body, the line of the source (from 1) that it stands on. A repeated section has gaps; what is not of the source
    /// has the line of what it was made from.
    pub lines: Vec<usize>,
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
    /// A SIF in a registry.
    Oras(FileBase),
    /// A SIF in a Sylabs library.
    Library(LibraryBase),
    Scratch,
    Busybox {
        mirror_url: Spanned<String>,
    },
    Debootstrap(DebianBase),
    /// `yum`, `dnf`, or `zypper` with a mirror.
    Yum(YumBase),
    Arch(ArchBase),
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
pub struct LibraryBase {
    /// `[HOST/][ENTITY/[COLLECTION/]]NAME[:TAG]`.
    pub from: Spanned<String>,
    /// `Library:`, the service's address.
    pub library: Option<String>,
    /// As of [`FileBase`].
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YumBase {
    /// `yum`, `dnf` or `zypper`.
    pub agent: String,
    pub mirror_url: Spanned<String>,
    pub update_url: Option<Spanned<String>>,
    pub os_version: Option<String>,
    pub include: Vec<Spanned<String>>,
    pub setopt: Option<String>,
    /// Module streams of `Modules`, as `MODULE:STREAM`: Apptainer reads the header for zypper only, and ignores it here.
    pub modules: Vec<Spanned<String>>,
    /// Further repositories, of `OtherURL0` and so on, which Apptainer ignores here.
    pub other_urls: Vec<Spanned<String>>,
    /// Addresses of keys, of `ProductPGP`: Apptainer reads the header for zypper only, and ignores it here.
    pub keys: Vec<Spanned<String>>,
    /// Of keys that may have signed packages, upper-case hexadecimal.
    pub fingerprints: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchBase {
    /// Address of a pacman.conf; absent: the repositories core and extra.
    pub conf_url: Option<Spanned<String>>,
    /// With `$repo` and `$arch`; absent: the distribution's own. Apptainer ignores the header here, and takes the host's mirrors.
    pub mirror_url: Option<Spanned<String>>,
    /// In place of `base`.
    pub include: Vec<Spanned<String>>,
    /// As of [`YumBase`]; Apptainer ignores the header here.
    pub keys: Vec<Spanned<String>>,
    /// As of [`YumBase`].
    pub fingerprints: Vec<String>,
}

#[cfg(test)]
mod tests;
