use super::digest::{Algorithm, Checksum, ChecksumError};
use super::envelope::Envelope;
use super::metadata::{Metadata, MetadataError};
use super::report::{Doubt, ImageFault, Task};
use super::verify::MAXIMUM_SIGNATURES;
use super::*;
use crate::arch::Arch;
use crate::openpgp::{Algorithm as KeyAlgorithm, Cause, Keyring, NewKey, Passphrase, Policy, SecretKey, SigningKey};
use crate::sif::edit;
use crate::sif::format::{
    DESCRIPTOR_SIZE, DESCRIPTORS_OFFSET, DataType, Descriptor, Extra, HEADER_SIZE, HashType, Header, Link, random_id,
};
use crate::sif::reader::{ReadError, Sif};
use crate::sif::writer::{ObjectOptions, Writer, WriterOptions};
use proptest::prelude::*;
use std::io::{Cursor, Write};
use std::sync::LazyLock;

static KEY: LazyLock<SecretKey> = LazyLock::new(|| new_key("Ann"));
static OTHER: LazyLock<SecretKey> = LazyLock::new(|| new_key("Bob"));

fn new_key(name: &str) -> SecretKey {
    let passphrase = Passphrase::new("");
    NewKey { user_id: name.to_owned(), algorithm: KeyAlgorithm::Ed25519, passphrase }.generate().unwrap()
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn signing(key: &SecretKey) -> SigningKey {
    key.unlock(&Passphrase::new(""), &Policy::at(now())).unwrap()
}

/// Objects 1 to 3 in group 1, the last a partition; object 4 in group 2.
fn image(options: &WriterOptions) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
    writer.add(&ObjectOptions::new(DataType::DEFFILE), b"Bootstrap: scratch\n").unwrap();
    writer.add(&ObjectOptions::named(DataType::GENERIC_JSON, "inspect-metadata.json"), b"{}").unwrap();
    writer.begin_partition(&ObjectOptions::primary_squashfs(Arch::Amd64)).unwrap();
    writer.file().write_all(&[7; 5000]).unwrap();
    writer.end_partition(5000).unwrap();
    let notes = ObjectOptions { group: Some(2), ..ObjectOptions::named(DataType::GENERIC, "notes") };
    writer.add(&notes, b"some notes").unwrap();
    writer.finish().unwrap().into_inner()
}

fn plain() -> Vec<u8> {
    image(&WriterOptions { id: Some(random_id([9; 16])), time: Some(1_700_000_000), ..WriterOptions::default() })
}

fn signed_by(key: &SecretKey, bytes: Vec<u8>, scope: Scope) -> Vec<u8> {
    let mut file = Cursor::new(bytes);
    sign(&mut file, scope, &SignWith::Pgp(&signing(key)), now(), 1_700_000_001).unwrap();
    file.into_inner()
}

fn signed() -> Vec<u8> {
    signed_by(&KEY, plain(), Scope::Groups)
}

fn keyring() -> Keyring {
    let mut keyring = Keyring::new();
    keyring.insert(KEY.public().clone());
    keyring.insert(OTHER.public().clone());
    keyring
}

fn judge(bytes: &[u8], scope: Scope) -> Result<Report, VerifyError> {
    judge_with(bytes, scope, &keyring(), false)
}

fn judge_with(bytes: &[u8], scope: Scope, keyring: &Keyring, legacy: bool) -> Result<Report, VerifyError> {
    let material = Material { keyring: Some(keyring), policy: Policy::at(now()), keys: &[], legacy };
    verify(&mut Sif::read(Cursor::new(bytes))?, scope, &material)
}

/// The faults of all signatures.
fn faults(bytes: &[u8]) -> Vec<Option<Fault>> {
    judge(bytes, Scope::Groups).unwrap().signatures.into_iter().map(|signature| signature.fault).collect()
}

fn change_descriptor(bytes: &mut [u8], id: usize, change: impl FnOnce(&mut Descriptor)) {
    let at = DESCRIPTORS_OFFSET as usize + (id - 1) * DESCRIPTOR_SIZE;
    let mut descriptor = Descriptor::decode(bytes[at..at + DESCRIPTOR_SIZE].try_into().unwrap());
    change(&mut descriptor);
    bytes[at..at + DESCRIPTOR_SIZE].copy_from_slice(&descriptor.encode());
}

