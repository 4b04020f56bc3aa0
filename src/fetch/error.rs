//! Why something could not be fetched, as sentences that name the URL, the cause and what to do.

use crate::digest::Digest;
use reqwest::Url;
use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What went wrong while fetching. URLs are as [`shown`] prints them.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{text:?} is not a URL that can be fetched: {cause}")]
    InvalidUrl { text: String, cause: String },
    #[error(
        "cannot find the host of {url}: {cause}; check the name, the network and the proxy variables (https_proxy, no_proxy)"
    )]
    UnknownHost { url: String, cause: String },
    #[error("{url}: the connection was refused; check the port, and that the server is running")]
    Refused { url: String },
    #[error("{url}: no secure connection: {cause}; {advice}")]
    Tls { url: String, cause: String, advice: String },
    #[error("{url}: no answer within {seconds} s; check the network and the proxy variables")]
    TimedOut { url: String, seconds: u64 },
    #[error("{url}: the connection broke: {cause}")]
    Broken { url: String, cause: String },
    #[error("{url}: the transfer ended after {found} of {wanted} bytes")]
    CutShort { url: String, wanted: u64, found: u64 },
    #[error("{url} answered {status}{detail}; {}", advice(*status))]
    Status {
        url: String,
        status: u16,
        /// Empty, or ` (…)`.
        detail: String,
        retry_after: Option<Duration>,
    },
    #[error(
        "{url}: the server wants a wait of {seconds} s before the next try, which is too long; try later or use a mirror"
    )]
    LongWait { url: String, seconds: u64 },
    #[error("{url} redirects to {target}: {cause}")]
    Redirect { url: String, target: String, cause: &'static str },
    #[error("{url} answered with something unexpected: {cause}")]
    Protocol { url: String, cause: String },
    #[error("{url} sent more than {limit} bytes, which is too large for what it should be")]
    TooLarge { url: String, limit: u64 },
    #[error("{url} is {found} bytes long, {wanted} were expected: the file on the server is another one or damaged")]
    WrongSize { url: String, wanted: u64, found: u64 },
    #[error("{url} has the digest {found}, {wanted} was expected: the file on the server is another one or damaged")]
    WrongDigest { url: String, wanted: Digest, found: Digest },
    #[error("{url} is not asked, for --offline forbids it")]
    Offline { url: String },
    #[error("cannot write {path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error("cannot use the certificates in {path}: {cause}")]
    Certificate { path: PathBuf, cause: String },
    #[error("cannot start the network client: {cause}")]
    Start { cause: String },
    /// A registry's answer, already a whole explanation (see [`crate::fetch::registry`]).
    #[error("{text}")]
    Refusal { status: u16, text: String },
    #[error(transparent)]
    Configuration(#[from] super::registry::ConfigurationError),
    #[error("no place was given to fetch {0} from")]
    NoSource(String),
    #[error("{last} (and {others} other place(s) failed before: {before})")]
    AllFailed { last: Box<FetchError>, others: usize, before: String },
}

fn advice(status: u16) -> &'static str {
    match status {
        401 => "a login is needed, or the one given is wrong",
        403 => "the server does not allow it for this login or address",
        404 | 410 => "it is not there (any more): check the name and the release",
        407 => "the proxy wants a login: put it in the proxy variable as http://USER:PASSWORD@HOST:PORT",
        429 => "too many requests were made: log in, wait, or use a mirror",
        500..=599 => "the server is in trouble: try later or use a mirror",
        _ => "check the URL",
    }
}

impl FetchError {
    /// Whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            FetchError::Refused { .. }
            | FetchError::TimedOut { .. }
            | FetchError::Broken { .. }
            | FetchError::CutShort { .. } => true,
            FetchError::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// The HTTP status, where the server gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            FetchError::Status { status, .. } | FetchError::Refusal { status, .. } => Some(*status),
            FetchError::AllFailed { last, .. } => last.status(),
            _ => None,
        }
    }

    /// Keeps the last error as the cause and mentions the earlier ones.
    pub(crate) fn all_of(mut failures: Vec<FetchError>, subject: &str) -> FetchError {
        let Some(last) = failures.pop() else { return FetchError::NoSource(subject.to_owned()) };
        if failures.is_empty() {
            return last;
        }
        let before = failures.iter().map(FetchError::to_string).collect::<Vec<_>>().join("; ");
        FetchError::AllFailed { last: Box::new(last), others: failures.len(), before }
    }
}

/// A URL for people: without login, query and fragment, which may hold secrets.
pub fn shown(url: &Url) -> String {
    let mut bare = url.clone();
    // Refused only for URLs that cannot have a login, which is what is wanted.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    bare.set_fragment(None);
    let query = bare.query().is_some();
    bare.set_query(None);
    if query { format!("{bare}?…") } else { bare.to_string() }
}

/// Sorts an error of the client into ours.
pub(crate) fn classify(url: &Url, error: &reqwest::Error, seconds: u64) -> FetchError {
    let mut texts = Vec::new();
    let mut kind = None;
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            kind.get_or_insert(cause.kind());
        }
        next = cause.source();
    }
    let url = shown(url);
    let cause = clean(texts.last().map_or("unknown cause", String::as_str), 300);
    let all = texts.join("; ");
    if error.is_builder() {
        return FetchError::InvalidUrl { text: url, cause };
    }
    if error.is_timeout() || kind == Some(io::ErrorKind::TimedOut) {
        return FetchError::TimedOut { url, seconds };
    }
    if kind == Some(io::ErrorKind::ConnectionRefused) {
        return FetchError::Refused { url };
    }
    if error.is_dns() || all.contains("dns error") {
        return FetchError::UnknownHost { url, cause };
    }
    if ["certificate", "fatal alert", "tls handshake", "InvalidContentType", "HandshakeFailure", "corrupt message"]
        .iter()
        .any(|sign| all.contains(sign))
    {
        return FetchError::Tls { url, advice: tls_advice(&all).to_owned(), cause };
    }
    FetchError::Broken { url, cause }
}

fn tls_advice(text: &str) -> &'static str {
    if text.contains("UnknownIssuer") {
        "if this is your site's own certificate authority, put its certificate as ca.crt into /etc/containers/certs.d/HOST[:PORT]/ \
         or ~/.config/containers/certs.d/HOST[:PORT]/, or name it in SSL_CERT_FILE; without any certificates on this machine install ca-certificates"
    } else if text.contains("NotValidForName") || text.contains("not valid for name") {
        "the certificate belongs to another name: check the host"
    } else if text.contains("Expired") || text.contains("expired") || text.contains("NotValidYet") {
        "check this machine's clock, and the server's certificate"
    } else if text.contains("InvalidContentType") || text.contains("corrupt message") {
        "the server seems to speak plain HTTP: --no-https allows that"
    } else {
        "check the host, the port and the certificates"
    }
}

/// Text from a server for a message: one line, printable, at most `most` characters.
pub(crate) fn clean(text: &str, most: usize) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(most)
        .collect::<String>()
        .trim()
        .to_owned()
}
