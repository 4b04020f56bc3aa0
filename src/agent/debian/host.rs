//! What the host knows of Debian archives: the mirrors in its apt configuration, and its keyrings.

use crate::deb::sources::{AptSource, parse_deb822, parse_list};
use std::path::{Path, PathBuf};

/// Mirrors tried before the suite is given up.
const MAXIMUM_MIRRORS: usize = 8;
const MAXIMUM_FILE: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    /// Without a trailing slash.
    pub url: String,
    /// Named for this mirror; empty: all keyrings of the host.
    pub keyrings: Vec<PathBuf>,
}

/// Mirrors of the apt configuration below `root`: those that are configured for the suite first, then the others.
pub(super) fn mirrors(root: &Path, suite: &str) -> Vec<Mirror> {
    let mut sources: Vec<AptSource> = Vec::new();
    let apt = root.join("etc/apt");
    sources.extend(read(&apt.join("sources.list")).iter().flat_map(|text| parse_list(text)));
    for path in files(&apt.join("sources.list.d"), &["list", "sources"]) {
        let Some(text) = read(&path) else { continue };
        let is_list = path.extension().is_some_and(|extension| extension == "list");
        sources.extend(if is_list { parse_list(&text) } else { parse_deb822(&text) });
    }
    sources.retain(|source| source.components.iter().any(|component| component == "main"));
    let (exact, others): (Vec<_>, Vec<_>) =
        sources.into_iter().partition(|source| source.suites.iter().any(|name| name == suite));
    let mut mirrors: Vec<Mirror> = Vec::new();
    for source in exact.into_iter().chain(others) {
        let keyrings = source.signed_by.iter().map(|path| below(root, path)).filter(|path| path.exists()).collect();
        if mirrors.iter().all(|known| known.url != source.uri) {
            mirrors.push(Mirror { url: source.uri, keyrings });
        }
    }
    mirrors.truncate(MAXIMUM_MIRRORS);
    mirrors
}

/// Keyrings that the host trusts for archives. Keys that a distribution has withdrawn are kept in files of that name.
pub(super) fn keyrings(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = vec![root.join("etc/apt/trusted.gpg")];
    for folder in ["etc/apt/trusted.gpg.d", "usr/share/keyrings"] {
        found.extend(files(&root.join(folder), &["gpg", "asc", "pgp"]));
    }
    found.retain(|path| {
        let withdrawn = path.file_name().is_some_and(|name| name.to_string_lossy().contains("removed"));
        !withdrawn && path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
    });
    found
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)))
        .collect();
    found.sort();
    found
}

/// A small text file; what cannot be read is as good as absent.
fn read(path: &Path) -> Option<String> {
    if path.metadata().ok()?.len() > MAXIMUM_FILE {
        return None;
    }
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_the_mirror_that_is_configured_for_the_suite() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/apt/sources.list.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(root.path().join("keys")).unwrap();
        std::fs::write(root.path().join("keys/a.gpg"), "x").unwrap();
        std::fs::write(root.path().join("etc/apt/sources.list"), "deb http://tool.test/apt tool main\n").unwrap();
        let text = "Types: deb\nURIs: http://a.test/debian/\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /keys/a.gpg\n";
        std::fs::write(folder.join("debian.sources"), text).unwrap();
        let found = mirrors(root.path(), "bookworm");
        assert_eq!(found[0].url, "http://a.test/debian");
        assert_eq!(found[0].keyrings, [root.path().join("keys/a.gpg")]);
        assert_eq!(found[1].url, "http://tool.test/apt");
        assert_eq!(mirrors(root.path(), "trixie")[0].url, "http://tool.test/apt");
    }

    #[test]
    fn leaves_withdrawn_keys_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/share/keyrings");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["debian-archive-keyring.gpg", "debian-archive-removed-keys.gpg", "notes.txt"] {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        assert_eq!(keyrings(root.path()), [folder.join("debian-archive-keyring.gpg")]);
    }
}
