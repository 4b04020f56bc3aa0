//! Every answer that the outside world gave to a definition, and the text form that keeps them.
//!
//! Only pinning asks the world; planning reads these values and asks nothing. The base pins alone are the lock file: an
//! answer is kept with the question that it answers, so that an edited header is asked anew.
//!
//! Text form: lines `NAME VALUE`, sorted; in values `\` is written `\\` and a line end `\n`.

mod difference;
mod question;

pub use difference::{Difference, difference};
pub use question::question;

use crate::digest::{Digest, DigestError};
use crate::rpm::pin::UNCHECKED;
use std::collections::BTreeMap;

/// Stages accepted when text is read.
const MAXIMUM_STAGES: usize = 1000;

/// The answers for each stage, in the definition's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    pub stages: Vec<StagePins>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagePins {
    /// What was asked for the base, as [`question`] says it.
    pub question: String,
    pub base: BasePin,
    /// Source of a host `%files` entry, as written → digest of all that it stands for now: names, metadata, contents.
    /// A source that could not be read is absent.
    pub files: BTreeMap<String, Digest>,
    /// As `files`, for `%appfiles`, whose sources are not patterns.
    pub app_files: BTreeMap<String, Digest>,
}

/// The exact base of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BasePin {
    Scratch,
    /// An image of a registry.
    Docker {
        /// Normalised: registry, repository, tag.
        reference: String,
        /// Of the manifest for the architecture that is built.
        manifest: Digest,
    },
    /// An image of a layout, archive or daemon on this host.
    OciLayout {
        /// `From:` as written.
        source: String,
        manifest: Digest,
    },
    Local {
        path: String,
        kind: LocalKind,
        digest: Digest,
    },
    /// A SIF in a registry.
    Oras {
        /// Normalised: registry, repository, tag.
        reference: String,
        /// Of the manifest for the architecture that is built.
        manifest: Digest,
        /// Of the SIF.
        digest: Digest,
    },
    /// A SIF in a library.
    Library {
        /// Normalised: entity, collection, name, tag.
        reference: String,
        /// The library's address.
        url: String,
        /// Of the SIF.
        digest: Digest,
    },
    Busybox {
        url: String,
        digest: Digest,
    },
    /// The agent's own lines: one for each package and whatever else determines the result.
    Debian {
        lines: Vec<String>,
    },
    /// As `Debian`.
    Rpm {
        lines: Vec<String>,
    },
    /// As `Debian`.
    Pacman {
        lines: Vec<String>,
    },
}

/// What a `localimage` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalKind {
    Sif,
    Squashfs,
    Sandbox,
}

