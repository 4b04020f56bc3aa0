//! Brings what a pin names: the package files, verified, and the bootstrap root as one layer.

use crate::agent::packages::{self, DownloadError, Elsewhere, Missing, PathError, write_layer};
use crate::event::Observer;
use crate::fetch::http::Fetch;
use crate::openpgp::{Judge, Keyring, KeyringError, Policy, WeakSelfSignatures};
use crate::rpm::bootstrap::{self, BootstrapError};
use crate::rpm::metadata::Checksum;
use crate::rpm::package::{PackageTrust, SignatureError, verify};
use crate::rpm::pin::{PackagePin, RpmPin};
use crate::rpm::script::{KEY_PREFIX, install_script};
use crate::store::{LayerBlob, mark_used};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A base that is ready for the sandbox: lay out `layer`, bind `packages` and an empty directory, run `script`.
#[derive(Clone, Debug)]
pub struct RpmBase {
    /// The bootstrap root: an uncompressed tar archive.
    pub layer: LayerBlob,
    pub script: String,
    /// The package files, and the keys.
    pub packages: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ProvideError {
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Pacman(#[from] crate::pacman::bootstrap::BootstrapError),
    #[error("the package {package} from the repository {repository} is refused: {cause}")]
    Refused { package: String, repository: String, cause: SignatureError },
    #[error("the package {package} is {found}, but {wanted} was promised; the mirror is being updated or damaged")]
    Checksum { package: String, wanted: Checksum, found: Checksum },
    #[error("the kept package file {path} is damaged; remove it", path = path.display())]
    Damaged { path: PathBuf },
    #[error("the keys of the base cannot be read: {0}")]
    Keys(#[from] KeyringError),
}

/// Downloads what is not in `blobs` yet, verifies all, and makes the layer and a folder of package files in `work`, which must outlive
/// the script.
pub fn provide(
    pin: &RpmPin,
    blobs: &Path,
    work: &Path,
    elsewhere: &Elsewhere,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<RpmBase, ProvideError> {
    let signers = bring(pin, blobs, elsewhere, fetch, observer)?;
    let keyring = keyring(pin)?;
    // Those that are installed, under the names that rpm tells.
    let installed = pin.packages.iter().filter(|package| package.reason.is_some());
    let packages = packages::stage(installed.map(|package| (blob(blobs, package), package.file_name())), work)?;
    let signed = keyring.keys().filter(|key| signers.contains(&key.fingerprint().to_string()));
    for (number, key) in signed.enumerate() {
        let path = packages.join(format!("{KEY_PREFIX}{number}.asc"));
        std::fs::write(&path, key.to_armor()).map_err(PathError::at("cannot write", &path))?;
    }
    let open = |package: &PackagePin| packages::open(&blob(blobs, package));
    let layer = write_layer(work.join("bootstrap.tar"), |writer| {
        bootstrap::write(pin, open, writer).map_err(ProvideError::from)
    })?;
    Ok(RpmBase { layer, script: install_script(pin), packages })
}

pub(in crate::agent) fn blob(blobs: &Path, package: &PackagePin) -> PathBuf {
    packages::place(blobs, &package.checksum)
}

/// Brings the package files that are not among the blobs, and verifies all. Gives the fingerprints of the keys that signed them.
pub fn bring(
    pin: &RpmPin,
    blobs: &Path,
    elsewhere: &Elsewhere,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<BTreeSet<String>, ProvideError> {
    bring_each(pin, blobs, elsewhere, fetch, observer, &|file, package, judge| {
        let repository = pin.repositories.iter().find(|one| one.name == package.repository);
        let is_signed = repository.is_some_and(|one| !one.signers.is_empty());
        let trust = if pin.checked { PackageTrust::Keys(judge) } else { PackageTrust::Unchecked };
        let is_covered = is_signed && !package.checksum.is_weak();
        verify(file, &package.nevra(), is_covered, trust)
    })
}

/// Says who signed a package file.
type Verify<'a> = dyn Fn(&mut File, &PackagePin, &mut Judge<'_>) -> Result<Vec<String>, SignatureError> + Sync + 'a;

/// As [`bring`], whatever the format of the packages: `verify` judges a file whose checksum is right.
pub(in crate::agent) fn bring_each(
    pin: &RpmPin,
    blobs: &Path,
    elsewhere: &Elsewhere,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
    verify: &Verify<'_>,
) -> Result<BTreeSet<String>, ProvideError> {
    let mut missing = Vec::new();
    for package in &pin.packages {
        let destination = blob(blobs, package);
        if destination.exists() {
            mark_used(&destination);
            continue;
        }
        let bases = pin.repositories.iter().find(|one| one.name == package.repository).map(|one| one.bases.clone());
        missing.push(Missing {
            label: package.nevra(),
            name: &package.name,
            checksum: package.checksum.clone(),
            size: package.size,
            location: &package.location,
            bases: bases.unwrap_or_default(),
            destination,
        });
    }
    elsewhere.download(&missing, fetch, observer)?;
    verify_all(pin, blobs, &keyring(pin)?, verify)
}

fn keyring(pin: &RpmPin) -> Result<Keyring, ProvideError> {
    let mut keyring = Keyring::new();
    if !pin.keys.is_empty() {
        keyring.add(&pin.keys)?;
    }
    Ok(keyring)
}

/// Checksum, digests and signature of every package file: disks and other programs may have changed what was kept. Gives the
/// fingerprints of the keys that signed them.
fn verify_all(
    pin: &RpmPin,
    blobs: &Path,
    keyring: &Keyring,
    verify: &Verify<'_>,
) -> Result<BTreeSet<String>, ProvideError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let policy = Policy { now, weak_self_signatures: WeakSelfSignatures::Accept };
    let next = AtomicUsize::new(0);
    // The failure of the first package is told, whichever thread was first.
    let failure: Mutex<Option<(usize, ProvideError)>> = Mutex::new(None);
    let signers: Mutex<BTreeSet<String>> = Mutex::default();
    let work = || {
        let mut judge = Judge::new(policy, keyring);
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(package) = pin.packages.get(at) else { return };
            match verify_one(package, &blob(blobs, package), &mut judge, verify) {
                Ok(found) => signers.lock().unwrap_or_else(|poison| poison.into_inner()).extend(found),
                Err(error) => {
                    let mut failure = failure.lock().unwrap_or_else(|poison| poison.into_inner());
                    if failure.as_ref().is_none_or(|(earlier, _)| at < *earlier) {
                        *failure = Some((at, error));
                    }
                    return;
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(|poison| poison.into_inner()) {
        Some((_, error)) => Err(error),
        None => Ok(signers.into_inner().unwrap_or_else(|poison| poison.into_inner())),
    }
}

fn verify_one(
    package: &PackagePin,
    path: &Path,
    judge: &mut Judge<'_>,
    verify: &Verify<'_>,
) -> Result<Vec<String>, ProvideError> {
    let mut file = File::open(path).map_err(PathError::at("cannot read", path))?;
    let found =
        packages::checksum(&mut file, package.checksum.algorithm()).map_err(PathError::at("cannot read", path))?;
    if found != package.checksum {
        // What comes from a mirror is in place only when it is right, where the downloader knows the algorithm.
        return Err(match package.checksum.digest() {
            Some(_) => ProvideError::Damaged { path: path.to_path_buf() },
            None => {
                let _ = std::fs::remove_file(path);
                ProvideError::Checksum { package: package.nevra(), wanted: package.checksum.clone(), found }
            }
        });
    }
    verify(&mut file, package, judge).map_err(|cause| ProvideError::Refused {
        package: package.nevra(),
        repository: package.repository.clone(),
        cause,
    })
}
