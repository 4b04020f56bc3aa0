//! Makes a [`Stage`] of one chunk's lines.
//!
//! Sources: facts 1.4 (sections, repetition), 1.5 (apps).

use super::grammar::{self, APP_SECTIONS, Line, LineKind, SECTIONS, Section};
use super::hint::nearest;
use super::report::Report;
use super::{App, Label, Script, Stage, Written, agents, bootstrap, files, header};
use crate::diagnostic::Diagnostic;
use crate::source::{Span, Spanned};
use std::ops::Range;

/// What one chunk holds.
pub(super) struct Lowered {
    /// Absent when the chunk has faults that leave no stage.
    pub stage: Option<Stage>,
    pub sections: Vec<Section>,
    pub lines: Vec<Line>,
    pub header: Vec<super::HeaderEntry>,
}

/// Whether a chunk holds neither header values nor section contents, so that it counts as no stage.
pub(super) fn is_empty(text: &str) -> bool {
    let lines = grammar::lines(text);
    let (header, sections) = grammar::sections(&lines);
    let blank = |line: &Line| {
        let line = text[line.content.clone()].trim();
        line.is_empty() || line.starts_with('#')
    };
    lines[header].iter().all(blank)
        && sections.iter().all(|section| {
            let bare = section.line.rest.as_ref().is_none_or(|rest| rest.is_empty());
            let known = SECTIONS.contains(&section.name(text).as_str());
            known && bare && lines[section.lines.clone()].is_empty()
        })
}

/// Lowers a chunk. `opens` is false for the text before the first `Bootstrap:`.
pub(super) fn lower(report: &mut Report<'_>, opens: bool) -> Lowered {
    let expanded = report.expanded;
    let lines = grammar::lines(&expanded.text);
    let (header_lines, sections) = grammar::sections(&lines);
    let header = header::read(report, &lines[header_lines.clone()]);
    // What is missing may be what could not be read: one fault, one report.
    let told = header::has_faults(report);
    let place = if told { None } else { Some(first_place(&lines, header_lines, expanded.text.len())) };
    let bootstrap = bootstrap::lower(report, &header, place, opens);
    let mut draft = Draft::default();
    for section in &sections {
        lower_section(report, &mut draft, section, &lines);
    }
    let span = report.span(0..expanded.text.trim_end().len());
    let name = header.iter().find(|entry| entry.key == "stage" && !entry.value.is_empty());
    let name = name.map(|entry| Spanned::new(entry.value.clone(), entry.span));
    let stage = bootstrap.map(|bootstrap| Stage {
        name,
        header: header.clone(),
        bootstrap,
        files: files::effective(&draft.files),
        labels: draft.labels,
        help: draft.help,
        environment: draft.environment,
        pre: draft.pre,
        setup: draft.setup,
        post: draft.post,
        test: draft.test,
        runscript: draft.runscript,
        startscript: draft.startscript,
        apps: draft.apps,
        written: Written {
            raw: expanded.text.clone(),
            arguments: draft.arguments,
            files: draft.files.into_iter().map(|block| (block.arguments, block.entries)).collect(),
            apps: draft.written_apps,
        },
        span,
    });
    Lowered { stage, sections, lines, header }
}

/// The line that a missing header key is reported at.
fn first_place(lines: &[Line], header: Range<usize>, length: usize) -> Range<usize> {
    let first = lines[header].first().or(lines.first());
    first.map_or(length..length, |line| line.content.clone())
}

#[derive(Default)]
struct Draft {
    labels: Vec<Label>,
    help: Option<Script>,
    environment: Option<Script>,
    pre: Option<Script>,
    setup: Option<Script>,
    post: Option<Script>,
    test: Option<Script>,
    runscript: Option<Script>,
    startscript: Option<Script>,
    arguments: Option<Script>,
    files: Vec<files::Block>,
    apps: Vec<App>,
    written_apps: std::collections::BTreeMap<String, String>,
}

fn lower_section(report: &mut Report<'_>, draft: &mut Draft, section: &Section, lines: &[Line]) {
    let text = report.expanded.text.as_str();
    let name = section.name(text);
    report_shape(report, section, &name);
    if APP_SECTIONS.contains(&name.as_str()) {
        return lower_app_section(report, draft, section, lines, &name);
    }
    let body = &lines[section.lines.clone()];
    let script = script(report, section, body);
    let slot = match name.as_str() {
        "files" => return files::read(report, &mut draft.files, section, body),
        "labels" => return read_labels(report, &mut draft.labels, body),
        "help" => &mut draft.help,
        "environment" => &mut draft.environment,
        "pre" => &mut draft.pre,
        "setup" => &mut draft.setup,
        "post" => &mut draft.post,
        "test" => &mut draft.test,
        "runscript" => &mut draft.runscript,
        "startscript" => &mut draft.startscript,
        "arguments" => &mut draft.arguments,
        _ => return report_unknown(report, section, &name),
    };
    append(slot, script, section.line.rest.is_some());
}

