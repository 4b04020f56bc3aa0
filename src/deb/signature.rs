//! Whether a release was signed by a key that we trust.
//!
//! The `pgp` crate does the mathematics; every rule about time, revocation, purpose and strength is here (RFC 9580 §5.2, §10.1,
//! §13). One good signature is enough: archives sign with the old and the new key while keys change.
//!
//! # The rules
//! A signature counts when its hash is SHA-256 or stronger, it was not made in the future, has not expired, and its key is in
//! the keyring, of RSA with 2048 bits or more, ECDSA or EdDSA, made before the signature, not expired, not revoked, and meant for signing.
//! A subkey must also be bound to its primary key in both directions, and the primary key must itself be good.
//! SHA-1 is accepted inside the keyring files (self-signatures): those files are the root of trust, not what they vouch for.

use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, PublicParams, Tag};

/// Clocks that are off by less than this many seconds do not make a signature come from the future.
const CLOCK_TOLERANCE: i64 = 24 * 3600;
const MAXIMUM_KEYRING: usize = 16 << 20;
const MAXIMUM_SIGNATURES: usize = 64;
const BEGIN_KEY: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Public keys that may sign.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the keyring is larger than 16 MiB")]
    KeyringTooLarge,
    #[error("holds no OpenPGP public key: {0}")]
    NoKeyInFile(String),
    #[error("the signature cannot be read: {0}")]
    Unreadable(String),
    #[error("there is no signature")]
    None,
    #[error("more than {MAXIMUM_SIGNATURES} signatures")]
    TooMany,
    #[error("no signature is good: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoneGood(Vec<Refusal>),
}

/// Why one signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {key}: {cause}")]
pub struct Refusal {
    /// Fingerprint or key id as the signature names it, upper-case hexadecimal.
    pub key: String,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    #[error("not in the keyring")]
    UnknownKey,
    #[error("the signature does not fit the text (changed after signing, or damaged)")]
    BadSignature,
    #[error("the signature uses a weak digest (MD5, SHA-1, RIPEMD-160 or SHA-224)")]
    WeakDigest,
    #[error("the key is too weak (DSA, ElGamal or RSA below 2048 bits)")]
    WeakKey,
    #[error("the signature is not over a document")]
    WrongType,
    #[error("the signature was made in the future; is this machine's clock right?")]
    FromTheFuture,
    #[error("the signature has expired")]
    SignatureExpired,
    #[error("the key has expired")]
    KeyExpired,
    #[error("the key has been revoked")]
    KeyRevoked,
    #[error("the key is younger than the signature")]
    KeyYoungerThanSignature,
    #[error("the key is not meant for signing")]
    NotForSigning,
    #[error("the key's own signatures do not hold")]
    Unbound,
}

