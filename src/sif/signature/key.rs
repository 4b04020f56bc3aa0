//! Bare keys in PEM files: RSA, ECDSA on the curves of NIST, Ed25519.

use super::digest::{Algorithm, Checksum};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ed25519_dalek::{SigningKey as EdSigningKey, VerifyingKey as EdVerifyingKey};
use pkcs8::{DecodePrivateKey, DecodePublicKey, EncryptedPrivateKeyInfo, PrivateKeyInfo, SecretDocument};
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use rsa::signature::{Signer as _, Verifier as _};
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use std::fmt;

/// A key file is refused beyond this many bytes.
pub const MAXIMUM_KEY_FILE: u64 = 64 << 10;
/// Bits of RSA keys: below is weak, above is slow.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=16384;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is no PEM file: {0}")]
    Pem(String),
    #[error("its PEM block is {found:?}; {wanted}")]
    Label { found: String, wanted: &'static str },
    #[error("its key is not RSA, ECDSA on P-256, P-384 or P-521, or Ed25519: {0}")]
    Kind(String),
    #[error("its RSA key has {0} bits; 2048 to 16384 are accepted")]
    Bits(usize),
    #[error("the key is locked, and needs a passphrase")]
    Locked,
    #[error("the passphrase does not unlock the key")]
    WrongPassphrase,
    #[error("the key does not sign: {0}")]
    Sign(String),
}

/// A public key.
#[derive(Clone, Debug)]
pub struct PublicKey {
    kind: PublicKind,
    id: String,
}

#[derive(Clone, Debug)]
enum PublicKind {
    Rsa(Box<RsaPublicKey>),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::PublicKey),
    Ed25519(EdVerifyingKey),
}

impl PublicKey {
    /// From `PUBLIC KEY` (any kind) or `RSA PUBLIC KEY`.
    pub fn from_pem(text: &str) -> Result<PublicKey, KeyError> {
        let (label, document) = read(text)?;
        match label.as_str() {
            "PUBLIC KEY" => PublicKey::from_der(document.as_bytes()),
            "RSA PUBLIC KEY" => RsaPublicKey::from_pkcs1_der(document.as_bytes())
                .map_err(|error| KeyError::Kind(error.to_string()))
                .and_then(PublicKey::from_rsa),
            _ => Err(KeyError::Label { found: label, wanted: "a public key is a block PUBLIC KEY" }),
        }
    }

    /// From a SubjectPublicKeyInfo in DER.
    pub fn from_der(der: &[u8]) -> Result<PublicKey, KeyError> {
        if let Ok(key) = RsaPublicKey::from_public_key_der(der) {
            return PublicKey::from_rsa(key);
        }
        let kind = None
            .or_else(|| p256::ecdsa::VerifyingKey::from_public_key_der(der).ok().map(PublicKind::P256))
            .or_else(|| p384::ecdsa::VerifyingKey::from_public_key_der(der).ok().map(PublicKind::P384))
            .or_else(|| p521::PublicKey::from_public_key_der(der).ok().map(PublicKind::P521))
            .or_else(|| EdVerifyingKey::from_public_key_der(der).ok().map(PublicKind::Ed25519));
        match kind {
            Some(kind) => Ok(PublicKey::new(kind)),
            None => Err(KeyError::Kind("its algorithm is not known, or the key is damaged".to_owned())),
        }
    }

    fn from_rsa(key: RsaPublicKey) -> Result<PublicKey, KeyError> {
        let bits = key.n().bits();
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::Bits(bits));
        }
        Ok(PublicKey::new(PublicKind::Rsa(Box::new(key))))
    }

    fn new(kind: PublicKind) -> PublicKey {
        let digest = Checksum::of(Algorithm::Sha256, &wire_form(&kind));
        PublicKey { kind, id: format!("SHA256:{}", STANDARD_NO_PAD.encode(digest.bytes)) }
    }

    /// The fingerprint that `ssh-keygen -l` shows of the same key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the signature over these bytes is this key's. Ed25519 hashes by itself; ECDSA signatures are DER.
    pub(super) fn verify(&self, message: &[u8], hash: Algorithm, signature: &[u8]) -> bool {
        let digest = Checksum::of(hash, message).bytes;
        match &self.kind {
            PublicKind::Rsa(key) => key.verify(padding(hash), &digest, signature).is_ok(),
            PublicKind::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
            PublicKind::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
            PublicKind::P521(key) => p521::ecdsa::Signature::from_der(signature)
                .and_then(|signature| {
                    p521::ecdsa::VerifyingKey::from_affine(*key.as_affine())?
                        .verify_prehash(&widened(digest, 66), &signature)
                })
                .is_ok(),
            PublicKind::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

/// A private key. Its secrets are overwritten when it is dropped.
pub struct PrivateKey {
    kind: PrivateKind,
    public: PublicKey,
}

enum PrivateKind {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::SecretKey),
    Ed25519(Box<EdSigningKey>),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PrivateKey({})", self.public.id)
    }
}

