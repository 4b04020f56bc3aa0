//! A shell script cut into commands, well enough for lints: no expansion, no grammar of compound commands.

use crate::definition::grammar::here_documents;
use std::ops::Range;

/// A script's commands.
pub(super) struct Shell {
    /// As long as the script's text; quoted text is `q`s, comments and here-documents are blank, continued lines are joined.
    pub masked: String,
    /// Where the script stands in the stage's text.
    pub start: usize,
    pub commands: Vec<Command>,
}

/// The words of one simple command, as ranges of the stage's text.
pub(super) struct Command {
    pub words: Vec<Range<usize>>,
    /// What stands before the command on its line ends in a pipe.
    pub piped: bool,
}

impl Shell {
    pub fn read(text: &str, place: Range<usize>) -> Shell {
        let masked = mask(&text[place.clone()]);
        let commands = split(&masked, place.start);
        Shell { masked, start: place.start, commands }
    }

    /// Places of a pattern outside quotes, comments and here-documents.
    pub fn find<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        self.masked.match_indices(pattern).map(|(at, found)| self.start + at..self.start + at + found.len())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Plain,
    Single,
    Double,
    Comment,
}

fn mask(script: &str) -> String {
    let mut masked = String::with_capacity(script.len());
    let mut state = State::Plain;
    let mut line_start = 0;
    let mut skip_to = 0;
    let mut characters = script.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if at < skip_to {
            push_blank(&mut masked, character);
            continue;
        }
        if at == skip_to && at > 0 {
            line_start = at;
        }
        match (state, character) {
            (State::Comment, '\n') | (State::Plain, '\n') => {
                state = State::Plain;
                masked.push('\n');
                skip_to = here_documents_end(script, line_start, at + 1);
                line_start = at + 1;
            }
            (State::Comment, _) => push_blank(&mut masked, character),
            (State::Single, '\'') | (State::Double, '"') => {
                state = State::Plain;
                masked.push(character);
            }
            (State::Single, _) => push_quoted(&mut masked, character),
            (State::Double | State::Plain, '\\') => {
                let next = characters.next().map(|(_, next)| next);
                if next == Some('\n') {
                    masked.push_str("  ");
                } else {
                    masked.push('q');
                    next.into_iter().for_each(|next| push_quoted(&mut masked, next));
                }
            }
            (State::Double, _) => push_quoted(&mut masked, character),
            (State::Plain, '\'') => {
                state = State::Single;
                masked.push(character);
            }
            (State::Plain, '"') => {
                state = State::Double;
                masked.push(character);
            }
            (State::Plain, '#') if masked.chars().next_back().is_none_or(is_word_border) => {
                state = State::Comment;
                masked.push(' ');
            }
            (State::Plain, _) => masked.push(character),
        }
    }
    masked
}

fn is_word_border(character: char) -> bool {
    character.is_whitespace() || ";|&()".contains(character)
}

fn push_blank(masked: &mut String, character: char) {
    if character == '\n' {
        masked.push('\n');
    } else {
        (0..character.len_utf8()).for_each(|_| masked.push(' '));
    }
}

fn push_quoted(masked: &mut String, character: char) {
    (0..character.len_utf8()).for_each(|_| masked.push('q'));
}

/// Where the here-documents end that the line from `line_start` opens; `next` when there are none or one never ends.
fn here_documents_end(script: &str, line_start: usize, next: usize) -> usize {
    let line = script[line_start..next].trim_end_matches(['\n', '\r']);
    if !line.contains("<<") {
        return next;
    }
    let mut end = next;
    for (delimiter, tabs) in here_documents(line) {
        let mut at = end;
        let found = script[end..].split_inclusive('\n').find_map(|candidate| {
            at += candidate.len();
            let bare = candidate.trim_end_matches(['\n', '\r']);
            let bare = if tabs { bare.trim_start_matches('\t') } else { bare };
            (bare == delimiter).then_some(at)
        });
        match found {
            Some(at) => end = at,
            None => return next,
        }
    }
    end
}

/// Words of the shell's own grammar, behind which a command begins.
const KEYWORDS: &[&str] = &[
    "if", "then", "else", "elif", "do", "while", "until", "!", "{", "time", "exec", "sudo", "env", "command", "nohup",
];

fn split(masked: &str, start: usize) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut word: Option<usize> = None;
    let mut piped = false;
    for (at, character) in masked.char_indices().chain([(masked.len(), '\n')]) {
        let ends_command = matches!(character, '\n' | ';' | '|' | '(' | ')' | '`')
            || character == '&' && !masked[..at].ends_with('>') && !masked[at + 1..].starts_with('>');
        if !character.is_whitespace() && !ends_command {
            word.get_or_insert(at);
            continue;
        }
        if let Some(from) = word.take() {
            words.push(from..at);
        }
        if ends_command {
            let command = bare(masked, &words);
            if !command.is_empty() {
                let words = command.iter().map(|word| start + word.start..start + word.end).collect();
                commands.push(Command { words, piped });
            }
            if !words.is_empty() || character == '\n' {
                piped = character == '|' && !masked[at + 1..].starts_with('|') && !masked[..at].ends_with('|');
            }
            words.clear();
        }
    }
    commands
}

/// A command's words without keywords and assignments before its name.
fn bare<'a>(masked: &str, words: &'a [Range<usize>]) -> &'a [Range<usize>] {
    let skipped = words
        .iter()
        .take_while(|word| {
            let word = &masked[(*word).clone()];
            KEYWORDS.contains(&word) || is_assignment(word)
        })
        .count();
    &words[skipped..]
}

/// Whether a word is `NAME=…`.
pub(super) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
