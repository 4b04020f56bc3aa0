//! `openpgp::cleartext` and `deb::release`: nothing unsigned is read; a release file is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::deb::release::{Release, parse_date};
use sifbuild::openpgp::Cleartext;

fuzz_target!(|text: &str| {
    parse_date(text);
    read(text);
    let Ok(split) = Cleartext::split(text) else { return };
    assert!(split.text.len() <= text.len() && split.signature.starts_with("-----BEGIN PGP SIGNATURE-----\n"));
    assert!(!split.text.contains('\r') || split.text.split('\n').all(|line| !line.ends_with('\r')));
    let signed = split.signed_bytes();
    let escaped: String = split
        .text
        .split('\n')
        .map(|line| if line.starts_with('-') { format!("- {line}\n") } else { format!("{line}\n") })
        .collect();
    let again = Cleartext::split(&format!("-----BEGIN PGP SIGNED MESSAGE-----\n\n{escaped}{}", split.signature));
    let again = again.expect("what was split can be put together");
    assert_eq!((again.signed_bytes(), &again.text), (signed, &split.text));
    read(&split.text);
});

fn read(text: &str) {
    let Ok(release) = Release::parse(text) else { return };
    assert!(release.files.len() <= 200_000);
    assert!(![&release.suite, &release.codename, &release.origin].iter().any(|value| value.contains('\n')));
}
