//! `remote.yaml`: which keyservers Apptainer's user has configured (facts §6.10).
//!
//! # Why
//! Both tools only ever write this file themselves: maps, lists of maps and plain or quoted values, by indentation. That much of YAML is read
//! here; anything else is an error that names its line, and never guessed at.

use super::{DEFAULT, Keyserver, KeyserverError};
use crate::fetch::auth::Secret;

/// Largest file that is read, in bytes.
pub const MAXIMUM_SIZE: u64 = 1 << 20;
/// The endpoint that Apptainer comes with; its keyserver is [`DEFAULT`].
const DEFAULT_ENDPOINT: &str = "cloud.apptainer.org";
const MAXIMUM_DEPTH: usize = 16;

/// Why the file is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {cause}")]
pub struct RemoteError {
    pub line: usize,
    pub cause: &'static str,
}

/// What the file says of keyservers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// Name and endpoint of the remote in use.
    pub active: Option<(String, String)>,
    /// Those of the remote in use that are not skipped.
    pub keyservers: Vec<Configured>,
    /// Address and value of the `Authorization` header.
    pub credentials: Vec<(String, Secret)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    pub address: String,
    pub insecure: bool,
}

impl Remote {
    pub fn parse(text: &str) -> Result<Remote, RemoteError> {
        let lines = lines(text)?;
        let (root, rest) = block(&lines, 0, 0)?;
        if let Some(line) = rest.first() {
            return Err(RemoteError { line: line.number, cause: "it is indented as nothing above it" });
        }
        let name = root.get("Active").and_then(Value::text).unwrap_or_default().to_owned();
        let remote = root.get("Remotes").and_then(|remotes| remotes.get(&name));
        let listed = remote.and_then(|remote| remote.get("Keyservers")).map(Value::items).unwrap_or_default();
        let keyservers = listed.iter().filter(|server| !server.is_true("Skip")).filter_map(|server| {
            Some(Configured { address: server.get("URI")?.text()?.to_owned(), insecure: server.is_true("Insecure") })
        });
        let credentials = root.get("Credentials").map(Value::items).unwrap_or_default();
        let credentials = credentials.iter().filter_map(|credential| {
            let text = |key: &str| credential.get(key).and_then(Value::text).filter(|text| !text.is_empty());
            Some((text("URI")?.to_owned(), Secret::new(text("Auth")?)))
        });
        Ok(Remote {
            keyservers: keyservers.collect(),
            credentials: credentials.collect(),
            active: remote.and_then(|remote| Some((name, remote.get("URI")?.text()?.to_owned()))),
        })
    }

    /// The servers, with what logs in to them: those configured, else the default one. An endpoint's own keyserver is not looked up.
    pub fn servers(&self) -> Result<Vec<Keyserver>, KeyserverError> {
        let mut configured = self.keyservers.clone();
        if configured.is_empty() {
            configured.push(Configured { address: DEFAULT.to_owned(), insecure: false });
        }
        configured.iter().map(|server| self.server(server)).collect()
    }

    /// One server by its address, with its credential.
    pub fn named(&self, address: &str) -> Result<Keyserver, KeyserverError> {
        let insecure = self.keyservers.iter().any(|server| same(&server.address, address) && server.insecure);
        self.server(&Configured { address: address.to_owned(), insecure })
    }

    /// Whether the remote in use has a keyserver of its own that is not known here.
    pub fn hides_a_keyserver(&self) -> Option<&str> {
        let (name, endpoint) = self.active.as_ref()?;
        let is_default = endpoint.trim_start_matches("https://").trim_end_matches('/') == DEFAULT_ENDPOINT;
        (self.keyservers.is_empty() && !is_default).then_some(name)
    }

    fn server(&self, configured: &Configured) -> Result<Keyserver, KeyserverError> {
        let mut server = Keyserver::parse(&configured.address)?;
        server.insecure = configured.insecure;
        let credential = self.credentials.iter().find(|(address, _)| same(address, &configured.address));
        server.authorization = credential.map(|(_, secret)| secret.clone());
        Ok(server)
    }
}

fn same(first: &str, second: &str) -> bool {
    let url =
        |text: &str| Keyserver::parse(text).map(|server| server.url.as_str().trim_end_matches('/').to_owned()).ok();
    url(first).is_some() && url(first) == url(second)
}

/// What stands behind a key or a dash.
#[derive(Debug)]
enum Value {
    Text(String),
    Map(Vec<(String, Value)>),
    List(Vec<Value>),
}

impl Value {
    fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn items(&self) -> &[Value] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }

    fn is_true(&self, key: &str) -> bool {
        self.get(key).and_then(Value::text) == Some("true")
    }
}

#[derive(Clone, Debug)]
struct Line<'a> {
    number: usize,
    indent: usize,
    dash: bool,
    key: &'a str,
    value: &'a str,
}

/// Every line that says something; `- key: value` becomes a dash and a line two further in.
fn lines(text: &str) -> Result<Vec<Line<'_>>, RemoteError> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let content = line.trim_start_matches(' ');
        if content.is_empty() || content.starts_with('#') || line == "---" {
            continue;
        }
        let mut indent = line.len() - content.len();
        let mut content = content;
        let dash = content.starts_with("- ");
        if let Some(rest) = content.strip_prefix("- ") {
            indent += 2;
            content = rest.trim_start_matches(' ');
        }
        let (key, value) =
            content.split_once(':').ok_or(RemoteError { line: number, cause: "a line is `key: value`" })?;
        found.push(Line { number, indent, dash, key, value: value.trim() });
    }
    Ok(found)
}

