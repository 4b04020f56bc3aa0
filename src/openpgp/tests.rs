use super::keyring::{Contents, Inserted};
use super::policy::{BlockError, issuers};
use super::*;
use pgp::composed::{DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedSecretKey, SubkeyParamsBuilder};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, Notation, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId};
use pgp::types::{Duration, KeyDetails, Password, Tag, Timestamp};
use proptest::prelude::*;
use std::sync::LazyLock;

const TEXT: &str = "{\"a\":1}\n- dash\n-dash  \nend";
const DAY: i64 = 24 * 3600;

/// A key made an hour ago, so that signatures may be dated before now; RSA signs with any hash.
static KEY: LazyLock<SignedSecretKey> = LazyLock::new(|| {
    let mut parameters = SecretKeyParamsBuilder::default();
    let parameters = parameters
        .key_type(KeyType::Rsa(2048))
        .created_at(Timestamp::from_secs(now() as u32 - 3600))
        .can_certify(true)
        .can_sign(true)
        .primary_user_id("Ann <ann@example.org>".to_owned());
    parameters.build().unwrap().generate(rand::thread_rng()).unwrap()
});

fn now() -> i64 {
    i64::from(Timestamp::now().as_secs())
}

fn new_key(passphrase: &str) -> SecretKey {
    let user_id = generate::user_id("Bob", "work", "bob@example.org").unwrap();
    NewKey { user_id, algorithm: Algorithm::Ed25519, passphrase: Passphrase::new(passphrase) }.generate().unwrap()
}

fn ring(keys: &[&SignedSecretKey]) -> Keyring {
    let mut keyring = Keyring::new();
    for key in keys {
        keyring.insert(SecretKey::from_inner((*key).clone()).public().clone());
    }
    keyring
}

/// A detached signature by the primary key, its parts changed.
fn sign(key: &SignedSecretKey, hash: HashAlgorithm, change: impl FnOnce(&mut SignatureConfig)) -> Vec<u8> {
    let mut config = SignatureConfig::v4(SignatureType::Binary, key.primary_key.algorithm(), hash);
    config.hashed_subpackets = vec![
        created(now()),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.primary_key.fingerprint())).unwrap(),
    ];
    change(&mut config);
    let signature = config.sign(&key.primary_key, &Password::empty(), TEXT.as_bytes()).unwrap();
    pgp::ser::Serialize::to_bytes(&DetachedSignature::new(signature)).unwrap()
}

fn created(at: i64) -> Subpacket {
    Subpacket::regular(SubpacketData::SignatureCreationTime(Timestamp::from_secs(at as u32))).unwrap()
}

fn judge(keyring: &Keyring, block: &[u8]) -> Result<Verified, Cause> {
    judge_at(keyring, block, now())
}

fn judge_at(keyring: &Keyring, block: &[u8], now: i64) -> Result<Verified, Cause> {
    let mut judged = Policy::at(now).judge(keyring, TEXT.as_bytes(), block).unwrap();
    assert_eq!(judged.len(), 1);
    judged.remove(0).map_err(|refusal| refusal.cause)
}

/// The key with its user's self-signature made anew.
fn with_self_signature(hash: HashAlgorithm, change: impl FnOnce(&mut SignatureConfig)) -> SignedSecretKey {
    let mut key = KEY.clone();
    let mut config = SignatureConfig::v4(SignatureType::CertPositive, key.primary_key.algorithm(), hash);
    let mut flags = KeyFlags::default();
    flags.set_sign(true);
    config.hashed_subpackets = vec![
        created(now() - 3600),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.primary_key.fingerprint())).unwrap(),
        Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap(),
    ];
    change(&mut config);
    let user = &mut key.details.users[0];
    let public = key.primary_key.public_key();
    user.signatures =
        vec![config.sign_certification(&key.primary_key, public, &Password::empty(), Tag::UserId, &user.id).unwrap()];
    key
}

