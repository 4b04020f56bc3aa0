//! `deb::index` and `deb::select`: names of an index stay below the mirror; every choice among its packages ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::deb::Variant;
use sifbuild::deb::index::{is_relative_path, parse};
use sifbuild::deb::select::{Choice, select};

fuzz_target!(|text: &str| {
    let Ok(packages) = parse(text) else { return };
    for package in &packages {
        assert!(is_relative_path(package.filename));
    }
    let include = ["b".to_owned()];
    for (variant, include) in [(Variant::Minbase, &[][..]), (Variant::Standard, &include[..])] {
        let choice = Choice { variant, architecture: "amd64", codename: "bookworm", include, https: true, kept: &Default::default() };
        if let Ok(pins) = select(&packages, &choice) {
            for pin in &pins {
                assert!(is_relative_path(&pin.filename) && !pin.file_name().contains('/'));
            }
        }
    }
});
