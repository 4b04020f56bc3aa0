use super::*;
use crate::event::{Recorder, Silent};
use crate::fetch::auth::{Credentials, Secret};
use crate::fetch::fake_server::{Answer, Asked, FakeServer, client};
use crate::fetch::registry::Configuration;
use crate::oci::manifest::OCI_MANIFEST;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const SIZE: usize = 100_000;
const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{"digest":"sha256:0"}}"#;

fn content() -> Vec<u8> {
    (0..SIZE).map(|at| b'a' + (at % 23) as u8).collect()
}

/// A registry as the specification wants it: it keeps what arrived before a break.
#[derive(Default)]
struct Store {
    upload: Mutex<String>,
    blob: Mutex<Option<String>>,
    /// Bytes of bodies that arrived.
    received: AtomicUsize,
}

impl Store {
    fn answer(&self, asked: &Asked) -> Answer {
        let mut upload = self.upload.lock().unwrap();
        let upload_at = |end: usize| {
            Answer::new(202, "")
                .header("Location", format!("/v2/org/app/blobs/uploads/1?state={end}"))
                .header("Range", format!("0-{}", end.saturating_sub(1)))
        };
        self.received.fetch_add(asked.body.len(), Ordering::SeqCst);
        match (asked.method.as_str(), asked.path()) {
            ("GET", "/v2/") => Answer::new(200, "{}"),
            ("HEAD", _) => match &*self.blob.lock().unwrap() {
                Some(blob) => Answer::new(200, blob.clone()),
                None => Answer::new(404, ""),
            },
            ("POST", "/v2/org/app/blobs/uploads/") => {
                upload.clear();
                upload_at(0)
            }
            ("PATCH", "/v2/org/app/blobs/uploads/1") => {
                let start = asked.header("content-range").unwrap().split('-').next().unwrap().parse::<usize>().unwrap();
                if start != upload.len() {
                    return Answer::new(416, "");
                }
                upload.push_str(&asked.body);
                upload_at(upload.len())
            }
            ("GET", "/v2/org/app/blobs/uploads/1") => Answer { status: 204, ..upload_at(upload.len()) },
            ("PUT", "/v2/org/app/blobs/uploads/1") => {
                upload.push_str(&asked.body);
                let digest = Digest::of(upload.as_bytes()).to_string().replace(':', "%3A");
                if !asked.target.ends_with(&format!("digest={digest}")) {
                    return Answer::new(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                *self.blob.lock().unwrap() = Some(upload.clone());
                Answer::new(201, "")
            }
            _ => Answer::new(500, ""),
        }
    }
}

fn push_to(server: &FakeServer, credentials: Credentials, observer: &dyn Observer) -> Result<Placed, FetchError> {
    let client = client();
    let registry = Registry::new(&client, credentials, Configuration::default(), true);
    let reference = Reference::parse(&format!("{}/org/app:1.0", server.host())).unwrap();
    let mut push = registry.push(&reference, None, observer)?;
    push.chunks = Chunks { first: 16_000, smallest: 4_000 };
    push.blob(&Body::from_bytes(content()), &Digest::of(&content()), "blob")
}

fn push(server: &FakeServer) -> Result<Placed, FetchError> {
    push_to(server, Credentials::default(), &Silent)
}

fn password() -> Credentials {
    Credentials { explicit: Some(("bob".to_owned(), Secret::new("hunter2"))), ..Credentials::default() }
}

/// A good registry but for what `other` answers.
fn except(other: impl Fn(&Asked, usize) -> Option<Answer> + Send + Sync + 'static) -> (FakeServer, Arc<Store>) {
    let store = Arc::new(Store::default());
    let inner = Arc::clone(&store);
    let server = FakeServer::start(move |asked, before| other(asked, before).unwrap_or_else(|| inner.answer(asked)));
    (server, store)
}

fn count(server: &FakeServer, method: &str) -> usize {
    server.asked().iter().filter(|asked| asked.method == method).count()
}

#[test]
fn goes_on_where_the_registry_says_that_the_connection_broke() {
    let store = Arc::new(Store::default());
    let inner = Arc::clone(&store);
    let server = FakeServer::start_cutting(11_000, move |asked, _| inner.answer(asked));
    assert!(matches!(push(&server).unwrap(), Placed::Sent(_)));
    assert_eq!(store.blob.lock().unwrap().as_deref().map(str::as_bytes), Some(content().as_slice()));
    // Nothing that arrived was sent again.
    assert_eq!(store.received.load(Ordering::SeqCst), SIZE);
    assert!(server.asked().iter().any(|asked| asked.cut));
}

#[test]
fn a_lost_answer_is_no_reason_to_send_again() {
    let cut = AtomicUsize::new(0);
    let store = Arc::new(Store::default());
    let inner = Arc::clone(&store);
    // Each answer to a chunk or to the end is lost once.
    let server = FakeServer::start(move |asked, _| {
        let answer = inner.answer(asked);
        let lost =
            matches!(asked.method.as_str(), "PATCH" | "PUT") && cut.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        if lost { Answer::new(503, "") } else { answer }
    });
    push(&server).unwrap();
    assert_eq!(store.received.load(Ordering::SeqCst), SIZE);
}

#[test]
fn sends_whole_where_chunks_are_refused() {
    for status in [400, 404, 405, 416, 501] {
        let (server, store) =
            except(move |asked, _| (asked.method == "PATCH").then(|| Answer::new(status, "no chunks")));
        push(&server).unwrap();
        assert!(store.blob.lock().unwrap().is_some());
        assert_eq!((count(&server, "PATCH"), count(&server, "PUT")), (1, 1), "{status}");
    }
}

#[test]
fn sends_smaller_chunks_where_they_are_too_large() {
    let (server, _) =
        except(|asked, _| (asked.method == "PATCH" && asked.body.len() > 5_000).then(|| Answer::new(413, "too large")));
    push(&server).unwrap();
    assert_eq!(count(&server, "PATCH"), 2 + SIZE / 4_000);
}

#[test]
fn chunks_are_as_large_as_the_registry_wants() {
    let (server, store) = except(|asked, _| {
        let start = asked.method == "POST";
        start.then(|| {
            Answer::new(202, "")
                .header("Location", "/v2/org/app/blobs/uploads/1")
                .header("OCI-Chunk-Min-Length", "60000")
        })
    });
    push(&server).unwrap();
    assert_eq!(count(&server, "PATCH"), 2);
    assert!(store.blob.lock().unwrap().is_some());
    let (server, _) = except(|asked, _| {
        let start = asked.method == "POST";
        start.then(|| {
            Answer::new(202, "")
                .header("Location", "/v2/org/app/blobs/uploads/1")
                .header("OCI-Chunk-Min-Length", u64::MAX.to_string())
        })
    });
    push(&server).unwrap();
    assert_eq!((count(&server, "PATCH"), count(&server, "PUT")), (0, 1));
}

#[test]
fn an_upload_that_is_forgotten_begins_anew_and_not_for_ever() {
    let forgotten = AtomicUsize::new(0);
    let (server, store) = except(move |asked, _| {
        let second = asked.method == "PATCH" && asked.header("content-range").unwrap().starts_with("16000-");
        (second && forgotten.fetch_add(1, Ordering::SeqCst) < 2).then(|| Answer::new(404, ""))
    });
    push(&server).unwrap();
    assert!(store.blob.lock().unwrap().is_some());
    assert_eq!(count(&server, "POST"), 3);
    let (server, _) = except(|asked, _| {
        let second = asked.method == "PATCH" && asked.header("content-range").unwrap().starts_with("16000-");
        second.then(|| Answer::new(404, ""))
    });
    push(&server).unwrap_err();
    assert!(count(&server, "POST") <= 6, "{}", count(&server, "POST"));
}

#[test]
fn what_cannot_be_is_not_believed() {
    for range in
        ["0-99999999", "5-15999", "x", "0-", "-5", "0-18446744073709551615", "0--1", "0-15999999999999999999999"]
    {
        let (server, _) =
            except(move |asked, _| (asked.method == "PATCH").then(|| Answer::new(202, "").header("Range", range)));
        let error = push(&server).unwrap_err().to_string();
        assert!(error.contains("it says that it has"), "{range}: {error}");
        assert!(count(&server, "PATCH") <= 5, "{range}");
    }
    // Less than before, again and again: no progress, and an end.
    let (server, _) = except(|asked, _| (asked.method == "PATCH").then(|| Answer::new(202, "").header("Range", "0-0")));
    push(&server).unwrap_err();
    assert!(count(&server, "PATCH") < 100, "{}", count(&server, "PATCH"));
}

#[test]
fn an_upload_leads_nowhere_else_than_over_http() {
    for (location, sign) in [
        (None, "has no Location"),
        (Some("file:///etc/passwd"), "only http and https are followed"),
        (Some("gopher://x/"), "only http and https are followed"),
        (Some("http://"), "that is not a URL"),
        (Some("https://[::1"), "that is not a URL"),
    ] {
        let (server, _) = except(move |asked, _| {
            let answer = Answer::new(202, "");
            let answer = location.map_or(answer.clone(), |location| answer.header("Location", location));
            (asked.method == "POST").then_some(answer)
        });
        let error = push(&server).unwrap_err().to_string();
        assert!(error.contains(sign), "{location:?}: {error}");
    }
}

/// A registry that wants the login in `Authorization`, on each request.
fn closed(asked: &Asked) -> Option<Answer> {
    let login = Some("Basic Ym9iOmh1bnRlcjI=");
    (asked.header("authorization") != login)
        .then(|| Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""))
}

#[test]
fn the_login_follows_no_upload_to_another_host() {
    let elsewhere = Arc::new(Store::default());
    let inner = Arc::clone(&elsewhere);
    let other = FakeServer::start(move |asked, _| inner.answer(asked));
    let target = other.url("/v2/org/app/blobs/uploads/1").to_string();
    let blob = Arc::clone(&elsewhere);
    let (server, _) = except(move |asked, _| {
        let closed = closed(asked);
        if closed.is_some() {
            return closed;
        }
        match asked.method.as_str() {
            "POST" => Some(Answer::new(202, "").header("Location", target.clone())),
            "HEAD" => Some(blob.answer(asked)),
            _ => None,
        }
    });
    push_to(&server, password(), &Silent).unwrap();
    assert!(elsewhere.blob.lock().unwrap().is_some());
    let shown = other.asked().iter().filter(|asked| asked.header("authorization").is_some()).count();
    assert_eq!(shown, 0, "the login was sent to another host");
}

#[test]
fn the_login_follows_no_redirect_of_a_chunk() {
    let elsewhere = Arc::new(Store::default());
    let inner = Arc::clone(&elsewhere);
    let other = FakeServer::start(move |asked, _| inner.answer(asked));
    let target = other.url("/v2/org/app/blobs/uploads/1").to_string();
    let blob = Arc::clone(&elsewhere);
    let (server, _) = except(move |asked, _| {
        closed(asked).or_else(|| match asked.method.as_str() {
            "PATCH" | "PUT" => Some(
                Answer::new(307, "")
                    .header("Location", format!("{target}?{}", asked.target.split('?').next_back().unwrap_or(""))),
            ),
            "HEAD" => Some(blob.answer(asked)),
            _ => None,
        })
    });
    push_to(&server, password(), &Silent).unwrap();
    assert_eq!(elsewhere.received.load(Ordering::SeqCst), SIZE);
    assert!(other.asked().iter().all(|asked| asked.header("authorization").is_none()));
    assert!(other.asked().iter().any(|asked| asked.header("content-range").is_some()));
    // A redirect that would make a GET of it is not followed.
    let (server, _) =
        except(|asked, _| (asked.method == "PATCH").then(|| Answer::new(302, "").header("Location", "/elsewhere")));
    let error = push(&server).unwrap_err().to_string();
    assert!(error.contains("another request"), "{error}");
}

#[test]
fn a_refusal_ends_and_names_the_login_but_never_the_secret() {
    let (server, _) = except(|asked, _| {
        (asked.path() != "/v2/").then(|| Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""))
    });
    let error = push_to(&server, password(), &Silent).unwrap_err().to_string();
    assert!(error.contains("refused to take") && error.contains("user bob"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    assert!(server.asked().len() <= 5, "{} requests", server.asked().len());
}

#[test]
fn a_token_for_the_whole_push_is_asked_for_and_renewed_in_between() {
    let store = Arc::new(Store::default());
    let inner = Arc::clone(&store);
    let (tokens, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = FakeServer::start(move |asked, _| {
        if asked.path() == "/token" {
            return Answer::new(200, format!("{{\"token\":\"t{}\"}}", tokens.fetch_add(1, Ordering::SeqCst)));
        }
        // Each token is good for three requests.
        let wanted = format!("Bearer t{}", used.load(Ordering::SeqCst) / 3);
        if asked.path() == "/v2/" || asked.header("authorization") == Some(&wanted) {
            used.fetch_add(usize::from(asked.path() != "/v2/"), Ordering::SeqCst);
            return inner.answer(asked);
        }
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        let scope = "repository:org/app:pull";
        Answer::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"{realm}\",scope=\"{scope}\""))
    });
    push(&server).unwrap();
    assert!(store.blob.lock().unwrap().is_some());
    let asked = server.asked();
    let tokens: Vec<&Asked> = asked.iter().filter(|asked| asked.path() == "/token").collect();
    assert!(tokens.len() >= 3, "{}", tokens.len());
    assert!(
        tokens.iter().all(|asked| asked.target.contains("scope=repository%3Aorg%2Fapp%3Apull%2Cpush")),
        "{tokens:?}"
    );
}

#[test]
fn a_login_that_is_refused_is_not_tried_without_it() {
    let (server, _) = except(|asked, _| match (asked.path(), asked.header("authorization")) {
        ("/token", Some(_)) => Some(Answer::new(401, r#"{"details":"incorrect username or password"}"#)),
        ("/token", None) => Some(Answer::new(200, r#"{"token":"anonymous"}"#)),
        ("/v2/", _) => None,
        _ => {
            let realm = format!("http://{}/token", asked.header("host").unwrap());
            Some(Answer::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"{realm}\"")))
        }
    });
    let recorder = Recorder::default();
    let error = push_to(&server, password(), &recorder).unwrap_err().to_string();
    assert!(error.contains("refused to take") && !error.contains("hunter2"), "{error}");
    assert_eq!(server.asked().iter().filter(|asked| asked.path() == "/token").count(), 1);
}

#[test]
fn a_blob_that_was_taken_and_is_not_there_is_told() {
    let (server, _) = except(|asked, _| (asked.method == "HEAD").then(|| Answer::new(404, "")));
    let error = push(&server).unwrap_err().to_string();
    assert!(error.contains("took the blob, but does not have it"), "{error}");
    let (server, _) = except(|asked, before| (asked.method == "HEAD" && before > 5).then(|| Answer::new(200, "short")));
    assert!(matches!(push(&server).unwrap_err(), FetchError::WrongSize { .. }));
}

#[test]
fn bytes_that_change_on_the_way_are_told() {
    let (server, _) = except(|asked, _| {
        (asked.method == "PUT").then(|| {
            Answer::new(400, r#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}"#)
        })
    });
    let error = push(&server).unwrap_err().to_string();
    assert!(error.contains("provided digest did not match"), "{error}");
}

fn push_manifest(server: &FakeServer) -> Result<bool, FetchError> {
    let client = client();
    let registry = Registry::new(&client, Credentials::default(), Configuration::default(), true);
    let reference = Reference::parse(&format!("{}/org/app:1.0", server.host())).unwrap();
    registry.push(&reference, None, &Silent)?.manifest("1.0", OCI_MANIFEST, MANIFEST)
}

#[test]
fn a_manifest_counts_when_it_is_read_back() {
    let server = FakeServer::start(|asked, _| match asked.method.as_str() {
        "PUT" => Answer::new(201, "").header("OCI-Subject", "sha256:0"),
        _ => Answer::new(200, MANIFEST),
    });
    assert!(push_manifest(&server).unwrap());
    for (put, get) in [(MANIFEST, b"other".as_slice()), (b"other", MANIFEST)] {
        let server = FakeServer::start(move |asked, _| match asked.method.as_str() {
            "PUT" => Answer::new(201, "").header("Docker-Content-Digest", Digest::of(put).to_string()),
            _ => Answer::new(200, get),
        });
        assert!(matches!(push_manifest(&server).unwrap_err(), FetchError::WrongDigest { .. }));
    }
    let endless = FakeServer::start(|asked, _| match asked.method.as_str() {
        "PUT" => Answer::new(201, ""),
        _ if asked.path() == "/v2/" => Answer::new(200, ""),
        _ => Answer { endless: true, ..Answer::new(200, vec![b'x'; 64 << 10]) },
    });
    assert!(matches!(push_manifest(&endless).unwrap_err(), FetchError::TooLarge { .. }));
}

proptest::proptest! {
    #[test]
    fn no_range_panics(text in "(bytes=)?[0-9a-]{0,30}|.{0,10}") {
        if let Some(end) = super::super::upload::parse_range(&text) {
            proptest::prop_assert!(end != 1);
        }
    }
}
