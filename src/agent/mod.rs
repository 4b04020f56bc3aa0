//! Bootstrap agents: where a base image comes from. Each answers what the outside world has, and hands over the layers.

pub mod arch;
pub mod busybox;
pub mod debian;
pub mod docker;
pub mod encrypted;
pub mod library;
pub mod local;
pub mod oci;
pub mod oras;
pub mod packages;
pub mod vendor;
pub mod yum;

use crate::digest::Digest;
use crate::oci::config::ImageConfig;
use crate::store::LayerBlob;

/// A base image, found and ready to be streamed.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageBase {
    /// Bottom up.
    pub layers: Vec<LayerBlob>,
    pub config: ImageConfig,
    /// Identifies the image. Archives of `docker save` have no manifest: there it is the config's digest (the image id).
    pub manifest_digest: Digest,
    /// What people call it: a full reference, or the path of the archive with the tag.
    pub name: String,
}