fn revocation(key: &SignedSecretKey) -> Signature {
    let mut config =
        SignatureConfig::v4(SignatureType::KeyRevocation, key.primary_key.algorithm(), HashAlgorithm::Sha256);
    config.hashed_subpackets = vec![
        created(now() - 60),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.primary_key.fingerprint())).unwrap(),
    ];
    config.sign_key(&key.primary_key, &Password::empty(), key.primary_key.public_key()).unwrap()
}

fn flags(sign: bool) -> Subpacket {
    let mut flags = KeyFlags::default();
    flags.set_sign(sign);
    flags.set_certify(true);
    Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap()
}

#[test]
fn a_cleartext_message_is_split_into_what_was_signed() {
    let key = new_key("secret");
    let signing = key.unlock(&Passphrase::new("secret"), &Policy::at(now())).unwrap();
    let message = signing.sign_cleartext(TEXT, now()).unwrap();
    assert!(message.starts_with(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{\"a\":1}\n- - dash\n- -dash\nend\n-----BEGIN"
    ));
    assert!(message.ends_with("-----END PGP SIGNATURE-----"));
    let split = Cleartext::split(&message).unwrap();
    assert_eq!(split.text, "{\"a\":1}\n- dash\n-dash\nend");
    let mut keyring = Keyring::new();
    keyring.insert(key.public().clone());
    let judged = Policy::at(now()).judge(&keyring, &split.signed_bytes(), split.signature.as_bytes()).unwrap();
    let verified = judged[0].as_ref().unwrap();
    assert_eq!(verified.fingerprint, key.fingerprint());
    assert_eq!(verified.signer, key.fingerprint());
    assert_eq!(verified.user_ids, ["Bob (work) <bob@example.org>"]);
    assert_eq!(verified.warnings, []);
    assert_eq!(issuers(split.signature.as_bytes()).unwrap(), [Issuer::Fingerprint(key.fingerprint())]);
    let other = Policy::at(now()).judge(&keyring, b"other", split.signature.as_bytes()).unwrap();
    assert_eq!(other[0].as_ref().unwrap_err().cause, Cause::BadSignature);
}

#[test]
fn equal_texts_and_times_give_equal_signatures() {
    let key = new_key("").unlock(&Passphrase::new(""), &Policy::at(now())).unwrap();
    assert_eq!(key.sign_cleartext(TEXT, now()).unwrap(), key.sign_cleartext(TEXT, now()).unwrap());
}

#[test]
fn a_signature_is_never_dated_before_its_key() {
    let key = new_key("").unlock(&Passphrase::new(""), &Policy::at(now())).unwrap();
    let split = Cleartext::split(&key.sign_cleartext(TEXT, 0).unwrap()).unwrap();
    let mut keyring = Keyring::new();
    keyring.insert(key.public().clone());
    let judged = Policy::at(now()).judge(&keyring, &split.signed_bytes(), split.signature.as_bytes()).unwrap();
    assert_eq!(judged[0].as_ref().unwrap().made_at, key.public().created_at());
}

#[test]
fn signatures_are_refused_by_the_rules() {
    let keyring = ring(&[&KEY]);
    let sha256 = HashAlgorithm::Sha256;
    let hour = |hours: u32| Duration::from_secs(hours * 3600);
    assert!(judge(&keyring, &sign(&KEY, sha256, |_| {})).is_ok());
    for hash in [HashAlgorithm::Sha1, HashAlgorithm::Sha224, HashAlgorithm::Ripemd160, HashAlgorithm::Md5] {
        assert_eq!(judge(&keyring, &sign(&KEY, hash, |_| {})), Err(Cause::WeakDigest), "{hash}");
    }
    let mut typed = sign(&KEY, sha256, |_| {});
    // Behind a header of three bytes and the version.
    assert_eq!(typed[3..5], [4, 0]);
    typed[4] = SignatureType::KeyRevocation.into();
    assert_eq!(judge(&keyring, &typed), Err(Cause::WrongType));
    let dated = |at| sign(&KEY, sha256, |config| config.hashed_subpackets[0] = created(at));
    assert_eq!(judge(&keyring, &dated(now() + 2 * DAY)), Err(Cause::FromTheFuture));
    assert!(judge(&keyring, &dated(now() + DAY / 2)).is_ok());
    assert_eq!(judge(&keyring, &dated(now() - 2 * DAY)), Err(Cause::KeyYoungerThanSignature));
    let brief = sign(&KEY, sha256, |config| {
        config.hashed_subpackets.push(Subpacket::regular(SubpacketData::SignatureExpirationTime(hour(1))).unwrap());
    });
    assert!(judge(&keyring, &brief).is_ok());
    assert_eq!(judge_at(&keyring, &brief, now() + 3601), Err(Cause::SignatureExpired));
    let noted = sign(&KEY, sha256, |config| {
        let notation = Notation { readable: true, name: "a@example.org".into(), value: "b".into() };
        config.hashed_subpackets.push(Subpacket::critical(SubpacketData::Notation(notation)).unwrap());
    });
    assert_eq!(judge(&keyring, &noted), Err(Cause::UnknownNotation));
    assert_eq!(judge(&Keyring::new(), &brief), Err(Cause::UnknownKey));
    let undated = sign(&KEY, sha256, |config| drop(config.hashed_subpackets.remove(0)));
    assert_eq!(judge(&keyring, &undated), Err(Cause::BadSignature));
    let nameless = sign(&KEY, sha256, |config| drop(config.hashed_subpackets.pop()));
    assert_eq!(judge(&keyring, &nameless), Err(Cause::UnknownKey));
}

#[test]
fn keys_are_refused_by_the_rules() {
    let signature = sign(&KEY, HashAlgorithm::Sha256, |_| {});
    let verdict = |key: &SignedSecretKey| judge(&ring(&[key]), &signature).map(drop);
    let mut revoked = KEY.clone();
    revoked.details.revocation_signatures.push(revocation(&KEY));
    assert_eq!(verdict(&revoked), Err(Cause::KeyRevoked));

    let expiring = with_self_signature(HashAlgorithm::Sha256, |config| {
        let life = SubpacketData::KeyExpirationTime(Duration::from_secs(7200));
        config.hashed_subpackets.push(Subpacket::regular(life).unwrap());
    });
    assert_eq!(verdict(&expiring), Ok(()));
    assert_eq!(judge_at(&ring(&[&expiring]), &signature, now() + 3601).map(drop), Err(Cause::KeyExpired));

    let certifying = with_self_signature(HashAlgorithm::Sha256, |config| config.hashed_subpackets[2] = flags(false));
    assert_eq!(verdict(&certifying), Err(Cause::NotForSigning));
    let old = with_self_signature(HashAlgorithm::Md5, |_| {});
    assert_eq!(verdict(&old), Err(Cause::Unbound));
    let ended = with_self_signature(HashAlgorithm::Sha256, |config| {
        let life = SubpacketData::SignatureExpirationTime(Duration::from_secs(60));
        config.hashed_subpackets.push(Subpacket::regular(life).unwrap());
    });
    assert_eq!(verdict(&ended), Err(Cause::Unbound));

    let mut renamed = KEY.clone();
    renamed.details.users[0].id = UserId::from_str(Default::default(), "Eve <eve@example.org>").unwrap();
    assert_eq!(verdict(&renamed), Err(Cause::Unbound));
    let mut borrowed = KEY.clone();
    borrowed.details.users.push(new_key("").inner.details.users[0].clone());
    assert_eq!(judge(&ring(&[&borrowed]), &signature).unwrap().user_ids, ["Ann <ann@example.org>"]);
}

#[test]
fn a_foreign_revocation_revokes_nothing() {
    let mut key = KEY.clone();
    key.details.revocation_signatures.push(revocation(&new_key("").inner));
    assert!(judge(&ring(&[&key]), &sign(&KEY, HashAlgorithm::Sha256, |_| {})).is_ok());
}

#[test]
fn weak_keys_are_refused() {
    let mut parameters = SecretKeyParamsBuilder::default();
    let parameters =
        parameters.key_type(KeyType::Dsa(pgp::composed::DsaKeySize::B1024)).can_sign(true).can_certify(true);
    let key = parameters.primary_user_id("Old".to_owned()).build().unwrap().generate(rand::thread_rng()).unwrap();
    let signature = sign(&key, HashAlgorithm::Sha256, |_| {});
    assert_eq!(judge(&ring(&[&key]), &signature), Err(Cause::WeakKey));
}

#[test]
fn a_self_signature_with_sha1_is_told_accepted_or_refused() {
    let key = with_self_signature(HashAlgorithm::Sha1, |_| {});
    let keyring = ring(&[&key]);
    let signature = sign(&KEY, HashAlgorithm::Sha256, |_| {});
    let verdict = |weak_self_signatures| {
        let policy = Policy { now: now(), weak_self_signatures };
        policy.judge(&keyring, TEXT.as_bytes(), &signature).unwrap().remove(0).map_err(|refusal| refusal.cause)
    };
    assert_eq!(verdict(WeakSelfSignatures::Accept).unwrap().warnings, []);
    let fingerprint = SecretKey::from_inner(key.clone()).fingerprint();
    assert_eq!(verdict(WeakSelfSignatures::Warn).unwrap().warnings, [Warning::Sha1SelfSignature(fingerprint)]);
    assert_eq!(verdict(WeakSelfSignatures::Refuse), Err(Cause::WeakSelfSignature));
}

#[test]
fn a_flooded_key_is_given_up() {
    let mut key = KEY.clone();
    let user = key.details.users[0].clone();
    key.details.users.extend(std::iter::repeat_n(user, 3000));
    assert_eq!(judge(&ring(&[&key]), &sign(&KEY, HashAlgorithm::Sha256, |_| {})), Err(Cause::Flooded));
}

/// A key whose primary part only certifies, with a subkey that signs.
fn with_subkey() -> SignedSecretKey {
    let subkey = SubkeyParamsBuilder::default().key_type(KeyType::Ed25519Legacy).can_sign(true).build().unwrap();
    let mut parameters = SecretKeyParamsBuilder::default();
    let parameters = parameters.key_type(KeyType::Ed25519Legacy).can_certify(true).subkeys(vec![subkey]);
    parameters.primary_user_id("Sub".to_owned()).build().unwrap().generate(rand::thread_rng()).unwrap()
}

#[test]
fn a_subkey_signs_for_its_primary_key_when_both_say_so() {
    let key = with_subkey();
    let signing = SecretKey::from_inner(key.clone()).unlock(&Passphrase::new(""), &Policy::at(now())).unwrap();
    let split = Cleartext::split(&signing.sign_cleartext(TEXT, now()).unwrap()).unwrap();
    let verdict = |key: &SignedSecretKey| {
        let judged = Policy::at(now()).judge(&ring(&[key]), &split.signed_bytes(), split.signature.as_bytes());
        judged.unwrap().remove(0).map_err(|refusal| refusal.cause)
    };
    let verified = verdict(&key).unwrap();
    assert_ne!(verified.signer, verified.fingerprint);
    assert_eq!(verified.fingerprint, signing.fingerprint());

    let mut unbound = key.clone();
    unbound.secret_subkeys[0].signatures = with_subkey().secret_subkeys[0].signatures.clone();
    assert_eq!(verdict(&unbound), Err(Cause::Unbound));

    // Bound by the primary key alone: somebody claims another's signing key.
    let subkey = &key.secret_subkeys[0].key;
    let mut claimed = key.clone();
    let mut sign = KeyFlags::default();
    sign.set_sign(true);
    let public = key.primary_key.public_key();
    claimed.secret_subkeys[0].signatures =
        vec![subkey.sign(rand::thread_rng(), &key.primary_key, public, &Password::empty(), sign, None).unwrap()];
    assert_eq!(verdict(&claimed), Err(Cause::Unbound));

    let mut revoked = key.clone();
    let mut config = SignatureConfig::v4(SignatureType::SubkeyRevocation, public.algorithm(), HashAlgorithm::Sha256);
    config.hashed_subpackets =
        vec![created(now()), Subpacket::regular(SubpacketData::IssuerFingerprint(public.fingerprint())).unwrap()];
    let revocation =
        config.sign_subkey_binding(&key.primary_key, public, &Password::empty(), subkey.public_key()).unwrap();
    revoked.secret_subkeys[0].signatures.push(revocation);
    assert_eq!(verdict(&revoked), Err(Cause::KeyRevoked));
}

#[test]
fn a_passphrase_locks_every_secret_and_can_be_changed() {
    let key = new_key("one");
    let policy = Policy::at(now());
    assert!(key.is_locked() && !new_key("").is_locked());
    let wrong = SecretError::WrongPassphrase(key.fingerprint());
    assert_eq!(key.unlock(&Passphrase::new("two"), &policy).unwrap_err(), wrong);
    assert_eq!(key.with_passphrase(&Passphrase::new("two"), &Passphrase::new("x")).unwrap_err(), wrong);
    let changed = key.with_passphrase(&Passphrase::new("one"), &Passphrase::new("two")).unwrap();
    assert!(changed.unlock(&Passphrase::new("two"), &policy).is_ok());
    assert!(changed.unlock(&Passphrase::new("one"), &policy).is_err());
    let both =
        SecretKey::from_inner(with_subkey()).with_passphrase(&Passphrase::new(""), &Passphrase::new("x")).unwrap();
    assert!(both.unlock(&Passphrase::new(""), &policy).is_err());
    assert!(both.unlock(&Passphrase::new("x"), &policy).is_ok());
}

#[test]
fn an_expired_key_does_not_sign() {
    let key = with_self_signature(HashAlgorithm::Sha256, |config| {
        let life = SubpacketData::KeyExpirationTime(Duration::from_secs(60));
        config.hashed_subpackets.push(Subpacket::regular(life).unwrap());
    });
    let key = SecretKey::from_inner(key);
    let refused = key.unlock(&Passphrase::new(""), &Policy::at(now())).unwrap_err();
    assert_eq!(refused, SecretError::CannotSign(key.fingerprint(), Cause::KeyExpired));
}

#[test]
fn nothing_secret_is_shown_by_debug_forms() {
    let key = new_key("sesame");
    let signing = key.unlock(&Passphrase::new("sesame"), &Policy::at(now())).unwrap();
    let shown = format!("{key:?} {signing:?} {:?}", Passphrase::new("sesame"));
    assert_eq!(shown, format!("SecretKey({0}) SigningKey({0}) Passphrase(…)", key.fingerprint()));
}

#[test]
fn keyrings_keep_their_bytes() {
    let (one, two) = (new_key("x"), new_key(""));
    let mut keyring = Keyring::new();
    assert_eq!(keyring.insert(one.public().clone()), Inserted::New);
    assert_eq!(keyring.insert(two.public().clone()), Inserted::New);
    assert_eq!(keyring.insert(two.public().clone()), Inserted::Known);
    let bytes = keyring.to_bytes();
    let mut again = Keyring::read(&bytes).unwrap();
    assert_eq!(again.to_bytes(), bytes);
    assert!(again.remove(&one.fingerprint()) && !again.remove(&one.fingerprint()));
    assert_eq!(again.to_bytes(), two.public().to_bytes());

    let mut secrets = SecretKeyring::default();
    assert!(secrets.insert(one.clone()) && secrets.insert(two.clone()) && !secrets.insert(two.clone()));
    let mut again = SecretKeyring::read(&secrets.to_bytes()).unwrap();
    assert!(again.remove(&two.fingerprint()));
    assert_eq!(*again.to_bytes(), one.to_bytes());
    assert!(again.keys().next().unwrap().is_locked());
}

#[test]
fn keys_that_cannot_be_read_stay_in_the_file() {
    let key = new_key("");
    // A key of a version that is not known, in a packet of the new form.
    let unknown = [0xC6, 4, 9, 1, 2, 3];
    let bytes = [unknown.as_slice(), key.public().to_bytes()].concat();
    let mut keyring = Keyring::read(&bytes).unwrap();
    assert_eq!((keyring.keys().count(), keyring.unread()), (1, 1));
    keyring.remove(&key.fingerprint());
    assert_eq!(keyring.to_bytes(), unknown);
    let damaged = &bytes[..bytes.len() - 1];
    assert!(matches!(Keyring::read(damaged), Err(KeyringError::Packet(_))));
    assert_eq!(Keyring::read(b"").unwrap().keys().count(), 0);
}

#[test]
fn a_second_copy_of_a_key_brings_its_revocation() {
    let mut keyring = ring(&[&KEY]);
    let mut revoked = KEY.clone();
    revoked.details.revocation_signatures.push(revocation(&KEY));
    assert_eq!(keyring.insert(SecretKey::from_inner(revoked).public().clone()), Inserted::Updated);
    let signature = sign(&KEY, HashAlgorithm::Sha256, |_| {});
    assert_eq!(judge(&keyring, &signature), Err(Cause::KeyRevoked));
    assert_eq!(judge(&Keyring::read(&keyring.to_bytes()).unwrap(), &signature), Err(Cause::KeyRevoked));
    // A copy without it takes nothing away.
    assert_eq!(keyring.insert(SecretKey::from_inner(KEY.clone()).public().clone()), Inserted::Known);
    assert_eq!(judge(&keyring, &signature), Err(Cause::KeyRevoked));
}

/// Packets of the key, and where its user id and its subkey begin: tags 13 and 14.
fn parts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let found: Vec<_> = packet::packets(bytes).map(|packet| packet.unwrap()).collect();
    let starts = found.iter().filter(|packet| packet.tag != 2).map(|packet| packet.place.start);
    let starts: Vec<usize> = starts.chain([bytes.len()]).collect();
    starts.windows(2).map(|place| bytes[place[0]..place[1]].to_vec()).collect()
}

