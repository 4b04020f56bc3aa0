//! Images on this host: OCI layouts and archives, `docker save` archives, and a Docker daemon's images.
//!
//! Sources: OCI image-spec image-layout.md; Docker image specification 1.2 ("Combined Image JSON + Filesystem Changeset
//! Format"); Docker Engine API `GET /images/{name}/get`. Facts §2.2.
//!
//! Archives are not unpacked: a layer is a range of the archive's file. Only a compressed archive, and what a daemon sends,
//! is written once into the caller's work directory, which must live as long as the layers are read.

mod container;
mod daemon;
mod docker;
mod layout;

use super::ImageBase;
use crate::archive::tar;
use crate::digest::Digest;
use crate::oci::MAXIMUM_DOCUMENT;
use crate::oci::config::ConfigError;
use crate::oci::manifest::{ManifestError, Target};
pub(super) use container::Container;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// How an image on this host is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Oci,
    OciArchive,
    DockerArchive,
    DockerDaemon,
}

impl Transport {
    /// As in `Bootstrap:` and in front of the colon of a URI.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Oci => "oci",
            Transport::OciArchive => "oci-archive",
            Transport::DockerArchive => "docker-archive",
            Transport::DockerDaemon => "docker-daemon",
        }
    }
}

/// One image on this host: `PLACE[:REFERENCE][@DIGEST]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub transport: Transport,
    /// Directory or file; of a daemon, the image's name.
    pub place: PathBuf,
    /// A tag, or a full name with its tag.
    pub reference: Option<String>,
    pub digest: Option<Digest>,
}

/// What opening an image needs besides its source.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub target: &'a Target,
    /// For archives that must be unpacked first. The caller removes it after the last layer was read.
    pub work: &'a Path,
    /// `DOCKER_HOST` or the flag; absent: the usual sockets.
    pub docker_host: Option<&'a str>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    #[error("{path} is not a readable archive: {cause}")]
    Archive { path: PathBuf, cause: tar::Error },
    #[error("{path} is not {what}: {cause}")]
    NotAnImage { path: PathBuf, what: &'static str, cause: String },
    #[error("{path}: {cause}")]
    Manifest { path: PathBuf, cause: ManifestError },
    #[error("{path}: {cause}")]
    Config { path: PathBuf, cause: ConfigError },
    #[error("{path}: the {what} {name} is missing")]
    Missing { path: PathBuf, what: &'static str, name: String },
    #[error("{path}: the {what} {name} has {actual} bytes, but {expected} are promised")]
    WrongSize { path: PathBuf, what: &'static str, name: String, expected: u64, actual: u64 },
    #[error("{path}: the {what} {name} has {size} bytes, more than the {} that are read", MAXIMUM_DOCUMENT)]
    TooLarge { path: PathBuf, what: &'static str, name: String, size: u64 },
    #[error("{path}: the {what} is corrupt: it has the digest {actual}, not {expected}")]
    WrongDigest { path: PathBuf, what: &'static str, expected: Digest, actual: Digest },
    #[error("{path} holds no image {wanted:?}; it holds {available}")]
    NoSuchImage { path: PathBuf, wanted: String, available: String },
    #[error("{path} holds several images, so a tag or a digest must be given: {available}")]
    SeveralImages { path: PathBuf, available: String },
    #[error("{path}: the manifest has {layers} layers, but the image config {diff_ids}")]
    LayerCount { path: PathBuf, layers: usize, diff_ids: usize },
    #[error("the Docker daemon's address {address:?} is not supported: only unix:// sockets are")]
    DaemonAddress { address: String },
    #[error("no Docker daemon answers: {tried}")]
    NoDaemon { tried: String },
    #[error("the Docker daemon at {socket} does not give the image {image}: {cause}")]
    Daemon { socket: PathBuf, image: String, cause: String },
    #[error("{name:?} is not the name of an image in a Docker daemon: {cause}")]
    DaemonName { name: String, cause: String },
}

impl Source {
    /// Takes the part behind `TRANSPORT:`. A path may hold colons: the longest beginning that exists is the path.
    pub fn parse(transport: Transport, from: &str) -> Source {
        if transport == Transport::DockerDaemon {
            return Source { transport, place: from.into(), reference: None, digest: None };
        }
        let whole = |place: &str, reference: Option<&str>, digest| Source {
            transport,
            place: place.into(),
            reference: reference.filter(|text| !text.is_empty()).map(str::to_owned),
            digest,
        };
        if Path::new(from).exists() {
            return whole(from, None, None);
        }
        let (rest, digest) = match from.rsplit_once('@') {
            Some((rest, text)) if text.parse::<Digest>().is_ok() => (rest, text.parse::<Digest>().ok()),
            _ => (from, None),
        };
        let colons: Vec<usize> = rest.match_indices(':').map(|(at, _)| at).collect();
        let existing = colons.iter().rev().find(|at| Path::new(&rest[..**at]).exists()).or(colons.first());
        match existing {
            _ if Path::new(rest).exists() => whole(rest, None, digest),
            Some(at) => whole(&rest[..*at], Some(&rest[at + 1..]), digest),
            None => whole(rest, None, digest),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.transport.name(), self.place.display())?;
        if let Some(reference) = &self.reference {
            write!(formatter, ":{reference}")?;
        }
        match &self.digest {
            Some(digest) => write!(formatter, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Finds the image and its layers. Documents are verified here, layers when they are read.
pub fn open(source: &Source, context: Context<'_>) -> Result<ImageBase, Error> {
    let mut base = match source.transport {
        Transport::Oci => layout::open(&Container::directory(&source.place)?, source, context)?,
        Transport::OciArchive => layout::open(&Container::archive(&source.place, context.work)?, source, context)?,
        Transport::DockerArchive => open_docker(&Container::archive(&source.place, context.work)?, source, context)?,
        Transport::DockerDaemon => {
            let file = daemon::save(&source.place.to_string_lossy(), context)?;
            open_docker(&Container::archive(&file, context.work)?, source, context)?
        }
    };
    base.name = source.to_string();
    Ok(base)
}

/// Since Docker 25 `docker save` writes an OCI layout with the old form's files beside it.
fn open_docker(container: &Container, source: &Source, context: Context<'_>) -> Result<ImageBase, Error> {
    if container.has("index.json") && container.has("oci-layout") {
        layout::open(container, source, context)
    } else {
        docker::open(container, source)
    }
}

/// For messages: at most 20 names.
fn list(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.map(|name| name.chars().take(200).collect()).collect();
    let more = names.len().saturating_sub(20);
    names.truncate(20);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (_, 0) => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}
