//! `Bootstrap: yum`, `dnf` and `zypper` without any of them, without rpm and without root: repositories are asked and checked here, packages
//! chosen, downloaded and verified here, and the distribution's own rpm does the rest in the sandbox.
//!
//! Two functions, as every agent: [`pin`] asks which packages make up the base, [`provide`] brings them. The decisions are
//! in [`crate::rpm`]. Source: facts §2.9, §2.10.

mod error;
mod keys;
mod provide;
pub mod repository;
mod setopt;
pub mod universe;

pub use error::YumError;
pub(super) use keys::Asker;
pub use keys::read_files as read_keys;
pub use provide::{ProvideError, RpmBase, bring, provide};
pub(super) use provide::{blob, bring_each};
pub use repository::{Source, Trust};
pub use universe::{Choice, Question, choose};

use super::packages::Kept;
use crate::arch::Arch;
use crate::definition::YumBase as Header;
use crate::event::{Event, Observer};
use crate::fetch::http::{Fetch, parse_url};
use crate::rpm::pin::{PackagePin, RepositoryPin, RpmPin};
use crate::rpm::pool::{PackageId, Pool};
use crate::rpm::script::BOOTSTRAP;
use crate::rpm::solve::{Reason, Request, select, solve};
use repository::Access;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the command line and the environment say about RPM bases.
#[derive(Clone, Debug)]
pub struct Options {
    /// Instead of the host's keys; `--keyring`.
    pub keyrings: Vec<PathBuf>,
    /// Address of a key; `GPG`, as Apptainer reads it.
    pub key_url: Option<String>,
    /// Signatures must hold; off by `--no-check-signatures`.
    pub check_signatures: bool,
    /// `--allow-sha1`.
    pub allow_sha1: bool,
    /// The host's root directory, where keys are looked for.
    pub host_root: PathBuf,
    /// Where metadata is kept.
    pub metadata: Option<PathBuf>,
    /// What stays as a lock has it.
    pub kept: Option<Kept>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            keyrings: Vec::new(),
            key_url: None,
            check_signatures: true,
            allow_sha1: false,
            host_root: PathBuf::from("/"),
            metadata: None,
            kept: None,
        }
    }
}

/// Asks repositories which packages make up the base.
pub fn pin(
    header: &Header,
    options: &Options,
    arch: Arch,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<RpmPin, YumError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let settings = setopt::read(header.setopt.as_deref().unwrap_or(""))?;
    let sources: Vec<Source> = sources(header, arch)?
        .into_iter()
        .map(|source| Source { tls: settings.tls_of(&source.name), ..source })
        .collect();
    settings.ignored.iter().for_each(|text| {
        observer.observe(Event::Warning(format!("Setopt: {text} changes nothing here")));
    });
    sources.iter().try_for_each(|source| source.present(&source.url, fetch))?;
    for url in options.key_url.iter().chain(header.keys.iter().map(|word| &word.value)) {
        // Compat: dnf asks for keys as for the repository that names them. What is no address is told where it is asked.
        let _ = sources[0].present(url, fetch);
    }
    let asker = Asker { options, fetch, observer, host_keys: &keys::FOLDERS };
    let inside: Vec<String> =
        sources.iter().map(|one| format!("{}/repodata/repomd.xml.key", one.url.trim_end_matches('/'))).collect();
    let keyring = match options.check_signatures {
        true => asker.keys(&header.keys, &header.fingerprints, &inside)?,
        false => Default::default(),
    };
    let trust = Trust { keyring, check_signatures: options.check_signatures, allow_sha1: options.allow_sha1, now };
    if !trust.check_signatures {
        observer.observe(Event::Warning("signatures of repositories and packages are not checked".into()));
    } else if trust.keyring.is_empty() {
        return Err(YumError::NoKeys);
    }
    let access = Access { fetch, observer, trust: &trust, cache: options.metadata.clone() };
    let question = Question {
        sources,
        modules: header.modules.iter().map(|word| word.value.clone()).collect(),
        packages: wanted(header),
        excluded: settings.excluded,
        no_weak: settings.no_weak,
        arch,
        files: kept_files(options.kept.as_ref())?,
        kept: options.kept.clone(),
    };
    let choice = choose(&access, &question)?;
    let Choice { mut pool, repositories, solution, favoured } = choice;
    let bootstrap = bootstrap_packages(&mut pool, favoured)?;
    let reasons: BTreeMap<PackageId, Reason> = solution.install.into_iter().collect();
    let all: BTreeSet<PackageId> = reasons.keys().chain(&bootstrap).copied().collect();
    let mut packages: Vec<PackagePin> = all
        .iter()
        .map(|package| pin_of(&pool, *package, reasons.get(package).copied(), bootstrap.contains(package)))
        .collect();
    packages.sort_by(|left, right| (&left.name, &left.evr, &left.arch).cmp(&(&right.name, &right.evr, &right.arch)));
    check_locations(&pool, &all)?;
    Ok(RpmPin {
        agent: header.agent.clone(),
        os_version: header.os_version.clone().unwrap_or_default(),
        architecture: arch.rpm().to_owned(),
        date: all.iter().map(|package| pool.packages()[*package].build_time).max().unwrap_or(0),
        checked: trust.check_signatures,
        repositories: repositories
            .into_iter()
            .map(|one| RepositoryPin {
                name: one.name,
                digest: one.repomd_digest,
                bases: one.bases,
                signers: one.signers,
            })
            .collect(),
        keys: trust.keyring.to_bytes(),
        packages,
    })
}

