//! `sifbuild.policy`: which bases may be built from. A site says which sources need whose signature, or are only these very images.
//!
//! The file is TOML:
//!
//! ```toml
//! default = "refuse"                       # sources that no rule names; or "accept", which is the default
//!
//! [[rule]]
//! source = "localimage:/srv/images/**"     # a pattern, or a list of them
//! signed-by = ["12045C8C0B1004D058DE4BEDA20C27EE7FF7BA84"]
//!
//! [[rule]]
//! source = "docker://docker.io/library/debian:12"
//! digests = ["sha256:…"]
//! ```
//!
//! A source that has a digest is matched with it and without its tag (`docker://ghcr.io/org/app@sha256:…`): the tag decides nothing then.
//! The first rule that names a source decides. A base must fulfil all that the rule asks: `signed-by` (all of these keys have
//! signed everything in the SIF), `digests` (it is one of these), `by-digest` (the definition names the image by its digest).
//! A rule that asks nothing accepts; `refuse` says why a source is not accepted.
//!
//! Pure: [`Policy::parse`] reads text, [`Policy::demands`] answers; asking for signatures is the build's.

pub mod pattern;

use crate::digest::Digest;
use crate::openpgp::Fingerprint;
use crate::source::SourceFile;
use pattern::Pattern;
use serde::Deserialize;
use std::fmt;
use std::ops::Range;
use toml::Spanned;

/// Name of a policy file where it is looked for.
pub const FILE_NAME: &str = "sifbuild.policy";
/// Largest file that is read, in bytes.
pub const MAXIMUM_SIZE: u64 = 1 << 20;
const MAXIMUM_RULES: usize = 10_000;

/// A file's rules.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    refuses_by_default: bool,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    /// `sifbuild.policy:12`.
    place: String,
    sources: Vec<Pattern>,
    demands: Demands,
}

/// What is asked of one base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// All of them have signed everything.
    pub signed_by: Vec<Fingerprint>,
    /// It is one of these; empty for any.
    pub digests: Vec<Digest>,
    pub by_digest: bool,
    /// It is not to be used, and why.
    pub refused: Option<String>,
}

/// A fault in a policy file: the file, the line, what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {cause}")]
pub struct PolicyError {
    pub place: String,
    pub cause: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Option<Spanned<String>>,
    #[serde(default)]
    rule: Vec<Spanned<FileRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileRule {
    source: Spanned<OneOrMany>,
    signed_by: Option<Spanned<Vec<Spanned<String>>>>,
    digests: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    by_digest: bool,
    refuse: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Policy {
    /// `name` is for messages: the file's path.
    pub fn parse(name: &str, text: &str) -> Result<Policy, PolicyError> {
        let source = SourceFile::new(name, text);
        let place = |span: Range<usize>| format!("{name}:{}", source.position(span.start).0);
        let fault = |span: Range<usize>, cause: String| PolicyError { place: place(span), cause };
        let file: File = toml::from_str(text).map_err(|error| {
            fault(error.span().unwrap_or(0..0), error.message().lines().collect::<Vec<_>>().join("; "))
        })?;
        let refuses_by_default = match &file.default {
            None => false,
            Some(word) => match word.get_ref().as_str() {
                "accept" => false,
                "refuse" => true,
                other => {
                    let cause = format!("`default` is {other:?}; it is \"accept\" or \"refuse\"");
                    return Err(fault(word.span(), cause));
                }
            },
        };
        if file.rule.len() > MAXIMUM_RULES {
            return Err(fault(0..0, format!("there are more than {MAXIMUM_RULES} rules")));
        }
        let rule = |rule: Spanned<FileRule>| {
            let span = rule.span();
            parse_rule(rule.into_inner(), &fault).map(|(sources, demands)| Rule {
                place: place(span),
                sources,
                demands,
            })
        };
        let rules = file.rule.into_iter().map(rule).collect::<Result<_, _>>()?;
        Ok(Policy { name: name.to_owned(), refuses_by_default, rules })
    }

    /// What is asked of a base from `source`, and where that stands.
    pub fn demands(&self, source: &str) -> (Demands, String) {
        let rule = self.rules.iter().find(|rule| rule.sources.iter().any(|pattern| pattern.matches(source)));
        match rule {
            Some(rule) => (rule.demands.clone(), rule.place.clone()),
            None if self.refuses_by_default => {
                let refused = Some("no rule names this source, and `default` is \"refuse\"".to_owned());
                (Demands { refused, ..Demands::default() }, self.name.clone())
            }
            None => (Demands::default(), self.name.clone()),
        }
    }
}

fn parse_rule(
    rule: FileRule,
    fault: &dyn Fn(Range<usize>, String) -> PolicyError,
) -> Result<(Vec<Pattern>, Demands), PolicyError> {
    let span = rule.source.span();
    let sources = match rule.source.into_inner() {
        OneOrMany::One(source) => vec![source],
        OneOrMany::Many(sources) => sources,
    };
    if sources.is_empty() {
        return Err(fault(span, "`source` names nothing".to_owned()));
    }
    let pattern =
        |text: &String| Pattern::parse(text).map_err(|cause| fault(span.clone(), format!("`source`: {cause}")));
    let patterns = sources.iter().map(pattern).collect::<Result<Vec<_>, _>>()?;
    let mut demands = Demands { by_digest: rule.by_digest, ..Demands::default() };
    if let Some(list) = rule.signed_by {
        if list.get_ref().is_empty() {
            let cause = "`signed-by` is empty: it would ask for nothing; remove it, or name the keys".to_owned();
            return Err(fault(list.span(), cause));
        }
        for text in list.into_inner() {
            let parsed = Fingerprint::parse(text.get_ref());
            let cause = || format!("{:?} is no fingerprint of a key; it has 40 hexadecimal digits", text.get_ref());
            demands.signed_by.push(parsed.ok_or_else(|| fault(text.span(), cause()))?);
        }
    }
    if let Some(list) = rule.digests {
        if list.get_ref().is_empty() {
            return Err(fault(list.span(), "`digests` is empty: use `refuse` to accept none".to_owned()));
        }
        for text in list.into_inner() {
            let parsed = text.get_ref().parse::<Digest>();
            demands.digests.push(parsed.map_err(|error| fault(text.span(), error.to_string()))?);
        }
    }
    demands.refused = rule.refuse.map(Spanned::into_inner);
    Ok((patterns, demands))
}

impl fmt::Display for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests;
