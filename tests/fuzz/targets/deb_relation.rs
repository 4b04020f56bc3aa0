//! `deb::relation`: printed and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::deb::relation::{is_package_name, parse};

fuzz_target!(|text: &str| {
    let Ok(all) = parse(text) else { return };
    let printed: Vec<String> = all
        .iter()
        .map(|alternatives| alternatives.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))
        .collect();
    for relation in all.iter().flatten() {
        assert!(is_package_name(&relation.name));
        relation.applies("amd64", &["nocheck"]);
        relation.accepts("1.0-1");
        relation.accepts_provided(None);
    }
    assert_eq!(parse(&printed.join(", ")).expect("our own text"), all);
});
