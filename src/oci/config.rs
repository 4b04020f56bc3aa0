//! Image configs: what an image says of itself, for the runscript, the environment file and the labels.
//!
//! Spec: OCI image-spec config.md; the same document in Docker's schema 2. Facts §2.2, §4.5, §4.6.

use super::MAXIMUM_DOCUMENT;
use super::manifest::null_as_default;
use crate::calendar::parse_rfc3339;
use crate::digest::Digest;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A parsed image config with the parts that a build uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageConfig {
    pub architecture: String,
    pub os: String,
    pub variant: Option<String>,
    /// RFC 3339, as written.
    pub created: Option<String>,
    /// `KEY=VALUE`, in order.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub user: String,
    pub working_directory: String,
    /// Digests of the uncompressed layers, bottom up.
    pub diff_ids: Vec<Digest>,
    pub history: Vec<History>,
    /// The `config` member as it came; `Null` when absent. See [`ImageConfig::marshal`].
    pub raw: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct History {
    #[serde(default, deserialize_with = "null_as_default")]
    pub created: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub created_by: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub comment: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub empty_layer: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("the image config has {size} bytes, more than the {} that are read", MAXIMUM_DOCUMENT)]
    TooLarge { size: usize },
    #[error("the image config is not valid: {cause}")]
    Malformed { cause: String },
}

/// Reads an image config document.
pub fn parse(bytes: &[u8]) -> Result<ImageConfig, ConfigError> {
    if bytes.len() > MAXIMUM_DOCUMENT {
        return Err(ConfigError::TooLarge { size: bytes.len() });
    }
    let malformed = |cause: String| ConfigError::Malformed { cause };
    let document: RawImage = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    let raw = document.config.unwrap_or(Value::Null);
    let process: Option<RawProcess> =
        Option::deserialize(&raw).map_err(|error| malformed(format!("`config`: {error}")))?;
    let process = process.unwrap_or_default();
    let mut diff_ids = Vec::new();
    for text in document.rootfs.unwrap_or_default().diff_ids {
        diff_ids.push(text.parse::<Digest>().map_err(|error| malformed(format!("`rootfs.diff_ids`: {error}")))?);
    }
    Ok(ImageConfig {
        architecture: document.architecture,
        os: document.os,
        variant: document.variant,
        created: document.created,
        env: process.env,
        entrypoint: process.entrypoint,
        cmd: process.cmd,
        labels: process.labels,
        user: process.user,
        working_directory: process.working_directory,
        diff_ids,
        history: document.history,
        raw,
    })
}

impl ImageConfig {
    /// `created` in seconds since the epoch; `None` where it is absent, no date, or before 1970, as Go's zero time is.
    pub fn created_at(&self) -> Option<i64> {
        self.created.as_deref().and_then(parse_rfc3339).filter(|seconds| *seconds >= 0)
    }

    /// The `config` member as Go marshals its struct, for `oci-config.json`: known members in the struct's order,
    /// empty ones left out, map keys sorted, `<`, `>` and `&` escaped.
    ///
    /// Compat: the rest follows as it came: Docker's `Healthcheck`, `Shell` and `OnBuild`, which Apptainer keeps too (in another place,
    /// which JSON does not mind), and what nobody knows, which it loses.
    pub fn marshal(&self) -> String {
        const ORDER: [&str; 10] = [
            "User",
            "ExposedPorts",
            "Env",
            "Entrypoint",
            "Cmd",
            "Volumes",
            "WorkingDir",
            "Labels",
            "StopSignal",
            "ArgsEscaped",
        ];
        let empty = Map::new();
        let members = self.raw.as_object().unwrap_or(&empty);
        let mut written: Vec<(String, &Value)> = Vec::new();
        for name in ORDER {
            // Compat: Go matches member names without regard to case.
            let other = || members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            if let Some(value) = members.get(name).or_else(other).filter(|value| !is_empty(value)) {
                written.push((name.to_owned(), value));
            }
        }
        let unknown = members.iter().filter(|(key, _)| !ORDER.iter().any(|name| key.eq_ignore_ascii_case(name)));
        written.extend(unknown.filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value)));
        let mut text = String::new();
        write_members(&mut text, written.iter().map(|(key, value)| (key, *value)));
        text
    }
}

