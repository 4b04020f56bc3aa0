//! `Bootstrap: arch` without pacstrap, pacman or arch-chroot, and without root: repositories are asked here, packages chosen, downloaded
//! and verified here, and the distribution's own pacman does the rest in the sandbox.
//!
//! Two functions, as every agent: [`pin`] asks which packages make up the base, [`provide`] brings them. The decisions are in
//! [`crate::pacman`]. Source: facts §2.11.
//!
//! # Why a package that moves takes all others with it
//! Arch supports no partial upgrades: its packages are built against each other's newest versions and do not say so.

mod error;

pub use error::ArchError;

use super::packages::{self, Elsewhere, write_layer};
use super::yum::{Asker, Options, ProvideError, RpmBase, blob, bring_each};
use crate::arch::Arch;
use crate::definition::ArchBase as Header;
use crate::digest::Digest;
use crate::event::{Event, Observer};
use crate::fetch::FetchError;
use crate::fetch::http::{Fetch, Request, parse_url};
use crate::fetch::retry;
use crate::openpgp::policy::issuers;
use crate::openpgp::{Judge, Keyring, Policy, WeakSelfSignatures};
use crate::pacman::configuration::{self, Configuration};
use crate::pacman::script::{BOOTSTRAP, install_script};
use crate::pacman::select::{Choice, Id, Repository, select};
use crate::pacman::{PacmanPin, bootstrap, database, package};
use crate::rpm::package::{MAXIMUM_SIGNED_WHOLE, SignatureError, good};
use crate::rpm::pin::{PackagePin, RepositoryPin, RpmPin};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The distribution's own, which leads to a near one.
const MIRROR: &str = "https://geo.mirror.pkgbuild.com/$repo/os/$arch";
/// What Apptainer asks for where there is no `Include`.
const DEFAULT_PACKAGE: &str = "base";
/// Keyrings of hosts: as Arch and as Debian place them.
const HOST_KEYS: [&str; 2] = ["usr/share/pacman/keyrings/archlinux.gpg", "usr/share/keyrings/archlinux.gpg"];
/// Bytes of a compressed database, of a configuration, of a signature.
const MAXIMUM_DATABASE: u64 = 256 << 20;
const MAXIMUM_CONFIGURATION: u64 = 1 << 20;
const MAXIMUM_SIGNATURE: u64 = 64 << 10;
/// Bytes of a list of withdrawn keys.
const MAXIMUM_WITHDRAWN: u64 = 1 << 20;

/// Asks repositories which packages make up the base.
pub fn pin(
    header: &Header,
    options: &Options,
    arch: Arch,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<PacmanPin, ArchError> {
    if options.kept.is_some() {
        let text = "Arch supports no partial upgrades: all packages of the base move";
        observer.observe(Event::Warning(text.to_owned()));
    }
    let asker = Mirrors { options, architecture: name_of(arch), fetch, observer };
    let configuration = asker.configuration(header)?;
    let keyring = asker.keys(header)?;
    let (mut repositories, mut pins) = (Vec::new(), Vec::new());
    for (name, servers) in &configuration.repositories {
        let (repository, pin) = asker.repository(name, &asker.bases(header, arch, name, servers)?, &keyring)?;
        repositories.push(repository);
        pins.push(pin);
    }
    let ignored: BTreeSet<String> = configuration.ignored.into_iter().collect();
    let wanted: Vec<String> = match &header.include[..] {
        [] => vec![DEFAULT_PACKAGE.to_owned()],
        words => words.iter().map(|word| word.value.clone()).collect(),
    };
    let chosen = select(&repositories, &wanted, &ignored)?;
    let first = select(&repositories, &BOOTSTRAP.map(str::to_owned), &ignored).map_err(ArchError::NoPacman)?;
    let first: BTreeSet<Id> = first.into_iter().map(|choice| choice.id).collect();
    let reasons: BTreeMap<Id, Choice> = chosen.into_iter().map(|choice| (choice.id, choice)).collect();
    let all: BTreeSet<Id> = reasons.keys().chain(&first).copied().collect();
    let found = |id: &Id| &repositories[id.0].packages[id.1];
    let signatures = match options.check_signatures {
        true => asker.signatures(all.iter().map(|id| (found(id), &pins[id.0])))?,
        false => BTreeMap::new(),
    };
    let mut packages: Vec<PackagePin> = all
        .iter()
        .map(|id| {
            let reason = reasons.get(id).map(|choice| if choice.asked { "user" } else { "dependency" });
            pin_of(found(id), &repositories[id.0].name, reason, first.contains(id))
        })
        .collect();
    packages.sort_by(|left, right| left.name.cmp(&right.name));
    let base = RpmPin {
        agent: "arch".to_owned(),
        os_version: String::new(),
        architecture: asker.architecture.to_owned(),
        date: all.iter().map(|id| found(id).build_time).max().unwrap_or(0),
        checked: options.check_signatures,
        repositories: pins,
        keys: signers(&keyring, &signatures)?.to_bytes(),
        packages,
    };
    Ok(PacmanPin { base, signatures })
}

/// As `uname -m` says it, with pacman's own name for 32-bit ARM.
fn name_of(arch: Arch) -> &'static str {
    if arch == Arch::Arm { "armv7h" } else { arch.rpm() }
}

