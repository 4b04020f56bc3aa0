//! `sifbuild key remove`: a key out of the user's keyrings.

use super::{KeyringArguments, named};
use crate::cli::build::Stop;
use crate::cli::exit;
use crate::cli::progress::Terminal;
use crate::event::{Event, Observer};
use crate::openpgp::{SelectError, Selector};

/// Remove a key from a keyring; the other keys' files stay byte for byte
#[derive(clap::Args, Clone, Debug)]
pub struct RemoveArguments {
    /// Fingerprint, key id, or part of the user id
    key: String,
    /// Remove the public key: the default
    #[arg(short, long, conflicts_with_all = ["secret", "both"])]
    public: bool,
    /// Remove the secret key
    #[arg(short, long, conflicts_with = "both")]
    secret: bool,
    /// Remove both
    #[arg(short, long)]
    both: bool,
    #[command(flatten)]
    keyrings: KeyringArguments,
}

pub fn run(arguments: &RemoveArguments, terminal: &Terminal) -> Result<(), Stop> {
    let RemoveArguments { key, secret, both, keyrings, .. } = arguments;
    let selector = Selector::parse(key);
    let places = keyrings.places();
    let fault = |error: SelectError| Stop { text: error.to_string(), code: exit::SOURCE };
    if keyrings.global && (*secret || *both) {
        return Err(Stop::usage("--global: there is no keyring of everybody's secret keys"));
    }
    let mut missing = Vec::new();
    if *secret || *both {
        let removed = places.change_secret(|keyring| {
            let key = keyring.select(&selector)?.public().clone();
            keyring.remove(&key.fingerprint());
            Ok(key)
        })?;
        match removed {
            Ok(key) => terminal.observe(Event::Info(format!("Removed secret key {}", named(&key)))),
            Err(error) => missing.push(error),
        }
    }
    if !*secret {
        let removed = places.change_public(keyrings.global, |keyring| {
            let key = keyring.select(&selector)?.clone();
            keyring.remove(&key.fingerprint());
            Ok(key)
        })?;
        match removed {
            Ok(key) => terminal.observe(Event::Info(format!("Removed public key {}", named(&key)))),
            Err(error) => missing.push(error),
        }
    }
    let tried = if *both { 2 } else { 1 };
    match missing
        .into_iter()
        .enumerate()
        .find(|(index, error)| index + 1 == tried || matches!(error, SelectError::Ambiguous { .. }))
    {
        Some((_, error)) => Err(fault(error)),
        None => Ok(()),
    }
}
