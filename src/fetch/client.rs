//! The client that asks the network: synchronous outside, tokio and reqwest inside.
//!
//! Redirects are followed here and not by reqwest, because each host has its own trust (see `trust`) and because credentials must not
//! travel to another host.

use super::error::{FetchError, classify, shown};
use super::http::{Fetch, FormValue, Method, Request, Response, TlsFiles, Url};
use super::retry::Patience;
use super::trust::Trust;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Follows at most so many redirects.
const REDIRECTS: usize = 10;

#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub user_agent: String,
    /// `HOST` or `HOST:PORT` whose certificates are not checked.
    pub insecure_hosts: Vec<String>,
    /// PEM files trusted for every host, beside the system's.
    pub authorities: Vec<PathBuf>,
    /// `certs.d` directories: `HOST[:PORT]/*.crt` are authorities, `*.cert` with `*.key` the client's certificate.
    pub certificate_directories: Vec<PathBuf>,
    /// Obey `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in either case.
    pub environment_proxies: bool,
    pub connect_timeout: Duration,
    /// A transfer that brings nothing for so long is broken off.
    pub stall_timeout: Duration,
    pub patience: Patience,
    /// Nothing but files of this host is fetched.
    pub offline: bool,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            user_agent: format!("sifbuild/{}", env!("CARGO_PKG_VERSION")),
            insecure_hosts: Vec::new(),
            authorities: Vec::new(),
            certificate_directories: Vec::new(),
            environment_proxies: true,
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            patience: Patience::default(),
            offline: false,
        }
    }
}

impl ClientOptions {
    /// The places where podman, skopeo and docker look for a registry's certificates.
    pub fn usual_certificate_directories(home: Option<&std::path::Path>) -> Vec<PathBuf> {
        let mut directories: Vec<PathBuf> =
            home.map(|home| home.join(".config/containers/certs.d")).into_iter().collect();
        directories.extend(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from));
        directories
    }
}

/// The network.
pub struct Client {
    runtime: Arc<tokio::runtime::Runtime>,
    trust: Trust,
    options: ClientOptions,
}

impl Client {
    pub fn new(options: ClientOptions) -> Result<Client, FetchError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()
            .map_err(|error| FetchError::Start { cause: error.to_string() })?;
        Ok(Client { runtime: Arc::new(runtime), trust: Trust::new(&options)?, options })
    }

    fn send_once(&self, request: &Request) -> Result<Response, FetchError> {
        let client = self.trust.client_for(&request.url, request.insecure, request.own_connection)?;
        let sent = Arc::default();
        let builder = build(&client, request, &sent)?;
        let seconds = self.options.stall_timeout;
        let response = match self.runtime.block_on(unless_stalled(builder.send(), &sent, seconds)) {
            None => return Err(FetchError::TimedOut { url: shown(&request.url), seconds: seconds.as_secs() }),
            Some(Err(error)) => return Err(classify(&request.url, &error, self.options.connect_timeout.as_secs())),
            Some(Ok(response)) => response,
        };
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        Ok(Response {
            url: request.url.clone(),
            status: response.status().as_u16(),
            headers,
            body: Box::new(Incoming {
                runtime: Arc::clone(&self.runtime),
                response,
                chunk: Vec::new(),
                position: 0,
                stall: seconds,
                waited: Duration::ZERO,
                received: 0,
            }),
        })
    }
}

impl Fetch for Client {
    fn send(&self, request: &Request) -> Result<Response, FetchError> {
        if request.url.scheme() == "file" {
            return open_file(request);
        }
        if self.options.offline {
            return Err(FetchError::Offline { url: shown(&request.url) });
        }
        let mut request = request.clone();
        for _ in 0..=REDIRECTS {
            let response = self.send_once(&request)?;
            if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            request = redirected(&request, &response)?;
        }
        let url = shown(&request.url);
        Err(FetchError::Redirect { target: url.clone(), url, cause: "too many redirects" })
    }

