//! One blob on its way to a registry: in chunks, gone on with after a break where the registry says; whole where it takes no chunks.
//!
//! ```text
//! start ─POST→ location ─PATCH chunk…→ offset = length ─PUT digest→ there
//!                 ↑          │ broke: GET location → offset
//!                 └──────────┘ the upload is unknown: start anew
//! ```
//!
//! Compat: docker's registry (2.8) forgets an upload when the connection breaks within a chunk, because the state that it signed and what
//! it then has differ. What breaks connections often does so after so many bytes, or so long; so from then on every chunk is smaller and gets
//! a connection of its own.
//!
//! Invariant: the address of an upload is the registry's own word. On another host it gets the bytes and never a login, and it may not lead
//! from HTTPS to HTTP; an offset that it tells lies within what was sent. All is bounded: tries without progress, breaks, bytes sent.
//!
//! Sources: OCI distribution-spec 1.1, "Pushing a blob in chunks", "Pushing blobs"; docker's registry for what `Range: 0-0` says.

use super::push::{Push, ask};
use super::session::Session;
use crate::digest::Digest;
use crate::event::{Event, Task};
use crate::fetch::error::{FetchError, shown};
use crate::fetch::http::{Body, Fetch, Method, Request, Response, Url};
use std::time::{Duration, Instant};

/// A registry that wants larger ones gets the blob whole.
const LARGEST_CHUNK: u64 = 1 << 30;
/// A registry puts blobs together at least so fast, in bytes a second.
const SLOWEST: u64 = 50 << 20;
/// Breaks of the connection in one blob, however far each try came.
const MOST_BREAKS: u32 = 1000;

pub(super) struct Transfer<'a> {
    push: &'a Push<'a>,
    body: &'a Body,
    digest: &'a Digest,
    label: &'a str,
    state: State,
}

/// What changes.
struct State {
    location: Option<Url>,
    /// Bytes that the registry has.
    offset: u64,
    /// The most that it ever had.
    best: u64,
    chunk: u64,
    /// A chunk was taken: it is known to take them.
    takes_chunks: bool,
    whole: bool,
    /// Each chunk over its own connection.
    apart: bool,
    /// Bytes sent in all.
    sent: u64,
}

/// What stopped a try, and what may help.
struct Trouble {
    error: FetchError,
    remedy: Remedy,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// Ask the registry what it has.
    Ask,
    /// As before, with smaller chunks.
    Smaller,
    /// Begin another upload.
    Restart,
    /// The same, without chunks.
    Whole,
    Nothing,
}

