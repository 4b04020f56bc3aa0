//! `deb::package`: both parts of a package file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::deb::package::{Part, open};
use sifbuild_fuzz::read_some;

fuzz_target!(|data: &[u8]| {
    for part in [Part::Control, Part::Data] {
        if let Ok(reader) = open(data, part) {
            read_some(reader);
        }
    }
});