/// Why text is not pins. `line` counts from 1; 0 where a stage as a whole is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinsError {
    #[error("line {line} of the lock file: {text:?} is not a name and its value")]
    NotALine { line: usize, text: String },
    #[error("line {line} of the lock file: {name:?} is not known here")]
    UnknownName { line: usize, name: String },
    #[error("line {line} of the lock file repeats {name:?}")]
    Repeated { line: usize, name: String },
    #[error("the lock file has no {name} for stage {stage}")]
    Missing { stage: usize, name: &'static str },
    #[error("the lock file says {value:?} for {name} of stage {stage}: {cause}")]
    BadValue { stage: usize, name: &'static str, value: String, cause: String },
}

impl Pins {
    /// The base that answered this question, in whatever stage.
    pub fn recall(&self, question: &str) -> Option<&BasePin> {
        self.stages.iter().find(|stage| stage.question == question).map(|stage| &stage.base)
    }

    /// All pins as text.
    pub fn write(&self) -> String {
        self.write_lines(true)
    }

    /// The base pins as text: the lock file.
    pub fn lock(&self) -> String {
        self.write_lines(false)
    }

    /// Reads what [`Pins::write`] or [`Pins::lock`] wrote. Empty lines and lines that begin with `#` are skipped.
    pub fn parse(text: &str) -> Result<Pins, PinsError> {
        let mut stages: BTreeMap<usize, Fields> = BTreeMap::new();
        for (number, text) in text.lines().enumerate() {
            let line = number + 1;
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let shown = || text.chars().take(160).collect::<String>();
            let (name, value) = text.split_once(' ').ok_or_else(|| PinsError::NotALine { line, text: shown() })?;
            let (stage, field) = split_name(name).ok_or_else(|| PinsError::UnknownName { line, name: shown() })?;
            let value = unescape(value).ok_or_else(|| PinsError::NotALine { line, text: shown() })?;
            stages.entry(stage).or_default().add(line, field, value)?;
        }
        let mut pins = Pins::default();
        for (expected, (number, fields)) in stages.into_iter().enumerate() {
            if number != expected {
                return Err(PinsError::Missing { stage: expected, name: "base" });
            }
            pins.stages.push(fields.build(number)?);
        }
        Ok(pins)
    }

    fn write_lines(&self, with_files: bool) -> String {
        let mut lines = Vec::new();
        for (number, stage) in self.stages.iter().enumerate() {
            let mut line =
                |name: &str, value: &str| lines.push(format!("stage.{number:03}.{name} {}\n", escape(value)));
            line("question", &stage.question);
            for (name, value) in stage.base.lines() {
                line(&format!("base.{name}"), &value);
            }
            if with_files {
                stage.files.iter().for_each(|(source, digest)| line("file", &format!("{digest} {source}")));
                stage.app_files.iter().for_each(|(source, digest)| line("app-file", &format!("{digest} {source}")));
            }
        }
        lines.sort();
        lines.concat()
    }
}

impl BasePin {
    /// Which kind of base this is.
    pub fn agent(&self) -> &'static str {
        match self {
            BasePin::Scratch => "scratch",
            BasePin::Docker { .. } => "docker",
            BasePin::OciLayout { .. } => "oci",
            BasePin::Local { .. } => "local",
            BasePin::Oras { .. } => "oras",
            BasePin::Library { .. } => "library",
            BasePin::Busybox { .. } => "busybox",
            BasePin::Debian { .. } => "debian",
            BasePin::Rpm { .. } => "rpm",
            BasePin::Pacman { .. } => "pacman",
        }
    }

    /// An agent's own lines.
    fn own_lines(&self) -> Option<&[String]> {
        match self {
            BasePin::Debian { lines } | BasePin::Rpm { lines } | BasePin::Pacman { lines } => Some(lines),
            _ => None,
        }
    }

    /// Name, version and architecture of each package.
    pub fn packages(&self) -> Vec<(&str, &str, &str)> {
        let Some(lines) = self.own_lines() else { return Vec::new() };
        // Debian's lines begin with the number of the batch.
        let skipped = usize::from(matches!(self, BasePin::Debian { .. }));
        let words = lines.iter().filter_map(|line| line.strip_prefix("package "));
        words
            .filter_map(|line| {
                let mut words = line.split(' ').skip(skipped);
                Some((words.next()?, words.next()?, words.next()?))
            })
            .collect()
    }

    /// Whether packages were taken without their signatures being checked.
    pub fn is_unchecked(&self) -> bool {
        self.own_lines().is_some_and(|lines| lines.iter().any(|line| line == UNCHECKED))
    }

    /// Everything, as names and values.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![("agent".to_owned(), self.agent().to_owned())];
        let mut add = |name: &str, value: String| lines.push((name.to_owned(), value));
        match self {
            BasePin::Scratch => {}
            BasePin::Docker { reference, manifest } => {
                add("manifest", manifest.to_string());
                add("reference", reference.clone());
            }
            BasePin::OciLayout { source, manifest } => {
                add("manifest", manifest.to_string());
                add("source", source.clone());
            }
            BasePin::Local { path, kind, digest } => {
                add("digest", digest.to_string());
                add("kind", kind.name().to_owned());
                add("path", path.clone());
            }
            BasePin::Oras { reference, manifest, digest } => {
                add("digest", digest.to_string());
                add("manifest", manifest.to_string());
                add("reference", reference.clone());
            }
            BasePin::Library { reference, url, digest } => {
                add("digest", digest.to_string());
                add("reference", reference.clone());
                add("url", url.clone());
            }
            BasePin::Busybox { url, digest } => {
                add("digest", digest.to_string());
                add("url", url.clone());
            }
            BasePin::Debian { lines } | BasePin::Rpm { lines } | BasePin::Pacman { lines } => {
                for (number, line) in lines.iter().enumerate() {
                    add(&format!("line.{number:06}"), line.clone());
                }
            }
        }
        lines
    }

    /// What determines the base's content, and nothing else: the same image by another name is the same base.
    pub fn identity(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let local = |kind: LocalKind, digest: &Digest| {
            vec![
                pair("agent", "local".to_owned()),
                pair("digest", digest.to_string()),
                pair("kind", kind.name().to_owned()),
            ]
        };
        match self {
            BasePin::Docker { manifest, .. } | BasePin::OciLayout { manifest, .. } => {
                vec![pair("agent", "oci".to_owned()), pair("manifest", manifest.to_string())]
            }
            BasePin::Busybox { digest, .. } => {
                vec![pair("agent", "busybox".to_owned()), pair("digest", digest.to_string())]
            }
            BasePin::Local { kind, digest, .. } => local(*kind, digest),
            BasePin::Oras { digest, .. } | BasePin::Library { digest, .. } => local(LocalKind::Sif, digest),
            BasePin::Scratch | BasePin::Debian { .. } | BasePin::Rpm { .. } | BasePin::Pacman { .. } => self.lines(),
        }
    }
}

impl LocalKind {
    pub fn name(self) -> &'static str {
        match self {
            LocalKind::Sif => "sif",
            LocalKind::Squashfs => "squashfs",
            LocalKind::Sandbox => "sandbox",
        }
    }
}

