//! Keys to and from a keyserver, by the commands.

use super::place::Place;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A keyserver that keeps what it is given, by the fingerprint that is asked for next.
struct Server {
    url: String,
    /// Armored keys by fingerprint, put in by the test once it knows it.
    keys: Arc<Mutex<HashMap<String, String>>>,
    /// What was uploaded last.
    uploaded: Arc<Mutex<String>>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server { url, keys: Arc::default(), uploaded: Arc::default() };
        let (keys, uploaded) = (Arc::clone(&server.keys), Arc::clone(&server.uploaded));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &keys, &uploaded);
            }
        });
        server
    }
}

fn answer(mut stream: TcpStream, keys: &Mutex<HashMap<String, String>>, uploaded: &Mutex<String>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let keys = keys.lock().unwrap();
    let asked =
        |key: &String| first.contains(&format!("search=0x{key}")) || first.contains(&format!("0x{}", &key[24..]));
    let (status, text) = if first.starts_with("POST /pks/add ") {
        *uploaded.lock().unwrap() = decoded(&String::from_utf8_lossy(&body).replace("keytext=", ""));
        (200, String::new())
    } else if first.contains("op=index") {
        (
            200,
            keys.keys()
                .map(|key| format!("pub:{key}:22:256:1700000000::\nuid:Ann%20%3Cx@example.org%3E:::\n"))
                .collect(),
        )
    } else {
        keys.iter().find(|(key, _)| asked(key)).map_or((404, String::new()), |(_, text)| (200, text.clone()))
    };
    write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len()).ok()
}

fn decoded(form: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = form.as_bytes().iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(|digit| char::from(*digit)).collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_key_goes_to_a_server_and_comes_back_and_verifies() {
    let place = Place::new();
    let server = Server::start();
    place.build("base.sif", "Bootstrap: oci\nFrom: layout\n", &[]);
    let ann = super::trust::new_key(&place, "Ann", "keys");
    super::trust::sign(&place, "base.sif", "keys");

    let told = place.succeed(&["key", "push", "-d", "keys", "--url", &server.url, &ann]);
    assert!(told.contains(&format!("Sent public key Ann <x@example.org> ({ann}) to {}", server.url)), "{told}");
    let armor = server.uploaded.lock().unwrap().clone();
    assert!(armor.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"), "{armor}");
    let verify =
        |flags: &[&str]| place.run(&[&["verify", "-d", "other", "--url", &server.url], flags, &["base.sif"]].concat());
    assert_eq!(verify(&[]).code, Some(8), "the server does not have it yet");
    server.keys.lock().unwrap().insert(ann.clone(), armor);

    let verified = verify(&[]);
    assert!(
        verified.code == Some(0) && verified.text.contains("[REMOTE]") && verified.text.contains(&ann),
        "{}",
        verified.text
    );
    assert_eq!(verify(&["--local"]).code, Some(8));

    let found = place.succeed(&["key", "search", "--url", &server.url, "Ann"]);
    assert!(
        found.starts_with("Showing 1 results") && found.contains(&ann[32..]) && found.contains("Ann <x@example.org>"),
        "{found}"
    );
    let found = place.succeed(&["key", "search", "--long-list", "--url", &server.url, &ann]);
    assert!(found.contains(&ann) && found.contains("2023-11-14") && found.contains("[enabled]"), "{found}");

    let absent = place.run(&["key", "pull", "-d", "other", "--url", &server.url, &"0".repeat(40)]);
    assert!(absent.code == Some(4) && absent.text.contains("no matching keys found for"), "{}", absent.text);
    let named = place.run(&["key", "pull", "-d", "other", "--url", &server.url, "Ann"]);
    assert!(named.code == Some(1) && named.text.contains("fetched by its fingerprint"), "{}", named.text);
    let told = place.succeed(&["key", "pull", "-d", "other", "--url", &server.url, &ann]);
    assert!(told.contains("Pulled public key Ann"), "{told}");
    assert_eq!(verify(&["--local"]).code, Some(0));
}

#[test]
fn a_key_of_a_keyserver_counts_where_its_fingerprint_is_named_and_not_as_known() {
    let place = Place::new();
    let server = Server::start();
    place.build("base.sif", "Bootstrap: oci\nFrom: layout\n", &[]);
    let ann = super::trust::new_key(&place, "Ann", "keys");
    super::trust::sign(&place, "base.sif", "keys");
    place.succeed(&["key", "push", "-d", "keys", "--url", &server.url, &ann]);
    let armor = server.uploaded.lock().unwrap().clone();
    server.keys.lock().unwrap().insert(ann.clone(), armor);
    let configuration = place.file("").parent().unwrap().join("home/.apptainer");
    std::fs::create_dir_all(&configuration).unwrap();
    let remote = format!(
        "Active: x\nRemotes:\n  x:\n    URI: cloud.apptainer.org\n    Keyservers:\n      - URI: {}\n",
        server.url
    );
    std::fs::write(configuration.join("remote.yaml"), remote).unwrap();

    let definition = format!("Bootstrap: localimage\nFrom: base.sif\nFingerprints: {ann}\n");
    let text = place.build("next.sif", &definition, &["--keysdir", "other"]);
    assert!(text.contains("a key from a keyserver"), "{text}");
    let bare = "Bootstrap: localimage\nFrom: base.sif\n";
    let told = place.fail("third.sif", bare, &["--keysdir", "other", "--require-signed"]);
    assert!(told.code == Some(8) && told.text.contains("not signed by a key in your keyrings"), "{}", told.text);
    // The definition's author does not vouch for its base; a policy does.
    let told = place.fail("third.sif", &definition, &["--keysdir", "other", "--require-signed"]);
    assert!(told.code == Some(8) && told.text.contains("not signed by a key in your keyrings"), "{}", told.text);
    place.write("site.policy", format!("[[rule]]\nsource = \"localimage:**\"\nsigned-by = [\"{ann}\"]\n"));
    place.build("third.sif", bare, &["--keysdir", "other", "--require-signed", "--policy", "site.policy"]);
}
