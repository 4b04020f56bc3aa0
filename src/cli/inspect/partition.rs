//! The metadata of a squashfs file system.

use super::{InspectError, MAXIMUM_SIZE};
use crate::sif::metadata::{self, Metadata};
use crate::squashfs::{Image, ReadAt};
use crate::tree::{InodeId, Node};
use std::cell::RefCell;
use std::io::{self, Read};
use std::path::Path;

/// Reads the file system's metadata; `path` is for errors.
pub fn describe(path: &Path, source: impl ReadAt) -> Result<Metadata, InspectError> {
    let image = Image::open(source).map_err(|cause| InspectError::Squashfs { path: path.to_owned(), cause })?;
    let failure = RefCell::new(None);
    let read = |file: &str| match body(&image, find(&image, file)?) {
        Ok(bytes) => bytes,
        Err(cause) => {
            failure.borrow_mut().get_or_insert(cause);
            None
        }
    };
    let list = |directory: &str| match find(&image, directory).map(|id| &image.tree.inode(id).node) {
        Some(Node::Directory(entries)) => {
            entries.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
        }
        _ => Vec::new(),
    };
    let metadata = metadata::describe(&read, &list);
    match failure.into_inner() {
        Some(cause) => Err(InspectError::Body { path: path.to_owned(), cause }),
        None => Ok(metadata),
    }
}

/// Follows symbolic links inside the file system.
fn find<S>(image: &Image<S>, path: &str) -> Option<InodeId> {
    image.tree.resolve(path.as_bytes(), true).ok()?.1
}

/// Nothing for what is no regular file.
fn body<S: ReadAt>(image: &Image<S>, id: InodeId) -> io::Result<Option<Vec<u8>>> {
    let Node::File { .. } = image.tree.inode(id).node else { return Ok(None) };
    let mut bytes = Vec::new();
    image.body(id).map_err(io::Error::other)?.take(MAXIMUM_SIZE).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
