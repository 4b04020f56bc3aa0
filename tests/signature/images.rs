//! Signing and verifying whole images.

use super::desk::Desk;
use sifbuild::openpgp::{Passphrase, Policy, SecretKeyring};
use sifbuild::sif::signature::{Scope, SignWith, sign};
use sifbuild::sif::writer::WriterOptions;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;

fn entries(desk: &Desk) -> Vec<String> {
    let entries = fs::read_dir(desk.path("")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_image_is_replaced_at_once_by_what_appending_would_give() {
    let desk = Desk::new();
    desk.newpair("Ann");
    let image = desk.image_with("a.sif", &WriterOptions::default());
    fs::set_permissions(desk.path("a.sif"), fs::Permissions::from_mode(0o741)).unwrap();
    fs::copy(desk.path("a.sif"), desk.path("appended.sif")).unwrap();
    let before = File::open(desk.path("a.sif")).unwrap();
    let old = before.metadata().unwrap();
    let mut command = desk.command(&["sign", &image]);
    // The key is younger, and dates the signature.
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    assert_eq!(Desk::outcome(command).code, Some(0));

    let secret = SecretKeyring::read(&fs::read(desk.path("keys/pgp-secret")).unwrap()).unwrap();
    let key = secret.keys().next().unwrap();
    let key = key.unlock(&Passphrase::new(super::desk::PASSPHRASE), &Policy::at(4_000_000_000)).unwrap();
    let mut file = OpenOptions::new().read(true).write(true).open(desk.path("appended.sif")).unwrap();
    sign(&mut file, Scope::Groups, &SignWith::Pgp(&key), 1_700_000_000, 0).unwrap();
    assert!(fs::read(desk.path("a.sif")).unwrap() == fs::read(desk.path("appended.sif")).unwrap());

    assert_eq!(before.metadata().unwrap().len(), old.len());
    assert_eq!(desk.path("a.sif").metadata().unwrap().permissions().mode() & 0o777, 0o741);
    assert_eq!(entries(&desk), ["a.sif", "appended.sif", "gnupg", "keys"]);
}

#[test]
fn an_image_that_cannot_be_signed_stays_as_it_is() {
    let desk = Desk::new();
    desk.newpair("Ann");
    let image = desk.image("a.sif");
    let before = fs::read(&image).unwrap();
    assert!(desk.fail(6, &["sign", "--group-id", "9", &image]).contains("object group 9 not found"));
    assert!(desk.fail(4, &["sign", &desk.write("text", "no image")]).contains("not a SIF image"));
    assert!(fs::read(&image).unwrap() == before);
    assert_eq!(entries(&desk), ["a.sif", "gnupg", "keys", "text"]);
}

#[test]
fn verify_prints_what_apptainer_prints() {
    let desk = Desk::new();
    let key = desk.newpair("Ann");
    let image = desk.image("a.sif");
    desk.succeed(&["sign", &image]);
    let told = desk.succeed(&["verify", &image]).replace(&key, "KEY");
    insta::assert_snapshot!(told, @r"
    [LOCAL]            Signing entity: Ann <ann@example.org>
    [LOCAL]            Fingerprint: KEY
    Objects verified:
    ID  |GROUP   |LINK    |TYPE
    ------------------------------------------------
    1   |1       |NONE    |Def.FILE
    2   |1       |NONE    |JSON.Generic
    3   |1       |NONE    |FS
    [LOCAL]            Signing entity: Ann <ann@example.org>
    [LOCAL]            Fingerprint: KEY
    Objects verified:
    ID  |GROUP   |LINK    |TYPE
    ------------------------------------------------
    4   |2       |NONE    |Generic/Raw
    ");
    let mut bytes = fs::read(&image).unwrap();
    // The first byte of object 2.
    bytes[32_195] ^= 1;
    fs::write(&image, bytes).unwrap();
    let outcome = desk.run(&["verify", "--group-id", "1", "--json", &image]);
    assert_eq!(outcome.code, Some(8));
    insta::assert_snapshot!(outcome.stdout.replace(&key.to_lowercase(), "KEY"), @r#"
    {
      "Signatures": 1,
      "SignerKeys": [
        {
          "Signer": {
            "Partition": "Def.FILE",
            "Name": "Ann \u003cann@example.org\u003e",
            "Fingerprint": "KEY",
            "KeyLocal": true,
            "KeyCheck": true,
            "DataCheck": true
          }
        },
        {
          "Signer": {
            "Partition": "JSON.Generic",
            "Name": "Ann \u003cann@example.org\u003e",
            "Fingerprint": "KEY",
            "KeyLocal": true,
            "KeyCheck": true,
            "DataCheck": false
          }
        }
      ],
      "NotCovered": [
        1,
        2,
        3,
        4
      ]
    }
    "#);
    insta::assert_snapshot!(outcome.stderr, @r"
    INFO:    Verifying image with PGP key material
    WARNING: object 1 (Def.FILE) is covered by no verified signature
    WARNING: object 2 (JSON.Generic inspect-metadata.json) is covered by no verified signature
    WARNING: object 3 (FS) is covered by no verified signature
    WARNING: object 4 (Generic/Raw notes) is covered by no verified signature
    ERROR:   Failed to verify container: integrity: data object integrity compromised: 2
    ");
}

#[test]
fn a_build_signs_before_the_target_appears() {
    let desk = Desk::new();
    let key = desk.newpair("Ann");
    desk.write("a.def", "Bootstrap: scratch\n%help\n  none\n");
    desk.succeed(&["build", "--sign", "a.sif", "a.def"]);
    assert!(desk.succeed(&["verify", "a.sif"]).contains(&key));
    for _ in 0..2 {
        let mut command = desk.command(&["build", "-F", "--sign=ann@example.org", "dated.sif", "a.def"]);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        assert_eq!(Desk::outcome(command).code, Some(0));
        fs::rename(
            desk.path("dated.sif"),
            desk.path(if desk.path("one.sif").exists() { "two.sif" } else { "one.sif" }),
        )
        .unwrap();
    }
    assert!(fs::read(desk.path("one.sif")).unwrap() == fs::read(desk.path("two.sif")).unwrap());
    let mut command = desk.command(&["build", "--sign", "b.sif", "a.def"]);
    command.env("SIFBUILD_KEY_PASSPHRASE", "wrong");
    let outcome = Desk::outcome(command);
    assert_eq!(outcome.code, Some(8), "{}", outcome.stderr);
    assert!(!desk.path("b.sif").exists());
    assert!(desk.fail(1, &["build", "--sign", "--sandbox", "c", "a.def"]).contains("only SIF images can be signed"));
}

#[test]
fn control_characters_of_user_ids_do_not_reach_the_terminal() {
    let desk = Desk::new();
    let key = sifbuild::openpgp::NewKey {
        user_id: "Eve\x1b[2J\nERROR".to_owned(),
        algorithm: sifbuild::openpgp::Algorithm::Ed25519,
        passphrase: Passphrase::new(""),
    };
    let key = key.generate().unwrap();
    desk.write("eve", key.to_bytes());
    let told = desk.run(&["key", "import", "eve"]).stderr + &desk.succeed(&["key", "list"]);
    assert!(told.contains("Eve\\u{1b}[2J\\nERROR") && !told.contains('\x1b'), "{told}");
    let image = desk.image("a.sif");
    desk.succeed(&["sign", &image]);
    assert!(desk.succeed(&["verify", &image]).contains("Signing entity: Eve\\u{1b}[2J\\nERROR"));
}