    fn present(&self, url: &Url, files: &TlsFiles) {
        self.trust.present(url, files);
    }

    fn patience(&self) -> Patience {
        self.options.patience.clone()
    }
}

/// What `work` gives; nothing where for `stall` neither it ended nor the bytes counted in `sent` became more.
async fn unless_stalled<T>(work: impl Future<Output = T>, sent: &AtomicU64, stall: Duration) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        let before = sent.load(Ordering::Relaxed);
        match tokio::time::timeout(stall, work.as_mut()).await {
            Ok(done) => return Some(done),
            Err(_) if sent.load(Ordering::Relaxed) > before => {}
            Err(_) => return None,
        }
    }
}

fn build(
    client: &reqwest::Client,
    request: &Request,
    sent: &Arc<AtomicU64>,
) -> Result<reqwest::RequestBuilder, FetchError> {
    let method = match request.method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Post(_) => reqwest::Method::POST,
        Method::Put(_) => reqwest::Method::PUT,
        Method::Patch(_) => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    };
    // Compat: a body that a proxy or server compressed on the way has neither the digest nor the ranges of the file.
    let mut builder = client.request(method, request.url.clone()).header("accept-encoding", "identity");
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    if let Some(secret) = &request.authorization {
        let mut value = reqwest::header::HeaderValue::from_str(secret.reveal()).map_err(|_| FetchError::Protocol {
            url: shown(&request.url),
            cause: "the credential holds characters that cannot be sent".to_owned(),
        })?;
        value.set_sensitive(true);
        builder = builder.header("authorization", value);
    }
    if let Some(resume) = &request.resume {
        builder = builder.header("range", format!("bytes={}-", resume.start));
        if let Some(validator) = &resume.validator {
            builder = builder.header("if-range", validator);
        }
    }
    Ok(match &request.method {
        Method::Get | Method::Head | Method::Delete => builder,
        Method::Post(fields) if fields.is_empty() => builder.header("content-length", "0"),
        Method::Post(fields) => {
            builder.header("content-type", "application/x-www-form-urlencoded").body(encode(fields, &request.url))
        }
        Method::Put(body) | Method::Patch(body) => {
            builder.header("content-length", body.length()).body(body.stream(Arc::clone(sent)))
        }
    })
}

fn encode(fields: &[(String, FormValue)], url: &Url) -> String {
    let mut scratch = url.clone();
    scratch.set_query(None);
    for (name, value) in fields {
        let value = match value {
            FormValue::Plain(text) => text,
            FormValue::Secret(secret) => secret.reveal(),
        };
        scratch.query_pairs_mut().append_pair(name, value);
    }
    scratch.query().unwrap_or_default().to_owned()
}

/// The request that a redirect asks for.
///
/// Invariant: `Authorization`, and every header that is not about the representation, stays with the host it was made for.
fn redirected(request: &Request, response: &Response) -> Result<Request, FetchError> {
    let fault = |target: String, cause| FetchError::Redirect { url: shown(&request.url), target, cause };
    let location = response.header("location").ok_or_else(|| fault("nowhere".to_owned(), "no Location header"))?;
    let target = request.url.join(location).map_err(|_| {
        fault(super::error::clean(location.split('?').next().unwrap_or_default(), 200), "that is not a URL")
    })?;
    if !matches!(target.scheme(), "http" | "https") {
        return Err(fault(shown(&target), "only http and https are followed"));
    }
    if request.url.scheme() == "https" && target.scheme() == "http" && !request.insecure {
        return Err(fault(shown(&target), "a secure address must not lead to an insecure one"));
    }
    match request.method {
        Method::Get | Method::Head => {}
        Method::Post(_) => return Err(fault(shown(&target), "a login must not be sent elsewhere")),
        // Spec: RFC 9110 §15.4: only these two keep the method and the body.
        Method::Put(_) | Method::Patch(_) | Method::Delete if matches!(response.status, 307 | 308) => {}
        Method::Put(_) | Method::Patch(_) | Method::Delete => {
            return Err(fault(shown(&target), "that would make another request of it"));
        }
    }
    let mut next = request.clone();
    let same = request.url.scheme() == target.scheme()
        && request.url.host_str() == target.host_str()
        && request.url.port_or_known_default() == target.port_or_known_default();
    if !same {
        next.authorization = None;
        // What says of a body which part it is travels with it.
        const REPRESENTATION: [&str; 3] = ["accept", "content-type", "content-range"];
        next.headers.retain(|(name, _)| REPRESENTATION.iter().any(|kept| name.eq_ignore_ascii_case(kept)));
    }
    next.url = target;
    Ok(next)
}

