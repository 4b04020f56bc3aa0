//! Reads a stage's header: `Key: value` lines with comments and continuations.
//!
//! Source: facts 1.3.

use super::HeaderEntry;
use super::grammar::Line;
use super::hint::nearest;
use super::report::Report;
use crate::diagnostic::Diagnostic;
use crate::source::Spanned;
use std::ops::Range;

pub(super) const KEYS: &[&str] = &[
    "bootstrap",
    "from",
    "includecmd",
    "mirrorurl",
    "updateurl",
    "osversion",
    "include",
    "library",
    "registry",
    "namespace",
    "stage",
    "product",
    "user",
    "regcode",
    "productpgp",
    "registerurl",
    "modules",
    "otherurl",
    "fingerprints",
    "confurl",
    "setopt",
    "target",
    "frontend",
    "filename",
    "buildargs",
];

/// Keys as their authors spell them, for messages.
pub(super) fn spelling(key: &str) -> &str {
    match key {
        "bootstrap" => "Bootstrap",
        "from" => "From",
        "includecmd" => "IncludeCmd",
        "mirrorurl" => "MirrorURL",
        "updateurl" => "UpdateURL",
        "osversion" => "OSVersion",
        "include" => "Include",
        "library" => "Library",
        "registry" => "Registry",
        "namespace" => "Namespace",
        "stage" => "Stage",
        "product" => "Product",
        "user" => "User",
        "regcode" => "RegCode",
        "productpgp" => "ProductPGP",
        "registerurl" => "RegisterURL",
        "modules" => "Modules",
        "otherurl" => "OtherURL0",
        "fingerprints" => "Fingerprints",
        "confurl" => "ConfURL",
        "setopt" => "Setopt",
        "target" => "Target",
        "frontend" => "Frontend",
        "filename" => "Filename",
        "buildargs" => "BuildArgs",
        other => other,
    }
}

/// The key without the digits that number `OtherURL`.
fn unnumbered(key: &str) -> Option<&str> {
    let bare = key.trim_end_matches(|character: char| character.is_ascii_digit());
    if KEYS.contains(&key) && key != "otherurl" || bare == "otherurl" && bare != key { Some(bare) } else { None }
}

pub(super) fn is_key(key: &str) -> bool {
    unnumbered(key).is_some()
}

/// In these a number sign that follows no blank belongs to the value.
fn is_url(key: &str) -> bool {
    matches!(unnumbered(key), Some("mirrorurl" | "updateurl" | "registerurl" | "confurl" | "otherurl" | "library"))
}

/// Keys without which no agent can work, so that Apptainer fails where it drops them.
const NEEDED: &[&str] = &["bootstrap", "from", "mirrorurl", "osversion"];

/// A key whose value goes on in the next line.
struct Continuation {
    key: String,
    key_range: Range<usize>,
    value: String,
    range: Range<usize>,
    /// Place of the last backslash.
    backslash: usize,
    /// Whether anything but a backslash was read.
    empty: bool,
    /// Blank and comment lines were skipped since the last part.
    interrupted: bool,
}

/// The entries of a header, in order of first appearance, the last value of a repeated key.
pub(super) fn read(report: &mut Report<'_>, lines: &[Line]) -> Vec<HeaderEntry> {
    let mut entries = Vec::new();
    let mut continuation: Option<Continuation> = None;
    for line in lines {
        let (text, place) = trim(&report.expanded.text, line.content.clone());
        if text.is_empty() || text.starts_with('#') {
            if let Some(open) = &mut continuation {
                open.interrupted = true;
            }
            continue;
        }
        if let Some(open) = continuation.take() {
            if (open.empty || open.interrupted) && starts_key(text) {
                drop_or_keep(report, &mut entries, open);
            } else {
                if open.interrupted {
                    report_interruption(report, &open);
                }
                if starts_key(text) {
                    report_swallowed(report, &open, place.clone());
                }
                continuation = continue_value(report, &mut entries, open, text, place);
                continue;
            }
        }
        continuation = read_line(report, &mut entries, text, place);
    }
    if let Some(open) = continuation {
        drop_or_keep(report, &mut entries, open);
    }
    entries
}

