//! What is known of a Debian base once its archive was asked: the text that goes into a lock file is made of this.

use super::index::is_relative_path;
use super::relation::is_package_name;
use super::version::Version;
use crate::digest::Digest;

/// Which packages make up the base (`debootstrap --variant`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Required packages and apt; what Apptainer asks for.
    Minbase,
    /// Required packages, apt and build-essential.
    Buildd,
    /// Required and important packages.
    Standard,
}

impl Variant {
    /// The name as `debootstrap --variant` takes it; `-` is its default.
    pub fn parse(name: &str) -> Option<Variant> {
        match name {
            "minbase" => Some(Variant::Minbase),
            "buildd" => Some(Variant::Buildd),
            "-" | "" | "standard" | "default" => Some(Variant::Standard),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Variant::Minbase => "minbase",
            Variant::Buildd => "buildd",
            Variant::Standard => "standard",
        }
    }
}

/// One package file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagePin {
    pub name: String,
    pub version: String,
    /// `all` or the Debian name of an architecture.
    pub architecture: String,
    /// Path below the mirror.
    pub filename: String,
    /// Bytes.
    pub size: u64,
    /// KiB of its files, where the index says it.
    pub installed_size: Option<u64>,
    pub digest: Digest,
    /// Batch 0 is the core, unpacked before dpkg runs: packages of priority required and what they depend on. Each further batch is
    /// unpacked and configured before the next, as pre-dependencies want it.
    pub batch: u32,
}

impl PackagePin {
    /// `name_version_architecture.deb`, without the epoch's colon.
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

/// A Debian base, complete: with the mirror, or any store that has these digests, nothing else is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianPin {
    /// Without a trailing slash.
    pub mirror: String,
    /// As asked for (`OSVersion`).
    pub suite: String,
    /// As the release calls itself; the suite when it does not.
    pub codename: String,
    /// `Origin` of the release (`Debian`, `Ubuntu`), empty when absent.
    pub origin: String,
    pub components: Vec<String>,
    /// Debian name.
    pub architecture: String,
    pub variant: Variant,
    /// Of the signed text.
    pub release: Digest,
    /// Seconds since the epoch, from the release's `Date`; the date that made-up files get.
    pub date: i64,
    /// Upper-case hexadecimal; the primary keys whose signatures were good.
    pub signers: Vec<String>,
    /// Whether `/bin`, `/sbin` and `/lib*` are links into `/usr`.
    pub merged_usr: bool,
    /// By batch, then by name.
    pub packages: Vec<PackagePin>,
}

/// Why lines are not a Debian base.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    #[error("{0:?} is not a line of a Debian base")]
    Line(String),
    #[error("it has no {0}")]
    Missing(&'static str),
}

