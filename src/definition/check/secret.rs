//! SB103: secrets that everybody can read who has the image, because it stores the definition and its environment.

use super::{Part, Subject, shell};
use crate::definition::header::trim;
use crate::definition::report::Report;
use std::ops::Range;

const HELP: &str = "pass it when the container runs (APPTAINERENV_NAME), or bind a file that holds it";

/// Words that make a variable's name the name of a secret.
const WORDS: &[&str] = &[
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "CREDENTIALS",
];

/// Ends of names whose value is no secret itself.
const HARMLESS: &[&str] = &["_FILE", "_PATH", "_DIR", "_URL", "_LENGTH", "_TTL", "_NAME", "_ID", "_HEADER", "_ENABLED"];

/// Starts of tokens, and how many characters of a token must follow.
const TOKENS: &[(&str, usize, &str)] = &[
    ("ghp_", 30, "a GitHub token"),
    ("gho_", 30, "a GitHub token"),
    ("ghs_", 30, "a GitHub token"),
    ("github_pat_", 30, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("hf_", 30, "a Hugging Face token"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("npm_", 36, "an npm token"),
    ("dckr_pat_", 20, "a Docker token"),
];

pub(super) fn check(report: &mut Report<'_>, subject: &Subject<'_>, parts: &[Part<'_>]) {
    for part in parts {
        let stores_values = matches!(part.name.as_str(), "environment" | "appenv" | "arguments");
        for line in subject.body(part.section) {
            let (text, place) = trim(&report.expanded.text, line.content.clone());
            if text.starts_with('#') {
                continue;
            }
            if let Some((range, what)) = find_token(text, place.start) {
                report_secret(report, range, format!("{what} stands in %{}", part.name));
            } else if stores_values && let Some(range) = find_assignment(text, place.start) {
                let name = report.expanded.text[range.clone()].to_owned();
                report_secret(report, range, format!("`{name}` looks like a secret, and the image stores its value"));
            }
        }
    }
    check_given(report, subject);
}

/// Build arguments given by the caller are stored where the definition uses them.
fn check_given(report: &mut Report<'_>, subject: &Subject<'_>) {
    let mut told: Vec<&str> = Vec::new();
    for placeholder in subject.used {
        let given = subject.arguments.get(&placeholder.name).is_some_and(|value| !value.is_empty());
        if !given || !is_secret_name(&placeholder.name) || told.contains(&placeholder.name.as_str()) {
            continue;
        }
        told.push(&placeholder.name);
        let message = format!("the value of the build argument `{}` is stored in the image", placeholder.name);
        let diagnostic = report
            .warning("SB103", placeholder.span, message)
            .label("put into the stored definition here")
            .help("the image keeps the definition with its arguments put in; fetch what needs the secret before the build");
        report.push(diagnostic);
    }
}

fn report_secret(report: &mut Report<'_>, range: Range<usize>, message: String) {
    let span = report.span(range);
    report.push(report.warning("SB103", span, message).label("readable for everybody who has the image").help(HELP));
}

fn is_secret_name(name: &str) -> bool {
    let upper = name.to_uppercase();
    let parts = format!("_{upper}_");
    let found = WORDS.iter().any(|word| parts.contains(&format!("_{word}_")) || upper.ends_with(word));
    found && !HARMLESS.iter().any(|end| upper.ends_with(end))
}

/// `NAME=value` with a secret's name and a value that is neither empty nor taken from elsewhere.
fn find_assignment(line: &str, start: usize) -> Option<Range<usize>> {
    let bare = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let offset = start + (line.len() - bare.len());
    let (name, value) = bare.split_once('=')?;
    let name = name.trim();
    let value = value.trim().trim_matches(['"', '\'']);
    let harmless = value.is_empty()
        || value.starts_with(['$', '/', '<', '`', '{'])
        || matches!(value.to_lowercase().as_str(), "true" | "false" | "none" | "null" | "0" | "1" | "changeme");
    (shell::is_name(name) && is_secret_name(name) && !harmless).then(|| offset..offset + name.len())
}

fn find_token(line: &str, start: usize) -> Option<(Range<usize>, &'static str)> {
    if let Some(at) = line.find("-----BEGIN ").filter(|at| line[*at..].contains("PRIVATE KEY-----")) {
        return Some((start + at..start + line.len(), "a private key"));
    }
    for (prefix, needed, what) in TOKENS {
        for (at, _) in line.match_indices(prefix) {
            let inside = line[..at].chars().next_back().is_some_and(|before| before.is_ascii_alphanumeric());
            let body = line[at + prefix.len()..]
                .bytes()
                .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                .count();
            if !inside && body >= *needed {
                return Some((start + at..start + at + prefix.len() + body, what));
            }
        }
    }
    find_url_password(line).map(|range| (start + range.start..start + range.end, "a password in an address"))
}

/// `scheme://user:password@`, when the password is written out.
fn find_url_password(line: &str) -> Option<Range<usize>> {
    line.match_indices("://").find_map(|(at, _)| {
        let rest = &line[at + 3..];
        let end = rest.find(|character: char| character.is_whitespace() || "/\"'".contains(character));
        let authority = &rest[..end.unwrap_or(rest.len())];
        let (user, _) = authority.rsplit_once('@')?;
        let (name, password) = user.split_once(':')?;
        let plain = !password.is_empty() && !password.contains(['$', '{', '<']) && !name.contains('$');
        plain.then(|| at + 3..at + 3 + user.len())
    })
}
