use super::*;
use crate::arch::Arch;
use crate::event::Silent;
use crate::fetch::auth::Credentials;
use crate::fetch::fake_server::{Answer, FakeServer, client};
use crate::fetch::registry::Configuration;
use crate::source::{Span, Spanned};
use std::collections::HashMap;
use std::io::Read;

/// Documents and blobs by their path in the registry, all of `org/app`.
type Content = HashMap<String, (String, Vec<u8>)>;

fn add(content: &mut Content, kind: &str, media_type: &str, bytes: Vec<u8>) -> String {
    let digest = Digest::of(&bytes);
    let size = bytes.len();
    content.insert(format!("/v2/org/app/{kind}/{digest}"), (media_type.to_owned(), bytes));
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

fn image(content: &mut Content, arch: &str, layers: &[&[u8]]) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let config = format!(
        r#"{{"architecture":"{arch}","os":"linux","config":{{"Cmd":["{arch}"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let config = add(content, "blobs", manifest::OCI_CONFIG, config.into_bytes());
    let layers: Vec<String> =
        layers.iter().map(|layer| add(content, "blobs", manifest::OCI_LAYER, layer.to_vec())).collect();
    let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","));
    let descriptor = add(content, "manifests", manifest::OCI_MANIFEST, text.into_bytes());
    let platform = format!(r#","platform":{{"os":"linux","architecture":"{arch}"}}}}"#);
    format!("{}{platform}", descriptor.trim_end_matches('}'))
}

/// `org/app:1.0` for two platforms; one layer occurs twice.
fn registry_server() -> (FakeServer, Digest) {
    let mut content = Content::new();
    let amd = image(&mut content, "amd64", &[b"base", b"one", b"base"]);
    let arm = image(&mut content, "arm64", &[b"base", b"two"]);
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{amd},{arm}]}}"#).into_bytes();
    let digest = Digest::of(&index);
    content.insert("/v2/org/app/manifests/1.0".to_owned(), (manifest::OCI_INDEX.to_owned(), index));
    let server = FakeServer::start(move |asked, _| match content.get(asked.path()) {
        Some((media_type, bytes)) => Answer::new(200, bytes.clone()).header("Content-Type", media_type),
        None => Answer::new(404, ""),
    });
    (server, digest)
}

fn base(from: &str, registry: Option<&str>, namespace: Option<&str>) -> RegistryBase {
    RegistryBase {
        from: Spanned::new(from.to_owned(), Span::default()),
        registry: registry.map(str::to_owned),
        namespace: namespace.map(str::to_owned),
    }
}

#[test]
fn headers_make_one_reference() {
    let name = |from, registry, namespace| reference_of(&base(from, registry, namespace)).unwrap().to_string();
    assert_eq!(name("alpine", None, None), "docker.io/library/alpine:latest");
    assert_eq!(name("//quay.io/a/b:1", None, None), "quay.io/a/b:1");
    assert_eq!(name("app:1", Some("quay.io/"), Some("org")), "quay.io/org/app:1");
    assert_eq!(name("app", None, Some("org")), "docker.io/org/app:latest");
}

