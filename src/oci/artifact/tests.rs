use super::*;
use proptest::prelude::*;

fn content() -> Content {
    Content { media_type: SIF_LAYER.to_owned(), digest: Digest::of(b"sif"), size: 3, title: "a.sif".to_owned() }
}

fn manifest_of(bytes: &[u8]) -> Manifest {
    match parse(bytes, None).unwrap() {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => panic!("an index"),
    }
}

fn entry(architecture: &str, content: &[u8]) -> Descriptor {
    Descriptor {
        media_type: OCI_MANIFEST.to_owned(),
        digest: Digest::of(content),
        size: content.len() as u64,
        artifact_type: None,
        annotations: BTreeMap::new(),
        platform: Some(Platform { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None }),
    }
}

#[test]
fn writes_the_manifest_that_apptainer_writes() {
    let annotations = BTreeMap::from([(CREATED.to_owned(), "2026-01-02T03:04:05Z".to_owned())]);
    let text = String::from_utf8(write_sif_manifest(&content(), &annotations)).unwrap();
    let expected = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{OCI_MANIFEST}\",\"config\":{{\"mediaType\":\"{SIF_CONFIG}\",\
         \"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2,\"data\":\"e30=\"}},\
         \"layers\":[{{\"mediaType\":\"{SIF_LAYER}\",\"digest\":\"{}\",\"size\":3,\"annotations\":{{\"{TITLE}\":\"a.sif\"}}}}],\
         \"annotations\":{{\"{CREATED}\":\"2026-01-02T03:04:05Z\"}}}}",
        Digest::of(b"sif")
    );
    assert_eq!(text, expected);
}

#[test]
fn finds_the_sif_under_both_media_types_and_nothing_else() {
    let mut manifest = manifest_of(&write_sif_manifest(&content(), &BTreeMap::new()));
    assert_eq!(sif_of(&manifest).unwrap().digest, Digest::of(b"sif"));
    manifest.layers[0].media_type = "appliciation/vnd.sylabs.sif.layer.tar".to_owned();
    assert!(sif_of(&manifest).is_ok());
    manifest.layers[0].media_type = "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
    assert_eq!(sif_of(&manifest), Err(ArtifactError::ContainerImage));
    manifest.layers[0].media_type = "text/plain".to_owned();
    assert_eq!(sif_of(&manifest), Err(ArtifactError::NotASif { media_type: "text/plain".to_owned() }));
    manifest.layers[0].media_type = SIF_LAYER.to_owned();
    manifest.layers.push(manifest.layers[0].clone());
    assert_eq!(sif_of(&manifest), Err(ArtifactError::Files { count: 2 }));
    manifest.layers.clear();
    assert!(matches!(sif_of(&manifest), Err(ArtifactError::NotASif { .. })));
}

#[test]
fn an_index_keeps_what_it_has_and_takes_one_image_for_each_platform() {
    let one = merge_platform(None, &entry("amd64", b"1")).unwrap();
    let two = merge_platform(Some(&one), &entry("arm64", b"2")).unwrap();
    let again = merge_platform(Some(&two), &entry("amd64", b"3")).unwrap();
    let found: Vec<Digest> = entries(&again, None).unwrap().into_iter().map(|entry| entry.digest).collect();
    assert_eq!(found, [Digest::of(b"3"), Digest::of(b"2")]);

    let mut foreign: Value = serde_json::from_slice(&two).unwrap();
    foreign["x"] = json!({"kept": true});
    foreign["manifests"][1]["urls"] = json!(["https://x/"]);
    let merged = merge_platform(Some(foreign.to_string().as_bytes()), &entry("amd64", b"3")).unwrap();
    let merged: Value = serde_json::from_slice(&merged).unwrap();
    assert_eq!((&merged["x"]["kept"], &merged["manifests"][1]["urls"][0]), (&json!(true), &json!("https://x/")));
}

#[test]
fn an_image_is_no_index_to_merge_into() {
    let manifest = write_sif_manifest(&content(), &BTreeMap::new());
    assert!(merge_platform(Some(&manifest), &entry("amd64", b"1")).is_err());
    assert_eq!(entries(&manifest, None), Err(ArtifactError::NotAnIndex));
}

#[test]
fn what_is_attached_names_its_subject() {
    let subject = entry("amd64", b"subject");
    let bytes = write_referrer(&subject, "application/spdx+json", &content(), &BTreeMap::new());
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value["subject"]["digest"], json!(Digest::of(b"subject").to_string()));
    assert_eq!(value["artifactType"], json!("application/spdx+json"));
    assert_eq!(manifest_of(&bytes).layers[0].annotations[TITLE], "a.sif");
    assert_eq!(referrers_tag(&subject.digest), format!("sha256-{}", subject.digest.hex()));
    let index = merge_referrer(None, &entry("amd64", b"1")).unwrap();
    let twice = merge_referrer(Some(&index), &entry("amd64", b"1")).unwrap();
    assert_eq!(twice, index);
    assert_eq!(entries(&merge_referrer(Some(&index), &entry("amd64", b"2")).unwrap(), None).unwrap().len(), 2);
}

/// Indexes that are almost right.
fn nearly_an_index() -> impl Strategy<Value = Vec<u8>> {
    let digest = prop::sample::select(vec![Digest::of(b"1").to_string(), "sha256:1".to_owned(), String::new()]);
    let architecture = prop::sample::select(vec![json!("amd64"), json!("unknown"), json!(null), json!(7)]);
    let entry = (digest, architecture, any::<Option<u64>>()).prop_map(|(digest, architecture, size)| {
        json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size, "platform": {"os": "linux", "architecture": architecture}})
    });
    (prop::collection::vec(entry, 0..5), any::<bool>()).prop_map(|(entries, array)| {
        let manifests = if array { json!(entries) } else { json!(entries.first()) };
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string().into_bytes()
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = entries(&bytes, None);
        let _ = merge_platform(Some(&bytes), &entry("amd64", b"1"));
    }

    #[test]
    fn a_merge_gives_an_index_with_the_new_entry_or_an_error(bytes in nearly_an_index()) {
        let new = entry("amd64", b"new");
        if let Ok(merged) = merge_platform(Some(&bytes), &new) {
            let found = entries(&merged, None).unwrap();
            prop_assert_eq!(found.iter().filter(|other| other.digest == new.digest).count(), 1);
            prop_assert!(found.iter().filter(|other| other.platform == new.platform).count() == 1);
        }
    }
}
