//! Images from a library: the service that Sylabs' cloud runs and that sites run themselves.
//!
//! [`Settings`] say which service is meant: the one that is named, else the active endpoint of `remote.yaml`. [`Library`] asks it.
//!
//! Sources: facts §2.3, §6.5, §6.10.

mod reference;
mod remote;

pub use reference::{LibraryReference, LibraryReferenceError};
pub use remote::{Remote, parse_remotes};

use super::auth::Secret;
use super::download::{Expected, download};
use super::error::{FetchError, shown};
use super::http::{Fetch, Request, Response, Url, parse_url};
use super::retry::{Patience, get};
use crate::arch::Arch;
use crate::digest::{Algorithm, Digest};
use crate::event::Observer;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// No answer but an image is larger.
const LARGEST_ANSWER: u64 = 4 << 20;

/// Which library a build uses.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `--library`.
    pub address: Option<String>,
    /// `remote.yaml` of the user, then of the system.
    pub remotes: Vec<PathBuf>,
    /// `--no-https`: plain HTTP for services that are named without a scheme.
    pub no_https: bool,
}

/// A library that can be asked.
pub struct Library<'a> {
    fetch: &'a dyn Fetch,
    base: Url,
    token: Option<Secret>,
}

/// What a library knows of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryImage {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    #[error(
        "no library service is configured (Apptainer has none by default): name one with `Library: URL` in the header, with --library URL or with \
         SIFBUILD_LIBRARY; Sylabs' is https://library.sylabs.io"
    )]
    NoService,
    #[error("the endpoint {uri}, which {path} names, has no library service; name one with --library URL", path = path.display())]
    NotThere { uri: String, path: PathBuf },
    #[error("the library {library} has no {reference} for {arch}: check the name, the tag and the architecture")]
    NotFound { library: String, reference: String, arch: Arch },
    #[error(
        "the library {library} refused access to {reference}: a token is needed, or another one (`apptainer remote login` keeps it)"
    )]
    Refused { library: String, reference: String },
    #[error("the library {library} gave {found:?} as the digest of {reference}, where sha256.HEX was expected")]
    Digest { library: String, reference: String, found: String },
    #[error("cannot read {path}: {cause}", path = path.display())]
    Remotes { path: PathBuf, cause: String },
    #[error(transparent)]
    Reference(#[from] LibraryReferenceError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

#[derive(Deserialize)]
struct ImageAnswer {
    data: Option<ImageData>,
}

#[derive(Deserialize)]
struct ImageData {
    #[serde(default)]
    hash: String,
    size: Option<u64>,
}

#[derive(Deserialize)]
struct SearchAnswer {
    data: Option<SearchData>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SearchData {
    image: Option<Vec<SearchImage>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SearchImage {
    entity_name: String,
    collection_name: String,
    container_name: String,
    tags: Option<Vec<String>>,
    arch: Option<String>,
}

impl Settings {
    pub fn from_environment(
        address: Option<String>,
        no_https: bool,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Settings {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let own = get("APPTAINER_CONFIGDIR").or_else(|| get("HOME").map(|home| home.join(".apptainer")));
        let directories = own.into_iter().chain([PathBuf::from("/etc/apptainer")]);
        Settings { address, remotes: directories.map(|directory| directory.join("remote.yaml")).collect(), no_https }
    }

    /// The library for an image: of the header, of the reference itself, of the command line, of `remote.yaml`.
    pub fn open<'a>(
        &self,
        header: Option<&str>,
        reference: &LibraryReference,
        fetch: &'a dyn Fetch,
        observer: &dyn Observer,
    ) -> Result<Library<'a>, LibraryError> {
        match header.or(reference.host.as_deref()) {
            Some(address) => Ok(Library { fetch, base: self.address(address)?, token: None }),
            None => self.usual(fetch, observer),
        }
    }

    /// The library where no other is named: of the command line, of `remote.yaml`.
    pub fn usual<'a>(&self, fetch: &'a dyn Fetch, observer: &dyn Observer) -> Result<Library<'a>, LibraryError> {
        match &self.address {
            Some(address) => Ok(Library { fetch, base: self.address(address)?, token: None }),
            None => self.active(fetch, observer),
        }
    }

    /// The library with this address; with the token that `remote.yaml` has for it.
    pub fn open_at<'a>(
        &self,
        url: &str,
        fetch: &'a dyn Fetch,
        observer: &dyn Observer,
    ) -> Result<Library<'a>, LibraryError> {
        let base = self.address(url)?;
        match self.active(fetch, observer) {
            Ok(library) if library.base == base => Ok(library),
            _ => Ok(Library { fetch, base, token: None }),
        }
    }

    /// The service of `remote.yaml`'s active endpoint.
    fn active<'a>(&self, fetch: &'a dyn Fetch, observer: &dyn Observer) -> Result<Library<'a>, LibraryError> {
        for path in &self.remotes {
            let Some(remote) = remote::read_active(path)? else { continue };
            let scheme = if remote.insecure { "http" } else { "https" };
            let url = parse_url(&format!("{scheme}://{}/assets/config/config.prod.json", remote.uri))?;
            let document = get(fetch, &Request::get(url), LARGEST_ANSWER, observer)?;
            let answer: serde_json::Value = serde_json::from_slice(&document.bytes)
                .map_err(|error| FetchError::Protocol { url: document.url, cause: error.to_string() })?;
            let service = answer["libraryAPI"]["uri"].as_str().filter(|uri| !uri.is_empty());
            let Some(service) = service else {
                return Err(LibraryError::NotThere { uri: remote.uri, path: path.clone() });
            };
            let base = self.address(service)?;
            // A service that is not secure gets no token, unless the endpoint itself may be insecure.
            let token = remote.token.filter(|_| base.scheme() == "https" || remote.insecure);
            return Ok(Library { fetch, base, token });
        }
        Err(LibraryError::NoService)
    }

    fn address(&self, text: &str) -> Result<Url, FetchError> {
        let scheme = if self.no_https { "http" } else { "https" };
        let text = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
        let mut url = parse_url(&text)?;
        let strange = !url.username().is_empty() || url.password().is_some();
        if strange || url.query().is_some() || url.fragment().is_some() {
            let cause = "the address of a library has neither user, query (`?`) nor fragment (`#`)".to_owned();
            return Err(FetchError::InvalidUrl { text, cause });
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(url)
    }
}

