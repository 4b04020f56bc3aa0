//! Which signature counts: every rule about time, revocation, purpose and strength (RFC 9580 §5.2, §10.1, §13).
//!
//! # The rules
//! - The data signature's hash is SHA-256, SHA-384, SHA-512 or SHA-3. MD5, SHA-1, RIPEMD-160 and SHA-224 are refused. Notations that
//!   it calls critical are not known here, and refused.
//! - It was not made in the future, has not expired, and was not made before its key.
//! - Its key is RSA with 2048 bits or more, ECDSA or EdDSA; neither it nor its primary key has expired by now or was ever revoked,
//!   for whatever reason: who signs once more with a key that holds has a signature that holds.
//! - Its key is meant for signing; a subkey is bound to its primary key in both directions.
//! - The self-signature that counts is the newest one. One that was made with SHA-1 is accepted, told as a warning, or
//!   refused, by [`WeakSelfSignatures`]; older hashes are as none.

use super::fault::describe;
use super::key::{Fingerprint, Issuer, PublicKey, bits};
use super::keyring::Keyring;
use pgp::composed::{Deserializable, DetachedSignature, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, PublicParams, Tag};
use std::collections::BTreeMap;

/// Clocks that are off by less than this many seconds do not make a signature come from the future.
const CLOCK_TOLERANCE: i64 = 24 * 3600;
/// Signatures of one block that are looked at.
pub const MAXIMUM_SIGNATURES: usize = 64;
/// Signatures of one key that are computed before it is given up: keyservers carry keys that others have flooded.
const MAXIMUM_SELF_SIGNATURES: usize = 2048;
const MINIMUM_RSA_BITS: u32 = 2048;

/// What a self-signature with SHA-1 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeakSelfSignatures {
    /// Nothing: the keyring itself is the root of trust, not what its keys say of themselves.
    Accept,
    Warn,
    Refuse,
}

/// The rules at one time.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Unix seconds.
    pub now: i64,
    pub weak_self_signatures: WeakSelfSignatures,
}

/// A signature that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Of the primary key.
    pub fingerprint: Fingerprint,
    /// Of the key that made the signature: the primary key or a subkey.
    pub signer: Fingerprint,
    /// Those that the key has proven and not revoked, the primary one first.
    pub user_ids: Vec<String>,
    /// Unix seconds.
    pub made_at: i64,
    pub warnings: Vec<Warning>,
}

/// What holds, and should not be relied on for long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("key {0} vouches for itself with SHA-1, which can be forged: its owner should sign it anew")]
    Sha1SelfSignature(Fingerprint),
}

/// Why one signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {issuer}: {cause}")]
pub struct Refusal {
    pub issuer: Issuer,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
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
    #[error("the signature has a critical notation that is not known here")]
    UnknownNotation,
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
    #[error("the key vouches for itself with SHA-1 only")]
    WeakSelfSignature,
    #[error("the key carries more than {MAXIMUM_SELF_SIGNATURES} signatures of its own")]
    Flooded,
}

/// Why a block of signatures is not judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("the signature cannot be read: {0}")]
    Unreadable(&'static str),
    #[error("there is no signature")]
    None,
    #[error("more than {MAXIMUM_SIGNATURES} signatures")]
    TooMany,
}

/// What a key says of itself, and proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub user_ids: Vec<String>,
    /// Unix seconds.
    pub expires_at: Option<i64>,
    pub can_sign: bool,
    pub warnings: Vec<Warning>,
}

impl Policy {
    /// The rules for keys of users: SHA-1 inside of them is told.
    pub fn at(now: i64) -> Policy {
        Policy { now, weak_self_signatures: WeakSelfSignatures::Warn }
    }

    /// Judges every signature of an armored or binary block over exactly these bytes, in the order of the block.
    pub fn judge(
        &self,
        keyring: &Keyring,
        signed: &[u8],
        block: &[u8],
    ) -> Result<Vec<Result<Verified, Refusal>>, BlockError> {
        Judge::new(*self, keyring).judge(signed, block)
    }