fn pin_of(package: &database::Package, repository: &str, reason: Option<&str>, bootstrap: bool) -> PackagePin {
    PackagePin {
        reason: reason.map(str::to_owned),
        bootstrap,
        name: package.name.clone(),
        evr: package.version.clone(),
        arch: package.architecture.clone(),
        repository: repository.to_owned(),
        checksum: package.checksum.clone(),
        size: package.size,
        installed_size: package.installed_size,
        location: package.file_name.clone(),
    }
}

/// Of a distribution's many keys those that signed the packages; one that is missing is told before anything is downloaded.
fn signers(keyring: &Keyring, signatures: &BTreeMap<String, Vec<u8>>) -> Result<Keyring, ArchError> {
    let mut signers = Keyring::new();
    for (package, block) in signatures {
        let named = issuers(block).map_err(|cause| ArchError::Block { url: package.clone(), cause })?;
        let keys: Vec<_> = keyring.keys().filter(|key| named.iter().any(|issuer| key.is_named_by(issuer))).collect();
        if let ([], [issuer, ..]) = (&keys[..], &named[..]) {
            return Err(ArchError::UnknownSigner { package: package.clone(), issuer: issuer.clone() });
        }
        for key in keys {
            signers.insert(key.clone());
        }
    }
    Ok(signers)
}

struct Mirrors<'a> {
    options: &'a Options,
    architecture: &'static str,
    fetch: &'a dyn Fetch,
    observer: &'a dyn Observer,
}

