//! Bare keys and X.509 certificates, made by openssl.

use super::desk::Desk;
use sifbuild::sif::signature::certificate;
use std::time::{SystemTime, UNIX_EPOCH};

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A root, an intermediate authority, and leaves for different purposes, each with its key.
fn authority(desk: &Desk) {
    let request = |name: &str, more: &[&str]| {
        let key = format!("{name}.key");
        let out = format!("{name}.pem");
        let subject = format!("/CN={name}");
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
        let names = ["-keyout", &key, "-out", &out, "-subj", &subject];
        desk.openssl(&[&new[..], &names, more].concat());
    };
    let authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
    request("root", &authority);
    request("stranger", &authority);
    request("middle", &[&authority[..], &["-CA", "root.pem", "-CAkey", "root.key"]].concat());
    let by_middle = ["-CA", "middle.pem", "-CAkey", "middle.key", "-addext", "basicConstraints=critical,CA:FALSE"];
    request("leaf", &[&by_middle[..], &["-addext", "extendedKeyUsage=codeSigning"]].concat());
    request("server", &[&by_middle[..], &["-addext", "extendedKeyUsage=serverAuth"]].concat());
    request("any", &by_middle);
}

#[test]
fn a_certificate_counts_when_its_chain_holds_and_it_is_for_code() {
    let desk = Desk::new();
    authority(&desk);
    let judge = |leaf: &str, root: &str, middle: Option<&str>| {
        let image = desk.image("a.sif");
        desk.succeed(&["sign", "--key", &format!("{leaf}.key"), &image]);
        let certificate = format!("{leaf}.pem");
        let mut arguments = vec!["verify", "--certificate", &certificate, "--certificate-roots", root];
        arguments.extend(middle.iter().flat_map(|middle| ["--certificate-intermediates", middle]));
        arguments.push(&image);
        let outcome = desk.run(&arguments);
        (outcome.code, outcome.stderr)
    };
    let middle = Some("middle.pem");
    let (code, told) = judge("leaf", "root.pem", middle);
    assert_eq!(code, Some(0), "{told}");
    for (leaf, root, middle, cause) in [
        ("leaf", "stranger.pem", middle, "UnknownIssuer"),
        ("leaf", "root.pem", None, "UnknownIssuer"),
        ("server", "root.pem", middle, "RequiredEkuNotFound"),
        ("any", "root.pem", middle, "RequiredEkuNotFound"),
    ] {
        let (code, told) = judge(leaf, root, middle);
        assert_eq!(code, Some(8), "{leaf} {root}: {told}");
        assert!(told.contains("the certificate is not trusted") && told.contains(cause), "{leaf} {root}: {told}");
    }
    let read = |name: &str| certificate::read("certificate", &std::fs::read(desk.path(name)).unwrap()).unwrap();
    let (leaf, middle, root) = (read("leaf.pem"), read("middle.pem"), read("root.pem"));
    let at = |days: i64| certificate::key(&leaf, &middle, &root, now() + days * 86400);
    assert!(at(0).is_ok());
    assert!(at(31).unwrap_err().to_string().contains("CertExpired"));
    assert!(at(-1).unwrap_err().to_string().contains("CertNotValidYet"));
    let image = desk.image("a.sif");
    desk.succeed(&["sign", "--key", "server.key", &image]);
    let mut command = desk.command(&["verify", &image]);
    for (name, file) in [("CERTIFICATE", "leaf.pem"), ("INTERMEDIATES", "middle.pem"), ("ROOTS", "root.pem")] {
        command.env(format!("APPTAINER_VERIFY_{name}"), file);
    }
    let outcome = Desk::outcome(command);
    assert!(outcome.stderr.contains("none of its signatures is of a given key"), "{}", outcome.stderr);
    assert!(desk.fail(1, &["verify", "--ocsp-verify", &image]).contains("--ocsp-verify"));
    desk.write("empty.pem", "");
    assert!(desk.fail(1, &["verify", "--certificate", "empty.pem", &image]).contains("no certificate"));
}

#[test]
fn keys_of_openssl_sign_in_all_their_forms() {
    let desk = Desk::new();
    desk.openssl(&["genrsa", "-out", "rsa.pem", "2048"]);
    desk.openssl(&["rsa", "-in", "rsa.pem", "-traditional", "-out", "rsa-old.pem"]);
    desk.openssl(&["rsa", "-in", "rsa.pem", "-RSAPublicKey_out", "-out", "rsa-old.pub"]);
    for (name, curve) in [("p256", "prime256v1"), ("p384", "secp384r1"), ("p521", "secp521r1")] {
        // With a block of parameters before the key.
        desk.openssl(&["ecparam", "-name", curve, "-genkey", "-out", &format!("{name}.pem")]);
    }
    desk.openssl(&["genpkey", "-algorithm", "ed25519", "-out", "ed25519.pem"]);
    desk.openssl(&["pkcs8", "-topk8", "-in", "p256.pem", "-out", "locked.pem", "-passout", "pass:correct horse"]);
    let pairs = [
        ("rsa.pem", "rsa.pem"),
        ("rsa-old.pem", "rsa.pem"),
        ("p256.pem", "p256.pem"),
        ("p384.pem", "p384.pem"),
        ("p521.pem", "p521.pem"),
        ("ed25519.pem", "ed25519.pem"),
        ("locked.pem", "p256.pem"),
    ];
    for (private, from) in pairs {
        desk.openssl(&["pkey", "-in", from, "-pubout", "-out", "public.pem"]);
        let image = desk.image("a.sif");
        desk.succeed(&["sign", "--key", private, &image]);
        desk.succeed(&["verify", "--key", "public.pem", &image]);
        let mut command = desk.command(&["verify", &image]);
        command.env("APPTAINER_VERIFY_KEY", "public.pem");
        assert_eq!(Desk::outcome(command).code, Some(0), "{private}");
        let told = desk.fail(8, &["verify", &image]);
        assert!(told.contains("key material not provided for DSSE envelope signature"), "{told}");
    }
    let image = desk.image("a.sif");
    desk.succeed(&["sign", "--key", "rsa.pem", &image]);
    desk.succeed(&["verify", "--key", "rsa-old.pub", &image]);
    let mut command = desk.command(&["sign", "--key", "locked.pem", &image]);
    command.env("SIFBUILD_KEY_PASSPHRASE", "wrong");
    assert!(Desk::outcome(command).stderr.contains("the passphrase does not unlock the key"));
}
