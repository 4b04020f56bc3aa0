//! Keys that repositories and packages may be signed with: named files, an address, the host's, or those inside a repository whose
//! fingerprints the header names.

use super::{Options, YumError};
use crate::event::{Event, Observer};
use crate::fetch::http::{Fetch, Request, parse_url};
use crate::fetch::retry;
use crate::openpgp::Keyring;
use crate::openpgp::keyring::MAXIMUM_KEYRING;
use crate::source::Spanned;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Folders of keys on hosts, below the root.
pub(super) const FOLDERS: [&str; 2] = ["etc/pki/rpm-gpg", "usr/share/distribution-gpg-keys"];
/// Key files of a host that are read.
const MAXIMUM_FILES: usize = 2000;

pub(in crate::agent) struct Asker<'a> {
    pub options: &'a Options,
    pub fetch: &'a dyn Fetch,
    pub observer: &'a dyn Observer,
    /// Folders and files of the host's keys, below the root.
    pub host_keys: &'a [&'a str],
}

impl Asker<'_> {
    /// The keys that count, of those at the addresses `named` and, where their fingerprints tell them, at `inside` repositories.
    /// Fingerprints leave only those.
    pub fn keys(
        &self,
        named: &[Spanned<String>],
        fingerprints: &[String],
        inside: &[String],
    ) -> Result<Keyring, YumError> {
        let mut keyring = read_files(&self.options.keyrings)?;
        for url in self.options.key_url.iter().chain(named.iter().map(|word| &word.value)) {
            let fault = |cause: String| YumError::KeyAddress { url: url.clone(), cause };
            // A fingerprint tells the key by itself, whoever brings it.
            let vouched = url.starts_with("http://") && !fingerprints.is_empty();
            if !url.starts_with("https://") && !url.starts_with("file://") && !vouched {
                return Err(fault(
                    "it must begin with https:// or file://, or the header must name its fingerprint".into(),
                ));
            }
            self.add_from(url, &mut keyring).map_err(fault)?;
        }
        if keyring.is_empty() {
            self.add_host_keys(&mut keyring);
        }
        if fingerprints.is_empty() {
            return Ok(keyring);
        }
        for url in inside {
            if let Err(cause) = self.add_from(url, &mut keyring) {
                self.observer.observe(Event::Detail(format!("no key at {url}: {cause}")));
            }
        }
        let named = |key: &&crate::openpgp::PublicKey| {
            fingerprints.iter().any(|wanted| key.fingerprint().to_string().eq_ignore_ascii_case(wanted))
        };
        let mut chosen = Keyring::new();
        for key in keyring.keys().filter(named) {
            chosen.insert(key.clone());
        }
        Ok(chosen)
    }

    fn add_from(&self, url: &str, keyring: &mut Keyring) -> Result<(), String> {
        let request = Request::get(parse_url(url).map_err(|error| error.to_string())?);
        let document = retry::get(self.fetch, &request, MAXIMUM_KEYRING as u64, self.observer)
            .map_err(|error| error.to_string())?;
        keyring.add(&document.bytes).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Files that are no keys are passed over.
    fn add_host_keys(&self, keyring: &mut Keyring) {
        let mut pending: Vec<PathBuf> = self.host_keys.iter().map(|place| self.options.host_root.join(place)).collect();
        let mut files = Vec::new();
        while let Some(folder) = pending.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                files.push(folder);
                continue;
            };
            for entry in entries.flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && pending.len() < MAXIMUM_FILES => pending.push(entry.path()),
                    _ if files.len() < MAXIMUM_FILES => files.push(entry.path()),
                    _ => {}
                }
            }
        }
        files.sort();
        for path in files {
            if let Ok(bytes) = read_limited(&path) {
                // Why: folders of keys hold notes, too.
                let _ = keyring.add(&bytes);
            }
        }
    }
}

/// All keys of files that must be keyrings.
pub fn read_files(paths: &[PathBuf]) -> Result<Keyring, YumError> {
    let mut keyring = Keyring::new();
    for path in paths {
        let fault = |cause: String| YumError::Key { path: path.to_owned(), cause };
        let bytes = read_limited(path).map_err(|error| fault(error.to_string()))?;
        keyring.add(&bytes).map_err(|error| fault(error.to_string()))?;
    }
    Ok(keyring)
}

fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAXIMUM_KEYRING as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