/// Serves `file://` like a web server would.
fn open_file(request: &Request) -> Result<Response, FetchError> {
    let answer =
        |status, headers, body: Box<dyn Read + Send>| Response { url: request.url.clone(), status, headers, body };
    let empty = || Box::new(io::empty());
    let path = request.url.to_file_path().map_err(|()| FetchError::InvalidUrl {
        text: shown(&request.url),
        cause: "a file URL has the form file:///absolute/path".to_owned(),
    })?;
    // Non-regular files are refused before they are opened: opening a pipe would wait for ever.
    let status = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => None,
        Ok(_) => Some(403),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(403),
        Err(_) => Some(404),
    };
    if let Some(status) = status {
        return Ok(answer(status, Vec::new(), empty()));
    }
    let broken = |error: io::Error| FetchError::Broken { url: shown(&request.url), cause: error.to_string() };
    let mut file = File::open(&path).map_err(broken)?;
    let length = file.metadata().map_err(broken)?.len();
    let start = request.resume.as_ref().map_or(0, |resume| resume.start);
    if start > 0 && start >= length {
        return Ok(answer(416, Vec::new(), empty()));
    }
    file.seek(SeekFrom::Start(start)).map_err(broken)?;
    let mut headers = vec![("content-length".to_owned(), (length - start).to_string())];
    if start > 0 {
        headers.push(("content-range".to_owned(), format!("bytes {start}-{}/{length}", length - 1)));
    }
    Ok(answer(if start > 0 { 206 } else { 200 }, headers, Box::new(file.take(length - start))))
}

/// Bytes a second below which a server only holds the client up. People on the slowest of lines have more.
const LEAST_RATE: u64 = 2000;

/// A body of the async client as a reader, which gives up when nothing comes, or next to nothing for long.
struct Incoming {
    runtime: Arc<tokio::runtime::Runtime>,
    response: reqwest::Response,
    chunk: Vec<u8>,
    position: usize,
    stall: Duration,
    /// Time spent on waiting, and what came of it.
    waited: Duration,
    received: u64,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.chunk.len() {
            let response = &mut self.response;
            let stall = self.stall;
            let began = Instant::now();
            let next = self.runtime.block_on(async { tokio::time::timeout(stall, response.chunk()).await });
            self.waited += began.elapsed();
            let Ok(next) = next else {
                let text = format!("nothing came for {} s", stall.as_secs_f64());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            };
            match next {
                Err(error) => return Err(io::Error::other(innermost(&error))),
                Ok(None) => return Ok(0),
                Ok(Some(bytes)) => {
                    self.chunk.clear();
                    self.chunk.extend_from_slice(&bytes);
                    self.position = 0;
                    self.received += bytes.len() as u64;
                    let allowed = stall + Duration::from_secs(self.received / LEAST_RATE);
                    if self.waited > allowed {
                        let (received, seconds) = (self.received, self.waited.as_secs_f64());
                        let text = format!("only {received} bytes came in {seconds:.1} s");
                        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                    }
                }
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.position);
        buffer[..count].copy_from_slice(&self.chunk[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
