//! What is said of data that the `pgp` crate cannot read.
//!
//! Invariant: none of that crate's own texts is shown. They hold the input that was not understood, which may be a secret key's.

use pgp::errors::Error;

pub(super) fn describe(error: &Error) -> &'static str {
    match error {
        Error::Unsupported { .. } | Error::Unimplemented { .. } => "its version or algorithm is not known here",
        Error::InvalidChecksum | Error::ChecksumMissmatch { .. } => "its checksum does not fit",
        Error::NoMatchingPacket { .. } => "a packet is missing, or is of another kind",
        _ => "it is damaged",
    }
}
