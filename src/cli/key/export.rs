//! `sifbuild key export`: one key to a file.

use super::{KeyringArguments, choose, named};
use crate::cli::build::Stop;
use crate::cli::exit;
use crate::cli::progress::Terminal;
use crate::disk::AtomicFile;
use crate::event::{Event, Observer};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Export a key to a file; the secret one stays locked by its passphrase
#[derive(clap::Args, Clone, Debug)]
pub struct ExportArguments {
    file: PathBuf,
    /// The key: fingerprint, key id, part of its user id, or number in the list [default: asked for, or the only one]
    #[arg(short, long, value_name = "KEY")]
    key: Option<String>,
    /// Export the secret key
    #[arg(short, long)]
    secret: bool,
    /// As text
    #[arg(short, long)]
    armor: bool,
    #[command(flatten)]
    keyrings: KeyringArguments,
}

pub fn run(arguments: &ExportArguments, terminal: &Terminal) -> Result<(), Stop> {
    let places = arguments.keyrings.places();
    let wanted = arguments.key.as_deref();
    let path = &arguments.file;
    if arguments.secret {
        let keyring = places.secret()?;
        let keys: Vec<_> = keyring.keys().collect();
        let key = keys[choose(&keys.iter().map(|key| key.public()).collect::<Vec<_>>(), wanted, "private key")?];
        let armor = key.to_armor();
        write(path, 0o600, if arguments.armor { armor.as_bytes() } else { key.to_bytes() })?;
        terminal.observe(Event::Info(format!("Secret key {} exported to {}", named(key.public()), path.display())));
        return Ok(());
    }
    let keyring = if arguments.keyrings.global { places.global()? } else { places.public()? };
    let keys: Vec<_> = keyring.keys().collect();
    let key = keys[choose(&keys, wanted, "public key")?];
    let armor = key.to_armor();
    write(path, 0o644, if arguments.armor { armor.as_bytes() } else { key.to_bytes() })?;
    terminal.observe(Event::Info(format!("Public key {} exported to {}", named(key), path.display())));
    Ok(())
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Stop> {
    let fault = |text: String| Stop { text, code: exit::OUTPUT };
    let mut file = AtomicFile::create(path, mode).map_err(|error| fault(error.to_string()))?;
    file.file_mut().write_all(bytes).map_err(|error| fault(format!("cannot write {}: {error}", path.display())))?;
    file.commit(true).map_err(|error| fault(error.to_string()))
}
