//! LUKS2 containers, made and read without the kernel: how Apptainer stores an encrypted squashfs (facts §5.5).
//!
//! Knows nothing of SIF or of files. Purpose by file: [`format`] is the two headers and their JSON, `cipher` the sectors,
//! `keyslot` the way from a passphrase to the volume key, [`reader`] trusts nothing, [`writer`] makes a container around a stream,
//! [`dump`] prints.
//!
//! Sources: the LUKS2 on-disk format specification 1.1.2, the LUKS1 specification 1.2 (anti-forensic splitting), IEEE 1619 (XTS), and
//! containers made by cryptsetup 2.6 and 2.8.

mod cipher;
pub mod dump;
pub mod format;
mod keyslot;
pub mod reader;
pub mod writer;

pub use keyslot::Kdf;

/// Fills a buffer with bytes that nobody can guess.
pub type Entropy<'a> = &'a dyn Fn(&mut [u8]) -> std::io::Result<()>;

#[cfg(test)]
mod tests;
