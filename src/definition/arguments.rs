//! Build arguments: where their values come from, and how they are put into the text.
//!
//! Source: facts 1.7. Precedence: `--build-arg`, then build-arg files, then the stage's own `%arguments`.

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{SourceFile, Span};
use pest::Parser;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

#[derive(pest_derive::Parser)]
#[grammar = "../grammar/arguments.pest"]
struct ArgumentsGrammar;

/// The build arguments that the caller gives.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    values: BTreeMap<String, String>,
    /// Values of build-arg files; `--build-arg` wins over them.
    file_values: BTreeMap<String, String>,
    /// Arguments that no stage uses are warned of instead of refused (`--warn-unused-build-args`).
    pub warn_unused: bool,
}

/// Why a `--build-arg` is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    #[error("--build-arg {text:?} is not KEY=VALUE")]
    NoPair { text: String },
    #[error("--build-arg {text:?} has no key before the `=`")]
    NoKey { text: String },
}

impl Arguments {
    /// Adds one `--build-arg KEY=VALUE`; the last of one key wins.
    pub fn add(&mut self, text: &str) -> Result<(), ArgumentError> {
        match parse_pair(text) {
            None => Err(ArgumentError::NoPair { text: text.to_owned() }),
            Some((key, _)) if key.is_empty() => Err(ArgumentError::NoKey { text: text.to_owned() }),
            Some((key, value)) => {
                self.values.insert(key, value);
                Ok(())
            }
        }
    }

    /// Adds the lines of a `--build-arg-file`. Lines that are no `KEY=VALUE` are skipped, each with a warning unless it
    /// is blank or a comment.
    pub fn add_file(&mut self, file: &Arc<SourceFile>) -> Vec<Diagnostic> {
        let (values, diagnostics) = parse_lines(file, &Expanded::verbatim(&file.text, 0), 0..file.text.len());
        self.file_values.extend(values);
        diagnostics
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).or_else(|| self.file_values.get(key)).map(String::as_str)
    }

    /// Names of all arguments that the caller gave.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.values.keys().chain(self.file_values.keys()).map(String::as_str).collect()
    }
}

/// The `KEY=VALUE` lines of `%arguments` or of a build-arg file, in `place` of the text.
pub(super) fn parse_lines(
    source: &Arc<SourceFile>,
    text: &Expanded,
    place: Range<usize>,
) -> (BTreeMap<String, String>, Vec<Diagnostic>) {
    let (mut values, mut diagnostics) = (BTreeMap::new(), Vec::new());
    let mut start = place.start;
    for whole in text.text[place].split_inclusive('\n') {
        let line = whole.trim();
        let at = start + (whole.len() - whole.trim_start().len());
        start += whole.len();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_pair(line) {
            Some((key, value)) if !key.is_empty() => {
                values.insert(key, value);
            }
            _ => diagnostics.push(
                Diagnostic::new(
                    "SB014",
                    Severity::Warning,
                    source,
                    text.span(at..at + line.len()),
                    format!("`{line}` is no build argument and is skipped"),
                )
                .label("not KEY=VALUE")
                .help("write KEY=VALUE; the default may be empty: KEY="),
            ),
        }
    }
    (values, diagnostics)
}

fn parse_pair(line: &str) -> Option<(String, String)> {
    let pair = ArgumentsGrammar::parse(Rule::pair, line).ok()?.next()?;
    let mut parts = pair.into_inner();
    let key = parts.next()?.as_str().trim().to_owned();
    let value = parts.next()?.as_str().trim().to_owned();
    Some((key, value))
}

/// Text after arguments were put in, which knows where each byte came from.
#[derive(Clone, Debug, Default)]
pub(super) struct Expanded {
    pub text: String,
    /// In order, without gaps.
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    /// Where the piece begins in the expanded text.
    at: usize,
    origin: Span,
    /// False for the value of an argument.
    verbatim: bool,
}

impl Expanded {
    /// Text that stands as it is at `offset` of the source.
    pub fn verbatim(text: &str, offset: usize) -> Expanded {
        let mut expanded = Expanded::default();
        expanded.push(text, Span::new(offset, offset + text.len()), true);
        expanded
    }

    /// The place in the source of a range of the expanded text.
    pub fn span(&self, range: Range<usize>) -> Span {
        let start = self.origin(range.start, |piece| piece.origin.start);
        let end = if range.is_empty() {
            start
        } else {
            // The last byte decides, so that an end on a border stays in its own piece.
            self.origin(range.end - 1, |piece| piece.origin.end.saturating_sub(1)) + 1
        };
        Span::new(start, end.max(start))
    }

