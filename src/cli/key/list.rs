//! `sifbuild key list`, in Apptainer's form.

use super::{KeyringArguments, printable};
use crate::cli::build::Stop;
use crate::cli::session;
use crate::openpgp::{Policy, PublicKey};
use crate::sif::dump::utc;
use std::fmt::Write as _;
use std::io::Write as _;

/// List the keys of a keyring
#[derive(clap::Args, Clone, Debug)]
pub struct ListArguments {
    /// List secret keys
    #[arg(short, long)]
    secret: bool,
    #[command(flatten)]
    keyrings: KeyringArguments,
}

pub fn run(arguments: &ListArguments) -> Result<(), Stop> {
    let places = arguments.keyrings.places();
    let (path, kind, keys, unread) = if arguments.secret {
        let keyring = places.secret()?;
        let keys: Vec<PublicKey> = keyring.keys().map(|key| key.public().clone()).collect();
        (places.secret_path(), "Private", keys, 0)
    } else {
        let (path, keyring) = match arguments.keyrings.global {
            true => (places.global.clone(), places.global()?),
            false => (places.public_path(), places.public()?),
        };
        (path, "Public", keyring.keys().cloned().collect(), keyring.unread())
    };
    let policy = Policy::at(session::now().seconds);
    let mut text = format!("{kind} key listing ({}):\n\n", path.display());
    for (index, key) in keys.iter().enumerate() {
        text.push_str(&entry(index, key, &policy));
    }
    if unread > 0 {
        let _ = writeln!(text, "{unread} more cannot be read here\n");
    }
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

/// Compat: the first four lines are Apptainer's; a fifth tells of a key that does not hold.
pub fn entry(index: usize, key: &PublicKey, policy: &Policy) -> String {
    let mut text = String::new();
    let users = key.user_ids();
    let user = users.first().map_or("", String::as_str);
    let _ = writeln!(text, "{:<4}{:<19}{}", format!("{index})"), "User:", printable(user));
    let _ = writeln!(text, "{:<4}{:<19}{}", "", "Creation time:", utc(key.created_at()));
    let _ = writeln!(text, "{:<4}{:<19}{}", "", "Fingerprint:", key.fingerprint());
    let _ = writeln!(text, "{:<4}{:<19}{}", "", "Length (in bits):", key.bits());
    if let Err(cause) = policy.check_key(key) {
        let _ = writeln!(text, "{:<4}{:<19}{cause}", "", "Not usable:");
    }
    text + "\n"
}
