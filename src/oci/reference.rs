//! Image references as people write them, in their normalised form.
//!
//! Spec: distribution `reference` grammar: `[domain/]path[:tag][@digest]`. The first component is a domain when it holds `.` or
//! `:`, is `localhost`, or has an upper-case letter; else the registry is `docker.io`, where one-word names live in `library/`.

use crate::digest::Digest;
use std::fmt;
use std::net::Ipv6Addr;

/// The registry of references that name none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of references that have neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// Longest registry and repository together, in bytes.
const MAXIMUM_NAME: usize = 255;
const MAXIMUM_TAG: usize = 128;

/// An image in a registry. Prints in full: `docker.io/library/alpine:3.20`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host and optional port; `docker.io` for Docker Hub.
    pub registry: String,
    /// `library/alpine`.
    pub repository: String,
    /// As written; absent beside a digest or when nothing was written, see [`Reference::tag`].
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {cause}")]
pub struct ReferenceError {
    pub text: String,
    pub cause: String,
}

impl Reference {
    /// Parses `alpine`, `quay.io/org/name:tag@sha256:…`; a leading `docker://` or `//` is ignored.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        let fault = |cause: String| ReferenceError { text: text.chars().take(512).collect(), cause };
        let bare = text.strip_prefix("docker:").unwrap_or(text);
        let bare = bare.strip_prefix("//").unwrap_or(bare);
        let (rest, digest) = match bare.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|error| fault(error.to_string()))?)),
            None => (bare, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(&fault)?;
        }
        let (registry, repository) = split_registry(name);
        check_registry(&registry).map_err(&fault)?;
        check_repository(&repository).map_err(&fault)?;
        if registry.len() + 1 + repository.len() > MAXIMUM_NAME {
            return Err(fault("the name is longer than 255 bytes".to_owned()));
        }
        Ok(Reference { registry, repository, tag: tag.map(str::to_owned), digest })
    }

    /// The tag to ask for: the written one, or `latest` when there is no digest either.
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some(DEFAULT_TAG),
            (None, Some(_)) => None,
        }
    }

    /// Host to connect to: Docker Hub's API is not where its name says.
    pub fn host(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY { "registry-1.docker.io" } else { &self.registry }
    }

    /// `registry/repository` without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What stands behind `manifests/` in a request: the digest wins over the tag.
    pub fn identifier(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag().unwrap_or(DEFAULT_TAG).to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = self.tag() {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(text)
    }
}

/// The one spelling of a registry's host and port, for comparisons: lower case, no port 443, Docker Hub by its first name.
///
/// What is no host is only made lower case.
pub fn canonical_registry(registry: &str) -> String {
    let lower = registry.to_ascii_lowercase();
    let (host, port) = match lower.rfind(':').filter(|at| !lower[*at..].contains(']')) {
        Some(at) => match lower[at + 1..].parse::<u16>() {
            Ok(port) => (&lower[..at], Some(port)),
            Err(_) => return lower,
        },
        None => (lower.as_str(), None),
    };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match (address.and_then(|address| address.parse::<Ipv6Addr>().ok()), host) {
        (Some(address), _) => format!("[{address}]"),
        (None, "index.docker.io" | "registry-1.docker.io") => DEFAULT_REGISTRY.to_owned(),
        (None, host) => host.to_owned(),
    };
    match port {
        None | Some(443) => host,
        Some(port) => format!("{host}:{port}"),
    }
}

fn split_registry(name: &str) -> (String, String) {
    let is_domain = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        return (registry.to_owned(), format!("library/{repository}"));
    }
    (registry.to_owned(), repository.to_owned())
}

/// Spec: `[\w][\w.-]{0,127}`.
fn check_tag(tag: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = tag.len() <= MAXIMUM_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    if valid { Ok(()) } else { Err(format!("{tag:?} is not a tag (letters, digits, '_', '.', '-', at most 128)")) }
}