/// Repeated sections are one script; the last arguments count.
fn append(slot: &mut Option<Script>, script: Script, has_arguments: bool) {
    match slot {
        None => *slot = Some(script),
        Some(known) => {
            known.body.push_str(&script.body);
            known.lines.extend(script.lines);
            if has_arguments {
                known.arguments = script.arguments;
            }
        }
    }
}

fn script(report: &Report<'_>, section: &Section, body: &[Line]) -> Script {
    let text = report.expanded.text.as_str();
    let end = body.last().map_or(section.head.end, |line| line.content.end);
    let span = report.span(section.head.start..end);
    let arguments = section.line.rest.clone().map(|rest| text[rest].to_owned()).unwrap_or_default();
    let lines = report.source.lines(body.iter().map(|line| report.span(line.content.clone()).start));
    Script { arguments, body: body_text(text, body), span, lines }
}

/// Lines as the runtime gets them: without carriage returns, each with its newline.
fn body_text(text: &str, body: &[Line]) -> String {
    let mut script = String::new();
    for line in body {
        script.push_str(&text[line.content.clone()]);
        script.push('\n');
    }
    script
}

fn lower_app_section(report: &mut Report<'_>, draft: &mut Draft, section: &Section, lines: &[Line], name: &str) {
    let text = report.expanded.text.as_str();
    let Some(rest) = section.line.rest.clone() else {
        let place = report.span(section.head.clone());
        report.push(
            report
                .error("SB009", place, format!("%{name} needs the name of an app"))
                .label("no name")
                .help(format!("write `%{name} NAME`")),
        );
        return;
    };
    let app_name = text[rest.clone()].split(' ').next().unwrap_or_default().to_owned();
    let behind = rest.start + app_name.len()..rest.end;
    if app_name.is_empty() {
        let place = report.span(section.head.clone());
        report.push(
            report
                .warning("SB039", place, "the app has an empty name, so that this section is ignored")
                .label("two blanks in a row"),
        );
    } else if !text[behind.clone()].trim().is_empty() && !text[behind.clone()].trim().starts_with('#') {
        let place = report.span(header::trim(text, behind).1);
        report
            .push(report.warning("SB039", place, "what stands behind an app's name is ignored").label("has no effect"));
    }
    let body = &lines[section.lines.clone()];
    let mut script = script(report, section, body);
    script.arguments.clear();
    draft.written_apps.entry(format!("{name} {app_name}")).or_default().push_str(&script.body);
    let at = draft.apps.iter().position(|app| app.name == app_name).unwrap_or_else(|| {
        draft.apps.push(App { name: app_name, ..App::default() });
        draft.apps.len() - 1
    });
    let app = &mut draft.apps[at];
    let slot = match name {
        "appinstall" => &mut app.install,
        "appenv" => &mut app.environment,
        "apptest" => &mut app.test,
        "apphelp" => &mut app.help,
        "apprun" => &mut app.run,
        "appstart" => &mut app.start,
        "applabels" => return read_labels(report, &mut app.labels, body),
        _ => return files::read_app(report, &mut app.files, body),
    };
    append(slot, script, false);
}

/// `key value` lines, parted by the first space; the last value of a key counts.
fn read_labels(report: &mut Report<'_>, labels: &mut Vec<Label>, body: &[Line]) {
    for line in body {
        let text = report.expanded.text.as_str();
        let (line, place) = header::trim(text, line.content.clone());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let (key, value) = (key.trim(), value.trim());
        let span = report.span(place.clone());
        if let Some(at) = key.find('\t') {
            let tab = report.span(place.start + at..place.start + at + 1);
            report.push(
                report
                    .warning("SB035", tab, "a tab does not part a label's name from its value")
                    .label("belongs to the name")
                    .fix(tab, " ", "replace the tab by a space"),
            );
        }
        let label = Label { key: key.to_owned(), value: value.to_owned(), span };
        match labels.iter_mut().find(|known| known.key == label.key) {
            Some(known) => *known = label,
            None => labels.push(label),
        }
    }
}

