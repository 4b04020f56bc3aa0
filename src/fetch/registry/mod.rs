//! Images from and to registries: the OCI distribution protocol.
//!
//! [`Registry`] holds what is true for a whole build; [`Registry::pull`] gives a [`Pull`], which is one image and the places it may come from.
//! A `Pull` is itself a [`Fetch`]: it puts the right authorization on each request and renews it when it runs out, so that downloads resume
//! and retry without knowing of logins. [`Registry::push`] gives a [`Push`], which speaks with the registry itself and with no mirror.
//!
//! Sources: OCI distribution-spec 1.1; docker's token authentication (`WWW-Authenticate: Bearer`, GET and OAuth2 POST); facts §6.2.

mod browse;
pub mod challenge;
pub mod configuration;
mod push;
mod session;
mod upload;

pub use configuration::{Configuration, ConfigurationError, Endpoint};

pub use self::push::{Placed, Push};
pub use self::session::Access;
use self::session::Session;
use super::auth::{Credentials, Secret};
use super::download::{Downloaded, Expected, Job, download_all};
use super::error::FetchError;
use super::http::{Fetch, Request, Response, Url, parse_url};
use super::retry::Patience;
use crate::digest::Digest;
use crate::event::{Event, Observer};
use crate::oci::manifest::Descriptor;
use crate::oci::reference::Reference;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

/// What is known of registries during a build.
pub struct Registry<'a> {
    fetch: &'a dyn Fetch,
    credentials: Credentials,
    configuration: Configuration,
    /// `--no-https`: every registry may be insecure.
    no_https: bool,
    /// Where an insecure host answered; for each host.
    bases: Mutex<HashMap<String, Url>>,
    /// `Authorization` values, for each host and repository.
    authorizations: Mutex<HashMap<String, Secret>>,
}

/// A manifest or index as the registry sent it, proven by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestDocument {
    pub bytes: Vec<u8>,
    pub digest: Digest,
    /// What the registry said of it.
    pub media_type: Option<String>,
    /// Where it came from.
    pub url: String,
}

impl<'a> Registry<'a> {
    pub fn new(
        fetch: &'a dyn Fetch,
        credentials: Credentials,
        configuration: Configuration,
        no_https: bool,
    ) -> Registry<'a> {
        let (bases, authorizations) = (Mutex::default(), Mutex::default());
        Registry { fetch, credentials, configuration, no_https, bases, authorizations }
    }

    /// The image and the places that it may come from. Only insecure hosts are asked anything here: whether they speak HTTPS.
    pub fn pull<'b>(&'b self, reference: &Reference, observer: &'b dyn Observer) -> Result<Pull<'b>, FetchError> {
        let mut sessions = Vec::new();
        let mut failures = Vec::new();
        for mut endpoint in self.configuration.endpoints(reference)? {
            endpoint.insecure |= self.no_https;
            match self.base_of(&endpoint) {
                Ok(base) => sessions.push(Session::new(self, Access::Pull, endpoint, base, reference, observer)),
                Err(error) => {
                    observer.observe(Event::Detail(format!("passing over {}: {error}", endpoint.host)));
                    failures.push(error);
                }
            }
        }
        if sessions.is_empty() {
            return Err(FetchError::all_of(failures, &reference.to_string()));
        }
        Ok(Pull { sessions, reference: reference.clone(), observer, patience: self.fetch.patience() })
    }

    /// Whether a registry takes the login that the credentials give. `Ok(false)`: it did not ask for any.
    pub fn check_login(&self, host: &str, observer: &dyn Observer) -> Result<bool, FetchError> {
        let reference = Reference { registry: host.to_owned(), repository: String::new(), tag: None, digest: None };
        let session = self.own_session(Access::Login, &reference, observer)?;
        let response = push::ask(&session, &Request::get(session.api("v2/")?), &[200], observer)?;
        drop(response);
        Ok(session.has_logged_in())
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Where an image would be pulled from, in order, and whether plain HTTP is allowed there.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, FetchError> {
        let mut endpoints = self.configuration.endpoints(reference)?;
        endpoints.iter_mut().for_each(|endpoint| endpoint.insecure |= self.no_https);
        Ok(endpoints)
    }

    /// The registry itself: what is written goes to no mirror.
    fn own_session<'b>(
        &'b self,
        access: Access,
        reference: &Reference,
        observer: &'b dyn Observer,
    ) -> Result<Session<'b>, FetchError> {
        let endpoints = self.configuration.endpoints(reference)?;
        let own = endpoints.into_iter().rfind(|endpoint| !endpoint.mirror);
        let mut endpoint = own.ok_or_else(|| FetchError::NoSource(reference.to_string()))?;
        endpoint.insecure |= self.no_https;
        let base = self.base_of(&endpoint)?;
        Ok(Session::new(self, access, endpoint, base, reference, observer))
    }

    /// `https://HOST/`; for an insecure host that knows no TLS, `http://HOST/`.
    fn base_of(&self, endpoint: &Endpoint) -> Result<Url, FetchError> {
        let secure = parse_url(&format!("https://{}/", endpoint.host))?;
        if !endpoint.insecure {
            return Ok(secure);
        }
        let mut bases = self.bases.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(base) = bases.get(&endpoint.host) {
            return Ok(base.clone());
        }
        let plain = parse_url(&format!("http://{}/", endpoint.host))?;
        let base = match self.ping(&secure) {
            Ok(()) => secure,
            Err(error) => match self.ping(&plain) {
                Ok(()) => plain,
                Err(_) => return Err(error),
            },
        };
        bases.insert(endpoint.host.clone(), base.clone());
        Ok(base)
    }

    /// Any answer shows that the scheme is right.
    fn ping(&self, base: &Url) -> Result<(), FetchError> {
        let mut request = Request::get(join(base, "v2/")?);
        request.insecure = true;
        self.fetch.send(&request).map(|_| ())
    }
}