impl Keyring {
    pub fn new() -> Keyring {
        Keyring::default()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Adds the keys of a file, binary or armored, one or many blocks. Gives how many.
    pub fn add(&mut self, bytes: &[u8]) -> Result<usize, SignatureError> {
        if bytes.len() > MAXIMUM_KEYRING {
            return Err(SignatureError::KeyringTooLarge);
        }
        let before = self.keys.len();
        let mut fault = String::from("it is empty");
        for block in blocks(bytes) {
            match SignedPublicKey::from_reader_many(block) {
                Ok((keys, _)) => {
                    for key in keys {
                        match key {
                            Ok(key) => self.keys.push(key),
                            Err(error) => {
                                fault = error.to_string();
                                // Invariant: a reader that keeps failing makes no progress; one fault ends the block.
                                break;
                            }
                        }
                    }
                }
                Err(error) => fault = error.to_string(),
            }
        }
        match self.keys.len() - before {
            0 => Err(SignatureError::NoKeyInFile(fault)),
            count => Ok(count),
        }
    }

    /// Checks an armored or binary signature block over exactly these bytes at the time `now` (seconds since the epoch).
    /// Gives the fingerprints of the primary keys whose signatures are good.
    pub fn verify(&self, signed: &[u8], signature_block: &[u8], now: i64) -> Result<Vec<String>, SignatureError> {
        let (signatures, _) = DetachedSignature::from_reader_many(signature_block)
            .map_err(|error| SignatureError::Unreadable(error.to_string()))?;
        let mut good = Vec::new();
        let mut refusals = Vec::new();
        for (count, signature) in signatures.enumerate() {
            if count == MAXIMUM_SIGNATURES {
                return Err(SignatureError::TooMany);
            }
            let signature = signature.map_err(|error| SignatureError::Unreadable(error.to_string()))?.signature;
            match self.check(&signature, signed, now) {
                Ok(signer) if good.contains(&signer) => {}
                Ok(signer) => good.push(signer),
                Err(cause) => refusals.push(Refusal { key: issuer(&signature), cause }),
            }
        }
        match (good.is_empty(), refusals.is_empty()) {
            (false, _) => Ok(good),
            (true, true) => Err(SignatureError::None),
            (true, false) => Err(SignatureError::NoneGood(refusals)),
        }
    }

    fn check(&self, signature: &Signature, signed: &[u8], now: i64) -> Result<String, Cause> {
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err(Cause::WrongType);
        }
        if !is_strong(signature) {
            return Err(Cause::WeakDigest);
        }
        let made = created(signature).ok_or(Cause::BadSignature)?;
        if made > now + CLOCK_TOLERANCE {
            return Err(Cause::FromTheFuture);
        }
        if signature
            .signature_expiration_time()
            .is_some_and(|life| life.as_secs() > 0 && made + i64::from(life.as_secs()) < now)
        {
            return Err(Cause::SignatureExpired);
        }
        let mut verdict = Cause::UnknownKey;
        for key in &self.keys {
            match check_with(key, signature, signed, made, now) {
                Ok(()) => return Ok(format!("{:X}", key.fingerprint())),
                Err(Cause::UnknownKey) => {}
                Err(cause) => verdict = cause,
            }
        }
        Err(verdict)
    }
}

/// Each armored block on its own; binary input as it is.
fn blocks(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        Vec::new()
    } else {
        bytes
            .windows(BEGIN_KEY.len())
            .enumerate()
            .filter(|(_, window)| *window == BEGIN_KEY)
            .map(|(at, _)| at)
            .collect()
    };
    if starts.is_empty() {
        return vec![bytes];
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| &bytes[*start..end]).collect()
}

fn check_with(key: &SignedPublicKey, signature: &Signature, signed: &[u8], made: i64, now: i64) -> Result<(), Cause> {
    if names(signature, key) {
        signature.verify(&key.primary_key, signed).map_err(|_| Cause::BadSignature)?;
        let (_, for_signing) = check_primary(key, made, now)?;
        return if for_signing { Ok(()) } else { Err(Cause::NotForSigning) };
    }
    for subkey in &key.public_subkeys {
        if names(signature, &subkey.key) {
            signature.verify(&subkey.key, signed).map_err(|_| Cause::BadSignature)?;
            check_primary(key, made, now)?;
            return check_subkey(key, subkey, made, now);
        }
    }
    Err(Cause::UnknownKey)
}

/// A good primary key: the time of the self-signature that speaks for it, and whether it may sign documents.
fn check_primary(key: &SignedPublicKey, made: i64, now: i64) -> Result<(i64, bool), Cause> {
    let primary = &key.primary_key;
    if !is_strong_key(primary.public_params()) {
        return Err(Cause::WeakKey);
    }
    if key.details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
        return Err(Cause::KeyRevoked);
    }
    let direct = key.details.direct_signatures.iter().filter(|own| own.verify_key(primary).is_ok());
    let certified = key.details.users.iter().filter_map(|user| {
        let own: Vec<&Signature> = user
            .signatures
            .iter()
            .filter(|own| issued_by(own, primary) && own.verify_certification(primary, Tag::UserId, &user.id).is_ok())
            .collect();
        let latest =
            own.into_iter().filter(|own| created(own).is_some_and(|at| at <= now)).max_by_key(|own| created(own))?;
        (latest.typ() != Some(SignatureType::CertRevocation)).then_some(latest)
    });
    let latest = direct
        .chain(certified)
        .filter(|own| created(own).is_some_and(|at| at <= now))
        .max_by_key(|own| created(own))
        .ok_or(Cause::Unbound)?;
    check_life(i64::from(primary.created_at().as_secs()), latest, made, now)?;
    Ok((created(latest).unwrap_or(0), latest.key_flags().sign() || !has_flags(latest)))
}

