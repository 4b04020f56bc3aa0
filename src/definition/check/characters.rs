//! SB108: characters that nobody sees, but every program reads.

use crate::definition::grammar::{Line, LineKind};
use crate::definition::report::Report;
use crate::source::Span;

/// Whether a character has no width of its own, or looks like a blank that it is not.
pub(in crate::definition) fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{a0}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{202f}'
            | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

fn name(character: char) -> &'static str {
    match character {
        '\u{a0}' | '\u{202f}' => "a no-break space",
        '\u{ad}' => "a soft hyphen",
        '\u{200b}' => "a zero-width space",
        '\u{feff}' => "a byte order mark",
        '\u{200c}' | '\u{200d}' | '\u{2060}' => "a zero-width joiner",
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}' => {
            "a character that changes the direction of the text"
        }
        '\u{2028}' | '\u{2029}' => "a line separator that is no line end",
        _ => "an invisible character",
    }
}

pub(super) fn check(report: &mut Report<'_>, lines: &[Line]) {
    check_mark(report);
    let mut prose = false;
    for line in lines {
        let content = &report.expanded.text[line.content.clone()];
        match &line.kind {
            LineKind::Section(parts) => {
                let name = report.expanded.text[parts.name.clone()].to_lowercase();
                prose = matches!(name.as_str(), "help" | "apphelp" | "labels" | "applabels");
                // Its own diagnostics name what stands behind the name.
                continue;
            }
            LineKind::Stage | LineKind::Text => {}
        }
        if prose || content.trim_start().starts_with('#') {
            continue;
        }
        if let Some((at, character)) = first_invisible(content) {
            let start = line.content.start + at;
            let span = report.span(start..start + character.len_utf8());
            let blank = matches!(character, '\u{a0}' | '\u{202f}' | '\u{2028}' | '\u{2029}');
            let fix = if blank { " " } else { "" };
            let diagnostic = report
                .warning("SB108", span, format!("{} stands in this line", name(character)))
                .label(format!("U+{:04X}", u32::from(character)))
                .fix(span, fix, if blank { "replace it by a space" } else { "remove it" });
            report.push(diagnostic);
        }
    }
}

/// A byte order mark at the start of the file, which parsing skips.
fn check_mark(report: &mut Report<'_>) {
    if report.source.text.starts_with('\u{feff}') {
        let span = Span::new(0, '\u{feff}'.len_utf8());
        let diagnostic = report
            .warning("SB108", span, "the file begins with a byte order mark")
            .label("U+FEFF")
            .note("Apptainer takes it for a part of the first header key and refuses this file")
            .fix(span, "", "remove it");
        report.push(diagnostic);
    }
}

/// Joiners count only between ASCII characters: other scripts and emoji need them.
fn first_invisible(line: &str) -> Option<(usize, char)> {
    if line.is_ascii() {
        return None;
    }
    line.char_indices().find(|(at, character)| {
        let ascii_around = || {
            line[..*at].chars().next_back().is_none_or(|before| before.is_ascii())
                && line[at + character.len_utf8()..].chars().next().is_none_or(|after| after.is_ascii())
        };
        is_invisible(*character) && (!matches!(character, '\u{200c}' | '\u{200d}') || ascii_around())
    })
}
