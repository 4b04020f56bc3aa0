//! `sif::signature::metadata` and `envelope`: what is read is written and read again; nothing is signed by a key that did not sign.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::sif::signature::PublicKey;
use sifbuild::sif::signature::digest::Algorithm;
use sifbuild::sif::signature::envelope::Envelope;
use sifbuild::sif::signature::legacy;
use sifbuild::sif::signature::metadata::Metadata;
use std::sync::LazyLock;

const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAsvzJQp+X0MgBDcD3Vw42WHBbtyD1qB4A8tv9EB1UJXY=\n-----END PUBLIC KEY-----\n";
static KEYS: LazyLock<[PublicKey; 1]> = LazyLock::new(|| [PublicKey::from_pem(KEY).expect("a good key")]);

fuzz_target!(|data: &[u8]| {
    if let Ok(metadata) = Metadata::parse(data) {
        assert_eq!(Metadata::parse(metadata.to_json().as_bytes()).expect("our own text"), metadata);
    }
    if let Some(envelope) = Envelope::parse(data) {
        assert!(envelope.verify(&*KEYS, Algorithm::Sha256).is_err());
        assert!(Envelope::parse(envelope.to_json().as_bytes()).is_some());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(legacy::parse(text, Algorithm::Sha384).is_none() || legacy::is_legacy(text));
    }
});
