//! What an RPM base is, once it is decided: repositories, packages with their checksums, and the keys that must have signed them.

use super::metadata::Checksum;
use super::metadata::primary::is_word;
use super::metadata::repomd::is_relative;
use crate::digest::Digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Number of the way in which packages are installed: another way is another base.
const METHOD: u32 = 2;
/// The line of a base whose signatures were not checked.
pub const UNCHECKED: &str = "signatures unchecked";

/// A repository as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryPin {
    pub name: String,
    /// Of `repomd.xml`.
    pub digest: Digest,
    /// Bases, each with a slash at its end, the one that answered first.
    pub bases: Vec<String>,
    /// Fingerprints of keys that signed `repomd.xml`; none: it is not signed, or was not checked.
    pub signers: Vec<String>,
}

/// One package of a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagePin {
    /// `user`, `group`, `dependency` or `weak`; none: it is only needed to install the others.
    pub reason: Option<String>,
    /// Unpacked before anything is installed: rpm and what it needs.
    pub bootstrap: bool,
    pub name: String,
    pub evr: String,
    pub arch: String,
    /// Name of its repository.
    pub repository: String,
    pub checksum: Checksum,
    /// Bytes of the file, and of what is in it.
    pub size: u64,
    pub installed_size: u64,
    /// Below the repository's base.
    pub location: String,
}

impl PackagePin {
    pub fn nevra(&self) -> String {
        format!("{}-{}.{}", self.name, self.evr, self.arch)
    }

    /// Without the epoch's colon.
    pub fn file_name(&self) -> String {
        format!("{}.rpm", self.nevra().replace(':', "%3a"))
    }
}

/// An RPM base, complete: with its repositories, or any store that has these checksums, nothing else is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpmPin {
    /// `yum`, `dnf` or `zypper`.
    pub agent: String,
    /// `OSVersion`, empty when there is none.
    pub os_version: String,
    /// rpm's name.
    pub architecture: String,
    /// Seconds since the epoch: when the newest package was built. No time in the base is later.
    pub date: i64,
    /// Signatures of packages must hold.
    pub checked: bool,
    pub repositories: Vec<RepositoryPin>,
    /// A keyring: the keys that may have signed packages.
    pub keys: Vec<u8>,
    /// By name.
    pub packages: Vec<PackagePin>,
}

/// Why lines are not an RPM base.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    #[error("{0:?} is not a line of an RPM base")]
    Line(String),
    #[error("it has no {0}")]
    Missing(&'static str),
}

impl RpmPin {
    /// The packages to unpack first, `filesystem` before the others.
    pub fn bootstrap(&self) -> Vec<&PackagePin> {
        let mut packages: Vec<&PackagePin> = self.packages.iter().filter(|package| package.bootstrap).collect();
        packages.sort_by_key(|package| (package.name != "filesystem", &package.name, &package.arch));
        packages
    }

    /// Everything, one line a value, a repository, a package.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("agent {}", self.agent),
            format!("method {METHOD}"),
            format!("os-version {}", self.os_version),
            format!("architecture {}", self.architecture),
            format!("date {}", self.date),
            if self.checked { "signatures checked".to_owned() } else { UNCHECKED.to_owned() },
            format!("keys {}", STANDARD.encode(&self.keys)),
        ];
        lines.extend(self.repositories.iter().map(|one| {
            let signers = if one.signers.is_empty() { "-".to_owned() } else { one.signers.join(",") };
            format!("repository {} {} {signers} {}", one.name, one.digest, one.bases.join(" "))
        }));
        lines.extend(self.packages.iter().map(|one| {
            let reason = one.reason.as_deref().unwrap_or("-");
            let bootstrap = if one.bootstrap { "bootstrap" } else { "-" };
            format!(
                "package {} {} {} {reason} {bootstrap} {} {} {} {} {}",
                one.name, one.evr, one.arch, one.repository, one.checksum, one.size, one.installed_size, one.location
            )
        }));
        lines
    }

    /// Reads what [`RpmPin::lines`] wrote.
    pub fn parse(lines: &[String]) -> Result<RpmPin, PinError> {
        let value = |name: &'static str| {
            let found = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found.map(str::to_owned).ok_or(PinError::Missing(name))
        };
        let bad = |line: &str| PinError::Line(line.chars().take(160).collect());
        let list = |prefix: &'static str| lines.iter().filter_map(move |line| Some((line, line.strip_prefix(prefix)?)));
        let repositories: Vec<RepositoryPin> = list("repository ")
            .map(|(line, rest)| parse_repository(rest).ok_or_else(|| bad(line)))
            .collect::<Result<_, _>>()?;
        let packages: Vec<PackagePin> = list("package ")
            .map(|(line, rest)| parse_package(rest).ok_or_else(|| bad(line)))
            .collect::<Result<_, _>>()?;
        let known = |package: &&PackagePin| !repositories.iter().any(|one| one.name == package.repository);
        if let Some(stray) = packages.iter().find(known) {
            return Err(PinError::Line(format!("package {} of the repository {}", stray.nevra(), stray.repository)));
        }
        Ok(RpmPin {
            agent: value("agent")?,
            os_version: value("os-version")?,
            architecture: value("architecture")?,
            date: value("date")?.parse().map_err(|_| PinError::Missing("date"))?,
            checked: value("signatures")? != "unchecked",
            keys: STANDARD.decode(value("keys")?).map_err(|_| PinError::Missing("keys"))?,
            repositories,
            packages,
        })
    }
}

