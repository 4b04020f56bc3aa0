//! Whole files: mirrors in turn, resumed after a break, hashed as the bytes arrive, in place only when complete and right.
//!
//! While a file is on its way it stands beside its target as `.NAME.partial`. Where the digest is known beforehand, a partial file of an
//! earlier run is continued; a lock on it keeps a second build from writing into it (that one starts a file of its own).
//!
//! Sources: RFC 9110 §14 (ranges), §13.1.5 (If-Range).

use super::error::{FetchError, shown};
use super::http::{Fetch, Request, Response, Resume, Url, body_error};
use super::retry::refusal;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::event::{Event, Observer, Task};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is known of a file beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub digest: Option<Digest>,
    /// In bytes.
    pub size: Option<u64>,
    /// No more bytes are taken, where the size is not known.
    pub most: Option<u64>,
}

/// One file to download.
#[derive(Clone, Debug)]
pub struct Job {
    /// The same file in several places, tried in turn.
    pub urls: Vec<Url>,
    pub destination: PathBuf,
    pub expected: Expected,
    /// Name in progress events.
    pub label: String,
}

/// What arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// In the algorithm of the expected digest; SHA-256 where none was expected.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Where it came from, as [`shown`].
    pub url: String,
}

/// Downloads to `destination`, which is replaced when the file is complete and right, and else left as it was.
pub fn download(
    fetch: &dyn Fetch,
    urls: &[Url],
    destination: &Path,
    expected: &Expected,
    observer: &dyn Observer,
    label: &str,
) -> Result<Downloaded, FetchError> {
    let mut part = Part::open(destination, expected)?;
    let mut failures = Vec::new();
    for (at, url) in urls.iter().enumerate() {
        part.validator = None;
        if expected.digest.is_none() {
            part.restart()?;
        }
        let mut transfer = Transfer { fetch, url, expected, observer, label, last: at + 1 == urls.len() };
        match transfer.run(&mut part) {
            Ok(digest) => {
                let size = part.length;
                part.place(destination)?;
                observer.observe(Event::ProgressFinished { task: Task::Pull, subject: label.to_owned() });
                return Ok(Downloaded { digest, size, url: shown(url) });
            }
            Err(error @ FetchError::File { .. }) => return Err(error),
            Err(error) => failures.push(error),
        }
    }
    Err(FetchError::all_of(failures, label))
}

/// The first job that failed, by its place in the list.
#[derive(Debug)]
pub struct Failed {
    pub job: usize,
    pub error: FetchError,
}

