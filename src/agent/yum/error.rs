//! Why repositories do not answer which packages make up a base.

use crate::fetch::FetchError;
use crate::openpgp::Refusal;
use crate::openpgp::policy::BlockError;
use crate::rpm::metadata::modules::ModuleError;
use crate::rpm::metadata::{Checksum, MetadataError};
use crate::rpm::pin::PinError;
use crate::rpm::solve::{RequestError, SolveError};
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum YumError {
    #[error("{0:?} is not NAME=URL, with a name of letters, digits and .-_ that no other repository has")]
    BadSource(String),
    #[error("packages for {0} are not known")]
    Architecture(&'static str),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the repository {repository} has no usable mirror: {failures}")]
    NoMirror { repository: String, failures: String },
    #[error("{url}: {cause}")]
    Metadata { url: String, cause: MetadataError },
    #[error(
        "{url} is not the file that repomd.xml lists: its {what} is {found}, but {wanted} was promised; the mirror is being updated or damaged"
    )]
    WrongFile { url: String, what: &'static str, wanted: String, found: String },
    #[error("{repository}: {cause}; repomd.xml lists this file: the mirror is being updated or is incomplete")]
    Absent { repository: String, cause: FetchError },
    #[error("{url} is checked by {checksum}, which can be forged: SHA-1 is accepted with --allow-sha1 only")]
    WeakChecksum { url: String, checksum: Checksum },
    #[error("{url}: it is older or newer than the metalink says, and none of its checksums fits")]
    NotOfMetalink { url: String },
    #[error(
        "{url} is signed, but there is no key to check it with: name one with --keyring FILE, or turn the check off with --no-check-signatures"
    )]
    NoKey { url: String },
    #[error("{url}: {cause}")]
    Block { url: String, cause: BlockError },
    #[error("{url} is not trusted: {}; name another key with --keyring FILE", .refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Signature { url: String, refusals: Vec<Refusal> },
    #[error("cannot read the key {path}: {cause}", path = path.display())]
    Key { path: PathBuf, cause: String },
    #[error("{repository}: the repository has {what}, which is larger than {limit} bytes")]
    TooLarge { repository: String, what: &'static str, limit: u64 },
    #[error("{0}: %{{OSVERSION}} or $releasever has no value; add a line like `OSVersion: 9`")]
    NoVersion(String),
    #[error("Setopt: {0:?} is not NAME=VALUE, or has a value that is not known")]
    BadSetopt(String),
    #[error(
        "there is no key to check packages with: name the distribution's key with --keyring FILE, its https address in the header (`ProductPGP: URL`) or in GPG=URL, or its \
         fingerprint in the header (`Fingerprints: …`, of a key that the repository carries as repodata/repomd.xml.key); \
         --no-check-signatures builds without"
    )]
    NoKeys,
    #[error("the key at {url} cannot be used: {cause}")]
    KeyAddress { url: String, cause: String },
    #[error("the repositories have no rpm to install the packages with: {0}")]
    NoRpm(RequestError),
    #[error("{0} does not lie in its repository, but elsewhere; that is not known here")]
    Elsewhere(String),
    #[error("the base as it was cannot be read: {0}")]
    Before(#[from] PinError),
    #[error(transparent)]
    Modules(#[from] ModuleError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Solve(#[from] SolveError),
}

impl YumError {
    /// Whether a mirror has not what its own `repomd.xml` lists: it may have changed since that was read.
    pub fn is_change(&self) -> bool {
        matches!(self, YumError::WrongFile { .. } | YumError::Absent { .. })
    }
}
