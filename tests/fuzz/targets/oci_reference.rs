//! `oci::reference`: printed and read again the same; names are safe in a URL's path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::oci::reference::Reference;

fuzz_target!(|text: &str| {
    let Ok(reference) = Reference::parse(text) else { return };
    let again = Reference::parse(&reference.to_string()).expect("our own text");
    assert_eq!(again.to_string(), reference.to_string());
    assert_eq!(again.identifier(), reference.identifier());
    let safe = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\\".contains(&byte));
    assert!(safe(&reference.name()) && safe(&reference.identifier()) && safe(reference.host()));
    assert!(!reference.name().split('/').any(|part| part == ".." || part == "." || part.is_empty()));
});
