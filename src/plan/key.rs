//! What identifies the result of a step.
//!
//! A [`KeyDocument`] holds everything that a result depends on, as sorted `name value` lines; its digest is the
//! [`Key`]. Two documents of one step, compared, say why it runs again.
//!
//! | in a document | never in one |
//! |---|---|
//! | the version of keys, the key of the step before | the definition's path, spans, comments outside scripts |
//! | the pin, the architecture | the reference that led to the pin |
//! | script text after arguments, its command line | temporary directories, user, clock |
//! | the environment that it sees, binds, network, id mode | threads, compression |

use crate::digest::Digest;
use std::collections::BTreeMap;
use std::fmt;

/// Raised when the meaning of documents or of what is stored under keys changes.
pub const KEY_VERSION: &str = "1";

/// Identifies the filesystem after a step, or that a test passed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Digest);

impl Key {
    pub fn of(document: &KeyDocument) -> Key {
        Key(Digest::of(document.write().as_bytes()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Names and values, sorted by name. A value of several lines is written as several lines of one name, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyDocument {
    values: BTreeMap<String, Vec<String>>,
}

/// Why text is not a key document. `line` counts from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of a key document has no value")]
pub struct KeyDocumentError {
    pub line: usize,
}

/// One name whose value is not the same in two documents; only the lines that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub name: String,
    pub removed: Vec<String>,
    pub added: Vec<String>,
}

impl KeyDocument {
    /// A document that says its version and what kind of step it is of.
    pub(super) fn new(action: &str) -> KeyDocument {
        let mut document = KeyDocument::default();
        document.set("key-version", KEY_VERSION);
        document.set("action", action);
        document
    }

    /// Invariant: a name is set once and has no blank in it, so that no two documents share a text.
    pub(super) fn set(&mut self, name: impl Into<String>, value: impl AsRef<str>) {
        let name = name.into();
        assert!(!name.contains([' ', '\n']), "key document name {name:?} has a blank");
        let lines = value.as_ref().split('\n').map(str::to_owned).collect();
        let previous = self.values.insert(name, lines);
        assert!(previous.is_none(), "key document sets a name twice: {previous:?}");
    }

    /// Sets `NAME.0000`, `NAME.0001`, ….
    pub(super) fn set_list<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) {
        for (number, value) in values.into_iter().enumerate() {
            self.set(format!("{name}.{number:04}"), value);
        }
    }

    pub fn write(&self) -> String {
        let mut text = String::new();
        for (name, lines) in &self.values {
            for line in lines {
                text.push_str(&format!("{name} {line}\n"));
            }
        }
        text
    }

    /// Reads what [`KeyDocument::write`] wrote.
    pub fn parse(text: &str) -> Result<KeyDocument, KeyDocumentError> {
        let mut document = KeyDocument::default();
        let body = text.strip_suffix('\n').unwrap_or(text);
        for (number, line) in body.split('\n').enumerate().filter(|_| !body.is_empty()) {
            let (name, value) = line.split_once(' ').ok_or(KeyDocumentError { line: number + 1 })?;
            document.values.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        Ok(document)
    }

    /// What changed from `self` to `newer`.
    pub fn differences(&self, newer: &KeyDocument) -> Vec<Difference> {
        let names: std::collections::BTreeSet<&String> = self.values.keys().chain(newer.values.keys()).collect();
        let mut differences = Vec::new();
        for name in names {
            let (old, new) = (self.lines(name), newer.lines(name));
            if old == new {
                continue;
            }
            let same_start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
            let (old, new) = (&old[same_start..], &new[same_start..]);
            let same_end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
            differences.push(Difference {
                name: name.clone(),
                removed: old[..old.len() - same_end].to_vec(),
                added: new[..new.len() - same_end].to_vec(),
            });
        }
        differences
    }

    /// The first line of a value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.lines(name).first().map(String::as_str)
    }

    fn lines(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }
}

impl fmt::Display for Difference {
    /// `- NAME LINE` and `+ NAME LINE`, each on its line, the last without a line end.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = self.removed.iter().map(|line| ('-', line));
        let lines = removed.chain(self.added.iter().map(|line| ('+', line)));
        for (number, (sign, line)) in lines.enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(formatter, "{end}{sign} {} {line}", self.name)?;
        }
        Ok(())
    }
}
