//! Cuts text into lines, sections and stages, and small texts into tokens. Splitting never fails.
//!
//! Sources: facts 1.1 and 1.2, `grammar/*.pest`.
//!
//! # Why here-documents are decided here
//!
//! Apptainer knows no here-documents: a line in one that starts with `%` or `Bootstrap:` ends the script. Where that
//! gives a file that Apptainer builds, we read it the same way (and `check` says so). Where it gives one that cannot be built
//! (an unknown section, or a terminator that lands in a script run by `sh -e`), the here-document stays whole.

use pest::Parser;
use pest::iterators::Pair;
use std::collections::HashMap;
use std::ops::Range;

#[derive(pest_derive::Parser)]
#[grammar = "../grammar/definition.pest"]
struct DefinitionGrammar;

/// A module a grammar, because each makes its own `Rule`.
mod files {
    #[derive(pest_derive::Parser)]
    #[grammar = "../grammar/files.pest"]
    pub(super) struct Grammar;
}

mod reference {
    #[derive(pest_derive::Parser)]
    #[grammar = "../grammar/reference.pest"]
    pub(super) struct Grammar;
}

pub(super) const SECTIONS: &[&str] = &[
    "help",
    "setup",
    "files",
    "labels",
    "environment",
    "pre",
    "post",
    "runscript",
    "test",
    "startscript",
    "arguments",
];

pub(super) const APP_SECTIONS: &[&str] =
    &["appinstall", "applabels", "appfiles", "appenv", "apptest", "apphelp", "apprun", "appstart"];

/// Sections whose body is a shell script, so that here-documents can stand in them.
const SHELL: &[&str] = &[
    "setup",
    "environment",
    "pre",
    "post",
    "runscript",
    "test",
    "startscript",
    "appinstall",
    "appenv",
    "apptest",
    "apprun",
    "appstart",
];

/// Sections that a build runs with `sh -e`: a here-document's terminator that lands in one ends the build.
const RUN_BY_BUILD: &[&str] = &["setup", "pre", "post", "appinstall"];

/// The parts of a section line, as ranges of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SectionLine {
    pub indent: Range<usize>,
    /// Without the percent signs, as written.
    pub name: Range<usize>,
    pub separator: Range<usize>,
    /// What stands behind the first blank; absent when there is none.
    pub rest: Option<Range<usize>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    Stage,
    Section(SectionLine),
    Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Without the line end.
    pub content: Range<usize>,
    /// Where the next line begins.
    pub next: usize,
    pub kind: LineKind,
    /// Set on lines that would start something if a here-document did not hold them.
    pub protected: bool,
    /// Set on lines inside a here-document that start something all the same.
    pub cut: bool,
}

/// A section's lines in one stage's text.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub line: SectionLine,
    /// The section line, without its line end.
    pub head: Range<usize>,
    /// Index of the first and one past the last body line in the lines of the text.
    pub lines: Range<usize>,
}

impl Section {
    /// Lower-case name without percent signs.
    pub fn name(&self, text: &str) -> String {
        text[self.line.name.clone()].to_lowercase()
    }
}

/// The lines of a text, with here-documents decided.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let file = match DefinitionGrammar::parse(Rule::file, text) {
        Ok(mut pairs) => pairs.next(),
        Err(error) => panic!("the grammar of definition files is total, but: {error}"),
    };
    for pair in file.into_iter().flat_map(Pair::into_inner) {
        let whole = range(&pair);
        let kind = match pair.as_rule() {
            Rule::stage => LineKind::Stage,
            Rule::section => LineKind::Section(section_line(pair)),
            Rule::text => LineKind::Text,
            _ => continue,
        };
        let raw = &text[whole.clone()];
        let bare = raw.strip_suffix('\n').unwrap_or(raw);
        let bare = bare.strip_suffix('\r').unwrap_or(bare);
        let content = whole.start..whole.start + bare.len();
        lines.push(Line { content, next: whole.end, kind, protected: false, cut: false });
    }
    hold_here_documents(text, &mut lines);
    lines
}

