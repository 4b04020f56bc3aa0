//! A layer in hand: its index, and where the bodies of its files are.
//!
//! A layer has up to three forms (design, "three forms of one layer"). Here are the two that exist: the archive, which can only be
//! streamed, and the forms that can be opened file by file.

use super::ahead::Ahead;
use super::{LayerBlob, StoreError, at};
use crate::archive::layer::{Dialect, read_layer};
use crate::squashfs::{BodyReader, Image, ReadAt};
use crate::tree::{Body, Change, Entry, Kind, Layer, TreePath};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the bodies of one layer's files are.
#[derive(Clone)]
pub enum Contents {
    /// All bodies stand in the index.
    Inline,
    /// Below a directory, under the entries' own paths.
    Directory(PathBuf),
    /// In an archive that is only streamed; the index is unknown before.
    Archive(LayerBlob, Dialect),
    /// In a squashfs.
    Squashfs(Arc<Image<Box<dyn ReadAt + Send>>>),
    /// Each from a place of its own: what `%files` copies.
    Copied(BTreeMap<TreePath, Origin>),
}

/// Where one copied body comes from.
#[derive(Clone)]
pub enum Origin {
    Host(PathBuf),
    Layer(Arc<Held>, TreePath),
}

/// A layer in hand. For an archive, `layer` is empty until it was streamed.
#[derive(Clone)]
pub struct Held {
    pub layer: Layer,
    pub contents: Contents,
}

/// See [`Held::opener`].
pub type Opener<'a> = Box<dyn Fn(&TreePath, u64) -> io::Result<Box<dyn Read + 'a>> + 'a>;

/// Called for each regular file whose body is in the contents: path, size, body.
pub type EachBody<'a> = &'a mut dyn FnMut(&TreePath, u64, &mut dyn Read) -> Result<(), StoreError>;

impl Held {
    pub fn inline(layer: Layer) -> Held {
        Held { layer, contents: Contents::Inline }
    }

    pub fn archive(blob: LayerBlob, dialect: Dialect) -> Held {
        Held { layer: Layer::default(), contents: Contents::Archive(blob, dialect) }
    }

    /// Opens one stored body. An archive cannot do that.
    pub fn open(&self, path: &TreePath) -> Result<Box<dyn Read + '_>, StoreError> {
        match &self.contents {
            Contents::Directory(root) => {
                let directory = File::open(root).map_err(at("cannot open", root))?;
                crate::disk::open_body(directory.as_fd(), path)
                    .map(|file| Box::new(file) as Box<dyn Read>)
                    .map_err(|error| StoreError::Read { subject: path.to_string(), cause: error.to_string() })
            }
            Contents::Squashfs(image) => open_in_image(image, path),
            Contents::Copied(origins) => match origins.get(path) {
                Some(Origin::Host(host)) => Ok(Box::new(File::open(host).map_err(at("cannot read", host))?)),
                Some(Origin::Layer(held, path)) => held.open(path),
                None => Err(missing(path)),
            },
            Contents::Inline => self.open_inline(path),
            Contents::Archive(..) => unreachable!("an archive is streamed, not opened by path"),
        }
    }

    /// Opens stored bodies one after another, each at an offset; `None` where the contents are not one directory or image.
    pub fn opener(&self) -> Result<Option<Opener<'_>>, StoreError> {
        Ok(match &self.contents {
            Contents::Directory(root) => {
                let directory = File::open(root).map_err(at("cannot open", root))?;
                Some(Box::new(move |path, offset| {
                    let mut file = crate::disk::open_body(directory.as_fd(), path)?;
                    if offset > 0 {
                        file.seek(SeekFrom::Start(offset))?;
                    }
                    Ok(Box::new(file) as Box<dyn Read>)
                }))
            }
            Contents::Squashfs(image) => Some(Box::new(|path, offset| {
                let mut body = body_in_image(image, path).map_err(io::Error::other)?;
                body.skip(offset)?;
                Ok(Box::new(body) as Box<dyn Read>)
            })),
            _ => None,
        })
    }

    fn open_inline(&self, path: &TreePath) -> Result<Box<dyn Read + '_>, StoreError> {
        let found = self.layer.entries.iter().rev().find(|entry| entry.path == *path);
        match found.map(|entry| &entry.change) {
            Some(Change::Put(_, Kind::File { body: Body::Inline(bytes), .. })) => {
                Ok(Box::new(io::Cursor::new(bytes.as_ref())))
            }
            _ => Err(missing(path)),
        }
    }

    /// Passes every stored body of a regular file for which `wanted` says yes, in the index's order.
    /// Streaming an archive fills in its index.
    pub fn stream(&mut self, wanted: &dyn Fn(&TreePath) -> bool, each: EachBody<'_>) -> Result<(), StoreError> {
        if let Contents::Archive(blob, dialect) = &self.contents {
            self.layer = stream_archive(blob, *dialect, wanted, each)?;
            return Ok(());
        }
        for entry in &self.layer.entries {
            if let Change::Put(_, Kind::File { size, body: Body::Stored }) = &entry.change
                && wanted(&entry.path)
            {
                let mut body = self.open(&entry.path)?;
                each(&entry.path, *size, &mut body)?;
            }
        }
        Ok(())
    }
}

