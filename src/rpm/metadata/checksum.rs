//! Checksums as repositories and packages write them.

use crate::digest::{Algorithm, Digest};
use sha2::Digest as _;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChecksumAlgorithm {
    /// Broken: accepted only where that was asked for.
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl ChecksumAlgorithm {
    /// By the name in metadata; `sha` is SHA-1.
    pub fn parse(name: &str) -> Option<ChecksumAlgorithm> {
        Some(match name.to_ascii_lowercase().as_str() {
            "sha" | "sha1" => ChecksumAlgorithm::Sha1,
            "sha224" => ChecksumAlgorithm::Sha224,
            "sha256" => ChecksumAlgorithm::Sha256,
            "sha384" => ChecksumAlgorithm::Sha384,
            "sha512" => ChecksumAlgorithm::Sha512,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            ChecksumAlgorithm::Sha1 => "sha1",
            ChecksumAlgorithm::Sha224 => "sha224",
            ChecksumAlgorithm::Sha256 => "sha256",
            ChecksumAlgorithm::Sha384 => "sha384",
            ChecksumAlgorithm::Sha512 => "sha512",
        }
    }

    /// Bytes.
    pub fn size(self) -> usize {
        match self {
            ChecksumAlgorithm::Sha1 => 20,
            ChecksumAlgorithm::Sha224 => 28,
            ChecksumAlgorithm::Sha256 => 32,
            ChecksumAlgorithm::Sha384 => 48,
            ChecksumAlgorithm::Sha512 => 64,
        }
    }
}

/// An algorithm and lower-case hexadecimal digits of its length.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Checksum {
    algorithm: ChecksumAlgorithm,
    hex: String,
}

impl Checksum {
    pub fn new(algorithm: ChecksumAlgorithm, hex: &str) -> Option<Checksum> {
        let hex = hex.trim();
        let fits = hex.len() == 2 * algorithm.size() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| Checksum { algorithm, hex: hex.to_ascii_lowercase() })
    }

    /// `algorithm:digits`, as [`Display`](fmt::Display) writes it.
    pub fn parse(text: &str) -> Option<Checksum> {
        let (name, hex) = text.split_once(':')?;
        Checksum::new(ChecksumAlgorithm::parse(name)?, hex)
    }

    pub fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Whether forgeries of it are known.
    pub fn is_weak(&self) -> bool {
        self.algorithm == ChecksumAlgorithm::Sha1
    }

    /// As the digests of the store, where it is one of theirs.
    pub fn digest(&self) -> Option<Digest> {
        let algorithm = match self.algorithm {
            ChecksumAlgorithm::Sha256 => Algorithm::Sha256,
            ChecksumAlgorithm::Sha512 => Algorithm::Sha512,
            _ => return None,
        };
        Digest::from_hex(algorithm, &self.hex).ok()
    }

    pub fn of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Checksum {
        let mut hasher = ChecksumHasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

impl From<&Digest> for Checksum {
    fn from(digest: &Digest) -> Checksum {
        let algorithm = match digest.algorithm() {
            Algorithm::Sha256 => ChecksumAlgorithm::Sha256,
            Algorithm::Sha512 => ChecksumAlgorithm::Sha512,
        };
        Checksum { algorithm, hex: digest.hex().to_owned() }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// Incremental.
#[derive(Clone)]
pub enum ChecksumHasher {
    Sha1(Box<sha1::Sha1>),
    Sha224(sha2::Sha224),
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl ChecksumHasher {
    pub fn new(algorithm: ChecksumAlgorithm) -> ChecksumHasher {
        match algorithm {
            ChecksumAlgorithm::Sha1 => ChecksumHasher::Sha1(Box::default()),
            ChecksumAlgorithm::Sha224 => ChecksumHasher::Sha224(sha2::Sha224::new()),
            ChecksumAlgorithm::Sha256 => ChecksumHasher::Sha256(sha2::Sha256::new()),
            ChecksumAlgorithm::Sha384 => ChecksumHasher::Sha384(sha2::Sha384::new()),
            ChecksumAlgorithm::Sha512 => ChecksumHasher::Sha512(sha2::Sha512::new()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            ChecksumHasher::Sha1(hasher) => hasher.update(bytes),
            ChecksumHasher::Sha224(hasher) => hasher.update(bytes),
            ChecksumHasher::Sha256(hasher) => hasher.update(bytes),
            ChecksumHasher::Sha384(hasher) => hasher.update(bytes),
            ChecksumHasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub fn finish(self) -> Checksum {
        let (algorithm, bytes) = match self {
            ChecksumHasher::Sha1(hasher) => (ChecksumAlgorithm::Sha1, hasher.finalize().to_vec()),
            ChecksumHasher::Sha224(hasher) => (ChecksumAlgorithm::Sha224, hasher.finalize().to_vec()),
            ChecksumHasher::Sha256(hasher) => (ChecksumAlgorithm::Sha256, hasher.finalize().to_vec()),
            ChecksumHasher::Sha384(hasher) => (ChecksumAlgorithm::Sha384, hasher.finalize().to_vec()),
            ChecksumHasher::Sha512(hasher) => (ChecksumAlgorithm::Sha512, hasher.finalize().to_vec()),
        };
        Checksum { algorithm, hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_names_that_metadata_uses() {
        let empty = [
            ("sha", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ("sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ];
        for (name, hex) in empty {
            let algorithm = ChecksumAlgorithm::parse(name).unwrap();
            assert_eq!(Some(Checksum::of(algorithm, b"")), Checksum::new(algorithm, hex));
        }
        assert_eq!(ChecksumAlgorithm::parse("md5"), None);
        assert_eq!(Checksum::parse("sha256:00"), None);
        let whole = Checksum::of(ChecksumAlgorithm::Sha384, b"x");
        assert_eq!(Checksum::parse(&whole.to_string()), Some(whole));
    }
}