/// One map or list at `indent`, and the lines behind it.
fn block<'a, 'b>(lines: &'b [Line<'a>], indent: usize, depth: usize) -> Result<(Value, &'b [Line<'a>]), RemoteError> {
    if depth > MAXIMUM_DEPTH {
        let line = lines.first().map_or(0, |line| line.number);
        return Err(RemoteError { line, cause: "it is nested too deeply" });
    }
    if lines.first().is_some_and(|line| line.dash) {
        return list(lines, indent, depth);
    }
    let mut entries = Vec::new();
    let mut rest = lines;
    while let Some((line, behind)) = rest.split_first().filter(|(line, _)| line.indent == indent && !line.dash) {
        rest = behind;
        let key = unquoted(line)?;
        // Lists may stand as far left as their key: their dash is two before what it holds.
        let inner = rest.first().filter(|next| next.indent > indent && line.value.is_empty());
        let value = match inner.map(|next| next.indent) {
            Some(deeper) => {
                let (value, behind) = block(rest, deeper, depth + 1)?;
                rest = behind;
                value
            }
            None => Value::Text(plain(line.value, line.number)?),
        };
        entries.push((key, value));
    }
    Ok((Value::Map(entries), rest))
}

fn list<'a, 'b>(lines: &'b [Line<'a>], indent: usize, depth: usize) -> Result<(Value, &'b [Line<'a>]), RemoteError> {
    let mut items = Vec::new();
    let mut rest = lines;
    while rest.first().is_some_and(|line| line.dash && line.indent == indent) {
        let mut item = rest.to_vec();
        item[0].dash = false;
        let (value, behind) = block(&item, indent, depth + 1)?;
        let taken = item.len() - behind.len();
        rest = &rest[taken..];
        items.push(value);
    }
    Ok((Value::List(items), rest))
}

fn unquoted(line: &Line<'_>) -> Result<String, RemoteError> {
    plain(line.key.trim_end(), line.number)
}

/// A scalar without its quotes.
fn plain(text: &str, line: usize) -> Result<String, RemoteError> {
    let fault = |cause| RemoteError { line, cause };
    match text.chars().next() {
        Some('"') => {
            let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            let inner = inner.ok_or_else(|| fault("a quoted value does not end"))?;
            if inner.contains('\\') { Err(fault("escapes in quotes are not read here")) } else { Ok(inner.to_owned()) }
        }
        Some('\'') => {
            let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            inner.map(|text| text.replace("''", "'")).ok_or_else(|| fault("a quoted value does not end"))
        }
        Some('|' | '>' | '&' | '*' | '!' | '{' | '[') if !matches!(text, "{}" | "[]") => {
            Err(fault("this form of YAML is not read here"))
        }
        _ => Ok(text.split(" #").next().unwrap_or_default().trim_end().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "Active: Site
Remotes:
    DefaultRemote:
        URI: cloud.apptainer.org
        System: true
    Site:
        URI: \"hub.example.org\"
        Token: 'it''s'
        Keyservers:
            - URI: https://keys.example.org
              Skip: false
              External: true
            - URI: https://skipped.example.org
              Skip: true
              External: true
            - URI: hkp://old.example.org
              Insecure: true
Credentials:
- URI: https://keys.example.org/
  Auth: Bearer secret-token
";

    #[test]
    fn reads_what_apptainer_writes() {
        let remote = Remote::parse(FILE).unwrap();
        assert_eq!(remote.active, Some(("Site".to_owned(), "hub.example.org".to_owned())));
        let servers = remote.servers().unwrap();
        let shown: Vec<&str> = servers.iter().map(|server| server.url.as_str()).collect();
        assert_eq!(shown, ["https://keys.example.org/", "http://old.example.org:11371/"]);
        assert_eq!(servers[0].authorization, Some(Secret::new("Bearer secret-token")));
        assert!(servers[1].insecure && servers[1].authorization.is_none());
        assert!(!format!("{remote:?}").contains("secret-token"));
        assert_eq!(remote.hides_a_keyserver(), None);
    }

    #[test]
    fn without_configured_keyservers_there_is_the_default_one() {
        let empty = Remote::parse("").unwrap();
        assert_eq!(empty.servers().unwrap()[0].url.as_str(), "https://keys.openpgp.org/");
        let bare = Remote::parse("Active: x\nRemotes:\n  x:\n    URI: hub.example.org\n").unwrap();
        assert_eq!(bare.hides_a_keyserver(), Some("x"));
    }

    #[test]
    fn says_where_the_file_is_not_understood() {
        for (text, line) in
            [("Active: x\nnonsense\n", 2), ("Active: |\n", 1), ("Active: x\n      deep: y\n", 2), ("A: \"x\n", 1)]
        {
            assert_eq!(Remote::parse(text).unwrap_err().line, line, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([ ]{0,6}(- )?[A-Za-z]{0,3}:?[ \"'a-z]{0,5}\\n){0,20}", other in "\\PC{0,200}") {
            let _ = Remote::parse(&text).map(|remote| remote.servers().is_ok());
            let _ = Remote::parse(&other);
        }

        #[test]
        fn no_changed_file_panics(at in 0..FILE.len(), with in "\\PC{0,3}") {
            if FILE.is_char_boundary(at) {
                let _ = Remote::parse(&(FILE[..at].to_owned() + &with + &FILE[at..]));
            }
        }
    }
}
