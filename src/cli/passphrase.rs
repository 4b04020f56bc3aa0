//! The passphrase of a key: from a file descriptor, a file, the environment, or asked for. Never from an argument, which every user of
//! the host can read.

use super::arguments::lookup;
use super::build::Stop;
use super::login;
use crate::openpgp::Passphrase;
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Longest passphrase in bytes.
const LONGEST: u64 = 4096;
/// Name of the variable, without its prefix.
pub const VARIABLE: &str = "KEY_PASSPHRASE";

#[derive(clap::Args, Clone, Debug, Default)]
pub struct PassphraseArguments {
    /// Read the key's passphrase from this open file descriptor: its first line
    #[arg(long, value_name = "N", conflicts_with = "passphrase_file")]
    pub passphrase_fd: Option<u32>,
    /// Read the key's passphrase from this file: its first line
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl PassphraseArguments {
    /// The passphrase, if one was given without asking.
    pub fn given(&self) -> Result<Option<Passphrase>, Stop> {
        let path = self.passphrase_fd.map(|number| PathBuf::from(format!("/proc/self/fd/{number}")));
        if let Some(path) = path.or_else(|| self.passphrase_file.clone()) {
            let fault = |error: io::Error| {
                Stop::usage(format!("the passphrase cannot be read from {}: {error}", path.display()))
            };
            return File::open(&path).and_then(first_line).map(Some).map_err(fault);
        }
        let variable = lookup(VARIABLE, &|name| std::env::var(name).ok()).map(Zeroizing::new);
        Ok(variable.map(|text| Passphrase::new(text.as_bytes())))
    }

    /// The passphrase that unlocks something: given, asked for at the terminal, or the first line of standard input.
    pub fn unlocking(&self, question: &str) -> Result<Passphrase, Stop> {
        if let Some(given) = self.given()? {
            return Ok(given);
        }
        if is_interactive() {
            return ask(question);
        }
        first_line(io::stdin().lock())
            .map_err(|error| Stop::usage(format!("the passphrase cannot be read from standard input: {error}")))
    }

    /// A new passphrase: given, or asked for twice. Empty for none.
    pub fn new_one(&self, question: &str) -> Result<Passphrase, Stop> {
        if let Some(given) = self.given()? {
            return Ok(given);
        }
        if !is_interactive() {
            return Err(Stop::usage(
                "there is no terminal to ask for the new passphrase at: give --passphrase-fd, --passphrase-file or SIFBUILD_KEY_PASSPHRASE \
                 (empty for a key without one)",
            ));
        }
        let passphrase = ask(question)?;
        let again = ask("Retype your passphrase : ")?;
        if passphrase.as_bytes() == again.as_bytes() {
            Ok(passphrase)
        } else {
            Err(Stop::usage("the passphrases are not the same"))
        }
    }
}

pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn ask(question: &str) -> Result<Passphrase, Stop> {
    let answer = login::read_hidden(question);
    eprintln!();
    let fault = |error: io::Error| Stop::usage(format!("the terminal cannot be read: {error}"));
    match answer.map_err(fault)?.map(Zeroizing::new) {
        Some(text) => Ok(Passphrase::new(text.as_bytes())),
        // As a shell tells the end by Ctrl-C.
        None => Err(Stop { text: "nothing was done".to_owned(), code: 128 + 2 }),
    }
}

fn first_line(source: impl Read) -> io::Result<Passphrase> {
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    io::BufReader::new(source.take(LONGEST + 1)).read_until(b'\n', &mut line)?;
    if line.len() as u64 > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has more than 4096 bytes"));
    }
    let end = line.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    Ok(Passphrase::new(&line[..end]))
}
