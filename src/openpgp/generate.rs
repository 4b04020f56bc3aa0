//! New keys: version 4, one primary key that certifies and signs, as Apptainer and gpg read them.
//!
//! Deviation: Apptainer adds a subkey for encryption, whose secret it leaves unlocked whatever the passphrase; images are only signed, and
//! keys made here have none.

use super::fault::describe;
use super::secret::{Passphrase, SecretError, SecretKey};
use pgp::composed::{KeyType, SecretKeyParamsBuilder};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::types::CompressionAlgorithm;

pub const DEFAULT_RSA_BITS: u32 = 4096;
/// Sizes of RSA keys that are made: below is refused by [`super::policy`], above is slow and read by few.
pub const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Bits of the modulus.
    Rsa(u32),
    /// In the old encoding (EdDSA of RFC 4880bis), which every gpg reads.
    Ed25519,
}

/// What is said of a new key.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// `Name (Comment) <mail>`; see [`user_id`].
    pub user_id: String,
    pub algorithm: Algorithm,
    /// Empty: the key is kept unlocked.
    pub passphrase: Passphrase,
}

impl NewKey {
    /// Makes the key; RSA takes seconds. Its date is the clock's.
    pub fn generate(&self) -> Result<SecretKey, SecretError> {
        let failed = |error: String| SecretError::Generate(error);
        let key_type = match self.algorithm {
            Algorithm::Rsa(bits) if RSA_BITS.contains(&bits) => KeyType::Rsa(bits),
            Algorithm::Rsa(bits) => {
                return Err(failed(format!(
                    "an RSA key has {} to {} bits, not {bits}",
                    RSA_BITS.start(),
                    RSA_BITS.end()
                )));
            }
            Algorithm::Ed25519 => KeyType::Ed25519Legacy,
        };
        let parameters = SecretKeyParamsBuilder::default()
            .key_type(key_type)
            .can_certify(true)
            .can_sign(true)
            .primary_user_id(self.user_id.clone())
            .preferred_symmetric_algorithms([SymmetricKeyAlgorithm::AES256].into_iter().collect())
            .preferred_hash_algorithms([HashAlgorithm::Sha384, HashAlgorithm::Sha256].into_iter().collect())
            .preferred_compression_algorithms([CompressionAlgorithm::Uncompressed].into_iter().collect())
            .build()
            .map_err(|_| failed("its parts do not fit together".to_owned()))?;
        let key = parameters.generate(rand::thread_rng()).map_err(|error| failed(describe(&error).to_owned()))?;
        let key = SecretKey::from_inner(key);
        if self.passphrase.is_empty() { Ok(key) } else { key.with_passphrase(&Passphrase::new(""), &self.passphrase) }
    }
}

/// `Name (Comment) <mail>`, without the parts that are empty. `None` where a part holds a character that would make it another user id.
pub fn user_id(name: &str, comment: &str, mail: &str) -> Option<String> {
    let is_plain = |text: &str| !text.contains(['(', ')', '<', '>']) && !text.chars().any(char::is_control);
    if ![name, comment, mail].iter().all(|part| is_plain(part)) {
        return None;
    }
    let mut parts = Vec::new();
    parts.extend((!name.is_empty()).then(|| name.to_owned()));
    parts.extend((!comment.is_empty()).then(|| format!("({comment})")));
    parts.extend((!mail.is_empty()).then(|| format!("<{mail}>")));
    (!parts.is_empty()).then(|| parts.join(" "))
}