impl<'a> Transfer<'a> {
    pub fn new(push: &'a Push<'a>, body: &'a Body, digest: &'a Digest, label: &'a str) -> Transfer<'a> {
        let state = State {
            location: None,
            offset: 0,
            best: 0,
            chunk: push.chunks.first,
            takes_chunks: false,
            whole: false,
            apart: false,
            sent: 0,
        };
        Transfer { push, body, digest, label, state }
    }

    /// Sends the blob; gives the bytes sent in all.
    pub fn run(mut self) -> Result<u64, FetchError> {
        let patience = self.push.session.patience();
        let (mut attempt, mut best) = (0, 0);
        for _ in 0..MOST_BREAKS {
            let Err(Trouble { error, remedy }) = self.attempt() else { return Ok(self.state.sent) };
            if self.state.best > best {
                (attempt, best) = (0, self.state.best);
            }
            if self.state.sent > self.most() {
                return Err(error);
            }
            match remedy {
                Remedy::Nothing => return Err(error),
                // That the registry takes no chunks is learned once, and no failure.
                Remedy::Whole if !self.state.whole => {
                    self.push.observer.observe(Event::Detail(format!("going on without chunks: {error}")));
                }
                _ if error.is_transient() => patience.pause(error, attempt, self.push.observer)?,
                _ if attempt >= patience.retries => return Err(error),
                _ => std::thread::sleep(patience.wait(attempt)),
            }
            attempt += 1;
            self.repair(remedy)?;
        }
        let url = self.state.location.as_ref().map_or_else(|| self.push.reference().to_string(), shown);
        Err(FetchError::Broken { url, cause: "the connection broke a thousand times".to_owned() })
    }

    /// No more bytes are sent for a blob.
    fn most(&self) -> u64 {
        self.body.length().saturating_mul(4).saturating_add(256 << 20)
    }

    /// As far as it goes.
    fn attempt(&mut self) -> Result<(), Trouble> {
        let location = match &self.state.location {
            Some(location) => location.clone(),
            None => self.start().map_err(|error| Trouble { error, remedy: Remedy::Nothing })?,
        };
        if self.state.whole {
            return self.finish(&location, self.body.clone());
        }
        while self.state.offset < self.body.length() {
            self.send_chunk()?;
            self.tell();
        }
        let location = self.state.location.clone().unwrap_or(location);
        self.finish(&location, Body::empty())
    }

    /// Opens an upload.
    fn start(&mut self) -> Result<Url, FetchError> {
        let url = self.push.session.url("blobs", "uploads/")?;
        let request = Request { method: Method::Post(Vec::new()), ..Request::get(url) };
        let response = ask(&self.push.session, &request, &[202], self.push.observer)?;
        let least = response.header("oci-chunk-min-length").and_then(|text| text.trim().parse::<u64>().ok());
        match least {
            Some(least) if least > LARGEST_CHUNK => self.state.whole = true,
            Some(least) => self.state.chunk = self.state.chunk.max(least),
            None => {}
        }
        let location = self.location_of(&response)?.ok_or_else(|| FetchError::Protocol {
            url: shown(&response.url),
            cause: "the answer to the start of an upload has no Location".to_owned(),
        })?;
        self.state.offset = 0;
        self.state.location = Some(location.clone());
        Ok(location)
    }

    fn send_chunk(&mut self) -> Result<(), Trouble> {
        let State { offset, chunk, .. } = self.state;
        let part = self.body.part(offset, chunk);
        let length = part.length();
        let url = self.state.location.clone().expect("an upload was started");
        let own_connection = self.state.apart;
        let request = Request { method: Method::Patch(part), own_connection, ..Request::get(url) }
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("{offset}-{}", offset + length - 1));
        self.state.sent += length;
        let response = match self.send(&request) {
            Ok(response) if (200..300).contains(&response.status) => response,
            Ok(response) => return Err(self.trouble(Session::refusal(response))),
            Err(error) => return Err(self.trouble(error)),
        };
        let restart = |error| Trouble { error, remedy: Remedy::Restart };
        if let Some(location) = self.location_of(&response).map_err(restart)? {
            self.state.location = Some(location);
        }
        self.state.takes_chunks = true;
        let end = match response.header("range") {
            Some(text) => self.range_end(text, offset + length, &response.url).map_err(restart)?,
            None => offset + length,
        };
        if end <= offset || self.state.sent > self.most() {
            let cause = "it takes chunks, and never has more of the upload".to_owned();
            return Err(restart(FetchError::Protocol { url: shown(&response.url), cause }));
        }
        self.state.offset = end;
        self.state.best = self.state.best.max(end);
        Ok(())
    }

    /// Closes the upload; `rest` is all of the blob or nothing.
    fn finish(&mut self, location: &Url, rest: Body) -> Result<(), Trouble> {
        let mut url = location.clone();
        url.query_pairs_mut().append_pair("digest", &self.digest.to_string());
        self.state.sent += rest.length();
        let request = Request { method: Method::Put(rest), ..Request::get(url) };
        let request = request.header("content-type", "application/octet-stream");
        let error = match self.send(&request) {
            Ok(response) if (200..300).contains(&response.status) => return Ok(()),
            Ok(response) => Session::refusal(response),
            Err(error) => error,
        };
        // The answer may have been lost, and not the request.
        let lost = error.is_transient() || matches!(error.status(), Some(404 | 409));
        if lost && self.arrives(&error) {
            return Ok(());
        }
        let trouble = self.trouble(error);
        Err(match (self.state.whole, trouble.error.status()) {
            // What it has is not what the digest says.
            (_, Some(400)) => Trouble { remedy: Remedy::Restart, ..trouble },
            (true, _) if trouble.remedy != Remedy::Nothing => Trouble { remedy: Remedy::Restart, ..trouble },
            _ => trouble,
        })
    }

    /// Whether the blob is there, or comes to be: a registry that puts a large one together may take longer than anybody waits for its answer.
    fn arrives(&self, error: &FetchError) -> bool {
        let (begin, patience) = (Instant::now(), self.push.session.patience());
        let is_busy = matches!(error, FetchError::TimedOut { .. }) || matches!(error.status(), Some(502..=504));
        let longest = Duration::from_secs(if is_busy { self.body.length() / SLOWEST } else { 0 });
        for attempt in 0.. {
            if self.push.has_blob(self.digest, self.body.length()).unwrap_or(false) {
                return true;
            }
            if begin.elapsed() >= longest {
                return false;
            }
            std::thread::sleep(patience.wait(attempt).min(Duration::from_secs(15)));
        }
        false
    }

