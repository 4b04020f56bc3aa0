//! `oci::config`: what is marshalled is JSON, and reads back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::oci::config::{go_marshal, parse};

fuzz_target!(|data: &[u8]| {
    let Ok(config) = parse(data) else { return };
    let again: serde_json::Value = serde_json::from_str(&go_marshal(&config.raw)).expect("our own JSON");
    assert_eq!(again, config.raw);
    let marshalled: serde_json::Value = serde_json::from_str(&config.marshal()).expect("our own JSON");
    assert!(marshalled.is_object());
});
