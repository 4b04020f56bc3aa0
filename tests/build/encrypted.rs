//! Encrypted images: the same squashfs inside, opened by cryptsetup and by our own reader, and no secret outside.

use super::image;
use super::place::{Outcome, Place};
use sifbuild::luks::reader::{Container, Limits};
use sifbuild::sif::format::{DataType, FileSystem, Link};
use sifbuild::sif::reader::Sif;
use sifbuild::sif::wrapped_key;
use sifbuild::squashfs::ReadAt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

const STREAMED: &str = "Bootstrap: oci\nFrom: layout\n";
const EXECUTED: &str = "Bootstrap: oci\nFrom: layout\n%post\n  echo made > /etc/made\n";
const PASSPHRASE: &str = "correct horse battery staple";

fn encrypt(place: &Place, target: &str, definition: &str, variables: &[(&str, &str)], flags: &[&str]) -> Outcome {
    place.write("x.def", definition);
    let mut command = place.command(&[], &[&["build", "--force"], flags, &[target, "x.def"]].concat());
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    variables.iter().for_each(|(name, value)| {
        command.env(name, value);
    });
    place.outcome(command)
}

/// A RSA key pair, `private.pem` and `public.pem`, as Apptainer's manual has it made.
fn make_keys(place: &Place) {
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        let done = command.args(arguments).current_dir(place.file("")).stderr(Stdio::null()).status();
        assert!(done.expect("openssl is missing: apt-get install -y openssl").success(), "{arguments:?}");
    };
    openssl(&["genrsa", "-traditional", "-out", "private.pem", "2048"]);
    openssl(&["rsa", "-in", "private.pem", "-RSAPublicKey_out", "-out", "public.pem"]);
}

/// The primary partition's bytes; those of its wrapped key.
fn partition(path: &Path) -> (FileSystem, Vec<u8>, Option<Vec<u8>>) {
    let mut sif = Sif::read(File::open(path).unwrap()).unwrap();
    let (object, extra) = sif.primary_partition().map(|(object, extra)| (object.clone(), extra)).unwrap();
    let message = sif.find(DataType::CRYPTO_MESSAGE).cloned();
    let message = message.map(|message| {
        assert_eq!(message.link(), Link::Object(object.id));
        sif.contents(&message, 1 << 20).unwrap()
    });
    assert_eq!(fs::metadata(path).unwrap().len(), sif.objects().map(|object| object.end()).max().unwrap() as u64);
    let mut bytes = Vec::new();
    sif.open(&object).read_to_end(&mut bytes).unwrap();
    (extra.file_system, bytes, message)
}

