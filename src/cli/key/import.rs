//! `sifbuild key import`: keys of a file, public and secret, into the keyrings.

use super::{KeyringArguments, named};
use crate::cli::build::Stop;
use crate::cli::exit;
use crate::cli::passphrase::PassphraseArguments;
use crate::cli::progress::Terminal;
use crate::cli::verify::read;
use crate::event::{Event, Observer};
use crate::keyrings::Places;
use crate::openpgp::SecretKey;
use crate::openpgp::keyring::{Contents, Inserted, MAXIMUM_KEYRING};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Import the keys of a file, armored or binary
#[derive(clap::Args, Clone, Debug)]
pub struct ImportArguments {
    file: PathBuf,
    /// Lock imported secret keys with a new passphrase
    #[arg(long, alias = "new-passphrase")]
    new_password: bool,
    /// File with the new passphrase, for --new-password: its first line
    #[arg(long, value_name = "FILE", requires = "new_password")]
    new_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    #[command(flatten)]
    keyrings: KeyringArguments,
}

pub fn run(arguments: &ImportArguments, terminal: &Terminal) -> Result<(), Stop> {
    let path = &arguments.file;
    let bytes = Zeroizing::new(read(path, MAXIMUM_KEYRING as u64)?);
    let fault = |cause: String| Stop { text: format!("no key in {}: {cause}", path.display()), code: exit::SOURCE };
    let contents = Contents::read(&bytes).map_err(|error| fault(error.to_string()))?;
    if contents.public.is_empty() && contents.secret.is_empty() && contents.revocations.is_empty() {
        let cause = contents.unread.map_or_else(|| "it holds none".to_owned(), |(_, fault)| fault.to_string());
        return Err(fault(cause));
    }
    if let Some((count, fault)) = &contents.unread {
        terminal.observe(Event::Warning(format!("{count} keys of {} cannot be read: {fault}", path.display())));
    }
    let global = arguments.keyrings.global;
    if global && !contents.secret.is_empty() {
        return Err(Stop::usage("--global: there is no keyring of everybody's secret keys; nothing was imported"));
    }
    let places = arguments.keyrings.places();
    let secret = contents.secret.iter().map(|key| relocked(arguments, key)).collect::<Result<Vec<_>, _>>()?;
    for key in &secret {
        let is_new = places.change_secret(|keyring| {
            let known = keyring.keys().any(|known| known.fingerprint() == key.fingerprint());
            let is_wanted = !known || arguments.new_password;
            if is_wanted {
                keyring.insert(key.clone());
            }
            is_wanted
        })?;
        let what = if is_new { "Imported secret key" } else { "Secret key is already there:" };
        terminal.observe(Event::Info(format!("{what} {}", named(key.public()))));
        if is_new && !key.is_locked() {
            terminal.observe(Event::Warning(format!(
                "secret key {} has no passphrase: whoever reads its file can sign; --new-password gives it one",
                key.fingerprint()
            )));
        }
    }
    let public = contents.public.iter().chain(secret.iter().map(SecretKey::public));
    for key in public {
        let what = match places.change_public(global, |keyring| keyring.insert(key.clone()))? {
            Inserted::New => "Imported public key",
            Inserted::Updated => "Updated public key",
            Inserted::Known => "Public key is already there:",
        };
        terminal.observe(Event::Info(format!("{what} {}", named(key))));
    }
    revoke(&contents, &places, global, terminal)
}

/// Gives revocations that stand alone to their keys. It is an error where that was all, and none fits.
fn revoke(contents: &Contents, places: &Places, global: bool, terminal: &Terminal) -> Result<(), Stop> {
    let mut is_used = !contents.public.is_empty() || !contents.secret.is_empty();
    let mut text = String::new();
    for revocation in &contents.revocations {
        match places.change_public(global, |keyring| keyring.revoke(revocation))? {
            Some((fingerprint, is_new)) => {
                let what = if is_new { "Revoked" } else { "Already revoked:" };
                terminal.observe(Event::Info(format!("{what} public key {fingerprint}")));
                is_used = true;
            }
            None => {
                text = format!("the revocation of key {} fits no key in the keyring", revocation.issuer());
                terminal.observe(Event::Warning(text.clone()));
            }
        }
    }
    if is_used { Ok(()) } else { Err(Stop { text, code: exit::SOURCE }) }
}

fn relocked(arguments: &ImportArguments, key: &SecretKey) -> Result<SecretKey, Stop> {
    if !arguments.new_password {
        return Ok(key.clone());
    }
    let old = match key.is_locked() {
        true => arguments.passphrase.unlocking(&format!("Enter the passphrase of key {} : ", key.fingerprint()))?,
        false => crate::openpgp::Passphrase::new(""),
    };
    let new = match &arguments.new_passphrase_file {
        Some(_) => PassphraseArguments { passphrase_fd: None, passphrase_file: arguments.new_passphrase_file.clone() },
        // What opens the key is not what locks it from now on.
        None => PassphraseArguments::default(),
    };
    let new = new.new_one("Enter a new passphrase : ")?;
    key.with_passphrase(&old, &new).map_err(|error| Stop { text: error.to_string(), code: exit::SOURCE })
}
