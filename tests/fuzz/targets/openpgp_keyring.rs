//! `openpgp::keyring` and `openpgp::secret`: keyrings that are read are written with the same bytes; keys are judged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::openpgp::keyring::Contents;
use sifbuild::openpgp::{Keyring, Passphrase, Policy, SecretKeyring};

const NOW: i64 = 1_800_000_000;

fuzz_target!(|data: &[u8]| {
    let policy = Policy::at(NOW);
    if let Ok(keyring) = Keyring::read(data) {
        let bytes = keyring.to_bytes();
        let again = Keyring::read(&bytes).expect("our own bytes");
        assert_eq!(again.to_bytes(), bytes);
        for key in keyring.keys() {
            let _ = policy.check_key(key);
            assert!(keyring.find(&key.fingerprint()).is_some() && key.user_ids().len() <= data.len());
        }
        // The same keys again bring nothing.
        let mut merged = again.clone();
        let count = merged.keys().count();
        for key in keyring.keys() {
            merged.insert(key.clone());
        }
        assert_eq!(merged.keys().count(), count);
    }
    if let Ok(keyring) = SecretKeyring::read(data) {
        let bytes = keyring.to_bytes();
        assert_eq!(*SecretKeyring::read(&bytes).expect("our own bytes").to_bytes(), *bytes);
        for key in keyring.keys().take(4) {
            if let Ok(signing) = key.unlock(&Passphrase::new(""), &policy) {
                let _ = signing.sign_cleartext("text", NOW);
            }
        }
    }
    if let Ok(contents) = Contents::read(data) {
        contents.public.iter().for_each(|key| drop(policy.check_key(key)));
    }
});
