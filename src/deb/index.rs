//! A `Packages` index: every package file of one component and architecture.
//!
//! Source: wiki.debian.org/DebianRepository/Format, "Packages indices".

use super::control::{ControlError, paragraphs};
use super::relation::is_package_name;
use super::version::{Version, VersionError};
use crate::digest::{Algorithm, Digest};

/// Packages in one index beyond which it is refused (Debian's largest has about 70 000).
const MAXIMUM_PACKAGES: usize = 1_000_000;

/// One stanza; relations stay text until somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub architecture: &'a str,
    /// `required`, `important`, … ; empty when absent.
    pub priority: &'a str,
    pub essential: bool,
    pub pre_depends: &'a str,
    pub depends: &'a str,
    pub conflicts: &'a str,
    pub breaks: &'a str,
    pub provides: &'a str,
    pub multi_arch: &'a str,
    pub filename: &'a str,
    pub size: u64,
    /// KiB of its files, as the packager estimated; many archives say it.
    pub installed_size: Option<u64>,
    pub digest: Digest,
    /// The stanza as written.
    pub text: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("package {package:?} has no {field} field")]
    Missing { package: String, field: &'static str },
    #[error("package {package:?}: {field} {value:?} is not valid")]
    Invalid { package: String, field: &'static str, value: String },
    #[error("package {package:?}: {cause}")]
    Version { package: String, cause: VersionError },
    #[error("more than {MAXIMUM_PACKAGES} packages")]
    TooMany,
}

/// All packages of an index, in its order.
pub fn parse(text: &str) -> Result<Vec<Package<'_>>, IndexError> {
    let mut packages = Vec::new();
    for paragraph in paragraphs(text) {
        let paragraph = paragraph?;
        let shown = || paragraph.get("Package").unwrap_or("").chars().take(80).collect::<String>();
        let need = |field| paragraph.get(field).ok_or_else(|| IndexError::Missing { package: shown(), field });
        let invalid = |field, value: &str| IndexError::Invalid {
            package: shown(),
            field,
            value: value.chars().take(120).collect(),
        };
        let optional = |field| paragraph.get(field).unwrap_or("");
        let name = need("Package")?;
        if !is_package_name(name) {
            return Err(invalid("Package", name));
        }
        let version = need("Version")?;
        Version::parse(version).map_err(|cause| IndexError::Version { package: shown(), cause })?;
        let architecture = need("Architecture")?;
        if architecture.is_empty() || !architecture.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(invalid("Architecture", architecture));
        }
        let filename = need("Filename")?;
        if !is_relative_path(filename) {
            return Err(invalid("Filename", filename));
        }
        let size = need("Size")?;
        let digest = need("SHA256")?;
        if packages.len() == MAXIMUM_PACKAGES {
            return Err(IndexError::TooMany);
        }
        packages.push(Package {
            name,
            version,
            architecture,
            priority: optional("Priority"),
            essential: optional("Essential").eq_ignore_ascii_case("yes"),
            pre_depends: optional("Pre-Depends"),
            depends: optional("Depends"),
            conflicts: optional("Conflicts"),
            breaks: optional("Breaks"),
            provides: optional("Provides"),
            multi_arch: optional("Multi-Arch"),
            filename,
            size: size.parse().map_err(|_| invalid("Size", size))?,
            installed_size: paragraph.get("Installed-Size").and_then(|size| size.parse().ok()),
            digest: Digest::from_hex(Algorithm::Sha256, digest).map_err(|_| invalid("SHA256", digest))?,
            text: paragraph.text,
        });
    }
    Ok(packages)
}

/// Whether a path from an index stays below the mirror.
pub fn is_relative_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() < 1024
        && !path.starts_with('/')
        && !path.split('/').any(|part| part == "..")
        && !path.contains("://")
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stanza() -> String {
        format!(
            "Package: a\nVersion: 1\nArchitecture: amd64\nPriority: required\nDepends: b, c\nFilename: pool/a.deb\nSize: 3\nInstalled-Size: 7\nSHA256: {}\n",
            "0".repeat(64)
        )
    }

    #[test]
    fn reads_a_stanza() {
        let text = format!("{0}\n{0}", stanza());
        let packages = parse(&text).unwrap();
        assert_eq!(packages.len(), 2);
        assert_eq!((packages[0].name, packages[0].depends, packages[0].size), ("a", "b, c", 3));
        assert_eq!(packages[0].installed_size, Some(7));
        // An estimate that is none is no reason to refuse an archive.
        let odd = stanza().replace("Installed-Size: 7", "Installed-Size: much");
        assert_eq!(parse(&odd).unwrap()[0].installed_size, None);
    }

    #[test]
    fn refuses_paths_and_names_that_lead_elsewhere() {
        for (from, to, cause) in [
            ("pool/a.deb", "../../etc/a.deb", "Filename"),
            ("pool/a.deb", "/a.deb", "Filename"),
            ("pool/a.deb", "http://x/a.deb", "Filename"),
            ("Package: a", "Package: ../a", "Package"),
            ("Architecture: amd64", "Architecture: a/b", "Architecture"),
            ("Version: 1", "Version: 1/2", "version"),
            ("Size: 3", "Size: -3", "Size"),
            ("SHA256: 0", "SHA256: ", "SHA256"),
            ("Version: 1\n", "", "no Version"),
        ] {
            let error = parse(&stanza().replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(cause), "{to}: {error}");
        }
    }

    proptest! {
        #[test]
        fn mutated_indexes_never_panic(at in 0usize..180, junk in "[\\x00-\\x7f]{0,6}") {
            let mut text = stanza();
            let at = at.min(text.len());
            text.replace_range(at..(at + junk.len()).min(text.len()), &junk);
            let _ = parse(&text);
        }
    }
}
