//! All files that a lock file names, as one artifact: the lock is its config, each file a layer.
//!
//! A layout directory with this manifest alone in its index, and the same in a registry, are the same thing. Which files there are and in
//! which order depends on the lock only, so that two collections of one lock are equal byte for byte.
//!
//! Sources: OCI image-spec 1.1, manifest.md ("Guidelines for Artifact Usage"), image-layout.md.

use super::artifact::TITLE;
use super::manifest::{Descriptor, Document, Index, Manifest, ManifestError, OCI_INDEX, OCI_MANIFEST, parse};
use std::collections::BTreeMap;

/// What the artifact is.
pub const VENDOR: &str = "application/vnd.sifbuild.vendor.v1";
/// Of its config.
pub const LOCK: &str = "application/vnd.sifbuild.lock.v1";
/// Annotation of a file that the lock names by another checksum than SHA-256: that one.
pub const CHECKSUM: &str = "org.sifbuild.checksum";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VendorError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("it was not made by `sifbuild vendor`: it holds no artifact of the type {VENDOR}")]
    NotOurs,
}

/// A file of the artifact; `checksum` is as the lock has it.
pub fn describe(file: Descriptor, title: &str, checksum: &str) -> Descriptor {
    let mut annotations = BTreeMap::from([(TITLE.to_owned(), title.to_owned())]);
    if checksum != file.digest.to_string() {
        annotations.insert(CHECKSUM.to_owned(), checksum.to_owned());
    }
    Descriptor { annotations, ..file }
}

pub fn write_manifest(lock: Descriptor, files: Vec<Descriptor>) -> Vec<u8> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        artifact_type: Some(VENDOR.to_owned()),
        config: lock,
        layers: files,
        annotations: BTreeMap::new(),
    };
    serde_json::to_vec(&manifest).expect("texts and numbers can be written")
}

/// The index of a layout that holds the artifact alone.
pub fn write_index(manifest: Descriptor) -> Vec<u8> {
    let manifests = vec![Descriptor { artifact_type: Some(VENDOR.to_owned()), ..manifest }];
    let (media_type, annotations) = (OCI_INDEX.to_owned(), BTreeMap::new());
    serde_json::to_vec(&Index { schema_version: 2, media_type, manifests, annotations })
        .expect("texts and numbers can be written")
}

/// Which of an index's manifests is the artifact's.
pub fn read_index(bytes: &[u8]) -> Result<Descriptor, VendorError> {
    let Document::Index(index) = parse(bytes, Some(OCI_INDEX))? else { return Err(VendorError::NotOurs) };
    let is_ours = |entry: &Descriptor| entry.artifact_type.as_deref() == Some(VENDOR);
    index.manifests.into_iter().find(is_ours).ok_or(VendorError::NotOurs)
}

/// The lock, and the files by the checksums that it names them with.
pub fn read_manifest(bytes: &[u8]) -> Result<(Descriptor, BTreeMap<String, Descriptor>), VendorError> {
    match parse(bytes, Some(OCI_MANIFEST))? {
        Document::Manifest(manifest) if manifest.artifact_type.as_deref() == Some(VENDOR) => {
            let named = |file: Descriptor| {
                let digest = || file.digest.to_string();
                (file.annotations.get(CHECKSUM).cloned().unwrap_or_else(digest), file)
            };
            Ok((manifest.config, manifest.layers.into_iter().map(named).collect()))
        }
        _ => Err(VendorError::NotOurs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use proptest::prelude::*;

    fn descriptor(bytes: &[u8]) -> Descriptor {
        Descriptor {
            media_type: "text/plain".to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    #[test]
    fn files_are_found_by_the_checksums_of_the_lock() {
        let (one, two) = (descriptor(b"one"), descriptor(b"two"));
        let files =
            vec![describe(one.clone(), "a.rpm", &one.digest.to_string()), describe(two.clone(), "b.rpm", "sha512:ab")];
        let bytes = write_manifest(descriptor(b"lock"), files);
        let (_, read) = read_manifest(&bytes).unwrap();
        assert_eq!(read.keys().cloned().collect::<Vec<_>>(), [one.digest.to_string(), "sha512:ab".to_owned()]);
        assert_eq!(read["sha512:ab"].digest, two.digest);
        let index = write_index(descriptor(&bytes));
        assert_eq!(read_index(&index).unwrap().digest, Digest::of(&bytes));
    }

    #[test]
    fn other_artifacts_and_images_are_refused() {
        let plain = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":1}}]}}"#, Digest::of(b""));
        assert_eq!(read_index(plain.as_bytes()), Err(VendorError::NotOurs));
        let image = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":1}}}}"#, Digest::of(b""));
        assert_eq!(read_manifest(image.as_bytes()), Err(VendorError::NotOurs));
    }

    proptest! {
        #[test]
        fn damaged_documents_never_panic(at in 0usize..600, junk in "[ -~]{0,4}") {
            let one = descriptor(b"one");
            let mut text = String::from_utf8(write_manifest(one.clone(), vec![describe(one, "a", "sha512:ab")])).unwrap();
            text.insert_str(at.min(text.len()), &junk);
            let _ = (read_manifest(text.as_bytes()), read_index(text.as_bytes()));
        }
    }
}