/// Spec: dotted labels of letters, digits and inner dashes, or `[IPv6]`, then an optional port.
fn check_registry(registry: &str) -> Result<(), String> {
    let fault = || Err(format!("{registry:?} is not a registry host"));
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return fault() };
            if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') {
                return fault();
            }
            ("", port)
        }
        None => registry.split_at(registry.find(':').unwrap_or(registry.len())),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let host_valid = registry.starts_with('[') || host.split('.').all(label);
    let port_valid = port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok());
    if host_valid && port_valid { Ok(()) } else { fault() }
}

/// Spec: components `[a-z0-9]+` joined by `.`, `_`, `__` or dashes.
fn check_repository(repository: &str) -> Result<(), String> {
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("the name {repository:?} must be lower case"));
    }
    let bare = repository.strip_prefix("library/").unwrap_or(repository);
    if bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("64 hexadecimal digits are an image's id, not a name".to_owned());
    }
    for component in repository.split('/') {
        if !is_component(component) {
            return Err(format!(
                "{component:?} is not a part of a name (lower-case letters and digits, separated by '.', '_', '__' or '-')"
            ));
        }
    }
    Ok(())
}

fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    bytes
        .split(alphanumeric)
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normalises_as_docker_does() {
        let hex = "ab".repeat(32);
        let pinned = format!("quay.io/a/b:1@sha256:{hex}");
        let by_digest = format!("alpine@sha256:{hex}");
        let by_digest_full = format!("docker.io/library/alpine@sha256:{hex}");
        for (written, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("docker://alpine:3.20", "docker.io/library/alpine:3.20"),
            ("//alpine", "docker.io/library/alpine:latest"),
            ("user/app:x", "docker.io/user/app:x"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
            ("docker.io/library/alpine", "docker.io/library/alpine:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b/c:t", "localhost:5000/a/b/c:t"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("ghcr.io/x/y-z__w.v", "ghcr.io/x/y-z__w.v:latest"),
            (pinned.as_str(), pinned.as_str()),
            (by_digest.as_str(), by_digest_full.as_str()),
        ] {
            assert_eq!(Reference::parse(written).unwrap().to_string(), full, "{written}");
        }
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let id = "a".repeat(64);
        let long = format!("{}/app", "a/".repeat(130));
        for text in [
            "",
            ":tag",
            "Alpine",
            "a//b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a b",
            "http://x.io/a",
            "x.io:99999/a",
            "[::1/a",
            "a@b@c",
            &id,
            &long,
            "oras://x.io/a",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            Reference::parse("quay.io/Org/app").unwrap_err().to_string(),
            "\"quay.io/Org/app\" is not an image reference: the name \"Org/app\" must be lower case"
        );
    }

    #[test]
    fn a_registry_has_one_canonical_spelling() {
        for (written, canonical) in [
            ("LOCALHOST:05000", "localhost:5000"),
            ("GHCR.io", "ghcr.io"),
            ("ghcr.io:443", "ghcr.io"),
            ("ghcr.io:0443", "ghcr.io"),
            ("ghcr.io:80", "ghcr.io:80"),
            ("registry-1.docker.io", "docker.io"),
            ("Index.Docker.IO:443", "docker.io"),
            ("[0:0:0:0:0:0:0:1]:5000", "[::1]:5000"),
            ("[::1]", "[::1]"),
            ("host:*", "host:*"),
        ] {
            assert_eq!(canonical_registry(written), canonical, "{written}");
            assert_eq!(canonical_registry(canonical), canonical, "{written}");
        }
    }

    #[test]
    fn asks_docker_hub_at_its_api_host_and_prefers_the_digest() {
        let reference = Reference::parse(&format!("alpine:3@sha256:{}", "0".repeat(64))).unwrap();
        assert_eq!(reference.host(), "registry-1.docker.io");
        assert_eq!(reference.identifier(), format!("sha256:{}", "0".repeat(64)));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in "[a-z0-9./:@_-]{0,40}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap().to_string(), reference.to_string());
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = Reference::parse(&text);
        }
    }
}
