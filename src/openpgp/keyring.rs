//! Many public keys, in the order of their file.
//!
//! A file that is read and written again keeps its bytes: keys that we cannot read (old versions, new algorithms) stay where they are.

use super::armor;
use super::key::{Fingerprint, KeyId, PublicKey, Revocation, Selector};
use super::packet::{self, PacketError, Stream};
use super::secret::SecretKey;
use std::collections::BTreeMap;

/// Longest keyring that is read, in bytes: 16 MiB.
pub const MAXIMUM_KEYRING: usize = 16 << 20;
/// Revocations of a stream that stand elsewhere than behind their keys, and are computed.
const MAXIMUM_STRAY_REVOCATIONS: usize = 2048;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    #[error("the keyring is larger than 16 MiB")]
    TooLarge,
    #[error("the armor cannot be read: {0}")]
    Armor(&'static str),
    #[error("{0}")]
    Packet(#[from] PacketError),
    #[error("a key cannot be read: {0}")]
    Key(&'static str),
    #[error("it holds no key")]
    NoKey,
}

/// Why a selector does not give one key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("no key {0} in the keyring")]
    NotFound(String),
    #[error("{wanted} fits more than one key: {}", .found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Ambiguous { wanted: String, found: Vec<Fingerprint> },
}

/// What [`Keyring::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    New,
    /// The key was there; signatures, user ids or subkeys were added.
    Updated,
    Known,
}

/// Public keys.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Key(Box<PublicKey>),
    Unread(Vec<u8>),
}

/// The keys of a file of either kind.
#[derive(Debug, Default)]
pub struct Contents {
    pub public: Vec<PublicKey>,
    pub secret: Vec<SecretKey>,
    /// Revocations of keys that are not in the file; see [`Keyring::revoke`].
    pub revocations: Vec<Revocation>,
    /// Keys that cannot be read, and why the first cannot.
    pub unread: Option<(usize, KeyringError)>,
}

impl Keyring {
    pub fn new() -> Keyring {
        Keyring::default()
    }

    /// Reads a keyring file. An empty one has no keys; a damaged one is an error, so that it is never overwritten.
    pub fn read(bytes: &[u8]) -> Result<Keyring, KeyringError> {
        let Stream { keys, revocations, fault } = split(bytes)?;
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        let entries = keys.into_iter().map(|(tag, bytes)| match tag {
            packet::PUBLIC_KEY => {
                PublicKey::read(bytes.clone()).map_or(Entry::Unread(bytes), |key| Entry::Key(Box::new(key)))
            }
            _ => Entry::Unread(bytes),
        });
        let mut entries: Vec<Entry> = entries.collect();
        let read = entries.iter_mut().enumerate().filter_map(|(index, entry)| match entry {
            Entry::Key(key) => Some((index, key.as_mut())),
            Entry::Unread(_) => None,
        });
        attach(read, revocations);
        Ok(Keyring { entries })
    }

    /// Adds the public keys of a file, binary or armored, one or many blocks. Gives how many there were.
    pub fn add(&mut self, bytes: &[u8]) -> Result<usize, KeyringError> {
        let contents = Contents::read(bytes)?;
        let count = contents.public.len();
        for key in contents.public {
            self.insert(key);
        }
        for revocation in &contents.revocations {
            self.revoke(revocation);
        }
        match (count, contents.unread) {
            (0, Some((_, fault))) => Err(fault),
            (0, None) => Err(KeyringError::NoKey),
            _ => Ok(count),
        }
    }

    /// Adds a key, or what it has more than the copy that is here.
    pub fn insert(&mut self, key: PublicKey) -> Inserted {
        let fingerprint = key.fingerprint();
        let known = self.entries.iter_mut().find_map(|entry| match entry {
            Entry::Key(known) if known.fingerprint() == fingerprint => Some(known),
            _ => None,
        });
        match known {
            Some(known) => {
                if known.merge(key) {
                    Inserted::Updated
                } else {
                    Inserted::Known
                }
            }
            None => {
                self.entries.push(Entry::Key(Box::new(key)));
                Inserted::New
            }
        }
    }

    /// Gives a revocation to the key that it is of. Gives that key's fingerprint, and whether the revocation is new.
    pub fn revoke(&mut self, revocation: &Revocation) -> Option<(Fingerprint, bool)> {
        let mut found: Option<(Fingerprint, bool)> = None;
        for entry in &mut self.entries {
            if let Entry::Key(key) = entry
                && let Some(is_new) = key.revoke(revocation)
            {
                let was_new = found.is_some_and(|(_, is_new)| is_new);
                found = Some((key.fingerprint(), is_new || was_new));
            }
        }
        found
    }

