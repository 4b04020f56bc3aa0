//! Whether a release was signed by a key that we trust, by the rules of [`crate::openpgp::policy`].
//!
//! What archives choose: one good signature is enough, since they sign with the old and the new key while keys change; and SHA-1 is
//! accepted inside the keyring files (self-signatures): those files are the root of trust, not what they vouch for.

use crate::openpgp::policy::BlockError;
use crate::openpgp::{Keyring, Policy, Refusal, WeakSelfSignatures};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error("no signature is good: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoneGood(Vec<Refusal>),
}

/// Checks an armored or binary signature block over exactly these bytes at the time `now` (seconds since the epoch).
/// Gives the fingerprints of the primary keys whose signatures are good.
pub fn verify(keyring: &Keyring, signed: &[u8], block: &[u8], now: i64) -> Result<Vec<String>, SignatureError> {
    let policy = Policy { now, weak_self_signatures: WeakSelfSignatures::Accept };
    let mut good = Vec::new();
    let mut refusals = Vec::new();
    for judged in policy.judge(keyring, signed, block)? {
        match judged.map(|verified| verified.fingerprint.to_string()) {
            Ok(signer) if good.contains(&signer) => {}
            Ok(signer) => good.push(signer),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if good.is_empty() { Err(SignatureError::NoneGood(refusals)) } else { Ok(good) }
}
