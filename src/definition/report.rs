//! Collects what is said about one text, with places turned back into those of the source.

use super::arguments::Expanded;
use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{SourceFile, Span};
use std::ops::Range;
use std::sync::Arc;

/// More findings than this help nobody; the rest are counted only.
const LIMIT: usize = 500;

pub(super) struct Report<'a> {
    pub source: &'a Arc<SourceFile>,
    /// The text that ranges refer to.
    pub expanded: &'a Expanded,
    pub diagnostics: &'a mut Vec<Diagnostic>,
}

impl Report<'_> {
    pub fn span(&self, range: Range<usize>) -> Span {
        self.expanded.span(range)
    }

    pub fn error(&self, code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(code, Severity::Error, self.source, span, message)
    }

    pub fn warning(&self, code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(code, Severity::Warning, self.source, span, message)
    }

    /// Errors are always kept, so that a definition with an error is never taken for a good one.
    pub fn push(&mut self, mut diagnostic: Diagnostic) {
        // What a build argument gave cannot be corrected where the argument stands.
        let placeholder = |span: Span| self.source.text.get(span.range()).is_none_or(|text| text.contains("{{"));
        if diagnostic.fix.as_ref().is_some_and(|fix| placeholder(fix.span)) {
            diagnostic.fix = None;
        }
        if self.diagnostics.len() < LIMIT || diagnostic.severity == Severity::Error && !self.has_error() {
            self.diagnostics.push(diagnostic);
        }
    }

    fn has_error(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}
