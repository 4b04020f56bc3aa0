//! `pacman::package`: what a package file says that it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::pacman::package::identity;

fuzz_target!(|data: &[u8]| {
    let _ = identity(data);
});
