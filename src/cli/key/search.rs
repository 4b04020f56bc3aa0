//! `sifbuild key search`: what a keyserver has.

use crate::cli::build::Stop;
use crate::cli::keyserver;
use crate::cli::progress::Terminal;
use crate::fetch::keyserver::Keyservers;
use crate::fetch::keyserver::index::Listed;
use crate::skeleton::Timestamp;
use std::fmt::Write as _;
use std::io::Write as _;

/// Search a keyserver for keys; nothing that it says is proven
#[derive(clap::Args, Clone, Debug)]
pub struct SearchArguments {
    /// Part of a user id, or a fingerprint or key id
    text: String,
    /// Keyserver [default: the first one of remote.yaml, else https://keys.openpgp.org]
    #[arg(short, long, value_name = "URL", env = "SIFBUILD_KEYSERVER_URL")]
    url: Option<String>,
    /// Show fingerprints, dates and status
    #[arg(short, long)]
    long_list: bool,
}

pub fn run(arguments: &SearchArguments, terminal: &Terminal) -> Result<(), Stop> {
    let servers = keyserver::servers(arguments.url.as_deref(), terminal)?;
    let client = keyserver::client()?;
    let found = Keyservers { fetch: &client, servers }.search(&arguments.text)?;
    let text = if arguments.long_list { long(&found) } else { short(&found) };
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

fn short(found: &[Listed]) -> String {
    let mut text = format!("Showing {} results\n\n{:<10}{:<6}NAME/EMAIL\n", found.len(), "KEY ID", "BITS");
    for key in found {
        // The last 8 digits, as Apptainer shows them.
        let id = &key.fingerprint[key.fingerprint.len().saturating_sub(8)..];
        let name = key.user_ids.first().map_or("", String::as_str);
        let _ = writeln!(text, "{id:<10}{:<6}{name}", key.bits);
    }
    text
}

fn long(found: &[Listed]) -> String {
    let mut text = format!(
        "Showing {} results\n\n{:<42}{:<11}{:<6}{:<12}{:<12}{:<12}NAME/EMAIL\n",
        found.len(),
        "FINGERPRINT",
        "ALGORITHM",
        "BITS",
        "CREATED",
        "EXPIRES",
        "STATUS"
    );
    for key in found {
        let shown = |seconds: Option<i64>| {
            seconds
                .map_or_else(|| "-".to_owned(), |seconds| Timestamp::utc(seconds).rfc3339().chars().take(10).collect())
        };
        let _ = write!(
            text,
            "{:<42}{:<11}{:<6}{:<12}{:<12}{:<12}",
            key.fingerprint,
            key.algorithm,
            key.bits,
            shown(key.created),
            shown(key.expires),
            key.status()
        );
        let indent = " ".repeat(95);
        let _ = writeln!(text, "{}", key.user_ids.join(&format!("\n{indent}")));
    }
    text
}
