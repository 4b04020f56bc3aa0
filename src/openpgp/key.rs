//! One public key, its names, and the ways to say which key is meant.

use super::armor::{self, Block};
use super::fault::describe;
use super::keyring::KeyringError;
use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey};
use pgp::packet::Signature;
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, PublicParams};
use std::fmt;

/// The digest that names a key: 20 bytes of version 4, 32 of version 6.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(Vec<u8>);

impl Fingerprint {
    pub(super) fn of(key: &impl KeyDetails) -> Fingerprint {
        Fingerprint(key.fingerprint().as_bytes().to_vec())
    }

    /// 40 or 64 hexadecimal digits, with or without `0x` before and blanks between.
    pub fn parse(text: &str) -> Option<Fingerprint> {
        let digits: String = without_prefix(text).chars().filter(|character| *character != ' ').collect();
        let bytes = hexadecimal(&digits)?;
        matches!(bytes.len(), 20 | 32).then_some(Fingerprint(bytes))
    }

    pub fn from_bytes(bytes: &[u8]) -> Fingerprint {
        Fingerprint(bytes.to_vec())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The part that signatures and keyservers know a key by. Source: RFC 9580 §5.5.4.
    pub fn key_id(&self) -> KeyId {
        let part = if self.0.len() == 20 { self.0.last_chunk::<8>() } else { self.0.first_chunk::<8>() };
        KeyId(part.map_or(0, |bytes| u64::from_be_bytes(*bytes)))
    }
}

/// Upper-case hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02X}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Shown as 16 upper-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u64);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016X}", self.0)
    }
}

/// The key that a signature says it was made with. Says nothing about whether it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Issuer {
    Fingerprint(Fingerprint),
    KeyId(KeyId),
    Unnamed,
}

impl Issuer {
    pub(super) fn of(signature: &Signature) -> Issuer {
        match (signature.issuer_fingerprint().first(), signature.issuer_key_id().first()) {
            (Some(fingerprint), _) => Issuer::Fingerprint(Fingerprint(fingerprint.as_bytes().to_vec())),
            (None, Some(id)) => Issuer::KeyId(KeyId(id.as_ref().try_into().map_or(0, u64::from_be_bytes))),
            (None, None) => Issuer::Unnamed,
        }
    }

    pub fn key_id(&self) -> Option<KeyId> {
        match self {
            Issuer::Fingerprint(fingerprint) => Some(fingerprint.key_id()),
            Issuer::KeyId(id) => Some(*id),
            Issuer::Unnamed => None,
        }
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Issuer::Fingerprint(fingerprint) => fingerprint.fmt(formatter),
            Issuer::KeyId(id) => id.fmt(formatter),
            Issuer::Unnamed => formatter.write_str("that is not named"),
        }
    }
}

/// How somebody says which key is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    Fingerprint(Fingerprint),
    KeyId(KeyId),
    /// The last 8 digits: enough to find a key in one's own keyring, never to trust one.
    ShortId(u32),
    /// A part of a user id.
    User(String),
}

impl Selector {
    /// 64 or 40 digits are a fingerprint, 16 a key id, 8 a short one; anything else is looked for in user ids.
    pub fn parse(text: &str) -> Selector {
        let text = text.trim();
        let digits = without_prefix(text);
        if let Some(fingerprint) = Fingerprint::parse(text) {
            return Selector::Fingerprint(fingerprint);
        }
        match (digits.len(), u64::from_str_radix(digits, 16)) {
            (16, Ok(number)) => Selector::KeyId(KeyId(number)),
            (8, Ok(number)) => Selector::ShortId(number as u32),
            _ => Selector::User(text.to_owned()),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Fingerprint(fingerprint) => fingerprint.fmt(formatter),
            Selector::KeyId(id) => id.fmt(formatter),
            Selector::ShortId(id) => write!(formatter, "{id:08X}"),
            Selector::User(text) => write!(formatter, "{text:?}"),
        }
    }
}

/// A public key with its user ids, subkeys and their signatures, none of them checked: [`super::Policy`] does.
#[derive(Clone, PartialEq)]
pub struct PublicKey {
    pub(super) inner: SignedPublicKey,
    /// As it was read, or as it became by [`PublicKey::merge`].
    bytes: Vec<u8>,
}

impl PublicKey {
    /// From the packets of exactly one key.
    pub(super) fn read(bytes: Vec<u8>) -> Result<PublicKey, KeyringError> {
        let inner =
            SignedPublicKey::from_bytes(bytes.as_slice()).map_err(|error| KeyringError::Key(describe(&error)))?;
        Ok(PublicKey { inner, bytes })
    }

