//! A definition in Apptainer's own JSON form: an array with one object a stage.
//!
//! Source: facts 1.1, the form of Apptainer's `Definition` type. Maps are sorted by key.

use super::{Definition, FileEntry, Script, Stage};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The parsed stages as JSON, indented, with a newline at the end.
pub fn print_json(definition: &Definition) -> String {
    let full = STANDARD.encode(&definition.raw);
    let stages: Vec<Value> = definition.stages.iter().map(|stage| stage_json(stage, &full)).collect();
    let mut text = format!("{:#}", Value::Array(stages));
    text.push('\n');
    text
}

fn stage_json(stage: &Stage, full: &str) -> Value {
    let written = &stage.written;
    json!({
        "header": sorted(stage.header.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()))),
        "imageData": {
            "metadata": null,
            "labels": sorted(stage.labels.iter().map(|label| (label.key.as_str(), label.value.as_str()))),
            "imageScripts": {
                "help": script_json(&stage.help),
                "environment": script_json(&stage.environment),
                "runScript": script_json(&stage.runscript),
                "test": script_json(&stage.test),
                "startScript": script_json(&stage.startscript),
            },
        },
        "buildData": {
            "files": written.files.iter().map(|(arguments, entries)| json!({
                "args": arguments,
                "files": files_json(entries),
            })).collect::<Vec<_>>(),
            "buildScripts": {
                "pre": script_json(&stage.pre),
                "setup": script_json(&stage.setup),
                "post": script_json(&stage.post),
                "test": script_json(&stage.test),
                "arguments": script_json(&written.arguments),
            },
        },
        "customData": if written.apps.is_empty() {
            Value::Null
        } else {
            sorted(written.apps.iter().map(|(key, body)| (key.as_str(), body.as_str())))
        },
        "raw": STANDARD.encode(&written.raw),
        "fullraw": full,
        "appOrder": stage.apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(),
    })
}

fn script_json(script: &Option<Script>) -> Value {
    let (arguments, body) = script.as_ref().map_or(("", ""), |script| (&script.arguments, &script.body));
    json!({ "args": arguments, "script": body })
}

/// Nothing to copy is `null`, as a Go slice without elements prints.
fn files_json(entries: &[FileEntry]) -> Value {
    if entries.is_empty() {
        return Value::Null;
    }
    entries.iter().map(|entry| json!({ "source": entry.source, "destination": entry.destination })).collect()
}

fn sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let pairs: BTreeMap<&str, &str> = pairs.collect();
    Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect::<Map<_, _>>())
}