    /// Whether the primary key holds now, and what it says of itself.
    pub fn check_key(&self, key: &PublicKey) -> Result<Standing, Cause> {
        self.check_primary(key, &mut Budget::new())
    }

    fn check_primary(&self, key: &PublicKey, budget: &mut Budget) -> Result<Standing, Cause> {
        let (primary, details) = (&key.inner.primary_key, &key.inner.details);
        if !is_strong_key(primary.public_params()) {
            return Err(Cause::WeakKey);
        }
        for revocation in &details.revocation_signatures {
            budget.spend()?;
            if revocation.verify_key(primary).is_ok() {
                return Err(Cause::KeyRevoked);
            }
        }
        let mut statements = Vec::new();
        for own in &details.direct_signatures {
            if issued_by(own, primary) && self.is_usable(own) {
                budget.spend()?;
                statements.extend(own.verify_key(primary).is_ok().then_some(own));
            }
        }
        let mut users: Vec<(bool, String)> = Vec::new();
        for user in &details.users {
            let mut newest: Option<&Signature> = None;
            for own in user.signatures.iter().filter(|own| issued_by(own, primary) && self.is_usable(own)) {
                budget.spend()?;
                let is_newer = newest.is_none_or(|other| created(other) <= created(own));
                if is_newer && own.verify_certification(primary, Tag::UserId, &user.id).is_ok() {
                    newest = Some(own);
                }
            }
            if let Some(own) = newest.filter(|own| own.typ() != Some(SignatureType::CertRevocation)) {
                statements.push(own);
                users.push((own.is_primary(), String::from_utf8_lossy(user.id.id()).into_owned()));
            }
        }
        let newest = statements.into_iter().max_by_key(|own| created(own)).ok_or(Cause::Unbound)?;
        let warnings = self.accept_weak(newest, key.fingerprint())?;
        let expires_at = self.check_life(primary, newest)?;
        users.sort_by_key(|(is_primary, _)| !is_primary);
        Ok(Standing {
            user_ids: users.into_iter().map(|(_, id)| id).collect(),
            expires_at,
            can_sign: newest.key_flags().sign() || !has_flags(newest),
            warnings,
        })
    }

    pub(super) fn check_subkey(
        &self,
        key: &PublicKey,
        subkey: &SignedPublicSubKey,
        budget: &mut Budget,
    ) -> Result<Vec<Warning>, Cause> {
        let primary = &key.inner.primary_key;
        if !is_strong_key(subkey.key.public_params()) {
            return Err(Cause::WeakKey);
        }
        let mut binding: Option<&Signature> = None;
        for own in &subkey.signatures {
            budget.spend()?;
            if own.verify_subkey_binding(primary, &subkey.key).is_err() {
                continue;
            }
            if own.typ() == Some(SignatureType::SubkeyRevocation) {
                return Err(Cause::KeyRevoked);
            }
            let is_newer = binding.is_none_or(|other| created(other) <= created(own));
            if own.typ() == Some(SignatureType::SubkeyBinding) && self.is_usable(own) && is_newer {
                binding = Some(own);
            }
        }
        let binding = binding.ok_or(Cause::Unbound)?;
        let fingerprint = Fingerprint::of(&subkey.key);
        let mut warnings = self.accept_weak(binding, fingerprint.clone())?;
        if !binding.key_flags().sign() {
            return Err(Cause::NotForSigning);
        }
        let back = binding.embedded_signature().filter(|back| self.is_usable(back)).ok_or(Cause::Unbound)?;
        budget.spend()?;
        back.verify_primary_key_binding(&subkey.key, primary).map_err(|_| Cause::Unbound)?;
        warnings.extend(self.accept_weak(back, fingerprint)?);
        warnings.dedup();
        self.check_life(&subkey.key, binding)?;
        Ok(warnings)
    }

    /// Whether a self-signature may say something: not with a broken hash, not before its time or after it.
    fn is_usable(&self, own: &Signature) -> bool {
        let is_current = created(own).is_some_and(|at| {
            at <= self.now + CLOCK_TOLERANCE
                && lifetime(own.signature_expiration_time()).is_none_or(|life| at + life >= self.now)
        });
        is_current && (is_strong(own) || matches!(own.hash_alg(), Some(HashAlgorithm::Sha1 | HashAlgorithm::Sha224)))
    }

