//! An OCI image's configuration as the runtime sees it: runscript, environment file, labels (facts §4.5, §4.6, §2.2).

use super::changes::Changes;
use super::json::write_labels;
use super::quote::{escape, single};
use crate::tree::{Layer, Tree};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The members of an image configuration that become part of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OciRuntime {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Absent when the configuration has none: the labels file then says `null`.
    pub labels: Option<BTreeMap<String, String>>,
}

/// `/.singularity.d/runscript`, `env/10-docker2singularity.sh` and `labels.json` for an image with this
/// configuration, above `tree`. `mtime` is in seconds since the epoch.
pub fn oci_runtime(tree: &Tree, config: &OciRuntime, mtime: i64) -> Layer {
    let mut changes = Changes::new(tree, mtime);
    put_runtime(&mut changes, config);
    changes.layer
}

pub(super) fn put_runtime(changes: &mut Changes<'_>, config: &OciRuntime) {
    changes.file(".singularity.d/runscript", 0o755, runscript(&config.entrypoint, &config.cmd).into_bytes());
    changes.file(".singularity.d/env/10-docker2singularity.sh", 0o755, environment_script(&config.env).into_bytes());
    let labels = config.labels.as_ref().map_or_else(|| "null".to_owned(), write_labels);
    changes.file(".singularity.d/labels.json", 0o644, labels.into_bytes());
}

/// The runscript of an OCI image.
///
/// Compat: the line `eval "set ${SINGULARITY_OCI_RUN}"` is searched for by the runtime, which then interprets the
/// script itself, so that images without a shell run. Arguments of the user are evaluated by the shell once more
/// unless `SINGULARITY_NO_EVAL` is set, as users of Apptainer rely on; entrypoint and command never are. The
/// leading `--` keeps a first word that begins with `-` from being taken for an option of `set`.
fn runscript(entrypoint: &[String], cmd: &[String]) -> String {
    let mut script = String::from("#!/bin/sh\n");
    let _ = writeln!(script, "OCI_ENTRYPOINT={}", single(&evaluated(entrypoint)));
    let _ = writeln!(script, "OCI_CMD={}", single(&evaluated(cmd)));
    script.push_str("\n# Without evaluation: every word reaches the program as it is.\n");
    script.push_str("if [ -n \"$SINGULARITY_NO_EVAL\" ]; then\n");
    if !cmd.is_empty() {
        script.push_str("    if [ $# -eq 0 ]; then\n");
        script.push_str(&prepended(cmd, "        "));
        script.push_str("    fi\n");
    }
    script.push_str(&prepended(entrypoint, "    "));
    script.push_str("    exec \"$@\"\nfi\n");
    script.push_str(EVALUATION);
    script
}

const EVALUATION: &str = r#"
# With evaluation: the words of the user pass through the shell once more.
CMDLINE_ARGS=""
for argument in "$@"; do
    CMDLINE_ARGS="${CMDLINE_ARGS} \"$argument\""
done

if [ $# -gt 0 ]; then
    SINGULARITY_OCI_RUN="-- ${OCI_ENTRYPOINT} ${CMDLINE_ARGS}"
else
    SINGULARITY_OCI_RUN="-- ${OCI_ENTRYPOINT} ${OCI_CMD}"
fi

eval "set ${SINGULARITY_OCI_RUN}"
exec "$@"
"#;

/// Words in double quotes, so that an evaluation gives them back as they are.
fn evaluated(words: &[String]) -> String {
    words.iter().map(|word| format!("\"{}\"", escape(word))).collect::<Vec<_>>().join(" ")
}

fn prepended(words: &[String], indent: &str) -> String {
    words.iter().rev().map(|word| format!("{indent}set -- {} \"$@\"\n", single(word))).collect()
}

fn environment_script(variables: &[String]) -> String {
    let mut script = String::from("#!/bin/sh\n");
    for variable in variables {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (variable.as_str(), None),
        };
        if !is_variable_name(name) {
            continue;
        }
        let _ = match value {
            None => writeln!(script, "export {name}=\"${{{name}:-}}\""),
            Some(value) if name == "PATH" => writeln!(script, "export PATH=\"{}\"", escape(value)),
            Some(value) => writeln!(script, "export {name}=\"${{{name}:-\"{}\"}}\"", escape(value)),
        };
    }
    script
}

/// Whether a shell can hold a variable of this name: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn is_variable_name(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(first) && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
}
