//! Secret keys: locked and unlocked, and signing with them.

use super::armor::{self, Block};
use super::cleartext;
use super::fault::describe;
use super::key::{Fingerprint, PublicKey, Selector};
use super::keyring::{KeyringError, SelectError, split};
use super::packet::{self, Stream};
use super::policy::{Budget, Cause, Policy};
use pgp::composed::{Deserializable, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PacketTrait as _, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, KeyVersion, Password, S2kParams, SecretParams, StringToKey, Timestamp};
use std::fmt;
use zeroize::Zeroizing;

/// Argon2 memory that unlocking may take: 2^21 KiB = 2 GiB, the largest that RFC 9106 recommends.
const MAXIMUM_ARGON2_MEMORY: u8 = 21;
const MAXIMUM_ARGON2_PASSES: u8 = 16;

/// What unlocks a secret key. Never shown, and overwritten when dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Passphrase {
        Passphrase(Zeroizing::new(bytes.into()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn password(&self) -> Password {
        Password::Static(self.0.clone())
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Passphrase(…)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the passphrase does not unlock key {0}")]
    WrongPassphrase(Fingerprint),
    #[error("key {0} wants more than 2 GiB of memory to be unlocked")]
    TooExpensive(Fingerprint),
    #[error("key {0} cannot sign: {1}")]
    CannotSign(Fingerprint, Cause),
    #[error("the secret part of key {0} is not in the keyring")]
    Absent(Fingerprint),
    #[error("key {0} cannot be used: {1}")]
    Failed(Fingerprint, &'static str),
    #[error("a key cannot be made: {0}")]
    Generate(String),
}

/// A secret key as it is kept: locked by a passphrase, or not.
#[derive(Clone)]
pub struct SecretKey {
    pub(super) inner: SignedSecretKey,
    bytes: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SecretKey({})", self.fingerprint())
    }
}

impl SecretKey {
    pub(super) fn read(bytes: Vec<u8>) -> Result<SecretKey, KeyringError> {
        let bytes = Zeroizing::new(bytes);
        let inner =
            SignedSecretKey::from_bytes(bytes.as_slice()).map_err(|error| KeyringError::Key(describe(&error)))?;
        let public = PublicKey::from_inner(inner.to_public_key());
        Ok(SecretKey { inner, bytes, public })
    }

    pub(super) fn from_inner(inner: SignedSecretKey) -> SecretKey {
        let bytes = Zeroizing::new(inner.to_bytes().expect("writing to memory does not fail"));
        let public = PublicKey::from_inner(inner.to_public_key());
        SecretKey { inner, bytes, public }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint()
    }

    /// Without the secrets.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Whether a passphrase is needed to sign.
    pub fn is_locked(&self) -> bool {
        let subkeys = self.inner.secret_subkeys.iter().map(|subkey| subkey.key.secret_params());
        std::iter::once(self.inner.primary_key.secret_params())
            .chain(subkeys)
            .any(|parameters| matches!(parameters, SecretParams::Encrypted(_)))
    }

    /// The key that signs, unlocked: the primary key where it may sign and is here, else the first subkey that may.
    /// The passphrase is not used where nothing is locked. `policy` says whether the key may sign now.
    pub fn unlock(&self, passphrase: &Passphrase, policy: &Policy) -> Result<SigningKey, SecretError> {
        let fingerprint = self.fingerprint();
        let cannot = |cause| SecretError::CannotSign(fingerprint.clone(), cause);
        let standing = policy.check_key(&self.public).map_err(cannot)?;
        let mut cause = Cause::NotForSigning;
        let mut found = None;
        if standing.can_sign && is_here(self.inner.primary_key.secret_params()) {
            found = Some(None);
        }
        for (index, subkey) in
            self.inner.secret_subkeys.iter().enumerate().filter(|_| found.is_none()).collect::<Vec<_>>()
        {
            match policy.check_subkey(&self.public, &subkey.signed_public_key(), &mut Budget::new()) {
                Ok(_) if is_here(subkey.key.secret_params()) => {
                    found = Some(Some(index));
                    break;
                }
                Ok(_) => {}
                Err(fault) => cause = fault,
            }
        }
        let subkey = match found {
            Some(subkey) => subkey,
            None if standing.can_sign => return Err(SecretError::Absent(fingerprint)),
            None => return Err(cannot(cause)),
        };
        let mut inner = self.inner.clone();
        let parameters = match subkey {
            None => inner.primary_key.secret_params(),
            Some(index) => inner.secret_subkeys[index].key.secret_params(),
        };
        check_cost(parameters, &fingerprint)?;
        let password = passphrase.password();
        match subkey {
            None => inner.primary_key.remove_password(&password),
            Some(index) => inner.secret_subkeys[index].key.remove_password(&password),
        }
        .map_err(|_| SecretError::WrongPassphrase(fingerprint))?;
        Ok(SigningKey { public: self.public.clone(), inner, subkey })
    }

    /// The same key under another passphrase; an empty one leaves it unlocked.
    pub fn with_passphrase(&self, old: &Passphrase, new: &Passphrase) -> Result<SecretKey, SecretError> {
        let fingerprint = self.fingerprint();
        let mut inner = self.inner.clone();
        let wrong = |_| SecretError::WrongPassphrase(fingerprint.clone());
        let failed = |error: pgp::errors::Error| SecretError::Failed(fingerprint.clone(), describe(&error));
        let (old, locked) = (old.password(), new.password());
        let parameters = || S2kParams::new_default(rand::thread_rng(), inner.primary_key.version());
        let mut protections =
            std::iter::repeat_with(parameters).take(1 + inner.secret_subkeys.len()).collect::<Vec<_>>();
        check_cost(inner.primary_key.secret_params(), &fingerprint)?;
        if is_here(inner.primary_key.secret_params()) {
            inner.primary_key.remove_password(&old).map_err(wrong)?;
            if let Some(protection) = protections.pop().filter(|_| !new.is_empty()) {
                inner.primary_key.set_password_with_s2k(&locked, protection).map_err(failed)?;
            }
        }
        for subkey in &mut inner.secret_subkeys {
            check_cost(subkey.key.secret_params(), &fingerprint)?;
            if is_here(subkey.key.secret_params()) {
                subkey.key.remove_password(&old).map_err(wrong)?;
                if let Some(protection) = protections.pop().filter(|_| !new.is_empty()) {
                    subkey.key.set_password_with_s2k(&locked, protection).map_err(failed)?;
                }
            }
        }
        Ok(SecretKey::from_inner(inner))
    }

    /// The packets, secrets as they are kept.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn to_armor(&self) -> Zeroizing<String> {
        Zeroizing::new(armor::encode(Block::PrivateKey, &self.bytes) + "\n")
    }
}

/// Where a smart card or another keyring holds the secret, only a note stands in its place.
fn is_here(parameters: &SecretParams) -> bool {
    match parameters {
        SecretParams::Plain(_) => true,
        SecretParams::Encrypted(locked) => {
            !matches!(string_to_key(locked.string_to_key_params()), Some(StringToKey::Private { .. }))
        }
    }
}

fn check_cost(parameters: &SecretParams, fingerprint: &Fingerprint) -> Result<(), SecretError> {
    let SecretParams::Encrypted(locked) = parameters else { return Ok(()) };
    match string_to_key(locked.string_to_key_params()) {
        Some(StringToKey::Argon2 { t, m_enc, .. }) if *m_enc > MAXIMUM_ARGON2_MEMORY || *t > MAXIMUM_ARGON2_PASSES => {
            Err(SecretError::TooExpensive(fingerprint.clone()))
        }
        _ => Ok(()),
    }
}

fn string_to_key(parameters: &S2kParams) -> Option<&StringToKey> {
    match parameters {
        S2kParams::Cfb { s2k, .. } | S2kParams::Aead { s2k, .. } | S2kParams::MalleableCfb { s2k, .. } => Some(s2k),
        _ => None,
    }
}

/// A key that is ready to sign. Its secrets are overwritten when it is dropped.
pub struct SigningKey {
    public: PublicKey,
    inner: SignedSecretKey,
    /// Which subkey signs; `None` is the primary key.
    subkey: Option<usize>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.fingerprint())
    }
}

