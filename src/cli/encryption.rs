//! The key of an encrypted image: where it comes from, in Apptainer's order (facts §3), and never from an argument.

use super::arguments::lookup;
use super::build::Stop;
use super::{login, session};
use crate::agent::encrypted::Unlocking;
use crate::build::Encryption;
use crate::luks::Kdf;
use crate::luks::reader::Limits;
use crate::sif::wrapped_key::{self, ImageKey, MAXIMUM_SIZE};
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest passphrase that is read, in bytes: cryptsetup's limit.
const LONGEST: u64 = 512;

/// Variables that hold secrets, without their prefixes: no script sees them.
pub const SECRET_VARIABLES: [&str; 5] =
    ["ENCRYPTION_PASSPHRASE", "ENCRYPTION_PEM_DATA", "ENCRYPTION_PEM_PATH", "DOCKER_PASSWORD", "KEY_PASSPHRASE"];

/// What opens an encrypted image.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct KeyArguments {
    /// Ask for the passphrase of the encrypted image; without a terminal it is the first line of standard input
    #[arg(long)]
    pub passphrase: bool,
    /// RSA key of the encrypted image, a PEM file: the public one encrypts, the private one opens and encrypts
    #[arg(long, value_name = "FILE")]
    pub pem_path: Option<PathBuf>,
}

impl KeyArguments {
    pub fn is_given(&self) -> bool {
        self.passphrase || self.pem_path.is_some()
    }

    /// The key, from the flags, else from the environment. `twice`: it will encrypt, and must not be mistyped.
    pub fn key(&self, variable: &dyn Fn(&str) -> Option<String>, twice: bool) -> Result<Option<ImageKey>, Stop> {
        if let Some(path) = &self.pem_path {
            return read_pem(path, "--pem-path").map(Some);
        }
        if self.passphrase {
            return ask(twice).map(|passphrase| Some(ImageKey::Passphrase(passphrase)));
        }
        let set = |name: &str| lookup(name, variable).filter(|value| !value.is_empty());
        if let Some(path) = set("ENCRYPTION_PEM_PATH") {
            return read_pem(Path::new(&path), "ENCRYPTION_PEM_PATH").map(Some);
        }
        if let Some(text) = set("ENCRYPTION_PEM_DATA") {
            let name = "the variable ENCRYPTION_PEM_DATA".to_owned();
            return Ok(Some(ImageKey::Pem { name, text: Zeroizing::new(text) }));
        }
        Ok(set("ENCRYPTION_PASSPHRASE").map(|text| ImageKey::Passphrase(Zeroizing::new(text.into_bytes()))))
    }
}

/// How the image is encrypted, if it is, and what opens encrypted bases.
pub fn settle(
    encrypt: bool,
    arguments: &KeyArguments,
    variable: &dyn Fn(&str) -> Option<String>,
    warn: &dyn Fn(&str),
) -> Result<(Option<Encryption>, Option<Unlocking>), Stop> {
    let encrypt = encrypt || arguments.is_given();
    let key = arguments.key(variable, encrypt)?;
    if let (true, Some(ImageKey::Pem { name, text })) = (encrypt, &key) {
        wrapped_key::check_public(name, text).map_err(|error| Stop::usage(format!("--encrypt: {error}")))?;
    }
    if !encrypt && key.is_some() {
        warn("a key for encryption is in the environment, but --encrypt was not specified. NOT encrypting the image.");
    }
    if encrypt && key.is_none() {
        return Err(Stop::usage(
            "--encrypt needs a key: --pem-path FILE, --passphrase, or one of SIFBUILD_ENCRYPTION_PEM_PATH, SIFBUILD_ENCRYPTION_PEM_DATA \
             and SIFBUILD_ENCRYPTION_PASSPHRASE",
        ));
    }
    let memory = session::available_memory();
    let encryption = key.clone().filter(|_| encrypt).map(|key| Encryption { key, kdf: kdf(memory) });
    Ok((encryption, key.map(|key| unlocking(key, memory))))
}

