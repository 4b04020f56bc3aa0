//! `plan::KeyDocument`: documents that the store keeps. Two of them, parted by a line of `%%`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::plan::KeyDocument;

fuzz_target!(|text: &str| {
    let (old, new) = text.split_once("\n%%\n").unwrap_or((text, ""));
    let (Ok(old), Ok(new)) = (KeyDocument::parse(old), KeyDocument::parse(new)) else { return };
    assert_eq!(KeyDocument::parse(&old.write()).expect("our own text"), old);
    assert!(old.differences(&old).is_empty());
    let differences = old.differences(&new);
    assert_eq!(differences.is_empty(), old == new);
    differences.iter().for_each(|difference| drop(difference.to_string()));
});