/// Byte ranges of the chunks: one for each stage line, and the text before the first.
pub(super) fn chunks(text: &str, lines: &[Line]) -> Vec<Range<usize>> {
    let mut starts: Vec<usize> =
        lines.iter().filter(|line| line.kind == LineKind::Stage).map(|line| line.content.start).collect();
    if starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    starts.push(text.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).filter(|range| !range.is_empty()).collect()
}

/// The header's lines and the sections of one stage.
pub(super) fn sections(lines: &[Line]) -> (Range<usize>, Vec<Section>) {
    let starts: Vec<usize> = (0..lines.len()).filter(|at| matches!(lines[*at].kind, LineKind::Section(_))).collect();
    let header = 0..starts.first().copied().unwrap_or(lines.len());
    let mut sections = Vec::new();
    for (order, at) in starts.iter().enumerate() {
        let end = starts.get(order + 1).copied().unwrap_or(lines.len());
        if let LineKind::Section(line) = &lines[*at].kind {
            sections.push(Section { line: line.clone(), head: lines[*at].content.clone(), lines: *at + 1..end });
        }
    }
    (header, sections)
}

fn section_line(pair: Pair<'_, Rule>) -> SectionLine {
    let start = pair.as_span().start();
    let mut line = SectionLine { indent: start..start, name: start..start, separator: start..start, rest: None };
    for part in pair.into_inner() {
        let place = range(&part);
        match part.as_rule() {
            Rule::indent => line.indent = place,
            Rule::name => {
                line.separator = place.end..place.end;
                line.name = place;
            }
            Rule::separator => line.separator = place,
            Rule::rest => line.rest = Some(place),
            _ => {}
        }
    }
    line
}

/// Decides for every here-document whether it holds the section and stage lines in it.
fn hold_here_documents(text: &str, lines: &mut [Line]) {
    let last_start = lines.iter().rposition(|line| line.kind != LineKind::Text).unwrap_or(0);
    let mut terminators: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in lines.iter().enumerate() {
        terminators.entry(text[line.content.clone()].trim_start_matches('\t')).or_default().push(at);
    }
    let (mut at, mut shell) = (0, false);
    while at < last_start {
        match &lines[at].kind {
            LineKind::Stage => shell = false,
            LineKind::Section(line) => {
                let name = text[line.name.clone()].to_lowercase();
                shell = SHELL.contains(&name.as_str());
            }
            LineKind::Text if shell && text[lines[at].content.clone()].contains("<<") => {
                if let Some(end) = here_documents_end(text, lines, &terminators, at) {
                    at = hold(text, &mut lines[..end], at + 1).unwrap_or(at);
                }
            }
            LineKind::Text => {}
        }
        at += 1;
    }
}

/// Index of the last terminator of the here-documents that a line opens.
fn here_documents_end(
    text: &str,
    lines: &[Line],
    terminators: &HashMap<&str, Vec<usize>>,
    opener: usize,
) -> Option<usize> {
    let mut end = None;
    for (delimiter, tabs) in here_documents(&text[lines[opener].content.clone()]) {
        let from = end.unwrap_or(opener);
        let places = terminators.get(delimiter.as_str())?;
        let first = places.partition_point(|place| *place <= from);
        let is_end = |place: &&usize| tabs || text[lines[**place].content.clone()] == delimiter;
        end = Some(*places[first..].iter().take(64).find(is_end)?);
    }
    end
}