#[test]
fn a_key_is_revoked_wherever_the_revocation_stands() {
    let key = with_subkey();
    let signing = SecretKey::from_inner(key.clone()).unlock(&Passphrase::new(""), &Policy::at(now())).unwrap();
    let split = Cleartext::split(&signing.sign_cleartext(TEXT, now()).unwrap()).unwrap();
    let verdict = |keyring: &Keyring| {
        let judged = Policy::at(now()).judge(keyring, &split.signed_bytes(), split.signature.as_bytes());
        judged.unwrap().remove(0).map_err(|refusal| refusal.cause).map(drop)
    };
    let public = SecretKey::from_inner(key.clone()).public().to_bytes().to_vec();
    let other = new_key("").public().to_bytes().to_vec();
    let revocation = pgp::ser::Serialize::to_bytes(&DetachedSignature::new(revocation(&key))).unwrap();
    assert_eq!(parts(&public).len(), 3);
    assert_eq!(verdict(&Keyring::read(&public).unwrap()), Ok(()));
    for place in 0..=5 {
        let mut parts = [parts(&public), vec![other.clone()]].concat();
        parts.insert(place.min(parts.len()), revocation.clone());
        let file = parts.concat();
        assert_eq!(verdict(&Keyring::read(&file).unwrap()), Err(Cause::KeyRevoked), "{place}");
        let mut imported = Keyring::read(&public).unwrap();
        assert_eq!(imported.add(&file), Ok(2));
        assert_eq!(verdict(&imported), Err(Cause::KeyRevoked), "{place}");
        assert_eq!(verdict(&Keyring::read(&imported.to_bytes()).unwrap()), Err(Cause::KeyRevoked), "{place}");
    }
    let secret = [SecretKey::from_inner(key).to_bytes(), &revocation].concat();
    let secret = Contents::read(&secret).unwrap().secret.remove(0);
    assert_eq!(Policy::at(now()).check_key(secret.public()), Err(Cause::KeyRevoked));
}