    fn accept_weak(&self, own: &Signature, key: Fingerprint) -> Result<Vec<Warning>, Cause> {
        match self.weak_self_signatures {
            _ if own.hash_alg() != Some(HashAlgorithm::Sha1) => Ok(Vec::new()),
            WeakSelfSignatures::Accept => Ok(Vec::new()),
            WeakSelfSignatures::Warn => Ok(vec![Warning::Sha1SelfSignature(key)]),
            WeakSelfSignatures::Refuse => Err(Cause::WeakSelfSignature),
        }
    }

    /// The end of the key's life, if it has one that is to come.
    fn check_life(&self, key: &impl KeyDetails, own: &Signature) -> Result<Option<i64>, Cause> {
        let end = lifetime(own.key_expiration_time()).map(|life| birth(key) + life);
        match end {
            Some(end) if end <= self.now => Err(Cause::KeyExpired),
            end => Ok(end),
        }
    }
}

/// The policy over many blocks of signatures. What a key says of itself is computed once, however many signatures it made.
#[derive(Debug)]
pub struct Judge<'a> {
    policy: Policy,
    keyring: &'a Keyring,
    /// By the key's place in the keyring.
    standings: BTreeMap<usize, Result<Standing, Cause>>,
    /// By the key's place, and the subkey's in the key.
    bindings: BTreeMap<(usize, usize), Result<Vec<Warning>, Cause>>,
}

impl<'a> Judge<'a> {
    pub fn new(policy: Policy, keyring: &'a Keyring) -> Judge<'a> {
        Judge { policy, keyring, standings: BTreeMap::new(), bindings: BTreeMap::new() }
    }

    /// As [`Policy::judge`].
    pub fn judge(&mut self, signed: &[u8], block: &[u8]) -> Result<Vec<Result<Verified, Refusal>>, BlockError> {
        let judged = signatures(block)?.into_iter().map(|signature| {
            self.check(&signature, signed).map_err(|cause| Refusal { issuer: Issuer::of(&signature), cause })
        });
        Ok(judged.collect())
    }

    fn check(&mut self, signature: &Signature, signed: &[u8]) -> Result<Verified, Cause> {
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err(Cause::WrongType);
        }
        if !is_strong(signature) {
            return Err(Cause::WeakDigest);
        }
        if has_critical_notation(signature) {
            return Err(Cause::UnknownNotation);
        }
        let made = created(signature).ok_or(Cause::BadSignature)?;
        if made > self.policy.now + CLOCK_TOLERANCE {
            return Err(Cause::FromTheFuture);
        }
        if lifetime(signature.signature_expiration_time()).is_some_and(|life| made + life < self.policy.now) {
            return Err(Cause::SignatureExpired);
        }
        let mut verdict = Cause::UnknownKey;
        for (place, key) in self.keyring.keys().enumerate() {
            match self.check_with(place, key, signature, signed, made) {
                Ok(verified) => return Ok(verified),
                Err(Cause::UnknownKey) => {}
                Err(cause) => verdict = cause,
            }
        }
        Err(verdict)
    }

    fn check_with(
        &mut self,
        place: usize,
        key: &PublicKey,
        signature: &Signature,
        signed: &[u8],
        made: i64,
    ) -> Result<Verified, Cause> {
        let inner = &key.inner;
        let verified = |standing: Standing, signer: Fingerprint, warnings: Vec<Warning>| Verified {
            fingerprint: key.fingerprint(),
            signer,
            user_ids: standing.user_ids,
            made_at: made,
            warnings: standing.warnings.into_iter().chain(warnings).collect(),
        };
        if names(signature, &inner.primary_key) {
            signature.verify(&inner.primary_key, signed).map_err(|_| Cause::BadSignature)?;
            let standing = self.standing(place, key)?;
            check_birth(&inner.primary_key, made)?;
            return match standing.can_sign {
                true => Ok(verified(standing, key.fingerprint(), Vec::new())),
                false => Err(Cause::NotForSigning),
            };
        }
        for (index, subkey) in inner.public_subkeys.iter().enumerate() {
            if names(signature, &subkey.key) {
                signature.verify(&subkey.key, signed).map_err(|_| Cause::BadSignature)?;
                let standing = self.standing(place, key)?;
                check_birth(&inner.primary_key, made)?;
                check_birth(&subkey.key, made)?;
                let warnings = self.binding((place, index), key, subkey)?;
                return Ok(verified(standing, Fingerprint::of(&subkey.key), warnings));
            }
        }
        Err(Cause::UnknownKey)
    }