/// Section lines that Apptainer refuses, but whose meaning is plain.
fn report_shape(report: &mut Report<'_>, section: &Section, name: &str) {
    let text = report.expanded.text.as_str();
    let line = &section.line;
    if !grammar::is_section(name) {
        return;
    }
    if !line.indent.is_empty() {
        let span = report.span(line.indent.clone());
        let diagnostic = report
            .warning("SB030", span, format!("%{name} is indented"))
            .label("blanks before the section")
            .note("Apptainer refuses this file")
            .fix(span, "", "remove the blanks");
        report.push(diagnostic);
    }
    let separator = &text[line.separator.clone()];
    if !separator.is_empty() && separator != " " {
        let span = report.span(line.separator.clone());
        let shown = if separator == "\t" { "a tab".to_owned() } else { format!("`{}`", separator.escape_unicode()) };
        let bare = line.rest.as_ref().is_none_or(|rest| rest.is_empty());
        let diagnostic = report
            .warning("SB031", span, format!("{shown} stands behind %{name} instead of a space"))
            .label("invisible here")
            .note("Apptainer takes it for a part of the section's name and refuses this file")
            .fix(span, if bare { "" } else { " " }, "replace it by a space");
        report.push(diagnostic);
    }
    if APP_SECTIONS.contains(&name) && text[line.name.clone()] != *name {
        let span = report.span(line.name.clone());
        let diagnostic = report
            .warning("SB032", span, "app sections are written in lower case")
            .label(format!("write {name}"))
            .note("Apptainer refuses this file")
            .fix(span, name, format!("write `{name}`"));
        report.push(diagnostic);
    }
}

fn report_unknown(report: &mut Report<'_>, section: &Section, name: &str) {
    let text = report.expanded.text.as_str();
    let start = section.line.indent.end;
    let span = report.span(start..section.line.name.end);
    let shown = text[section.line.name.clone()].escape_debug().to_string();
    let message = if name.is_empty() {
        "a section line without a name".to_owned()
    } else {
        format!("there is no section %{shown}")
    };
    let mut diagnostic: Diagnostic = report.error("SB003", span, message).label("unknown section");
    let visible: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let known: Vec<&str> = SECTIONS.iter().chain(APP_SECTIONS).copied().collect();
    match synonym(&visible).or_else(|| nearest(&visible, &known)) {
        Some(section_name) => {
            let place = report.span(section.line.name.clone());
            diagnostic = diagnostic.help(format!("did you mean `%{section_name}`?")).fix(
                place,
                section_name,
                format!("write `%{section_name}`"),
            );
        }
        None => {
            diagnostic = diagnostic.help(
                "a line whose first character is `%` begins a section; if this one belongs to the text above, put another \
                 character before the `%`",
            );
        }
    }
    report.push(diagnostic);
}

/// Names that people coming from other tools write.
fn synonym(name: &str) -> Option<&'static str> {
    Some(match name {
        "env" | "environ" => "environment",
        "run" | "entrypoint" | "cmd" => "runscript",
        "start" => "startscript",
        "copy" | "add" => "files",
        "label" => "labels",
        "install" | "build" => "post",
        "args" | "arg" | "argument" => "arguments",
        _ => return None,
    })
}

/// Stage lines that a section swallowed because they are indented or their colon stands apart.
pub(super) fn find_hidden_stages(report: &mut Report<'_>, lowered: &Lowered) {
    for section in &lowered.sections {
        let name = section.name(&report.expanded.text);
        if matches!(name.as_str(), "help" | "apphelp") {
            continue;
        }
        for line in &lowered.lines[section.lines.clone()] {
            let text = report.expanded.text.as_str();
            let (content, place) = header::trim(text, line.content.clone());
            if line.protected || line.kind != LineKind::Text || !looks_like_stage(content) {
                continue;
            }
            let span: Span = report.span(place);
            let diagnostic = report
                .warning("SB033", span, format!("this line belongs to %{name} and begins no stage"))
                .label("not at the start of its line, or a blank before the colon")
                .help("a stage begins with `Bootstrap:` at the very start of a line");
            report.push(diagnostic);
        }
    }
}

fn looks_like_stage(line: &str) -> bool {
    let Some((key, value)) = line.split_once(':') else { return false };
    key.trim().eq_ignore_ascii_case("bootstrap") && agents::AGENTS.contains(&value.trim())
}