#[test]
fn a_revocation_alone_fits_only_its_key() {
    let bytes = |signature| pgp::ser::Serialize::to_bytes(&DetachedSignature::new(signature)).unwrap();
    let alone = armor::encode(armor::Block::PublicKey, &bytes(revocation(&KEY)));
    let contents = Contents::read(alone.as_bytes()).unwrap();
    assert!(contents.public.is_empty() && contents.unread.is_none());
    let fingerprint = SecretKey::from_inner(KEY.clone()).fingerprint();
    let mut keyring = ring(&[&KEY, &new_key("").inner]);
    assert_eq!(keyring.revoke(&contents.revocations[0]), Some((fingerprint.clone(), true)));
    assert_eq!(keyring.revoke(&contents.revocations[0]), Some((fingerprint, false)));
    assert_eq!(judge(&keyring, &sign(&KEY, HashAlgorithm::Sha256, |_| {})), Err(Cause::KeyRevoked));
    // Somebody else's, who writes the key's name on it.
    let mut forged = revocation(&new_key("").inner);
    let named = SubpacketData::IssuerFingerprint(KEY.primary_key.fingerprint());
    forged.unhashed_subpacket_push(Subpacket::regular(named).unwrap()).unwrap();
    let forged = Contents::read(&bytes(forged)).unwrap().revocations.remove(0);
    assert_eq!(ring(&[&KEY]).revoke(&forged), None);
    // As gpg keeps it ready.
    assert!(matches!(Contents::read(format!(":{alone}").as_bytes()), Err(KeyringError::Armor(_))));
}

