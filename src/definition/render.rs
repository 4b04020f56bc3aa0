//! Diagnostics as text for people, and as JSON, SARIF and GitHub annotations for programs; and fixes put into a text.
//!
//! Sources: SARIF 2.1.0 (OASIS), GitHub's workflow commands.

use super::codes::CODES;
use crate::diagnostic::{Diagnostic, Fix, Severity};
use crate::source::{SourceFile, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};
use std::fmt::Write;

/// Longest part of one line that is shown, in bytes.
const SHOWN: usize = 400;

/// As rustc prints them, with a count at the end; nothing for none. `styled` adds terminal colours.
pub fn text(diagnostics: &[Diagnostic], styled: bool) -> String {
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&one_text(&renderer, diagnostic));
        text.push_str("\n\n");
    }
    let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let words: Vec<String> = [(errors, "error"), (warnings, "warning")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }))
        .collect();
    if !words.is_empty() {
        let _ = writeln!(text, "{}", words.join(", "));
    }
    text
}

fn one_text(renderer: &Renderer, diagnostic: &Diagnostic) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let message = visible(&diagnostic.message);
    let window = Window::around(&diagnostic.source, diagnostic.span);
    let name = visible(&diagnostic.source.name);
    let label = visible(&diagnostic.label);
    let mut group = Group::with_title(level.primary_title(message).id(diagnostic.code));
    if let Some(window) = &window {
        let annotation = AnnotationKind::Primary.span(window.span.range()).label(label);
        let snippet =
            Snippet::source(window.text.as_str()).path(name.clone()).line_start(window.line).annotation(annotation);
        group = group.element(snippet);
    } else {
        group = group.element(Origin::path(name));
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(visible(note)));
    }
    let help = match (&diagnostic.help, &diagnostic.fix) {
        (Some(help), None) => Some(help.clone()),
        (Some(help), Some(_)) => Some(format!("{help} (`--fix` does it)")),
        (None, Some(fix)) => Some(format!("{} (`--fix` does it)", fix.description)),
        (None, None) => None,
    };
    if let Some(help) = help {
        group = group.element(Level::HELP.message(visible(&help)));
    }
    renderer.render(&[group])
}

/// The lines that a span touches, at most three of them, cut where they are long, with invisible characters made visible.
struct Window {
    text: String,
    line: usize,
    span: Span,
}

impl Window {
    /// Nothing when the span points into no text.
    fn around(source: &SourceFile, span: Span) -> Option<Window> {
        let text = source.text.as_str();
        if span == Span::default() || text.is_empty() {
            return None;
        }
        let start = floor(text, span.start);
        let end = floor(text, span.end).max(start);
        let from = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let mut to = text[end..].find('\n').map_or(text.len(), |at| end + at);
        if let Some((third, _)) = text[from..to].match_indices('\n').nth(2) {
            to = from + third;
        }
        let from = from.max(floor(text, start.saturating_sub(SHOWN / 2)));
        let to = to.min(floor(text, start.max(from) + SHOWN));
        let line = source.position(start).0;
        let mut shown = String::new();
        let mut place = Span::default();
        for (at, character) in text[from..to].char_indices() {
            if from + at == start {
                place.start = shown.len();
            }
            if from + at < end {
                push_visible(&mut shown, character);
                place.end = shown.len();
            } else {
                push_visible(&mut shown, character);
            }
        }
        if start >= to {
            place = Span::new(shown.len(), shown.len());
        }
        place.end = place.end.max(place.start);
        Some(Window { text: shown, line, span: place })
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Terminal control characters and characters without a width are shown by their number.
fn push_visible(text: &mut String, character: char) {
    match character {
        '\n' | '\t' => text.push(character),
        '\r' => {}
        _ if character.is_control() || super::check::is_invisible(character) => {
            let _ = write!(text, "<U+{:04X}>", u32::from(character));
        }
        _ => text.push(character),
    }
}

fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        push_visible(&mut shown, character);
    }
    shown
}

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// One object a diagnostic in an array. Lines and columns count from 1, columns in characters, offsets in bytes.
pub fn json(diagnostics: &[Diagnostic]) -> String {
    let list: Vec<Value> = diagnostics.iter().map(one_json).collect();
    format!("{:#}\n", Value::Array(list))
}

