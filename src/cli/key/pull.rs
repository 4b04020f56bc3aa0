//! `sifbuild key pull`: a public key from a keyserver into the keyring.

use super::{KeyringArguments, named};
use crate::cli::build::Stop;
use crate::cli::progress::Terminal;
use crate::cli::{exit, keyserver, session};
use crate::event::{Event, Observer};
use crate::fetch::keyserver::Keyservers;
use crate::openpgp::keyring::Inserted;
use crate::openpgp::{Policy, Selector};

/// Fetch a public key from a keyserver into the keyring, which makes it one that you trust
#[derive(clap::Args, Clone, Debug)]
pub struct PullArguments {
    /// Fingerprint of the key: 40 hexadecimal digits
    fingerprint: String,
    /// Keyserver [default: the first one of remote.yaml, else https://keys.openpgp.org]
    #[arg(short, long, value_name = "URL", env = "SIFBUILD_KEYSERVER_URL")]
    url: Option<String>,
    #[command(flatten)]
    keyrings: KeyringArguments,
}

pub fn run(arguments: &PullArguments, terminal: &Terminal) -> Result<(), Stop> {
    let wanted = Selector::parse(&arguments.fingerprint);
    let servers = keyserver::servers(arguments.url.as_deref(), terminal)?;
    let client = keyserver::client()?;
    let keys = Keyservers { fetch: &client, servers }.pull(&wanted)?;
    // A short number is easily made anew for another key.
    if keys.len() > 1 {
        let found: Vec<String> = keys.iter().map(|key| key.fingerprint().to_string()).collect();
        let text = format!("{wanted} fits more than one key: {}; name the fingerprint", found.join(", "));
        return Err(Stop { text, code: exit::SOURCE });
    }
    let policy = Policy::at(session::now().seconds);
    let (places, global) = (arguments.keyrings.places(), arguments.keyrings.global);
    for key in keys {
        if let Err(cause) = policy.check_key(&key) {
            terminal.observe(Event::Warning(format!("{}: {cause}", named(&key))));
        }
        let name = named(&key);
        let what = match places.change_public(global, |keyring| keyring.insert(key))? {
            Inserted::New => "Pulled public key",
            Inserted::Updated => "Updated public key",
            Inserted::Known => "Public key is already there:",
        };
        terminal.observe(Event::Info(format!("{what} {name}")));
    }
    Ok(())
}
