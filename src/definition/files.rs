//! `%files` and `%appfiles`.
//!
//! Sources: facts 1.4 "%files", 4.8.

use super::grammar::{Line, Section, file_paths};
use super::header::trim;
use super::report::Report;
use super::{FileEntry, FilesBlock};
use crate::source::Spanned;
use std::ops::Range;

/// All blocks with one argument string.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub arguments: String,
    pub entries: Vec<FileEntry>,
    pub selection: Selection,
}

/// What the arguments of `%files` select.
#[derive(Clone, Debug)]
pub(super) enum Selection {
    Host,
    Stage(Spanned<String>),
    /// Compat: neither none nor two words; Apptainer silently copies nothing.
    Nothing,
}

pub(super) fn effective(blocks: &[Block]) -> Vec<FilesBlock> {
    blocks
        .iter()
        .filter_map(|block| {
            let from = match &block.selection {
                Selection::Host => None,
                Selection::Stage(stage) => Some(stage.clone()),
                Selection::Nothing => return None,
            };
            Some(FilesBlock { from, entries: block.entries.clone() })
        })
        .collect()
}

pub(super) fn read(report: &mut Report<'_>, blocks: &mut Vec<Block>, section: &Section, body: &[Line]) {
    let text = report.expanded.text.as_str();
    let place = section.line.rest.clone().unwrap_or(section.head.end..section.head.end);
    let arguments = text[place.clone()].to_owned();
    let at = blocks.iter().position(|block| block.arguments == arguments).unwrap_or_else(|| {
        let selection = select(report, section, place);
        blocks.push(Block { arguments, entries: Vec::new(), selection });
        blocks.len() - 1
    });
    for line in body {
        let (text, place) = trim(&report.expanded.text, line.content.clone());
        if !text.is_empty() && !text.starts_with('#') {
            blocks[at].entries.push(read_line(report, text, place));
        }
    }
}

fn select(report: &mut Report<'_>, section: &Section, place: Range<usize>) -> Selection {
    let text = report.expanded.text.as_str();
    let used = text[place.clone()].split('#').next().unwrap_or_default();
    let words = super::bootstrap::words(used, place.start);
    let span = report.span(section.head.clone());
    match words.as_slice() {
        [] if used.is_empty() => Selection::Host,
        [] => {
            let blanks = report.span(place.start..place.start + used.len());
            report.push(
                report
                    .warning("SB011", span, "this %files copies nothing")
                    .label("more than one blank stands behind the section's name")
                    .fix(blanks, "", "remove the blanks"),
            );
            Selection::Nothing
        }
        [(word, word_place), (stage, stage_place)] => {
            if !word.eq_ignore_ascii_case("from") {
                let at = report.span(word_place.clone());
                report.push(
                    report.warning("SB012", at, format!("`{word}` is read as `from`")).label("write `from`").fix(
                        at,
                        "from",
                        "write `from`",
                    ),
                );
            }
            Selection::Stage(Spanned::new((*stage).to_owned(), report.span(stage_place.clone())))
        }
        [..] => {
            report.push(
                report
                    .warning("SB011", span, "this %files copies nothing")
                    .label("neither bare nor `from STAGE`")
                    .help("write `%files` for files of the host, `%files from STAGE` for those of a stage"),
            );
            Selection::Nothing
        }
    }
}

fn read_line(report: &mut Report<'_>, line: &str, place: Range<usize>) -> FileEntry {
    let (tokens, stray) = file_paths(line);
    let at = |range: &Range<usize>| place.start + range.start..place.start + range.end;
    if let Some(stray) = stray {
        let span = report.span(place.start + stray..place.start + stray + 1);
        report
            .push(report.warning("SB018", span, "nothing closes this quote, and it is not read").label("opened here"));
    }
    for pair in tokens.windows(2).take(2) {
        if pair[0].range.end == pair[1].range.start && stray.is_none() {
            let span = report.span(at(&(pair[0].range.start..pair[1].range.end)));
            report.push(
                report
                    .warning("SB018", span, "a quote ends the path before it: these are two paths")
                    .label("not one path")
                    .help("quote the whole path"),
            );
        }
    }
    let destination = tokens.get(1).map(|token| token.text.clone()).unwrap_or_default();
    if let Some(token) = tokens.get(1)
        && token.text.starts_with('#')
        && !token.quoted
    {
        let span = report.span(at(&token.range));
        report.push(
            report
                .warning("SB020", span, format!("no comment can follow a path: `{}` is the destination", token.text))
                .label("the path in the image")
                .help("put the comment on a line of its own"),
        );
    } else if let Some(token) = tokens.get(2)
        && !token.text.starts_with('#')
    {
        let last = tokens.last().unwrap_or(token);
        let span = report.span(at(&(token.range.start..last.range.end)));
        report.push(
            report
                .warning("SB019", span, "a line of %files names one source and one destination; the rest is ignored")
                .label("ignored")
                .help("give each source its own line, and quote paths with blanks"),
        );
    }
    let source = tokens.first().map(|token| token.text.clone()).unwrap_or_default();
    let span = report.span(place.clone());
    if source.is_empty() {
        report.push(report.warning("SB021", span, "a copy without a source is skipped").label("no source"));
    }
    FileEntry { source, destination, span }
}

/// `%appfiles`: parted by the first space, a comment at the end, no quotes.
pub(super) fn read_app(report: &mut Report<'_>, entries: &mut Vec<FileEntry>, body: &[Line]) {
    for line in body {
        let content = &report.expanded.text[line.content.clone()];
        let end = content.find('#').unwrap_or(content.len());
        let (text, place) = trim(&report.expanded.text, line.content.start..line.content.start + end);
        if text.is_empty() {
            continue;
        }
        let (source, destination) = text.split_once(' ').unwrap_or((text, ""));
        let (source, destination) = (source.trim().to_owned(), destination.trim().to_owned());
        entries.push(FileEntry { source, destination, span: report.span(place) });
    }
}
