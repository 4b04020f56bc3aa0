//! `remote.yaml`: the endpoints that `apptainer remote` keeps.
//!
//! Compat: only the form that Apptainer writes is read (block mappings, plain or quoted scalars on one line); the rest is passed over.
//!
//! Source: facts §6.10.

use super::LibraryError;
use crate::fetch::auth::Secret;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// No such file is larger.
const LARGEST: u64 = 1 << 20;

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub name: String,
    /// Host.
    pub uri: String,
    pub token: Option<Secret>,
    pub insecure: bool,
}

/// The active endpoint of a file; nothing where there is no file, or none is active.
pub fn read_active(path: &Path) -> Result<Option<Remote>, LibraryError> {
    let fault = |cause: String| LibraryError::Remotes { path: path.to_path_buf(), cause };
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error.to_string())),
    }
    let text = String::from_utf8(bytes).map_err(|_| fault("it is not text".to_owned()))?;
    let (active, remotes) = parse_remotes(&text);
    Ok(remotes.into_iter().find(|remote| Some(&remote.name) == active.as_ref()))
}

/// The name of the active endpoint, and all endpoints.
pub fn parse_remotes(text: &str) -> (Option<String>, Vec<Remote>) {
    let (mut active, mut remotes) = (None, Vec::<Remote>::new());
    let mut inside = false;
    // Columns of the endpoints' names and of the fields of the current one.
    let (mut names, mut fields) = (None, None);
    for line in text.lines() {
        let content = line.trim_start_matches(' ');
        let column = line.len() - content.len();
        let Some((key, value)) = split(content) else { continue };
        if column == 0 {
            inside = key == "Remotes";
            (names, fields) = (None, None);
            if key == "Active" && !value.is_empty() {
                active = Some(value);
            }
        } else if inside && *names.get_or_insert(column) == column {
            remotes.push(Remote { name: key, uri: String::new(), token: None, insecure: false });
            fields = None;
        } else if let Some(remote) = remotes.last_mut().filter(|_| inside && *fields.get_or_insert(column) == column) {
            match key.as_str() {
                "URI" => remote.uri = value,
                "Token" => remote.token = Some(value).filter(|value| !value.is_empty()).map(Secret::new),
                "Insecure" => remote.insecure = value == "true",
                _ => {}
            }
        }
    }
    remotes.retain(|remote| !remote.uri.is_empty());
    (active, remotes)
}

/// Key and value of `KEY: VALUE`; comments and items of lists are neither.
fn split(content: &str) -> Option<(String, String)> {
    if content.starts_with(['#', '-']) {
        return None;
    }
    let (key, value) = content.split_once(':')?;
    if !value.is_empty() && !value.starts_with(' ') {
        return None;
    }
    Some((unquoted(key.trim()), unquoted(value.trim())))
}

fn unquoted(text: &str) -> String {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "Active: site\nRemotes:\n  Default:\n    URI: cloud.apptainer.org\n    System: true\n    Keyservers:\n    - URI: https://keys.openpgp.org\n      Skip: false\n  \"site\":\n    URI: 'library.example'\n    Token: secret\n    Insecure: true\n    Keyservers:\n      - URI: x\n        Token: other\nCredentials:\n- URI: docker://x\n  Auth: Basic y\n";

    #[test]
    fn reads_what_apptainer_writes() {
        let (active, remotes) = parse_remotes(FILE);
        assert_eq!(active.as_deref(), Some("site"));
        let shown: Vec<(&str, &str, bool, bool)> = remotes
            .iter()
            .map(|remote| (remote.name.as_str(), remote.uri.as_str(), remote.token.is_some(), remote.insecure))
            .collect();
        assert_eq!(shown, [("Default", "cloud.apptainer.org", false, false), ("site", "library.example", true, true)]);
        assert_eq!(remotes[1].token.as_ref().unwrap().reveal(), "secret");
        assert!(!format!("{remotes:?}").contains("secret\""));
    }

    #[test]
    fn a_file_without_endpoints_has_none() {
        for text in
            ["", "Active: x\n", "Remotes:\n", "Remotes: {}\n", "a\n b:\n  c: d\n", "Remotes:\n  x:\n    Token: t\n"]
        {
            assert_eq!(parse_remotes(text).1, [], "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(( {0,6}(Remotes|Active|URI|Token|x)?: ?[a-z\"'-]{0,6}|.{0,10})\n){0,12}") {
            parse_remotes(&text);
        }
    }
}