fn change_header(bytes: &mut [u8], change: impl FnOnce(&mut Header)) {
    let mut header = Header::decode(bytes[..HEADER_SIZE].try_into().unwrap());
    change(&mut header);
    bytes[..HEADER_SIZE].copy_from_slice(&header.encode());
}

/// An image with one more signature object, of these bytes.
fn with_signature(bytes: Vec<u8>, message: &[u8], link: Link, entity: &SecretKey, hash_type: HashType) -> Vec<u8> {
    let mut file = Cursor::new(bytes);
    let entity = entity.fingerprint().as_bytes().try_into().unwrap();
    let extra = Extra::Signature { hash_type, entity };
    let options = ObjectOptions { group: None, link, extra, ..ObjectOptions::new(DataType::SIGNATURE) };
    edit::add(&mut file, &options, &mut &message[..], 1_700_000_001).unwrap();
    file.into_inner()
}

/// What the key signs is any text.
fn with_text(text: &str, link: Link) -> Vec<u8> {
    let message = signing(&KEY).sign_cleartext(text, now()).unwrap();
    with_signature(plain(), message.as_bytes(), link, &KEY, HashType::SHA256)
}

#[test]
fn every_group_gets_a_signature_and_the_report_names_all() {
    let bytes = signed();
    let report = judge(&bytes, Scope::Groups).unwrap();
    assert!(report.holds());
    let found: Vec<_> =
        report.signatures.iter().map(|signature| (signature.id, signature.task, signature.covered.clone())).collect();
    assert_eq!(found, [(5, Task::Group(1), vec![1, 2, 3]), (6, Task::Group(2), vec![4])]);
    assert_eq!(report.signers_of_everything(), [KEY.fingerprint()]);
    assert_eq!((report.uncovered, report.doubts), (vec![], vec![]));
    let sif = Sif::read(Cursor::new(&bytes)).unwrap();
    let signature = sif.object(5).unwrap();
    assert_eq!((signature.group(), signature.link(), signature.name().as_str()), (None, Link::Group(1), ""));
    assert_eq!(sif.header().modified_at, 1_700_000_001);
}

#[test]
fn metadata_have_one_form() {
    let bytes = plain();
    let mut sif = Sif::read(Cursor::new(&bytes)).unwrap();
    let object = sif.object(4).unwrap().clone();
    let metadata = Metadata::of(&mut sif, &[object], 4, &mut Default::default()).unwrap();
    let json = metadata.to_json();
    assert_eq!(
        json,
        "{\"version\":1,\"header\":{\"digest\":\"sha256:7ac0596d5b344bf4f3a7ae6acd87ac97678264412b0fc18fa0681917c53c2e41\"},\"objects\":[{\"relativeId\":0,\"descriptorDigest\":\"sha256:83ad1baa861506fc04f3239eec8ac60368e7166b37b7ad5de256ee6f36ce26ff\",\"objectDigest\":\"sha256:237bac67a518e2dfc901ecbf060f59cde465d4644cf9d0783a877a321f9bbcb3\"}]}"
    );
    assert_eq!(Metadata::parse(json.as_bytes()).unwrap(), metadata);
}

#[test]
fn one_object_or_one_group_is_signed_alone() {
    let one = signed_by(&KEY, plain(), Scope::Object(2));
    let report = judge(&one, Scope::Object(2)).unwrap();
    assert!(report.holds());
    assert_eq!(
        (report.signatures[0].covered.as_slice(), report.uncovered.as_slice()),
        ([2].as_slice(), [1, 3, 4].as_slice())
    );
    let other = judge(&one, Scope::Object(1)).unwrap();
    assert_eq!(other.signatures[0].fault, Some(Fault::NotSigned { id: 1 }));
    assert_eq!(judge(&one, Scope::Groups).unwrap().signatures[0].fault, Some(Fault::NotSigned { id: 1 }));

    let group = signed_by(&KEY, plain(), Scope::Group(2));
    assert!(judge(&group, Scope::Group(2)).unwrap().holds());
    let report = judge(&group, Scope::Groups).unwrap();
    assert_eq!(report.faults, [ImageFault::NotSigned(Task::Group(1))]);
    assert_eq!(report.uncovered, [1, 2, 3]);
    assert_eq!(report.complaint().unwrap(), "integrity: signature not found for object group 1");
    assert!(matches!(judge(&group, Scope::Group(7)), Err(VerifyError::GroupNotFound(7))));
    assert!(matches!(judge(&group, Scope::Object(70)), Err(VerifyError::ObjectNotFound(70))));
}