    fn standing(&mut self, place: usize, key: &PublicKey) -> Result<Standing, Cause> {
        self.standings.entry(place).or_insert_with(|| self.policy.check_key(key)).clone()
    }

    fn binding(
        &mut self,
        place: (usize, usize),
        key: &PublicKey,
        subkey: &SignedPublicSubKey,
    ) -> Result<Vec<Warning>, Cause> {
        let computed = || self.policy.check_subkey(key, subkey, &mut Budget::new());
        self.bindings.entry(place).or_insert_with(computed).clone()
    }
}

/// Computations that one key may cost.
pub(super) struct Budget(usize);

#[cfg(test)]
thread_local! {
    /// Computations of this test.
    pub(super) static SPENT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Budget {
    pub fn new() -> Budget {
        Budget(MAXIMUM_SELF_SIGNATURES)
    }

    fn spend(&mut self) -> Result<(), Cause> {
        self.0 = self.0.checked_sub(1).ok_or(Cause::Flooded)?;
        #[cfg(test)]
        SPENT.with(|spent| spent.set(spent.get() + 1));
        Ok(())
    }
}

/// Whom the signatures of a block name, so that their keys can be looked up.
pub fn issuers(block: &[u8]) -> Result<Vec<Issuer>, BlockError> {
    Ok(signatures(block)?.iter().map(Issuer::of).collect())
}

fn signatures(block: &[u8]) -> Result<Vec<Signature>, BlockError> {
    let unreadable = |error: pgp::errors::Error| BlockError::Unreadable(describe(&error));
    let (read, _) = DetachedSignature::from_reader_many(block).map_err(unreadable)?;
    let mut signatures = Vec::new();
    for signature in read {
        if signatures.len() == MAXIMUM_SIGNATURES {
            return Err(BlockError::TooMany);
        }
        signatures.push(signature.map_err(unreadable)?.signature);
    }
    if signatures.is_empty() { Err(BlockError::None) } else { Ok(signatures) }
}

fn check_birth(key: &impl KeyDetails, made: i64) -> Result<(), Cause> {
    if birth(key) > made + CLOCK_TOLERANCE { Err(Cause::KeyYoungerThanSignature) } else { Ok(()) }
}

fn birth(key: &impl KeyDetails) -> i64 {
    i64::from(key.created_at().as_secs())
}

/// Seconds; zero means for ever.
fn lifetime(duration: Option<pgp::types::Duration>) -> Option<i64> {
    duration.map(|life| i64::from(life.as_secs())).filter(|life| *life > 0)
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
        PublicParams::RSA(_) => bits(parameters) >= MINIMUM_RSA_BITS,
        PublicParams::ECDSA(_) | PublicParams::EdDSALegacy(_) | PublicParams::Ed25519(_) | PublicParams::Ed448(_) => {
            true
        }
        _ => false,
    }
}

fn has_flags(signature: &Signature) -> bool {
    hashed_parts(signature, |data| matches!(data, SubpacketData::KeyFlags(_)), false)
}

fn has_critical_notation(signature: &Signature) -> bool {
    hashed_parts(signature, |data| matches!(data, SubpacketData::Notation(_)), true)
}

fn hashed_parts(signature: &Signature, is_wanted: impl Fn(&SubpacketData) -> bool, critical_only: bool) -> bool {
    signature.config().is_some_and(|config| {
        config.hashed_subpackets().any(|part| is_wanted(&part.data) && (part.is_critical || !critical_only))
    })
}

/// Whether the signature says that this key made it. One that names no key names none.
pub(super) fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
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
