//! The release of an archive: found at a mirror, its signature and its date checked.

use super::{Asker, DebianError, host, is_absent};
use crate::deb::release::Release;
use crate::deb::signature;
use crate::digest::Digest;
use crate::event::Event;
use crate::openpgp::Cleartext;
use crate::openpgp::Keyring;

/// Bytes of an `InRelease`, `Release` or `Release.gpg` file.
const MAXIMUM_RELEASE: u64 = 16 << 20;

/// A release whose signature is good.
pub(super) struct Signed {
    pub mirror: String,
    pub release: Release,
    pub digest: Digest,
    pub signers: Vec<String>,
}

impl Signed {
    pub fn codename(&self, suite: &str) -> String {
        if self.release.codename.is_empty() { suite.to_owned() } else { self.release.codename.clone() }
    }
}

impl Asker<'_> {
    /// Tries the one mirror that was named, or those of the host in turn until one has the suite.
    pub(super) fn find_release(&self, mirror_url: Option<&str>) -> Result<Signed, DebianError> {
        let named = mirror_url
            .or(self.options.mirror.as_deref())
            .map(|url| host::Mirror { url: url.trim().trim_end_matches('/').to_owned(), keyrings: Vec::new() });
        let mirrors = match named {
            Some(mirror) => vec![mirror],
            None => host::mirrors(&self.options.host_root, &self.suite),
        };
        let mut last = None;
        for mirror in &mirrors {
            match self.fetch_release(mirror) {
                Ok(signed) => return Ok(signed),
                Err(error @ (DebianError::NoRelease { .. } | DebianError::Fetch(_))) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| DebianError::NoMirror { suite: self.suite.clone() }))
    }

    fn fetch_release(&self, mirror: &host::Mirror) -> Result<Signed, DebianError> {
        let folder = format!("{}/dists/{}", mirror.url, self.suite);
        let url = format!("{folder}/InRelease");
        let (url, text, signed, signature) = match self.get(&url, MAXIMUM_RELEASE) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| DebianError::NotText { url: url.clone() })?;
                let split =
                    Cleartext::split(&text).map_err(|cause| DebianError::Cleartext { url: url.clone(), cause })?;
                let signed = split.signed_bytes();
                (url, split.text, signed, split.signature.into_bytes())
            }
            Err(error) if is_absent(&error) => {
                let url = format!("{folder}/Release");
                let bytes = self
                    .get(&url, MAXIMUM_RELEASE)
                    .map_err(|cause| DebianError::NoRelease { suite: self.suite.clone(), cause })?;
                let signature = self.get(&format!("{url}.gpg"), MAXIMUM_RELEASE)?;
                let text = String::from_utf8(bytes).map_err(|_| DebianError::NotText { url: url.clone() })?;
                (url, text.clone(), text.into_bytes(), signature)
            }
            Err(error) => return Err(error.into()),
        };
        let signers = self.verify(&url, mirror, &signed, &signature)?;
        let release = Release::parse(&text).map_err(|cause| DebianError::Release { url: url.clone(), cause })?;
        self.check(&url, &release)?;
        Ok(Signed { mirror: mirror.url.clone(), release, digest: Digest::of(text.as_bytes()), signers })
    }

    fn verify(
        &self,
        url: &str,
        mirror: &host::Mirror,
        signed: &[u8],
        block: &[u8],
    ) -> Result<Vec<String>, DebianError> {
        let named = if self.options.keyrings.is_empty() { &mirror.keyrings } else { &self.options.keyrings };
        let paths = if named.is_empty() { host::keyrings(&self.options.host_root) } else { named.clone() };
        let mut keyring = Keyring::new();
        let mut fault = None;
        for path in &paths {
            let added = std::fs::read(path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| keyring.add(&bytes).map_err(|error| error.to_string()));
            if let Err(cause) = added {
                if !named.is_empty() {
                    return Err(DebianError::Keyring { path: path.clone(), cause });
                }
                fault = Some(DebianError::Keyring { path: path.clone(), cause });
            }
        }
        if keyring.is_empty() {
            return Err(fault.unwrap_or_else(|| DebianError::NoKeyring { url: url.to_owned() }));
        }
        signature::verify(&keyring, signed, block, self.now).map_err(|cause| {
            let keyrings = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            DebianError::Signature { url: url.to_owned(), cause, keyrings }
        })
    }

    fn check(&self, url: &str, release: &Release) -> Result<(), DebianError> {
        match &release.valid_until {
            Some((until, date)) if *until < self.now && !self.options.ignore_valid_until => {
                return Err(DebianError::Expired { url: url.to_owned(), date: date.clone() });
            }
            Some((until, date)) if *until < self.now => {
                self.observer.observe(Event::Warning(format!("{url} has expired on {date}; accepted as asked")));
            }
            _ => {}
        }
        // A signed release of another suite, put in this one's place, would take the base back in time.
        let names = [release.suite.as_str(), release.codename.as_str()];
        if names.iter().any(|name| !name.is_empty()) && !names.contains(&self.suite.as_str()) {
            let found = names.iter().filter(|name| !name.is_empty()).copied().collect::<Vec<_>>().join(" or ");
            return Err(DebianError::OtherSuite { url: url.to_owned(), suite: self.suite.clone(), found });
        }
        if !release.architectures.is_empty() && !release.architectures.iter().any(|name| name == self.architecture) {
            return Err(self.absent("architecture", self.architecture, &release.architectures));
        }
        Ok(())
    }
}
