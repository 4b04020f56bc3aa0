//! `sif::wrapped_key`: messages and PEM files of any kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::sif::wrapped_key::{check_public, unwrap};

/// Made for this: it opens nothing.
const KEY: &str = include_str!("../seeds/wrapped_key/private.pem");

fuzz_target!(|data: &[u8]| {
    let _ = unwrap("key.pem", KEY, data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = check_public("key.pem", text);
        let _ = unwrap("key.pem", text, b"-----BEGIN MESSAGE-----\nBAEA\n-----END MESSAGE-----\n");
    }
});