/// Invariant: a lock file is edited by people; names and paths from it are checked as those of metadata.
fn parse_repository(text: &str) -> Option<RepositoryPin> {
    let words: Vec<&str> = text.split(' ').collect();
    let [name, digest, signers, bases @ ..] = &words[..] else { return None };
    if !is_word(name) || bases.is_empty() || !bases.iter().all(|base| base.ends_with('/') && base.contains("://")) {
        return None;
    }
    let signers = signers.split(',').filter(|signer| *signer != "-").map(str::to_owned).collect();
    let bases = bases.iter().map(|base| (*base).to_owned()).collect();
    Some(RepositoryPin { name: (*name).to_owned(), digest: digest.parse().ok()?, bases, signers })
}

fn parse_package(text: &str) -> Option<PackagePin> {
    let mut words = text.splitn(10, ' ');
    let mut next = || words.next();
    let (name, evr, arch) = (next()?, next()?, next()?);
    let (reason, bootstrap, repository) = (next()?, next()?, next()?);
    let (checksum, size, installed_size, location) = (next()?, next()?, next()?, next()?);
    if ![name, evr, arch, repository].iter().all(|word| is_word(word)) || !is_relative(location) {
        return None;
    }
    Some(PackagePin {
        reason: Some(reason).filter(|reason| *reason != "-").map(str::to_owned),
        bootstrap: bootstrap == "bootstrap",
        name: name.to_owned(),
        evr: evr.to_owned(),
        arch: arch.to_owned(),
        repository: repository.to_owned(),
        checksum: Checksum::parse(checksum)?,
        size: size.parse().ok()?,
        installed_size: installed_size.parse().ok()?,
        location: location.to_owned(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::rpm::metadata::ChecksumAlgorithm;
    use proptest::prelude::*;

    pub(crate) fn sample() -> RpmPin {
        let package = |name: &str, reason: Option<&str>, bootstrap| PackagePin {
            reason: reason.map(str::to_owned),
            bootstrap,
            name: name.into(),
            evr: "1:2.0-3".into(),
            arch: "x86_64".into(),
            repository: "base".into(),
            checksum: Checksum::of(ChecksumAlgorithm::Sha512, name.as_bytes()),
            size: 5,
            installed_size: 13,
            location: format!("Packages/{name} file.rpm"),
        };
        RpmPin {
            agent: "dnf".into(),
            os_version: String::new(),
            architecture: "x86_64".into(),
            date: 1_700_000_000,
            checked: true,
            repositories: vec![RepositoryPin {
                name: "base".into(),
                digest: Digest::of(b"repomd"),
                bases: vec!["http://a.test/os/".into(), "http://b.test/os/".into()],
                signers: vec!["AB".into()],
            }],
            keys: vec![1, 2, 3],
            packages: vec![package("bash", Some("user"), false), package("rpm", None, true)],
        }
    }

    #[test]
    fn reads_back_its_own_lines() {
        assert_eq!(RpmPin::parse(&sample().lines()), Ok(sample()));
        let mut unsigned = sample();
        unsigned.repositories[0].signers.clear();
        unsigned.checked = false;
        assert_eq!(RpmPin::parse(&unsigned.lines()), Ok(unsigned));
    }

    #[test]
    fn refuses_lines_that_lead_elsewhere_or_are_missing() {
        let changed = |from: &str, to: &str| -> Vec<String> {
            sample().lines().iter().map(|line| line.replace(from, to)).collect()
        };
        assert!(matches!(RpmPin::parse(&changed("Packages/", "../")), Err(PinError::Line(_))));
        assert!(matches!(RpmPin::parse(&changed("package bash", "package a/b")), Err(PinError::Line(_))));
        assert!(matches!(RpmPin::parse(&changed("repository base", "repository other")), Err(PinError::Line(_))));
        assert_eq!(RpmPin::parse(&changed("date", "dote")), Err(PinError::Missing("date")));
    }

    proptest! {
        #[test]
        fn mutated_lines_never_panic(at in 0usize..900, junk in "[ -~\u{e4}]{0,4}") {
            let mut text = sample().lines().join("\n");
            let at = at.min(text.len());
            text.insert_str(at, &junk);
            let _ = RpmPin::parse(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        }
    }
}
