//! `repomd.xml`: which files a repository has, with their checksums.

use super::xml::{Node, Xml};
use super::{Checksum, ChecksumAlgorithm, MetadataError};
use std::collections::BTreeMap;

/// Files of one repository; real ones have twenty.
const MAXIMUM_DATA: usize = 256;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Path below the repository's base.
    pub location: String,
    /// Of the file as it is downloaded.
    pub checksum: Checksum,
    /// Of the file unpacked.
    pub open_checksum: Option<Checksum>,
    /// Bytes of the file, and unpacked.
    pub size: Option<u64>,
    pub open_size: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repomd {
    pub revision: String,
    /// By kind: `primary`, `filelists`, `group`, `modules`, …
    pub data: BTreeMap<String, Data>,
}

impl Repomd {
    pub fn parse(bytes: &[u8]) -> Result<Repomd, MetadataError> {
        let mut xml = Xml::new(bytes);
        let mut repomd = Repomd::default();
        let mut is_repomd = false;
        loop {
            match xml.next()? {
                Node::Open if xml.name == "repomd" => is_repomd = true,
                Node::Open if xml.name == "revision" => repomd.revision = xml.text()?.trim().to_owned(),
                Node::Open if xml.name == "data" => {
                    let kind = xml.attribute("type").unwrap_or("").to_owned();
                    if let Some(data) = read_data(&mut xml, &kind)? {
                        repomd.data.insert(kind, data);
                    }
                    if repomd.data.len() > MAXIMUM_DATA {
                        return Err(MetadataError::TooLarge("it lists more than 256 files"));
                    }
                }
                Node::End => break,
                _ => {}
            }
        }
        match is_repomd && repomd.data.contains_key("primary") {
            true => Ok(repomd),
            false if is_repomd => Err(MetadataError::Content("it lists no primary metadata".into())),
            false => Err(MetadataError::Content("it has no element repomd".into())),
        }
    }
}

/// None: of a kind that nobody needs, without what we could check it by.
fn read_data(xml: &mut Xml<&[u8]>, kind: &str) -> Result<Option<Data>, MetadataError> {
    let (mut location, mut checksum, mut open_checksum) = (None, None, None);
    let (mut size, mut open_size) = (None, None);
    loop {
        match xml.next()? {
            Node::Close if xml.name == "data" => break,
            Node::End => return Err(MetadataError::Xml("it ends in the middle".into())),
            Node::Open => match xml.name.as_str() {
                "location" => location = xml.attribute("href").map(str::to_owned),
                "checksum" => checksum = read_checksum(xml)?,
                "open-checksum" => open_checksum = read_checksum(xml)?,
                "size" => size = xml.text()?.trim().parse().ok(),
                "open-size" => open_size = xml.text()?.trim().parse().ok(),
                _ => {}
            },
            Node::Close => {}
        }
    }
    let needed = ["primary", "filelists", "group", "group_gz", "modules"].contains(&kind);
    match (location, checksum) {
        (Some(location), Some(checksum)) if is_relative(&location) => {
            Ok(Some(Data { location, checksum, open_checksum, size, open_size }))
        }
        (Some(location), Some(_)) => {
            Err(MetadataError::Content(format!("the path of {kind} leads out of the repository: {location:?}")))
        }
        _ if needed => {
            Err(MetadataError::Content(format!("{kind} has no path, or no checksum that is known (SHA-1, SHA-2)")))
        }
        _ => Ok(None),
    }
}

fn read_checksum(xml: &mut Xml<&[u8]>) -> Result<Option<Checksum>, MetadataError> {
    let algorithm = xml.attribute("type").and_then(ChecksumAlgorithm::parse);
    let text = xml.text()?;
    Ok(algorithm.and_then(|algorithm| Checksum::new(algorithm, &text)))
}

/// Whether a path stays below its base.
pub(crate) fn is_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.contains(['\0', '\n', '\r', '?', '#', '\\'])
        && !path.contains("://")
        && path.split('/').all(|part| part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>12</revision><tags><distro cpeid="cpe:/o:x">X &amp; Y</distro></tags>
  <data type="primary">
    <checksum type="sha256">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum>
    <open-checksum type="sha">da39a3ee5e6b4b0d3255bfef95601890afd80709</open-checksum>
    <location href="repodata/primary.xml.gz"/><size>10</size><open-size>20</open-size>
  </data>
  <data type="other"><checksum type="md5">x</checksum><location href="repodata/other.xml.gz"/></data>
</repomd>"#;

    #[test]
    fn reads_the_files_and_their_checksums() {
        let repomd = Repomd::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!(repomd.revision, "12");
        let primary = &repomd.data["primary"];
        assert_eq!((primary.location.as_str(), primary.size), ("repodata/primary.xml.gz", Some(10)));
        assert_eq!(primary.checksum.algorithm(), ChecksumAlgorithm::Sha256);
        assert!(primary.open_checksum.as_ref().unwrap().is_weak());
        assert!(!repomd.data.contains_key("other"));
    }

    #[test]
    fn refuses_what_leads_elsewhere_or_lacks_what_is_needed() {
        let error = |text: &str| Repomd::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error(&SAMPLE.replace("repodata/primary", "../primary")).contains("leads out"));
        assert!(error(&SAMPLE.replace("type=\"sha256\"", "type=\"md5\"")).contains("no checksum"));
        assert!(error(&SAMPLE.replace("type=\"primary\"", "type=\"updateinfo\"")).contains("no primary"));
        assert!(error("<html></html>").contains("repomd"));
        assert!(error(&SAMPLE[..300]).contains("middle"));
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(at in 0usize..900, junk in proptest::collection::vec(any::<u8>(), 0..4)) {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            let at = at.min(bytes.len());
            let end = (at + junk.len()).min(bytes.len());
            bytes.splice(at..end, junk);
            let _ = Repomd::parse(&bytes);
        }
    }
}
