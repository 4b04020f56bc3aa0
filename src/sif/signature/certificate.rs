//! X.509 certificates: the key of one whose chain holds and that is meant for signing code. Source: RFC 5280.

use super::key::{KeyError, PublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// A file of certificates is refused beyond this many bytes.
pub const MAXIMUM_CERTIFICATES: u64 = 4 << 20;
/// Spec: id-kp-codeSigning, 1.3.6.1.5.5.7.3.3, in DER without tag and length.
const CODE_SIGNING: &[u8] = &[0x2B, 6, 1, 5, 5, 7, 3, 3];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("the {what} cannot be read: {cause}")]
    Unreadable { what: &'static str, cause: String },
    #[error("there is no certificate in the {0}")]
    None(&'static str),
    #[error("the certificate is not trusted: {0}")]
    Untrusted(String),
    #[error("the certificate's key is of no use: {0}")]
    Key(#[from] KeyError),
}

/// The key of the first certificate of `leaf`, whose chain leads through `intermediates` to one of `roots` at the time `now` (Unix
/// seconds). All three are PEM; revocation is not asked for.
pub fn key(leaf: &[u8], intermediates: &[u8], roots: &[u8], now: i64) -> Result<PublicKey, CertificateError> {
    let leaf = read("certificate", leaf)?;
    let intermediates =
        if intermediates.is_empty() { Vec::new() } else { read("intermediate certificates", intermediates)? };
    let roots = read("root certificates", roots)?;
    let untrusted = |error: webpki::Error| CertificateError::Untrusted(error.to_string());
    let leaf = EndEntityCert::try_from(&leaf[0]).map_err(untrusted)?;
    let unreadable =
        |error: webpki::Error| CertificateError::Unreadable { what: "root certificates", cause: error.to_string() };
    let anchors = roots.iter().map(anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &intermediates,
        time,
        KeyUsage::required(CODE_SIGNING),
        None,
        None,
    )
    .map_err(untrusted)?;
    Ok(PublicKey::from_der(leaf.subject_public_key_info().as_ref())?)
}

fn read<'a>(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'a>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .map(|certificate| certificate.map(|certificate| CertificateDer::from(certificate.to_vec())))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::Unreadable { what, cause: error.to_string() })?;
    if certificates.is_empty() { Err(CertificateError::None(what)) } else { Ok(certificates) }
}