#[test]
fn nothing_of_a_damaged_secret_key_is_told() {
    let key = SecretKey::from_inner(KEY.clone());
    let armor = key.to_armor();
    let mut texts = Vec::new();
    let mut tell = |bytes: &[u8]| match Contents::read(bytes) {
        Ok(contents) => texts.extend(contents.unread.map(|(_, fault)| format!("{fault} {fault:?}"))),
        Err(fault) => texts.push(format!("{fault} {fault:?}")),
    };
    for at in (0..armor.len()).step_by(37).chain([30, 37, 38, armor.len() - 40, armor.len() - 2]) {
        for damage in *b"!*-=\n\0" {
            let mut bytes = armor.as_bytes().to_vec();
            bytes[at] = damage;
            tell(&bytes);
        }
        tell(&armor.as_bytes()[..at]);
    }
    for at in (0..key.to_bytes().len()).step_by(11) {
        let mut bytes = key.to_bytes().to_vec();
        bytes[at] ^= 0x55;
        tell(&bytes);
    }
    assert!(texts.len() > 100, "{}", texts.len());
    texts.sort();
    texts.dedup();
    let lists = |bytes: &[u8]| {
        let lists = bytes.windows(3).map(|part| format!("{}, {}, {}", part[0], part[1], part[2]));
        lists.collect::<std::collections::BTreeSet<String>>()
    };
    let wanted = &lists(armor.as_bytes()) | &lists(key.to_bytes());
    for text in &texts {
        assert!(text.len() < 300 && !text.contains("backtrace"), "{text}");
        assert!(armor.lines().all(|line| line.len() < 8 || !text.contains(&line[..8])), "{text}");
        assert!(wanted.iter().all(|list| !text.contains(list.as_str())), "{text}");
    }
}

