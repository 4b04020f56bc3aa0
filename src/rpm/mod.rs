//! RPM: versions, dependencies, what a repository says of its packages, the choice of packages, and package files.
//!
//! By part: [`version`] compares, [`dependency`] reads rich dependencies, [`metadata`] reads a repository's files, [`pool`] holds all
//! packages of all repositories, [`solve`] chooses. Pure: bytes come in as `Read`, nothing here asks the network or a clock.
//!
//! Sources: rpm's own documentation (docs/manual), createrepo_c, the modulemd specification, libsolv's documented policies.

pub mod bootstrap;
pub mod dependency;
pub mod header;
pub mod metadata;
pub mod package;
pub mod pin;
pub mod pool;
pub mod script;
pub mod solve;
pub mod state;
pub mod version;
