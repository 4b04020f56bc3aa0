//! `sifbuild sign`: signatures appended to an image, which is replaced at once.

use super::arguments::lookup;
use super::build::{Stop, finish};
use super::key::{choose, places};
use super::passphrase::PassphraseArguments;
use super::progress::Terminal;
use super::verify::read;
use super::{GlobalArguments, exit, session, sif};
use crate::event::{Event, Observer};
use crate::openpgp::{Cause, Passphrase, Policy, SecretError};
use crate::sif::signature::{KeyError, MAXIMUM_KEY_FILE, PrivateKey, Scope, Signatory, sign};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Sign the objects of an image
#[derive(clap::Args, Clone, Debug, Default)]
pub struct SignArguments {
    pub image: PathBuf,
    /// Sign the objects of this group
    #[arg(short, long, value_name = "ID", alias = "groupid", conflicts_with = "sif_id")]
    pub group_id: Option<u32>,
    /// Sign this object
    #[arg(short = 'i', long, value_name = "ID", alias = "id")]
    pub sif_id: Option<u32>,
    /// Accepted: every group is signed when none is named
    #[arg(short, long, hide = true)]
    pub all: bool,
    #[command(flatten)]
    pub with: SignWithArguments,
    /// Directory of the user's keyrings
    #[arg(short = 'd', long, value_name = "DIR")]
    pub keysdir: Option<PathBuf>,
}

/// What signs.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct SignWithArguments {
    /// Private key to sign with, a PEM file, in place of one of the keyring
    #[arg(long, value_name = "FILE", conflicts_with = "keyidx")]
    pub key: Option<PathBuf>,
    /// Key of the secret keyring: number in `key list --secret`, fingerprint, key id, or part of the user id
    #[arg(short, long, value_name = "KEY")]
    pub keyidx: Option<String>,
    #[command(flatten)]
    pub passphrase: PassphraseArguments,
}

impl SignWithArguments {
    /// What `build --sign=KEY` means: a PEM file that exists, else a key of the keyring; the only one, or one that is asked for,
    /// where KEY is empty.
    pub fn named(key: &str, passphrase: PassphraseArguments) -> SignWithArguments {
        let (file, index) = match key {
            "" => (None, None),
            key if Path::new(key).is_file() => (Some(PathBuf::from(key)), None),
            key => (None, Some(key.to_owned())),
        };
        SignWithArguments { key: file, keyidx: index, passphrase }
    }

    /// Finds and unlocks the key.
    pub fn unlock(&self, keysdir: Option<&Path>, terminal: &dyn Observer) -> Result<Signatory, Stop> {
        let from_environment = || lookup("SIGN_KEY", &|name| std::env::var(name).ok()).filter(|path| !path.is_empty());
        let file = self.key.clone().or_else(|| from_environment().map(PathBuf::from).filter(|_| self.keyidx.is_none()));
        if let Some(path) = file {
            terminal.observe(Event::Info(format!("Signing image with key material from '{}'", path.display())));
            return self.unlock_file(&path).map(|key| Signatory::Key(Box::new(key)));
        }
        terminal.observe(Event::Info("Signing image with PGP key material".to_owned()));
        let places = places(keysdir);
        let keyring = places.secret()?;
        let keys: Vec<_> = keyring.keys().collect();
        let public: Vec<_> = keys.iter().map(|key| key.public()).collect();
        let key = keys[choose(&public, self.keyidx.as_deref(), "private key")?];
        let policy = Policy::at(session::now().seconds);
        let refused = |error: SecretError| Stop { text: error.to_string(), code: exit::SIGNATURE };
        // A revocation that was imported or pulled is in the public keyring alone.
        if let Some(public) = places.public()?.find(&key.fingerprint())
            && policy.check_key(public) == Err(Cause::KeyRevoked)
        {
            return Err(refused(SecretError::CannotSign(key.fingerprint(), Cause::KeyRevoked)));
        }
        let passphrase = match key.is_locked() {
            true => self.passphrase.unlocking("Enter key passphrase : ")?,
            false => Passphrase::new(""),
        };
        let unlocked = key.unlock(&passphrase, &policy).map_err(refused)?;
        Ok(Signatory::Pgp(Box::new(unlocked)))
    }

    fn unlock_file(&self, path: &Path) -> Result<PrivateKey, Stop> {
        let bytes = Zeroizing::new(read(path, MAXIMUM_KEY_FILE)?);
        let fault =
            |error: KeyError| Stop::usage(format!("the private key {} cannot be used: {error}", path.display()));
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        match PrivateKey::from_pem(text, None) {
            Err(KeyError::Locked) => {
                let passphrase = self.passphrase.unlocking("Enter key passphrase : ")?;
                PrivateKey::from_pem(text, Some(passphrase.as_bytes())).map_err(fault)
            }
            other => other.map_err(fault),
        }
    }
}

pub fn run(arguments: SignArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    finish(sign_image(&arguments, &terminal))
}

fn sign_image(arguments: &SignArguments, terminal: &Terminal) -> Result<(), Stop> {
    let scope = match (arguments.group_id, arguments.sif_id) {
        (Some(group), _) => Scope::Group(group),
        (_, Some(id)) => Scope::Object(id),
        _ => Scope::Groups,
    };
    let path = &arguments.image;
    // Before a passphrase is asked for.
    sif::open(path).map_err(|error| Stop { text: error.to_string(), code: exit::SOURCE })?;
    let signatory = arguments.with.unlock(arguments.keysdir.as_deref(), terminal)?;
    let now = session::now().seconds;
    let signed_at = session::source_date_epoch().map_err(Stop::usage)?.unwrap_or(now);
    let failed = |text: String| Stop { text: format!("cannot sign {}: {text}", path.display()), code: exit::OUTPUT };
    sif::replace(path, |file| sign(file, scope, &signatory.with(), signed_at, now).map_err(|error| error.to_string()))
        .map_err(|error| Stop { text: error.to_string(), code: exit::OUTPUT })?
        .map_err(failed)?;
    terminal.observe(Event::Info(format!("Signature created and applied to image '{}'", path.display())));
    Ok(())
}