/// Downloads several files at once, at most `concurrency` at a time; results in the order of the jobs.
/// After a failure no new job is started.
pub fn download_all(
    fetch: &dyn Fetch,
    jobs: &[Job],
    concurrency: usize,
    observer: &dyn Observer,
) -> Result<Vec<Downloaded>, Failed> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Downloaded>>> = Mutex::new(vec![None; jobs.len()]);
    // The failure of the earliest job is told, whichever thread was first.
    let failure: Mutex<Option<(usize, FetchError)>> = Mutex::new(None);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { return };
            if lock(&failure).is_some() {
                return;
            }
            match download(fetch, &job.urls, &job.destination, &job.expected, observer, &job.label) {
                Ok(done) => {
                    if let Some(slot) = lock(&results).get_mut(at) {
                        *slot = Some(done);
                    }
                }
                Err(error) => {
                    let mut failure = lock(&failure);
                    if failure.as_ref().is_none_or(|(earlier, _)| at < *earlier) {
                        *failure = Some((at, error));
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..concurrency.clamp(1, 64).min(jobs.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(|poison| poison.into_inner()) {
        Some((job, error)) => Err(Failed { job, error }),
        None => Ok(results.into_inner().unwrap_or_else(|poison| poison.into_inner()).into_iter().flatten().collect()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// One place that a file is taken from.
struct Transfer<'a> {
    fetch: &'a dyn Fetch,
    url: &'a Url,
    expected: &'a Expected,
    observer: &'a dyn Observer,
    label: &'a str,
    /// There is no other place to ask.
    last: bool,
}

impl Transfer<'_> {
    /// Until the file is complete and right, or trying again makes no sense.
    fn run(&mut self, part: &mut Part) -> Result<Digest, FetchError> {
        let patience = self.fetch.patience();
        let mut attempt = 0;
        // Breaks that brought something new do not count as failures, but there is an end to them, too.
        for _ in 0..1000 {
            let before = part.length;
            let inherited = part.inherited;
            let result = self.once(part).and_then(|()| self.check(part));
            match result {
                Ok(digest) => return Ok(digest),
                // What an earlier run left behind was not what it seemed: once more, from the start.
                Err(FetchError::WrongDigest { .. } | FetchError::WrongSize { .. }) if inherited => part.restart()?,
                // A mirror that is dead is not waited for while there are others.
                Err(error @ (FetchError::Refused { .. } | FetchError::TimedOut { .. })) if !self.last => {
                    return Err(error);
                }
                Err(error) => {
                    if matches!(error, FetchError::WrongDigest { .. } | FetchError::WrongSize { .. }) {
                        part.restart()?;
                    }
                    if part.length > before {
                        attempt = 0;
                    }
                    patience.pause(error, attempt, self.observer)?;
                    attempt += 1;
                }
            }
        }
        Err(FetchError::Broken { url: shown(self.url), cause: "the connection broke a thousand times".to_owned() })
    }

    /// One request and its body.
    fn once(&self, part: &mut Part) -> Result<(), FetchError> {
        if part.length > 0 && self.expected.size == Some(part.length) {
            return Ok(());
        }
        let mut request = Request::get(self.url.clone());
        if part.length > 0 {
            request.resume = Some(Resume { start: part.length, validator: part.validator.clone() });
        }
        let response = self.fetch.send(&request)?;
        match response.status {
            200 => part.restart()?,
            206 if part.length > 0 => {
                if range_start(&response) != Some(part.length) {
                    part.restart()?;
                    return Err(FetchError::Broken {
                        url: shown(self.url),
                        cause: "the server sent another range than asked for".to_owned(),
                    });
                }
            }
            416 => {
                // Whole already, or another file than before: the digest tells, and without one only the start is safe.
                if self.expected.digest.is_some() && self.expected.size.is_none() && !part.inherited {
                    return Ok(());
                }
                part.restart()?;
                return Err(FetchError::Broken {
                    url: shown(self.url),
                    cause: "the server has fewer bytes than were received before".to_owned(),
                });
            }
            _ => return Err(refusal(response)),
        }
        part.validator = validator(&response);
        self.receive(part, response)
    }

    fn receive(&self, part: &mut Part, mut response: Response) -> Result<(), FetchError> {
        let coming = response.header("content-length").and_then(|value| value.trim().parse::<u64>().ok());
        let total = coming.map(|coming| part.length.saturating_add(coming));
        if let (Some(wanted), Some(found)) = (self.expected.size, total)
            && wanted != found
        {
            return Err(FetchError::WrongSize { url: shown(self.url), wanted, found });
        }
        let mut buffer = vec![0; 128 << 10];
        let mut progress = Progress { transfer: self, total: self.expected.size.or(total), last: None };
        loop {
            let count = match response.body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(body_error(self.url, &error)),
            };
            self.bound(part.length.saturating_add(count as u64))?;
            part.append(&buffer[..count])?;
            progress.tell(part.length);
        }
        progress.last = None;
        progress.tell(part.length);
        match self.expected.size.or(total) {
            Some(wanted) if part.length < wanted => {
                Err(FetchError::CutShort { url: shown(self.url), wanted, found: part.length })
            }
            _ => Ok(()),
        }
    }

    fn bound(&self, length: u64) -> Result<(), FetchError> {
        match (self.expected.size, self.expected.most) {
            (Some(wanted), _) if length > wanted => {
                Err(FetchError::WrongSize { url: shown(self.url), wanted, found: length })
            }
            (None, Some(limit)) if length > limit => Err(FetchError::TooLarge { url: shown(self.url), limit }),
            _ => Ok(()),
        }
    }

    fn check(&self, part: &Part) -> Result<Digest, FetchError> {
        let url = || shown(self.url);
        if let Some(wanted) = self.expected.size.filter(|wanted| *wanted != part.length) {
            return Err(FetchError::WrongSize { url: url(), wanted, found: part.length });
        }
        let found = part.hasher.clone().finish();
        match &self.expected.digest {
            Some(wanted) if *wanted != found => {
                Err(FetchError::WrongDigest { url: url(), wanted: wanted.clone(), found })
            }
            _ => Ok(found),
        }
    }
}

/// First byte of a `Content-Range`.
fn range_start(response: &Response) -> Option<u64> {
    response.header("content-range")?.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// Spec: RFC 9110 §13.1.5: only strong validators join parts of a file.
fn validator(response: &Response) -> Option<String> {
    let tag = response.header("etag").filter(|tag| tag.starts_with('"'));
    tag.or_else(|| response.header("last-modified")).map(str::to_owned)
}

/// Tells at most ten times a second.
struct Progress<'a> {
    transfer: &'a Transfer<'a>,
    total: Option<u64>,
    last: Option<Instant>,
}

impl Progress<'_> {
    fn tell(&mut self, done: u64) {
        if self.last.is_some_and(|last| last.elapsed() < Duration::from_millis(100)) {
            return;
        }
        self.last = Some(Instant::now());
        let subject = self.transfer.label.to_owned();
        self.transfer.observer.observe(Event::Progress { task: Task::Pull, subject, done, total: self.total });
    }
}

/// The file on its way.
struct Part {
    file: File,
    path: PathBuf,
    length: u64,
    hasher: Hasher,
    algorithm: Algorithm,
    /// Of the response that the bytes came from.
    validator: Option<String>,
    /// Some of the bytes are an earlier run's.
    inherited: bool,
    /// Another run may continue it: kept after a failure.
    resumable: bool,
    placed: bool,
}

impl Part {
    fn open(destination: &Path, expected: &Expected) -> Result<Part, FetchError> {
        let algorithm = expected.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |cause| FetchError::File { path, cause }
        };
        let name = destination.file_name().ok_or_else(|| {
            fault(destination)(io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))
        })?;
        let directory = destination.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(directory).map_err(fault(directory))?;
        let mut own = std::ffi::OsString::from(".");
        own.push(name);
        let shared = directory.join({
            let mut shared = own.clone();
            shared.push(".partial");
            shared
        });
        let mut part = match expected.digest.as_ref().and_then(|_| open_shared(&shared)) {
            Some(file) => Part::new(file, shared, algorithm, true),
            None => {
                static COUNT: AtomicUsize = AtomicUsize::new(0);
                own.push(format!(".{}-{}.partial", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
                let path = directory.join(own);
                let file =
                    OpenOptions::new().write(true).create(true).truncate(true).open(&path).map_err(fault(&path))?;
                Part::new(file, path, algorithm, false)
            }
        };
        if part.resumable {
            part.inherit(expected.size)?;
        }
        Ok(part)
    }

    fn new(file: File, path: PathBuf, algorithm: Algorithm, resumable: bool) -> Part {
        let hasher = Hasher::new(algorithm);
        Part { file, path, length: 0, hasher, algorithm, validator: None, inherited: false, resumable, placed: false }
    }

    fn fault(&self, cause: io::Error) -> FetchError {
        FetchError::File { path: self.path.clone(), cause }
    }

    /// Hashes what an earlier run left.
    fn inherit(&mut self, size: Option<u64>) -> Result<(), FetchError> {
        let length = self.file.metadata().map_err(|error| self.fault(error))?.len();
        if length == 0 || size.is_some_and(|size| length > size) {
            return self.restart();
        }
        let mut buffer = vec![0; 128 << 10];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.hasher.update(&buffer[..count]);
                    self.length += count as u64;
                }
                Err(error) => return Err(self.fault(error)),
            }
        }
        self.inherited = true;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), FetchError> {
        self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0))).map_err(|error| self.fault(error))?;
        self.length = 0;
        self.hasher = Hasher::new(self.algorithm);
        self.validator = None;
        self.inherited = false;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all(bytes).map_err(|error| self.fault(error))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn place(mut self, destination: &Path) -> Result<(), FetchError> {
        self.file.sync_data().map_err(|error| self.fault(error))?;
        std::fs::rename(&self.path, destination)
            .map_err(|cause| FetchError::File { path: destination.to_owned(), cause })?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let kept = self.resumable && self.length > 0;
        if !self.placed && !kept {
            // Best effort: a leftover is swept with its directory.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens and locks the partial file that runs share; none when another run has it, or the filesystem knows no locks.
///
/// Invariant: whoever renames the file holds the lock. A file that was locked only after its rename is the finished target, and is not touched.
fn open_shared(path: &Path) -> Option<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).ok()?;
    file.try_lock().ok()?;
    let (opened, named) = (file.metadata().ok()?, std::fs::symlink_metadata(path).ok()?);
    (opened.ino() == named.ino() && opened.dev() == named.dev() && named.is_file()).then_some(file)
}

#[cfg(test)]
mod tests;
