//! `sif::signature::verify`: images with signature objects of any bytes; none holds, for nobody has signed any.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::openpgp::{Keyring, Policy};
use sifbuild::sif::reader::Sif;
use sifbuild::sif::signature::{Material, Scope, issuers, verify};
use std::io::Cursor;
use std::sync::LazyLock;

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    let mut keyring = Keyring::new();
    keyring.add(include_bytes!("../keys/test.gpg")).expect("a good keyring");
    keyring
});

fuzz_target!(|data: &[u8]| {
    let Ok(mut sif) = Sif::read(Cursor::new(data)) else { return };
    let _ = issuers(&mut sif, Scope::Groups, false);
    for (scope, legacy) in [(Scope::Groups, false), (Scope::Groups, true), (Scope::EachObject, true), (Scope::Object(1), false)] {
        let material = Material { keyring: Some(&KEYRING), policy: Policy::at(1_800_000_000), keys: &[], legacy };
        let Ok(report) = verify(&mut sif, scope, &material) else { continue };
        assert!(!report.holds() && report.signers_of_everything().is_empty());
        assert!(report.complaint().is_some());
    }
});