impl DebianPin {
    /// Everything, one line a value and one a package.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("mirror {}", self.mirror),
            format!("suite {}", self.suite),
            format!("codename {}", self.codename),
            format!("origin {}", self.origin),
            format!("components {}", self.components.join(" ")),
            format!("architecture {}", self.architecture),
            format!("variant {}", self.variant.name()),
            format!("release {}", self.release),
            format!("date {}", self.date),
            format!("signers {}", self.signers.join(" ")),
            format!("merged-usr {}", if self.merged_usr { "yes" } else { "no" }),
        ];
        lines.extend(self.packages.iter().map(|package| {
            let PackagePin { name, version, architecture, filename, size, installed_size, digest, batch } = package;
            let installed = installed_size.map_or(String::new(), |size| format!(" {size}"));
            format!("package {batch} {name} {version} {architecture} {size} {digest} {filename}{installed}")
        }));
        lines
    }

    /// Reads what [`DebianPin::lines`] wrote.
    pub fn parse(lines: &[String]) -> Result<DebianPin, PinError> {
        let value = |name: &'static str| {
            let found = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found.map(str::to_owned).ok_or(PinError::Missing(name))
        };
        let words = |name| Ok(value(name)?.split_whitespace().map(str::to_owned).collect::<Vec<String>>());
        let fault = |name| PinError::Missing(name);
        let packages = lines.iter().filter_map(|line| Some((line, line.strip_prefix("package ")?)));
        Ok(DebianPin {
            mirror: value("mirror")?,
            suite: value("suite")?,
            codename: value("codename")?,
            origin: value("origin")?,
            components: words("components")?,
            architecture: value("architecture")?,
            variant: Variant::parse(&value("variant")?).ok_or(fault("variant"))?,
            release: value("release")?.parse().map_err(|_| fault("release"))?,
            date: value("date")?.parse().map_err(|_| fault("date"))?,
            signers: words("signers")?,
            merged_usr: value("merged-usr")? == "yes",
            packages: packages
                .map(|(line, rest)| parse_package(rest).ok_or_else(|| PinError::Line(line.chars().take(160).collect())))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Invariant: a lock file is edited by people; names and paths from it are checked as those of an index.
fn parse_package(text: &str) -> Option<PackagePin> {
    let words: Vec<&str> = text.split(' ').collect();
    let (words, installed_size) = match words.split_last() {
        Some((size, words)) if words.len() == 7 => (words, Some(size.parse().ok()?)),
        _ => (&words[..], None),
    };
    let &[batch, name, version, architecture, size, digest, filename] = words else { return None };
    let plain = architecture.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_package_name(name) || !plain || !is_relative_path(filename) || Version::parse(version).is_err() {
        return None;
    }
    Some(PackagePin {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        filename: filename.to_owned(),
        size: size.parse().ok()?,
        installed_size,
        digest: digest.parse().ok()?,
        batch: batch.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> DebianPin {
        DebianPin {
            mirror: "http://mirror.test/debian".into(),
            suite: "stable".into(),
            codename: "bookworm".into(),
            origin: String::new(),
            components: vec!["main".into(), "contrib".into()],
            architecture: "amd64".into(),
            variant: Variant::Buildd,
            release: Digest::of(b"release"),
            date: 12,
            signers: vec!["AB".into()],
            merged_usr: true,
            packages: vec![PackagePin {
                name: "libc6".into(),
                version: "2:1-1+b1".into(),
                architecture: "amd64".into(),
                filename: "pool/libc6.deb".into(),
                size: 5,
                installed_size: Some(13),
                digest: Digest::of(b"libc6"),
                batch: 0,
            }],
        }
    }

    #[test]
    fn reads_back_its_own_lines() {
        assert_eq!(DebianPin::parse(&sample().lines()), Ok(sample()));
        // Not every archive says how large a package is.
        let mut silent = sample();
        silent.packages[0].installed_size = None;
        assert_eq!(DebianPin::parse(&silent.lines()), Ok(silent));
    }

    #[test]
    fn refuses_lines_that_lead_elsewhere_or_are_missing() {
        let without = |prefix: &str| -> Vec<String> {
            sample().lines().into_iter().filter(|line| !line.starts_with(prefix)).collect()
        };
        assert_eq!(DebianPin::parse(&without("date")), Err(PinError::Missing("date")));
        let evil: Vec<String> = sample().lines().iter().map(|line| line.replace("pool/", "../")).collect();
        assert!(matches!(DebianPin::parse(&evil), Err(PinError::Line(_))));
        let shell: Vec<String> = sample().lines().iter().map(|line| line.replace(" libc6 ", " $(x) ")).collect();
        assert!(matches!(DebianPin::parse(&shell), Err(PinError::Line(_))));
    }

    proptest! {
        #[test]
        fn mutated_lines_never_panic(at in 0usize..400, junk in "[ -~\u{e4}]{0,4}") {
            let mut text = sample().lines().join("\n");
            let at = at.min(text.len());
            text.insert_str(at, &junk);
            let _ = DebianPin::parse(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        }
    }
}
