//! The files of a repository: what it has (`repomd.xml`), its packages, their files, groups and module streams, and lists of mirrors.
//!
//! Everything is read as a stream: one element is in memory at a time, and each is bounded. Sources: createrepo_c, the comps
//! format of dnf, the modulemd specification (version 2), RFC 5854 and its forerunner Metalink 3.

pub mod checksum;
pub mod compact;
pub mod comps;
pub mod filelists;
pub mod mirrors;
pub mod modules;
pub mod primary;
pub mod repomd;
mod xml;
mod yaml;

pub use checksum::{Checksum, ChecksumAlgorithm};
pub use repomd::{Data, Repomd};

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error("the XML is damaged: {0}")]
    Xml(String),
    #[error("the YAML is damaged: {0}")]
    Yaml(String),
    #[error("it is not what it should be: {0}")]
    Content(String),
    #[error("it is too large: {0}")]
    TooLarge(&'static str),
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
}