fn check_subkey(key: &SignedPublicKey, subkey: &SignedPublicSubKey, made: i64, now: i64) -> Result<(), Cause> {
    let primary = &key.primary_key;
    if !is_strong_key(subkey.key.public_params()) {
        return Err(Cause::WeakKey);
    }
    let valid: Vec<&Signature> =
        subkey.signatures.iter().filter(|own| own.verify_subkey_binding(primary, &subkey.key).is_ok()).collect();
    if valid.iter().any(|own| own.typ() == Some(SignatureType::SubkeyRevocation)) {
        return Err(Cause::KeyRevoked);
    }
    let binding = valid
        .into_iter()
        .filter(|own| own.typ() == Some(SignatureType::SubkeyBinding) && created(own).is_some_and(|at| at <= now))
        .max_by_key(|own| created(own))
        .ok_or(Cause::Unbound)?;
    if !binding.key_flags().sign() {
        return Err(Cause::NotForSigning);
    }
    let back = binding.embedded_signature().ok_or(Cause::Unbound)?;
    back.verify_primary_key_binding(&subkey.key, primary).map_err(|_| Cause::Unbound)?;
    check_life(i64::from(subkey.key.created_at().as_secs()), binding, made, now)
}

fn check_life(birth: i64, own: &Signature, made: i64, now: i64) -> Result<(), Cause> {
    if birth > made + CLOCK_TOLERANCE {
        return Err(Cause::KeyYoungerThanSignature);
    }
    match own.key_expiration_time() {
        Some(life) if life.as_secs() > 0 && birth + i64::from(life.as_secs()) <= now => Err(Cause::KeyExpired),
        _ => Ok(()),
    }
}

fn created(signature: &Signature) -> Option<i64> {
    signature.created().map(|time| i64::from(time.as_secs()))
}

fn is_strong(signature: &Signature) -> bool {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha256, Sha384, Sha512};
    matches!(signature.hash_alg(), Some(Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512))
}

fn is_strong_key(parameters: &PublicParams) -> bool {
    match parameters {
        // The modulus and the exponent, each behind two bytes of length: 256 + 1 + 4 at least.
        PublicParams::RSA(rsa) => rsa.write_len() >= 261,
        PublicParams::ECDSA(_) | PublicParams::EdDSALegacy(_) | PublicParams::Ed25519(_) | PublicParams::Ed448(_) => {
            true
        }
        _ => false,
    }
}

fn has_flags(signature: &Signature) -> bool {
    signature.config().is_some_and(|config| {
        config.hashed_subpackets().any(|part| matches!(part.data, pgp::packet::SubpacketData::KeyFlags(_)))
    })
}

/// Whether the signature says that this key made it. One that names no key names none.
fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().iter().any(|id| **id == key.legacy_key_id());
    }
    fingerprints.iter().any(|fingerprint| **fingerprint == key.fingerprint())
}

fn issued_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let anonymous = signature.issuer_fingerprint().is_empty() && signature.issuer_key_id().is_empty();
    anonymous || names(signature, key)
}

fn issuer(signature: &Signature) -> String {
    match (signature.issuer_fingerprint().first(), signature.issuer_key_id().first()) {
        (Some(fingerprint), _) => format!("{fingerprint:X}"),
        (None, Some(id)) => id.to_string().to_uppercase(),
        (None, None) => "that is not named".to_owned(),
    }
}
