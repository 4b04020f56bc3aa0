//! Why pacman's repositories do not answer which packages make up a base.

use crate::agent::yum::YumError;
use crate::fetch::FetchError;
use crate::openpgp::policy::BlockError;
use crate::openpgp::{Issuer, Refusal};
use crate::pacman::configuration::ConfigurationError;
use crate::pacman::database::DatabaseError;
use crate::pacman::select::SelectError;

#[derive(Debug, thiserror::Error)]
pub enum ArchError {
    #[error(
        "packages for {0} are not in the distribution's own mirror: name one that has them with `MirrorURL: https://HOST/$arch/$repo`"
    )]
    Architecture(&'static str),
    #[error("{url} is for {wanted}, but {found} is built")]
    OtherArchitecture { url: String, wanted: String, found: &'static str },
    #[error("MirrorURL {0} must hold `$repo`, which stands for the name of each repository")]
    NoRepository(String),
    #[error("ConfURL {url}: {cause}")]
    Configuration { url: String, cause: ConfigurationError },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Keys(#[from] YumError),
    #[error(
        "there is no key to check packages with: name the distribution's keyring with --keyring FILE (archlinux.gpg of the package \
         archlinux-keyring) or its https address in the header (`ProductPGP: URL`); --no-check-signatures builds without"
    )]
    NoKeys,
    #[error("the repository {repository} has no usable mirror: {failures}")]
    NoMirror { repository: String, failures: String },
    #[error("{url} {cause}")]
    Database { url: String, cause: DatabaseError },
    #[error("{url} is not trusted: {}; name another key with --keyring FILE", .refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Signature { url: String, refusals: Vec<Refusal> },
    #[error("{url}: the signature cannot be judged: {cause}")]
    Block { url: String, cause: BlockError },
    #[error("the package {package} is not signed, neither in its database nor beside it: {cause}")]
    Unsigned { package: String, cause: FetchError },
    #[error(
        "the package {package} is signed by the key {issuer}, which is not in the keyring; name another with --keyring FILE"
    )]
    UnknownSigner { package: String, issuer: Issuer },
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error("the repositories have no pacman to install the packages with: {0}")]
    NoPacman(SelectError),
}