/// The packages that are to stay, and where their files are.
fn kept_files(kept: Option<&Kept>) -> Result<Vec<(PackagePin, PathBuf)>, YumError> {
    let Some(kept) = kept else { return Ok(Vec::new()) };
    let pin = RpmPin::parse(&kept.lines)?;
    let stays = pin.packages.into_iter().filter(|one| !kept.moving.contains(&one.name));
    Ok(stays.map(|one| (one.clone(), provide::blob(&kept.blobs, &one))).collect())
}

/// Lets the mirrors of a pinned base see the certificates that the header names.
pub fn present(header: &Header, pin: &RpmPin, fetch: &dyn Fetch) -> Result<(), YumError> {
    let settings = setopt::read(header.setopt.as_deref().unwrap_or(""))?;
    for repository in &pin.repositories {
        let Some(files) = settings.tls_of(&repository.name) else { continue };
        repository.bases.iter().try_for_each(|base| parse_url(base).map(|url| fetch.present(&url, &files)))?;
    }
    Ok(())
}

/// Compat: Apptainer asks for these before `Include`.
fn wanted(header: &Header) -> Vec<String> {
    let first: &[&str] = if header.agent == "zypper" { &["aaa_base"] } else { &["/etc/redhat-release", "coreutils"] };
    let include = header.include.iter().map(|word| word.value.clone());
    first.iter().map(|name| (*name).to_owned()).chain(include).collect()
}

fn sources(header: &Header, arch: Arch) -> Result<Vec<Source>, YumError> {
    let version = header.os_version.as_deref();
    let complete = |url: &str| complete(url, version, arch);
    let mut sources =
        vec![Source { name: "base".into(), url: complete(&header.mirror_url.value)?, priority: 99, tls: None }];
    if let Some(url) = &header.update_url {
        sources.push(Source { name: "updates".into(), url: complete(&url.value)?, priority: 99, tls: None });
    }
    for (number, url) in header.other_urls.iter().enumerate() {
        // `NAME=URL` where the name has no colon, which every URL has before its first equals sign.
        let is_named = url.value.split_once('=').is_some_and(|(name, _)| !name.contains([':', '/']));
        let source = match is_named {
            true => Source::parse(&url.value)?,
            false => Source { name: format!("other{number}"), url: url.value.clone(), priority: 99, tls: None },
        };
        sources.push(Source { url: complete(&source.url)?, ..source });
    }
    for (at, source) in sources.iter().enumerate() {
        if sources[..at].iter().any(|other| other.name == source.name) {
            return Err(YumError::BadSource(source.name.clone()));
        }
    }
    Ok(sources)
}

/// Replaces `%{OSVERSION}` in any case, and dnf's `$releasever`, `$basearch` and `$arch`.
fn complete(url: &str, version: Option<&str>, arch: Arch) -> Result<String, YumError> {
    const PLACEHOLDER: &str = "%{osversion}";
    let mut done = String::new();
    let mut rest = url;
    while let Some(at) = rest.to_ascii_lowercase().find(PLACEHOLDER) {
        done.push_str(&rest[..at]);
        done.push_str(version.ok_or_else(|| YumError::NoVersion(url.to_owned()))?);
        rest = &rest[at + PLACEHOLDER.len()..];
    }
    done.push_str(rest);
    for (name, value) in [("releasever", version), ("basearch", Some(arch.rpm())), ("arch", Some(arch.rpm()))] {
        for variable in [format!("${{{name}}}"), format!("${name}")] {
            if done.contains(&variable) {
                done = done.replace(&variable, value.ok_or_else(|| YumError::NoVersion(url.to_owned()))?);
            }
        }
    }
    Ok(done)
}

/// rpm and what it needs to install the others.
fn bootstrap_packages(pool: &mut Pool, favoured: BTreeSet<PackageId>) -> Result<BTreeSet<PackageId>, YumError> {
    let names: Vec<String> = BOOTSTRAP.iter().map(|name| (*name).to_owned()).collect();
    let wishes = select(pool, &[], &names).map_err(YumError::NoRpm)?;
    let solution = solve(pool, &Request { wishes, no_weak: true, favoured })?;
    Ok(solution.install.into_iter().map(|(package, _)| package).collect())
}

fn pin_of(pool: &Pool, package: PackageId, reason: Option<Reason>, bootstrap: bool) -> PackagePin {
    let described = &pool.packages()[package];
    PackagePin {
        reason: reason.map(|reason| reason.name().to_owned()),
        bootstrap,
        name: pool.name_of(package).to_owned(),
        evr: pool.evr_of(package).to_owned(),
        arch: pool.arch_of(package).to_owned(),
        repository: pool.repository_of(package).name.clone(),
        checksum: described.checksum.clone(),
        size: described.size,
        installed_size: described.installed_size,
        location: described.location.clone(),
    }
}

/// Metadata may place a package elsewhere than below its repository; that is rare, and not known here.
fn check_locations(pool: &Pool, packages: &BTreeSet<PackageId>) -> Result<(), YumError> {
    match packages.iter().find(|package| pool.packages()[**package].location_base.is_some()) {
        None => Ok(()),
        Some(package) => Err(YumError::Elsewhere(pool.nevra(*package))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        let arch = Arch::Amd64;
        let done = |url: &str, version| complete(url, version, arch).ok();
        assert_eq!(done("http://a/%{OSVERSION}/%{OsVersion}/", Some("9")).as_deref(), Some("http://a/9/9/"));
        assert_eq!(done("http://a/$releasever/$basearch/", Some("9")).as_deref(), Some("http://a/9/x86_64/"));
        assert_eq!(done("http://a/${basearch}/", None).as_deref(), Some("http://a/x86_64/"));
        assert_eq!(done("http://a/%{OSVERSION}/", None), None);
    }
}
