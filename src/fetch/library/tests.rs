use super::*;
use crate::event::Silent;
use crate::fetch::fake_server::{Answer, FakeServer, client};
use std::path::Path;

const SIF: &[u8] = b"a sif";

fn answer(hash: &str) -> String {
    format!("{{\"data\":{{\"id\":\"1\",\"hash\":\"{hash}\",\"size\":{},\"uploaded\":true}}}}", SIF.len())
}

fn hash() -> String {
    format!("sha256.{}", Digest::of(SIF).hex())
}

fn settings(server: &FakeServer) -> Settings {
    Settings { address: Some(format!("http://{}", server.host())), ..Settings::default() }
}

fn fetch(server: &FakeServer, settings: &Settings, text: &str, to: &Path) -> Result<LibraryImage, LibraryError> {
    let _ = server;
    let client = client();
    let reference = LibraryReference::parse(text).unwrap();
    let library = settings.open(None, &reference, &client, &Silent)?;
    let image = library.image(&reference, Arch::Amd64, &Silent)?;
    library.download(&reference, Arch::Amd64, &image, to, &Silent)?;
    Ok(image)
}

#[test]
fn an_image_is_named_by_the_library_and_taken_by_its_digest() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FakeServer::start(|asked, _| match asked.header("authorization") {
        None => Answer::file(asked, SIF, "\"1\""),
        Some(_) => Answer::new(400, "two logins"),
    });
    let target = storage.url("/store").to_string();
    let server = FakeServer::start(move |asked, _| match asked.target.as_str() {
        "/v1/images/e/c/n:1?arch=amd64" => Answer::new(200, answer(&hash())),
        path if path == format!("/v1/images/e/c/n:{}?arch=amd64", hash()) => Answer::new(200, answer(&hash())),
        path if path == format!("/v1/imagefile/e/c/n:{}?arch=amd64", hash()) => {
            Answer::new(303, "").header("Location", target.clone())
        }
        _ => Answer::new(404, ""),
    });
    let path = directory.path().join("x.sif");
    let image = fetch(&server, &settings(&server), "e/c/n:1", &path).unwrap();
    assert_eq!((image.digest, image.size), (Digest::of(SIF), SIF.len() as u64));
    assert_eq!(std::fs::read(&path).unwrap(), SIF);
    let missing = fetch(&server, &settings(&server), "e/c/n:2", &path).unwrap_err().to_string();
    assert!(missing.contains("has no e/c/n:2 for amd64"), "{missing}");
}

#[test]
fn other_bytes_and_other_answers_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.sif");
    for (told, body) in [
        (answer(&hash()), Answer::new(200, "other")),
        (answer(&hash()), Answer { endless: true, ..Answer::new(200, "a sif") }),
        (answer(&hash()), Answer { cut_after: Some(2), ..Answer::new(200, SIF) }),
        (format!("{{\"data\":{{\"hash\":\"{}\"}}}}", hash()), Answer { endless: true, ..Answer::new(200, "a sif") }),
        (answer("md5.1"), Answer::new(200, SIF)),
        (answer("sha256.12"), Answer::new(200, SIF)),
        ("{}".to_owned(), Answer::new(200, SIF)),
        ("[".to_owned(), Answer::new(200, SIF)),
    ] {
        let server = FakeServer::start(move |asked, _| match asked.path().starts_with("/v1/images/") {
            true => Answer::new(200, told.clone()),
            false => body.clone(),
        });
        fetch(&server, &settings(&server), "e/c/n:1", &path).unwrap_err();
        assert!(!path.exists());
    }
    // A reference by digest is not answered with another one.
    let server = FakeServer::start(|_, _| Answer::new(200, answer(&hash())));
    let wanted = format!("e/c/n:sha256.{}", Digest::of(b"wanted").hex());
    let error = fetch(&server, &settings(&server), &wanted, &path).unwrap_err();
    assert!(matches!(error, LibraryError::Fetch(FetchError::WrongDigest { .. })), "{error}");
}

#[test]
fn the_active_endpoint_leads_to_its_library_with_its_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.sif");
    let server = FakeServer::start(|asked, _| match (asked.path(), asked.header("authorization")) {
        ("/assets/config/config.prod.json", None) => {
            let host = asked.header("host").unwrap();
            Answer::new(200, format!("{{\"libraryAPI\":{{\"uri\":\"http://{host}\"}}}}"))
        }
        ("/v1/images/library/default/n:latest", Some("Bearer secret")) => Answer::new(200, answer(&hash())),
        (_, Some("Bearer secret")) => Answer::new(200, SIF),
        _ => Answer::new(401, ""),
    });
    let file = directory.path().join("remote.yaml");
    let text = |token: &str| {
        format!("Active: x\nRemotes:\n  x:\n    URI: {}\n    Token: {token}\n    Insecure: true\n", server.host())
    };
    std::fs::write(&file, text("secret")).unwrap();
    let settings = Settings { remotes: vec![directory.path().join("absent"), file.clone()], ..Settings::default() };
    fetch(&server, &settings, "n", &path).unwrap();
    let client = client();
    let again = settings.open_at(&format!("http://{}/", server.host()), &client, &Silent).unwrap();
    assert!(again.token.is_some());
    let other = settings.open_at("http://other.example/", &client, &Silent).unwrap();
    assert!(other.token.is_none());
    std::fs::write(&file, text("old")).unwrap();
    let refused = fetch(&server, &settings, "n", &path).unwrap_err().to_string();
    assert!(refused.contains("refused access") && !refused.contains("old"), "{refused}");
}

#[test]
fn without_a_service_it_is_said_how_to_name_one() {
    let client = client();
    let reference = LibraryReference::parse("n").unwrap();
    let error = Settings::default().open(None, &reference, &client, &Silent).err().unwrap().to_string();
    assert!(error.contains("--library URL") && error.contains("Library: URL"), "{error}");
    let server = FakeServer::start(|_, _| Answer::new(200, "{}"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("remote.yaml");
    std::fs::write(&file, format!("Active: x\nRemotes:\n  x:\n    URI: {}\n    Insecure: true\n", server.host()))
        .unwrap();
    let settings = Settings { remotes: vec![file], ..Settings::default() };
    let error = settings.open(None, &reference, &client, &Silent).err().unwrap().to_string();
    assert!(error.contains("has no library service"), "{error}");
}

proptest::proptest! {
    #[test]
    fn answers_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
        let _ = serde_json::from_slice::<ImageAnswer>(&bytes);
        let _ = serde_json::from_slice::<SearchAnswer>(&bytes);
        let _ = parse_hash(&String::from_utf8_lossy(&bytes));
    }
}
