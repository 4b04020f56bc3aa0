//! `pacman::configuration`: names of repositories become parts of addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::pacman::configuration::parse;

fuzz_target!(|text: &str| {
    let Ok(found) = parse(text) else { return };
    assert!(!found.repositories.is_empty());
    assert!(found.repositories.iter().all(|(name, _)| !name.contains(['/', ' ', '$']) && !name.starts_with('.')));
});