#[test]
fn what_cannot_be_signed_is_told() {
    let with = signing(&KEY);
    let refused =
        |scope| sign(&mut Cursor::new(plain()), scope, &SignWith::Pgp(&with), now(), 0).unwrap_err().to_string();
    assert_eq!(refused(Scope::Group(9)), "object group 9 not found");
    assert_eq!(refused(Scope::Object(9)), "object 9 not found");
    let mut file = Cursor::new(Vec::new());
    Writer::new(&mut file, &WriterOptions::default()).unwrap().finish().unwrap();
    assert!(matches!(sign(&mut file, Scope::Groups, &SignWith::Pgp(&with), now(), 0), Err(SignError::NoGroup)));
}

#[test]
fn signing_a_reproducible_image_twice_gives_equal_bytes() {
    let once = |_| {
        let mut file = Cursor::new(image(&WriterOptions::default()));
        sign(&mut file, Scope::Groups, &SignWith::Pgp(&signing(&KEY)), now() / 86400 * 86400, now()).unwrap();
        file.into_inner()
    };
    let [first, second] = [0, 1].map(once);
    assert_eq!(first, second);
    assert!(Sif::read(Cursor::new(first)).unwrap().header().is_deterministic());
}

#[test]
fn all_signers_of_all_groups_are_named() {
    let both = signed_by(&OTHER, signed(), Scope::Groups);
    let mut everybody = vec![KEY.fingerprint(), OTHER.fingerprint()];
    everybody.sort();
    assert_eq!(judge(&both, Scope::Groups).unwrap().signers_of_everything(), everybody);
    let some = signed_by(&OTHER, signed(), Scope::Group(1));
    assert_eq!(judge(&some, Scope::Groups).unwrap().signers_of_everything(), [KEY.fingerprint()]);
    // A signature that cannot be judged spoils the others.
    let mut known = Keyring::new();
    known.insert(KEY.public().clone());
    let report = judge_with(&some, Scope::Groups, &known, false).unwrap();
    assert!(!report.holds() && report.signers_of_everything().is_empty());
}

#[test]
fn issuers_are_given_once() {
    let both = signed_by(&OTHER, signed(), Scope::Groups);
    let named = issuers(&mut Sif::read(Cursor::new(&both)).unwrap(), Scope::Groups, false).unwrap();
    assert_eq!(named.len(), 2);
    // Nobody is asked about signatures that are not judged.
    let some = signed_by(&OTHER, signed(), Scope::Group(1));
    let named_for = |scope, legacy| issuers(&mut Sif::read(Cursor::new(&some)).unwrap(), scope, legacy).unwrap().len();
    assert_eq!((named_for(Scope::Group(1), false), named_for(Scope::Group(2), false)), (2, 1));
    assert_eq!(named_for(Scope::Groups, true), 0);
    assert!(named.iter().any(|issuer| KEY.public().is_named_by(issuer)));
}

#[test]
fn an_image_without_signatures_does_not_hold() {
    let report = judge(&plain(), Scope::Groups).unwrap();
    assert!(!report.holds());
    assert_eq!(report.faults, [ImageFault::NotSigned(Task::Group(1)), ImageFault::NotSigned(Task::Group(2))]);
}

