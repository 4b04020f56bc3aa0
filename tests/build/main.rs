//! The program itself: small images built from bases that the tests make, read back and compared.
//!
//! Every test has a directory of its own, with its store, its home and its working directory.

mod arch;
mod arch_mirror;
mod base;
mod definitions;
mod encrypted;
mod failures;
mod fakeroot;
mod flags;
mod image;
mod keyserver;
#[allow(dead_code)]
#[path = "../debian/mirror.rs"]
mod mirror;
mod place;
mod refusals;
mod registry;
mod reproducible;
mod reuse;
mod rpm;
mod rpm_faults;
mod rpm_mirror;
mod server;
mod shell;
mod sources;
mod space;
mod trust;
mod unprivileged;
mod vendor;
mod verify_reproducible;
mod walk;
