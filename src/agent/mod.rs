//! Bootstrap agents: where a base image comes from. Each answers what the outside world has, and hands over the layers.

pub mod blob;
pub mod busybox;
pub mod debian;
pub mod docker;
pub mod local;
pub mod oci;

pub use blob::{BlobError, ImageBase, LayerBlob, VerifiedReader};