/// Whether a line of the header of this text could not be read.
pub(super) fn has_faults(report: &Report<'_>) -> bool {
    let all = report.span(0..report.expanded.text.len());
    let inside = |found: &&Diagnostic| found.span.start >= all.start && found.span.end <= all.end;
    report.diagnostics.iter().filter(inside).any(|found| matches!(found.code, "SB004" | "SB005"))
}

/// A range without the blanks around it.
pub(super) fn trim(text: &str, range: Range<usize>) -> (&str, Range<usize>) {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    let trimmed = part.trim();
    (trimmed, start..start + trimmed.len())
}

fn starts_key(line: &str) -> bool {
    line.split_once(':').is_some_and(|(key, _)| is_key(&key.trim().to_lowercase()))
}

fn read_line(
    report: &mut Report<'_>,
    entries: &mut Vec<HeaderEntry>,
    line: &str,
    place: Range<usize>,
) -> Option<Continuation> {
    let Some((key, _)) = line.split_once(':') else {
        let line = line.split('#').next().unwrap_or_default().trim_end();
        report_no_colon(report, line, place.start..place.start + line.len());
        return None;
    };
    let (written, key_range) = (key.trim(), place.start..place.start + key.trim_end().len());
    let lower = written.to_lowercase();
    if let Some(at) = key.find('#') {
        // The comment takes the colon with it.
        report_no_colon(report, key[..at].trim_end(), place.start..place.start + key[..at].trim_end().len());
        return None;
    }
    let value = place.start + key.len() + 1..place.end;
    let value = cut_comment(report, &lower, value);
    let open = Continuation {
        key: lower,
        key_range,
        value: String::new(),
        range: value.start..value.start,
        backslash: 0,
        empty: true,
        interrupted: false,
    };
    add_part(report, entries, open, value)
}

fn continue_value(
    report: &mut Report<'_>,
    entries: &mut Vec<HeaderEntry>,
    mut open: Continuation,
    line: &str,
    place: Range<usize>,
) -> Option<Continuation> {
    let part = cut_comment(report, &open.key, place.start..place.start + line.len());
    open.interrupted = false;
    add_part(report, entries, open, part)
}

/// Adds a line's part to a value; the value is an entry when it does not go on.
fn add_part(
    report: &mut Report<'_>,
    entries: &mut Vec<HeaderEntry>,
    mut open: Continuation,
    part: Range<usize>,
) -> Option<Continuation> {
    let text = report.expanded.text[part.clone()].to_owned();
    if open.range.is_empty() {
        open.range.start = part.start;
    }
    open.range.end = part.end;
    if let Some(start) = text.strip_suffix('\\') {
        open.backslash = part.end - 1;
        open.empty &= start.is_empty();
        match start.strip_suffix("\\n") {
            Some(start) => {
                open.value.push_str(start);
                open.value.push('\n');
            }
            None => open.value.push_str(start),
        }
        return Some(open);
    }
    open.value.push_str(&text);
    finish(report, entries, open);
    None
}

fn finish(report: &mut Report<'_>, entries: &mut Vec<HeaderEntry>, open: Continuation) {
    let key_span = report.span(open.key_range.clone());
    if !is_key(&open.key) {
        report_unknown(report, &open);
        return;
    }
    let span = if open.value.is_empty() { key_span } else { report.span(open.range) };
    let entry = HeaderEntry { key: open.key, value: open.value, key_span, span };
    match entries.iter_mut().find(|known| known.key == entry.key) {
        Some(known) => {
            let shown = spelling(&known.key).to_owned();
            let first = report.source.position(known.key_span.start).0;
            *known = entry;
            report.push(
                report
                    .warning("SB025", key_span, format!("`{shown}` is given twice; the last value counts"))
                    .label(format!("replaces the value of line {first}")),
            );
        }
        None => entries.push(entry),
    }
}