impl Mirrors<'_> {
    fn configuration(&self, header: &Header) -> Result<Configuration, ArchError> {
        let Some(url) = header.conf_url.as_ref().map(|url| url.value.as_str()) else {
            let repositories = configuration::DEFAULT.map(|name| (name.to_owned(), Vec::new())).into();
            return Ok(Configuration { repositories, ..Configuration::default() });
        };
        let bytes = self.get(url, MAXIMUM_CONFIGURATION)?;
        let found = configuration::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|cause| ArchError::Configuration { url: url.to_owned(), cause })?;
        if !found.architectures.is_empty() && !found.architectures.iter().any(|name| name == self.architecture) {
            let wanted = found.architectures.join(" or ");
            return Err(ArchError::OtherArchitecture { url: url.to_owned(), wanted, found: self.architecture });
        }
        found.notes.iter().for_each(|note| self.observer.observe(Event::Warning(format!("ConfURL: {note}"))));
        Ok(found)
    }

    /// The keys that count; those that a keyring's own list withdraws do not.
    fn keys(&self, header: &Header) -> Result<Keyring, ArchError> {
        if !self.options.check_signatures {
            self.observer.observe(Event::Warning("signatures of packages are not checked".into()));
            return Ok(Keyring::new());
        }
        let asker = Asker { options: self.options, fetch: self.fetch, observer: self.observer, host_keys: &HOST_KEYS };
        let mut keyring = asker.keys(&header.keys, &header.fingerprints, &[])?;
        let host = HOST_KEYS.iter().map(|path| self.options.host_root.join(path));
        for path in self.options.keyrings.iter().cloned().chain(host) {
            let withdrawn = withdrawn(&path);
            let keys = keyring.keys().map(|key| key.fingerprint());
            let gone: Vec<_> = keys.filter(|key| withdrawn.contains(&key.to_string())).collect();
            for key in gone {
                keyring.remove(&key);
            }
        }
        if keyring.is_empty() { Err(ArchError::NoKeys) } else { Ok(keyring) }
    }

    /// Where a repository may be, each with a slash at its end.
    fn bases(&self, header: &Header, arch: Arch, name: &str, servers: &[String]) -> Result<Vec<String>, ArchError> {
        let named = header.mirror_url.as_ref().map(|url| url.value.as_str());
        let servers: Vec<&str> = match (servers, named) {
            ([], Some(url)) if !url.contains("$repo") && !url.contains("${repo}") => {
                return Err(ArchError::NoRepository(url.to_owned()));
            }
            ([], Some(url)) => vec![url],
            ([], None) if arch != Arch::Amd64 => return Err(ArchError::Architecture(self.architecture)),
            ([], None) => vec![MIRROR],
            (servers, _) => servers.iter().map(String::as_str).collect(),
        };
        let complete = |url: &str| {
            let url = url.replace("${repo}", name).replace("$repo", name);
            let url = url.replace("${arch}", self.architecture).replace("$arch", self.architecture);
            format!("{}/", url.trim_end_matches('/'))
        };
        Ok(servers.into_iter().map(complete).collect())
    }

    /// From the first base that has it.
    fn repository(
        &self,
        name: &str,
        bases: &[String],
        keyring: &Keyring,
    ) -> Result<(Repository, RepositoryPin), ArchError> {
        let mut failures = Vec::new();
        for (at, base) in bases.iter().enumerate() {
            let url = format!("{base}{name}.db");
            let bytes = match self.get(&url, MAXIMUM_DATABASE) {
                Ok(bytes) => bytes,
                Err(error) => {
                    failures.push(error.to_string());
                    continue;
                }
            };
            let signers = if self.options.check_signatures { self.verify(&url, &bytes, keyring)? } else { Vec::new() };
            let mut packages = database::read(&bytes[..]).map_err(|cause| ArchError::Database { url, cause })?;
            packages.retain(|package| [self.architecture, "any"].contains(&package.architecture.as_str()));
            let mut bases = bases.to_vec();
            bases.rotate_left(at);
            let digest = Digest::of(&bytes);
            let pin = RepositoryPin { name: name.to_owned(), digest, bases, signers };
            return Ok((Repository { name: name.to_owned(), packages }, pin));
        }
        Err(ArchError::NoMirror { repository: name.to_owned(), failures: failures.join("; ") })
    }

    /// Who signed a database. Compat: as Arch configures pacman, one that is not signed is taken; its packages are.
    fn verify(&self, url: &str, bytes: &[u8], keyring: &Keyring) -> Result<Vec<String>, ArchError> {
        let block = match self.get(&format!("{url}.sig"), MAXIMUM_SIGNATURE) {
            Ok(block) => block,
            Err(error) if matches!(error.status(), Some(403 | 404 | 410)) => return Ok(Vec::new()),
            Err(FetchError::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let policy = Policy { now, weak_self_signatures: WeakSelfSignatures::Accept };
        match good(&mut Judge::new(policy, keyring), bytes, &[block]) {
            Ok(signers) => Ok(signers),
            Err(SignatureError::Block(cause)) => Err(ArchError::Block { url: url.to_owned(), cause }),
            Err(SignatureError::NoneGood(refusals)) => Err(ArchError::Signature { url: url.to_owned(), refusals }),
            Err(_) => unreachable!("signatures over bytes are good or not"),
        }
    }

    /// By package: from the database, else from the file beside the package.
    fn signatures<'p>(
        &self,
        packages: impl Iterator<Item = (&'p database::Package, &'p RepositoryPin)>,
    ) -> Result<BTreeMap<String, Vec<u8>>, ArchError> {
        packages
            .map(|(package, repository)| {
                let signature = match &package.signature {
                    Some(bytes) => bytes.clone(),
                    None => self
                        .get(&format!("{}{}.sig", repository.bases[0], package.file_name), MAXIMUM_SIGNATURE)
                        .map_err(|cause| ArchError::Unsigned { package: package.name.clone(), cause })?,
                };
                Ok((package.name.clone(), signature))
            })
            .collect()
    }

    fn get(&self, url: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        let request = Request::get(parse_url(url)?);
        Ok(retry::get(self.fetch, &request, limit, self.observer)?.bytes)
    }
}

