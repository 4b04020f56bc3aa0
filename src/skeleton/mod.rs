//! `/.singularity.d` and its surroundings, as changes of a tree: what the runtime relies on in every image.
//!
//! Source: facts §4 (base environment, metadata, OCI translation, apps) and §1.4 (scripts). The runtime scripts in
//! `scripts/` are our own, written from the behaviour that facts §4.1 describes.
//!
//! Everything here is a function of its arguments: the merged tree below, the definition, what the clock and the
//! registry said. Files of the tree are read through a [`Read`].

mod apps;
mod base;
mod changes;
mod json;
mod labels;
mod metadata;
mod oci;
mod quote;
mod reproducible;
mod script;

pub use apps::apps;
pub use base::{Origin, after_base, base_environment, version};
pub use json::write_labels;
pub use labels::{Timestamp, UNCHECKED_LABEL, unchecked_label};
pub use metadata::{BaseImage, MetadataInputs, definition_metadata};
pub use oci::{OciRuntime, oci_runtime};
pub use reproducible::{Why, reproducible};
pub use script::{ScriptArgumentsError, file_script, post_script, script_argv};

use crate::tree::TreePath;

/// Gives the bytes of a regular file of the tree below, by its real path (no symlink on the way); `None` when it
/// cannot be read.
pub type Read<'a> = &'a dyn Fn(&TreePath) -> Option<Vec<u8>>;

#[cfg(test)]
mod tests;