/// The value's range up to its comment. In URLs a number sign begins a comment only behind a blank.
fn cut_comment(report: &mut Report<'_>, key: &str, range: Range<usize>) -> Range<usize> {
    let text = report.expanded.text[range.clone()].to_owned();
    let url = is_url(key);
    let behind_blank = |at: usize| text[..at].chars().next_back().is_none_or(char::is_whitespace);
    let cut = text.match_indices('#').map(|(at, _)| at).find(|at| !url || behind_blank(*at));
    let end = cut.unwrap_or(text.len());
    if let Some(at) = cut
        && !behind_blank(at)
    {
        let place = report.span(range.start + at..range.end);
        report.push(
            report
                .warning("SB028", place, "a number sign begins a comment here, and what follows it is not read")
                .label("not part of the value")
                .help("write a blank before the `#` if a comment is meant; there is no way to write `#` in this value"),
        );
    }
    trim(&report.expanded.text, range.start..range.start + end).1
}

/// Compat: Apptainer drops a key whose continuation never comes. A key that no build can miss is kept.
fn drop_or_keep(report: &mut Report<'_>, entries: &mut Vec<HeaderEntry>, open: Continuation) {
    let keep = NEEDED.contains(&open.key.as_str()) && !open.value.is_empty();
    let backslash = report.span(open.backslash..open.backslash + 1);
    let shown = spelling(&open.key).to_owned();
    let message = if keep {
        format!("the value of `{shown}` ends in a backslash, but nothing follows it")
    } else {
        format!("`{shown}` is dropped: its value ends in a backslash, and nothing follows it")
    };
    report.push(report.warning("SB026", backslash, message).label("announces a next line").fix(
        backslash,
        "",
        "remove the backslash",
    ));
    if keep {
        let mut open = open;
        open.range.end = open.backslash;
        open.value.truncate(open.value.trim_end().len());
        finish(report, entries, open);
    }
}

fn report_swallowed(report: &mut Report<'_>, open: &Continuation, place: Range<usize>) {
    let (backslash, span) = (report.span(open.backslash..open.backslash + 1), report.span(place));
    let message = format!("this line is a part of the value of `{}`", spelling(&open.key));
    report.push(report.warning("SB036", span, message).label("the line above ends in a backslash").fix(
        backslash,
        "",
        "remove the backslash of the line above",
    ));
}

fn report_interruption(report: &mut Report<'_>, open: &Continuation) {
    let place = report.span(open.backslash..open.backslash + 1);
    report.push(
        report
            .warning("SB027", place, "a blank or comment line stands between this line and its continuation")
            .label("continued below")
            .note("Apptainer crashes on this; sifbuild skips the line"),
    );
}

fn report_no_colon(report: &mut Report<'_>, line: &str, place: Range<usize>) {
    let span = report.span(place);
    let mut diagnostic = report.error("SB004", span, "a header line must be `Key: value`").label("no colon");
    let word = line.split_whitespace().next().unwrap_or_default();
    if let Some(key) = nearest(&word.to_lowercase(), KEYS) {
        diagnostic = diagnostic.help(format!("for the key `{0}` write `{0}: …`", spelling(key)));
    } else {
        diagnostic = diagnostic.help("scripts belong into a section, for example %post");
    }
    report.push(diagnostic);
}

fn report_unknown(report: &mut Report<'_>, open: &Continuation) {
    let key_span = report.span(open.key_range.clone());
    let message = format!("unknown header key `{}`", open.key.escape_debug());
    let mut diagnostic: Diagnostic = report.error("SB005", key_span, message).label("not a header key");
    let visible: String = open.key.chars().filter(|character| character.is_ascii_graphic()).collect();
    if let Some(key) = nearest(&visible, KEYS) {
        let shown = spelling(key);
        diagnostic =
            diagnostic.help(format!("did you mean `{shown}`?")).fix(key_span, shown, format!("write `{shown}`"));
    } else {
        let keys: Vec<&str> = KEYS.iter().map(|key| spelling(key)).collect();
        diagnostic = diagnostic.note(format!("the keys are {}", keys.join(", ")));
    }
    report.push(diagnostic);
}

/// A key's value when it is not empty.
pub(super) fn value(header: &[HeaderEntry], key: &str) -> Option<Spanned<String>> {
    header
        .iter()
        .find(|entry| entry.key == key && !entry.value.is_empty())
        .map(|entry| Spanned::new(entry.value.clone(), entry.span))
}