/// Writes a value as Go's `json.Marshal` does: no spaces, keys sorted, HTML characters escaped.
pub fn go_marshal(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::String(content) => write_string(text, content),
        Value::Array(items) => {
            text.push('[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    text.push(',');
                }
                write_value(text, item);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            write_members(text, sorted.into_iter());
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
    }
}

fn write_members<'a>(text: &mut String, members: impl Iterator<Item = (&'a String, &'a Value)>) {
    text.push('{');
    for (number, (key, value)) in members.enumerate() {
        if number > 0 {
            text.push(',');
        }
        write_string(text, key);
        text.push(':');
        write_value(text, value);
    }
    text.push('}');
}

/// Spec: encoding/json: short escapes for `"`, `\`, control characters by their letters, the rest as `\u00xx`.
fn write_string(text: &mut String, content: &str) {
    text.push('"');
    for character in content.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => text.push(character),
        }
    }
    text.push('"');
}

#[derive(Deserialize)]
struct RawImage {
    #[serde(default, deserialize_with = "null_as_default")]
    architecture: String,
    #[serde(default, deserialize_with = "null_as_default")]
    os: String,
    variant: Option<String>,
    created: Option<String>,
    config: Option<Value>,
    rootfs: Option<RawRootfs>,
    #[serde(default, deserialize_with = "null_as_default")]
    history: Vec<History>,
}

#[derive(Default, Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "null_as_default")]
    diff_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawProcess {
    #[serde(default, deserialize_with = "null_as_default")]
    env: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    cmd: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_as_default")]
    user: String,
    #[serde(default, rename = "WorkingDir", deserialize_with = "null_as_default")]
    working_directory: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_docker_writes() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text = format!(
            r#"{{"architecture":"arm","variant":"v7","os":"linux","created":"2024-01-02T03:04:05Z",
            "config":{{"Env":["PATH=/bin","A=<b>"],"Entrypoint":null,"Cmd":["sh","-c","a & b"],"Labels":{{"z":"1","a":"2"}},
            "Healthcheck":{{"Test":["NONE"]}},"WorkingDir":"/w","OnBuild":null}},
            "rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[{{"created_by":"x","empty_layer":true}}]}}"#
        );
        let config = parse(text.as_bytes()).unwrap();
        assert_eq!(config.env, ["PATH=/bin", "A=<b>"]);
        assert!(config.entrypoint.is_empty());
        assert_eq!(config.working_directory, "/w");
        assert_eq!(config.diff_ids[0].to_string(), digest);
        assert!(config.history[0].empty_layer);
        assert_eq!(
            config.marshal(),
            r#"{"Env":["PATH=/bin","A=\u003cb\u003e"],"Cmd":["sh","-c","a \u0026 b"],"WorkingDir":"/w","Labels":{"a":"2","z":"1"},"Healthcheck":{"Test":["NONE"]}}"#
        );
    }

    #[test]
    fn an_image_without_config_marshals_to_an_empty_object() {
        let config = parse(br#"{"architecture":"amd64","os":"linux"}"#).unwrap();
        assert_eq!(config.raw, Value::Null);
        assert_eq!(config.marshal(), "{}");
    }

    #[test]
    fn faults_name_the_member() {
        let message = parse(br#"{"config":{"Env":"x"}}"#).unwrap_err().to_string();
        assert!(message.starts_with("the image config is not valid: `config`: invalid type: string"), "{message}");
        let message = parse(br#"{"rootfs":{"diff_ids":["md5:1"]}}"#).unwrap_err().to_string();
        assert!(message.contains("`rootfs.diff_ids`: \"md5:1\" is not a digest"), "{message}");
    }

    proptest! {
        #[test]
        fn strings_written_like_go_read_back_the_same(content in any::<String>()) {
            let value = Value::String(content);
            prop_assert_eq!(serde_json::from_str::<Value>(&go_marshal(&value)).unwrap(), value);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