impl Library<'_> {
    /// Where it is.
    pub fn url(&self) -> String {
        self.base.to_string()
    }

    /// Which image a reference names now.
    pub fn image(
        &self,
        reference: &LibraryReference,
        arch: Arch,
        observer: &dyn Observer,
    ) -> Result<LibraryImage, LibraryError> {
        let request = Request::get(self.endpoint("images", reference, arch)?);
        let document =
            get(self, &request, LARGEST_ANSWER, observer).map_err(|error| self.explain(error, reference, arch))?;
        let answer: ImageAnswer = serde_json::from_slice(&document.bytes)
            .map_err(|error| FetchError::Protocol { url: document.url, cause: error.to_string() })?;
        let not_found =
            || LibraryError::NotFound { library: shown(&self.base), reference: reference.to_string(), arch };
        let data = answer.data.ok_or_else(not_found)?;
        let digest = parse_hash(&data.hash).ok_or_else(|| LibraryError::Digest {
            library: shown(&self.base),
            reference: reference.to_string(),
            found: data.hash.chars().take(100).collect(),
        })?;
        if let Some(wanted) = reference.digest().filter(|wanted| *wanted != digest) {
            return Err(FetchError::WrongDigest { url: shown(&self.base), wanted, found: digest }.into());
        }
        let size = data.size.filter(|size| *size > 0).ok_or_else(|| FetchError::Protocol {
            url: shown(&self.base),
            cause: format!("it does not tell how large {reference} is"),
        })?;
        Ok(LibraryImage { digest, size })
    }

    /// Downloads the image to `destination`, which appears complete and with the right digest only.
    pub fn download(
        &self,
        reference: &LibraryReference,
        arch: Arch,
        image: &LibraryImage,
        destination: &Path,
        observer: &dyn Observer,
    ) -> Result<(), LibraryError> {
        let url = self.endpoint("imagefile", &reference.with_digest(&image.digest), arch)?;
        let expected = Expected { digest: Some(image.digest.clone()), size: Some(image.size), most: None };
        download(self, &[url], destination, &expected, observer, &reference.to_string())
            .map_err(|error| self.explain(error, reference, arch))?;
        Ok(())
    }

    /// Images whose names hold `text`, as `library://…` with tags and architectures.
    pub fn search(&self, text: &str, arch: Arch, observer: &dyn Observer) -> Result<Vec<String>, LibraryError> {
        let mut url = self.join("v1/search")?;
        url.query_pairs_mut().append_pair("value", text).append_pair("arch", arch.oci());
        let document = get(self, &Request::get(url), LARGEST_ANSWER, observer)?;
        let answer: SearchAnswer = serde_json::from_slice(&document.bytes)
            .map_err(|error| FetchError::Protocol { url: document.url, cause: error.to_string() })?;
        let images = answer.data.unwrap_or_default().image.unwrap_or_default();
        Ok(images
            .into_iter()
            .map(|image| {
                let name = [image.entity_name, image.collection_name, image.container_name].join("/");
                let tags = image.tags.unwrap_or_default().join(",");
                format!("library://{name}:{tags}  {}", image.arch.unwrap_or_default())
            })
            .collect())
    }

    fn join(&self, path: &str) -> Result<Url, FetchError> {
        self.base.join(path).map_err(|error| FetchError::InvalidUrl { text: path.to_owned(), cause: error.to_string() })
    }

    fn endpoint(&self, kind: &str, reference: &LibraryReference, arch: Arch) -> Result<Url, FetchError> {
        let mut url = self.join(&format!("v1/{kind}/{reference}"))?;
        url.query_pairs_mut().append_pair("arch", arch.oci());
        Ok(url)
    }

    fn explain(&self, error: FetchError, reference: &LibraryReference, arch: Arch) -> LibraryError {
        let (library, reference) = (shown(&self.base), reference.to_string());
        match error.status() {
            Some(404) => LibraryError::NotFound { library, reference, arch },
            Some(401 | 403) => LibraryError::Refused { library, reference },
            _ => error.into(),
        }
    }
}

/// Puts the token on what goes to the library itself; where that leads to another host, the client leaves it out.
impl Fetch for Library<'_> {
    fn send(&self, request: &Request) -> Result<Response, FetchError> {
        let own = request.url.origin() == self.base.origin();
        let token = self.token.as_ref().filter(|_| own);
        let authorization = token.map(|token| Secret::new(format!("Bearer {}", token.reveal())));
        self.fetch.send(&Request { authorization, ..request.clone() })
    }

    fn patience(&self) -> Patience {
        self.fetch.patience()
    }
}

/// `sha256.HEX`.
fn parse_hash(text: &str) -> Option<Digest> {
    Digest::from_hex(Algorithm::Sha256, text.strip_prefix("sha256.")?).ok()
}

#[cfg(test)]
mod tests;
