//! SB101: `${X}` where the build argument `{{ X }}` is meant.

use super::{Part, Subject, shell};
use crate::definition::report::Report;
use std::collections::BTreeSet;
use std::ops::Range;

pub(super) fn check(report: &mut Report<'_>, subject: &Subject<'_>, parts: &[Part<'_>]) {
    let names: BTreeSet<&str> = subject
        .defaults
        .keys()
        .map(String::as_str)
        .chain(subject.arguments.names())
        .filter(|name| shell::is_name(name))
        .collect();
    if names.is_empty() {
        return;
    }
    for entry in &subject.lowered.header {
        let source = report.source;
        let Some(value) = source.text.get(entry.span.range()) else { continue };
        for (place, name) in uses(value, &names) {
            let span = crate::source::Span::new(entry.span.start + place.start, entry.span.start + place.end);
            let diagnostic = report
                .warning("SB101", span, format!("`{name}` is a build argument, and a header knows no shell variables"))
                .label("stays as it is")
                .fix(span, format!("{{{{ {name} }}}}"), format!("write `{{{{ {name} }}}}`"));
            report.push(diagnostic);
        }
    }
    let set = assigned(&report.expanded.text, parts);
    for part in parts {
        let (Some(shell), false) = (&part.shell, part.name == "environment") else { continue };
        let range = shell.start..shell.start + shell.masked.len();
        let mut told = BTreeSet::new();
        for (place, name) in uses(&report.expanded.text[range], &names) {
            let range = shell.start + place.start..shell.start + place.end;
            // Blank where the mask is: a comment or a here-document.
            let hidden = shell.masked[place.clone()].trim().is_empty();
            if set.contains(name) || hidden || !told.insert(name) || !report.expanded.is_verbatim(&range) {
                continue;
            }
            let span = report.span(range);
            let diagnostic = report
                .warning(
                    "SB101",
                    span,
                    format!("`{name}` is a build argument, and nothing sets a variable of this name"),
                )
                .label("the shell puts in nothing")
                .fix(span, format!("{{{{ {name} }}}}"), format!("write `{{{{ {name} }}}}`"));
            report.push(diagnostic);
        }
    }
}

/// Variables that some script of the stage sets.
fn assigned<'a>(text: &'a str, parts: &[Part<'_>]) -> BTreeSet<&'a str> {
    let mut set = BTreeSet::new();
    for shell in parts.iter().filter_map(|part| part.shell.as_ref()) {
        let end = shell.start + shell.masked.len();
        let words = text[shell.start..end].split(|character: char| {
            character.is_whitespace() || matches!(character, ';' | '(' | ')' | '&' | '|' | '`')
        });
        let mut previous = "";
        for word in words.filter(|word| !word.is_empty()) {
            if let Some((name, _)) = word.split_once('=') {
                set.insert(name.trim_start_matches(['"', '\'', '{']));
            }
            if matches!(previous, "for" | "read" | "export") {
                set.insert(word);
            }
            previous = word;
        }
    }
    set
}

/// Every `$NAME` and `${NAME…}` of a known name.
fn uses<'a>(text: &str, names: &BTreeSet<&'a str>) -> Vec<(Range<usize>, &'a str)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('$') {
        if text[..at].ends_with('\\') {
            continue;
        }
        let rest = &text[at + 1..];
        let braced = rest.starts_with('{');
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let Some(name) = names.get(&rest[..length]) else { continue };
        if braced && !rest[length..].starts_with('}') {
            // `${NAME:-default}` says itself that the variable may be missing.
            continue;
        }
        found.push((at..at + 1 + length + 2 * usize::from(braced), *name));
    }
    found
}
