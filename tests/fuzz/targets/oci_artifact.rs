//! `oci::artifact`: SIF artifacts, indexes that something is put into, lists of referrers; `oci::vendor`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::digest::Digest;
use sifbuild::oci::artifact::{entries, merge_platform, merge_referrer, sif_of};
use sifbuild::oci::manifest::{Descriptor, Document, OCI_MANIFEST, Platform, parse};
use sifbuild::oci::vendor;

fuzz_target!(|data: &[u8]| {
    let _ = vendor::read_index(data);
    if let Ok((lock, files)) = vendor::read_manifest(data) {
        let written = vendor::write_manifest(lock.clone(), files.values().cloned().collect());
        assert_eq!(vendor::read_manifest(&written), Ok((lock, files)));
    }
    if let Ok(Document::Manifest(manifest)) = parse(data, None) {
        let _ = sif_of(&manifest);
    }
    let new = Descriptor {
        media_type: OCI_MANIFEST.to_owned(),
        digest: Digest::of(b"new"),
        size: 3,
        artifact_type: None,
        annotations: Default::default(),
        platform: Some(Platform { architecture: "amd64".to_owned(), os: "linux".to_owned(), variant: None }),
    };
    let before = entries(data, None).map_or(0, |found| found.len());
    if let Ok(merged) = merge_platform(Some(data), &new) {
        let found = entries(&merged, None).expect("an index was written");
        assert_eq!(found.iter().filter(|entry| entry.platform == new.platform).count(), 1);
        assert!(found.iter().any(|entry| entry.digest == new.digest));
    }
    if let Ok(merged) = merge_referrer(Some(data), &new) {
        let found = entries(&merged, None).expect("an index was written");
        assert_eq!(found.iter().filter(|entry| entry.digest == new.digest).count(), 1);
        assert!(found.len() <= before + 1);
    }
});
