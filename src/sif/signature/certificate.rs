//! X.509 certificates: the key of one whose chain holds and that is meant for signing code. Source: RFC 5280.

use super::key::{KeyError, PublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
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

/// The key of the first certificate, whose chain leads through `intermediates` to one of `roots` at the time `now` (Unix
/// seconds). Roots that cannot be read are as none. Revocation is not asked for.
pub fn key(
    leaf: &[CertificateDer<'_>],
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    now: i64,
) -> Result<PublicKey, CertificateError> {
    let leaf = leaf.first().ok_or(CertificateError::None("certificate"))?;
    let untrusted = |error: webpki::Error| CertificateError::Untrusted(error.to_string());
    let leaf = EndEntityCert::try_from(leaf).map_err(untrusted)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    let anchors = |certificates: &[&'_ [CertificateDer<'_>]]| -> Vec<TrustAnchor<'static>> {
        let all = certificates.iter().copied().flatten();
        all.filter_map(|root| anchor_from_trusted_cert(root).ok().map(|anchor| anchor.to_owned())).collect()
    };
    let check = |anchors: &[TrustAnchor<'_>], usage: KeyUsage| {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        leaf.verify_for_usage(algorithms, anchors, intermediates, time, usage, None, None).map(drop).map_err(untrusted)
    };
    check(&anchors(&[roots]), KeyUsage::required_if_present(CODE_SIGNING))?;
    // The leaf must say that it is for code; who issued it need not, which is only looked at where it is no anchor.
    check(&anchors(&[roots, intermediates]), KeyUsage::required(CODE_SIGNING))?;
    Ok(PublicKey::from_der(leaf.subject_public_key_info().as_ref())?)
}

/// The certificates of a PEM file, one at least; `what` names it in errors.
pub fn read<'a>(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'a>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .map(|certificate| certificate.map(|certificate| CertificateDer::from(certificate.to_vec())))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::Unreadable { what, cause: error.to_string() })?;
    if certificates.is_empty() { Err(CertificateError::None(what)) } else { Ok(certificates) }
}
