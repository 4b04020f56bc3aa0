//! The metadata of a container: what `inspect` shows and what images carry as the JSON object `inspect-metadata.json`.
//!
//! [`describe`] makes it from any tree through two look-ups, so that builds, sandboxes and bare filesystems share it.
//! Compat: member order, compact form and escaping are those of Go's `encoding/json` (`<`, `>`, `&`, U+2028 and U+2029 as
//! `\u003c`…), since Apptainer stores and prints that.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::Formatter;
use std::collections::BTreeMap;
use std::io;

/// Name of the JSON object in an image.
pub const OBJECT_NAME: &str = "inspect-metadata.json";

/// The whole document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    #[serde(deserialize_with = "null_as_default")]
    pub data: Data,
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: Kind,
}

/// Always `container`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Container,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Data {
    #[serde(deserialize_with = "null_as_default")]
    pub attributes: Attributes,
}

/// Texts without their trailing newlines; empty ones are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub apps: BTreeMap<String, AppAttributes>,
    /// By path in the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub environment: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub runscript: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub test: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub helpfile: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub deffile: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub startscript: String,
}

/// What one SCIF app has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppAttributes {
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub environment: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub runscript: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub startscript: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub test: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub helpfile: String,
}

/// Reads the metadata from a tree. `read` gives a regular file's bytes by absolute path, following symbolic links inside the
/// tree; `list` gives the names in a directory, in any order, and nothing for what is no directory.
pub fn describe(read: &dyn Fn(&str) -> Option<Vec<u8>>, list: &dyn Fn(&str) -> Vec<String>) -> Metadata {
    let text = |path: &str| read(path).map(|bytes| text_of(&bytes)).unwrap_or_default();
    let environment = |directory: &str, patterns: &[(&str, &str)]| -> BTreeMap<String, String> {
        list(directory)
            .into_iter()
            .filter(|name| patterns.iter().any(|(start, end)| matches(name, start, end)))
            .filter_map(|name| {
                let path = format!("{directory}/{name}");
                read(&path).map(|bytes| (path, text_of(&bytes)))
            })
            .collect()
    };
    let labels = |path: &str| read(path).map(|bytes| parse_labels(&bytes)).unwrap_or_default();

    let mut apps = BTreeMap::new();
    for name in list("/scif/apps").into_iter().filter(|name| !name.starts_with('.')) {
        if !list(&format!("/scif/apps/{name}")).iter().any(|entry| entry == "scif") {
            continue;
        }
        let directory = format!("/scif/apps/{name}/scif");
        let app = AppAttributes {
            environment: environment(&format!("{directory}/env"), &[CUSTOM_ENVIRONMENT]),
            labels: labels(&format!("{directory}/labels.json")),
            runscript: text(&format!("{directory}/runscript")),
            startscript: text(&format!("{directory}/startscript")),
            test: text(&format!("{directory}/test")),
            helpfile: text(&format!("{directory}/runscript.help")),
        };
        apps.insert(name, app);
    }
    let attributes = Attributes {
        apps,
        environment: environment("/.singularity.d/env", &[OCI_ENVIRONMENT, CUSTOM_ENVIRONMENT]),
        labels: labels("/.singularity.d/labels.json"),
        runscript: text("/.singularity.d/runscript"),
        test: text("/.singularity.d/test"),
        helpfile: text("/.singularity.d/runscript.help"),
        deffile: text("/.singularity.d/Singularity"),
        startscript: text("/.singularity.d/startscript"),
    };
    Metadata { data: Data { attributes }, kind: Kind::Container }
}

impl Metadata {
    /// Reads the JSON of an image's object. Members that are not known are ignored, and so is the document's type.
    pub fn parse(bytes: &[u8]) -> Result<Metadata, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// JSON as Go's `encoding/json` writes it, without white space: the form that images carry.
pub fn to_json_compact(value: &impl Serialize) -> String {
    to_json(value, GoFormatter(serde_json::ser::CompactFormatter))
}

/// The same indented by tabs, without a newline at the end: the form that `inspect` prints and labels are kept in.
pub fn to_json_indented(value: &impl Serialize) -> String {
    to_json(value, GoFormatter(serde_json::ser::PrettyFormatter::with_indent(b"\t")))
}

const OCI_ENVIRONMENT: (&str, &str) = ("10-docker", ".sh");
const CUSTOM_ENVIRONMENT: (&str, &str) = ("9", "-environment.sh");

fn matches(name: &str, start: &str, end: &str) -> bool {
    name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end))
}

/// A file's text as the metadata holds it: without trailing newlines; bytes that are not UTF-8 are replaced.
pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned()
}

/// Labels are texts; other JSON values are shown as JSON. A file that is not an object has no labels.
fn parse_labels(bytes: &[u8]) -> BTreeMap<String, String> {
    let values: BTreeMap<String, serde_json::Value> = serde_json::from_slice(bytes).unwrap_or_default();
    values
        .into_iter()
        .map(|(key, value)| match value {
            serde_json::Value::String(text) => (key, text),
            other => (key, other.to_string()),
        })
        .collect()
}

/// Compat: Go reads `null` as the empty value.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Kind::Container)
    }
}

fn to_json(value: &impl Serialize, formatter: impl Formatter) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).expect("values whose map keys are texts serialize to memory");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// Adds Go's HTML escaping to another formatter.
struct GoFormatter<F>(F);

impl<F: Formatter> Formatter for GoFormatter<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, special) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut characters = special.chars();
            if let Some(character) = characters.next() {
                write!(writer, "\\u{:04x}", u32::from(character))?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}