    pub(super) fn from_inner(inner: SignedPublicKey) -> PublicKey {
        let bytes = inner.to_bytes().expect("writing to memory does not fail");
        PublicKey { inner, bytes }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.inner.primary_key)
    }

    /// The primary key's first, then the subkeys'.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        std::iter::once(self.fingerprint())
            .chain(self.inner.public_subkeys.iter().map(|subkey| Fingerprint::of(&subkey.key)))
    }

    /// As the key claims them; those that are proven are in [`super::Verified`] and [`super::Policy::check_key`].
    pub fn user_ids(&self) -> Vec<String> {
        self.inner.details.users.iter().map(|user| String::from_utf8_lossy(user.id.id()).into_owned()).collect()
    }

    /// Unix seconds.
    pub fn created_at(&self) -> i64 {
        i64::from(self.inner.primary_key.created_at().as_secs())
    }

    /// Bits of the RSA modulus or of the curve; 0 for what is not known.
    pub fn bits(&self) -> u32 {
        bits(self.inner.primary_key.public_params())
    }

    /// As `RSA` or `Ed25519`.
    pub fn algorithm(&self) -> String {
        match self.inner.primary_key.public_params() {
            PublicParams::RSA(_) => "RSA".to_owned(),
            PublicParams::EdDSALegacy(_) | PublicParams::Ed25519(_) => "Ed25519".to_owned(),
            _ => format!("{:?}", self.inner.primary_key.algorithm()),
        }
    }

    pub fn matches(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Fingerprint(wanted) => self.fingerprints().any(|own| own == *wanted),
            Selector::KeyId(wanted) => self.fingerprints().any(|own| own.key_id() == *wanted),
            Selector::ShortId(wanted) => self.fingerprints().any(|own| own.key_id().0 as u32 == *wanted),
            Selector::User(text) => self.user_ids().iter().any(|user| user.contains(text.as_str())),
        }
    }

    /// Whether a signature that names this issuer may be this key's.
    pub fn is_named_by(&self, issuer: &Issuer) -> bool {
        match issuer {
            Issuer::Fingerprint(named) => self.fingerprints().any(|own| own == *named),
            Issuer::KeyId(named) => self.fingerprints().any(|own| own.key_id() == *named),
            Issuer::Unnamed => false,
        }
    }

    /// The packets.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn to_armor(&self) -> String {
        armor::encode(Block::PublicKey, &self.bytes) + "\n"
    }

    /// Takes a revocation over where it fits. Tells whether it is new; nothing where it is not this key's.
    pub(super) fn revoke(&mut self, revocation: &Revocation) -> Option<bool> {
        let signature = &revocation.signature;
        let primary = &self.inner.primary_key;
        if !super::policy::names(signature, primary) || signature.verify_key(primary).is_err() {
            return None;
        }
        let is_new = !self.inner.details.revocation_signatures.contains(signature);
        if is_new {
            self.inner.details.revocation_signatures.push(signature.clone());
            self.bytes = self.inner.to_bytes().expect("writing to memory does not fail");
        }
        Some(is_new)
    }

    /// Takes over what another copy of the same key has more: revocations, user ids, signatures, subkeys. Tells whether there was any.
    pub(super) fn merge(&mut self, other: PublicKey) -> bool {
        let mut grown = false;
        let (own, other) = (&mut self.inner, other.inner);
        grown |= add_missing(&mut own.details.revocation_signatures, other.details.revocation_signatures);
        grown |= add_missing(&mut own.details.direct_signatures, other.details.direct_signatures);
        for user in other.details.users {
            match own.details.users.iter_mut().find(|known| known.id.id() == user.id.id()) {
                Some(known) => grown |= add_missing(&mut known.signatures, user.signatures),
                None => {
                    own.details.users.push(user);
                    grown = true;
                }
            }
        }
        for subkey in other.public_subkeys {
            match own.public_subkeys.iter_mut().find(|known| known.key.fingerprint() == subkey.key.fingerprint()) {
                Some(known) => grown |= add_missing(&mut known.signatures, subkey.signatures),
                None => {
                    own.public_subkeys.push(subkey);
                    grown = true;
                }
            }
        }
        if grown {
            self.bytes = self.inner.to_bytes().expect("writing to memory does not fail");
        }
        grown
    }
}

/// A revocation certificate: one signature, which says that the key that made it counts no more.
#[derive(Clone, Debug)]
pub struct Revocation {
    signature: Signature,
}

impl Revocation {
    /// From the packet of a signature whose type was looked at.
    pub(super) fn read(packet: &[u8]) -> Option<Revocation> {
        Some(Revocation { signature: DetachedSignature::from_bytes(packet).ok()?.signature })
    }

    pub fn issuer(&self) -> Issuer {
        Issuer::of(&self.signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({})", self.fingerprint())
    }
}

fn add_missing(own: &mut Vec<Signature>, other: Vec<Signature>) -> bool {
    let before = own.len();
    for signature in other {
        if !own.contains(&signature) {
            own.push(signature);
        }
    }
    own.len() > before
}

pub(super) fn bits(parameters: &PublicParams) -> u32 {
    use pgp::crypto::ecc_curve::ECCCurve;
    match parameters {
        // A multi-precision integer begins with its length in bits; the modulus is first.
        PublicParams::RSA(rsa) => rsa
            .to_bytes()
            .ok()
            .and_then(|bytes| bytes.first_chunk::<2>().copied())
            .map_or(0, |length| u32::from(u16::from_be_bytes(length))),
        PublicParams::EdDSALegacy(_) | PublicParams::Ed25519(_) => 256,
        PublicParams::Ed448(_) => 456,
        PublicParams::ECDSA(ecdsa) => match ecdsa.curve() {
            ECCCurve::P256 | ECCCurve::Secp256k1 => 256,
            ECCCurve::P384 => 384,
            ECCCurve::P521 => 521,
            _ => 0,
        },
        _ => 0,
    }
}

fn without_prefix(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|character| character.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
