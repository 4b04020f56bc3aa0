//! Where keyrings lie on this host: Apptainer's places and files, so that both programs see the same keys.
//!
//! | file | mode | |
//! |---|---|---|
//! | `<keys>/pgp-public` | 0600 | the user's public keys |
//! | `<keys>/pgp-secret` | 0600 | the user's secret keys |
//! | `<global>` | 0644 | public keys that the administrator gave everybody |
//!
//! `<keys>` is `--keysdir`, `KEYSDIR` or `keys` below `CONFIGDIR` or `~/.apptainer`, of mode 0700; `<global>` is
//! `global-pgp-public` below Apptainer's configuration. All are binary packets. Every change holds a lock on the directory and replaces the
//! file at once.

use crate::disk::{self, AtomicFile};
use crate::openpgp::keyring::MAXIMUM_KEYRING;
use crate::openpgp::{Fingerprint, Issuer, Keyring, KeyringError, PublicKey, SecretKeyring};
use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Keys that keyservers are asked for at once: who writes an image decides how many its signatures name.
const MAXIMUM_ASKED: usize = 16;
const PUBLIC: &str = "pgp-public";
const SECRET: &str = "pgp-secret";
const GLOBAL: &str = "global-pgp-public";
/// Where Apptainer and its forerunner are configured, by how they were installed.
pub const CONFIGURATIONS: [&str; 4] =
    ["/etc/apptainer", "/usr/local/etc/apptainer", "/etc/singularity", "/usr/local/etc/singularity"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the keyring {} cannot be read: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("the keyring {} is damaged: {cause}; it was left as it is", path.display())]
    Damaged { path: PathBuf, cause: KeyringError },
    #[error("the directory of keys {} cannot be used: {cause}", path.display())]
    Directory { path: PathBuf, cause: io::Error },
    #[error("the keyring {} cannot be written: {cause}", path.display())]
    Write { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error("the keyring {} would grow beyond 16 MiB", path.display())]
    TooLarge { path: PathBuf },
}

/// Where a key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Global,
    Local,
    Remote,
}

/// Asks a keyserver for the keys that a signature names; an error is told, and the search goes on.
pub type Ask<'a> = &'a dyn Fn(&Issuer) -> Result<Vec<PublicKey>, String>;

/// The keys that signatures name.
#[derive(Debug, Default)]
pub struct Found {
    pub keyring: Keyring,
    /// By the primary key's fingerprint.
    pub origins: BTreeMap<Fingerprint, Origin>,
    /// What keyservers answered in place of keys.
    pub faults: Vec<String>,
}

/// The keyrings' places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub directory: PathBuf,
    pub global: PathBuf,
}

