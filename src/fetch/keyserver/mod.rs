//! Keyservers: OpenPGP keys by HKP, sent, fetched and searched for.
//!
//! What a server sends is not believed: only keys that are the ones asked for are kept, and what they prove is judged by [`crate::openpgp::Policy`].
//! Answers are bounded in size and in time.
//!
//! Sources: facts §6.8, draft-gallagher-openpgp-hkp.

pub mod index;
pub mod remote;

use super::auth::Secret;
use super::error::{FetchError, clean, shown};
use super::http::{Fetch, FormValue, Method, Request, Response, Url};
use crate::openpgp::{Keyring, PublicKey, Selector};
use index::Listed;
use std::io::Read;
use std::time::{Duration, Instant};

/// Where keys are looked for when nothing else is configured.
pub const DEFAULT: &str = "https://keys.openpgp.org";

/// Largest answer with keys, in bytes: some keys carry thousands of signatures by others.
const MAXIMUM_KEYS: u64 = 16 << 20;
const MAXIMUM_INDEX: u64 = 4 << 20;
/// An answer is given up after so long, however steadily it drips.
const LONGEST: Duration = Duration::from_secs(60);
/// Pages of a search that are asked for, and results on each (Apptainer's number).
const MAXIMUM_PAGES: usize = 16;
const PAGE_SIZE: &str = "256";

/// One server.
#[derive(Clone, Debug)]
pub struct Keyserver {
    pub url: Url,
    /// Its certificate is not checked.
    pub insecure: bool,
    /// `Basic …` or `Bearer …`.
    pub authorization: Option<Secret>,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyserverError {
    #[error("{text:?} is no address of a keyserver: {cause}; it is like https://keys.openpgp.org or hkp://HOST[:PORT]")]
    Address { text: String, cause: String },
    #[error("no keyserver is configured; name one with --url, or as Keyservers in remote.yaml")]
    None,
    #[error(
        "a key is fetched by its fingerprint (40 hexadecimal digits), and {0} is none; `sifbuild key search` finds fingerprints"
    )]
    NeedsFingerprint(String),
    #[error("no matching keys found for {wanted} at {servers}")]
    NotFound { wanted: String, servers: String },
    #[error(
        "{server} wants a login{detail}; store its credential in remote.yaml (`apptainer keyserver login {server}`)"
    )]
    Login { server: String, detail: String },
    #[error("{server} does not take the key: {status}{detail}")]
    Refused { server: String, status: u16, detail: String },
    #[error("{server} sent {found}, and not the key {wanted} that it was asked for")]
    OtherKey { server: String, wanted: String, found: String },
    #[error(
        "{server} gives the key {fingerprint} without a user id: it publishes names only after their owner has confirmed them by mail. \
         Nothing says whose key it is, so it is not taken; import the file that its owner gives you, or use another keyserver (--url)"
    )]
    NoUserId { server: String, fingerprint: String },
    #[error("{server} sent no key that can be read: {cause}")]
    Unreadable { server: String, cause: String },
    #[error("{0}")]
    Fetch(#[from] FetchError),
}

impl KeyserverError {
    /// Whether another server may well have what this one has not.
    fn is_absence(&self) -> bool {
        matches!(self, KeyserverError::NotFound { .. } | KeyserverError::NoUserId { .. })
    }
}

