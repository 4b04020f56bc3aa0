//! Keys: made by us and read by gpg, and the other way round; the keyrings' files; where passphrases come from.

use super::desk::{Desk, Outcome, PASSPHRASE};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

/// An unlocked gpg key in `own.asc` (secret) and `own-public.asc`; gives its fingerprint.
fn gpg_key(desk: &Desk, algorithm: &str, usage: &str, expiry: &str, early: &[&str]) -> String {
    let user = "Gee <gee@example.org>";
    let arguments =
        ["--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", user, algorithm, usage, expiry];
    desk.gpg(&[early, &arguments].concat());
    export_from_gpg(desk)
}

fn export_from_gpg(desk: &Desk) -> String {
    for file in ["own.asc", "own-public.asc"] {
        let _ = fs::remove_file(desk.path(file));
    }
    desk.gpg(&["--armor", "--output", "own.asc", "--export-secret-keys", "gee@example.org"]);
    desk.gpg(&["--armor", "--output", "own-public.asc", "--export", "gee@example.org"]);
    let listing = desk.gpg(&["--with-colons", "--list-keys", "gee@example.org"]);
    listing.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap().trim_end_matches(':').to_owned()
}

#[test]
fn gpg_reads_our_keys_and_verifies_our_signatures() {
    for kind in [&["--type", "ed25519"][..], &["--bit-length", "2048"]] {
        let desk = Desk::new();
        desk.succeed(&[&["key", "newpair", "-N", "Ann", "-C", "work", "-E", "ann@example.org"], kind].concat());
        desk.succeed(&["key", "export", "--armor", "public.asc"]);
        desk.succeed(&["key", "export", "--secret", "secret.pgp"]);
        assert_eq!(desk.path("secret.pgp").metadata().unwrap().permissions().mode() & 0o777, 0o600);
        desk.gpg(&["--import", "public.asc"]);
        assert!(desk.gpg(&["--list-keys"]).contains("Ann (work) <ann@example.org>"));
        desk.gpg(&["--pinentry-mode", "loopback", "--passphrase", PASSPHRASE, "--import", "secret.pgp"]);

        let image = desk.image("a.sif");
        desk.succeed(&["sign", &image]);
        let dumped = desk.run(&["sif", "dump", "5", &image]).stdout;
        desk.write("signature.asc", &dumped);
        let verified = desk.gpg(&["--verify", "signature.asc"]);
        assert!(verified.contains("Good signature from \"Ann (work) <ann@example.org>\""), "{verified}");

        // The secret key signs in gpg too, and we believe that.
        desk.write("text", "text\n");
        desk.gpg(&["--pinentry-mode", "loopback", "--passphrase", PASSPHRASE, "--clearsign", "text"]);
        let keyring = sifbuild::openpgp::Keyring::read(&fs::read(desk.path("keys/pgp-public")).unwrap()).unwrap();
        let message = fs::read_to_string(desk.path("text.asc")).unwrap();
        let split = sifbuild::openpgp::Cleartext::split(&message).unwrap();
        let now = sifbuild::openpgp::Policy::at(4_000_000_000);
        let judged = now.judge(&keyring, &split.signed_bytes(), split.signature.as_bytes()).unwrap();
        assert!(judged[0].is_ok(), "{judged:?}");
    }
}

#[test]
fn keys_of_gpg_sign_images() {
    for (algorithm, usage) in [("ed25519", "sign"), ("rsa2048", "sign"), ("nistp256", "sign")] {
        let desk = Desk::new();
        let fingerprint = gpg_key(&desk, algorithm, usage, "0", &[]);
        desk.succeed(&["key", "import", "own.asc"]);
        let image = desk.image("a.sif");
        desk.succeed(&["sign", "--keyidx", &fingerprint, &image]);
        let output = desk.succeed(&["verify", "--local", &image]);
        assert!(output.contains("Signing entity: Gee <gee@example.org>"), "{algorithm}: {output}");
        assert!(output.contains(&fingerprint), "{output}");
    }
}