#[test]
fn a_signature_of_another_image_does_not_hold() {
    let bytes = signed();
    let mut sif = Sif::read(Cursor::new(&bytes)).unwrap();
    let signature = sif.object(5).unwrap().clone();
    let message = sif.contents(&signature, 1 << 20).unwrap();
    // The same objects under another id: the header differs.
    let other =
        image(&WriterOptions { id: Some(random_id([1; 16])), time: Some(1_700_000_000), ..WriterOptions::default() });
    let moved = with_signature(other, &message, Link::Group(1), &KEY, HashType::SHA256);
    assert_eq!(faults(&moved), [Some(Fault::Header)]);
    // Of another group of the same image.
    let moved = with_signature(plain(), &message, Link::Group(2), &KEY, HashType::SHA256);
    assert_eq!(faults(&moved), [Some(Fault::NotFound { id: 5 })]);
}

#[test]
fn objects_added_to_or_taken_from_a_group_are_found() {
    let mut file = Cursor::new(signed());
    edit::add(&mut file, &ObjectOptions::named(DataType::GENERIC, "more"), &mut &b"more"[..], 0).unwrap();
    let added = file.into_inner();
    assert_eq!(faults(&added), [Some(Fault::NotSigned { id: 7 }), None]);
    assert_eq!(judge(&added, Scope::Groups).unwrap().uncovered, [1, 2, 3, 7]);
    assert!(judge(&added, Scope::Object(1)).unwrap().holds());

    let mut file = Cursor::new(signed());
    edit::delete(&mut file, 2, 0).unwrap();
    assert_eq!(faults(&file.into_inner()), [Some(Fault::NotFound { id: 2 }), None]);

    let mut file = Cursor::new(signed());
    let loose = ObjectOptions { group: None, ..ObjectOptions::named(DataType::GENERIC, "loose") };
    edit::add(&mut file, &loose, &mut &b"loose"[..], 0).unwrap();
    let bytes = file.into_inner();
    for scope in [Scope::Groups, Scope::EachObject] {
        let report = judge(&bytes, scope).unwrap();
        assert_eq!(report.faults, [ImageFault::Ungrouped { id: 7 }]);
        assert_eq!(report.uncovered, [7]);
    }

    // A group of its own.
    let mut file = Cursor::new(signed());
    let apart = ObjectOptions { group: Some(3), ..ObjectOptions::named(DataType::GENERIC, "apart") };
    edit::add(&mut file, &apart, &mut &b"apart"[..], 0).unwrap();
    let report = judge(&file.into_inner(), Scope::Groups).unwrap();
    assert_eq!(report.faults, [ImageFault::NotSigned(Task::Group(3))]);
}

#[test]
fn a_signature_that_covers_nothing_does_not_hold() {
    let header = {
        let bytes = plain();
        super::digest::of_header(Sif::read(Cursor::new(&bytes)).unwrap().header(), Algorithm::Sha256).to_string()
    };
    let empty = format!("{{\"version\":1,\"header\":{{\"digest\":\"{header}\"}},\"objects\":[]}}");
    assert_eq!(faults(&with_text(&empty, Link::Group(1))), [Some(Fault::NotSigned { id: 1 })]);

    let mut bytes = signed();
    change_descriptor(&mut bytes, 6, |signature| signature.linked_id = Link::Group(9).to_raw());
    let report = judge(&bytes, Scope::Groups).unwrap();
    assert_eq!(report.faults, [ImageFault::CoversNothing { id: 6 }, ImageFault::NotSigned(Task::Group(2))]);
    let mut bytes = signed_by(&OTHER, signed(), Scope::Groups);
    change_descriptor(&mut bytes, 7, |signature| signature.linked_id = 0);
    assert_eq!(judge(&bytes, Scope::Groups).unwrap().faults, [ImageFault::CoversNothing { id: 7 }]);
}