/// A key with what opening may cost on this host.
pub fn unlocking(key: ImageKey, memory: u64) -> Unlocking {
    let limits = Limits::default();
    let most = u32::try_from(memory - memory / 4).unwrap_or(u32::MAX);
    Unlocking { key, limits: Limits { memory: limits.memory.min(most), ..limits } }
}

/// How a passphrase is stretched: with as much memory as the nodes where the image runs will have too. `memory` in KiB.
///
/// # Why
/// cryptsetup takes up to 1 GiB, by what the host that formats has. Images travel, and a job of a cluster that is
/// confined to less could never open them. 256 MiB is four times the recommendation of RFC 9106 for such hosts.
fn kdf(memory: u64) -> Kdf {
    match memory {
        0x8_0000.. => Kdf::Argon2id { time: 4, memory: 256 << 10, cpus: 4 },
        0x2_0000.. => Kdf::Argon2id { time: 4, memory: 64 << 10, cpus: 4 },
        _ => Kdf::Pbkdf2 { iterations: 2_000_000 },
    }
}

fn read_pem(path: &Path, from: &str) -> Result<ImageKey, Stop> {
    let fault = |cause: String| Stop::usage(format!("{from}: cannot read {}: {cause}", path.display()));
    let file = File::open(path).map_err(|error| fault(error.to_string()))?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAXIMUM_SIZE).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
    Ok(ImageKey::Pem { name: path.display().to_string(), text })
}

fn ask(twice: bool) -> Result<Zeroizing<Vec<u8>>, Stop> {
    let fault = |error: io::Error| Stop::usage(format!("--passphrase: it cannot be read: {error}"));
    let passphrase = if io::stdin().is_terminal() && io::stderr().is_terminal() {
        let read = |question: &str| -> Result<Zeroizing<String>, Stop> {
            let answer = login::read_hidden(question);
            eprintln!();
            // As a shell tells the end by Ctrl-C.
            let interrupted = || Stop { text: "nothing was done".to_owned(), code: 128 + 2 };
            answer.map_err(fault)?.map(Zeroizing::new).ok_or_else(interrupted)
        };
        let passphrase = read("Enter encryption passphrase: ")?;
        if twice && *read("Retype encryption passphrase: ")? != *passphrase {
            return Err(Stop::usage("--passphrase: the two are not the same"));
        }
        passphrase
    } else {
        let mut line = Zeroizing::new(String::new());
        io::stdin().lock().take(LONGEST + 1).read_line(&mut line).map_err(fault)?;
        Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    match passphrase.len() as u64 {
        0 => Err(Stop::usage("--passphrase: it is empty")),
        1..=LONGEST => Ok(Zeroizing::new(passphrase.as_bytes().to_vec())),
        _ => Err(Stop::usage(format!("--passphrase: it has more than {LONGEST} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pem_file_wins_over_pem_text_over_a_passphrase() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key.pem");
        std::fs::write(&file, "from the file").unwrap();
        let file = file.to_str().unwrap().to_owned();
        let all = [
            ("SIFBUILD_ENCRYPTION_PEM_PATH", file.as_str()),
            ("APPTAINER_ENCRYPTION_PEM_DATA", "from the variable"),
            ("APPTAINER_ENCRYPTION_PASSPHRASE", "secret"),
        ];
        let found = |set: &[(&str, &str)]| {
            let variable = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
            KeyArguments::default().key(&variable, false).ok().unwrap()
        };
        assert!(matches!(found(&all), Some(ImageKey::Pem { text, .. }) if *text == "from the file"));
        assert!(matches!(found(&all[1..]), Some(ImageKey::Pem { text, .. }) if *text == "from the variable"));
        assert!(matches!(found(&all[2..]), Some(ImageKey::Passphrase(text)) if *text == b"secret"));
        assert!(found(&[]).is_none());
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = ImageKey::Passphrase(Zeroizing::new(b"hunter2".to_vec()));
        let pem = ImageKey::Pem { name: "key.pem".to_owned(), text: Zeroizing::new("hunter2".to_owned()) };
        assert!(!format!("{key:?}{pem:?}{:?}", unlocking(key.clone(), 1)).contains("hunter2"));
    }
}
