//! A repository's database: a compressed tar archive with a file `NAME-VERSION/desc` for each package.
//!
//! Source: alpm-repo-db(7), alpm-repo-desc(5).

use super::relation::Relation;
use crate::archive::compress::detecting_decoder;
use crate::archive::tar::{self, Reader};
use crate::rpm::metadata::{Checksum, ChecksumAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

/// Bytes of a database, unpacked; Arch's largest has some 60 MB.
const MAXIMUM_DATABASE: u64 = 1 << 30;
/// Bytes of one description.
const MAXIMUM_DESCRIPTION: u64 = 4 << 20;
const MAXIMUM_PACKAGES: usize = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// Beside the database.
    pub file_name: String,
    /// Bytes of the file, and of what is in it.
    pub size: u64,
    pub installed_size: u64,
    /// SHA-256.
    pub checksum: Checksum,
    /// A detached signature over the file, when the database has it.
    pub signature: Option<Vec<u8>>,
    pub depends: Vec<Relation>,
    pub provides: Vec<Relation>,
    pub conflicts: Vec<Relation>,
    pub groups: Vec<String>,
    /// Seconds since 1970.
    pub build_time: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("cannot be unpacked: {0}")]
    Unpack(#[from] io::Error),
    #[error("is no tar archive: {0}")]
    Tar(#[from] tar::Error),
    #[error("the description {entry} is larger than {MAXIMUM_DESCRIPTION} bytes")]
    TooLong { entry: String },
    #[error("the package {package} has no {field}")]
    Missing { package: String, field: &'static str },
    #[error("the package {package}: {field} {value:?} is not valid")]
    Invalid { package: String, field: &'static str, value: String },
    #[error("more than {MAXIMUM_PACKAGES} packages")]
    TooMany,
}

/// All packages, by name; of several with one name the first.
pub fn read(database: impl Read + Send) -> Result<Vec<Package>, DatabaseError> {
    let (_, decoder) = detecting_decoder(database)?;
    let mut archive = Reader::new(decoder.take(MAXIMUM_DATABASE));
    let mut packages = BTreeMap::new();
    while let Some(mut entry) = archive.next_entry()? {
        if !entry.header.path.ends_with(b"/desc") {
            continue;
        }
        if entry.header.size > MAXIMUM_DESCRIPTION {
            return Err(DatabaseError::TooLong { entry: tar::shown(&entry.header.path) });
        }
        if packages.len() == MAXIMUM_PACKAGES {
            return Err(DatabaseError::TooMany);
        }
        let mut text = Vec::new();
        entry.read_to_end(&mut text)?;
        let package = parse(&String::from_utf8_lossy(&text), &tar::shown(&entry.header.path))?;
        packages.entry(package.name.clone()).or_insert(package);
    }
    Ok(packages.into_values().collect())
}

/// One description; `entry` names it where it has no name.
pub fn parse(text: &str, entry: &str) -> Result<Package, DatabaseError> {
    let mut fields: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut field = "";
    for line in text.lines().map(str::trim) {
        match line.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')) {
            Some(name) if !name.is_empty() => field = name,
            _ if line.is_empty() => {}
            _ => fields.entry(field).or_default().push(line),
        }
    }
    let shown = |text: &str| text.chars().take(160).collect::<String>();
    let package = shown(fields.get("NAME").and_then(|lines| lines.first()).unwrap_or(&entry));
    let optional = |field: &str| fields.get(field).and_then(|lines| lines.first()).copied();
    let need = |field| optional(field).ok_or_else(|| DatabaseError::Missing { package: package.clone(), field });
    let invalid = |field, value: &str| DatabaseError::Invalid { package: package.clone(), field, value: shown(value) };
    let word = |field| {
        need(field).and_then(|value| if is_name(value) { Ok(value.to_owned()) } else { Err(invalid(field, value)) })
    };
    let number = |field| need(field).and_then(|value| value.parse::<u64>().map_err(|_| invalid(field, value)));
    let list = |field| fields.get(field).map_or(&[][..], Vec::as_slice);
    let relations = |field: &'static str| -> Result<Vec<Relation>, DatabaseError> {
        list(field).iter().map(|text| Relation::parse(text).ok_or_else(|| invalid(field, text))).collect()
    };
    let (file_name, digest) = (need("FILENAME")?, need("SHA256SUM")?);
    if !is_name(file_name) {
        return Err(invalid("FILENAME", file_name));
    }
    let checksum = Checksum::parse(&format!("{}:{digest}", ChecksumAlgorithm::Sha256.name()));
    let signature = optional("PGPSIG").map(|text| STANDARD.decode(text).map_err(|_| invalid("PGPSIG", text)));
    let (size, installed_size, build_time) = (number("CSIZE")?, number("ISIZE")?, number("BUILDDATE")?);
    Ok(Package {
        name: word("NAME")?,
        version: word("VERSION")?,
        architecture: word("ARCH")?,
        file_name: file_name.to_owned(),
        size,
        installed_size,
        checksum: checksum.ok_or_else(|| invalid("SHA256SUM", digest))?,
        signature: signature.transpose()?,
        depends: relations("DEPENDS")?,
        provides: relations("PROVIDES")?,
        conflicts: relations("CONFLICTS")?,
        groups: list("GROUPS").iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>().into_iter().collect(),
        build_time: i64::try_from(build_time).map_err(|_| invalid("BUILDDATE", "a time"))?,
    })
}

/// Of a package, a version or a file. Invariant: names go into a shell script, to pacman's command line, and below a mirror.
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@._+-:~^%,=".contains(&byte);
    !text.is_empty() && text.len() <= 512 && !text.starts_with(['.', '-']) && text.bytes().all(plain)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::archive::tar::{Header, Kind, Writer};
    use proptest::prelude::*;

    pub(crate) fn description(name: &str, more: &str) -> String {
        let zeros = "0".repeat(64);
        format!(
            "%FILENAME%\n{name}-1-1-any.pkg.tar.zst\n\n%NAME%\n{name}\n\n%VERSION%\n1-1\n\n%CSIZE%\n5\n\n%ISIZE%\n7\n\n\
             %SHA256SUM%\n{zeros}\n\n%PGPSIG%\naGk=\n\n%ARCH%\nany\n\n%BUILDDATE%\n9\n\n{more}"
        )
    }

    fn write(descriptions: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, text) in descriptions {
            let (path, size) = (path.as_bytes().to_vec(), text.len() as u64);
            let xattrs = Default::default();
            let header = Header { path, kind: Kind::File, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs, size };
            writer.append(&header, &mut text.as_bytes()).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn reads_descriptions_by_name_from_any_compression() {
        let (b, a) = (description("b", "%DEPENDS%\na>=1\nsh\n\n%GROUPS%\ng\n"), description("a", ""));
        let tar = write(&[("b-1-1/desc", &b), ("b-1-1/files", "x"), ("a-1-1/desc", &a)]);
        for bytes in [tar.clone(), zstd::stream::encode_all(&tar[..], 1).unwrap()] {
            let packages = read(&bytes[..]).unwrap();
            assert_eq!(packages.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
            assert_eq!((packages[1].depends.len(), packages[1].groups.len()), (2, 1));
            assert_eq!(packages[0].signature.as_deref(), Some(&b"hi"[..]));
            assert_eq!((packages[0].size, packages[0].installed_size, packages[0].build_time), (5, 7, 9));
        }
    }

    #[test]
    fn refuses_names_that_lead_elsewhere_and_what_is_missing() {
        let good = description("a", "%DEPENDS%\nb\n");
        for (from, to, cause) in [
            ("a-1-1-any.pkg", "../a.pkg", "FILENAME"),
            ("a-1-1-any.pkg", "-a.pkg", "FILENAME"),
            ("%NAME%\na", "%NAME%\na/b", "NAME"),
            ("%VERSION%\n1-1", "%VERSION%\n1 1", "VERSION"),
            ("%CSIZE%\n5", "%CSIZE%\n-5", "CSIZE"),
            ("%SHA256SUM%\n0", "%SHA256SUM%\n", "SHA256SUM"),
            ("aGk=", "?", "PGPSIG"),
            ("%NAME%\na", "%NAME%\n$(a)", "NAME"),
            ("%DEPENDS%\nb", "%DEPENDS%\nb/c", "DEPENDS"),
            ("%ARCH%\nany", "", "no ARCH"),
        ] {
            let error = parse(&good.replace(from, to), "a-1-1/desc").unwrap_err().to_string();
            assert!(error.contains(cause), "{to}: {error}");
        }
        assert!(read(&b"<html>"[..]).is_err());
    }

    proptest! {
        #[test]
        fn mutated_descriptions_never_panic(at in 0usize..300, junk in "[ -~\n\u{e4}]{0,6}") {
            let mut text = description("a", "%PROVIDES%\nb=1\n");
            let at = at.min(text.len());
            text.insert_str(at, &junk);
            let _ = (parse(&text, "x"), read(text.as_bytes()));
        }
    }
}