    /// Tells whether the key was there.
    pub fn remove(&mut self, fingerprint: &Fingerprint) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| !matches!(entry, Entry::Key(key) if key.fingerprint() == *fingerprint));
        self.entries.len() < before
    }

    pub fn is_empty(&self) -> bool {
        self.keys().next().is_none()
    }

    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Key(key) => Some(key.as_ref()),
            Entry::Unread(_) => None,
        })
    }

    /// Keys of the file that cannot be read here.
    pub fn unread(&self) -> usize {
        self.entries.len() - self.keys().count()
    }

    pub fn find(&self, fingerprint: &Fingerprint) -> Option<&PublicKey> {
        self.keys().find(|key| key.fingerprint() == *fingerprint)
    }

    /// The one key that is meant.
    pub fn select(&self, selector: &Selector) -> Result<&PublicKey, SelectError> {
        let found: Vec<&PublicKey> = self.keys().filter(|key| key.matches(selector)).collect();
        match found.as_slice() {
            [] => Err(SelectError::NotFound(selector.to_string())),
            [key] => Ok(key),
            many => Err(SelectError::Ambiguous {
                wanted: selector.to_string(),
                found: many.iter().map(|key| key.fingerprint()).collect(),
            }),
        }
    }

    /// The file: packets one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.entries
            .iter()
            .flat_map(|entry| match entry {
                Entry::Key(key) => key.to_bytes(),
                Entry::Unread(bytes) => bytes,
            })
            .copied()
            .collect()
    }
}

impl Contents {
    /// The keys of a file, public and secret, binary or armored. Keys that cannot be read are counted.
    pub fn read(bytes: &[u8]) -> Result<Contents, KeyringError> {
        let Stream { keys, revocations, fault } = split(bytes)?;
        let mut contents = Contents { unread: fault.map(|fault| (1, fault.into())), ..Contents::default() };
        let mut places = Vec::new();
        for (index, (tag, bytes)) in keys.into_iter().enumerate() {
            let read = if tag == packet::SECRET_KEY {
                SecretKey::read(bytes).map(|key| contents.secret.push(key))
            } else {
                PublicKey::read(bytes).map(|key| {
                    contents.public.push(key);
                    places.push(index);
                })
            };
            if let Err(fault) = read {
                let (count, fault) = contents.unread.unwrap_or((0, fault));
                contents.unread = Some((count + 1, fault));
            }
        }
        contents.revocations = attach(places.into_iter().zip(&mut contents.public), revocations);
        Ok(contents)
    }
}

/// Gives the revocations of a stream to its keys, which come with their indexes there. What fits none is given back.
fn attach<'a>(
    keys: impl Iterator<Item = (usize, &'a mut PublicKey)>,
    revocations: Vec<(Option<usize>, Vec<u8>)>,
) -> Vec<Revocation> {
    if revocations.is_empty() {
        return Vec::new();
    }
    let mut by_id: BTreeMap<KeyId, Vec<(usize, &mut PublicKey)>> = BTreeMap::new();
    for (index, key) in keys {
        by_id.entry(key.fingerprint().key_id()).or_default().push((index, key));
    }
    let (mut budget, mut left) = (MAXIMUM_STRAY_REVOCATIONS, Vec::new());
    for (behind, packet) in revocations {
        let Some(revocation) = Revocation::read(&packet) else { continue };
        let Some(named) = revocation.issuer().key_id().and_then(|id| by_id.get_mut(&id)) else {
            left.push(revocation);
            continue;
        };
        for (index, key) in named.iter_mut() {
            // Behind its key it was read with it.
            if behind != Some(*index) && budget > 0 {
                budget -= 1;
                key.revoke(&revocation);
            }
        }
    }
    left
}

/// The keys' packets; an empty file has none.
pub(super) fn split(bytes: &[u8]) -> Result<Stream, KeyringError> {
    if bytes.len() > MAXIMUM_KEYRING {
        return Err(KeyringError::TooLarge);
    }
    if bytes.is_empty() {
        return Ok(Stream::default());
    }
    Ok(packet::transferable_keys(&armor::decode(bytes).map_err(KeyringError::Armor)?))
}