fn join(base: &Url, path: &str) -> Result<Url, FetchError> {
    base.join(path).map_err(|error| FetchError::InvalidUrl { text: path.to_owned(), cause: error.to_string() })
}

/// One image and the places it may come from.
pub struct Pull<'a> {
    /// Not empty.
    sessions: Vec<Session<'a>>,
    reference: Reference,
    observer: &'a dyn Observer,
    patience: Patience,
}

impl Pull<'_> {
    /// The manifest or index under the reference's own digest or tag.
    pub fn manifest(&self) -> Result<ManifestDocument, FetchError> {
        self.manifest_at(&self.reference.identifier())
    }

    /// The manifest or index with a digest, as an index names it.
    pub fn manifest_of(&self, digest: &Digest) -> Result<ManifestDocument, FetchError> {
        self.manifest_at(&digest.to_string())
    }

    fn manifest_at(&self, identifier: &str) -> Result<ManifestDocument, FetchError> {
        let mut failures = Vec::new();
        for session in &self.sessions {
            match session.manifest(identifier) {
                Ok(document) => return Ok(document),
                Err(error) => {
                    if session.endpoint.mirror {
                        let text = format!("mirror {}: {error}", session.endpoint.host);
                        self.observer.observe(Event::Detail(text));
                    }
                    failures.push(error);
                }
            }
        }
        Err(FetchError::all_of(failures, &self.reference.to_string()))
    }

    /// Downloads blobs, each to its path, at most `concurrency` at a time.
    pub fn blobs(&self, wanted: &[(&Descriptor, PathBuf)], concurrency: usize) -> Result<Vec<Downloaded>, FetchError> {
        let mut jobs = Vec::new();
        for (descriptor, destination) in wanted {
            let digest = descriptor.digest.to_string();
            let urls =
                self.sessions.iter().map(|session| session.url("blobs", &digest)).collect::<Result<_, FetchError>>()?;
            let expected =
                Expected { digest: Some(descriptor.digest.clone()), size: Some(descriptor.size), most: None };
            jobs.push(Job { urls, destination: destination.clone(), expected, label: digest });
        }
        download_all(self, &jobs, concurrency, self.observer).map_err(|failed| failed.error)
    }
}

impl Fetch for Pull<'_> {
    fn send(&self, request: &Request) -> Result<Response, FetchError> {
        match self.sessions.iter().find(|session| session.owns(&request.url)) {
            Some(session) => session.send(request),
            None => Err(FetchError::NoSource(super::error::shown(&request.url))),
        }
    }

    fn patience(&self) -> Patience {
        self.patience.clone()
    }
}

#[cfg(test)]
mod tests;
