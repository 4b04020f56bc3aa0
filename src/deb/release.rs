//! The release file: what an archive calls itself, until when it is good, and the digests of its indexes.
//!
//! Source: wiki.debian.org/DebianRepository/Format, "Release files".

use super::control::{ControlError, paragraphs};
use crate::calendar::days_since_epoch;
use crate::digest::{Algorithm, Digest};
use std::collections::BTreeMap;

/// Files listed in one release beyond which it is refused.
const MAXIMUM_FILES: usize = 200_000;

/// Digest and size of one index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFile {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Empty when absent, as are suite, codename and version.
    pub origin: String,
    pub suite: String,
    pub codename: String,
    pub version: String,
    /// Seconds since the epoch.
    pub date: i64,
    /// Seconds since the epoch, with the text as written.
    pub valid_until: Option<(i64, String)>,
    /// Indexes can be had at `by-hash/SHA256/…` beside their own names.
    pub acquire_by_hash: bool,
    pub architectures: Vec<String>,
    pub components: Vec<String>,
    /// By path below `dists/SUITE/`.
    pub files: BTreeMap<String, IndexFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("is empty")]
    Empty,
    #[error("has more than one paragraph")]
    SeveralParagraphs,
    #[error("has no {0} field")]
    Missing(&'static str),
    #[error("{field}: {text:?} is not a date like \"Sat, 01 Aug 2026 10:00:00 UTC\"")]
    Date { field: &'static str, text: String },
    #[error("the SHA256 list has a line that is not \"digest size path\": {line:?}")]
    File { line: String },
    #[error("lists more than {MAXIMUM_FILES} files")]
    TooManyFiles,
}

impl Release {
    pub fn parse(text: &str) -> Result<Release, ReleaseError> {
        let mut all = paragraphs(text);
        let paragraph = all.next().ok_or(ReleaseError::Empty)??;
        if all.next().is_some() {
            return Err(ReleaseError::SeveralParagraphs);
        }
        // Spec: these are single-line fields; a folded one must not bring line ends into texts that are made of it.
        let field = |name: &str| paragraph.get(name).and_then(|value| value.lines().next()).unwrap_or("").to_owned();
        let words =
            |name: &str| paragraph.get(name).unwrap_or("").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let date = paragraph.get("Date").ok_or(ReleaseError::Missing("Date"))?;
        let valid_until = match paragraph.get("Valid-Until") {
            Some(text) => Some((read_date("Valid-Until", text)?, text.to_owned())),
            None => None,
        };
        Ok(Release {
            origin: field("Origin"),
            suite: field("Suite"),
            codename: field("Codename"),
            version: field("Version"),
            date: read_date("Date", date)?,
            valid_until,
            acquire_by_hash: field("Acquire-By-Hash").eq_ignore_ascii_case("yes"),
            architectures: words("Architectures"),
            components: words("Components"),
            files: read_files(paragraph.get("SHA256").ok_or(ReleaseError::Missing("SHA256"))?)?,
        })
    }
}

fn read_files(field: &str) -> Result<BTreeMap<String, IndexFile>, ReleaseError> {
    let mut files = BTreeMap::new();
    for line in field.lines().filter(|line| !line.trim().is_empty()) {
        let fault = || ReleaseError::File { line: line.chars().take(200).collect() };
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [hex, size, path] = parts[..] else { return Err(fault()) };
        let digest = Digest::from_hex(Algorithm::Sha256, hex).map_err(|_| fault())?;
        let size = size.parse().map_err(|_| fault())?;
        if files.len() == MAXIMUM_FILES {
            return Err(ReleaseError::TooManyFiles);
        }
        files.insert(path.to_owned(), IndexFile { digest, size });
    }
    Ok(files)
}

fn read_date(field: &'static str, text: &str) -> Result<i64, ReleaseError> {
    parse_date(text).ok_or_else(|| ReleaseError::Date { field, text: text.chars().take(80).collect() })
}

/// Seconds since the epoch of `[Sat, ] 1 Aug 2026 10:00:00 UTC` (or `GMT`, `Z`, `+0000`).
pub fn parse_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [day, month, year, clock, zone] = parts[..] else { return None };
    if !["UTC", "GMT", "Z", "+0000", "-0000"].contains(&zone) {
        return None;
    }
    let day: i64 = day.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let year: i64 = year.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let clock: Vec<i64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hour, minute, second] = clock[..] else { return None };
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    Some(days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(extra: &str) -> String {
        format!(
            "Origin: Debian\nSuite: stable\nCodename: bookworm\nDate: Sat, 06 Sep 2025 10:14:05 UTC\nAcquire-By-Hash: yes\n\
             Architectures: all amd64\nComponents: main contrib\n{extra}SHA256:\n {}  12 main/binary-amd64/Packages.xz\n",
            "ab".repeat(32)
        )
    }

    #[test]
    fn reads_the_fields() {
        let release = Release::parse(&sample("Valid-Until: Sat, 13 Sep 2025 10:14:05 UTC\n")).unwrap();
        assert_eq!((release.codename.as_str(), release.acquire_by_hash), ("bookworm", true));
        assert_eq!(release.date, 1_757_153_645);
        assert_eq!(release.valid_until.unwrap().0 - release.date, 7 * 86_400);
        assert_eq!(release.components, ["main", "contrib"]);
        assert_eq!(release.files["main/binary-amd64/Packages.xz"].size, 12);
    }

    #[test]
    fn refuses_a_release_that_is_not_whole() {
        let error = |text: &str| Release::parse(text).unwrap_err().to_string();
        assert!(error("").contains("empty"));
        assert!(error("Origin: x\n").contains("no Date"));
        assert!(error("Date: yesterday\nSHA256:\n").contains("yesterday"));
        assert!(error(&sample("Valid-Until: never\n")).contains("Valid-Until"));
        assert!(error(&format!("{}\n\nX: 1\n", sample(""))).contains("more than one"));
        assert!(error(&sample("").replace(" 12 ", " -1 ")).contains("digest size path"));
    }

    #[test]
    fn knows_dates() {
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(parse_date("29 Feb 2024 12:00:00 +0000"), Some(1_709_208_000));
        assert_eq!(parse_date("Sat, 1 Aug 2026 10:00:00 CEST"), None);
        assert_eq!(parse_date("Sat, 32 Aug 2026 10:00:00 UTC"), None);
    }

    proptest! {
        #[test]
        fn mutated_releases_never_panic(at in 0usize..300, junk in "[\\x00-\\x7f]{0,4}") {
            let mut text = sample("");
            let at = at.min(text.len());
            text.replace_range(at..(at + junk.len()).min(text.len()), &junk);
            let _ = Release::parse(&text);
        }

        #[test]
        fn arbitrary_dates_never_panic(text in "[A-Za-z0-9:, +-]{0,40}") {
            let _ = parse_date(&text);
        }
    }
}
