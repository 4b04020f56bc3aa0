//! `oci::manifest`: documents of every type; what is read is written and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::arch::Arch;
use sifbuild::oci::manifest::{ACCEPTED, Document, ManifestError, Target, parse, resolve};

fuzz_target!(|data: &[u8]| {
    let target = Target::new(Arch::Amd64, None);
    for media_type in ACCEPTED.iter().copied().map(Some).chain([None, Some("application/json")]) {
        let Ok(document) = parse(data, media_type) else { continue };
        match &document {
            Document::Index(index) => {
                let text = serde_json::to_vec(index).expect("it was JSON");
                assert_eq!(parse(&text, media_type), Ok(document.clone()));
                let _ = index.candidates(&target);
            }
            Document::Manifest(manifest) => {
                let text = serde_json::to_vec(manifest).expect("it was JSON");
                assert_eq!(parse(&text, media_type), Ok(document.clone()));
                let _ = manifest.filesystem_layers();
            }
        }
        // An index that holds itself.
        let mut fetches = 0;
        let _ = resolve::<ManifestError>(document.clone(), &target, &mut |_| {
            fetches += 1;
            assert!(fetches < 1000, "an index in itself is followed for ever");
            Ok(document.clone())
        });
    }
});
