//! pacman's repositories, as values: databases, versions, the choice of packages, pins, and the script that installs them.
//!
//! Nothing here asks the world; `agent::arch` does. Sources: alpm-repo-db(7), pacman(8), pacman.conf(5), PKGBUILD(5), libalpm's
//! `deps.c`, `version.c` and `sync.c` for what is chosen.

pub mod bootstrap;
pub mod configuration;
pub mod database;
pub mod package;
pub mod pin;
pub mod relation;
pub mod script;
pub mod select;
pub mod version;

pub use pin::PacmanPin;