/// The lines of one stage while text is read.
#[derive(Default)]
struct Fields {
    values: BTreeMap<String, String>,
    /// Agent's own lines, by name; their order is that of the names.
    lines: BTreeMap<String, String>,
    files: BTreeMap<String, Digest>,
    app_files: BTreeMap<String, Digest>,
}

impl Fields {
    fn add(&mut self, line: usize, field: &str, value: String) -> Result<(), PinsError> {
        let unknown = || PinsError::UnknownName { line, name: field.chars().take(160).collect() };
        let repeated = || PinsError::Repeated { line, name: field.chars().take(160).collect() };
        let previous = match field {
            "file" | "app-file" => {
                let not_a_line = || PinsError::NotALine { line, text: value.chars().take(160).collect() };
                let (digest, source) = value.split_once(' ').ok_or_else(not_a_line)?;
                let digest = digest.parse().map_err(|_| not_a_line())?;
                let files = if field == "file" { &mut self.files } else { &mut self.app_files };
                return files.insert(source.to_owned(), digest).map_or(Ok(()), |_| Err(repeated()));
            }
            "question" => self.values.insert(field.to_owned(), value),
            _ => match field.strip_prefix("base.").ok_or_else(unknown)? {
                name if name.starts_with("line.") => self.lines.insert(name.to_owned(), value),
                name @ ("agent" | "manifest" | "reference" | "source" | "digest" | "kind" | "path" | "url") => {
                    self.values.insert(name.to_owned(), value)
                }
                _ => return Err(unknown()),
            },
        };
        previous.map_or(Ok(()), |_| Err(repeated()))
    }

    fn build(mut self, stage: usize) -> Result<StagePins, PinsError> {
        let question = self.take(stage, "question")?;
        let agent = self.take(stage, "agent")?;
        let base = match agent.as_str() {
            "scratch" => BasePin::Scratch,
            "docker" => {
                BasePin::Docker { reference: self.take(stage, "reference")?, manifest: self.digest(stage, "manifest")? }
            }
            "oci" => {
                BasePin::OciLayout { source: self.take(stage, "source")?, manifest: self.digest(stage, "manifest")? }
            }
            "local" => BasePin::Local {
                path: self.take(stage, "path")?,
                kind: self.kind(stage)?,
                digest: self.digest(stage, "digest")?,
            },
            "oras" => BasePin::Oras {
                reference: self.take(stage, "reference")?,
                manifest: self.digest(stage, "manifest")?,
                digest: self.digest(stage, "digest")?,
            },
            "library" => BasePin::Library {
                reference: self.take(stage, "reference")?,
                url: self.take(stage, "url")?,
                digest: self.digest(stage, "digest")?,
            },
            "busybox" => BasePin::Busybox { url: self.take(stage, "url")?, digest: self.digest(stage, "digest")? },
            "debian" => BasePin::Debian { lines: std::mem::take(&mut self.lines).into_values().collect() },
            "rpm" => BasePin::Rpm { lines: std::mem::take(&mut self.lines).into_values().collect() },
            "pacman" => BasePin::Pacman { lines: std::mem::take(&mut self.lines).into_values().collect() },
            _ => return Err(bad_value(stage, "base.agent", agent, "no agent of this name".to_owned())),
        };
        Ok(StagePins { question, base, files: self.files, app_files: self.app_files })
    }

    fn take(&mut self, stage: usize, name: &'static str) -> Result<String, PinsError> {
        self.values.remove(name).ok_or(PinsError::Missing { stage, name })
    }

    fn digest(&mut self, stage: usize, name: &'static str) -> Result<Digest, PinsError> {
        let value = self.take(stage, name)?;
        value.parse().map_err(|error: DigestError| bad_value(stage, name, value, error.cause.to_owned()))
    }

    fn kind(&mut self, stage: usize) -> Result<LocalKind, PinsError> {
        let value = self.take(stage, "kind")?;
        let kinds = [LocalKind::Sif, LocalKind::Squashfs, LocalKind::Sandbox];
        let known = kinds.into_iter().find(|kind| kind.name() == value);
        known.ok_or_else(|| bad_value(stage, "kind", value, "sif, squashfs and sandbox are known".to_owned()))
    }
}

fn bad_value(stage: usize, name: &'static str, value: String, cause: String) -> PinsError {
    PinsError::BadValue { stage, name, value: value.chars().take(160).collect(), cause }
}

/// `stage.NUMBER.FIELD`.
fn split_name(name: &str) -> Option<(usize, &str)> {
    let (number, field) = name.strip_prefix("stage.")?.split_once('.')?;
    let number = number.parse().ok().filter(|number| *number < MAXIMUM_STAGES)?;
    Some((number, field))
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescape(value: &str) -> Option<String> {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            other => other,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests;
