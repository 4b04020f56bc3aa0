//! Lists of mirrors: plain text, or a metalink with the checksum of `repomd.xml`.
//!
//! Sources: MirrorManager's `mirrorlist`, Metalink 3.0 (with `mm0:alternates`).

use super::xml::{Node, Xml};
use super::{Checksum, ChecksumAlgorithm, MetadataError};

/// Mirrors that are kept.
const MAXIMUM_MIRRORS: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors {
    /// Bases, the preferred first, each with a slash at its end.
    pub bases: Vec<String>,
    /// Checksums that `repomd.xml` may have: of the newest, and of those that mirrors may still carry. Empty: nothing is said.
    pub repomd: Vec<Checksum>,
}

/// Reads either kind.
pub fn read(bytes: &[u8]) -> Result<Mirrors, MetadataError> {
    let start: String = String::from_utf8_lossy(&bytes[..bytes.len().min(2048)]).to_lowercase();
    let mirrors = match start.contains("<metalink") {
        true => read_metalink(bytes)?,
        false if start.trim_start().starts_with('<') => {
            return Err(MetadataError::Content("it is a page, not a list of mirrors".into()));
        }
        false => read_list(&String::from_utf8_lossy(bytes)),
    };
    match mirrors.bases.is_empty() {
        true => Err(MetadataError::Content("it names no mirror with http, https or file".into())),
        false => Ok(mirrors),
    }
}

fn read_list(text: &str) -> Mirrors {
    let lines = text.lines().map(str::trim).filter(|line| is_usable(line));
    let bases = lines.map(|line| format!("{}/", line.trim_end_matches('/'))).take(MAXIMUM_MIRRORS).collect();
    Mirrors { bases, repomd: Vec::new() }
}

fn is_usable(url: &str) -> bool {
    ["http://", "https://", "file://"].iter().any(|scheme| url.starts_with(scheme))
        && !url.contains(char::is_whitespace)
}

fn read_metalink(bytes: &[u8]) -> Result<Mirrors, MetadataError> {
    const FILE: &str = "repodata/repomd.xml";
    let mut xml = Xml::new(bytes);
    let mut found: Vec<(i64, String)> = Vec::new();
    let mut checksums: Vec<Checksum> = Vec::new();
    // Of one file, the strongest checksum.
    let mut best: Option<Checksum> = None;
    loop {
        match xml.next()? {
            Node::Open if xml.name == "hash" => {
                let algorithm = xml.attribute("type").and_then(ChecksumAlgorithm::parse);
                let text = xml.text()?;
                let checksum = algorithm.and_then(|algorithm| Checksum::new(algorithm, &text));
                if checksum.as_ref().map(Checksum::algorithm) > best.as_ref().map(Checksum::algorithm) {
                    best = checksum;
                }
            }
            Node::Open if xml.name == "url" => {
                let preference = xml.attribute("preference").and_then(|text| text.parse().ok()).unwrap_or(0);
                let url = xml.text()?.trim().to_owned();
                if let Some(base) = url.strip_suffix(FILE).filter(|base| is_usable(base))
                    && found.len() < 4096
                {
                    found.push((preference, base.to_owned()));
                }
            }
            Node::Close if matches!(xml.name.as_str(), "verification" | "alternate") => checksums.extend(best.take()),
            Node::End => break,
            _ => {}
        }
    }
    found.sort_by_key(|(preference, _)| std::cmp::Reverse(*preference));
    let bases = found.into_iter().map(|(_, base)| base).take(MAXIMUM_MIRRORS).collect();
    Ok(Mirrors { bases, repomd: checksums })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const METALINK: &str = "<?xml version='1.0'?><metalink version='3.0' xmlns:mm0='x'><files><file name='repomd.xml'><size>1</size>\
        <verification><hash type='md5'>00</hash><hash type='sha1'>da39a3ee5e6b4b0d3255bfef95601890afd80709</hash>\
        <hash type='sha256'>e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</hash></verification>\
        <mm0:alternates><mm0:alternate><verification><hash type='sha256'>\
        03b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</hash></verification></mm0:alternate></mm0:alternates>\
        <resources><url protocol='rsync' preference='100'>rsync://a/repodata/repomd.xml</url>\
        <url preference='1'>http://b/os/repodata/repomd.xml</url><url preference='9'>https://c/os/repodata/repomd.xml</url>\
        </resources></file></files></metalink>";

    #[test]
    fn reads_a_plain_list() {
        let mirrors = read(b"# a comment\nhttp://a/b/\n\nhttps://c/d\nrsync://e\n").unwrap();
        assert_eq!(mirrors.bases, ["http://a/b/", "https://c/d/"]);
    }

    #[test]
    fn reads_a_metalink_and_its_alternates() {
        let mirrors = read(METALINK.as_bytes()).unwrap();
        assert_eq!(mirrors.bases, ["https://c/os/", "http://b/os/"]);
        assert_eq!(mirrors.repomd.len(), 2);
        assert!(mirrors.repomd.iter().all(|checksum| checksum.algorithm() == ChecksumAlgorithm::Sha256));
    }

    #[test]
    fn refuses_pages_and_empty_lists() {
        assert!(read(b"<html>Not found</html>").unwrap_err().to_string().contains("page"));
        assert!(read(b"# nothing\n").unwrap_err().to_string().contains("no mirror"));
    }

    proptest! {
        #[test]
        fn mutated_lists_never_panic(at in 0usize..900, junk in proptest::collection::vec(any::<u8>(), 0..4)) {
            let mut bytes = METALINK.as_bytes().to_vec();
            let at = at.min(bytes.len());
            let end = (at + junk.len()).min(bytes.len());
            bytes.splice(at..end, junk);
            let _ = read(&bytes);
        }
    }
}
