//! Neither passphrases nor secret keys are found anywhere: images, keyrings, caches, what is printed, arguments.

use super::desk::{Desk, PASSPHRASE};
use sifbuild::openpgp::{Algorithm, NewKey, Passphrase};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

/// Files below that hold the bytes.
fn search(directory: &Path, wanted: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, wanted, found);
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(wanted.len()).any(|window| window == wanted)) {
            found.push(path.display().to_string());
        }
    }
}

/// The last bytes of the secret number of an unlocked key: it ends its packet, before a checksum of two bytes.
fn secret_number(bytes: &[u8]) -> Vec<u8> {
    let length = usize::from(bytes[1]);
    assert_eq!(bytes[0], 0xC5, "a secret key in a packet of the new form");
    assert!(length < 192);
    let end = 2 + length - 2;
    bytes[end - 24..end].to_vec()
}

#[test]
fn passphrase_and_secret_key_are_found_nowhere() {
    let desk = Desk::new();
    let passphrase = Passphrase::new("");
    let new = NewKey { user_id: "Ann <ann@example.org>".to_owned(), algorithm: Algorithm::Ed25519, passphrase };
    let key = new.generate().unwrap();
    let secret = secret_number(key.to_bytes());
    desk.write("unlocked", key.to_bytes());
    desk.write("passphrase", PASSPHRASE);
    desk.write("a.def", "Bootstrap: scratch\n%help\n  none\n");
    desk.openssl(&["genpkey", "-algorithm", "ed25519", "-outform", "DER", "-out", "bare.der"]);
    desk.openssl(&["pkey", "-inform", "DER", "-in", "bare.der", "-out", "bare.pem"]);
    let bare = fs::read(desk.path("bare.der")).unwrap();
    let bare = bare[bare.len() - 32..].to_vec();

    let image = desk.image("a.sif");
    let from_file = ["--passphrase-file", "passphrase"];
    let commands: Vec<Vec<&str>> = vec![
        vec!["-v", "key", "import", "--new-password", "--new-passphrase-file", "passphrase", "unlocked"],
        [&["-v", "key", "newpair", "-N", "Bob", "--type", "ed25519"][..], &from_file].concat(),
        vec!["-v", "key", "list", "--secret"],
        [&["-v", "sign", "--keyidx", "ann"][..], &from_file, &[image.as_str()]].concat(),
        vec!["-v", "sign", "--key", "bare.pem", &image],
        [&["-v", "build", "--sign=ann", "b.sif", "a.def"][..], &from_file].concat(),
        vec!["-v", "verify", &image],
        vec!["-v", "key", "export", "--secret", "--key", "ann", "exported"],
        vec!["-v", "sign", "--keyidx", "ann", "--passphrase-file", "a.def", &image],
    ];
    let mut printed = String::new();
    for arguments in commands {
        let mut command = desk.command(&arguments);
        command.env_remove("SIFBUILD_KEY_PASSPHRASE");
        let outcome = Desk::outcome(command);
        printed += &(outcome.stdout + &outcome.stderr);
    }
    desk.write("printed", &printed);
    assert!(printed.contains("New key: Bob") && printed.contains("Build complete"), "{printed}");

    for (wanted, known) in [
        (PASSPHRASE.as_bytes(), vec!["passphrase"]),
        (secret.as_slice(), vec!["unlocked"]),
        (bare.as_slice(), vec!["bare.der"]),
    ] {
        let mut found = Vec::new();
        search(&desk.path(""), wanted, &mut found);
        let known: Vec<String> = known.into_iter().map(|name| desk.file(name)).collect();
        assert_eq!(found, known);
    }
}

#[test]
fn the_arguments_of_a_running_program_hold_no_passphrase() {
    let desk = Desk::new();
    desk.newpair("Ann");
    let image = desk.image("a.sif");
    let mut command = desk.command(&["sign", "--passphrase-fd", "0", &image]);
    command.env_remove("SIFBUILD_KEY_PASSPHRASE").stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // It waits for the rest of the line.
    input.write_all(&PASSPHRASE.as_bytes()[..7]).unwrap();
    let process = Path::new("/proc").join(child.id().to_string());
    let holds = |file: &str| {
        // Between fork and exec there are none.
        let bytes = (0..500).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            fs::read(process.join(file)).ok().filter(|bytes| !bytes.is_empty())
        });
        let bytes = bytes.expect("a running program has arguments and variables");
        bytes.windows(7).any(|window| window == &PASSPHRASE.as_bytes()[..7])
    };
    assert!(!holds("cmdline") && !holds("environ"));
    input.write_all(&PASSPHRASE.as_bytes()[7..]).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}