impl Places {
    /// By the flag, else by the environment.
    pub fn find(keysdir: Option<&Path>, variable: &dyn Fn(&str) -> Option<OsString>) -> Places {
        let set = |name: &str| {
            let names = ["SIFBUILD_", "APPTAINER_", "SINGULARITY_"].map(|prefix| format!("{prefix}{name}"));
            names.iter().find_map(|name| variable(name)).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let home =
            || variable("HOME").filter(|value| !value.is_empty()).map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let directory = keysdir
            .map(Path::to_path_buf)
            .or_else(|| set("KEYSDIR"))
            .or_else(|| set("CONFIGDIR").map(|directory| directory.join("keys")))
            .unwrap_or_else(|| home().join(".apptainer/keys"));
        let global = set("GLOBAL_KEYRING").unwrap_or_else(|| {
            let there = CONFIGURATIONS.iter().map(Path::new).find(|directory| directory.is_dir());
            there.unwrap_or(Path::new(CONFIGURATIONS[0])).join(GLOBAL)
        });
        Places { directory, global }
    }

    pub fn public_path(&self) -> PathBuf {
        self.directory.join(PUBLIC)
    }

    pub fn secret_path(&self) -> PathBuf {
        self.directory.join(SECRET)
    }

    /// The user's public keys; none where there is no file.
    pub fn public(&self) -> Result<Keyring, Error> {
        read_public(&self.public_path())
    }

    /// Everybody's public keys; none where there is no file.
    pub fn global(&self) -> Result<Keyring, Error> {
        read_public(&self.global)
    }

    /// The user's secret keys; none where there is no file.
    pub fn secret(&self) -> Result<SecretKeyring, Error> {
        let path = self.secret_path();
        let bytes = Zeroizing::new(read(&path)?);
        SecretKeyring::read(&bytes).map_err(|cause| Error::Damaged { path, cause })
    }

    /// Looks the named keys up: in everybody's keyring, in the user's, and those that are in neither, where `ask` is given, on a
    /// keyserver, no more than 16. Keys of keyservers are not kept. A key that is in both keyrings is revoked when one of them says so.
    pub fn gather(&self, issuers: &[Issuer], ask: Option<Ask<'_>>) -> Result<Found, Error> {
        let mut found = Found::default();
        for (keyring, origin) in [(self.global()?, Origin::Global), (self.public()?, Origin::Local)] {
            for key in keyring.keys().filter(|key| issuers.iter().any(|issuer| key.is_named_by(issuer))) {
                found.add(key.clone(), origin);
            }
        }
        let Some(ask) = ask else { return Ok(found) };
        let mut asked = BTreeSet::new();
        for issuer in issuers {
            // A key may be named by its fingerprint and by its id.
            let Some(id) = issuer.key_id().filter(|id| !asked.contains(id)) else { continue };
            if found.keyring.keys().any(|key| key.is_named_by(issuer)) {
                continue;
            }
            if asked.len() == MAXIMUM_ASKED {
                found.faults.push(format!(
                    "the signatures name more than {MAXIMUM_ASKED} unknown keys; the others are not asked for"
                ));
                break;
            }
            asked.insert(id);
            match ask(issuer) {
                // A server may answer with whatever it likes.
                Ok(keys) => keys
                    .into_iter()
                    .filter(|key| key.is_named_by(issuer))
                    .for_each(|key| found.add(key, Origin::Remote)),
                Err(fault) => found.faults.push(fault),
            }
        }
        Ok(found)
    }

    /// Changes the user's public keys, or those of everybody.
    pub fn change_public<T>(&self, global: bool, change: impl FnOnce(&mut Keyring) -> T) -> Result<T, Error> {
        let (path, mode) = if global { (self.global.clone(), 0o644) } else { (self.public_path(), 0o600) };
        let _lock = if global { lock(parent(&path), 0o755)? } else { lock(&self.directory, 0o700)? };
        let mut keyring = read_public(&path)?;
        let before = keyring.to_bytes();
        let result = change(&mut keyring);
        let after = keyring.to_bytes();
        if after != before {
            write(&path, mode, &after)?;
        }
        Ok(result)
    }

    /// Changes the user's secret keys.
    pub fn change_secret<T>(&self, change: impl FnOnce(&mut SecretKeyring) -> T) -> Result<T, Error> {
        let _lock = lock(&self.directory, 0o700)?;
        let mut keyring = self.secret()?;
        let before = keyring.to_bytes();
        let result = change(&mut keyring);
        let after = keyring.to_bytes();
        if after != before {
            write(&self.secret_path(), 0o600, &after)?;
        }
        Ok(result)
    }
}

impl Found {
    fn add(&mut self, key: PublicKey, origin: Origin) {
        self.origins.entry(key.fingerprint()).or_insert(origin);
        self.keyring.insert(key);
    }
}

fn read_public(path: &Path) -> Result<Keyring, Error> {
    Keyring::read(&read(path)?).map_err(|cause| Error::Damaged { path: path.to_path_buf(), cause })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let fault = |cause| Error::Read { path: path.to_path_buf(), cause };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAXIMUM_KEYRING as u64 + 1).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

/// Makes the directory where it is not there, and waits for other writers.
fn lock(directory: &Path, mode: u32) -> Result<Flock<File>, Error> {
    let fault = |cause| Error::Directory { path: directory.to_path_buf(), cause };
    DirBuilder::new().recursive(true).mode(mode).create(directory).map_err(fault)?;
    let file = File::open(directory).map_err(fault)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| fault(error.into()))
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > MAXIMUM_KEYRING {
        return Err(Error::TooLarge { path: path.to_path_buf() });
    }
    let fault = |cause| Error::Write { path: path.to_path_buf(), cause };
    // A keyring that lies elsewhere by a link stays there.
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
        Err(error) => return Err(fault(error)),
    };
    let mut file = AtomicFile::create(&target, 0o600)?;
    file.file_mut().write_all(bytes).map_err(fault)?;
    file.file().set_permissions(Permissions::from_mode(mode)).map_err(fault)?;
    file.commit(true)?;
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openpgp::{Algorithm, NewKey, Passphrase, SecretKey};

    fn key() -> SecretKey {
        let user_id = "Ann <ann@example.org>".to_owned();
        NewKey { user_id, algorithm: Algorithm::Ed25519, passphrase: Passphrase::new("") }.generate().unwrap()
    }

    fn places(directory: &Path) -> Places {
        Places { directory: directory.join("deep/keys"), global: directory.join("etc/global-pgp-public") }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn places_are_apptainers() {
        let set = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value))
        };
        let directory = |pairs| Places::find(None, &set(pairs)).directory;
        assert_eq!(directory(&[("HOME", "/h")]), Path::new("/h/.apptainer/keys"));
        assert_eq!(directory(&[("HOME", "/h"), ("APPTAINER_CONFIGDIR", "/c")]), Path::new("/c/keys"));
        assert_eq!(directory(&[("APPTAINER_CONFIGDIR", "/c"), ("APPTAINER_KEYSDIR", "/k")]), Path::new("/k"));
        assert_eq!(directory(&[("APPTAINER_KEYSDIR", "/a"), ("SIFBUILD_KEYSDIR", "/s")]), Path::new("/s"));
        let flag = Places::find(Some(Path::new("/f")), &set(&[("SIFBUILD_KEYSDIR", "/s")]));
        assert_eq!(flag.directory, Path::new("/f"));
        assert!(flag.global.ends_with("global-pgp-public"));
    }

    #[test]
    fn files_have_apptainers_modes_and_nothing_else_appears() {
        let scratch = tempfile::tempdir().unwrap();
        let places = places(scratch.path());
        let key = key();
        places.change_public(false, |keyring| keyring.insert(key.public().clone())).unwrap();
        places.change_secret(|keyring| keyring.insert(key.clone())).unwrap();
        places.change_public(true, |keyring| keyring.insert(key.public().clone())).unwrap();
        assert_eq!(mode(&places.directory), 0o700);
        assert_eq!(
            (mode(&places.public_path()), mode(&places.secret_path()), mode(&places.global)),
            (0o600, 0o600, 0o644)
        );
        assert_eq!(std::fs::read_dir(&places.directory).unwrap().count(), 2);
        assert_eq!(places.public().unwrap().to_bytes(), key.public().to_bytes());
        assert_eq!(*places.secret().unwrap().to_bytes(), key.to_bytes());
    }

    #[test]
    fn a_damaged_keyring_is_told_and_left() {
        let scratch = tempfile::tempdir().unwrap();
        let places = places(scratch.path());
        places.change_public(false, |keyring| keyring.insert(key().public().clone())).unwrap();
        let mut bytes = std::fs::read(places.public_path()).unwrap();
        bytes.pop();
        std::fs::write(places.public_path(), &bytes).unwrap();
        let refused = places.change_public(false, |keyring| keyring.insert(key().public().clone()));
        assert!(matches!(refused, Err(Error::Damaged { .. })));
        assert_eq!(std::fs::read(places.public_path()).unwrap(), bytes);
    }

    #[test]
    fn writers_at_the_same_time_lose_no_key() {
        let scratch = tempfile::tempdir().unwrap();
        let places = places(scratch.path());
        let keys: Vec<SecretKey> = (0..8).map(|_| key()).collect();
        std::thread::scope(|scope| {
            for key in &keys {
                scope.spawn(|| places.change_public(false, |keyring| keyring.insert(key.public().clone())).unwrap());
            }
        });
        assert_eq!(places.public().unwrap().keys().count(), 8);
    }

    #[test]
    fn keys_are_looked_for_globally_then_locally_then_far_away() {
        let scratch = tempfile::tempdir().unwrap();
        let places = places(scratch.path());
        let [global, local, remote, other] = [key(), key(), key(), key()];
        places.change_public(true, |keyring| keyring.insert(global.public().clone())).unwrap();
        for key in [&global, &local] {
            places.change_public(false, |keyring| keyring.insert(key.public().clone())).unwrap();
        }
        let issuers = [&global, &local, &remote, &other].map(|key| Issuer::Fingerprint(key.fingerprint()));
        let asked = std::cell::RefCell::new(Vec::new());
        // The server does not have the last key, and gives another in its place.
        let ask = |issuer: &Issuer| {
            asked.borrow_mut().push(issuer.clone());
            Ok(vec![remote.public().clone()])
        };
        let found = places.gather(&issuers, Some(&ask)).unwrap();
        let origins: Vec<_> = found.keyring.keys().map(|key| found.origins[&key.fingerprint()]).collect();
        assert_eq!(origins, [Origin::Global, Origin::Local, Origin::Remote]);
        assert_eq!(asked.into_inner(), issuers[2..]);
        assert_eq!(places.gather(&issuers, None).unwrap().keyring.keys().count(), 2);
    }

    #[test]
    fn keyservers_are_asked_for_few_keys_and_for_none_twice() {
        let places = places(Path::new("/nonexistent"));
        let fingerprints = (0..100u8).map(|number| Fingerprint::from_bytes(&[number; 20]));
        let issuers: Vec<Issuer> = fingerprints
            .flat_map(|fingerprint| [Issuer::KeyId(fingerprint.key_id()), Issuer::Fingerprint(fingerprint)])
            .chain([Issuer::Unnamed])
            .collect();
        let asked = std::cell::RefCell::new(BTreeSet::new());
        let ask = |issuer: &Issuer| {
            assert!(asked.borrow_mut().insert(issuer.key_id()));
            Ok(Vec::new())
        };
        let found = places.gather(&issuers, Some(&ask)).unwrap();
        assert_eq!(asked.borrow().len(), 16);
        assert!(matches!(found.faults.as_slice(), [fault] if fault.contains("more than 16")));
    }

    #[test]
    fn a_keyring_that_is_a_link_stays_one() {
        let scratch = tempfile::tempdir().unwrap();
        let places = places(scratch.path());
        std::fs::create_dir_all(&places.directory).unwrap();
        let target = scratch.path().join("elsewhere");
        std::fs::write(&target, b"").unwrap();
        std::os::unix::fs::symlink(&target, places.public_path()).unwrap();
        let key = key();
        places.change_public(false, |keyring| keyring.insert(key.public().clone())).unwrap();
        assert!(places.public_path().is_symlink());
        assert_eq!(std::fs::read(target).unwrap(), key.public().to_bytes());
    }

    #[test]
    fn no_file_is_no_key() {
        let places = places(Path::new("/nonexistent"));
        assert!(places.public().unwrap().is_empty() && places.global().unwrap().is_empty());
        assert_eq!(places.secret().unwrap().keys().count(), 0);
    }
}