#[test]
fn armor_holds_public_and_secret_keys() {
    let key = new_key("x");
    let text = format!("Hello\n{}\nand, kept: ready\n{}Bye\n", key.public().to_armor(), key.to_armor().as_str());
    let contents = Contents::read(text.as_bytes()).unwrap();
    assert_eq!(contents.public[0].to_bytes(), key.public().to_bytes());
    assert_eq!(contents.secret[0].to_bytes(), key.to_bytes());
    assert!(contents.unread.is_none());
    assert!(matches!(Contents::read(b"no key"), Err(KeyringError::Armor(_))));
    assert_eq!(Keyring::new().add(key.to_armor().as_bytes()), Err(KeyringError::NoKey));
}

#[test]
fn selectors_find_one_key() {
    let (one, two) = (new_key(""), new_key(""));
    let mut keyring = Keyring::new();
    keyring.insert(one.public().clone());
    keyring.insert(two.public().clone());
    let wanted = one.fingerprint();
    let texts = [
        wanted.to_string(),
        format!("0x{}", wanted.to_string().to_lowercase()),
        wanted.key_id().to_string(),
        wanted.key_id().to_string()[8..].to_owned(),
    ];
    for text in texts {
        assert_eq!(keyring.select(&Selector::parse(&text)).unwrap().fingerprint(), wanted, "{text}");
    }
    let both = keyring.select(&Selector::parse("bob@example.org")).unwrap_err();
    assert!(matches!(both, SelectError::Ambiguous { ref found, .. } if found.len() == 2));
    assert!(matches!(keyring.select(&Selector::parse("eve")), Err(SelectError::NotFound(_))));
}

