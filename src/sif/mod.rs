//! The Singularity Image Format: one file that holds a filesystem, what it was built from, and signatures over both.
//!
//! Knows nothing of definitions or builds. Purpose by file: [`format`] is the bytes of the header and the descriptors,
//! [`reader`] trusts nothing, [`writer`] makes a new image in one pass, [`edit`] changes one in place, [`dump`] prints,
//! [`metadata`] is the `inspect-metadata.json` object, [`wrapped_key`] the key of an encrypted partition.
//!
//! Sources: the sif library's specification (version 01) and images made by Apptainer 1.4 and Singularity 3.

mod codes;
pub mod dump;
pub mod edit;
pub mod format;
pub mod metadata;
pub mod reader;
pub mod signature;
pub mod wrapped_key;
pub mod writer;

#[cfg(test)]
mod tests;
