//! `sifbuild key`: the keyrings. One file a command.

mod export;
mod import;
mod list;
mod newpair;
mod pull;
mod push;
mod remove;
mod search;

use super::build::{Stop, finish};
use super::passphrase::is_interactive;
use super::progress::Terminal;
use super::{GlobalArguments, exit, session};
use crate::keyrings::{Error, Places};
use crate::openpgp::{Policy, PublicKey, Selector};
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// Make, keep and exchange OpenPGP keys
#[derive(clap::Args, Clone, Debug)]
pub struct KeyArguments {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum KeyCommand {
    Newpair(newpair::NewpairArguments),
    List(list::ListArguments),
    Import(import::ImportArguments),
    Export(export::ExportArguments),
    Remove(remove::RemoveArguments),
    Push(push::PushArguments),
    Pull(pull::PullArguments),
    Search(search::SearchArguments),
}

/// Which keyrings a command works on.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct KeyringArguments {
    /// Work on the public keys of everybody on this host
    #[arg(short, long)]
    pub global: bool,
    /// Directory of the user's keyrings
    #[arg(short = 'd', long, value_name = "DIR")]
    pub keysdir: Option<PathBuf>,
}

impl KeyringArguments {
    pub fn places(&self) -> Places {
        places(self.keysdir.as_deref())
    }
}

/// The keyrings by the flag, else by the environment.
pub fn places(keysdir: Option<&Path>) -> Places {
    Places::find(keysdir, &|name| std::env::var_os(name))
}

pub fn run(arguments: KeyArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    finish(match arguments.command {
        KeyCommand::Newpair(arguments) => newpair::run(arguments, &terminal),
        KeyCommand::List(arguments) => list::run(&arguments),
        KeyCommand::Import(arguments) => import::run(&arguments, &terminal),
        KeyCommand::Export(arguments) => export::run(&arguments, &terminal),
        KeyCommand::Remove(arguments) => remove::run(&arguments, &terminal),
        KeyCommand::Push(arguments) => push::run(&arguments, &terminal),
        KeyCommand::Pull(arguments) => pull::run(&arguments, &terminal),
        KeyCommand::Search(arguments) => search::run(&arguments, &terminal),
    })
}

/// A keyring that cannot be read or written.
impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        let code = match error {
            Error::Read { .. } | Error::Damaged { .. } => exit::SOURCE,
            _ => exit::OUTPUT,
        };
        Stop { text: error.to_string(), code }
    }
}

/// Its first user id, without characters that a terminal would obey, and its fingerprint.
fn named(key: &PublicKey) -> String {
    let user = key.user_ids().first().map_or_else(|| "without a user id".to_owned(), |user| printable(user));
    format!("{user} ({})", key.fingerprint())
}

/// Without characters that a terminal would obey.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// The index of the key that is meant: by what was given, the only one, or asked for at the terminal.
pub fn choose(keys: &[&PublicKey], wanted: Option<&str>, kind: &str) -> Result<usize, Stop> {
    let fault = |text: String| Stop { text, code: exit::SOURCE };
    let Some(wanted) = wanted else {
        return match keys.len() {
            0 => Err(fault(format!("there is no {kind} in the keyring"))),
            1 => Ok(0),
            _ => ask(keys, kind),
        };
    };
    if wanted.len() < 8
        && let Ok(index) = wanted.parse::<usize>()
    {
        let beyond = || fault(format!("there is no {kind} {index} in the keyring: it has {}", keys.len()));
        return (index < keys.len()).then_some(index).ok_or_else(beyond);
    }
    let selector = Selector::parse(wanted);
    let found: Vec<usize> = (0..keys.len()).filter(|index| keys[*index].matches(&selector)).collect();
    match found.as_slice() {
        [index] => Ok(*index),
        [] => Err(fault(format!("no {kind} {selector} in the keyring"))),
        many => {
            let many: Vec<String> = many.iter().map(|index| keys[*index].fingerprint().to_string()).collect();
            Err(fault(format!("{selector} fits more than one {kind}: {}", many.join(", "))))
        }
    }
}

/// Shows the keys and reads a number.
fn ask(keys: &[&PublicKey], kind: &str) -> Result<usize, Stop> {
    if !is_interactive() {
        let text = format!("there are {} {kind}s in the keyring: say which one by --key or --keyidx", keys.len());
        return Err(Stop::usage(text));
    }
    let policy = Policy::at(session::now().seconds);
    for (index, key) in keys.iter().enumerate() {
        eprint!("{}", list::entry(index, key, &policy));
    }
    eprint!("Enter # of {kind} to use : ");
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Stop::usage(format!("the terminal cannot be read: {error}")))?;
    match line.trim().parse::<usize>() {
        Ok(index) if index < keys.len() => Ok(index),
        _ => Err(Stop::usage(format!("{:?} is not a number in the list", line.trim()))),
    }
}
