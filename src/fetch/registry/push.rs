//! What is written to a registry: blobs, manifests under a digest or tag; each read back before it counts as written.
//!
//! Sources: OCI distribution-spec 1.1, "Push" and "Content Management".

use super::session::Session;
use super::upload::Transfer;
use super::{Access, ManifestDocument, Registry};
use crate::digest::{Digest, Hasher};
use crate::event::{Event, Observer, Task};
use crate::fetch::error::{FetchError, shown};
use crate::fetch::http::{Body, Fetch, Method, Request, Response, Url};
use crate::oci::manifest::Descriptor;
use crate::oci::reference::Reference;

/// One repository that is written to.
pub struct Push<'a> {
    pub(super) session: Session<'a>,
    pub(super) observer: &'a dyn Observer,
    reference: Reference,
    mount_from: Option<String>,
    pub(super) chunks: Chunks,
}

/// In which pieces blobs are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    /// Bytes of a chunk at first: small enough that a break costs little, large enough that the answers' way back does not.
    pub first: u64,
    /// Smaller ones some kinds of storage refuse.
    pub smallest: u64,
}

impl Default for Chunks {
    fn default() -> Chunks {
        Chunks { first: 16 << 20, smallest: 4 << 20 }
    }
}

/// How a blob came to be in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It was there.
    Present,
    /// It was in another repository of the same registry.
    Mounted,
    /// It was sent; so many bytes in all, those that had to be sent again too.
    Sent(u64),
}

impl<'a> Registry<'a> {
    /// The repository of `reference`; blobs that the repository `mount_from` of the same registry has are not sent.
    pub fn push<'b>(
        &'b self,
        reference: &Reference,
        mount_from: Option<&str>,
        observer: &'b dyn Observer,
    ) -> Result<Push<'b>, FetchError> {
        let mut session = self.own_session(Access::Push, reference, observer)?;
        session.also = mount_from.map(|repository| format!("repository:{repository}:pull"));
        Ok(Push {
            session,
            observer,
            reference: reference.clone(),
            mount_from: mount_from.map(str::to_owned),
            chunks: Chunks::default(),
        })
    }

    /// Deletes a manifest under its digest or tag, as `reference` has it.
    pub fn delete(&self, reference: &Reference, observer: &dyn Observer) -> Result<(), FetchError> {
        let session = self.own_session(Access::Delete, reference, observer)?;
        let url = session.url("manifests", &reference.identifier())?;
        let request = Request { method: Method::Delete, ..Request::get(url) };
        ask(&session, &request, &[200, 202, 204], observer).map(|_| ())
    }
}

