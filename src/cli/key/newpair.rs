//! `sifbuild key newpair`: a new key in both of the user's keyrings.

use super::{KeyringArguments, named};
use crate::cli::build::Stop;
use crate::cli::exit;
use crate::cli::passphrase::{PassphraseArguments, is_interactive};
use crate::cli::progress::Terminal;
use crate::event::{Event, Observer};
use crate::openpgp::generate::{DEFAULT_RSA_BITS, RSA_BITS, user_id};
use crate::openpgp::{Algorithm, NewKey};
use std::io::{BufRead, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum KeyKind {
    Rsa,
    Ed25519,
}

/// Make a new key
#[derive(clap::Args, Clone, Debug)]
pub struct NewpairArguments {
    /// Name of the owner
    #[arg(short = 'N', long)]
    name: Option<String>,
    /// Mail address of the owner
    #[arg(short = 'E', long)]
    email: Option<String>,
    #[arg(short = 'C', long)]
    comment: Option<String>,
    /// Refused: every user of the host can read it
    #[arg(short = 'P', long, value_name = "PASSWORD", hide = true)]
    password: Option<String>,
    /// Bits of an RSA key
    #[arg(short, long, value_name = "BITS")]
    bit_length: Option<u32>,
    /// Kind of key
    #[arg(long = "type", value_enum, default_value = "rsa")]
    kind: KeyKind,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    #[command(flatten)]
    keyrings: KeyringArguments,
}

pub fn run(arguments: NewpairArguments, terminal: &Terminal) -> Result<(), Stop> {
    if arguments.password.is_some() {
        return Err(Stop::usage(
            "--password: every user of this host can read a program's arguments; give --passphrase-fd N, --passphrase-file FILE or \
             SIFBUILD_KEY_PASSPHRASE",
        ));
    }
    if arguments.keyrings.global {
        return Err(Stop::usage("--global: there is no keyring of everybody's secret keys"));
    }
    let algorithm = match (arguments.kind, arguments.bit_length) {
        (KeyKind::Rsa, bits) => Algorithm::Rsa(bits.unwrap_or(DEFAULT_RSA_BITS)),
        (KeyKind::Ed25519, None) => Algorithm::Ed25519,
        (KeyKind::Ed25519, Some(_)) => return Err(Stop::usage("--bit-length is for RSA keys")),
    };
    if let Algorithm::Rsa(bits) = algorithm
        && !RSA_BITS.contains(&bits)
    {
        let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
        return Err(Stop::usage(format!("--bit-length {bits}: an RSA key has {least} to {most} bits")));
    }
    let name = ask("Enter your name (e.g., John Doe) : ", arguments.name)?;
    let mail = ask("Enter your email address (e.g., john.doe@example.com) : ", arguments.email)?;
    let comment = ask("Enter optional comment (e.g., development keys) : ", arguments.comment)?;
    let user_id = user_id(&name, &comment, &mail).ok_or_else(|| {
        Stop::usage("the key needs a --name or an --email, and none of the three may contain ( ) < > or a line end")
    })?;
    let passphrase = arguments.passphrase.new_one("Enter a passphrase : ")?;
    if passphrase.is_empty() {
        terminal.observe(Event::Warning("the key has no passphrase: whoever reads its file can sign".to_owned()));
    }
    terminal.observe(Event::Info("Generating Entity and OpenPGP Key Pair...".to_owned()));
    let key = NewKey { user_id, algorithm, passphrase }
        .generate()
        .map_err(|error| Stop { text: error.to_string(), code: exit::OUTPUT })?;
    let places = arguments.keyrings.places();
    places.change_secret(|keyring| keyring.insert(key.clone()))?;
    places.change_public(false, |keyring| keyring.insert(key.public().clone()))?;
    terminal.observe(Event::Info(format!("New key: {}", named(key.public()))));
    Ok(())
}

/// What was given, else the answer at the terminal; nothing where there is none.
fn ask(question: &str, given: Option<String>) -> Result<String, Stop> {
    if let Some(given) = given {
        return Ok(given.trim().to_owned());
    }
    if !is_interactive() {
        return Ok(String::new());
    }
    eprint!("{question}");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Stop::usage(format!("the terminal cannot be read: {error}")))?;
    Ok(line.trim().to_owned())
}
