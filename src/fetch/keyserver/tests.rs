use super::*;
use crate::fetch::fake_server::{Answer, FakeServer, client};
use crate::openpgp::{Algorithm, NewKey, Passphrase};
use std::sync::LazyLock;

fn new_key(user_id: &str) -> PublicKey {
    let new =
        NewKey { user_id: user_id.to_owned(), algorithm: Algorithm::Ed25519, passphrase: Passphrase::new(Vec::new()) };
    new.generate().unwrap().public().clone()
}

static KEY: LazyLock<PublicKey> = LazyLock::new(|| new_key("Sif <sif@example.org>"));

fn wanted() -> Selector {
    Selector::Fingerprint(KEY.fingerprint())
}

fn servers<'a>(fetch: &'a dyn Fetch, addresses: &[&str]) -> Keyservers<'a> {
    Keyservers { fetch, servers: addresses.iter().map(|address| Keyserver::parse(address).unwrap()).collect() }
}

#[test]
fn addresses_become_urls() {
    for (text, url) in [
        ("https://keys.openpgp.org", "https://keys.openpgp.org/"),
        ("keys.openpgp.org", "https://keys.openpgp.org/"),
        ("hkp://keys.example.org", "http://keys.example.org:11371/"),
        ("hkp://keys.example.org:80/base", "http://keys.example.org/base"),
        ("HKPS://keys.example.org", "https://keys.example.org/"),
    ] {
        assert_eq!(Keyserver::parse(text).unwrap().url.as_str(), url);
    }
    for text in ["ftp://x", "https://", "", "https://a b"] {
        assert!(matches!(Keyserver::parse(text), Err(KeyserverError::Address { .. })), "{text}");
    }
    assert!(!Keyserver::parse("ftp://bob:secret@x").unwrap_err().to_string().contains("secret"));
}

#[test]
fn a_pulled_key_is_the_one_that_was_asked_for() {
    let server = FakeServer::start(|_, _| Answer::new(200, KEY.to_armor()));
    let client = client();
    let found = servers(&client, &[server.url("/sks/").as_str()]).pull(&wanted()).unwrap();
    assert_eq!(found[0].fingerprint(), KEY.fingerprint());
    let expected = format!("/sks/pks/lookup?search=0x{}&op=get&exact=on&options=mr", KEY.fingerprint());
    assert_eq!(server.asked()[0].target, expected);

    let other = new_key("Other <other@example.org>");
    let armor = other.to_armor();
    let liar = FakeServer::start(move |_, _| Answer::new(200, armor.clone()));
    let told = servers(&client, &[liar.url("/").as_str()]).pull(&wanted()).unwrap_err();
    assert!(
        matches!(&told, KeyserverError::OtherKey { found, .. } if *found == other.fingerprint().to_string()),
        "{told}"
    );
}

#[test]
fn a_key_without_a_user_id_is_told_from_one_that_is_absent() {
    // As keys.openpgp.org sends it: the primary key's packet alone.
    let bytes = KEY.to_bytes();
    let length = 2 + usize::from(bytes[1]);
    let bare = crate::openpgp::armor::encode(crate::openpgp::armor::Block::PublicKey, &bytes[..length]);
    let server = FakeServer::start(move |_, _| Answer::new(200, bare.clone()));
    let client = client();
    let told = servers(&client, &[server.url("/").as_str()]).pull(&wanted()).unwrap_err().to_string();
    assert!(told.contains("without a user id") && told.contains(&KEY.fingerprint().to_string()), "{told}");
    let absent = FakeServer::start(|_, _| Answer::new(404, "Not found"));
    let told = servers(&client, &[absent.url("/").as_str()]).pull(&wanted()).unwrap_err().to_string();
    assert!(told.contains("no matching keys found for"), "{told}");
}

