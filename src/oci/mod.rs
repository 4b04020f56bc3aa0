//! OCI and Docker image documents as values: references, manifests and indexes, image configs.
//!
//! Sources: OCI image-spec 1.1, Docker image manifest version 2 schema 2, distribution's reference grammar (facts §2.2).

pub mod artifact;
pub mod config;
pub mod manifest;
pub mod reference;
pub mod vendor;

/// Largest manifest, index or config that is read, in bytes (the registry limit is 4 MiB).
pub const MAXIMUM_DOCUMENT: usize = 8 << 20;