#[test]
fn a_revocation_of_gpg_revokes_wherever_it_stands() {
    for case in ["alone", "behind the key", "before the key", "in the keyring's file"] {
        let desk = Desk::new();
        let fingerprint = gpg_key(&desk, "ed25519", "sign", "0", &[]);
        let kept = fs::read_to_string(desk.path("gnupg/openpgp-revocs.d").join(format!("{fingerprint}.rev"))).unwrap();
        let revocation = kept.replace(":-----BEGIN", "-----BEGIN");
        let other = desk.newpair("Ann");
        desk.succeed(&["key", "import", "own.asc"]);
        let image = desk.image("a.sif");
        desk.succeed(&["sign", "--keyidx", &fingerprint, &image]);
        desk.write("kept.rev", &kept);
        let refused = desk.fail(4, &["key", "import", "kept.rev"]);
        assert!(refused.contains("no key in"), "{refused}");
        desk.succeed(&["verify", "--local", &image]);

        let public = fs::read_to_string(desk.path("own-public.asc")).unwrap();
        match case {
            "in the keyring's file" => {
                desk.write("revocation.asc", &revocation);
                desk.gpg(&["--output", "revocation", "--dearmor", "revocation.asc"]);
                let keyring = fs::read(desk.path("keys/pgp-public")).unwrap();
                let revocation = fs::read(desk.path("revocation")).unwrap();
                desk.write("keys/pgp-public", [keyring, revocation].concat());
            }
            _ => {
                let (text, told) = match case {
                    "alone" => (revocation, "Revoked public key"),
                    "behind the key" => (public + &revocation, "Updated public key"),
                    _ => (revocation + &public, "Updated public key"),
                };
                let file = desk.write("file.asc", text);
                let outcome = desk.run(&["key", "import", &file]);
                assert!(outcome.code == Some(0) && outcome.stderr.contains(told), "{case}: {}", outcome.stderr);
            }
        }
        let refused = desk.fail(8, &["verify", "--local", &image]);
        assert!(refused.contains("the key has been revoked"), "{case}: {refused}");
        let refused = desk.fail(8, &["sign", "--keyidx", &fingerprint, &image]);
        assert!(refused.contains("the key has been revoked"), "{case}: {refused}");
        desk.succeed(&["sign", "--keyidx", &other, &image]);
    }
}

#[test]
fn a_subkey_of_gpg_signs_where_the_primary_key_may_not() {
    let desk = Desk::new();
    let fingerprint = gpg_key(&desk, "ed25519", "cert", "0", &[]);
    desk.gpg(&[
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
        "--quick-add-key",
        &fingerprint,
        "ed25519",
        "sign",
        "0",
    ]);
    export_from_gpg(&desk);
    desk.succeed(&["key", "import", "own.asc"]);
    let image = desk.image("a.sif");
    desk.succeed(&["sign", &image]);
    let output = desk.succeed(&["verify", "--local", &image]);
    assert!(output.contains(&format!("Fingerprint: {fingerprint}")), "{output}");
}

#[test]
fn expired_and_revoked_keys_are_refused() {
    let desk = Desk::new();
    let fingerprint = gpg_key(&desk, "ed25519", "sign", "0", &[]);
    desk.succeed(&["key", "import", "own.asc"]);
    let image = desk.image("a.sif");
    desk.succeed(&["sign", &image]);
    desk.succeed(&["verify", "--local", &image]);

    // Made and ended in the past.
    let late = Desk::new();
    gpg_key(&late, "ed25519", "sign", "1d", &["--faked-system-time", "20200101T000000!"]);
    late.succeed(&["key", "import", "own.asc"]);
    let told = late.fail(8, &["sign", &late.image("a.sif")]);
    assert!(told.contains("cannot sign: the key has expired"), "{told}");

    // The same key, made shorter-lived by its owner, then revoked.
    let revocation = fs::read_to_string(desk.path(&format!("gnupg/openpgp-revocs.d/{fingerprint}.rev"))).unwrap();
    desk.write("revocation", revocation.replace(":-----BEGIN", "-----BEGIN"));
    desk.gpg(&["--import", "revocation"]);
    export_from_gpg(&desk);
    let told = desk.run(&["key", "import", "own-public.asc"]).stderr;
    assert!(told.contains("Updated public key"), "{told}");
    let told = desk.fail(8, &["verify", "--local", &image]);
    assert!(told.contains("the key has been revoked"), "{told}");
    assert!(desk.succeed(&["key", "list"]).contains("Not usable:        the key has been revoked"));
}