impl PrivateKey {
    /// From `PRIVATE KEY` (PKCS #8), `RSA PRIVATE KEY` or `EC PRIVATE KEY`, or, with a passphrase, `ENCRYPTED PRIVATE KEY`.
    pub fn from_pem(text: &str, passphrase: Option<&[u8]>) -> Result<PrivateKey, KeyError> {
        let (label, document) = read(text)?;
        let kind = |error: &dyn fmt::Display| KeyError::Kind(error.to_string());
        match label.as_str() {
            "PRIVATE KEY" => PrivateKey::from_pkcs8(document.as_bytes()),
            "ENCRYPTED PRIVATE KEY" => {
                let passphrase = passphrase.ok_or(KeyError::Locked)?;
                let locked = EncryptedPrivateKeyInfo::try_from(document.as_bytes()).map_err(|error| kind(&error))?;
                let opened = locked.decrypt(passphrase).map_err(|_| KeyError::WrongPassphrase)?;
                PrivateKey::from_pkcs8(opened.as_bytes())
            }
            "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_der(document.as_bytes())
                .map_err(|error| kind(&error))
                .and_then(PrivateKey::from_rsa),
            "EC PRIVATE KEY" => PrivateKey::from_sec1(document.as_bytes()),
            _ => Err(KeyError::Label { found: label, wanted: "a private key is a block PRIVATE KEY" }),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<PrivateKey, KeyError> {
        let info = PrivateKeyInfo::try_from(der).map_err(|error| KeyError::Kind(error.to_string()))?;
        if let Ok(key) = RsaPrivateKey::try_from(info.clone()) {
            return PrivateKey::from_rsa(key);
        }
        let kind = None
            .or_else(|| p256::SecretKey::from_pkcs8_der(der).ok().map(|key| PrivateKind::P256(key.into())))
            .or_else(|| p384::SecretKey::from_pkcs8_der(der).ok().map(|key| PrivateKind::P384(key.into())))
            .or_else(|| p521::SecretKey::from_pkcs8_der(der).ok().map(PrivateKind::P521))
            .or_else(|| EdSigningKey::from_pkcs8_der(der).ok().map(|key| PrivateKind::Ed25519(Box::new(key))));
        kind.ok_or_else(|| KeyError::Kind("its algorithm is not known, or the key is damaged".to_owned()))
            .and_then(PrivateKey::new)
    }

    fn from_sec1(der: &[u8]) -> Result<PrivateKey, KeyError> {
        let kind = None
            .or_else(|| p256::SecretKey::from_sec1_der(der).ok().map(|key| PrivateKind::P256(key.into())))
            .or_else(|| p384::SecretKey::from_sec1_der(der).ok().map(|key| PrivateKind::P384(key.into())))
            .or_else(|| p521::SecretKey::from_sec1_der(der).ok().map(PrivateKind::P521));
        kind.ok_or_else(|| KeyError::Kind("its curve is not known, or the key is damaged".to_owned()))
            .and_then(PrivateKey::new)
    }

    fn from_rsa(key: RsaPrivateKey) -> Result<PrivateKey, KeyError> {
        PrivateKey::new(PrivateKind::Rsa(Box::new(key)))
    }

    fn new(kind: PrivateKind) -> Result<PrivateKey, KeyError> {
        let public = match &kind {
            PrivateKind::Rsa(key) => PublicKey::from_rsa(key.to_public_key())?,
            PrivateKind::P256(key) => PublicKey::new(PublicKind::P256(*key.verifying_key())),
            PrivateKind::P384(key) => PublicKey::new(PublicKind::P384(*key.verifying_key())),
            PrivateKind::P521(key) => PublicKey::new(PublicKind::P521(key.public_key())),
            PrivateKind::Ed25519(key) => PublicKey::new(PublicKind::Ed25519(key.verifying_key())),
        };
        Ok(PrivateKey { kind, public })
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs with SHA-256. The same bytes each time, but for P-521.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let hash = Algorithm::Sha256;
        let digest = Checksum::of(hash, message).bytes;
        let failed = |error: rsa::signature::Error| KeyError::Sign(error.to_string());
        Ok(match &self.kind {
            // The random numbers blind the computation; they do not enter the signature.
            PrivateKind::Rsa(key) => key
                .sign_with_rng(&mut rand::thread_rng(), padding(hash), &digest)
                .map_err(|error| KeyError::Sign(error.to_string()))?,
            PrivateKind::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign_prehash(&digest).map_err(failed)?;
                signature.to_der().as_bytes().to_vec()
            }
            PrivateKind::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign_prehash(&digest).map_err(failed)?;
                signature.to_der().as_bytes().to_vec()
            }
            PrivateKind::P521(key) => {
                let key = p521::ecdsa::SigningKey::from_bytes(&key.to_bytes()).map_err(failed)?;
                let signature: p521::ecdsa::Signature = key.sign_prehash(&widened(digest, 66)).map_err(failed)?;
                signature.to_der().as_bytes().to_vec()
            }
            PrivateKind::Ed25519(key) => key.try_sign(message).map_err(failed)?.to_bytes().to_vec(),
        })
    }
}