fn clear(container: &[u8], passphrase: &[u8]) -> Vec<u8> {
    let payload = Container::read(container).unwrap().unlock(passphrase, Limits::default()).unwrap();
    let mut bytes = vec![0; payload.length() as usize];
    payload.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn assert_cryptsetup_opens(place: &Place, container: &[u8], passphrase: &[u8]) {
    place.write("container", container);
    place.write("passphrase", passphrase);
    let mut command = Command::new("cryptsetup");
    command.args(["open", "--test-passphrase", "--type", "luks2", "--key-file", "passphrase", "container"]);
    let done = command.current_dir(place.file("")).output();
    let done = done.expect("cryptsetup is missing: apt-get install -y cryptsetup-bin");
    assert!(done.status.success(), "{done:?}");
    fs::remove_file(place.file("passphrase")).unwrap();
}

#[test]
fn an_encrypted_image_holds_the_very_squashfs_of_the_plain_one() {
    let place = Place::new();
    for definition in [STREAMED, EXECUTED] {
        place.bytes("plain.sif", definition, &["--force"]);
        let (file_system, plain, none) = partition(&place.file("plain.sif"));
        assert_eq!((file_system, none), (FileSystem::SQUASHFS, None));
        let variables = [("APPTAINER_ENCRYPTION_PASSPHRASE", PASSPHRASE)];
        let done = encrypt(&place, "sealed.sif", definition, &variables, &["--encrypt"]);
        assert_eq!(done.code, Some(0), "{}", done.text);
        let (file_system, sealed, none) = partition(&place.file("sealed.sif"));
        assert_eq!((file_system, none), (FileSystem::ENCRYPTED_SQUASHFS, None));
        assert!(clear(&sealed, PASSPHRASE.as_bytes()) == plain);
        assert_cryptsetup_opens(&place, &sealed, PASSPHRASE.as_bytes());
    }
}

#[test]
fn a_public_key_encrypts_and_the_private_one_opens() {
    let place = Place::new();
    make_keys(&place);
    place.bytes("plain.sif", STREAMED, &[]);
    let public = fs::read_to_string(place.file("public.pem")).unwrap();
    type Set<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let sets: [Set<'_>; 3] = [
        (&[], &["--pem-path", "public.pem"]),
        (&[("SIFBUILD_ENCRYPTION_PEM_PATH", "public.pem")], &["--encrypt"]),
        (&[("APPTAINER_ENCRYPTION_PEM_DATA", &public)], &["-e"]),
    ];
    for (variables, flags) in sets {
        let done = encrypt(&place, "sealed.sif", STREAMED, variables, flags);
        assert_eq!(done.code, Some(0), "{}", done.text);
        let (_, sealed, message) = partition(&place.file("sealed.sif"));
        let private = fs::read_to_string(place.file("private.pem")).unwrap();
        let key = wrapped_key::unwrap("private.pem", &private, &message.unwrap()).unwrap();
        assert_eq!(key.len(), 64);
        assert!(clear(&sealed, &key) == partition(&place.file("plain.sif")).1);
        assert_cryptsetup_opens(&place, &sealed, &key);
    }
    place.write("next.def", "Bootstrap: localimage\nFrom: sealed.sif\n%files\n  x.def /opt/\n");
    place.succeed(&["build", "--pem-path", "private.pem", "next.sif", "next.def"]);
    assert!(partition(&place.file("next.sif")).2.is_some(), "a private key encrypts too");
    let mut command = place.command(&[], &["build", "opened.sif", "next.def"]);
    command.env("SIFBUILD_ENCRYPTION_PEM_PATH", "private.pem");
    let done = place.outcome(command);
    assert!(done.code == Some(0) && done.text.contains("NOT encrypting"), "{}", done.text);
    image::assert_base(&image::open(&place.file("opened.sif")));
}

#[test]
fn an_encrypted_base_needs_its_key_before_anything_is_done() {
    let place = Place::new();
    make_keys(&place);
    let passphrase = [("APPTAINER_ENCRYPTION_PASSPHRASE", PASSPHRASE)];
    assert_eq!(encrypt(&place, "sealed.sif", STREAMED, &passphrase, &["-e"]).code, Some(0));
    let definition =
        "Bootstrap: localimage\nFrom: sealed.sif\n%setup\n  touch began\n%post\n  cat /etc/shadow > /opt/copy\n";
    let pem = [("APPTAINER_ENCRYPTION_PEM_PATH", "private.pem")];
    let wrong = [("APPTAINER_ENCRYPTION_PASSPHRASE", "correct")];
    for (variables, told) in [
        (&[][..], "sealed.sif is encrypted, and no key was given"),
        (&wrong, "does not open with this passphrase"),
        (&pem, "sealed.sif is encrypted with a passphrase, and private.pem was given"),
    ] {
        let done = encrypt(&place, "next.sif", definition, variables, &[]);
        assert!(done.code == Some(4) && done.text.contains(told), "{}", done.text);
        assert!(!place.file("next.sif").exists() && !place.file("began").exists());
    }
    // Of a base that nobody vouches for, nothing is unwrapped: the key is not even asked for.
    let vouched = definition.replace("%setup", &format!("Fingerprints: {}\n%setup", "0123456789".repeat(4)));
    for variables in [&[][..], &wrong] {
        let done = encrypt(&place, "next.sif", &vouched, variables, &[]);
        assert!(done.code == Some(8) && !done.text.contains("is encrypted"), "{}", done.text);
    }
    let done = encrypt(&place, "next.sif", definition, &passphrase, &[]);
    assert_eq!(done.code, Some(0), "{}", done.text);
    assert_eq!(image::open(&place.file("next.sif")).text("opt/copy"), "secret");
}

#[test]
fn no_script_no_log_and_no_store_sees_the_passphrase() {
    let place = Place::new();
    let definition = "Bootstrap: oci\nFrom: layout\n%setup\n  env > host\n%post\n  env > /opt/post\n  cat /proc/*/environ /proc/*/cmdline > /opt/all || true\n\
                      %test\n  env; cat /proc/*/environ /proc/*/cmdline || true\n";
    let variables = [("APPTAINER_ENCRYPTION_PASSPHRASE", PASSPHRASE), ("SIFBUILD_ENCRYPTION_PEM_DATA", "")];
    let done = encrypt(&place, "sealed.sif", definition, &variables, &["-e"]);
    assert_eq!(done.code, Some(0), "{}", done.text);
    assert!(!done.text.contains(PASSPHRASE), "{}", done.text);
    let told = encrypt(&place, "next.sif", "Bootstrap: localimage\nFrom: sealed.sif\n%post\n  true\n", &variables, &[]);
    assert_eq!(told.code, Some(0), "{}", told.text);
    let mut pending = vec![place.file(""), place.store()];
    let mut files = 0;
    while let Some(path) = pending.pop() {
        if path.is_dir() && !path.is_symlink() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(bytes) = fs::read(&path) {
            files += 1;
            let found = bytes.windows(PASSPHRASE.len()).any(|window| window == PASSPHRASE.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
    assert!(files > 10);
}

#[test]
fn what_cannot_be_encrypted_is_refused_with_the_reason() {
    let place = Place::new();
    make_keys(&place);
    let mut command = Command::new("openssl");
    command.args(["rsa", "-traditional", "-aes128", "-passout", "pass:x", "-in", "private.pem", "-out", "locked.pem"]);
    assert!(command.current_dir(place.file("")).stderr(Stdio::null()).status().unwrap().success());
    for (flags, told) in [
        (&["--encrypt"][..], "--encrypt needs a key"),
        (&["--pem-path", "absent.pem"], "absent.pem"),
        (&["--pem-path", "x.def"], "no PEM block"),
        (&["--pem-path", "locked.pem"], "protected by a passphrase"),
        (&["--pem-path", "public.pem", "--sandbox"], "only a SIF"),
        (&["--passphrase"], "it is empty"),
    ] {
        let done = encrypt(&place, "x.sif", STREAMED, &[], flags);
        assert!(done.code == Some(1) && done.text.contains(told), "{flags:?}: {}", done.text);
        assert!(!place.file("x.sif").exists());
    }
}

#[test]
fn inspect_opens_an_image_that_has_no_metadata_object() {
    let place = Place::new();
    let definition = "Bootstrap: oci\nFrom: layout\n%labels\n  KEY value\n";
    let variables = [("APPTAINER_ENCRYPTION_PASSPHRASE", PASSPHRASE)];
    assert_eq!(encrypt(&place, "sealed.sif", definition, &variables, &["-e"]).code, Some(0));
    assert!(place.succeed(&["inspect", "sealed.sif"]).contains("KEY: value"));
    let list = place.succeed(&["sif", "list", "sealed.sif"]);
    assert!(list.contains("FS (Encrypted squashfs/*System/"), "{list}");
    place.succeed(&["sif", "del", "2", "sealed.sif"]);
    let told = place.run(&["inspect", "sealed.sif"]);
    assert!(told.code == Some(4) && told.text.contains("no key was given"), "{}", told.text);
    let mut command = place.command(&[], &["inspect", "sealed.sif"]);
    command.env("APPTAINER_ENCRYPTION_PASSPHRASE", PASSPHRASE);
    let told = place.outcome(command);
    assert!(told.text.contains("KEY: value"), "{}", told.text);
}