fn missing(path: &TreePath) -> StoreError {
    StoreError::Read { subject: path.to_string(), cause: "its content is not in the layer".to_owned() }
}

fn open_in_image<'a, S: ReadAt>(image: &'a Image<S>, path: &TreePath) -> Result<Box<dyn Read + 'a>, StoreError> {
    body_in_image(image, path).map(|body| Box::new(body) as Box<dyn Read>)
}

fn body_in_image<'a, S: ReadAt>(image: &'a Image<S>, path: &TreePath) -> Result<BodyReader<'a, S>, StoreError> {
    let inode = image.tree.get(path).ok_or_else(|| missing(path))?;
    image.body(inode).map_err(|error| StoreError::Read { subject: path.to_string(), cause: error.to_string() })
}

fn stream_archive(
    blob: &LayerBlob,
    dialect: Dialect,
    wanted: &dyn Fn(&TreePath) -> bool,
    each: EachBody<'_>,
) -> Result<Layer, StoreError> {
    let fault = |cause: String| StoreError::Layer { file: blob.file.clone(), cause };
    let reader = blob.open_tar().and_then(Ahead::new).map_err(|error| fault(error.to_string()))?;
    let mut failed = None;
    let layer = read_layer(reader, dialect, &mut |entry: &Entry, body: Option<&mut dyn Read>| {
        let (Change::Put(_, Kind::File { size, .. }), Some(body)) = (&entry.change, body) else { return Ok(()) };
        if !wanted(&entry.path) {
            return Ok(());
        }
        let mut body = Noting { body, fault: None };
        if let Err(error) = each(&entry.path, *size, &mut body) {
            failed = Some(body.fault.map_or(error, fault));
            return Err(io::Error::other("stopped"));
        }
        Ok(())
    });
    match failed {
        Some(error) => Err(error),
        None => layer.map_err(|error| fault(error.to_string())),
    }
}

/// Tells whether it was the archive that failed, or what its content was given to.
struct Noting<'a> {
    body: &'a mut dyn Read,
    fault: Option<String>,
}

impl Read for Noting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer).inspect_err(|error| self.fault = Some(error.to_string()))
    }
}

/// What upper layers hide of those below, while layers are read top-down.
#[derive(Default)]
pub struct Shadow {
    /// Files, links, devices and whiteouts: they hide their own path and all below it.
    hidden: HashSet<TreePath>,
    /// Directories whose lower content is gone.
    opaque: HashSet<TreePath>,
}

impl Shadow {
    /// Adds a layer that lies above all that is asked about next.
    pub fn cover(&mut self, layer: &Layer) {
        for entry in &layer.entries {
            match &entry.change {
                Change::Put(_, Kind::Directory) => {}
                Change::Opaque => {
                    self.opaque.insert(entry.path.clone());
                }
                _ => {
                    self.hidden.insert(entry.path.clone());
                }
            }
        }
    }

    pub fn hides(&self, path: &TreePath) -> bool {
        if self.hidden.contains(path) {
            return true;
        }
        let mut at = path.parent();
        while let Some(parent) = at {
            if self.hidden.contains(&parent) || self.opaque.contains(&parent) {
                return true;
            }
            at = parent.parent();
        }
        false
    }
}
