//! Signatures and keys beside the real Apptainer: each verifies the other's images, both see the same keyrings, and what each says of
//! tampered images is in one table.
//!
//! Runs where `SIFBUILD_PEER` names the script that runs a command beside a real Apptainer
//! (`$SIFBUILD_PEER --bind DIR --user COMMAND…`), and says so where it does not. Needs root, gpg and openssl.

#[path = "signature/tampering/cases.rs"]
mod cases;
#[path = "signature/desk.rs"]
#[allow(dead_code, reason = "shared with tests/signature")]
mod desk;

use desk::{Desk, PASSPHRASE};
use sifbuild::openpgp::{Passphrase, Policy, SecretKeyring};
use sifbuild::sif::edit;
use sifbuild::sif::format::{DataType, Extra, HashType, Link};
use sifbuild::sif::signature::digest::{Algorithm, Checksum};
use sifbuild::sif::writer::ObjectOptions;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

struct Peer {
    program: String,
    desk: Desk,
}

/// Or nothing, and one line that says why.
fn peer() -> Option<Peer> {
    let Some(program) = std::env::var_os("SIFBUILD_PEER") else {
        println!("SIFBUILD_PEER is not set: nothing is compared with the real Apptainer");
        return None;
    };
    let peer = Peer { program: program.into_string().unwrap(), desk: Desk::new() };
    fs::set_permissions(peer.desk.path(""), Permissions::from_mode(0o777)).unwrap();
    Some(peer)
}

impl Peer {
    /// Apptainer on the same keyrings: exit code, standard output, standard error.
    fn try_apptainer(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.shell(&format!("apptainer {}", arguments.join(" ")))
    }