#[test]
fn pins_a_platform_and_provides_its_layers_once() {
    let (server, digest) = registry_server();
    let directory = tempfile::tempdir().unwrap();
    let client = client();
    let registry = Registry::new(&client, Credentials::default(), Configuration::default(), true);
    let base = base("app:1.0", Some(&server.host()), Some("org"));
    let pin_for = |arch| pin(&base, &Target::new(arch, None), &registry, directory.path(), &Silent);
    let amd = pin_for(Arch::Amd64).unwrap();
    assert_eq!(amd.manifest_digest, digest);
    assert_ne!(amd.platform_digest, digest);
    assert_ne!(amd.platform_digest, pin_for(Arch::Arm64).unwrap().platform_digest);
    let missing = pin_for(Arch::S390x).unwrap_err().to_string();
    assert!(missing.contains("no image for linux/s390x; there is linux/amd64, linux/arm64"), "{missing}");

    let image = provide(&amd, &registry, directory.path(), 3, &Silent).unwrap();
    assert_eq!(image.name, format!("{}/org/app:1.0", server.host()));
    assert_eq!(image.manifest_digest, amd.platform_digest);
    assert_eq!(image.config.cmd, ["amd64"]);
    let texts: Vec<String> = image
        .layers
        .iter()
        .map(|layer| {
            let mut text = String::new();
            layer.open_tar().unwrap().read_to_string(&mut text).unwrap();
            text
        })
        .collect();
    assert_eq!(texts, ["base", "one", "base"]);
    let blobs = |server: &FakeServer| server.asked().iter().filter(|asked| asked.path().contains("/blobs/")).count();
    assert_eq!(blobs(&server), 3);

    // All is kept: neither this nor another build asks again.
    let before = server.asked().len();
    assert_eq!(provide(&amd, &registry, directory.path(), 3, &Silent).unwrap(), image);
    assert_eq!(server.asked().len(), before);

    // What was damaged on the disk is brought again: the config by its content, a layer by its length.
    let path = |digest: &Digest| blob_path(directory.path(), digest);
    let config = server.asked().iter().find(|asked| asked.path().contains("/blobs/")).unwrap().path().to_owned();
    let config: Digest = config.rsplit('/').next().unwrap().parse().unwrap();
    let length = std::fs::metadata(path(&config)).unwrap().len();
    std::fs::write(path(&config), vec![b' '; length as usize]).unwrap();
    std::fs::write(path(image.layers[1].digest.as_ref().unwrap()), "cut").unwrap();
    std::fs::write(path(image.layers[0].digest.as_ref().unwrap()), "").unwrap();
    assert_eq!(provide(&amd, &registry, directory.path(), 1, &Silent).unwrap(), image);
    image.layers[0].open_tar().unwrap().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn concurrent_builds_share_one_directory() {
    let (server, _) = registry_server();
    let directory = tempfile::tempdir().unwrap();
    let client = client();
    let base = base("app:1.0", Some(&server.host()), Some("org"));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let registry = Registry::new(&client, Credentials::default(), Configuration::default(), true);
                let target = Target::new(Arch::Amd64, None);
                let pin = pin(&base, &target, &registry, directory.path(), &Silent).unwrap();
                let image = provide(&pin, &registry, directory.path(), 3, &Silent).unwrap();
                for layer in &image.layers {
                    layer.open_tar().unwrap().read_to_end(&mut Vec::new()).unwrap();
                }
            });
        }
    });
    let names = std::fs::read_dir(directory.path().join("sha256")).unwrap();
    let leftovers = names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count();
    assert_eq!(leftovers, 0);
}

#[test]
fn an_image_whose_config_tells_of_other_layers_is_refused() {
    let mut content = Content::new();
    let config = br#"{"rootfs":{"diff_ids":[]}}"#.to_vec();
    let config = add(&mut content, "blobs", manifest::OCI_CONFIG, config);
    let layer = add(&mut content, "blobs", manifest::OCI_LAYER, b"x".to_vec());
    let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#).into_bytes();
    content.insert("/v2/org/app/manifests/1.0".to_owned(), (manifest::OCI_MANIFEST.to_owned(), text));
    let server = FakeServer::start(move |asked, _| match content.get(asked.path()) {
        Some((media_type, bytes)) => Answer::new(200, bytes.clone()).header("Content-Type", media_type),
        None => Answer::new(404, ""),
    });
    let directory = tempfile::tempdir().unwrap();
    let client = client();
    let registry = Registry::new(&client, Credentials::default(), Configuration::default(), true);
    let base = base("app:1.0", Some(&server.host()), Some("org"));
    let pin = pin(&base, &Target::new(Arch::Amd64, None), &registry, directory.path(), &Silent).unwrap();
    assert_eq!(pin.manifest_digest, pin.platform_digest);
    let error = provide(&pin, &registry, directory.path(), 3, &Silent).unwrap_err().to_string();
    assert!(error.contains("has 1 layers, but its config speaks of 0"), "{error}");
}
