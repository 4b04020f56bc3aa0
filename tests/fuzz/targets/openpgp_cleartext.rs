//! `openpgp::cleartext`: what is split can be put together again; a signature over another text is never good.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::openpgp::cleartext::compose;
use sifbuild::openpgp::policy::issuers;
use sifbuild::openpgp::{Cleartext, Keyring, Policy};
use std::sync::LazyLock;

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    let mut keyring = Keyring::new();
    keyring.add(include_bytes!("../keys/test.gpg")).expect("a good keyring");
    keyring
});

fuzz_target!(|text: &str| {
    let Ok(split) = Cleartext::split(text) else { return };
    let again = Cleartext::split(&compose(&split.text, "SHA256", &split.signature)).expect("what was split");
    assert_eq!(again.signed_bytes(), split.signed_bytes());
    let _ = issuers(split.signature.as_bytes());
    // The key has signed one text only, and none of this form.
    for judged in Policy::at(1_800_000_000).judge(&KEYRING, &split.signed_bytes(), split.signature.as_bytes()).into_iter().flatten() {
        assert!(judged.is_err());
    }
});
