//! Text that came from somewhere, and places in it.

use std::ops::Range;
use std::sync::Arc;

/// One input text with the name that a person knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    pub name: String,
    pub text: String,
}

impl SourceFile {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<SourceFile> {
        Arc::new(SourceFile { name: name.into(), text: text.into() })
    }

    /// Line and column, both from 1; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (line, before[start..].chars().count() + 1)
    }

    /// Lines, from 1, of offsets that mostly ascend: one pass over the text.
    pub fn lines(&self, offsets: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let (mut at, mut line) = (0, 1);
        let bytes = self.text.as_bytes();
        let mut lines = Vec::new();
        for offset in offsets {
            let offset = offset.min(bytes.len());
            if offset < at {
                (at, line) = (0, 1);
            }
            line += bytes[at..offset].iter().filter(|byte| **byte == b'\n').count();
            at = offset;
            lines.push(line);
        }
        lines
    }
}

/// A byte range of a [`SourceFile`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A value and the place where its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    pub fn new(value: T, span: Span) -> Spanned<T> {
        Spanned { value, span }
    }
}