#[test]
fn a_server_that_cannot_be_reached_is_asked_no_more() {
    let full = FakeServer::start(|_, _| Answer::new(200, KEY.to_armor()));
    let client = client();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut asked = servers(&client, &[&format!("http://{gone}/"), full.url("/").as_str()]);
    assert_eq!(asked.lookup(&wanted()).unwrap().len(), 1);
    assert_eq!(asked.servers.len(), 1);
    assert_eq!(asked.lookup(&wanted()).unwrap().len(), 1);
}

#[test]
fn a_signature_s_key_is_looked_for_at_each_server() {
    let absent = FakeServer::start(|_, _| Answer::new(404, ""));
    let broken = FakeServer::start(|_, _| Answer::new(500, "<html>").header("Content-Type", "text/html"));
    let good = FakeServer::start(|_, _| Answer::new(200, KEY.to_bytes()));
    let client = client();
    let urls = [&absent, &broken, &good].map(|server| server.url("/").to_string());
    let all: Vec<&str> = urls.iter().map(String::as_str).collect();
    let id = Selector::KeyId(KEY.fingerprint().key_id());
    assert_eq!(servers(&client, &all).lookup(&id).unwrap().len(), 1);
    let told = servers(&client, &all[..2]).lookup(&id).unwrap_err();
    assert!(matches!(told, KeyserverError::Refused { status: 500, .. }), "{told}");
    let told = servers(&client, &all[..1]).lookup(&id).unwrap_err().to_string();
    assert!(told.contains(&absent.host()), "{told}");
    assert!(matches!(servers(&client, &[]).lookup(&id), Err(KeyserverError::None)));
}

#[test]
fn a_key_is_pushed_with_the_login_that_is_configured() {
    let server = FakeServer::start(|asked, _| match asked.header("authorization") {
        Some("Bearer token") => Answer::new(200, "Upload successful"),
        _ => Answer::new(401, "who?").header("Content-Type", "text/plain"),
    });
    let client = client();
    let mut keyservers = servers(&client, &[server.url("/").as_str()]);
    let told = keyservers.push(&KEY).unwrap_err().to_string();
    assert!(told.contains("wants a login (who?)"), "{told}");
    keyservers.servers[0].authorization = Some(Secret::new("Bearer token"));
    assert_eq!(keyservers.push(&KEY).unwrap().1, "Upload successful");
    let asked = server.asked().pop().unwrap();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/pks/add"));
    assert!(asked.body.starts_with("keytext=-----BEGIN+PGP+PUBLIC+KEY+BLOCK-----"), "{}", asked.body);
}

#[test]
fn a_search_follows_pages_and_ends() {
    let line = "pub:A20C27EE7FF7BA84:1:4096:1500000000::\nuid:Sif:1500000000::\n";
    let server = FakeServer::start(move |_, before| {
        Answer::new(200, line)
            .header("X-HKP-Next-Page-Token", if before < 100 { format!("page{before}") } else { String::new() })
    });
    let client = client();
    let found = servers(&client, &[server.url("/").as_str()]).search("a20c27ee7ff7ba84").unwrap();
    assert_eq!(found.len(), MAXIMUM_PAGES);
    assert!(
        server.asked()[0]
            .target
            .contains("search=0xa20c27ee7ff7ba84&op=index&options=mr&fingerprint=on&x-pagesize=256")
    );
    assert!(server.asked()[1].target.ends_with("&x-pagetoken=page0"));
}

#[test]
fn a_server_cannot_send_without_end() {
    let server = FakeServer::start(|_, _| Answer { endless: true, ..Answer::new(200, vec![b'x'; 1 << 16]) });
    let client = client();
    let told = servers(&client, &[server.url("/").as_str()]).search("x").unwrap_err();
    assert!(matches!(told, KeyserverError::Fetch(FetchError::TooLarge { .. })), "{told}");
    let garbage = FakeServer::start(|_, _| Answer::new(200, "no key"));
    let told = servers(&client, &[garbage.url("/").as_str()]).pull(&wanted()).unwrap_err();
    assert!(matches!(told, KeyserverError::Unreadable { .. }), "{told}");
}
