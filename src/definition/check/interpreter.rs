//! SB110: interpreter lines that nobody reads. SB024, SB041: section arguments that do not do what they say.

use super::{Part, Subject};
use crate::definition::header::trim;
use crate::definition::report::Report;

pub(super) fn check(report: &mut Report<'_>, subject: &Subject<'_>, part: &Part<'_>) {
    check_arguments(report, part);
    if !matches!(part.name.as_str(), "pre" | "setup" | "post" | "appinstall" | "apprun" | "appstart" | "apptest") {
        return;
    }
    let first = subject.body(part.section).iter().find_map(|line| {
        let (text, place) = trim(&report.expanded.text, line.content.clone());
        (!text.is_empty()).then(|| (text.to_owned(), place))
    });
    let Some((line, place)) = first else { return };
    let Some(interpreter) = line.strip_prefix("#!") else { return };
    let interpreter = interpreter.trim();
    let plain = interpreter.split_whitespace().next().is_none_or(|program| program == "/bin/sh");
    if plain || chosen_interpreter(&report.expanded.text, part).is_some() {
        return;
    }
    let name = &part.name;
    let span = report.span(place);
    let mut diagnostic = report
        .warning("SB110", span, format!("an interpreter line has no effect in %{name}: /bin/sh runs the script"))
        .label("a comment for /bin/sh");
    if matches!(name.as_str(), "pre" | "setup" | "post") {
        let command = command_for(interpreter);
        diagnostic = diagnostic.help(format!("write `%{name} -c {command}`"));
        if part.section.line.rest.as_ref().is_none_or(|rest| report.expanded.text[rest.clone()].trim().is_empty()) {
            let end = report.span(part.section.line.name.clone()).end;
            let rest = report.span(part.section.head.clone()).end;
            let place = crate::source::Span::new(end, rest.max(end));
            diagnostic = diagnostic.fix(place, format!(" -c {command}"), format!("write `%{name} -c {command}`"));
        }
    }
    report.push(diagnostic);
}

/// `/bin/sh` stops at the first error and shows what it runs; another shell is asked to do the same.
fn command_for(interpreter: &str) -> String {
    let shell = interpreter.ends_with("bash") || interpreter.ends_with("zsh") || interpreter.ends_with("ksh");
    if shell { format!("{interpreter} -ex") } else { interpreter.to_owned() }
}

/// The command behind `-c` in a section's arguments.
pub(super) fn chosen_interpreter<'a>(text: &'a str, part: &Part<'_>) -> Option<&'a str> {
    let rest = part.section.line.rest.clone()?;
    let arguments = text[rest].split('#').next().unwrap_or_default();
    let mut words = arguments.split_whitespace();
    words.find(|word| *word == "-c")?;
    words.next()
}

fn check_arguments(report: &mut Report<'_>, part: &Part<'_>) {
    let Some(rest) = part.section.line.rest.clone() else { return };
    let used = report.expanded.text[rest.clone()].split('#').next().unwrap_or_default().to_owned();
    let Some(at) = used.split_whitespace().position(|word| word == "-c") else { return };
    let span = report.span(trim(&report.expanded.text, rest.start..rest.start + used.len()).1);
    let name = &part.name;
    if matches!(name.as_str(), "pre" | "setup" | "post") && used.split_whitespace().nth(at + 1).is_none() {
        let diagnostic = report
            .error("SB024", span, format!("%{name} has `-c` without a command"))
            .label("what runs the script?")
            .help(format!("write for example `%{name} -c /bin/bash`"));
        report.push(diagnostic);
    } else if matches!(name.as_str(), "runscript" | "startscript" | "test") {
        let diagnostic = report
            .warning("SB041", span, format!("`-c` chooses no interpreter in %{name}"))
            .label("added to the script's interpreter line")
            .help("put an interpreter line at the top of the script, for example `#!/bin/bash`");
        report.push(diagnostic);
    }
}
