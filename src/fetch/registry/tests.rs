use super::*;
use crate::event::{Recorder, Silent};
use crate::fetch::fake_server::{Answer, Asked, FakeServer, client};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{"digest":"sha256:0"}}"#;

fn bearer(asked: &Asked) -> Answer {
    let realm = format!("http://{}/token", asked.header("host").unwrap());
    Answer::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
        .header(
            "WWW-Authenticate",
            format!("Bearer realm=\"{realm}\",service=\"fake\",scope=\"repository:org/app:pull\""),
        )
        .header("Content-Type", "application/json")
}

fn token(text: &str) -> Answer {
    Answer::new(200, format!("{{\"token\":\"{text}\",\"expires_in\":60}}"))
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn password(user: &str, password: &str) -> Credentials {
    Credentials { explicit: Some((user.to_owned(), Secret::new(password))), ..Credentials::default() }
}

/// Credentials in a file with one entry for the server.
fn entry(directory: &Path, server: &FakeServer, entry: &str) -> Credentials {
    let path = directory.join("config.json");
    std::fs::write(&path, format!("{{\"auths\":{{\"{}\":{entry}}}}}", server.host())).unwrap();
    Credentials { files: vec![path], ..Credentials::default() }
}

fn manifest(server: &FakeServer, credentials: Credentials) -> Result<ManifestDocument, FetchError> {
    let client = client();
    let registry = Registry::new(&client, credentials, Configuration::default(), true);
    let reference = Reference::parse(&format!("{}/org/app:1.0", server.host())).unwrap();
    registry.pull(&reference, &Silent)?.manifest()
}

#[test]
fn needs_no_login_where_none_is_asked_for() {
    let server = FakeServer::start(|asked, _| match asked.path() {
        "/v2/" => Answer::new(200, "{}"),
        "/v2/org/app/manifests/1.0" => Answer::new(200, MANIFEST).header("Content-Type", "application/x"),
        _ => Answer::new(500, ""),
    });
    let document = manifest(&server, Credentials::default()).unwrap();
    assert_eq!((document.bytes.as_slice(), document.digest), (MANIFEST, Digest::of(MANIFEST)));
    assert_eq!(document.media_type.as_deref(), Some("application/x"));
    let accept = server.asked().last().unwrap().header("accept").unwrap().to_owned();
    assert!(accept.contains("image.index.v1+json") && accept.contains("manifest.list.v2+json"), "{accept}");
}

#[test]
fn changes_a_password_into_a_token() {
    let server = FakeServer::start(|asked, _| match (asked.path(), asked.header("authorization")) {
        ("/token", Some(login)) if login == basic("bob", "hunter2") => token("granted"),
        ("/token", _) => Answer::new(401, ""),
        (_, Some("Bearer granted")) => Answer::new(200, MANIFEST),
        _ => bearer(asked),
    });
    manifest(&server, password("bob", "hunter2")).unwrap();
    let request = server.asked().into_iter().find(|asked| asked.path() == "/token").unwrap();
    assert_eq!(request.target, "/token?scope=repository%3Aorg%2Fapp%3Apull&service=fake&account=bob");
    let error = manifest(&server, password("bob", "wrong")).unwrap_err().to_string();
    assert!(error.contains("Tried: the user bob given for this command"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
}

#[test]
fn changes_an_identity_token_by_post() {
    let server = FakeServer::start(|asked, _| match (asked.path(), asked.header("authorization")) {
        ("/token", None) if asked.method == "POST" && asked.body.contains("refresh_token=a%2Fb") => {
            Answer::new(200, r#"{"access_token":"granted"}"#)
        }
        (_, Some("Bearer granted")) => Answer::new(200, MANIFEST),
        _ => bearer(asked),
    });
    let directory = tempfile::tempdir().unwrap();
    let credentials = entry(directory.path(), &server, r#"{"identitytoken":"a/b"}"#);
    manifest(&server, credentials).unwrap();
    let request = server.asked().into_iter().find(|asked| asked.path() == "/token").unwrap();
    assert!(request.body.contains("grant_type=refresh_token") && request.body.contains("service=fake"), "{request:?}");
}

#[test]
fn sends_a_registry_token_as_it_is_and_basic_where_asked() {
    let directory = tempfile::tempdir().unwrap();
    let server = FakeServer::start(|asked, _| match asked.header("authorization") {
        Some("Bearer direct") => Answer::new(200, MANIFEST),
        _ => bearer(asked),
    });
    manifest(&server, entry(directory.path(), &server, r#"{"registrytoken":"direct"}"#)).unwrap();
    let server = FakeServer::start(|asked, _| match asked.header("authorization") {
        Some(login) if login == basic("u", "p") => Answer::new(200, MANIFEST),
        _ => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    manifest(&server, entry(directory.path(), &server, r#"{"auth":"dTpw"}"#)).unwrap();
    let error = manifest(&server, Credentials::default()).unwrap_err().to_string();
    assert!(error.contains("it wants a user and a password"), "{error}");
}

#[test]
fn an_expired_login_does_not_hide_a_public_image() {
    let server = FakeServer::start(|asked, _| match (asked.path(), asked.header("authorization")) {
        ("/token", None) => token("anonymous"),
        ("/token", _) => Answer::new(401, ""),
        (_, Some("Bearer anonymous")) => Answer::new(200, MANIFEST),
        _ => bearer(asked),
    });
    let client = client();
    let recorder = Recorder::default();
    let registry = Registry::new(&client, password("bob", "old"), Configuration::default(), true);
    let reference = Reference::parse(&format!("{}/org/app:1.0", server.host())).unwrap();
    registry.pull(&reference, &recorder).unwrap().manifest().unwrap();
    let events = recorder.events.into_inner().unwrap();
    let told =
        events.iter().any(|event| matches!(event, Event::Warning(text) if text.contains("going on without a login")));
    assert!(told, "{events:?}");
}

#[test]
fn a_refusal_names_image_login_and_files() {
    let server = FakeServer::start(|asked, _| match asked.path() {
        "/token" => token("useless"),
        _ => bearer(asked),
    });
    let directory = tempfile::tempdir().unwrap();
    let credentials = entry(directory.path(), &server, r#"{"auth":"dTpw"}"#);
    let error = manifest(&server, credentials).unwrap_err();
    assert_eq!(error.status(), Some(401));
    let text = error.to_string();
    let start = format!(
        "{host} refused to give {host}/org/app:1.0 (401: unauthorized: authentication required). Tried: {}/config.json entry {host} (user u).",
        directory.path().display(),
        host = server.host()
    );
    assert!(text.starts_with(&start), "{text}");
    // One refusal for the old and one for the new token, and no more: a loop of refusals ends.
    let manifests = server.asked().iter().filter(|asked| asked.path().contains("manifests")).count();
    assert_eq!(manifests, 2);
    let other = FakeServer::start(|asked, _| if asked.path() == "/token" { token("useless") } else { bearer(asked) });
    let path = directory.path().join("config.json");
    let text =
        manifest(&other, Credentials { files: vec![path.clone()], ..Credentials::default() }).unwrap_err().to_string();
    assert!(text.contains(&format!("no login, as none fits in {}", path.display())), "{text}");
}

#[test]
fn a_missing_image_is_told_with_the_registrys_own_words() {
    let server = FakeServer::start(|asked, _| match asked.path() {
        "/v2/" => Answer::new(200, "{}"),
        _ => Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":"x"}]}"#),
    });
    let error = manifest(&server, Credentials::default()).unwrap_err();
    assert_eq!(error.status(), Some(404));
    let start = format!("{host} has no {host}/org/app:1.0 (404: manifest unknown).", host = server.host());
    assert!(error.to_string().starts_with(&start), "{error}");
}

#[test]
fn a_manifest_with_another_digest_is_refused() {
    let wanted = Digest::of(b"other");
    let promised = wanted.to_string();
    let server =
        FakeServer::start(move |_, _| Answer::new(200, MANIFEST).header("Docker-Content-Digest", promised.clone()));
    let error = manifest(&server, Credentials::default()).unwrap_err();
    assert!(matches!(error, FetchError::WrongDigest { .. }), "{error}");
    let client = client();
    let registry = Registry::new(&client, Credentials::default(), Configuration::default(), true);
    let reference = Reference::parse(&format!("{}/org/app@{wanted}", server.host())).unwrap();
    let error = registry.pull(&reference, &Silent).unwrap().manifest().unwrap_err();
    assert!(matches!(error, FetchError::WrongDigest { .. }), "{error}");
}

#[test]
fn the_login_goes_to_no_insecure_place_and_to_no_unknown_scheme() {
    let answers =
        |header: &'static str| FakeServer::start(move |_, _| Answer::new(401, "").header("WWW-Authenticate", header));
    for (header, sign) in [
        ("Bearer realm=\"file:///etc/passwd\"", "not secure"),
        ("Bearer realm=\"gopher://x/\"", "scheme gopher is not known"),
        ("Bearer service=x", "has no realm"),
        ("Negotiate", "no way of logging in that is known here"),
    ] {
        let error = manifest(&answers(header), password("bob", "hunter2")).unwrap_err().to_string();
        assert!(error.contains(sign), "{header}: {error}");
    }
}

#[test]
fn blobs_survive_a_token_that_expires_and_a_redirect_to_storage() {
    let content: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    let digest = Digest::of(&content);
    let stored = content.clone();
    let storage = FakeServer::start(move |asked, before| {
        if asked.header("authorization").is_some() {
            return Answer::new(400, "two logins");
        }
        Answer { cut_after: (before == 0).then_some(40_000), ..Answer::file(asked, &stored, "\"1\"") }
    });
    let target = storage.url("/store").to_string();
    let tokens = AtomicUsize::new(0);
    // Each token is good for one request.
    let used = std::sync::Mutex::new(std::collections::HashSet::new());
    let server = FakeServer::start(move |asked, _| match (asked.path(), asked.header("authorization")) {
        ("/token", _) => token(&format!("t{}", tokens.fetch_add(1, Ordering::SeqCst))),
        (_, Some(login)) if used.lock().unwrap().insert(login.to_owned()) => {
            Answer::new(307, "").header("Location", target.clone())
        }
        _ => bearer(asked),
    });
    let client = client();
    let registry = Registry::new(&client, Credentials::default(), Configuration::default(), true);
    let reference = Reference::parse(&format!("{}/org/app:1.0", server.host())).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    let descriptor: Descriptor =
        serde_json::from_str(&format!("{{\"digest\":\"{digest}\",\"size\":{}}}", content.len())).unwrap();
    registry.pull(&reference, &Silent).unwrap().blobs(&[(&descriptor, path.clone())], 3).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert_eq!(storage.asked()[1].header("range"), Some("bytes=40000-"));
    assert_eq!(server.asked().iter().filter(|asked| asked.path() == "/token").count(), 2);
}

#[test]
fn asks_mirrors_first_and_the_registry_when_they_fail() {
    let mirror = FakeServer::start(|asked, _| match asked.path() {
        "/v2/copy/app/manifests/1.0" => Answer::new(200, MANIFEST),
        _ => Answer::new(404, ""),
    });
    let own = FakeServer::start(|_, _| Answer::new(200, "own"));
    let text = format!(
        "[[registry]]\nlocation='{own}'\ninsecure=true\n[[registry.mirror]]\nlocation='127.0.0.1:1'\ninsecure=true\n\
         [[registry.mirror]]\nlocation='{mirror}/copy'\ninsecure=true\n",
        own = own.host(),
        mirror = mirror.host()
    );
    let mut configuration = Configuration::default();
    configuration.add(&text, Path::new("registries.conf")).unwrap();
    let client = client();
    let registry = Registry::new(&client, Credentials::default(), configuration, false);
    let get = |image: &str| {
        let reference = Reference::parse(&format!("{}/{image}", own.host())).unwrap();
        registry.pull(&reference, &Silent).unwrap().manifest().unwrap()
    };
    assert_eq!(get("app:1.0").bytes, MANIFEST);
    assert_eq!(get("app:2.0").bytes, b"own");
}

#[test]
fn speaks_plain_http_only_where_that_is_allowed() {
    let server = FakeServer::start(|_, _| Answer::new(200, MANIFEST));
    let client = client();
    let registry = Registry::new(&client, Credentials::default(), Configuration::default(), false);
    let reference = Reference::parse(&format!("{}/org/app:1.0", server.host())).unwrap();
    let error = registry.pull(&reference, &Silent).unwrap().manifest().unwrap_err();
    assert!(error.to_string().contains("--no-https allows that"), "{error}");
    assert!(server.asked().is_empty());
}
