//! What a definition's own sections leave in the image, written after `%post` (facts §4.2, §4.4).

use super::changes::Changes;
use super::json::write_labels;
use super::labels::{Timestamp, UNCHECKED_LABEL, add_defined_labels, build_labels, existing_labels, parse_label_lines};
use super::{Read, file_script};
use crate::arch::Arch;
use crate::definition::Stage;
use crate::digest::Digest;
use crate::tree::{Change, Entry, Layer, Node, Tree};

/// What the metadata say beyond the definition.
#[derive(Clone, Debug)]
pub struct MetadataInputs<'a> {
    /// The definition as the image stores it: all stages, arguments put in.
    pub raw: &'a str,
    pub created: Timestamp,
    pub arch: Arch,
    /// Of the architecture: `v7`.
    pub variant: Option<&'a str>,
    /// Of this program.
    pub version: &'a str,
    /// The registry image that the stage began with.
    pub base: Option<BaseImage>,
    /// Flags by which checks of the bases were turned off, in this build or in that of its base.
    pub unchecked: Option<&'a str>,
    /// `--force`: labels and help of the definition win over those of the base image.
    pub force: bool,
    /// Seconds since the epoch, for the files written.
    pub mtime: i64,
}

/// A registry image: its name with registry and tag, and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    pub name: String,
    pub digest: Digest,
}

/// Help, labels, definition and history, environment, startscript, runscript and test of `stage` above `tree`, and
/// warnings for the user. Labels that `%post` left in `/.build.labels` are taken in and the file is removed.
pub fn definition_metadata(
    stage: &Stage,
    tree: &Tree,
    inputs: &MetadataInputs<'_>,
    read: Read<'_>,
) -> (Layer, Vec<String>) {
    let mut changes = Changes::new(tree, inputs.mtime);
    let mut warnings = Vec::new();
    put_help(&mut changes, stage, inputs.force, &mut warnings);
    put_labels(&mut changes, stage, inputs, read, &mut warnings);
    put_definition(&mut changes, tree, inputs.raw, read);
    put_environment(&mut changes, stage, read);
    let scripts = [("startscript", &stage.startscript), ("runscript", &stage.runscript), ("test", &stage.test)];
    for (name, script) in scripts {
        if let Some(script) = script {
            changes.content(&format!(".singularity.d/{name}"), 0o755, file_script(script).into_bytes());
        }
    }
    (changes.layer, warnings)
}

fn put_help(changes: &mut Changes<'_>, stage: &Stage, force: bool, warnings: &mut Vec<String>) {
    const PATH: &str = ".singularity.d/runscript.help";
    let Some(help) = &stage.help else { return };
    if changes.find(PATH).is_some() && !force {
        warnings.push("Help message already exists and force option is false, not overwriting".to_owned());
        return;
    }
    changes.content(PATH, 0o644, format!("{}\n", help.body).into_bytes());
}

fn put_labels(
    changes: &mut Changes<'_>,
    stage: &Stage,
    inputs: &MetadataInputs<'_>,
    read: Read<'_>,
    warnings: &mut Vec<String>,
) {
    const PATH: &str = ".singularity.d/labels.json";
    const FROM_POST: &str = ".build.labels";
    let existing = changes.read(PATH, read);
    let mut labels = existing.map(|json| existing_labels(&json, warnings)).unwrap_or_default();
    if let Some((path, _)) = changes.find(FROM_POST) {
        labels.extend(parse_label_lines(&changes.read(FROM_POST, read).unwrap_or_default()));
        changes.layer.entries.push(Entry { path, change: Change::Whiteout });
    }
    labels.extend(build_labels(stage, inputs));
    add_defined_labels(&mut labels, &stage.labels, inputs.force, warnings);
    // Neither the definition nor what its scripts do to labels changes it.
    labels.extend(inputs.unchecked.map(|flags| (UNCHECKED_LABEL.to_owned(), flags.to_owned())));
    changes.content(PATH, 0o644, write_labels(&labels).into_bytes());
}

fn put_definition(changes: &mut Changes<'_>, tree: &Tree, raw: &str, read: Read<'_>) {
    const PATH: &str = ".singularity.d/Singularity";
    const HISTORY: &str = ".singularity.d/bootstrap_history";
    if let Some(previous) = changes.read(PATH, read) {
        let count = match changes.find(HISTORY).map(|(_, id)| &tree.inode(id).node) {
            Some(Node::Directory(children)) => children.len(),
            _ => 0,
        };
        changes.directory(HISTORY);
        changes.file(&format!("{HISTORY}/Apptainer{count}"), 0o644, previous);
    }
    changes.content(PATH, 0o644, raw.as_bytes().to_vec());
}

fn put_environment(changes: &mut Changes<'_>, stage: &Stage, read: Read<'_>) {
    const PATH: &str = ".singularity.d/env/90-environment.sh";
    let Some(environment) = &stage.environment else { return };
    let mut content = changes.read(PATH, read).unwrap_or_else(|| b"#!/bin/sh\n".to_vec());
    content.extend_from_slice(b"\n");
    content.extend_from_slice(environment.body.as_bytes());
    content.extend_from_slice(b"\n");
    changes.content(PATH, 0o755, content);
}