impl Keyserver {
    /// `hkp` is HTTP on port 11371, `hkps` is HTTPS.
    pub fn parse(text: &str) -> Result<Keyserver, KeyserverError> {
        let text = text.trim();
        let fault = |cause: &str| {
            let text = shown_text(text);
            KeyserverError::Address { text, cause: cause.to_owned() }
        };
        let address = match text.split_once("://") {
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "hkps" => format!("https://{rest}"),
                "hkp" | "http" => format!("http://{rest}"),
                "https" => text.to_owned(),
                _ => return Err(fault("the scheme is not known; https, http, hkps and hkp are")),
            },
            None => format!("https://{text}"),
        };
        let mut url = Url::parse(&address).map_err(|error| fault(&error.to_string()))?;
        if text.to_ascii_lowercase().starts_with("hkp://") {
            // Port 80 is the default one of `http`, and stands in no URL.
            let port = Url::parse(text).ok().and_then(|url| url.port()).unwrap_or(11371);
            let _ = url.set_port(Some(port));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(fault("it names no host"));
        }
        url.set_query(None);
        url.set_fragment(None);
        Ok(Keyserver { url, insecure: false, authorization: None })
    }

    fn request(&self, path: &str, query: &[(&str, &str)]) -> Request {
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Request { authorization: self.authorization.clone(), insecure: self.insecure, ..Request::get(url) }
    }

    fn name(&self) -> String {
        shown(&self.url).trim_end_matches('/').to_owned()
    }

    fn send(&self, fetch: &dyn Fetch, request: &Request) -> Result<Response, KeyserverError> {
        let response = fetch.send(request)?;
        let server = self.name();
        match response.status {
            200..=299 => Ok(response),
            401 => Err(KeyserverError::Login { server, detail: detail(response) }),
            status => Err(KeyserverError::Refused { server, status, detail: detail(response) }),
        }
    }
}

/// Without a login that may stand in it.
fn shown_text(text: &str) -> String {
    clean(text.rsplit('@').next().unwrap_or_default(), 200)
}

/// The servers that are asked, the first one first.
pub struct Keyservers<'a> {
    pub fetch: &'a dyn Fetch,
    pub servers: Vec<Keyserver>,
}

impl Keyservers<'_> {
    fn first(&self) -> Result<&Keyserver, KeyserverError> {
        self.servers.first().ok_or(KeyserverError::None)
    }

    /// Sends a key to the first server; gives the server's name, and what it said.
    pub fn push(&self, key: &PublicKey) -> Result<(String, String), KeyserverError> {
        let server = self.first()?;
        let fields = vec![("keytext".to_owned(), FormValue::Plain(key.to_armor()))];
        let request = Request { method: Method::Post(fields), ..server.request("/pks/add", &[]) };
        let response = server.send(self.fetch, &request)?;
        Ok((server.name(), clean(&String::from_utf8_lossy(&response.read_start(2000)?), 1000)))
    }

    /// A key from the first server.
    pub fn pull(&self, wanted: &Selector) -> Result<Vec<PublicKey>, KeyserverError> {
        fetch_from(self.fetch, self.first()?, wanted)
    }

    /// A key that a signature names, from the first server that has it. A server that cannot be reached is asked no more.
    pub fn lookup(&mut self, wanted: &Selector) -> Result<Vec<PublicKey>, KeyserverError> {
        let (mut failure, mut at) = (None, 0);
        let servers = self.servers.iter().map(Keyserver::name).collect::<Vec<_>>().join(", ");
        while let Some(server) = self.servers.get(at) {
            let error = match fetch_from(self.fetch, server, wanted) {
                Ok(keys) => return Ok(keys),
                Err(error) => error,
            };
            if matches!(error, KeyserverError::Fetch(_)) {
                self.servers.remove(at);
            } else {
                at += 1;
            }
            // A server that is in trouble is told before one that has nothing.
            if failure.as_ref().is_none_or(KeyserverError::is_absence) {
                failure = Some(error);
            }
        }
        match failure {
            Some(KeyserverError::NotFound { wanted, .. }) => Err(KeyserverError::NotFound { wanted, servers }),
            Some(error) => Err(error),
            None => Err(KeyserverError::None),
        }
    }

    /// Keys at the first server whose user ids hold `text`, or that have this fingerprint or key id.
    pub fn search(&self, text: &str) -> Result<Vec<Listed>, KeyserverError> {
        let server = self.first()?;
        let wanted = search_text(text);
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..MAXIMUM_PAGES {
            let mut query = vec![
                ("search", wanted.as_str()),
                ("op", "index"),
                ("options", "mr"),
                ("fingerprint", "on"),
                ("x-pagesize", PAGE_SIZE),
            ];
            query.extend(token.as_deref().map(|token| ("x-pagetoken", token)));
            let response = match server.send(self.fetch, &server.request("/pks/lookup", &query)) {
                Err(KeyserverError::Refused { status: 404, .. }) if found.is_empty() => {
                    return Err(KeyserverError::NotFound { wanted: quoted(text), servers: server.name() });
                }
                response => response?,
            };
            let next = response.header("x-hkp-next-page-token").filter(|next| !next.is_empty()).map(str::to_owned);
            let bytes = read(response, MAXIMUM_INDEX)?;
            found.extend(index::parse(&String::from_utf8_lossy(&bytes)));
            if next.is_none() || next == token {
                break;
            }
            token = next;
        }
        Ok(found)
    }
}

