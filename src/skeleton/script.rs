//! Scripts of a definition: the command line that runs them, and the files that they become (facts §1.4, §4.8).

use super::apps::has_place;
use super::quote::word;
use crate::definition::{Script, Stage};

/// Why a section's arguments make no command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the section arguments {arguments:?} end with '-c': the command that should run the script is missing behind it"
)]
pub struct ScriptArgumentsError {
    pub arguments: String,
}

/// The command line of `%pre`, `%setup` and `%post`: `/bin/sh -ex ARGUMENTS… path`. Behind `-c` everything, with the
/// path, becomes one argument: `%post -c /bin/bash -x` runs `/bin/sh -ex -c "/bin/bash -x PATH"`. A `#!` in the body
/// has no effect.
pub fn script_argv(script: &Script, path: &str) -> Result<Vec<String>, ScriptArgumentsError> {
    let mut argv = vec!["/bin/sh".to_owned(), "-ex".to_owned()];
    let mut words = before_comment(&script.arguments).split_whitespace();
    while let Some(word) = words.next() {
        argv.push(word.to_owned());
        if word != "-c" {
            continue;
        }
        let mut command: Vec<&str> = words.by_ref().collect();
        if command.is_empty() {
            return Err(ScriptArgumentsError { arguments: script.arguments.clone() });
        }
        command.push(path);
        argv.push(command.join(" "));
        return Ok(argv);
    }
    argv.push(path.to_owned());
    Ok(argv)
}

/// What runs as `%post`: the stage's own script, then the installation of every app, whether the app has an
/// `%appinstall` or not; `None` when there is nothing of either.
pub fn post_script(stage: &Stage) -> Option<Script> {
    let first_install = || stage.apps.iter().find_map(|app| app.install.clone());
    let mut script = match &stage.post {
        Some(post) => post.clone(),
        None if !stage.apps.iter().any(has_place) => return None,
        None => {
            let place = first_install();
            Script {
                arguments: String::new(),
                body: String::new(),
                span: place.as_ref().map_or(stage.span, |script| script.span),
                lines: Vec::new(),
            }
        }
    };
    for app in stage.apps.iter().filter(|app| has_place(app)) {
        let root = word(&format!("/scif/apps/{}", app.name));
        let body = app.install.as_ref().map_or("", |install| install.body.as_str());
        let own = app.install.as_ref().map_or(&[][..], |install| &install.lines);
        let before = format!("\ncd /\n. {root}/scif/env/01-base.sh\n\ncd {root}\n");
        let first = own.first().copied().unwrap_or(1);
        let begin = script.body.lines().count();
        script.lines.resize(begin, first);
        script.lines.extend(std::iter::repeat_n(first, before.lines().count()));
        script.lines.extend(own);
        script.body.push_str(&format!("{before}{body}\n\ncd /\n"));
    }
    (!script.body.trim().is_empty()).then_some(script)
}

/// The file that `%runscript`, `%startscript` or `%test` becomes: its own `#!` line or `#!/bin/sh`, the section's
/// arguments behind it, an empty line, the rest.
///
/// Compat: when a body begins with empty lines before its `#!`, Apptainer takes the first of them for the
/// interpreter, and the file does not run; here the `#!` is found.
pub fn file_script(script: &Script) -> String {
    let trimmed = script.body.trim_start();
    let (interpreter, rest) = match trimmed.starts_with("#!") {
        true => trimmed.split_once('\n').unwrap_or((trimmed, "")),
        false => ("#!/bin/sh", script.body.as_str()),
    };
    let mut first = interpreter.trim_end().to_owned();
    if !script.arguments.is_empty() {
        first.push(' ');
        first.push_str(before_comment(&script.arguments));
    }
    format!("{first}\n\n{rest}\n")
}

fn before_comment(arguments: &str) -> &str {
    arguments.split('#').next().unwrap_or_default()
}
