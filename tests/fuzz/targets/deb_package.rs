//! `deb::package`: both parts of a package file, and the control file in one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::deb::package::{Part, control, open};
use sifbuild_fuzz::read_some;

fuzz_target!(|data: &[u8]| {
    let _ = control(data);
    for part in [Part::Control, Part::Data] {
        if let Ok(reader) = open(data, part) {
            read_some(reader);
        }
    }
});
