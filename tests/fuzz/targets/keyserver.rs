//! `fetch::keyserver`: indexes of servers, `remote.yaml`, addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::fetch::keyserver::remote::Remote;
use sifbuild::fetch::keyserver::{Keyserver, index};

fuzz_target!(|text: &str| {
    for key in index::parse(text) {
        assert!(key.fingerprint.len() >= 8 && key.user_ids.iter().all(|name| !name.contains(char::is_control)));
        key.status();
    }
    if let Ok(remote) = Remote::parse(text) {
        let _ = remote.servers();
        remote.hides_a_keyserver();
    }
    if let Ok(server) = Keyserver::parse(text) {
        assert!(matches!(server.url.scheme(), "http" | "https"));
    }
});
