//! One repository: its mirrors, `repomd.xml` with its signature, and the files that it lists.

use super::YumError;
use crate::event::{Event, Observer};
use crate::fetch::FetchError;
use crate::fetch::http::{Fetch, Request, TlsFiles, parse_url};
use crate::fetch::retry::refusal;
use crate::openpgp::{Keyring, Policy, WeakSelfSignatures};
use crate::rpm::metadata::{Checksum, Data, Repomd, mirrors};
use std::io::Write;
use std::path::{Path, PathBuf};

const MAXIMUM_REPOMD: u64 = 16 << 20;
const MAXIMUM_SIGNATURE: u64 = 1 << 20;
const MAXIMUM_MIRROR_LIST: u64 = 4 << 20;
/// Bytes of one metadata file as it is downloaded.
const MAXIMUM_METADATA: u64 = 512 << 20;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    /// The base, or a list of mirrors or metalink where the URL has that word in it.
    pub url: String,
    /// As dnf counts: lower is preferred; 99 is usual.
    pub priority: i32,
    /// For its mirrors and their list.
    pub tls: Option<TlsFiles>,
}

impl Source {
    /// `NAME=URL`, or `NAME@PRIORITY=URL`.
    pub fn parse(text: &str) -> Result<Source, YumError> {
        let bad = || YumError::BadSource(text.to_owned());
        let (name, url) = text.split_once('=').ok_or_else(bad)?;
        let (name, priority) = match name.split_once('@') {
            Some((name, priority)) => (name, priority.parse().map_err(|_| bad())?),
            None => (name, 99),
        };
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        match is_name && !url.is_empty() {
            true => Ok(Source { name: name.to_owned(), url: url.to_owned(), priority, tls: None }),
            false => Err(bad()),
        }
    }

    /// Lets whoever serves `url` see the repository's certificates.
    pub fn present(&self, url: &str, fetch: &dyn Fetch) -> Result<(), FetchError> {
        self.tls.iter().try_for_each(|files| parse_url(url).map(|url| fetch.present(&url, files)))
    }
}

/// What is believed.
#[derive(Clone, Debug)]
pub struct Trust {
    pub keyring: Keyring,
    /// Signatures that are there must hold.
    pub check_signatures: bool,
    pub allow_sha1: bool,
    /// Unix seconds.
    pub now: i64,
}

/// A repository whose `repomd.xml` is here and checked.
#[derive(Clone, Debug)]
pub struct Repository {
    pub name: String,
    pub priority: i32,
    /// The mirror that answered first, then the others. Each ends with a slash.
    pub bases: Vec<String>,
    pub repomd: Repomd,
    /// SHA-256 of `repomd.xml`.
    pub repomd_digest: crate::digest::Digest,
    /// Fingerprints of keys whose signatures of it hold; empty: it is not signed, or was not checked.
    pub signers: Vec<String>,
}

/// How repositories are reached.
pub struct Access<'a> {
    pub fetch: &'a dyn Fetch,
    pub observer: &'a dyn Observer,
    pub trust: &'a Trust,
    /// Where metadata is kept, by checksum.
    pub cache: Option<PathBuf>,
}

