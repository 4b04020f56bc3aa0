//! Paths inside an image. Making one is the traversal check: no `..`, no NUL, never absolute on the host.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest path that is accepted, in bytes (Linux `PATH_MAX`).
pub const MAXIMUM_LENGTH: usize = 4096;

/// A path below an image's root: components joined by `/`, without a leading one; the root is empty.
///
/// Invariant: no component is empty, `.`, `..`, contains NUL, or is longer than 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TreePath(Vec<u8>);

/// Why bytes are not a path inside an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path {path:?} {cause}")]
pub struct PathError {
    pub path: String,
    pub cause: &'static str,
}

impl TreePath {
    pub fn root() -> TreePath {
        TreePath(Vec::new())
    }

    /// Takes `a/b`, `./a/b`, `/a/b`, `a//b/` alike; refuses `..` anywhere.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<TreePath, PathError> {
        let bytes = bytes.as_ref();
        let fault =
            |cause| PathError { path: String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).into_owned(), cause };
        if bytes.len() > MAXIMUM_LENGTH {
            return Err(fault("is longer than 4096 bytes"));
        }
        let mut path = Vec::with_capacity(bytes.len());
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(fault("climbs out with '..'")),
                _ => {}
            }
            if component.contains(&0) {
                return Err(fault("contains a NUL byte"));
            }
            if component.len() > 255 {
                return Err(fault("has a component longer than 255 bytes"));
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        Ok(TreePath(path))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// Last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.components().next_back().unwrap_or_default()
    }

    /// `None` for the root.
    pub fn parent(&self) -> Option<TreePath> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(TreePath(self.0[..end].to_vec()))
    }

    /// Appends what `more` says, checked like [`TreePath::parse`].
    pub fn join(&self, more: impl AsRef<[u8]>) -> Result<TreePath, PathError> {
        let mut bytes = self.0.clone();
        bytes.push(b'/');
        bytes.extend_from_slice(more.as_ref());
        TreePath::parse(bytes)
    }

    /// Whether this path is `other` or lies below it.
    pub fn is_within(&self, other: &TreePath) -> bool {
        other.is_root()
            || self.0 == other.0
            || (self.0.starts_with(&other.0) && self.0.get(other.0.len()) == Some(&b'/'))
    }

    /// The place on the host when the image's root lies at `root`. Symlinks are the caller's care.
    pub fn below(&self, root: &Path) -> PathBuf {
        if self.is_root() { root.to_path_buf() } else { root.join(OsStr::from_bytes(&self.0)) }
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &TreePath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TreePath {
    /// By components, so that a directory is followed by all that lies in it.
    fn cmp(&self, other: &TreePath) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_and_refuses_to_climb() {
        assert_eq!(TreePath::parse("./a//b/").unwrap().as_bytes(), b"a/b");
        assert_eq!(TreePath::parse("/").unwrap(), TreePath::root());
        assert!(TreePath::parse("a/../b").is_err());
        assert!(TreePath::parse(b"a\0b").is_err());
        assert!(TreePath::parse(vec![b'x'; 256]).is_err());
    }

    #[test]
    fn sorts_a_directory_before_its_content_before_its_neighbours() {
        let mut paths: Vec<_> = ["a.b", "a/c", "a", "b"].iter().map(|text| TreePath::parse(text).unwrap()).collect();
        paths.sort();
        let texts: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["/a", "/a/c", "/a.b", "/b"]);
    }
}