    fn trouble(&self, error: FetchError) -> Trouble {
        let remedy = match error.status() {
            Some(413) if self.state.chunk > self.push.chunks.smallest && !self.state.whole => Remedy::Smaller,
            Some(400 | 404 | 405 | 411 | 415 | 416 | 501) if !self.state.takes_chunks && !self.state.whole => {
                Remedy::Whole
            }
            Some(416) => Remedy::Ask,
            Some(400 | 404 | 409 | 410) => Remedy::Restart,
            _ if error.is_transient() => Remedy::Ask,
            _ => Remedy::Nothing,
        };
        Trouble { error, remedy }
    }

    fn repair(&mut self, remedy: Remedy) -> Result<(), FetchError> {
        match remedy {
            Remedy::Ask => {
                let before = self.state.offset;
                if let Err(error) = self.ask_state() {
                    self.push.observer.observe(Event::Detail(format!("beginning the upload anew: {error}")));
                    self.state.location = None;
                    self.state.offset = 0;
                    self.state.apart = true;
                }
                // Nothing was kept of a chunk that did not arrive whole: smaller ones lose less.
                if self.state.offset <= before {
                    self.shrink();
                }
            }
            Remedy::Smaller => {
                self.shrink();
                self.state.location = None;
            }
            Remedy::Restart => self.state.location = None,
            Remedy::Whole => {
                self.state.whole = true;
                self.state.location = None;
            }
            Remedy::Nothing => {}
        }
        Ok(())
    }

    fn shrink(&mut self) {
        self.state.chunk = (self.state.chunk / 2).max(self.push.chunks.smallest);
    }

    /// Learns from the registry how far it came. An error: it does not know the upload any more, or says what cannot be.
    fn ask_state(&mut self) -> Result<(), FetchError> {
        let Some(url) = self.state.location.clone() else { return Ok(()) };
        let patience = self.push.session.patience();
        let mut attempt = 0;
        let response = loop {
            let error = match self.send(&Request::get(url.clone())) {
                Ok(response) if matches!(response.status, 200 | 202 | 204) => break response,
                Ok(response) => Session::refusal(response),
                Err(error) => error,
            };
            patience.pause(error, attempt, self.push.observer)?;
            attempt += 1;
        };
        let unknown = || FetchError::Protocol {
            url: shown(&url),
            cause: "the answer does not say how much of the upload is there".to_owned(),
        };
        let end = self.range_end(response.header("range").ok_or_else(unknown)?, self.body.length(), &url)?;
        if let Some(location) = self.location_of(&response)? {
            self.state.location = Some(location);
        }
        self.state.offset = end;
        self.state.best = self.state.best.max(end);
        Ok(())
    }

    /// The bytes that a `Range` of an upload tells of: `0-END`, END included.
    fn range_end(&self, text: &str, most: u64, url: &Url) -> Result<u64, FetchError> {
        parse_range(text).filter(|end| *end <= most).ok_or_else(|| FetchError::Protocol {
            url: shown(url),
            cause: format!(
                "it says that it has {:?} of the upload, of which {most} bytes were sent",
                text.chars().take(60).collect::<String>()
            ),
        })
    }

    /// Where to go on with the upload.
    fn location_of(&self, response: &Response) -> Result<Option<Url>, FetchError> {
        let Some(text) = response.header("location") else { return Ok(None) };
        let fault = |target: String, cause| FetchError::Redirect { url: shown(&response.url), target, cause };
        let target = response.url.join(text).map_err(|_| fault("a text".to_owned(), "that is not a URL"))?;
        if !matches!(target.scheme(), "http" | "https") || target.host_str().is_none() {
            return Err(fault(shown(&target), "only http and https are followed"));
        }
        if response.url.scheme() == "https" && target.scheme() == "http" && !self.push.session.endpoint.insecure {
            return Err(fault(shown(&target), "a secure address must not lead to an insecure one"));
        }
        Ok(Some(target))
    }

    fn send(&self, request: &Request) -> Result<Response, FetchError> {
        match self.push.session.is_own_host(&request.url) {
            true => self.push.session.send(request),
            false => self.push.session.send_elsewhere(request),
        }
    }

    fn tell(&self) {
        self.push.observer.observe(Event::Progress {
            task: Task::Push,
            subject: self.label.to_owned(),
            done: self.state.offset,
            total: Some(self.body.length()),
        });
    }
}

/// Compat: `0-0` is what docker's registry says of an empty upload; none ends after one byte, but by a rare accident that a new start mends.
pub(super) fn parse_range(text: &str) -> Option<u64> {
    let text = text.trim();
    let (start, end) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    if !digits(start) || !digits(end) || start.parse::<u64>().ok()? != 0 {
        return None;
    }
    match end.parse::<u64>().ok()? {
        0 => Some(0),
        end => end.checked_add(1),
    }
}
