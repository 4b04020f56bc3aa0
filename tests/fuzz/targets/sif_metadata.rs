//! `sif::metadata`: what is read is written and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::sif::metadata::{Metadata, to_json_compact, to_json_indented};

fuzz_target!(|data: &[u8]| {
    let Ok(metadata) = Metadata::parse(data) else { return };
    for text in [to_json_compact(&metadata), to_json_indented(&metadata)] {
        assert_eq!(Metadata::parse(text.as_bytes()).expect("our own JSON"), metadata);
    }
});