impl SigningKey {
    /// Of the primary key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint()
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A cleartext-signed message over `text`, dated `time` (Unix seconds), but never before the key was made. With keys of
    /// version 4 (RSA, Ed25519), equal arguments give equal bytes; ECDSA is deterministic too, by RFC 6979.
    pub fn sign_cleartext(&self, text: &str, time: i64) -> Result<String, SecretError> {
        let signature = match self.subkey {
            None => sign(&self.inner.primary_key, text, time),
            Some(index) => sign(&self.inner.secret_subkeys[index].key, text, time),
        };
        let mut packet = Vec::new();
        signature
            .and_then(|signature| signature.to_writer_with_header(&mut packet))
            .map_err(|error| SecretError::Failed(self.fingerprint(), describe(&error)))?;
        Ok(cleartext::compose(text, "SHA256", &armor::encode(Block::Signature, &packet)))
    }
}

fn sign(key: &impl pgp::types::SigningKey, text: &str, time: i64) -> pgp::errors::Result<Signature> {
    let birth = key.created_at().as_secs();
    let time = Timestamp::from_secs(u32::try_from(time).unwrap_or(0).max(birth));
    let mut config = match key.version() {
        KeyVersion::V6 => {
            SignatureConfig::v6(rand::thread_rng(), SignatureType::Text, key.algorithm(), HashAlgorithm::Sha256)?
        }
        _ => SignatureConfig::v4(SignatureType::Text, key.algorithm(), HashAlgorithm::Sha256),
    };
    config.hashed_subpackets = vec![
        Subpacket::critical(SubpacketData::SignatureCreationTime(time))?,
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
    ];
    if key.version() <= KeyVersion::V4 {
        config.hashed_subpackets.push(Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id()))?);
    }
    config.sign(key, &Password::empty(), cleartext::signed_bytes(text).as_slice())
}

