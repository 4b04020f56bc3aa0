//! References to images of a library: `[HOST/][ENTITY/[COLLECTION/]]NAME[:TAG[,TAG]]`; a tag may be `sha256.HEX`.
//!
//! Source: facts §6.5.

use super::parse_hash;
use crate::digest::Digest;
use std::fmt;

/// Longest reference in bytes.
const LONGEST: usize = 1024;

/// Prints in full, without the host: `library/default/alpine:latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryReference {
    /// The service, where the reference itself names it.
    pub host: Option<String>,
    pub entity: String,
    pub collection: String,
    pub name: String,
    /// Of several the first.
    pub tag: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image of a library: {cause}")]
pub struct LibraryReferenceError {
    pub text: String,
    pub cause: &'static str,
}

impl LibraryReference {
    /// Parses a reference; a leading `library://`, `library:` or `//` is ignored.
    pub fn parse(text: &str) -> Result<LibraryReference, LibraryReferenceError> {
        let fault = |cause| LibraryReferenceError { text: text.chars().take(200).collect(), cause };
        if text.len() > LONGEST {
            return Err(fault("it is too long"));
        }
        let bare = text.strip_prefix("library:").unwrap_or(text);
        let bare = bare.trim_start_matches('/');
        let parts: Vec<&str> = bare.split('/').collect();
        let (host, parts) = match parts.as_slice() {
            [host, rest @ ..] if rest.len() == 3 => (Some(*host), rest),
            rest if rest.len() <= 3 => (None, rest),
            _ => return Err(fault("it has more than a host, an entity, a collection and a name")),
        };
        let (last, before) = parts.split_last().ok_or_else(|| fault("it is empty"))?;
        let (name, tags) = last.split_once(':').unwrap_or((last, "latest"));
        let tag = tags.split(',').next().unwrap_or_default();
        let (entity, collection) = match before {
            [] => ("library", "default"),
            [entity] => (*entity, "default"),
            [entity, collection, ..] => (*entity, *collection),
        };
        // What would be a path of its own, or end the path, has no place in a request's.
        let word = |word: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !word.is_empty() && !word.starts_with('.') && word.bytes().all(plain)
        };
        if ![entity, collection, name, tag].into_iter().all(word) {
            return Err(fault("its parts are letters, digits, '.', '_' and '-', and do not begin with '.'"));
        }
        let is_host = |host: &str| {
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
        };
        if host.is_some_and(|host| !is_host(host)) {
            return Err(fault("its host is none"));
        }
        let owned = str::to_owned;
        Ok(LibraryReference {
            host: host.map(owned),
            entity: owned(entity),
            collection: owned(collection),
            name: owned(name),
            tag: owned(tag),
        })
    }

    /// The digest that the tag is.
    pub fn digest(&self) -> Option<Digest> {
        parse_hash(&self.tag)
    }

    /// The same image by its digest.
    pub fn with_digest(&self, digest: &Digest) -> LibraryReference {
        LibraryReference { tag: format!("sha256.{}", digest.hex()), ..self.clone() }
    }
}

impl fmt::Display for LibraryReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}:{}", self.entity, self.collection, self.name, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_left_out_has_defaults() {
        for (text, host, expected) in [
            ("alpine", None, "library/default/alpine:latest"),
            ("library://alpine:3.20", None, "library/default/alpine:3.20"),
            ("//user/alpine", None, "user/default/alpine:latest"),
            ("library:e/c/n:one,two", None, "e/c/n:one"),
            ("library://h.example:8080/e/c/n", Some("h.example:8080"), "e/c/n:latest"),
        ] {
            let reference = LibraryReference::parse(text).unwrap();
            assert_eq!((reference.host.as_deref(), reference.to_string().as_str()), (host, expected), "{text}");
        }
        let hash = "ab".repeat(32);
        let digest = LibraryReference::parse(&format!("n:sha256.{hash}")).unwrap().digest().unwrap();
        assert_eq!(digest.hex(), hash);
    }

    #[test]
    fn what_would_lead_a_request_elsewhere_is_refused() {
        for text in
            ["", "a/b/c/d/e", "../x", "e/../n", "n:..", "n?x", "n#x", "n%2f", "n:", "a//n", "h@x/e/c/n", "n:a b"]
        {
            assert!(LibraryReference::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_again_the_same(text in "[a-z0-9:/.,_-]{0,40}|.{0,20}") {
            if let Ok(reference) = LibraryReference::parse(&text) {
                let again = LibraryReference::parse(&reference.to_string()).unwrap();
                prop_assert_eq!(again, LibraryReference { host: None, ..reference });
            }
        }
    }
}
