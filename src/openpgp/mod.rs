//! OpenPGP: keyrings, cleartext signatures, keys of our own, and the one policy that says which signature counts.
//!
//! The `pgp` crate does the mathematics and says nothing about time, revocation, purpose or strength; what it computes is judged in
//! [`policy`] and nowhere else. By file: `packet` frames a stream of packets, [`armor`] is its text form, [`key`] is one public key,
//! [`keyring`] many, [`secret`] the same with secrets, [`generate`] makes new ones, [`cleartext`] is text with its signature,
//! `fault` what is said of what cannot be read.
//!
//! Pure: reads and writes bytes, asks no clock and no disk. Random numbers are the system's. Source: RFC 9580, RFC 4880.

pub mod armor;
pub mod cleartext;
mod fault;
pub mod generate;
pub mod key;
pub mod keyring;
mod packet;
pub mod policy;
pub mod secret;

#[cfg(test)]
mod tests;

pub use cleartext::{Cleartext, CleartextError};
pub use generate::{Algorithm, NewKey};
pub use key::{Fingerprint, Issuer, KeyId, PublicKey, Revocation, Selector};
pub use keyring::{Keyring, KeyringError, SelectError};
pub use policy::{Cause, Judge, Policy, Refusal, Verified, Warning, WeakSelfSignatures};
pub use secret::{Passphrase, SecretError, SecretKey, SecretKeyring, SigningKey};