#[test]
fn a_signature_with_sha1_is_refused() {
    let desk = Desk::new();
    let fingerprint = gpg_key(&desk, "rsa2048", "sign", "0", &[]);
    desk.succeed(&["key", "import", "own.asc"]);
    let image = desk.image("a.sif");
    desk.succeed(&["sign", &image]);
    let message = desk.run(&["sif", "dump", "5", &image]).stdout;
    let text = sifbuild::openpgp::Cleartext::split(&message).unwrap().text;
    desk.write("text", text);
    desk.gpg(&["--digest-algo", "SHA1", "--allow-weak-key-signatures", "--clearsign", "text"]);
    let weak = desk.image("weak.sif");
    desk.write("text.asc", fs::read_to_string(desk.path("text.asc")).unwrap().trim_end());
    let add =
        ["sif", "add", "--datatype", "5", "--signhash", "1", "--signentity", &fingerprint, "--link", "4026531841"];
    desk.succeed(&[&add, &[weak.as_str(), "text.asc"][..]].concat());
    let told = desk.fail(8, &["verify", "--local", "--group-id", "1", &weak]);
    assert!(told.contains("weak digest"), "{told}");
}

#[test]
fn removing_a_key_leaves_the_others_as_they_were() {
    let desk = Desk::new();
    let [one, two] = ["One", "Two"].map(|name| desk.newpair(name));
    let before = fs::read(desk.path("keys/pgp-secret")).unwrap();
    desk.succeed(&["key", "remove", "--secret", &one]);
    let after = fs::read(desk.path("keys/pgp-secret")).unwrap();
    assert!(before.ends_with(&after) && after.len() < before.len());
    // Still a secret key, still locked, still of use.
    let image = desk.image("a.sif");
    desk.succeed(&["sign", &image]);
    assert!(desk.succeed(&["verify", &image]).contains(&two));
    assert!(desk.succeed(&["key", "list"]).contains(&one));
    desk.succeed(&["key", "remove", "--both", &two]);
    assert!(!desk.succeed(&["key", "list"]).contains(&two));
    assert!(!desk.succeed(&["key", "list", "-s"]).contains(&two));
    assert!(desk.fail(4, &["key", "remove", &two]).contains("no key"));
}

#[test]
fn passphrases_come_from_a_descriptor_a_file_or_the_environment() {
    let desk = Desk::new();
    desk.newpair("Ann");
    let image = desk.image("a.sif");
    desk.write("good", format!("{PASSPHRASE}\n"));
    desk.write("bad", "wrong\n");
    let without = |arguments: &[&str]| {
        let mut command = desk.command(arguments);
        command.env_remove("SIFBUILD_KEY_PASSPHRASE");
        command
    };
    let code = |command| Desk::outcome(command).code;
    assert_eq!(code(without(&["sign", "--passphrase-file", "good", &image])), Some(0));
    assert_eq!(code(without(&["sign", "--passphrase-file", "bad", &image])), Some(8));
    assert_eq!(code(without(&["sign", "--passphrase-file", "none", &image])), Some(1));
    let mut command = without(&["sign", &image]);
    command.env("APPTAINER_KEY_PASSPHRASE", PASSPHRASE);
    assert_eq!(code(command), Some(0));
    // As `echo … | apptainer sign`.
    let mut command = without(&["sign", &image]);
    command.stdin(fs::File::open(desk.path("good")).unwrap());
    assert_eq!(code(command), Some(0));
    let good = fs::File::open(desk.path("good")).unwrap();
    let number = rustix::io::fcntl_dupfd_cloexec(&good, 200).unwrap();
    let argument = number.as_raw_fd().to_string();
    rustix::io::fcntl_setfd(&number, rustix::io::FdFlags::empty()).unwrap();
    let mut command = without(&["sign", "--passphrase-fd", &argument, &image]);
    command.arg0("sifbuild");
    let Outcome { code, stderr, .. } = Desk::outcome(command);
    assert_eq!(code, Some(0), "{stderr}");
    // Two groups, five signatures each.
    assert_eq!(desk.succeed(&["verify", &image]).matches("Fingerprint").count(), 8);
    let told = desk.fail(1, &["key", "newpair", "-N", "Bob", "-P", "x"]);
    assert!(told.contains("every user of this host can read a program's arguments"), "{told}");
}

