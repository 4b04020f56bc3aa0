//! Whether a package file is what somebody whom we trust signed.
//!
//! The header is signed, and says the payload's digest; older packages have a signature over both together. MD5 and SHA-1 prove
//! nothing here. Source: rpm's manual, "Signatures and digests".

use super::{Package, PackageError};
use crate::openpgp::policy::BlockError;
use crate::openpgp::{Judge, Refusal};
use crate::rpm::header::{HeaderError, tag};
use crate::rpm::metadata::checksum::ChecksumHasher;
use crate::rpm::metadata::{Checksum, ChecksumAlgorithm};
use base64::Engine;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes of a package whose signature is over header and payload together: it is judged in memory.
pub const MAXIMUM_SIGNED_WHOLE: u64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error("it is not signed")]
    Unsigned,
    #[error("its signature cannot be judged: {0}")]
    Block(#[from] BlockError),
    #[error("no signature of it is good: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoneGood(Vec<Refusal>),
    #[error("its header is damaged: its digest is {found}, but {wanted} was promised")]
    Header { wanted: String, found: String },
    #[error("its payload is damaged: its digest is {found}, but {wanted} was promised")]
    Payload { wanted: String, found: String },
    #[error("its payload is covered by nothing stronger than SHA-1 or MD5")]
    PayloadUncovered,
    #[error("it is {found}, not {wanted}")]
    OtherPackage { wanted: String, found: String },
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Which signatures count.
pub enum PackageTrust<'a, 'k> {
    /// One must be good.
    Keys(&'a mut Judge<'k>),
    /// Digests only.
    Unchecked,
}

/// Checks a package file from its beginning. `nevra` is what it must be; `is_covered`: its whole file was compared with a strong checksum
/// from signed metadata. Gives the fingerprints of the keys whose signatures hold.
pub fn verify(
    file: &mut (impl Read + Seek),
    nevra: &str,
    is_covered: bool,
    trust: PackageTrust<'_, '_>,
) -> Result<Vec<String>, SignatureError> {
    file.seek(SeekFrom::Start(0))?;
    let package = Package::read(file)?;
    let found = package.nevra()?;
    if found != nevra {
        return Err(SignatureError::OtherPackage { wanted: nevra.to_owned(), found });
    }
    check_header_digest(&package)?;
    let has_digest = check_payload_digest(&package, file)?;
    match trust {
        PackageTrust::Unchecked => Ok(Vec::new()),
        PackageTrust::Keys(judge) => {
            let over_header = header_signatures(&package)?;
            match over_header.is_empty() || !(has_digest || is_covered) {
                false => good(judge, package.header.bytes(), &over_header),
                // Before rpm 4.14 the header did not say the payload's digest.
                true => {
                    let whole = whole_signatures(&package)?;
                    if whole.is_empty() {
                        return Err(match over_header.is_empty() {
                            true => SignatureError::Unsigned,
                            false => SignatureError::PayloadUncovered,
                        });
                    }
                    let mut bytes = package.header.bytes().to_vec();
                    file.seek(SeekFrom::Start(package.payload_offset))?;
                    file.take(MAXIMUM_SIGNED_WHOLE).read_to_end(&mut bytes)?;
                    good(judge, &bytes, &whole)
                }
            }
        }
    }
}

fn damaged(part: &'static str) -> impl Fn(HeaderError) -> PackageError {
    move |cause| PackageError::Header { part, cause }
}

fn check_header_digest(package: &Package) -> Result<(), SignatureError> {
    let wanted = package.signature.text(tag::SHA256HEADER).map_err(damaged("signature header"))?;
    let Some(wanted) = wanted else { return Ok(()) };
    let found = Checksum::of(ChecksumAlgorithm::Sha256, package.header.bytes());
    match found.hex() == wanted.to_ascii_lowercase() {
        true => Ok(()),
        false => Err(SignatureError::Header { wanted, found: found.hex().to_owned() }),
    }
}

/// Tells whether the header says a strong digest of the payload.
fn check_payload_digest(package: &Package, file: &mut (impl Read + Seek)) -> Result<bool, SignatureError> {
    let fault = damaged("header");
    let Some(wanted) = package.header.text(tag::PAYLOADDIGEST).map_err(&fault)? else { return Ok(false) };
    let number = package.header.numbers(tag::PAYLOADDIGESTALGO).map_err(&fault)?.and_then(|all| all.first().copied());
    // Spec: RFC 9580 §9.5, the hash algorithms' numbers.
    let algorithm = match number {
        Some(8) => ChecksumAlgorithm::Sha256,
        Some(9) => ChecksumAlgorithm::Sha384,
        Some(10) => ChecksumAlgorithm::Sha512,
        Some(11) => ChecksumAlgorithm::Sha224,
        _ => return Ok(false),
    };
    file.seek(SeekFrom::Start(package.payload_offset))?;
    let mut hasher = ChecksumHasher::new(algorithm);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let found = hasher.finish();
    match found.hex() == wanted.to_ascii_lowercase() {
        true => Ok(true),
        false => Err(SignatureError::Payload { wanted, found: found.hex().to_owned() }),
    }
}

fn header_signatures(package: &Package) -> Result<Vec<Vec<u8>>, SignatureError> {
    let fault = damaged("signature header");
    let mut found = Vec::new();
    for tag in [tag::RSAHEADER, tag::DSAHEADER] {
        found.extend(package.signature.binary(tag).map_err(&fault)?.map(<[u8]>::to_vec));
    }
    // rpm 6: any number of signatures, in base 64.
    for text in package.signature.texts(tag::OPENPGP).map_err(&fault)?.unwrap_or_default() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim());
        found.extend(decoded.ok());
    }
    Ok(found)
}

fn whole_signatures(package: &Package) -> Result<Vec<Vec<u8>>, SignatureError> {
    let fault = damaged("signature header");
    let mut found = Vec::new();
    for tag in [tag::SIGPGP, tag::SIGGPG] {
        found.extend(package.signature.binary(tag).map_err(&fault)?.map(<[u8]>::to_vec));
    }
    Ok(found)
}

/// Fingerprints of the keys that made good signatures. One is enough: distributions sign with the old and the new key while keys change.
pub fn good(judge: &mut Judge<'_>, signed: &[u8], blocks: &[Vec<u8>]) -> Result<Vec<String>, SignatureError> {
    let (mut good, mut refusals) = (Vec::new(), Vec::new());
    let mut unreadable = None;
    for block in blocks {
        match judge.judge(signed, block) {
            Ok(judged) => {
                for one in judged {
                    match one {
                        Ok(verified) => good.push(verified.fingerprint.to_string()),
                        Err(refusal) => refusals.push(refusal),
                    }
                }
            }
            Err(error) => unreadable = Some(error),
        }
    }
    match (good.is_empty(), unreadable) {
        (false, _) => Ok(good),
        (true, Some(error)) if refusals.is_empty() => Err(error.into()),
        _ => Err(SignatureError::NoneGood(refusals)),
    }
}