#[test]
fn user_ids_have_one_form() {
    assert_eq!(generate::user_id("A B", "c", "d@e").as_deref(), Some("A B (c) <d@e>"));
    assert_eq!(generate::user_id("A", "", "").as_deref(), Some("A"));
    assert_eq!(generate::user_id("", "", "d@e").as_deref(), Some("<d@e>"));
    assert_eq!(generate::user_id("", "", ""), None);
    assert_eq!(generate::user_id("A <x@y>", "", ""), None);
    assert_eq!(generate::user_id("A\nB", "", ""), None);
}

#[test]
fn what_a_key_says_of_itself_is_computed_once() {
    let mut key = KEY.clone();
    let user = key.details.users[0].clone();
    key.details.users.extend(std::iter::repeat_n(user, 9));
    let keyring = ring(&[&key]);
    let mut judge = Judge::new(Policy::at(now()), &keyring);
    let block = sign(&KEY, HashAlgorithm::Sha256, |_| {}).repeat(20);
    for _ in 0..5 {
        assert!(judge.judge(TEXT.as_bytes(), &block).unwrap().iter().all(Result::is_ok));
    }
    assert_eq!(policy::SPENT.get(), 10);
}

#[test]
fn too_many_signatures_are_not_judged() {
    let signature = sign(&KEY, HashAlgorithm::Sha256, |_| {});
    let judged = |count| Policy::at(now()).judge(&ring(&[&KEY]), TEXT.as_bytes(), &signature.repeat(count));
    assert_eq!(judged(64).unwrap().len(), 64);
    assert_eq!(judged(65), Err(BlockError::TooMany));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Keyring::read(&bytes);
        let _ = Contents::read(&bytes);
        let _ = issuers(&bytes);
    }

    #[test]
    fn changed_keys_and_signatures_never_panic(at in 0usize..1000, value: u8, cut in 0usize..1000) {
        let mut key = SecretKey::from_inner(KEY.clone()).to_bytes().to_vec();
        let place = at % key.len();
        key[place] = value;
        key.truncate(key.len() - cut % 8);
        for secret in Contents::read(&key).map(|contents| contents.secret).unwrap_or_default() {
            let _ = Policy::at(now()).check_key(secret.public());
        }
        let mut signature = sign(&KEY, HashAlgorithm::Sha256, |_| {});
        let place = at % signature.len();
        let before = std::mem::replace(&mut signature[place], value);
        let judged = Policy::at(now()).judge(&ring(&[&KEY]), b"another text", &signature);
        if let Ok(judged) = judged {
            prop_assert!(judged.iter().all(Result::is_err), "{before} {value} at {place}");
        }
    }
}
