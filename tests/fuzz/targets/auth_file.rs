//! `fetch::auth::file`: credential files of docker and podman; messages hold no secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::fetch::auth::file::AuthFile;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("auth.json");
    let Ok(file) = AuthFile::parse(data, path) else { return };
    for registry in ["docker.io", "localhost:5000", "r.test"] {
        file.helper(registry);
        if let Ok(Some((_, credential))) = file.entry(path, registry, "library/alpine") {
            assert!(!format!("{credential:?}").contains("hunter2"), "a secret is shown");
        }
    }
});