    /// A shell that has Apptainer, in the desk's directory.
    fn shell(&self, script: &str) -> (Option<i32>, String, String) {
        let directory = self.desk.file("");
        let script =
            format!("cd {directory}; export HOME={directory} APPTAINER_KEYSDIR={directory}keys; umask 000; {script}",);
        let output =
            Command::new(&self.program).args(["--bind", &directory, "--user", "bash", "-c", &script]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// What must succeed; gives standard output.
    fn apptainer(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.try_apptainer(arguments);
        assert_eq!(code, Some(0), "apptainer {arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// Gives the keyrings to the other program's user.
    fn share(&self) {
        let home = self.shell("stat -c '%u %g' ~peer").1;
        let ids: Vec<u32> = home.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let keys = self.desk.path("keys");
        let files = fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().path());
        for path in files.chain([keys.clone()]) {
            chown(path, Some(ids[0]), Some(ids[1])).unwrap();
        }
    }
}

#[test]
fn apptainer_verifies_what_we_sign() {
    let Some(peer) = peer() else { return };
    let desk = &peer.desk;
    desk.succeed(&["key", "newpair", "-N", "Ann", "-C", "x", "-E", "ann@example.org", "--type", "ed25519"]);
    desk.succeed(&["key", "newpair", "-N", "Bob", "-C", "x", "-E", "bob@example.org", "-b", "2048"]);
    peer.share();
    for key in ["ann@", "bob@"] {
        for (options, flags) in [(&[][..], &[][..]), (&["-g", "1"], &["-g", "1"]), (&["-i", "2"], &["-i", "2"])] {
            let image = desk.image("ours.sif");
            desk.succeed(&[&["sign", "--keyidx", key], options, &[image.as_str()]].concat());
            let ours = desk.succeed(&[&["verify", "--local"], flags, &[image.as_str()]].concat());
            assert_eq!(peer.apptainer(&[&["verify", "--local"], flags, &[image.as_str()]].concat()), ours);
            let ours = desk.run(&[&["verify", "--local", "--json"], flags, &[image.as_str()]].concat()).stdout;
            let theirs = peer.apptainer(&[&["verify", "--local", "--json"], flags, &[image.as_str()]].concat());
            let common =
                |text: &str| text.split(",\n  \"NotCovered\"").next().unwrap().trim_end_matches(['\n', '}']).to_owned();
            assert_eq!(common(&theirs), common(&ours));
        }
    }
    desk.write("a.def", "Bootstrap: scratch\n%help\n  none\n");
    desk.succeed(&["build", "--sign=ann@", "built.sif", "a.def"]);
    assert_eq!(peer.apptainer(&["verify", "--local", "built.sif"]), desk.succeed(&["verify", "--local", "built.sif"]));
    for kind in ["rsa:2048", "ed25519", "ec:P-256", "ec:P-384", "ec:P-521"] {
        make_bare_key(desk, kind);
        let image = desk.image("ours.sif");
        desk.succeed(&["sign", "--key", "bare.pem", &image]);
        let ours = desk.succeed(&["verify", "--key", "bare.pub", &image]);
        assert_eq!(peer.apptainer(&["verify", "--key", "bare.pub", &image]), ours, "{kind}");
    }
}

fn make_bare_key(desk: &Desk, kind: &str) {
    let (algorithm, option) = match kind.split_once(':') {
        Some(("rsa", bits)) => ("rsa", Some(format!("rsa_keygen_bits:{bits}"))),
        Some((_, curve)) => ("ec", Some(format!("ec_paramgen_curve:{curve}"))),
        None => (kind, None),
    };
    let mut arguments = vec!["genpkey", "-algorithm", algorithm, "-out", "bare.pem"];
    arguments.extend(option.iter().flat_map(|option| ["-pkeyopt", option]));
    desk.openssl(&arguments);
    desk.openssl(&["pkey", "-in", "bare.pem", "-pubout", "-out", "bare.pub"]);
    fs::set_permissions(desk.path("bare.pem"), Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn we_verify_what_apptainer_signs() {
    let Some(peer) = peer() else { return };
    let desk = &peer.desk;
    peer.apptainer(&[
        "key",
        "newpair",
        "-N",
        "Theirs",
        "-E",
        "theirs@example.org",
        "-C",
        "work",
        "-P",
        "x",
        "-b",
        "2048",
        "-U=false",
    ]);
    for (options, flags) in [("", &[][..]), ("-g 1", &["-g", "1"]), ("-i 2", &["-i", "2"])] {
        let image = desk.image("theirs.sif");
        fs::set_permissions(&image, Permissions::from_mode(0o777)).unwrap();
        let (code, _, told) = peer.shell(&format!("echo x | apptainer sign {options} {image}"));
        assert_eq!(code, Some(0), "{told}");
        let ours = desk.succeed(&[&["verify", "--local"], flags, &[image.as_str()]].concat());
        assert_eq!(peer.apptainer(&[&["verify", "--local"], flags, &[image.as_str()]].concat()), ours);
    }
    for kind in ["rsa:2048", "ed25519", "ec:P-256", "ec:P-384", "ec:P-521"] {
        make_bare_key(desk, kind);
        let image = desk.image("theirs.sif");
        fs::set_permissions(&image, Permissions::from_mode(0o777)).unwrap();
        peer.apptainer(&["sign", "--key", "bare.pem", &image]);
        desk.succeed(&["verify", "--key", "bare.pub", &image]);
    }
    // What it says of the same objects is what we say.
    let ours = desk.image("ours.sif");
    let theirs = desk.image("theirs.sif");
    fs::set_permissions(&theirs, Permissions::from_mode(0o777)).unwrap();
    make_bare_key(desk, "ed25519");
    desk.succeed(&["sign", "--key", "bare.pem", &ours]);
    peer.apptainer(&["sign", "--key", "bare.pem", &theirs]);
    let dump = |image: &str| desk.succeed(&["sif", "dump", "5", image]);
    assert_eq!(dump(&ours), dump(&theirs));
}

#[test]
fn both_see_the_same_keys() {
    let Some(peer) = peer() else { return };
    let desk = &peer.desk;
    peer.apptainer(&[
        "key",
        "newpair",
        "-N",
        "Theirs",
        "-E",
        "theirs@example.org",
        "-C",
        "work",
        "-P",
        "x",
        "-b",
        "2048",
        "-U=false",
    ]);
    desk.succeed(&["key", "newpair", "-N", "Ours", "-C", "x", "-E", "ours@example.org", "--type", "ed25519"]);
    peer.share();
    for flags in [&[][..], &["--secret"]] {
        let theirs = peer.apptainer(&[&["key", "list"], flags].concat());
        let ours = desk.succeed(&[&["key", "list"], flags].concat());
        // It counts the byte that says how the point is written.
        assert_eq!(theirs.replace("Length (in bits):  263", "Length (in bits):  256"), ours);
    }
    // Their secret key signs with us, ours with them.
    let image = desk.image("a.sif");
    desk.write("x", "x");
    desk.succeed(&["sign", "--keyidx", "theirs@", "--passphrase-file", "x", &image]);
    let image = desk.image("b.sif");
    fs::set_permissions(&image, Permissions::from_mode(0o777)).unwrap();
    let (code, _, told) = peer.shell(&format!("echo '{PASSPHRASE}' | apptainer sign -k 1 {image}"));
    assert_eq!(code, Some(0), "{told}");
    assert!(desk.succeed(&["verify", "--local", &image]).contains("Signing entity: Ours"));
    // Removing ours leaves theirs secret, and of use to them.
    desk.succeed(&["key", "remove", "--both", "ours@"]);
    peer.share();
    let image = desk.image("c.sif");
    fs::set_permissions(&image, Permissions::from_mode(0o777)).unwrap();
    let (code, _, told) = peer.shell(&format!("echo x | apptainer sign {image}"));
    assert_eq!(code, Some(0), "{told}");
    desk.succeed(&["verify", "--local", &image]);
    // Files go both ways.
    desk.succeed(&["key", "export", "--armor", "public.asc"]);
    desk.succeed(&["key", "export", "--secret", "secret.pgp"]);
    fs::set_permissions(desk.path("secret.pgp"), Permissions::from_mode(0o644)).unwrap();
    for (file, list) in [("public.asc", "list"), ("secret.pgp", "list --secret")] {
        let import = format!("echo x | apptainer key import {file} && apptainer key {list}");
        let (code, stdout, told) = peer.shell(&format!("export APPTAINER_KEYSDIR=$PWD/other-{file}; {import}"));
        assert_eq!(code, Some(0), "{told}");
        assert!(stdout.contains("Theirs (work) <theirs@example.org>"), "{stdout}");
    }
}

/// An image with a signature of the form before Singularity 3.6, by the first secret key.
fn legacy_image(desk: &Desk, name: &str, link: Link, signed: &[u8]) -> String {
    let secret = SecretKeyring::read(&fs::read(desk.path("keys/pgp-secret")).unwrap()).unwrap();
    let key = secret.keys().next().unwrap();
    let signing = key.unlock(&Passphrase::new(PASSPHRASE), &Policy::at(4_000_000_000)).unwrap();
    let digest = Checksum::of(Algorithm::Sha384, signed).to_string();
    let text = format!("SIFHASH:\n{}", digest.strip_prefix("sha384:").unwrap());
    let message = signing.sign_cleartext(&text, 0).unwrap();
    let image = desk.image(name);
    let mut file = OpenOptions::new().read(true).write(true).open(&image).unwrap();
    let entity = key.fingerprint().as_bytes().try_into().unwrap();
    let extra = Extra::Signature { hash_type: HashType::SHA384, entity };
    let options = ObjectOptions { group: None, link, extra, ..ObjectOptions::new(DataType::SIGNATURE) };
    edit::add(&mut file, &options, &mut message.as_bytes(), 1_700_000_000).unwrap();
    image
}

#[test]
fn legacy_signatures_have_the_same_verdict() {
    let Some(peer) = peer() else { return };
    let desk = &peer.desk;
    desk.newpair("Ann");
    let group = [b"Bootstrap: scratch\n".as_slice(), b"{}", &[7; 5000]].concat();
    let cases = [
        (legacy_image(desk, "partition.sif", Link::Object(3), &[7; 5000]), ""),
        (legacy_image(desk, "wrong.sif", Link::Object(3), &[8; 5000]), ""),
        (legacy_image(desk, "object.sif", Link::Object(2), b"{}"), "-i 2"),
        (legacy_image(desk, "group.sif", Link::Group(1), &group), "-g 1"),
        (legacy_image(desk, "group-wrong.sif", Link::Group(1), b"x"), "-g 1"),
        (legacy_image(desk, "all.sif", Link::Object(3), &[7; 5000]), "--all"),
    ];
    peer.share();
    for (image, flags) in cases {
        for legacy in ["", "--legacy-insecure"] {
            let arguments: Vec<&str> = ["verify", "--local", legacy]
                .into_iter()
                .chain(flags.split(' '))
                .filter(|word| !word.is_empty())
                .chain([image.as_str()])
                .collect();
            let ours = desk.run(&arguments);
            let (code, stdout, told) = peer.try_apptainer(&arguments);
            assert_eq!(ours.code == Some(0), code == Some(0), "{arguments:?}\nours: {}\ntheirs: {told}", ours.stderr);
            if code == Some(0) {
                assert_eq!(stdout, ours.stdout);
            }
        }
    }
}

#[test]
fn certificates_have_the_same_verdict() {
    let Some(peer) = peer() else { return };
    let desk = &peer.desk;
    let request = |name: &str, more: &[&str]| {
        let (key, out, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        let new = [
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-keyout", &key, "-out", &out, "-subj",
            &subject,
        ];
        desk.openssl(&[&new[..], more].concat());
    };
    let authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
    request("root", &authority);
    let by_root = ["-CA", "root.pem", "-CAkey", "root.key", "-addext", "basicConstraints=critical,CA:FALSE"];
    request("leaf", &[&by_root[..], &["-addext", "extendedKeyUsage=codeSigning"]].concat());
    request("server", &[&by_root[..], &["-addext", "extendedKeyUsage=serverAuth"]].concat());
    for leaf in ["leaf", "server"] {
        let image = desk.image("a.sif");
        desk.succeed(&["sign", "--key", &format!("{leaf}.key"), &image]);
        let certificate = format!("{leaf}.pem");
        let arguments = ["verify", "--certificate", &certificate, "--certificate-roots", "root.pem", &image];
        let ours = desk.run(&arguments);
        let (code, stdout, told) = peer.try_apptainer(&arguments);
        assert_eq!(ours.code == Some(0), code == Some(0), "{leaf}: ours: {}\ntheirs: {told}", ours.stderr);
        assert_eq!(stdout.is_empty(), ours.stdout.is_empty());
        assert_eq!(code == Some(0), leaf == "leaf");
    }
}

/// Where we refuse what Apptainer accepts, and why; everywhere else the verdicts are the same.
const STRICTER: &[(&str, &str)] = &[
    ("signature's descriptor: id", "an id that is not its slot's"),
    ("a signature of an object added", "every signature found must hold"),
];

#[test]
fn tampered_images_have_verdicts_beside_apptainers() {
    let Some(peer) = peer() else { return };
    let desk = &peer.desk;
    desk.newpair("Ann");
    peer.share();
    let image = desk.image("a.sif");
    desk.succeed(&["sign", &image]);
    let cases = cases::cases(&fs::read(&image).unwrap());
    let mut script = String::new();
    let mut files = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let file = desk.write(&format!("tampered-{index}.sif"), &case.bytes);
        let _ = write!(script, "apptainer verify --local {file} >/dev/null 2>{file}.told; echo $?; ");
        files.push(file);
    }
    let (_, codes, _) = peer.shell(&script);
    let mut table = String::new();
    let mut differences = Vec::new();
    for ((case, file), theirs) in cases.iter().zip(&files).zip(codes.lines()) {
        let ours = desk.run(&["verify", "--local", file]).code == Some(0);
        let theirs = theirs == "0";
        let word = |holds: bool| if holds { "holds" } else { "refused" };
        let told = fs::read_to_string(format!("{file}.told")).unwrap_or_default();
        let told = told.lines().find(|line| line.starts_with("FATAL")).unwrap_or_default();
        let told = told.trim_start_matches("FATAL:").trim().replace(file.as_str(), "IMAGE");
        let _ = writeln!(table, "{:<44} {:<8} {:<8} {told}", case.name, word(ours), word(theirs));
        if ours != theirs {
            differences.push((case.name.clone(), word(ours)));
        }
    }
    insta::assert_snapshot!(format!("{:<44} {:<8} {}\n{table}", "changed", "ours", "Apptainer"));
    let known: Vec<(String, &str)> = STRICTER.iter().map(|(name, _)| ((*name).to_owned(), "refused")).collect();
    assert_eq!(differences, known, "{table}");
    assert!(Path::new(&image).exists());
}
