//! Why an archive does not answer which packages make up a base.

use crate::deb::index::IndexError;
use crate::deb::pin::PinError;
use crate::deb::release::ReleaseError;
use crate::deb::select::SelectError;
use crate::deb::signature::SignatureError;
use crate::fetch::FetchError;
use crate::openpgp::CleartextError;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    #[error("OSVersion {0:?} is not the name of a release, like bookworm or stable")]
    BadSuite(String),
    #[error(
        "there is no mirror for {suite}: the header has no MirrorURL, SIFBUILD_DEBIAN_MIRROR is not set, and this host's apt \
         configuration names none; add a line like `MirrorURL: http://HOST/debian`"
    )]
    NoMirror { suite: String },
    #[error("the mirror has no release {suite}: {cause}")]
    NoRelease { suite: String, cause: FetchError },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{url} {cause}")]
    Cleartext { url: String, cause: CleartextError },
    #[error("{url} {cause}")]
    Release { url: String, cause: ReleaseError },
    #[error("{url}: it is not UTF-8 text")]
    NotText { url: String },
    #[error("cannot read the keyring {path}: {cause}; --keyring FILE names another", path = path.display())]
    Keyring { path: PathBuf, cause: String },
    #[error(
        "there is no keyring to check {url} with: install the distribution's archive keyring (debian-archive-keyring, ubuntu-keyring) \
         or name one with --keyring FILE"
    )]
    NoKeyring { url: String },
    #[error("{url} is not trusted: {cause}; keyrings: {keyrings}; name another with --keyring FILE")]
    Signature { url: String, cause: SignatureError, keyrings: String },
    #[error(
        "{url} has expired: it was valid until {date}; the mirror is out of date or is kept back, or this machine's clock is wrong; \
         --ignore-valid-until accepts it"
    )]
    Expired { url: String, date: String },
    #[error("{url} is the release {found}, but {suite} was asked for")]
    OtherSuite { url: String, suite: String, found: String },
    #[error("{suite} has no {what} {name}; it has {available}")]
    Absent { suite: String, what: &'static str, name: String, available: String },
    #[error(
        "{url} is not the file that the signed release lists: {what} {found}, but {wanted} was promised; the mirror is being updated or damaged"
    )]
    WrongIndex { url: String, what: &'static str, wanted: String, found: String },
    #[error("{url} cannot be unpacked: {cause}")]
    Unpack { url: String, cause: io::Error },
    #[error("{url}: {cause}")]
    Index { url: String, cause: IndexError },
    #[error("the base as it was cannot be read: {0}")]
    Before(#[from] PinError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error("the kept answer {path} is damaged: {cause}; remove it", path = path.display())]
    Answer { path: PathBuf, cause: PinError },
}
