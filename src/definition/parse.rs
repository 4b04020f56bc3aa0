//! From text to a [`Definition`]: the order of facts 1.1.

use super::arguments::{self, Arguments, Expanded, Expansion};
use super::grammar::{self, LineKind};
use super::report::Report;
use super::{Definition, Stage, check, lower};
use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{SourceFile, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// What parsing gave.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Present when no diagnostic is an error.
    pub definition: Option<Definition>,
    /// By place.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a definition file: all its faults at once, and the definition when there is no error among them.
pub fn parse(source: &Arc<SourceFile>, arguments: &Arguments) -> Parsed {
    let mut diagnostics = Vec::new();
    let mark = if source.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let whole = Expanded::verbatim(&source.text[mark..], mark);
    let lines = grammar::lines(&whole.text);
    let mut report = Report { source, expanded: &whole, diagnostics: &mut diagnostics };
    report_here_documents(&mut report, &lines);
    check::check_characters(&mut report, &lines);

    let mut stages = Vec::new();
    let mut used = BTreeSet::new();
    for chunk in grammar::chunks(&whole.text, &lines) {
        if lower::is_empty(&whole.text[chunk.clone()]) {
            continue;
        }
        let opens = lines.iter().any(|line| line.content.start == chunk.start && line.kind == LineKind::Stage);
        let text = &whole.text[chunk.clone()];
        let (expansion, defaults) = expand_chunk(source, text, mark + chunk.start, arguments, &mut diagnostics);
        used.extend(expansion.used.iter().map(|placeholder| placeholder.name.clone()));
        let mut report = Report { source, expanded: &expansion.expanded, diagnostics: &mut diagnostics };
        let lowered = lower::lower(&mut report, opens);
        lower::find_hidden_stages(&mut report, &lowered);
        let subject = check::Subject { lowered: &lowered, arguments, defaults: &defaults, used: &expansion.used };
        check::check(&mut report, &subject);
        stages.push(lowered.stage);
    }
    let mut report = Report { source, expanded: &whole, diagnostics: &mut diagnostics };
    report_unused(&mut report, arguments, &used);
    if stages.is_empty() {
        let diagnostic = report.error("SB001", Span::new(mark, mark), "the file holds no stage").help(
            "a stage begins with a line like `Bootstrap: docker`, at the very start of the line, and `From: debian:12` follows",
        );
        report.push(diagnostic);
    }
    finish(source, stages, diagnostics)
}

fn finish(source: &Arc<SourceFile>, stages: Vec<Option<Stage>>, mut diagnostics: Vec<Diagnostic>) -> Parsed {
    let known: Vec<&Stage> = stages.iter().flatten().collect();
    check_stage_names(source, &known, stages.len() == known.len(), &mut diagnostics);
    diagnostics.sort_by(|left, right| {
        (left.span.start, left.span.end, left.code).cmp(&(right.span.start, right.span.end, right.code))
    });
    diagnostics.dedup();
    let failed = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    let stages: Option<Vec<Stage>> = stages.into_iter().collect();
    let definition = stages.filter(|_| !failed).map(|stages| Definition {
        source: Arc::clone(source),
        raw: stages.iter().map(|stage| stage.written.raw.as_str()).collect(),
        stages,
    });
    Parsed { definition, diagnostics }
}

/// Puts a chunk's arguments in; its own `%arguments` are read from the text as it stands.
fn expand_chunk(
    source: &Arc<SourceFile>,
    text: &str,
    offset: usize,
    arguments: &Arguments,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Expansion, BTreeMap<String, String>) {
    let plain = Expanded::verbatim(text, offset);
    let lines = grammar::lines(text);
    let mut defaults = BTreeMap::new();
    for section in grammar::sections(&lines).1 {
        let body = &lines[section.lines.clone()];
        if section.name(text) == "arguments"
            && let (Some(first), Some(last)) = (body.first(), body.last())
        {
            let place: Range<usize> = first.content.start..last.next;
            let (values, warnings) = arguments::parse_lines(source, &plain, place);
            defaults.extend(values);
            diagnostics.extend(warnings);
        }
    }
    let expansion = arguments::expand(text, offset, arguments, &defaults);
    let mut report = Report { source, expanded: &plain, diagnostics };
    report_undefined(&mut report, &expansion, arguments, &defaults);
    (expansion, defaults)
}

fn report_undefined(
    report: &mut Report<'_>,
    expansion: &Expansion,
    arguments: &Arguments,
    defaults: &BTreeMap<String, String>,
) {
    let known: Vec<&str> = defaults.keys().map(String::as_str).chain(arguments.names()).collect();
    for placeholder in &expansion.undefined {
        let name = &placeholder.name;
        let mut diagnostic = report
            .error("SB013", placeholder.span, format!("the build argument `{name}` has no value"))
            .label("not defined")
            .help(format!("give `--build-arg {name}=…`, or a default in this stage's %arguments"));
        if let Some(near) = super::hint::nearest(name, &known) {
            diagnostic = diagnostic.note(format!("`{near}` is defined"));
        }
        report.push(diagnostic);
    }
    if let Some(placeholder) = &expansion.too_large {
        let message = format!("with the value of `{}` the stage is larger than 64 MiB", placeholder.name);
        report.push(report.error("SB043", placeholder.span, message).label("put in here"));
    }
}

fn report_unused(report: &mut Report<'_>, arguments: &Arguments, used: &BTreeSet<String>) {
    let unused: Vec<&str> = arguments.names().into_iter().filter(|name| !used.contains(*name)).collect();
    if unused.is_empty() {
        return;
    }
    let message = format!("unused build args: {}", unused.join(" "));
    let used: Vec<&str> = used.iter().map(String::as_str).collect();
    let mut diagnostic = if arguments.warn_unused {
        report.warning("SB015", Span::default(), message)
    } else {
        let help = "remove them, or warn only with --warn-unused-build-args";
        report.error("SB015", Span::default(), message).help(help)
    };
    for name in &unused {
        if let Some(near) = super::hint::nearest(name, &used) {
            diagnostic = diagnostic.note(format!("the file uses `{near}`, not `{name}`"));
        }
    }
    report.push(diagnostic);
}

fn report_here_documents(report: &mut Report<'_>, lines: &[grammar::Line]) {
    for line in lines.iter().filter(|line| line.cut || line.protected) {
        let span = report.span(line.content.clone());
        let diagnostic = if line.cut {
            report
                .warning("SB029", span, "this line ends the script above, although it stands in a here-document")
                .label("begins a section or a stage")
                .help("put another character before it, or write the file with `printf`, or copy it with %files")
        } else {
            Diagnostic::new("SB034", Severity::Note, report.source, span, "kept as a line of its here-document")
                .label("Apptainer begins a section or a stage here and cannot build this file")
        };
        report.push(diagnostic);
    }
}

/// `%files from STAGE` must name a stage that is built before.
fn check_stage_names(source: &Arc<SourceFile>, stages: &[&Stage], complete: bool, diagnostics: &mut Vec<Diagnostic>) {
    let whole = Expanded::default();
    let mut report = Report { source, expanded: &whole, diagnostics };
    let names: Vec<&str> =
        stages.iter().filter_map(|stage| stage.name.as_ref()).map(|name| name.value.as_str()).collect();
    for (at, stage) in stages.iter().enumerate() {
        if let Some(name) = &stage.name
            && let Some(first) =
                stages[..at].iter().filter_map(|known| known.name.as_ref()).find(|known| known.value == name.value)
        {
            let line = source.position(first.span.start).0;
            let message = format!("a second stage is named `{}`; `%files from` copies from the first", name.value);
            report.push(report.warning("SB023", name.span, message).label(format!("line {line} has the first")));
        }
        for from in stage.files.iter().filter_map(|block| block.from.as_ref()) {
            let place =
                stages.iter().position(|stage| stage.name.as_ref().is_some_and(|name| name.value == from.value));
            let diagnostic = match place {
                Some(place) if place < at => continue,
                Some(place) if place == at => {
                    report.error("SB022", from.span, "a stage cannot copy files from itself").label("this stage")
                }
                Some(_) => report
                    .error("SB022", from.span, format!("the stage `{}` is built only after this one", from.value))
                    .label("comes later")
                    .help("move that stage before this one"),
                // A stage with a fault of its own may be the one that is meant.
                None if !complete => continue,
                None => {
                    let diagnostic = report
                        .error("SB010", from.span, format!("there is no stage `{}`", from.value))
                        .label("unknown stage");
                    match super::hint::nearest(&from.value, &names) {
                        Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(
                            from.span,
                            near,
                            format!("write `{near}`"),
                        ),
                        None => diagnostic.help(format!("name a stage by a header line `Stage: {}`", from.value)),
                    }
                }
            };
            report.push(diagnostic);
        }
    }
}
