//! `sifbuild key push`: a public key to a keyserver.

use super::{KeyringArguments, named};
use crate::cli::build::Stop;
use crate::cli::progress::Terminal;
use crate::cli::{exit, keyserver};
use crate::event::{Event, Observer};
use crate::fetch::keyserver::Keyservers;
use crate::openpgp::Selector;

/// Send a public key to a keyserver
#[derive(clap::Args, Clone, Debug)]
pub struct PushArguments {
    /// Fingerprint, key id, or part of the user id
    key: String,
    /// Keyserver [default: the first one of remote.yaml, else https://keys.openpgp.org]
    #[arg(short, long, value_name = "URL", env = "SIFBUILD_KEYSERVER_URL")]
    url: Option<String>,
    #[command(flatten)]
    keyrings: KeyringArguments,
}

pub fn run(arguments: &PushArguments, terminal: &Terminal) -> Result<(), Stop> {
    let places = arguments.keyrings.places();
    let keyring = if arguments.keyrings.global { places.global()? } else { places.public()? };
    let key = keyring
        .select(&Selector::parse(&arguments.key))
        .map_err(|error| Stop { text: error.to_string(), code: exit::SOURCE })?;
    let servers = keyserver::servers(arguments.url.as_deref(), terminal)?;
    let client = keyserver::client()?;
    let (server, said) = Keyservers { fetch: &client, servers }.push(key)?;
    terminal.observe(Event::Info(format!("Sent public key {} to {server}", named(key))));
    if server.ends_with("//keys.openpgp.org") {
        let text = "it publishes the user id only after its owner has followed the link in the mail that it sends: \
                    see https://keys.openpgp.org/upload";
        terminal.observe(Event::Info(format!("{server}: {text}")));
    } else if !said.is_empty() {
        terminal.observe(Event::Detail(format!("{server}: {said}")));
    }
    Ok(())
}
