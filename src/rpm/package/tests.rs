use super::*;
use crate::openpgp::{Judge, Keyring, Policy, WeakSelfSignatures};
use crate::rpm::header::tests::{Value, write};
use crate::rpm::metadata::{Checksum, ChecksumAlgorithm};
use pgp::composed::{DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::ser::Serialize;
use pgp::types::Password;
use proptest::prelude::*;
use std::io::Cursor;
use std::sync::LazyLock;

static KEY: LazyLock<SignedSecretKey> = LazyLock::new(new_key);

fn new_key() -> SignedSecretKey {
    let mut parameters = SecretKeyParamsBuilder::default();
    let parameters = parameters
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(true)
        .primary_user_id("Mirror".to_owned());
    parameters.build().unwrap().generate(rand::thread_rng()).unwrap()
}

fn keyring(key: &SignedSecretKey) -> Keyring {
    let mut keyring = Keyring::new();
    keyring.add(&key.to_public_key().to_bytes().unwrap()).unwrap();
    keyring
}

/// What is wrong with a package that is made.
#[derive(Default)]
struct Making {
    unsigned: bool,
    /// As before rpm 4.14: signed together with the header.
    without_payload_digest: bool,
}

pub(crate) const PAYLOAD: &[u8] = b"070701 is how it begins";

fn make(key: &SignedSecretKey, making: &Making) -> Vec<u8> {
    let mut entries = vec![
        (tag::NAME, Value::Text("demo")),
        (tag::VERSION, Value::Text("1.0")),
        (tag::RELEASE, Value::Text("2")),
        (tag::EPOCH, Value::Numbers(vec![3])),
        (tag::ARCH, Value::Text("noarch")),
        (tag::PAYLOADFORMAT, Value::Text("cpio")),
    ];
    if !making.without_payload_digest {
        let digest = Checksum::of(ChecksumAlgorithm::Sha256, PAYLOAD).hex().to_owned();
        entries.push((tag::PAYLOADDIGEST, Value::Texts(vec![digest])));
        entries.push((tag::PAYLOADDIGESTALGO, Value::Numbers(vec![8])));
    }
    let header = write(&entries);
    let sign = |bytes: &[u8]| {
        let hash = HashAlgorithm::Sha256;
        let signed =
            DetachedSignature::sign_binary_data(rand::thread_rng(), &key.primary_key, &Password::empty(), hash, bytes);
        signed.unwrap().to_bytes().unwrap()
    };
    let digest = Checksum::of(ChecksumAlgorithm::Sha256, &header).hex().to_owned();
    let mut signatures = vec![(tag::SHA256HEADER, Value::Texts(vec![digest]))];
    if !making.unsigned {
        signatures.push(match making.without_payload_digest {
            false => (tag::DSAHEADER, Value::Bytes(sign(&header))),
            true => (tag::SIGGPG, Value::Bytes(sign(&[&header[..], PAYLOAD].concat()))),
        });
    }
    let mut lead = [0; LEAD];
    lead[..5].copy_from_slice(&[0xed, 0xab, 0xee, 0xdb, 3]);
    let mut signature = write(&signatures);
    signature.resize(signature.len().next_multiple_of(8), 0);
    [&lead[..], &signature, &header, PAYLOAD].concat()
}

fn judge(bytes: &[u8], keyring: &Keyring, nevra: &str) -> Result<Vec<String>, String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let policy = Policy { now, weak_self_signatures: WeakSelfSignatures::Accept };
    let mut judge = Judge::new(policy, keyring);
    verify(&mut Cursor::new(bytes), nevra, false, PackageTrust::Keys(&mut judge)).map_err(|error| error.to_string())
}

const NEVRA: &str = "demo-3:1.0-2.noarch";

#[test]
fn accepts_what_a_trusted_key_signed() {
    let ring = keyring(&KEY);
    for without_payload_digest in [false, true] {
        let bytes = make(&KEY, &Making { without_payload_digest, ..Making::default() });
        assert_eq!(judge(&bytes, &ring, NEVRA).unwrap().len(), 1);
    }
}

#[test]
fn refuses_each_fault_by_its_own_words() {
    let ring = keyring(&KEY);
    let good = make(&KEY, &Making::default());
    let error = |bytes: &[u8]| judge(bytes, &ring, NEVRA).unwrap_err();
    assert_eq!(error(&make(&KEY, &Making { unsigned: true, ..Making::default() })), "it is not signed");
    assert!(error(&make(&new_key(), &Making::default())).contains("not in the keyring"));
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(error(&bytes).contains("payload is damaged"));
    assert!(error(&good[..good.len() - 1]).contains("payload is damaged"));
    let mut bytes = good.clone();
    let at = good.windows(4).position(|four| four == b"demo").unwrap();
    bytes[at..at + 4].copy_from_slice(b"evil");
    assert!(error(&bytes).contains("evil-3:1.0-2.noarch, not demo"));
    assert!(judge(&bytes, &ring, "evil-3:1.0-2.noarch").unwrap_err().contains("header is damaged"));
    assert!(error(b"<html>").contains("beginning is damaged"));
    let mut bytes = make(&KEY, &Making { without_payload_digest: true, ..Making::default() });
    *bytes.last_mut().unwrap() ^= 1;
    assert!(error(&bytes).contains("does not fit"));
}

#[test]
fn gives_the_payload_that_follows() {
    let bytes = make(&KEY, &Making::default());
    let mut reader = &bytes[..];
    let package = Package::read(&mut reader).unwrap();
    assert_eq!(package.payload_offset as usize, bytes.len() - PAYLOAD.len());
    let mut payload = Vec::new();
    package.payload(reader).unwrap().read_to_end(&mut payload).unwrap();
    assert_eq!(payload, PAYLOAD);
}

proptest! {
    #[test]
    fn mutated_packages_never_panic_and_are_never_taken(at in 0usize..900, byte: u8) {
        static GOOD: LazyLock<(Vec<u8>, Keyring)> = LazyLock::new(|| (make(&KEY, &Making::default()), keyring(&KEY)));
        let (good, ring) = &*GOOD;
        let mut bytes = good.clone();
        let at = at % bytes.len();
        let package = Package::read(&mut &good[..]).unwrap();
        let header = package.payload_offset as usize - package.header.bytes().len();
        let changed = bytes[at] != byte;
        bytes[at] = byte;
        let taken = judge(&bytes, ring, NEVRA).is_ok();
        prop_assert!(!taken || !changed || at < header, "byte {} may change unseen", at);
    }
}