fn one_json(diagnostic: &Diagnostic) -> Value {
    let fix = diagnostic.fix.as_ref().map(|fix| {
        json!({
            "description": fix.description,
            "place": place_json(&diagnostic.source, fix.span),
            "replacement": fix.replacement,
        })
    });
    json!({
        "code": diagnostic.code,
        "severity": severity_name(diagnostic.severity),
        "message": diagnostic.message,
        "label": diagnostic.label,
        "notes": diagnostic.notes,
        "help": diagnostic.help,
        "file": diagnostic.source.name,
        "place": place_json(&diagnostic.source, diagnostic.span),
        "fix": fix,
    })
}

fn place_json(source: &SourceFile, span: Span) -> Value {
    let (line, column) = source.position(span.start);
    let (end_line, end_column) = source.position(span.end);
    json!({
        "line": line, "column": column, "endLine": end_line, "endColumn": end_column,
        "start": span.start, "end": span.end,
    })
}

/// A SARIF 2.1.0 log with one run.
pub fn sarif(diagnostics: &[Diagnostic]) -> String {
    let rules: Vec<Value> =
        CODES.iter().map(|(code, title)| json!({ "id": code, "shortDescription": { "text": title } })).collect();
    let results: Vec<Value> = diagnostics.iter().map(one_sarif).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn one_sarif(diagnostic: &Diagnostic) -> Value {
    let mut message = diagnostic.message.clone();
    for more in diagnostic.notes.iter().chain(&diagnostic.help) {
        message.push('\n');
        message.push_str(more);
    }
    let location = |span| {
        let (line, column) = diagnostic.source.position(span);
        (line, column)
    };
    let region = |span: Span| {
        let ((line, column), (end_line, end_column)) = (location(span.start), location(span.end));
        json!({ "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column })
    };
    let artifact = json!({ "uri": diagnostic.source.name });
    let mut result = json!({
        "ruleId": diagnostic.code,
        "level": severity_name(diagnostic.severity),
        "message": { "text": message },
        "locations": [{ "physicalLocation": { "artifactLocation": artifact, "region": region(diagnostic.span) } }],
    });
    if let Some(fix) = &diagnostic.fix {
        result["fixes"] = json!([{
            "description": { "text": fix.description },
            "artifactChanges": [{
                "artifactLocation": artifact,
                "replacements": [{
                    "deletedRegion": region(fix.span),
                    "insertedContent": { "text": fix.replacement },
                }],
            }],
        }]);
    }
    result
}

/// Workflow commands, a line each, that GitHub shows beside the changed lines.
pub fn github(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let (line, column) = diagnostic.source.position(diagnostic.span.start);
        let (end_line, end_column) = diagnostic.source.position(diagnostic.span.end);
        let level = if diagnostic.severity == Severity::Note { "notice" } else { severity_name(diagnostic.severity) };
        let mut message = diagnostic.message.clone();
        for more in diagnostic.notes.iter().chain(&diagnostic.help) {
            message.push('\n');
            message.push_str(more);
        }
        let property = |text: &str| escape_data(text).replace(':', "%3A").replace(',', "%2C");
        let _ = writeln!(
            text,
            "::{level} file={},line={line},endLine={end_line},col={column},endColumn={end_column},title={}::{}",
            property(&diagnostic.source.name),
            property(diagnostic.code),
            escape_data(&message)
        );
    }
    text
}

fn escape_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The text with all fixes put in. Where two touch the same bytes, the first in the text wins.
pub fn apply_fixes(text: &str, diagnostics: &[Diagnostic]) -> String {
    let mut fixes: Vec<&Fix> = diagnostics.iter().filter_map(|diagnostic| diagnostic.fix.as_ref()).collect();
    fixes.sort_by_key(|fix| (fix.span.start, fix.span.end));
    let (mut fixed, mut done) = (String::with_capacity(text.len()), 0);
    for fix in fixes {
        let Some(kept) = text.get(done..fix.span.start) else { continue };
        if text.get(fix.span.range()).is_none() {
            continue;
        }
        fixed.push_str(kept);
        fixed.push_str(&fix.replacement);
        done = fix.span.end;
    }
    fixed.push_str(&text[done..]);
    fixed
}