/// Secret keys, in the order of their file. What cannot be read is kept as it is.
#[derive(Clone, Debug, Default)]
pub struct SecretKeyring {
    entries: Vec<Entry>,
}

#[derive(Clone)]
enum Entry {
    Key(Box<SecretKey>),
    Unread(Zeroizing<Vec<u8>>),
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Key(key) => fmt::Debug::fmt(key, formatter),
            Entry::Unread(bytes) => write!(formatter, "Unread({} bytes)", bytes.len()),
        }
    }
}

impl SecretKeyring {
    /// Reads a keyring file; see [`super::Keyring::read`].
    pub fn read(bytes: &[u8]) -> Result<SecretKeyring, KeyringError> {
        let Stream { keys, fault, .. } = split(bytes)?;
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        let entries = keys.into_iter().map(|(tag, bytes)| match tag {
            packet::SECRET_KEY => SecretKey::read(bytes.clone())
                .map_or_else(|_| Entry::Unread(Zeroizing::new(bytes)), |key| Entry::Key(Box::new(key))),
            _ => Entry::Unread(Zeroizing::new(bytes)),
        });
        Ok(SecretKeyring { entries: entries.collect() })
    }

    pub fn keys(&self) -> impl Iterator<Item = &SecretKey> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Key(key) => Some(key.as_ref()),
            Entry::Unread(_) => None,
        })
    }

    /// Puts a key in, in place of the one with its fingerprint. Tells whether it is new.
    pub fn insert(&mut self, key: SecretKey) -> bool {
        let fingerprint = key.fingerprint();
        let known = self.entries.iter_mut().find_map(|entry| match entry {
            Entry::Key(known) if known.fingerprint() == fingerprint => Some(known),
            _ => None,
        });
        match known {
            Some(known) => {
                **known = key;
                false
            }
            None => {
                self.entries.push(Entry::Key(Box::new(key)));
                true
            }
        }
    }

    /// Tells whether the key was there.
    pub fn remove(&mut self, fingerprint: &Fingerprint) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| !matches!(entry, Entry::Key(key) if key.fingerprint() == *fingerprint));
        self.entries.len() < before
    }

    /// The one key that is meant.
    pub fn select(&self, selector: &Selector) -> Result<&SecretKey, SelectError> {
        let found: Vec<&SecretKey> = self.keys().filter(|key| key.public().matches(selector)).collect();
        match found.as_slice() {
            [] => Err(SelectError::NotFound(selector.to_string())),
            [key] => Ok(key),
            many => Err(SelectError::Ambiguous {
                wanted: selector.to_string(),
                found: many.iter().map(|key| key.fingerprint()).collect(),
            }),
        }
    }

    /// The file. Secrets are as they were.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let parts = self.entries.iter().map(|entry| match entry {
            Entry::Key(key) => key.to_bytes(),
            Entry::Unread(bytes) => bytes.as_slice(),
        });
        Zeroizing::new(parts.flatten().copied().collect())
    }
}