/// Fingerprints of keys that `NAME-revoked` beside the keyring `NAME.gpg` takes back.
fn withdrawn(keyring: &Path) -> BTreeSet<String> {
    let list = keyring.file_stem().map(|name| keyring.with_file_name(format!("{}-revoked", name.to_string_lossy())));
    let mut text = String::new();
    let read = list.and_then(|path| File::open(path).ok()?.take(MAXIMUM_WITHDRAWN).read_to_string(&mut text).ok());
    if read.is_none() {
        return BTreeSet::new();
    }
    text.lines().map(|line| line.trim().to_ascii_uppercase()).collect()
}

/// Downloads what is not in `blobs` yet, verifies all, and makes the layer and a folder of package files in `work`, which must outlive
/// the script.
pub fn provide(
    pin: &PacmanPin,
    blobs: &Path,
    work: &Path,
    elsewhere: &Elsewhere,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<RpmBase, ProvideError> {
    bring(pin, blobs, elsewhere, fetch, observer)?;
    let installed = pin.base.packages.iter().filter(|package| package.reason.is_some());
    let files = installed.map(|package| (blob(blobs, package), package.location.clone()));
    let packages: PathBuf = packages::stage(files, work)?;
    let open = |package: &PackagePin| packages::open(&blob(blobs, package));
    let layer = write_layer(work.join("bootstrap.tar"), |writer| {
        bootstrap::write(pin, open, writer).map_err(ProvideError::from)
    })?;
    Ok(RpmBase { layer, script: install_script(pin), packages })
}

/// Brings the package files that are not among the blobs, and verifies all.
pub fn bring(
    pin: &PacmanPin,
    blobs: &Path,
    elsewhere: &Elsewhere,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<(), ProvideError> {
    let verify = |file: &mut File, package: &PackagePin, judge: &mut Judge<'_>| {
        let signers = match (pin.base.checked, pin.signatures.get(&package.name)) {
            (false, _) => Vec::new(),
            (true, None) => return Err(SignatureError::Unsigned),
            (true, Some(signature)) => {
                let mut bytes = Vec::new();
                file.rewind()?;
                file.take(MAXIMUM_SIGNED_WHOLE).read_to_end(&mut bytes)?;
                good(judge, &bytes, std::slice::from_ref(signature))?
            }
        };
        file.rewind()?;
        // A database is not signed: it may give an old package, or another one, a new name.
        let (wanted, found) = (package.nevra(), package::identity(&mut *file)?);
        if found == wanted { Ok(signers) } else { Err(SignatureError::OtherPackage { wanted, found }) }
    };
    bring_each(&pin.base, blobs, elsewhere, fetch, observer, &verify).map(drop)
}