/// Holds the lines from `start` on when Apptainer's reading of them cannot be built. Returns the last line held.
fn hold(text: &str, lines: &mut [Line], start: usize) -> Option<usize> {
    let mut buildable = true;
    let mut last = None;
    for line in &lines[start..] {
        match &line.kind {
            LineKind::Text => {}
            LineKind::Stage => last = Some(String::from("bootstrap:")),
            LineKind::Section(parts) => {
                let name = text[parts.name.clone()].to_lowercase();
                buildable &= parts.indent.is_empty() && is_section(&name);
                last = Some(name);
            }
        }
    }
    let last = last?;
    // A terminator is no header line, no file to copy, and no command.
    buildable &= last != "bootstrap:" && last != "files" && !RUN_BY_BUILD.contains(&last.as_str());
    for line in lines[start..].iter_mut().filter(|line| line.kind != LineKind::Text) {
        line.cut = buildable;
        if !buildable {
            line.kind = LineKind::Text;
            line.protected = true;
        }
    }
    (!buildable).then(|| lines.len() - 1)
}

pub(super) fn is_section(name: &str) -> bool {
    SECTIONS.contains(&name) || APP_SECTIONS.contains(&name)
}

/// Delimiters of the here-documents that a line of shell opens, and whether leading tabs are dropped (`<<-`).
pub(super) fn here_documents(line: &str) -> Vec<(String, bool)> {
    let Ok(pairs) = DefinitionGrammar::parse(Rule::shell, line) else { return Vec::new() };
    let mut found = Vec::new();
    for here in pairs.flatten().filter(|pair| pair.as_rule() == Rule::here) {
        let (mut tabs, mut delimiter) = (false, String::new());
        for part in here.into_inner() {
            match part.as_rule() {
                Rule::tabs => tabs = !part.as_str().is_empty(),
                Rule::delimiter => {
                    delimiter = part
                        .into_inner()
                        .flatten()
                        .filter(|piece| {
                            matches!(piece.as_rule(), Rule::plain | Rule::inner_single | Rule::inner_double | Rule::any)
                        })
                        .map(|piece| piece.as_str().to_owned())
                        .collect();
                }
                _ => {}
            }
        }
        found.push((delimiter, tabs));
    }
    found
}

/// One path of a `%files` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathToken {
    pub text: String,
    /// With its quotes.
    pub range: Range<usize>,
    pub quoted: bool,
}

/// The paths of one line of `%files`, and the place of a double quote that nothing closes.
pub(super) fn file_paths(line: &str) -> (Vec<PathToken>, Option<usize>) {
    let pairs = match files::Grammar::parse(files::Rule::line, line) {
        Ok(pairs) => pairs,
        Err(error) => panic!("the grammar of %files lines is total, but: {error}"),
    };
    let (mut tokens, mut stray) = (Vec::new(), None);
    for pair in pairs.flat_map(|pair| pair.into_inner()) {
        let place = pair.as_span().start()..pair.as_span().end();
        match pair.as_rule() {
            files::Rule::path => {
                tokens.push(PathToken { text: pair.as_str().to_owned(), range: place, quoted: false });
            }
            files::Rule::double | files::Rule::single => {
                let inner = pair.into_inner().as_str().to_owned();
                tokens.push(PathToken { text: inner, range: place, quoted: true });
            }
            files::Rule::stray => stray = stray.or(Some(place.start)),
            _ => {}
        }
    }
    (tokens, stray)
}

/// A registry reference cut into its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    pub tag: Option<&'a str>,
    pub digest: Option<&'a str>,
}

/// The parts of `[registry/]repository[:tag][@digest]`, or the byte where it stops being one.
pub(super) fn reference(text: &str) -> Result<Reference<'_>, usize> {
    let pairs = reference::Grammar::parse(reference::Rule::reference, text).map_err(|error| match error.location {
        pest::error::InputLocation::Pos(at) | pest::error::InputLocation::Span((at, _)) => at,
    })?;
    let mut parts = Reference { tag: None, digest: None };
    for pair in pairs.flat_map(|pair| pair.into_inner()) {
        match pair.as_rule() {
            reference::Rule::tag => parts.tag = Some(pair.as_str()),
            reference::Rule::digest => parts.digest = Some(pair.as_str()),
            _ => {}
        }
    }
    Ok(parts)
}

fn range(pair: &Pair<'_, Rule>) -> Range<usize> {
    pair.as_span().start()..pair.as_span().end()
}
