//! Debian archives, as values: versions, relations, control files, releases and their signatures, package indexes, the
//! choice of packages for a base system, and what makes an unpacked base a working one.
//!
//! Nothing here asks the world; `agent::debian` does. Sources: Debian Policy, deb(5), deb822(5), the repository format
//! (wiki.debian.org/DebianRepository/Format), `debootstrap`'s behaviour.

pub mod base;
pub mod control;
pub mod index;
pub mod package;
pub mod pin;
pub mod relation;
pub mod release;
pub mod script;
pub mod select;
pub mod signature;
pub mod sources;
pub mod version;

pub use pin::{DebianPin, PackagePin, Variant};