#[test]
fn a_new_passphrase_locks_an_imported_key() {
    let desk = Desk::new();
    gpg_key(&desk, "ed25519", "sign", "0", &[]);
    let told = desk.run(&["key", "import", "own.asc"]).stderr;
    assert!(told.contains("has no passphrase"), "{told}");
    desk.write("new", "fresh");
    desk.succeed(&["key", "import", "--new-password", "--new-passphrase-file", "new", "own.asc"]);
    let image = desk.image("a.sif");
    let told = desk.fail(8, &["sign", &image]);
    assert!(told.contains("does not unlock"), "{told}");
    desk.succeed(&["sign", "--passphrase-file", "new", &image]);
}

#[test]
fn a_key_is_chosen_by_number_fingerprint_or_name() {
    let desk = Desk::new();
    let keys = ["Ann", "Bob"].map(|name| desk.newpair(name));
    for (wanted, fingerprint) in
        [("1", &keys[1]), (keys[0].as_str(), &keys[0]), ("bob@", &keys[1]), (&keys[1][24..], &keys[1])]
    {
        let image = desk.image("a.sif");
        desk.succeed(&["sign", "--keyidx", wanted, &image]);
        assert!(desk.succeed(&["verify", &image]).contains(fingerprint), "{wanted}");
    }
    let image = desk.image("a.sif");
    assert!(desk.fail(1, &["sign", &image]).contains("say which one"));
    assert!(desk.fail(4, &["sign", "--keyidx", "7", &image]).contains("it has 2"));
    assert!(desk.fail(4, &["sign", "--keyidx", "example.org", &image]).contains("more than one"));
}

#[test]
fn everybodys_keyring_has_public_keys_only() {
    let desk = Desk::new();
    desk.newpair("Ann");
    desk.succeed(&["key", "export", "public.pgp"]);
    desk.succeed(&["key", "export", "--secret", "secret.pgp"]);
    desk.succeed(&["key", "import", "--global", "public.pgp"]);
    assert!(desk.fail(1, &["key", "import", "--global", "secret.pgp"]).contains("nothing was imported"));
    assert_eq!(desk.path("global-pgp-public").metadata().unwrap().permissions().mode() & 0o777, 0o644);
    let image = desk.image("a.sif");
    desk.succeed(&["sign", &image]);
    assert!(desk.succeed(&["verify", &image]).starts_with("[GLOBAL]           Signing entity: Ann"));
    desk.succeed(&["key", "remove", "--global", "ann@"]);
    assert!(desk.succeed(&["verify", &image]).starts_with("[LOCAL]"));
}

#[test]
fn what_is_no_key_is_told() {
    let desk = Desk::new();
    desk.write("text", "no key\n");
    assert!(desk.fail(4, &["key", "import", "text"]).contains("no key in text"));
    desk.write("huge", vec![0x99; 17 << 20]);
    assert!(desk.fail(1, &["key", "import", "huge"]).contains("more than"));
    assert!(desk.fail(4, &["key", "export", "out"]).contains("there is no public key"));
    let damaged = desk.newpair("Ann");
    let bytes = fs::read(desk.path("keys/pgp-public")).unwrap();
    fs::write(desk.path("keys/pgp-public"), &bytes[..bytes.len() - 3]).unwrap();
    assert!(desk.fail(4, &["key", "remove", &damaged]).contains("it was left as it is"));
}
