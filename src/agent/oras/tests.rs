use super::*;
use crate::arch::Arch;
use crate::event::Silent;
use crate::fetch::auth::Credentials;
use crate::fetch::fake_server::{Answer, Asked, FakeServer, client};
use crate::fetch::registry::Configuration;
use crate::oci::artifact::{Content, SIF_LAYER, write_sif_manifest};
use crate::oci::manifest::OCI_MANIFEST;
use std::collections::BTreeMap;

const SIF: &[u8] = b"the bytes of a SIF";

fn manifest_bytes() -> Vec<u8> {
    let content = Content {
        media_type: SIF_LAYER.to_owned(),
        digest: Digest::of(SIF),
        size: SIF.len() as u64,
        title: "../../a.sif".to_owned(),
    };
    write_sif_manifest(&content, &BTreeMap::new())
}

/// A registry with one image under the tag 1; `blob` answers for its bytes.
fn server(blob: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |asked, _| match asked.path() {
        "/v2/" => Answer::new(200, "{}"),
        path if path.starts_with("/v2/o/a/manifests/") => {
            Answer::new(200, manifest_bytes()).header("Content-Type", OCI_MANIFEST)
        }
        path if path.starts_with("/v2/o/a/blobs/") => blob(asked),
        _ => Answer::new(404, ""),
    })
}

fn with<T>(work: impl FnOnce(&Registry<'_>) -> T) -> T {
    let client = client();
    work(&Registry::new(&client, Credentials::default(), Configuration::default(), true))
}

fn pull(server: &FakeServer, blobs: &Path) -> Result<PathBuf, OrasError> {
    with(|registry| {
        let pin = pin(&format!("{}/o/a:1", server.host()), &Target::new(Arch::Amd64, None), registry, blobs, &Silent)?;
        provide(&pin, registry, blobs, &Digests::default(), &Silent)
    })
}

#[test]
fn a_sif_is_brought_once_and_again_when_it_was_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(|asked| Answer::file(asked, SIF, "\"1\""));
    let path = pull(&server, directory.path()).unwrap();
    assert_eq!(path, directory.path().join("sha256").join(Digest::of(SIF).hex()));
    let blobs = || server.asked().iter().filter(|asked| asked.path().contains("/blobs/")).count();
    pull(&server, directory.path()).unwrap();
    assert_eq!(blobs(), 1);
    std::fs::write(&path, b"the bytes of a FIS").unwrap();
    pull(&server, directory.path()).unwrap();
    assert_eq!((blobs(), std::fs::read(&path).unwrap().as_slice()), (2, SIF));
}

#[test]
fn other_bytes_fewer_and_more_are_no_image() {
    for answer in [
        Answer::new(200, "the bytes of a FIS"),
        Answer::new(200, "short"),
        Answer { cut_after: Some(4), ..Answer::new(200, SIF) },
        Answer { endless: true, ..Answer::new(200, SIF) },
        Answer { without_length: true, ..Answer::new(200, [SIF, SIF].concat()) },
        Answer::new(401, ""),
        Answer::new(302, "").header("Location", "file:///etc/passwd"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let shown = format!("{answer:?}");
        let server = server(move |_| answer.clone());
        assert!(pull(&server, directory.path()).is_err(), "{shown}");
        assert!(!directory.path().join("sha256").join(Digest::of(SIF).hex()).exists(), "{shown}");
        assert!(server.asked().len() < 30, "{} requests for {shown}", server.asked().len());
    }
}

#[test]
fn what_is_no_sif_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let text = |manifest: String| {
        let server = FakeServer::start(move |asked, _| match asked.path() {
            "/v2/" => Answer::new(200, "{}"),
            _ => Answer::new(200, manifest.clone()).header("Content-Type", OCI_MANIFEST),
        });
        pull(&server, directory.path()).unwrap_err().to_string()
    };
    let sif = String::from_utf8(manifest_bytes()).unwrap();
    let image = text(sif.replace(SIF_LAYER, "application/vnd.oci.image.layer.v1.tar+gzip"));
    assert!(image.contains("use docker://"), "{image}");
    assert!(text(sif.replace(SIF_LAYER, "text/plain")).contains("no SIF"));
    assert!(text("{}".to_owned()).contains("not valid"));
}

#[test]
fn a_lock_file_that_names_another_sif_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(|asked| Answer::file(asked, SIF, "\"1\""));
    let reference = Reference::parse(&format!("{}/o/a:1", server.host())).unwrap();
    let pin = OrasPin { reference, manifest: Digest::of(&manifest_bytes()), digest: Digest::of(b"other") };
    let error = with(|registry| provide(&pin, registry, directory.path(), &Digests::default(), &Silent)).unwrap_err();
    assert!(matches!(error, OrasError::AnotherSif { .. }), "{error}");
}
