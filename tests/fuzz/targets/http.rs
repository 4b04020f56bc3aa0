//! `fetch`: what servers answer. Status lines, headers and bodies from the fuzzer, for a manifest, for a download in parts, for a push and for lists.
//!
//! Answers are parted by lines of `%%`; each is a number, `name: value` lines, an empty line, and a body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::digest::Digest;
use sifbuild::event::{Event, Observer};
use sifbuild::fetch::FetchError;
use sifbuild::fetch::auth::Credentials;
use sifbuild::fetch::download::{Expected, download};
use sifbuild::fetch::http::{Body, Fetch, Request, Response, parse_url};
use sifbuild::fetch::registry::{Configuration, Registry, challenge};
use sifbuild::fetch::retry::Patience;
use sifbuild::oci::reference::Reference;
use std::io::Cursor;
use std::sync::Mutex;
use std::time::Duration;

struct Canned(Mutex<Vec<(u16, Vec<(String, String)>, Vec<u8>)>>);

impl Fetch for Canned {
    fn send(&self, request: &Request) -> Result<Response, FetchError> {
        let answer = self.0.lock().expect("one thread").pop();
        let (status, headers, body) = answer.unwrap_or((404, Vec::new(), Vec::new()));
        Ok(Response { url: request.url.clone(), status, headers, body: Box::new(Cursor::new(body)) })
    }

    fn patience(&self) -> Patience {
        Patience { retries: 3, first_wait: Duration::ZERO, longest_wait: Duration::ZERO, jitter: false }
    }
}

struct Deaf;

impl Observer for Deaf {
    fn observe(&self, _: Event) {}
}

fn answers(text: &str) -> Canned {
    let mut all: Vec<_> = text.split("\n%%\n").take(16).map(answer).collect();
    all.reverse();
    Canned(Mutex::new(all))
}

fn answer(text: &str) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(200);
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    (status, headers, body.as_bytes().to_vec())
}

fuzz_target!(|text: &str| {
    for challenge in challenge::parse(text) {
        assert!(!challenge.scheme.is_empty());
    }
    let canned = answers(text);
    let registry = Registry::new(&canned, Credentials::default(), Configuration::default(), false);
    let reference = Reference::parse("r.test/a/b:1").expect("a good name");
    match registry.pull(&reference, &Deaf).and_then(|pull| pull.manifest()) {
        Ok(document) => assert!(document.bytes.len() <= text.len()),
        Err(error) => drop(error.to_string()),
    }
    get_file(text);
    push(text, &reference);
});

fn push(text: &str, reference: &Reference) {
    let canned = answers(text);
    let registry = Registry::new(&canned, Credentials::default(), Configuration::default(), false);
    let push = registry.push(reference, Some("c/d"), &Deaf).expect("nothing is asked yet");
    let content = b"the bytes of a blob";
    if let Err(error) = push.blob(&Body::from_bytes(content.as_slice()), &Digest::of(content), "blob") {
        drop(error.to_string());
    }
    let canned = answers(text);
    let registry = Registry::new(&canned, Credentials::default(), Configuration::default(), false);
    let _ = registry.tags(reference, &Deaf);
    let _ = registry.referrers(reference, &Digest::of(content), Some("a/b"), &Deaf);
}

fn get_file(text: &str) {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    let destination = directory.path().join("file");
    let url = parse_url("https://a.test/file").expect("a good URL");
    let expected = Expected { digest: None, size: None, most: Some(100) };
    match download(&answers(text), &[url], &destination, &expected, &Deaf, "file") {
        Ok(done) => {
            let bytes = std::fs::read(&destination).expect("it was downloaded");
            assert!(bytes.len() as u64 == done.size && done.size <= 100);
        }
        Err(error) => {
            assert!(!destination.exists(), "{error}");
        }
    }
}
