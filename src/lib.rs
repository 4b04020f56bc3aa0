//! sifbuild: a daemonless build engine for Singularity/Apptainer definition files.
//!
//! The walk is one line:
//!
//! ```text
//! text ─parse→ Definition ─pin→ Pins ─plan→ Plan ─perform→ Layers ─pack→ Image
//! ```
//!
//! Images travel, too: `fetch::registry` speaks with registries both ways, `oci::artifact` says what a SIF is there, `agent::oras` pushes,
//! attaches and provides bases.
//!
//! The image may be signed on its way out (`build --sign`), and a base's signatures judged on its way in: [`openpgp`] has the keys and
//! the one policy that judges what they signed, [`sif::signature`] what is signed of an image, [`keyrings`] the files where keys are kept.
//!
//! Modules in strata; each imports only from lower ones (`tests/layers.rs` holds the table).

pub mod agent;
pub mod arch;
pub mod archive;
pub mod build;
pub mod calendar;
pub mod cli;
pub mod deb;
pub mod definition;
pub mod diagnostic;
pub mod digest;
pub mod disk;
pub mod doctor;
pub mod event;
pub mod fetch;
pub mod keyrings;
pub mod luks;
pub mod oci;
pub mod openpgp;
pub mod pacman;
pub mod pins;
pub mod plan;
pub mod rpm;
pub mod sandbox;
pub mod sif;
pub mod skeleton;
pub mod solve;
pub mod source;
pub mod squashfs;
pub mod store;
pub mod tree;
pub mod trust;