impl Push<'_> {
    /// Brings a blob into the repository, unless it is there.
    pub fn blob(&self, body: &Body, digest: &Digest, label: &str) -> Result<Placed, FetchError> {
        if self.has_blob(digest, body.length())? {
            return Ok(Placed::Present);
        }
        let placed = self.place(body, digest, label);
        self.observer.observe(Event::ProgressFinished { task: Task::Push, subject: label.to_owned() });
        let placed = placed?;
        if !self.has_blob(digest, body.length())? {
            let url = shown(&self.session.url("blobs", &digest.to_string())?);
            let cause = "the registry took the blob, but does not have it; push again".to_owned();
            return Err(FetchError::Protocol { url, cause });
        }
        Ok(placed)
    }

    fn place(&self, body: &Body, digest: &Digest, label: &str) -> Result<Placed, FetchError> {
        if let Some(from) = &self.mount_from {
            let mut url = self.session.url("blobs", "uploads/")?;
            url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
            // Spec: whoever cannot mount answers with an upload (202), which is left to expire; a fault here is no reason to stop.
            let request = Request { method: Method::Post(Vec::new()), ..Request::get(url) };
            match ask(&self.session, &request, &[201, 202], self.observer) {
                Ok(response) if response.status == 201 => return Ok(Placed::Mounted),
                Ok(_) => {}
                Err(error) => self.observer.observe(Event::Detail(format!("nothing is mounted from {from}: {error}"))),
            }
        }
        Transfer::new(self, body, digest, label).run().map(Placed::Sent)
    }

    /// Whether the repository has a blob; one of another length is an error.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, FetchError> {
        let url = self.session.url("blobs", &digest.to_string())?;
        let request = Request { method: Method::Head, ..Request::get(url.clone()) };
        let response = match ask(&self.session, &request, &[200, 206, 403, 404], self.observer) {
            Ok(response) if response.status == 404 => return Ok(false),
            Ok(response) => response,
            Err(error) if error.status() == Some(404) => return Ok(false),
            Err(error) => return Err(error),
        };
        let found = response.header("content-length").and_then(|text| text.trim().parse::<u64>().ok());
        match found.filter(|found| *found != size && response.status == 200) {
            Some(found) => Err(FetchError::WrongSize { url: shown(&url), wanted: size, found }),
            None => Ok(true),
        }
    }

    /// Writes a manifest or index under a tag or its digest, and reads it back. Tells whether the registry itself keeps the list of
    /// what refers to the manifest's subject.
    pub fn manifest(&self, identifier: &str, media_type: &str, bytes: &[u8]) -> Result<bool, FetchError> {
        let url = self.session.url("manifests", identifier)?;
        let digest = match identifier.parse::<Digest>() {
            Ok(digest) => {
                let mut hasher = Hasher::new(digest.algorithm());
                hasher.update(bytes);
                hasher.finish()
            }
            Err(_) => Digest::of(bytes),
        };
        let request = Request { method: Method::Put(Body::from_bytes(bytes)), ..Request::get(url.clone()) };
        let request = request.header("content-type", media_type);
        let response = ask(&self.session, &request, &[200, 201, 202], self.observer)?;
        let told = response.header("docker-content-digest").and_then(|text| text.trim().parse::<Digest>().ok());
        if let Some(found) = told.filter(|found| found.algorithm() == digest.algorithm() && *found != digest) {
            return Err(FetchError::WrongDigest { url: shown(&url), wanted: digest, found });
        }
        let lists_referrers = response.header("oci-subject").is_some();
        self.read_back(&digest.to_string(), &digest, &url)?;
        self.read_back(identifier, &digest, &url)?;
        Ok(lists_referrers)
    }

    /// Registries of several machines may need a moment until all of them know what was written.
    fn read_back(&self, identifier: &str, digest: &Digest, url: &Url) -> Result<(), FetchError> {
        let patience = self.session.patience();
        for attempt in 0.. {
            match self.session.manifest(identifier) {
                Ok(document) if document.digest == *digest => return Ok(()),
                Ok(document) if attempt >= patience.retries => {
                    let (wanted, found) = (digest.clone(), document.digest);
                    return Err(FetchError::WrongDigest { url: shown(url), wanted, found });
                }
                Err(error) if attempt >= patience.retries || error.status() != Some(404) => return Err(error),
                _ => std::thread::sleep(patience.wait(attempt)),
            }
        }
        Ok(())
    }

    /// What a tag or digest names now; nothing when it names nothing.
    pub fn current(&self, identifier: &str) -> Result<Option<ManifestDocument>, FetchError> {
        match self.session.manifest(identifier) {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first bytes of a blob, at most `limit`.
    pub fn blob_start(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, FetchError> {
        let url = self.session.url("blobs", &blob.digest.to_string())?;
        ask(&self.session, &Request::get(url), &[200], self.observer)?.read_start(limit)
    }

    pub fn reference(&self) -> &Reference {
        &self.reference
    }
}

/// Sends until the status is one of `accepted`, patiently.
pub(super) fn ask(
    session: &Session<'_>,
    request: &Request,
    accepted: &[u16],
    observer: &dyn Observer,
) -> Result<Response, FetchError> {
    let patience = session.patience();
    let mut attempt = 0;
    loop {
        let error = match session.send(request) {
            Ok(response) if accepted.contains(&response.status) => return Ok(response),
            Ok(response) => Session::refusal(response),
            Err(error) => error,
        };
        patience.pause(error, attempt, observer)?;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests;
