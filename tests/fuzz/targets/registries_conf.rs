//! `fetch::registry::configuration`: every image has somewhere to come from, or is blocked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::fetch::registry::Configuration;
use sifbuild::oci::reference::Reference;
use std::path::Path;

fuzz_target!(|text: &str| {
    let mut configuration = Configuration::default();
    if configuration.add(text, Path::new("registries.conf")).is_err() {
        return;
    }
    for name in ["alpine", "r.test/a/b:1", "localhost:5000/x"] {
        let reference = Reference::parse(name).expect("a good name");
        if let Ok(endpoints) = configuration.endpoints(&reference) {
            assert!(endpoints.last().is_some_and(|endpoint| !endpoint.mirror));
        }
    }
});