impl Access<'_> {
    /// Asks a repository what it has. Mirrors are tried in turn; nothing is taken from one that the checks refuse.
    pub fn open(&self, source: &Source) -> Result<Repository, YumError> {
        let (bases, allowed) = self.mirrors(source)?;
        let mut failures = Vec::new();
        let attempts = self.fetch.patience().retries + 1;
        for attempt in 0..attempts {
            let mut passing: Option<FetchError> = None;
            for (number, base) in bases.iter().enumerate() {
                match self.open_at(source, base, &allowed) {
                    Ok(mut repository) => {
                        let others = bases.iter().enumerate().filter(|(other, _)| *other != number);
                        repository.bases.extend(others.map(|(_, base)| base.clone()));
                        return Ok(repository);
                    }
                    Err(error) => {
                        self.tell(format!("{}: {error}", source.name));
                        failures.push(error.to_string());
                        match error {
                            YumError::Fetch(error) if error.is_transient() => passing = Some(error),
                            YumError::Fetch(_) => {}
                            // Whoever serves what the checks refuse will not do better the next second.
                            other if bases.len() == 1 => return Err(other),
                            _ => {}
                        }
                    }
                }
            }
            let Some(error) = passing else { break };
            if self.fetch.patience().pause(error, attempt, self.observer).is_err() {
                break;
            }
            if attempt + 1 < attempts {
                failures.clear();
            }
        }
        failures.dedup();
        Err(YumError::NoMirror { repository: source.name.clone(), failures: failures.join("; ") })
    }

    /// Bases, and the checksums that `repomd.xml` must have one of; none: any.
    fn mirrors(&self, source: &Source) -> Result<(Vec<String>, Vec<Checksum>), YumError> {
        let is_list = ["mirrorlist", "metalink", "mirrors."].iter().any(|word| source.url.contains(word))
            && !source.url.ends_with('/');
        if !is_list {
            return Ok((vec![format!("{}/", source.url.trim_end_matches('/'))], Vec::new()));
        }
        source.present(&source.url, self.fetch)?;
        let request = Request::get(parse_url(&source.url)?);
        let document = crate::fetch::retry::get(self.fetch, &request, MAXIMUM_MIRROR_LIST, self.observer)?;
        let list =
            mirrors::read(&document.bytes).map_err(|cause| YumError::Metadata { url: document.url.clone(), cause })?;
        let strong: Vec<Checksum> =
            list.repomd.into_iter().filter(|checksum| self.trust.allow_sha1 || !checksum.is_weak()).collect();
        Ok((list.bases, strong))
    }

    fn open_at(&self, source: &Source, base: &str, allowed: &[Checksum]) -> Result<Repository, YumError> {
        let url = format!("{base}repodata/repomd.xml");
        source.present(base, self.fetch)?;
        let bytes = self.get(&url, MAXIMUM_REPOMD)?;
        let fits = |checksum: &Checksum| Checksum::of(checksum.algorithm(), &bytes) == *checksum;
        if !allowed.is_empty() && !allowed.iter().any(fits) {
            return Err(YumError::NotOfMetalink { url });
        }
        let signers = if self.trust.check_signatures { self.check_signature(&url, &bytes)? } else { Vec::new() };
        let repomd = Repomd::parse(&bytes).map_err(|cause| YumError::Metadata { url: url.clone(), cause })?;
        Ok(Repository {
            name: source.name.clone(),
            priority: source.priority,
            bases: vec![base.to_owned()],
            repomd,
            repomd_digest: crate::digest::Digest::of(&bytes),
            signers,
        })
    }

    /// Checks `repomd.xml.asc` where there is one. Many distributions sign their packages only.
    fn check_signature(&self, url: &str, bytes: &[u8]) -> Result<Vec<String>, YumError> {
        let block = match self.get(&format!("{url}.asc"), MAXIMUM_SIGNATURE) {
            Ok(block) => block,
            Err(YumError::Fetch(error)) if matches!(error.status(), Some(401 | 403 | 404 | 410)) => {
                self.tell(format!("{url} is not signed; its packages are"));
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        if self.trust.keyring.is_empty() {
            return Err(YumError::NoKey { url: url.to_owned() });
        }
        let policy = Policy { now: self.trust.now, weak_self_signatures: WeakSelfSignatures::Accept };
        let judged = policy
            .judge(&self.trust.keyring, bytes, &block)
            .map_err(|cause| YumError::Block { url: format!("{url}.asc"), cause })?;
        let (mut good, mut refusals) = (Vec::new(), Vec::new());
        for one in judged {
            match one {
                Ok(verified) => good.push(verified.fingerprint.to_string()),
                Err(refusal) => refusals.push(refusal),
            }
        }
        if good.is_empty() { Err(YumError::Signature { url: url.to_owned(), refusals }) } else { Ok(good) }
    }

    /// A file that the repository lists, from any of its mirrors or from what was kept, checked.
    pub fn metadata(&self, repository: &Repository, data: &Data) -> Result<Vec<u8>, YumError> {
        self.check_strength(repository, data)?;
        if let Some(kept) = self.recall(data) {
            return Ok(kept);
        }
        let limit = data.size.unwrap_or(MAXIMUM_METADATA).min(MAXIMUM_METADATA);
        let mut last = None;
        for base in &repository.bases {
            let url = format!("{base}{}", data.location);
            let outcome = match repository.bases.len() {
                1 => parse_url(&url)
                    .map(Request::get)
                    .and_then(|request| {
                        crate::fetch::retry::get(self.fetch, &request, limit, self.observer)
                            .map(|document| document.bytes)
                    })
                    .map_err(YumError::from),
                _ => self.get(&url, limit),
            };
            match outcome.and_then(|bytes| check(&url, data, &bytes).map(|()| bytes)) {
                Ok(bytes) => {
                    self.keep(data, &bytes);
                    return Ok(bytes);
                }
                Err(error) => {
                    self.tell(format!("{}: {error}", repository.name));
                    last = Some(error);
                }
            }
        }
        let name = || repository.name.clone();
        Err(match last {
            Some(YumError::Fetch(cause)) if matches!(cause.status(), Some(403 | 404 | 410)) => {
                YumError::Absent { repository: name(), cause }
            }
            Some(error) => error,
            None => YumError::NoMirror { repository: name(), failures: String::new() },
        })
    }

    /// Refuses what only a broken checksum proves.
    pub(super) fn check_strength(&self, repository: &Repository, data: &Data) -> Result<(), YumError> {
        if data.checksum.is_weak() && !self.trust.allow_sha1 {
            let url = format!("{}{}", repository.bases[0], data.location);
            return Err(YumError::WeakChecksum { url, checksum: data.checksum.clone() });
        }
        Ok(())
    }

    fn get(&self, url: &str, limit: u64) -> Result<Vec<u8>, YumError> {
        let response = self.fetch.send(&Request::get(parse_url(url)?))?;
        if !(200..300).contains(&response.status) {
            return Err(refusal(response).into());
        }
        Ok(response.read(limit)?)
    }

    fn kept_at(&self, data: &Data) -> Option<PathBuf> {
        let checksum = &data.checksum;
        self.cache.as_ref().map(|folder| folder.join(format!("{}-{}", checksum.algorithm().name(), checksum.hex())))
    }

    /// What was kept is checked as if it came from outside.
    fn recall(&self, data: &Data) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.kept_at(data)?).ok()?;
        (Checksum::of(data.checksum.algorithm(), &bytes) == data.checksum).then_some(bytes)
    }

    fn keep(&self, data: &Data, bytes: &[u8]) {
        if let Some(path) = self.kept_at(data) {
            self.keep_at(&path, bytes);
        }
    }

    /// What was made of a metadata file with this checksum. Nothing outside proves it: whoever can write to the user's cache
    /// is the user.
    pub(super) fn recall_compact(&self, data: &Data) -> Option<Vec<u8>> {
        std::fs::read(self.compact_at(data)?).ok()
    }

    pub(super) fn keep_compact(&self, data: &Data, bytes: impl FnOnce() -> Vec<u8>) {
        if let Some(path) = self.compact_at(data) {
            self.keep_at(&path, &bytes());
        }
    }

    fn compact_at(&self, data: &Data) -> Option<PathBuf> {
        self.kept_at(data).map(|path| path.with_extension("packages"))
    }

    /// A failure costs only the time to ask again.
    fn keep_at(&self, path: &Path, bytes: &[u8]) {
        let Some(folder) = path.parent() else { return };
        let kept = std::fs::create_dir_all(folder).and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(bytes)?;
            file.persist(path).map_err(|error| error.error)
        });
        if let Err(error) = kept {
            self.tell(format!("cannot keep metadata in {}: {error}", folder.display()));
        }
    }

    fn tell(&self, text: String) {
        self.observer.observe(Event::Detail(text));
    }
}

fn check(url: &str, data: &Data, bytes: &[u8]) -> Result<(), YumError> {
    let wrong = |what, wanted: String, found: String| YumError::WrongFile { url: url.to_owned(), what, wanted, found };
    if let Some(size) = data.size.filter(|size| *size != bytes.len() as u64) {
        return Err(wrong("size", size.to_string(), bytes.len().to_string()));
    }
    let found = Checksum::of(data.checksum.algorithm(), bytes);
    match found == data.checksum {
        true => Ok(()),
        false => Err(wrong("checksum", data.checksum.to_string(), found.to_string())),
    }
}
