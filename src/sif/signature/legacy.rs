//! Signatures of Singularity before 3.6: a cleartext message that says no more than the digest of bytes. Nothing ties it to the image, the
//! header, the kind or the name of the object; it is verified only when that is asked for.
//!
//! Spec: `SIFHASH:`, a line end, hexadecimal digits; the hash is named by the signature's descriptor.

use super::digest::{Algorithm, Checksum};

const BEGINNING: &str = "SIFHASH:\n";

/// Whether a signed text is of this form.
pub fn is_legacy(text: &str) -> bool {
    text.starts_with(BEGINNING)
}

/// The digest that a signed text names.
pub fn parse(text: &str, algorithm: Algorithm) -> Option<Checksum> {
    Checksum::from_hexadecimal(algorithm, text.strip_prefix(BEGINNING)?.trim_end_matches('\n'))
}
