//! `fetch::library`: references, and the endpoints of `remote.yaml`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::fetch::library::{LibraryReference, parse_remotes};

fuzz_target!(|text: &str| {
    if let Ok(reference) = LibraryReference::parse(text) {
        let shown = reference.to_string();
        assert!(shown.split(['/', ':']).all(|part| !part.is_empty() && !part.starts_with('.')), "{shown}");
        assert!(shown.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte)), "{shown}");
        let again = LibraryReference::parse(&shown).expect("it was read before");
        assert_eq!(again, LibraryReference { host: None, ..reference });
    }
    let (_, remotes) = parse_remotes(text);
    assert!(remotes.len() <= text.lines().count());
    // The token itself is never shown; a damaged line may make the same text a host's name.
    for token in remotes.iter().filter_map(|remote| remote.token.as_ref()) {
        assert_ne!(format!("{token:?}"), format!("{:?}", token.reveal()));
    }
});
