use super::*;
use proptest::prelude::*;

fn entry(architecture: &str, variant: &str, number: u8) -> String {
    let variant = if variant.is_empty() { String::new() } else { format!(",\"variant\":\"{variant}\"") };
    format!(
        "{{\"mediaType\":\"{OCI_MANIFEST}\",\"size\":2,\"digest\":\"sha256:{}\",\"platform\":{{\"os\":\"linux\",\"architecture\":\"{architecture}\"{variant}}}}}",
        format!("{number:02x}").repeat(32)
    )
}

fn index(entries: &[String]) -> Index {
    let text = format!("{{\"schemaVersion\":2,\"mediaType\":\"{OCI_INDEX}\",\"manifests\":[{}]}}", entries.join(","));
    match parse(text.as_bytes(), None).unwrap() {
        Document::Index(index) => index,
        Document::Manifest(_) => panic!("an index was read as a manifest"),
    }
}

fn chosen(index: &Index, arch: Arch, variant: Option<&str>) -> String {
    index.candidates(&Target::new(arch, variant))[0].digest.hex()[..2].to_owned()
}

#[test]
fn chooses_the_platform_and_skips_attestations() {
    let index = index(&[
        entry("unknown", "", 1),
        entry("arm", "v5", 5),
        entry("arm", "v7", 7),
        entry("arm64", "v8", 8),
        entry("amd64", "", 9),
    ]);
    assert_eq!(chosen(&index, Arch::Amd64, None), "09");
    assert_eq!(chosen(&index, Arch::Arm64, None), "08");
    assert_eq!(chosen(&index, Arch::Arm, Some("v7")), "07");
    assert_eq!(chosen(&index, Arch::Arm, Some("v6")), "05");
    assert_eq!(chosen(&index, Arch::Arm, None), "07");
    let refused = resolve::<ManifestError>(Document::Index(index), &Target::new(Arch::S390x, None), &mut |_| {
        panic!("nothing is asked for")
    });
    assert_eq!(
        refused.unwrap_err().to_string(),
        "no image for linux/s390x; there is linux/arm/v5, linux/arm/v7, linux/arm64/v8, linux/amd64"
    );
}

#[test]
fn descends_into_indexes_inside_indexes_but_not_forever() {
    let nested = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"{OCI_INDEX}\",\"size\":2,\"digest\":\"sha256:{}\"}}]}}",
        "1".repeat(64)
    );
    let outer = parse(nested.as_bytes(), None).unwrap();
    let manifest = format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"{OCI_CONFIG}\",\"size\":2,\"digest\":\"sha256:{}\"}},\"layers\":null}}",
        "2".repeat(64)
    );
    let target = Target::new(Arch::Amd64, None);
    let mut inner = vec![parse(manifest.as_bytes(), None).unwrap(), Document::Index(index(&[entry("amd64", "", 9)]))];
    let found = resolve::<ManifestError>(outer.clone(), &target, &mut |_| Ok(inner.pop().unwrap())).unwrap();
    assert_eq!(found.1.unwrap().digest.hex(), "09".repeat(32));
    assert_eq!(found.0.filesystem_layers(), Err(ManifestError::NoLayers));
    let endless = outer.clone();
    assert_eq!(resolve(outer, &target, &mut |_| Ok(endless.clone())), Err(ManifestError::TooDeep));
}

#[test]
fn looks_into_every_index_of_an_index_but_not_into_thousands() {
    let inner = |number: u8| {
        let digest = format!("{number:02x}").repeat(32);
        format!("{{\"mediaType\":\"{OCI_INDEX}\",\"size\":2,\"digest\":\"sha256:{digest}\"}}")
    };
    let manifest = format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"{OCI_CONFIG}\",\"size\":2,\"digest\":\"sha256:{}\"}},\"layers\":null}}",
        "2".repeat(64)
    );
    let mut fetch = |descriptor: &Descriptor| match &descriptor.digest.hex()[..2] {
        "01" => Ok(Document::Index(index(&[entry("amd64", "", 11)]))),
        "02" => Ok(Document::Index(index(&[entry("arm64", "", 12)]))),
        _ => parse(manifest.as_bytes(), None),
    };
    let outer = Document::Index(index(&[inner(1), inner(2)]));
    let mut find = |arch| resolve::<ManifestError>(outer.clone(), &Target::new(arch, None), &mut fetch);
    assert_eq!(find(Arch::Amd64).unwrap().1.unwrap().digest.hex(), "0b".repeat(32));
    assert_eq!(find(Arch::Arm64).unwrap().1.unwrap().digest.hex(), "0c".repeat(32));
    let refused = find(Arch::S390x).unwrap_err().to_string();
    assert_eq!(refused, "no image for linux/s390x; there is linux/amd64, linux/arm64");
    let wide = Document::Index(index(&vec![inner(1); 1000]));
    let target = Target::new(Arch::S390x, None);
    assert_eq!(resolve(wide, &target, &mut fetch).unwrap_err(), ManifestError::TooMany);
}

#[test]
fn knows_the_compressions_of_layers_and_says_what_is_none() {
    let mut descriptor = index(&[entry("amd64", "", 1)]).manifests[0].clone();
    for (media_type, compression) in [
        ("application/vnd.oci.image.layer.v1.tar", Compression::None),
        ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
        ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
    ] {
        descriptor.media_type = media_type.to_owned();
        assert_eq!(descriptor.layer_compression(), Ok(compression));
    }
    descriptor.media_type = "application/vnd.sylabs.sif.layer.v1.sif".to_owned();
    assert!(descriptor.layer_compression().unwrap_err().to_string().ends_with("this is a SIF: use oras://"));
}

#[test]
fn refuses_documents_that_are_two_things_or_old() {
    let both = "{\"schemaVersion\":2,\"manifests\":[],\"config\":{}}";
    assert!(matches!(parse(both.as_bytes(), None), Err(ManifestError::Malformed { .. })));
    assert_eq!(parse(b"{\"schemaVersion\":1}", None), Err(ManifestError::SchemaOne));
    assert!(matches!(parse(b"{}", Some("text/html")), Err(ManifestError::UnknownMediaType { .. })));
    let deep = "[".repeat(100_000);
    assert!(matches!(parse(deep.as_bytes(), None), Err(ManifestError::Malformed { .. })));
}

#[test]
fn a_wrong_digest_text_names_itself() {
    let text = "{\"schemaVersion\":2,\"manifests\":[{\"size\":1,\"digest\":\"sha256:../../etc\"}]}";
    let message = parse(text.as_bytes(), None).unwrap_err().to_string();
    assert!(message.contains("\"sha256:../../etc\" is not a digest"), "{message}");
}

proptest! {
    #[test]
    fn mutated_documents_never_panic(at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..8)) {
        let text = serde_json::to_vec(&index(&[entry("amd64", "", 1), entry("arm", "v7", 2)])).unwrap();
        let mut mutated = text.clone();
        let at = at.index(text.len());
        mutated.splice(at..(at + bytes.len()).min(text.len()), bytes);
        if let Ok(Document::Index(index)) = parse(&mutated, None) {
            let _ = index.candidates(&Target::new(Arch::Amd64, None));
        }
    }
}