#[test]
fn other_texts_that_a_key_signed_are_no_metadata() {
    let weak = "sha224:".to_owned() + &"a".repeat(56);
    let strong = "sha256:".to_owned() + &"a".repeat(64);
    let object = |id: u32, digest: &str| {
        format!("{{\"relativeId\":{id},\"descriptorDigest\":\"{digest}\",\"objectDigest\":\"{digest}\"}}")
    };
    let text = |version: u32, objects: &str| {
        format!("{{\"version\":{version},\"header\":{{\"digest\":\"{strong}\"}},\"objects\":[{objects}]}}")
    };
    let fault = |text: &str| match faults(&with_text(text, Link::Group(1))).as_slice() {
        [Some(fault)] => fault.clone(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(fault("I owe you 10 EUR"), Fault::Metadata(MetadataError::Json(_))));
    assert_eq!(fault(&text(2, "")), Fault::Metadata(MetadataError::Version(2)));
    let weak_fault = ChecksumError::Weak("sha224".to_owned());
    assert_eq!(fault(&text(1, &object(0, &weak))), Fault::Metadata(MetadataError::Checksum(weak_fault)));
    let twice = [object(0, &strong), object(0, &strong)].join(",");
    assert_eq!(fault(&text(1, &twice)), Fault::Metadata(MetadataError::Twice { relative_id: 0 }));
    assert_eq!(fault(&text(1, &object(u32::MAX, &strong))), Fault::NotFound { id: 1 + u64::from(u32::MAX) });
}

#[test]
fn a_fingerprint_that_is_not_the_signers_is_refused() {
    let mut bytes = signed();
    change_descriptor(&mut bytes, 5, |signature| {
        let entity = OTHER.fingerprint().as_bytes().try_into().unwrap();
        signature.extra = Extra::Signature { hash_type: HashType::SHA256, entity }.encode();
    });
    assert_eq!(faults(&bytes), [Some(Fault::OtherEntity { made_by: KEY.fingerprint() }), None]);
}

#[test]
fn keys_that_are_not_there_are_told() {
    let report = judge_with(&signed(), Scope::Groups, &Keyring::new(), false).unwrap();
    let Some(Fault::Refused(refusal)) = &report.signatures[0].fault else { panic!("{report:?}") };
    assert_eq!(refusal.cause, Cause::UnknownKey);
    let complaint = report.complaint().unwrap();
    assert!(complaint.starts_with("integrity: signature object 5 not valid: key "), "{complaint}");
}

#[test]
fn uncovered_header_fields_are_told_where_they_matter() {
    let mut bytes = signed();
    change_header(&mut bytes, |header| header.arch = *b"04\0");
    let report = judge(&bytes, Scope::Groups).unwrap();
    assert!(report.holds());
    let doubt = Doubt::Architecture { header: "arm64".to_owned(), partition: "amd64".to_owned() };
    assert_eq!(report.doubts, [doubt]);
}

#[test]
fn bytes_outside_of_all_objects_are_told() {
    let mut bytes = signed();
    bytes[2000] = 1;
    bytes.extend_from_slice(b"\0\0tail");
    let report = judge(&bytes, Scope::Groups).unwrap();
    assert!(report.holds());
    assert_eq!(report.doubts, [Doubt::HiddenBytes { count: 5 }]);
}

#[test]
fn lying_tables_are_not_judged() {
    let changed = |id: usize, change: fn(&mut Descriptor)| {
        let mut bytes = signed();
        change_descriptor(&mut bytes, id, change);
        judge(&bytes, Scope::Groups)
    };
    assert!(matches!(changed(4, |object| object.offset = 32_770), Err(VerifyError::Read(ReadError::Overlap { .. }))));
    assert!(matches!(
        changed(4, |object| object.size = i64::MAX),
        Err(VerifyError::Read(ReadError::ObjectOutside { .. }))
    ));
    assert!(matches!(changed(5, |object| object.size = -1), Err(VerifyError::Read(ReadError::ObjectOutside { .. }))));
    assert!(matches!(changed(5, |object| object.offset = 0), Err(VerifyError::Read(ReadError::ObjectOnTable { .. }))));
    assert!(matches!(changed(4, |object| object.id = 1), Err(VerifyError::Read(ReadError::Id { .. }))));
    let second = changed(4, |object| {
        object.data_type = DataType::PARTITION;
        object.extra = ObjectOptions::primary_squashfs(Arch::Amd64).extra.encode();
    });
    assert!(matches!(second, Err(VerifyError::Read(ReadError::TwoPrimaryPartitions { first: 3, second: 4 }))));
}

#[test]
fn huge_and_countless_signatures_are_refused() {
    let huge = with_signature(plain(), &vec![b'-'; 2 << 20], Link::Group(1), &KEY, HashType::SHA256);
    assert_eq!(faults(&huge), [Some(Fault::TooLarge { size: 2 << 20 })]);

    let options = WriterOptions { descriptor_capacity: 5000, ..WriterOptions::default() };
    let mut writer = Writer::new(Cursor::new(Vec::new()), &options).unwrap();
    writer.add(&ObjectOptions::new(DataType::DEFFILE), b"x").unwrap();
    let extra = Extra::Signature { hash_type: HashType::SHA256, entity: [0; 20] };
    let signature =
        ObjectOptions { group: None, link: Link::Group(1), extra, ..ObjectOptions::new(DataType::SIGNATURE) };
    for _ in 0..4000 {
        writer.add(&signature, b"-----BEGIN PGP SIGNED MESSAGE-----").unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    assert!(matches!(judge(&bytes, Scope::Groups), Err(VerifyError::TooMany { count: 4000 })));
    assert!(matches!(
        issuers(&mut Sif::read(Cursor::new(&bytes)).unwrap(), Scope::Groups, false),
        Err(VerifyError::TooMany { count: 4000 })
    ));
    const { assert!(4000 > MAXIMUM_SIGNATURES) };
}

#[test]
fn a_signature_of_an_object_that_is_not_a_legacy_one_spoils_the_image() {
    let image = signed();
    for message in [&b"anything"[..], b"{}"] {
        let changed = with_signature(image.clone(), message, Link::Object(3), &KEY, HashType::SHA256);
        for scope in [Scope::Groups, Scope::EachObject] {
            assert_eq!(judge(&changed, scope).unwrap().faults, [ImageFault::WithoutGroup { id: 7 }]);
        }
    }
    let legacy = signing(&KEY).sign_cleartext("SIFHASH:\nabc", now()).unwrap();
    let changed = with_signature(image, legacy.as_bytes(), Link::Object(3), &KEY, HashType::SHA256);
    let report = judge(&changed, Scope::Groups).unwrap();
    assert!(report.holds());
    assert_eq!(report.doubts, [Doubt::Legacy { id: 7 }]);
}

#[test]
fn what_is_no_signature_is_told() {
    let garbage = |bytes: &[u8]| faults(&with_signature(plain(), bytes, Link::Group(1), &KEY, HashType::SHA256));
    assert!(matches!(garbage(b"").as_slice(), [Some(Fault::Format(_))]));
    assert!(matches!(garbage(&[0xFF; 100]).as_slice(), [Some(Fault::Format(_))]));
    assert!(matches!(
        garbage(b"{\"payloadType\":\"x\",\"payload\":\"\",\"signatures\":[]}").as_slice(),
        [Some(Fault::Format(_))]
    ));
    let bytes = signed();
    let mut sif = Sif::read(Cursor::new(&bytes)).unwrap();
    let signature = sif.object(5).unwrap().clone();
    let message = sif.contents(&signature, 1 << 20).unwrap();
    assert!(matches!(garbage(&[b"x\n", message.as_slice()].concat()).as_slice(), [Some(Fault::Format(_))]));
    assert!(matches!(garbage(&[message.as_slice(), b"\nx"].concat()).as_slice(), [Some(Fault::Format(_))]));
}

fn legacy_text(bytes: &[u8]) -> String {
    let digest = Checksum::of(Algorithm::Sha384, bytes).to_string();
    format!("SIFHASH:\n{}", digest.strip_prefix("sha384:").unwrap())
}

/// An image with a legacy signature over these bytes.
fn with_legacy(signed: &[u8], link: Link) -> Vec<u8> {
    let message = signing(&KEY).sign_cleartext(&legacy_text(signed), now()).unwrap();
    with_signature(plain(), message.as_bytes(), link, &KEY, HashType::SHA384)
}

#[test]
fn legacy_signatures_count_only_when_that_is_asked_for() {
    let good = with_legacy(&[7; 5000], Link::Object(3));
    let report = judge(&good, Scope::Groups).unwrap();
    assert_eq!(report.faults, [ImageFault::NotSigned(Task::Group(1)), ImageFault::NotSigned(Task::Group(2))]);
    assert_eq!(report.doubts, [Doubt::Legacy { id: 5 }]);
    let legacy = |bytes: &[u8], scope| judge_with(bytes, scope, &keyring(), true).unwrap();
    let report = legacy(&good, Scope::Groups);
    assert!(report.holds());
    assert_eq!(report.signatures[0].covered, [3]);
    assert_eq!(report.uncovered, [1, 2, 4]);
    assert_eq!(report.doubts, [Doubt::LegacyCover]);
    assert!(legacy(&good, Scope::Object(3)).holds());
    assert!(!legacy(&good, Scope::Object(1)).holds());
    assert_eq!(legacy(&good, Scope::EachObject).faults.len(), 3);
    let wrong = legacy(&with_legacy(&[8; 5000], Link::Object(3)), Scope::Groups);
    assert_eq!(wrong.signatures[0].fault, Some(Fault::Object { id: 3 }));
    assert!(legacy(&signed(), Scope::Groups).faults == [ImageFault::NotSigned(Task::Object(3))]);
    let all = [b"Bootstrap: scratch\n".as_slice(), b"{}", &[7; 5000]].concat();
    assert!(legacy(&with_legacy(&all, Link::Group(1)), Scope::Group(1)).holds());
    let wrong = legacy(&with_legacy(b"x", Link::Group(1)), Scope::Group(1));
    assert_eq!(wrong.signatures[0].fault, Some(Fault::Objects));
}

fn private_key(kind: &str) -> PrivateKey {
    let mut random = rand::thread_rng();
    use ed25519_dalek::pkcs8::EncodePrivateKey as _;
    use pkcs8::LineEnding::LF;
    let pem = match kind {
        "rsa" => rsa::RsaPrivateKey::new(&mut random, 2048).unwrap().to_pkcs8_pem(LF).unwrap(),
        "p256" => p256::SecretKey::random(&mut random).to_pkcs8_pem(LF).unwrap(),
        "p384" => p384::SecretKey::random(&mut random).to_pkcs8_pem(LF).unwrap(),
        "p521" => p521::SecretKey::random(&mut random).to_pkcs8_pem(LF).unwrap(),
        _ => ed25519_dalek::SigningKey::generate(&mut random).to_pkcs8_pem(LF).unwrap(),
    };
    PrivateKey::from_pem(&pem, None).unwrap()
}

#[test]
fn bare_keys_of_every_kind_sign() {
    for kind in ["rsa", "p256", "p384", "p521", "ed25519"] {
        let key = private_key(kind);
        let mut file = Cursor::new(plain());
        sign(&mut file, Scope::Groups, &SignWith::Key(&key), now(), 0).unwrap();
        let bytes = file.into_inner();
        let judge = |keys: &[PublicKey], keyring: Option<&Keyring>| {
            let material = Material { keyring, policy: Policy::at(now()), keys, legacy: false };
            verify(&mut Sif::read(Cursor::new(&bytes)).unwrap(), Scope::Groups, &material).unwrap()
        };
        let report = judge(&[key.public().clone()], None);
        assert!(report.holds(), "{kind}: {report:?}");
        assert_eq!(report.signatures[0].signer, Some(Signer::Keys(vec![key.public().id().to_owned()])));
        assert!(report.signers_of_everything().is_empty());
        let other = private_key("ed25519");
        let report = judge(&[other.public().clone()], None);
        assert!(matches!(report.signatures[0].fault, Some(Fault::Envelope(_))), "{kind}");
        assert_eq!(judge(&[], Some(&keyring())).signatures[0].fault, Some(Fault::NoKeys));
        if kind != "p521" {
            let again = Envelope::sign(b"x", &key).unwrap().to_json();
            assert_eq!(Envelope::sign(b"x", &key).unwrap().to_json(), again, "{kind}");
        }
    }
}

#[test]
fn images_with_both_kinds_of_signatures_need_both_kinds_of_keys() {
    let key = private_key("ed25519");
    let mut file = Cursor::new(signed());
    sign(&mut file, Scope::Groups, &SignWith::Key(&key), now(), 0).unwrap();
    let bytes = file.into_inner();
    let keys = [key.public().clone()];
    let ring = keyring();
    let holds = |keys: &[PublicKey], keyring: Option<&Keyring>| {
        let material = Material { keyring, policy: Policy::at(now()), keys, legacy: false };
        verify(&mut Sif::read(Cursor::new(&bytes)).unwrap(), Scope::Groups, &material).unwrap().holds()
    };
    assert!(holds(&keys, Some(&ring)));
    assert!(!holds(&keys, None) && !holds(&[], Some(&ring)));
}

#[test]
fn an_envelope_signs_its_type_too() {
    let key = private_key("p256");
    let good = Envelope::sign(b"{}", &key).unwrap().to_json();
    let keys = [key.public().clone()];
    let parsed = Envelope::parse(good.as_bytes()).unwrap();
    assert_eq!(parsed.verify(&keys, Algorithm::Sha256).unwrap().0, b"{}");
    assert!(parsed.verify(&keys, Algorithm::Sha512).is_err());
    assert!(Envelope::parse(good.replace("sif-metadata", "other").as_bytes()).is_none());
    let payload = Envelope::parse(good.replace("e30=", "e31=").as_bytes());
    assert!(payload.is_none_or(|envelope| envelope.verify(&keys, Algorithm::Sha256).is_err()));
}

#[test]
fn weak_and_foreign_keys_are_refused_by_name() {
    use rsa::pkcs8::EncodePublicKey as _;
    let weak = rsa::RsaPrivateKey::new(&mut rand::thread_rng(), 1024).unwrap().to_public_key();
    let pem = weak.to_public_key_pem(pkcs8::LineEnding::LF).unwrap();
    assert_eq!(PublicKey::from_pem(&pem).unwrap_err(), KeyError::Bits(1024));
    assert!(matches!(PublicKey::from_pem("nothing"), Err(KeyError::Pem(_))));
    let mislabelled = pem.replace("PUBLIC KEY", "CERTIFICATE");
    assert!(matches!(PublicKey::from_pem(&mislabelled), Err(KeyError::Label { .. })));
    assert!(matches!(PrivateKey::from_pem(&pem, None), Err(KeyError::Label { .. })));
}

proptest! {
    #[test]
    fn changed_images_never_panic_and_never_hold_by_chance(place in 0usize..1 << 20, value: u8) {
        static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(signed);
        let mut bytes = SIGNED.clone();
        let objects = 32_176;
        // Bytes of objects and of signatures: each is covered, or is padding.
        let place = objects + place % (bytes.len() - objects);
        let before = std::mem::replace(&mut bytes[place], value);
        let report = judge(&bytes, Scope::Groups).unwrap();
        let is_padding = (32_197..32_768).contains(&place);
        let is_signature = place >= 37_778;
        if before != value && !is_padding && !is_signature {
            prop_assert!(!report.holds(), "{before} {value} at {place}");
        }
    }

    #[test]
    fn changed_tables_never_panic(places in proptest::collection::vec((0usize..4096 + 6 * DESCRIPTOR_SIZE, any::<u8>()), 1..4)) {
        static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(signed);
        let mut bytes = SIGNED.clone();
        for (place, value) in places {
            bytes[place] = value;
        }
        let _ = judge(&bytes, Scope::Groups);
        let _ = judge_with(&bytes, Scope::EachObject, &keyring(), true);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "\\PC{0,200}") {
        let _ = Metadata::parse(&bytes);
        let _ = Envelope::parse(&bytes);
        let _ = PublicKey::from_der(&bytes);
        let _ = PublicKey::from_pem(&text);
        let _ = PrivateKey::from_pem(&text, Some(b"x"));
        let _ = certificate::read("certificate", &bytes);
        let leaf = [rustls_pki_types::CertificateDer::from(bytes)];
        prop_assert!(certificate::key(&leaf, &leaf, &leaf, now()).is_err());
    }
}
