//! `sif::signature::certificate` and keys in PEM files: nothing is trusted that no root vouches for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::sif::signature::{PrivateKey, PublicKey, certificate};

fuzz_target!(|data: &[u8]| {
    let _ = PublicKey::from_der(data);
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(key) = PublicKey::from_pem(text) {
            assert!(key.id().starts_with("SHA256:"));
        }
        let _ = PrivateKey::from_pem(text, None);
    }
    if let Ok(certificates) = certificate::read("certificate", data) {
        assert!(certificate::key(&certificates, &certificates, &[], 1_800_000_000).is_err());
        let _ = certificate::key(&certificates, &certificates, &certificates, 1_800_000_000);
    }
});
