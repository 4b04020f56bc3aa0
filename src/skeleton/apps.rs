//! SCIF apps: directories, scripts and the exports for all of them (facts §4.8).

use super::changes::Changes;
use super::json::write_labels;
use super::quote::word;
use crate::definition::{App, Script, Stage};
use crate::tree::{Layer, Tree, TreePath};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Everything of a stage's apps but `%appfiles` (copied from the host) and `%appinstall` (part of `%post`), and
/// `env/94-appsbase.sh` with their exports. Warnings name apps that cannot be placed. `mtime` is in seconds since
/// the epoch.
pub fn apps(stage: &Stage, tree: &Tree, mtime: i64) -> (Layer, Vec<String>) {
    let mut changes = Changes::new(tree, mtime);
    let mut warnings = Vec::new();
    let mut exports = String::new();
    for app in &stage.apps {
        if has_place(app) {
            put_app(&mut changes, app);
            exports.push_str(&app_exports(app));
        } else {
            warnings.push(format!("App {:?} is left out: its name is not a path below /scif/apps", app.name));
        }
    }
    changes.content(".singularity.d/env/94-appsbase.sh", 0o755, exports.into_bytes());
    (changes.layer, warnings)
}

/// Whether the app's name is a path below `/scif/apps`.
pub(super) fn has_place(app: &App) -> bool {
    TreePath::parse(&app.name).is_ok_and(|path| !path.is_root())
}

fn put_app(changes: &mut Changes<'_>, app: &App) {
    let root = format!("scif/apps/{}", app.name);
    let data = format!("scif/data/{}", app.name);
    for directory in ["", "/scif", "/bin", "/lib", "/scif/env"] {
        changes.directory(&format!("{root}{directory}"));
    }
    for directory in ["/input", "/output"] {
        changes.directory(&format!("{data}{directory}"));
    }
    let meta = format!("{root}/scif");
    changes.content(&format!("{meta}/env/01-base.sh"), 0o755, base_script(&app.name).into_bytes());
    let mut put = |name: &str, mode: u16, script: &Option<Script>, shebang: bool| {
        if let Some(script) = script {
            let content = if shebang { format!("#!/bin/sh\n\n{}\n", script.body) } else { script.body.clone() };
            changes.content(&format!("{meta}/{name}"), mode, content.into_bytes());
        }
    };
    put("env/90-environment.sh", 0o755, &app.environment, false);
    put("runscript", 0o755, &app.run, true);
    put("startscript", 0o755, &app.start, true);
    put("test", 0o755, &app.test, true);
    put("runscript.help", 0o644, &app.help, false);
    let mut labels = BTreeMap::from([("SCIF_APP_NAME".to_owned(), app.name.clone())]);
    labels.extend(app.labels.iter().map(|label| (label.key.clone(), label.value.clone())));
    changes.content(&format!("{meta}/labels.json"), 0o644, write_labels(&labels).into_bytes());
}

fn base_script(name: &str) -> String {
    let root = format!("/scif/apps/{name}");
    let data = format!("/scif/data/{name}");
    let variables = [
        ("SCIF_APPNAME", name.to_owned()),
        ("SCIF_APPROOT", root.clone()),
        ("SCIF_APPMETA", format!("{root}/scif")),
        ("SCIF_DATA", "/scif/data".to_owned()),
        ("SCIF_APPDATA", data.clone()),
        ("SCIF_APPINPUT", format!("{data}/input")),
        ("SCIF_APPOUTPUT", format!("{data}/output")),
    ];
    let mut script = String::from("#!/bin/sh\n\n");
    for (variable, value) in &variables {
        let _ = writeln!(script, "{variable}={}", word(value));
    }
    let names: Vec<&str> = variables.iter().map(|(variable, _)| *variable).collect();
    let _ = writeln!(script, "export {}", names.join(" "));
    script
}

/// Compat: variables end in the name with `_` for what no variable may hold; the paths keep the name as it is
/// (Apptainer changes it there too, and the paths then lead nowhere).
fn app_exports(app: &App) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let suffix: String = app.name.chars().map(plain).collect();
    let root = format!("/scif/apps/{}", app.name);
    let mut lines = format!("\n## App Global Exports For: {suffix}\n\n");
    let mut export = |variable: &str, value: String| {
        let _ = writeln!(lines, "export {variable}_{suffix}={}", word(&value));
    };
    export("SCIF_APPDATA", format!("/scif/data/{}", app.name));
    export("SCIF_APPMETA", format!("{root}/scif"));
    export("SCIF_APPROOT", root.clone());
    export("SCIF_APPBIN", format!("{root}/bin"));
    export("SCIF_APPLIB", format!("{root}/lib"));
    if app.environment.is_some() {
        export("SCIF_APPENV", format!("{root}/scif/env/90-environment.sh"));
    }
    export("SCIF_APPLABELS", format!("{root}/scif/labels.json"));
    if app.run.is_some() {
        export("SCIF_APPRUN", format!("{root}/scif/runscript"));
    }
    if app.start.is_some() {
        export("SCIF_APPSTART", format!("{root}/scif/startscript"));
    }
    lines
}