    /// Whether a range came from the source unchanged.
    pub fn is_verbatim(&self, range: &Range<usize>) -> bool {
        let first = self.pieces.partition_point(|piece| piece.at <= range.start).saturating_sub(1);
        self.pieces[first..].iter().take_while(|piece| piece.at < range.end).all(|piece| piece.verbatim)
    }

    fn origin(&self, at: usize, inside_value: fn(&Piece) -> usize) -> usize {
        let index = self.pieces.partition_point(|piece| piece.at <= at).saturating_sub(1);
        match self.pieces.get(index) {
            Some(piece) if piece.verbatim => piece.origin.start + (at - piece.at),
            Some(piece) => inside_value(piece),
            None => 0,
        }
    }

    fn push(&mut self, text: &str, origin: Span, verbatim: bool) {
        self.pieces.push(Piece { at: self.text.len(), origin, verbatim });
        self.text.push_str(text);
    }
}

/// A `{{ NAME }}` in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    pub name: String,
    pub span: Span,
}

/// Bytes of one stage after arguments were put in.
const EXPANDED_LIMIT: usize = 64 << 20;

/// What putting arguments into a text gave.
#[derive(Clone, Debug, Default)]
pub(super) struct Expansion {
    pub expanded: Expanded,
    pub used: Vec<Placeholder>,
    pub undefined: Vec<Placeholder>,
    /// The placeholder whose value would have made the text larger than 64 MiB; what follows it is not expanded.
    pub too_large: Option<Placeholder>,
}

/// Puts arguments into `text`, which stands at `offset` of the source. A placeholder without a value stays as it is.
pub(super) fn expand(
    text: &str,
    offset: usize,
    arguments: &Arguments,
    defaults: &BTreeMap<String, String>,
) -> Expansion {
    let lookup = |name: &str| arguments.get(name).or_else(|| defaults.get(name).map(String::as_str));
    let mut expansion = Expansion::default();
    let mut done = 0;
    for (place, name) in placeholders(text) {
        if is_commented(text, done, place.start) {
            continue;
        }
        let span = Span::new(offset + place.start, offset + place.end);
        let placeholder = Placeholder { name: name.clone(), span };
        let Some(value) = lookup(&name) else {
            expansion.undefined.push(placeholder);
            continue;
        };
        let expanded = &mut expansion.expanded;
        let room = EXPANDED_LIMIT.saturating_sub(expanded.text.len());
        let Some(value) = expand_nested(value, lookup, room) else {
            expansion.too_large = Some(placeholder);
            break;
        };
        expanded.push(&text[done..place.start], Span::new(offset + done, span.start), true);
        expanded.push(&value, span, false);
        expansion.used.push(placeholder);
        done = place.end;
    }
    expansion.expanded.push(&text[done..], Span::new(offset + done, offset + text.len()), true);
    expansion
}

/// Compat: a placeholder is commented when the text of its line before it, or since the last replacement, has a
/// number sign that some other character than `!` follows. `#{{X}}` and `#!/bin/{{X}}` are not.
fn is_commented(text: &str, done: usize, at: usize) -> bool {
    let start = text[done..at].rfind('\n').map_or(done, |newline| done + newline);
    text.as_bytes()[start..at].windows(2).any(|pair| pair[0] == b'#' && pair[1] != b'!')
}

/// One level only: what stands in the values that are put in here stays. Nothing when the result exceeds `room` bytes.
fn expand_nested<'a>(value: &str, lookup: impl Fn(&str) -> Option<&'a str>, room: usize) -> Option<String> {
    let mut text = value.to_owned();
    for (place, name) in placeholders(value) {
        if let Some(inner) = lookup(&name) {
            let written = &value[place];
            if text.len() + text.matches(written).count().saturating_mul(inner.len()) > room {
                return None;
            }
            text = text.replace(written, inner);
        }
    }
    (text.len() <= room).then_some(text)
}

/// Every `{{ NAME }}` of a text with its name, in order.
pub(super) fn placeholders(text: &str) -> Vec<(Range<usize>, String)> {
    if !text.contains("{{") {
        return Vec::new();
    }
    let pairs = match ArgumentsGrammar::parse(Rule::text, text) {
        Ok(pairs) => pairs,
        Err(error) => panic!("the grammar of placeholders is total, but: {error}"),
    };
    pairs
        .flat_map(|pair| pair.into_inner())
        .filter(|pair| pair.as_rule() == Rule::placeholder)
        .map(|pair| {
            let place = pair.as_span().start()..pair.as_span().end();
            (place, pair.into_inner().as_str().to_owned())
        })
        .collect()
}