/// Asks one server for one key.
fn fetch_from(fetch: &dyn Fetch, server: &Keyserver, wanted: &Selector) -> Result<Vec<PublicKey>, KeyserverError> {
    let search = match wanted {
        Selector::Fingerprint(fingerprint) => format!("0x{fingerprint}"),
        Selector::KeyId(id) => format!("0x{id}"),
        Selector::ShortId(id) => format!("0x{id:08X}"),
        Selector::User(text) => return Err(KeyserverError::NeedsFingerprint(quoted(text))),
    };
    let name = server.name();
    let request =
        server.request("/pks/lookup", &[("search", &search), ("op", "get"), ("exact", "on"), ("options", "mr")]);
    let response = match server.send(fetch, &request) {
        Err(KeyserverError::Refused { status: 404, .. }) => {
            return Err(KeyserverError::NotFound { wanted: wanted.to_string(), servers: name });
        }
        response => response?,
    };
    let bytes = read(response, MAXIMUM_KEYS)?;
    let mut keyring = Keyring::new();
    keyring
        .add(&bytes)
        .map_err(|error| KeyserverError::Unreadable { server: name.clone(), cause: clean(&error.to_string(), 300) })?;
    let keys: Vec<PublicKey> = keyring.keys().filter(|key| key.matches(wanted)).cloned().collect();
    if keys.is_empty() {
        let found = keyring.keys().map(|key| key.fingerprint().to_string()).take(3).collect::<Vec<_>>().join(", ");
        return Err(KeyserverError::OtherKey { server: name, wanted: wanted.to_string(), found });
    }
    match keys.iter().find(|key| key.user_ids().is_empty()) {
        Some(key) => Err(KeyserverError::NoUserId { server: name, fingerprint: key.fingerprint().to_string() }),
        None => Ok(keys),
    }
}

/// Compat: what looks like a key's number is searched for as one.
fn search_text(text: &str) -> String {
    let text = text.trim();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_number = [8, 16, 32, 40, 64].contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number { format!("0x{digits}") } else { text.to_owned() }
}

fn quoted(text: &str) -> String {
    format!("{:?}", clean(text, 100))
}

fn read(response: Response, limit: u64) -> Result<Vec<u8>, FetchError> {
    let url = shown(&response.url);
    let began = Instant::now();
    let mut body = response.body.take(limit + 1);
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let count = body.read(&mut buffer).map_err(|error| super::http::body_error(&response.url, &error))?;
        bytes.extend_from_slice(&buffer[..count]);
        if count == 0 {
            return Ok(bytes);
        }
        if bytes.len() as u64 > limit {
            return Err(FetchError::TooLarge { url, limit });
        }
        if began.elapsed() > LONGEST {
            return Err(FetchError::TimedOut { url, seconds: LONGEST.as_secs() });
        }
    }
}

/// ` (…)`: what a server says beside a status, unless it is a page.
fn detail(response: Response) -> String {
    let is_text = response.header("content-type").is_none_or(|kind| !kind.contains("html"));
    let text = response.read_start(2000).map(|bytes| clean(&String::from_utf8_lossy(&bytes), 300)).unwrap_or_default();
    if is_text && !text.is_empty() { format!(" ({text})") } else { String::new() }
}

#[cfg(test)]
mod tests;
