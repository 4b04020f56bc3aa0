//! Requests and answers, and the trait of what exchanges them.

use super::auth::Secret;
use super::error::{FetchError, shown};
use super::retry::Patience;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;

pub use super::body::Body;
pub use reqwest::Url;

/// Whatever answers requests: the network, or canned answers in tests.
pub trait Fetch: Send + Sync {
    /// Sends once, follows redirects. Every status is a response, not an error; nothing is tried again.
    fn send(&self, request: &Request) -> Result<Response, FetchError>;

    /// From now on uses these files for what lies below `url`, and for what else its host has and is below no other such address.
    fn present(&self, _url: &Url, _files: &TlsFiles) {}

    /// How patient those should be who send again.
    fn patience(&self) -> Patience {
        Patience::default()
    }
}

/// PEM files for TLS with one host, beside those of `certs.d`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    pub authority: Option<PathBuf>,
    /// The client's own certificate, and its key where that is in a file of its own.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    /// With `application/x-www-form-urlencoded` fields.
    Post(Vec<(String, FormValue)>),
    Put(Body),
    Patch(Body),
    Delete,
}

/// A form field's value: shown only when it is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormValue {
    Plain(String),
    Secret(Secret),
}

/// Where to go on after a broken transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// First byte wanted.
    pub start: u64,
    /// Strong ETag or date that must still hold (`If-Range`).
    pub validator: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub url: Url,
    pub method: Method,
    pub headers: Vec<(String, String)>,
    /// Value of the `Authorization` header.
    pub authorization: Option<Secret>,
    pub resume: Option<Resume>,
    /// Accept any certificate, and redirects to plain HTTP.
    pub insecure: bool,
    /// Over a connection that nothing else is sent on.
    pub own_connection: bool,
}

impl Request {
    pub fn get(url: Url) -> Request {
        Request {
            url,
            method: Method::Get,
            headers: Vec::new(),
            authorization: None,
            resume: None,
            insecure: false,
            own_connection: false,
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Request {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Parses a URL that can be fetched (`http`, `https`, `file`).
pub fn parse_url(text: &str) -> Result<Url, FetchError> {
    let fault = |cause: String| FetchError::InvalidUrl { text: text.chars().take(300).collect(), cause };
    let url = Url::parse(text).map_err(|error| fault(error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => Ok(url),
        "file" => Ok(url),
        other => Err(fault(format!("the scheme {other} is not known; http, https and file are"))),
    }
}

/// An answer whose body is still to be read.
pub struct Response {
    /// Where it came from after redirects.
    pub url: Url,
    pub status: u16,
    /// Names in lower case; values that are not text are left out.
    pub headers: Vec<(String, String)>,
    pub body: Box<dyn Read + Send>,
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} from {}", self.status, shown(&self.url))
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The whole body; more than `limit` bytes are an error.
    pub fn read(self, limit: u64) -> Result<Vec<u8>, FetchError> {
        let url = shown(&self.url);
        let bytes = self.read_start(limit.saturating_add(1))?;
        if bytes.len() as u64 > limit {
            return Err(FetchError::TooLarge { url, limit });
        }
        Ok(bytes)
    }

    /// The body's first bytes, at most `limit`.
    pub fn read_start(self, limit: u64) -> Result<Vec<u8>, FetchError> {
        let url = self.url;
        let mut bytes = Vec::new();
        self.body.take(limit).read_to_end(&mut bytes).map_err(|error| body_error(&url, &error))?;
        Ok(bytes)
    }
}

/// What an error from reading a body means.
pub(crate) fn body_error(url: &Url, error: &io::Error) -> FetchError {
    FetchError::Broken { url: shown(url), cause: super::error::clean(&error.to_string(), 300) }
}
