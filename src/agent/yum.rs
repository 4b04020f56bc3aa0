//! `Bootstrap: yum` and `dnf` without yum, dnf, rpm or root: repositories are asked and checked here, packages chosen here.
//!
//! The decisions are in [`crate::rpm`]. Source: facts §2.9.

mod error;
pub mod repository;
pub mod universe;

pub use error::YumError;
pub use repository::{Source, Trust};
pub use universe::{Choice, Question, choose};