/// The key as SSH sends it. Source: RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4.
fn wire_form(kind: &PublicKind) -> Vec<u8> {
    let curve = |number: u32, point: &[u8]| {
        strings(&[format!("ecdsa-sha2-nistp{number}").as_bytes(), format!("nistp{number}").as_bytes(), point])
    };
    match kind {
        PublicKind::Rsa(key) => strings(&[b"ssh-rsa", &signed(key.e().to_bytes_be()), &signed(key.n().to_bytes_be())]),
        PublicKind::P256(key) => curve(256, key.to_encoded_point(false).as_bytes()),
        PublicKind::P384(key) => curve(384, key.to_encoded_point(false).as_bytes()),
        PublicKind::P521(key) => curve(521, &key.to_sec1_bytes()),
        PublicKind::Ed25519(key) => strings(&[b"ssh-ed25519", key.as_bytes()]),
    }
}

fn strings(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// A number that is not taken for a negative one.
fn signed(mut number: Vec<u8>) -> Vec<u8> {
    if number.first().is_some_and(|byte| byte & 0x80 != 0) {
        number.insert(0, 0);
    }
    number
}

/// The same number in `length` bytes: the crate takes no hash shorter than half of the curve.
fn widened(digest: Vec<u8>, length: usize) -> Vec<u8> {
    let mut wide = vec![0; length.saturating_sub(digest.len())];
    wide.extend(digest);
    wide
}

/// The form of PKCS #1 v1.5 with the hash's identifier. Source: RFC 8017 §9.2, note 1.
fn padding(hash: Algorithm) -> Pkcs1v15Sign {
    let (last, size) = match hash {
        Algorithm::Sha256 => (1, 32),
        Algorithm::Sha384 => (2, 48),
        Algorithm::Sha512 => (3, 64),
        Algorithm::Sha512_256 => (6, 32),
    };
    let prefix = [0x30, 0x11 + size, 0x30, 0x0D, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, last, 5, 0, 4, size];
    Pkcs1v15Sign { hash_len: Some(usize::from(size)), prefix: prefix.into() }
}

/// The first block that is a key: openssl puts the parameters of a curve before it.
fn read(text: &str) -> Result<(String, SecretDocument), KeyError> {
    const BEGIN: &str = "-----BEGIN ";
    let starts = text.match_indices(BEGIN).map(|(at, _)| &text[at..]);
    let Some(block) = starts.into_iter().find(|block| !block[BEGIN.len()..].starts_with("EC PARAMETERS-")) else {
        return Err(KeyError::Pem("there is no block in it".to_owned()));
    };
    let end = block.find("\n-----END ").and_then(|at| block[at + 1..].find('\n').map(|length| at + 1 + length));
    let block = &block[..end.unwrap_or(block.len())];
    if block.contains("Proc-Type:") {
        return Err(KeyError::Label {
            found: "a key that is locked in the old way".to_owned(),
            wanted: "`openssl pkcs8 -topk8 -in OLD -out NEW` makes a block that is read",
        });
    }
    let (label, document) = SecretDocument::from_pem(block).map_err(|error| KeyError::Pem(error.to_string()))?;
    Ok((label.to_owned(), document))
}
