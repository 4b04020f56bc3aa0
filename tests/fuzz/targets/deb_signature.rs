//! `deb::signature`: keyrings and signatures; no signature over another text is good.
//!
//! The first byte chooses: bytes as a keyring, or as a signature that a real key is asked about.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::deb::signature::verify;
use sifbuild::openpgp::Keyring;
use std::sync::LazyLock;

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    let mut keyring = Keyring::new();
    keyring.add(include_bytes!("../keys/test.gpg")).expect("a good keyring");
    keyring
});
const NOW: i64 = 1_800_000_000;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    if choice % 2 == 0 {
        let mut keyring = Keyring::new();
        let added = keyring.add(rest);
        assert_eq!(added.is_err(), keyring.is_empty());
        let good = verify(&keyring, b"signed text\n", include_bytes!("../keys/signed-text.sig"), NOW);
        assert!(good.is_err() || added.is_ok());
    } else {
        assert!(verify(&KEYRING, b"another text\n", rest, NOW).is_err(), "a signature over another text is good");
        let _ = verify(&KEYRING, b"signed text\n", rest, NOW);
    }
});
