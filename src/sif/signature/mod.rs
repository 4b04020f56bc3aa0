//! Signatures in an image: over the header, the descriptors and the bytes of the objects of one group.
//!
//! A signature is an object of its own. It holds [`metadata`], the digests of what it covers, either as an OpenPGP cleartext message
//! or in a DSSE [`envelope`] of a bare key. By file: [`digest`] is what is hashed, [`sign`](mod@sign) appends signatures,
//! [`verify`](mod@verify) judges all that are there, [`legacy`] is the form before Singularity 3.6, [`certificate`] finds the key of an
//! X.509 certificate whose chain holds, [`report`] is what was found.
//!
//! # What no signature covers
//! Of the header: architecture, modification time, descriptor counts, and where the table and the data lie. Of a descriptor: its group,
//! its place, its padded size and its modification time. Everything outside of the objects. [`report::Report`] says where this matters.
//!
//! Source: the sif library's `pkg/integrity`, observed with Apptainer 1.4; DSSE protocol version 1.

pub mod certificate;
pub mod digest;
pub mod envelope;
mod key;
pub mod legacy;
pub mod metadata;
pub mod report;
pub mod sign;
pub mod verify;

#[cfg(test)]
mod tests;

pub use key::{KeyError, MAXIMUM_KEY_FILE, PrivateKey, PublicKey};
pub use report::{Fault, Report, SignatureReport, Signer};
pub use sign::{SignError, SignWith, Signatory, sign};
pub use verify::{Material, VerifyError, issuers, verify};

/// Which objects are signed or verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// Every group by a signature of its own. Of legacy signatures: the primary partition.
    #[default]
    Groups,
    Group(u32),
    /// One object, alone in its signature.
    Object(u32),
    /// Every object that is no signature, each by a legacy signature of its own.
    EachObject,
}
