//! Build specs that are no definition file, and reading those that are.
//!
//! Source: facts 2.1.

use super::arguments::Expanded;
use super::report::Report;
use super::{Bootstrap, Definition, FileBase, HeaderEntry, Parsed, Stage, Written, agents, bootstrap};
use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{SourceFile, Span, Spanned};
use std::sync::Arc;

const SCHEMES: &[&str] = &[
    "library",
    "shub",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "http",
    "https",
    "oras",
    "buildkit",
    "dockerfile",
    "ipfs",
];

/// Scheme and rest of a build spec that is a URI: `docker://alpine` and `docker:alpine` give `("docker", "alpine")`.
pub fn parse_spec_uri(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://").or_else(|| text.split_once(':'))?;
    SCHEMES.contains(&scheme).then_some((scheme, rest))
}

/// The text of a definition file's bytes.
///
/// Errors with a diagnostic that names the first line that is not UTF-8.
pub fn read_text(name: &str, bytes: Vec<u8>) -> Result<Arc<SourceFile>, Box<Diagnostic>> {
    String::from_utf8(bytes).map(|text| SourceFile::new(name, text)).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let source = SourceFile::new(name, String::from_utf8_lossy(error.as_bytes()));
        let span = Span::new(at, at + '\u{fffd}'.len_utf8());
        Box::new(
            Diagnostic::new("SB042", Severity::Error, &source, span, "the file is not UTF-8")
                .label("these bytes are no character")
                .help("convert it, for example with `iconv -f latin1 -t utf-8`"),
        )
    })
}

impl Definition {
    /// The definition that a URI in the place of a definition file stands for.
    pub fn from_uri(scheme: &str, rest: &str) -> Parsed {
        let source = synthetic(scheme, rest);
        let text = Expanded::verbatim(&source.text, 0);
        let mut diagnostics = Vec::new();
        let mut report = Report { source: &source, expanded: &text, diagnostics: &mut diagnostics };
        let header = synthetic_header(scheme, rest);
        let found = if agents::AGENTS.contains(&scheme) {
            bootstrap::lower(&mut report, &header, Some(0..0), true)
        } else {
            let message = format!("`{scheme}` is not a source that images are built from");
            report
                .push(report.error("SB007", header[0].span, message).help("pull the image first, then give its path"));
            None
        };
        let definition = found.map(|bootstrap| synthetic_definition(&source, header, bootstrap));
        let failed = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        Parsed { definition: definition.filter(|_| !failed), diagnostics }
    }

    /// The definition that an image's path in the place of a definition file stands for.
    pub fn from_image(path: &str) -> Definition {
        let source = synthetic("localimage", path);
        let header = synthetic_header("localimage", path);
        let from = Spanned::new(path.to_owned(), header[1].span);
        let base = FileBase { from, fingerprints: Vec::new() };
        synthetic_definition(&source, header, Bootstrap::Localimage(base))
    }
}

fn synthetic(scheme: &str, rest: &str) -> Arc<SourceFile> {
    SourceFile::new(format!("{scheme}:{rest}"), format!("bootstrap: {scheme}\nfrom: {rest}\n\n"))
}

fn synthetic_header(scheme: &str, rest: &str) -> Vec<HeaderEntry> {
    let entry = |key: &str, value: &str, at: usize| {
        let start = at + key.len() + 2;
        HeaderEntry {
            key: key.to_owned(),
            value: value.to_owned(),
            key_span: Span::new(at, at + key.len()),
            span: Span::new(start, start + value.len()),
        }
    };
    vec![entry("bootstrap", scheme, 0), entry("from", rest, "bootstrap: \n".len() + scheme.len())]
}

fn synthetic_definition(source: &Arc<SourceFile>, header: Vec<HeaderEntry>, bootstrap: Bootstrap) -> Definition {
    let span = Span::new(0, source.text.len());
    let mut stage = Stage::new(bootstrap, span);
    stage.header = header;
    stage.written = Written { raw: source.text.clone(), ..Written::default() };
    Definition { source: Arc::clone(source), raw: source.text.clone(), stages: vec![stage] }
}
