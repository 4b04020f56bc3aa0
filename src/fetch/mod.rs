//! Bytes from elsewhere: files over HTTP, images from registries, and the credentials for them.
//!
//! - [`http`]: the one trait [`http::Fetch`]; [`client`]: its real implementor [`client::Client`], synchronous outside, tokio and reqwest inside.
//! - [`retry`]: when to ask again, and [`retry::get`] for small documents.
//! - [`download`]: whole files, resumed, hashed as they arrive, mirrors in turn, several at once.
//! - [`auth`]: which credential belongs to a registry, and where it was found.
//! - [`keyserver`]: OpenPGP keys by HKP.
//! - [`library`]: images of the service that Sylabs' cloud runs.
//! - [`registry`]: the OCI distribution protocol, both ways.
//!
//! Everything read from outside is bounded in size and in time; no error and no `Debug` text holds a secret.

pub mod auth;
mod body;
pub mod client;
pub mod download;
pub mod error;
#[cfg(test)]
pub(crate) mod fake_server;
pub mod http;
pub mod keyserver;
pub mod library;
pub mod registry;
pub mod retry;
pub mod trust;

pub use error::FetchError;
