//! Layers to an image: bodies stream into the squashfs as they come, tables last, straight into the SIF's own data object.

use super::BuildError;
use super::filesystem::Filesystem;
use crate::digest::Digest;
use crate::event::{Event, Observer, Task};
use crate::squashfs::{BodyId, Kept, ReadAt, SegmentBody, SegmentError, Summary, Window, WriteError, Writer};
use crate::store::{Contents, Held, Shadow, Store, StoreError};
use crate::tree::{Body, Change, InodeId, Kind, Layer, Node, Source, Tree, TreePath};
use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

/// Largest file of `/.singularity.d` and of app metadata that is kept while an archive streams by, for the metadata that is written on top.
const MAXIMUM_CAPTURE: u64 = 4 << 20;
/// Of a file that is read to be written anew, beyond which only its beginning is read.
const MAXIMUM_READ: u64 = crate::rpm::state::MAXIMUM as u64;

/// A squashfs in the making: which bodies it has.
pub struct Packing<'a, W: Write + Seek> {
    writer: Writer<W>,
    store: &'a Store,
    /// By number of segment: the layer whose blocks are worth keeping.
    segments: Vec<Option<Digest>>,
    bodies: HashMap<(u32, TreePath), BodyId>,
    /// Layers of the filesystem that were streamed.
    streamed: usize,
    done: Progress,
}

/// What was packed, and what of it can be kept.
pub struct Packed {
    pub summary: Summary,
    segments: Vec<Option<Digest>>,
}

impl Packed {
    /// Keeps the blocks of the store's layers for later images. `image` is the squashfs.
    pub fn keep(
        &self,
        image: &dyn ReadAt,
        options: &crate::squashfs::Options,
        store: &Store,
    ) -> Result<(), StoreError> {
        for segment in &self.summary.segments {
            if let Some(Some(key)) = self.segments.get(segment.number()) {
                store.add_supplement(key, &Kept::name(options), &mut |out| segment.keep(image, options, out))?;
            }
        }
        Ok(())
    }
}

/// Bytes that are done, told at intervals.
#[derive(Default)]
struct Progress {
    done: u64,
    told: u64,
}

impl Progress {
    fn add(&mut self, size: u64, observer: &dyn Observer) {
        self.done += size;
        if self.done - self.told > 1 << 20 {
            self.told = self.done;
            let (task, subject, done) = (Task::Pack, "image".to_owned(), self.done);
            observer.observe(Event::Progress { task, subject, done, total: None });
        }
    }
}

impl<'a, W: Write + Seek> Packing<'a, W> {
    pub fn new(writer: Writer<W>, store: &'a Store) -> Packing<'a, W> {
        Packing { writer, store, segments: Vec::new(), bodies: HashMap::new(), streamed: 0, done: Progress::default() }
    }

    /// Streams the layers that came since the last call, top-down, so that what an upper one hides is not packed. Archives get their index;
    /// the filesystem's tree is whole afterwards.
    pub fn stream(&mut self, filesystem: &mut Filesystem, observer: &dyn Observer) -> Result<(), BuildError> {
        let mut shadow = Shadow::default();
        for number in (self.streamed..filesystem.layers.len()).rev() {
            match filesystem.layers[number].contents {
                Contents::Directory(_) | Contents::Squashfs(_) => {
                    let key = filesystem.chain.get(number);
                    self.stream_segment(number, &filesystem.layers[number], key, &shadow, observer)?;
                }
                _ => self.stream_layer(number, filesystem, &shadow, observer)?,
            }
            shadow.cover(&filesystem.layers[number].layer);
        }
        // The next layers' tails stay out of the fragments of these, as they do when these lie in a directory.
        self.writer.part().map_err(|error| pack_fault(&TreePath::root(), error))?;
        for number in self.streamed..filesystem.layers.len() {
            if matches!(filesystem.layers[number].contents, Contents::Archive(..)) {
                let layer = &filesystem.layers[number].layer;
                filesystem.tree.apply(layer, number as u32).map_err(StoreError::from)?;
            }
        }
        self.streamed = filesystem.layers.len();
        Ok(())
    }

    fn stream_layer(
        &mut self,
        number: usize,
        filesystem: &mut Filesystem,
        shadow: &Shadow,
        observer: &dyn Observer,
    ) -> Result<(), BuildError> {
        let Packing { writer, bodies, done, .. } = self;
        let Filesystem { layers, captured, .. } = filesystem;
        let held = &mut layers[number];
        let archive = matches!(held.contents, Contents::Archive(..));
        let mut failed = None;
        let result = held.stream(&|path| !shadow.hides(path), &mut |path, size, body| {
            let key = (number as u32, path.clone());
            let packed = match archive && is_metadata(path) && size <= MAXIMUM_CAPTURE {
                true => read_all(body, size).map_err(|error| error.to_string()).and_then(|bytes| {
                    let id = writer.body(&mut bytes.as_slice(), size).map_err(|error| error.to_string());
                    captured.insert(key.clone(), bytes);
                    id
                }),
                false => writer.body(body, size).map_err(|error| error.to_string()),
            };
            match packed {
                Ok(id) => bodies.insert(key, id),
                Err(cause) => {
                    failed = Some(BuildError::Pack { path: path.clone(), cause: cause.clone() });
                    return Err(StoreError::Read { subject: path.to_string(), cause });
                }
            };
            done.add(size, observer);
            Ok(())
        });
        match (result, failed) {
            (Err(error @ StoreError::Layer { .. }), _) => Err(error.into()),
            (_, Some(failed)) => Err(failed),
            (result, None) => Ok(result?),
        }
    }

    /// A layer whose files can be opened by path.
    fn stream_segment(
        &mut self,
        number: usize,
        held: &Held,
        key: Option<&Digest>,
        shadow: &Shadow,
        observer: &dyn Observer,
    ) -> Result<(), BuildError> {
        let stored: Vec<(&TreePath, SegmentBody)> = stored_bodies(&held.layer)
            .map(|(path, size)| (path, SegmentBody { size, visible: !shadow.hides(path) }))
            .collect();
        let bodies: Vec<SegmentBody> = stored.iter().map(|(_, body)| *body).collect();
        let Some(opener) = held.opener()? else { return Ok(()) };
        let options = *self.writer.options();
        let kept = key.and_then(|key| self.store.supplement(key, &Kept::name(&options))).and_then(|file| {
            // Damaged blocks are made anew and replaced.
            let kept = Kept::open(Box::new(Window::whole(file).ok()?), &options, bodies.len()).ok()??;
            Some(Arc::new(kept))
        });
        let record = key.is_some() && !kept.as_ref().is_some_and(|kept| kept.covers(&bodies, &options));
        self.segments.push(key.filter(|_| record).cloned());
        let open = |body: usize, offset: u64| opener(stored[body].0, offset);
        let done = &mut self.done;
        let ids = self.writer.segment(&bodies, &open, kept, record, &mut |size| done.add(size, observer)).map_err(
            |SegmentError { body, error }| {
                let path = stored.get(body).map_or_else(TreePath::root, |(path, _)| (*path).clone());
                BuildError::Pack { path, cause: error.to_string() }
            },
        )?;
        for ((path, _), id) in stored.iter().zip(ids) {
            if let Some(id) = id {
                self.bodies.insert((number as u32, (*path).clone()), id);
            }
        }
        Ok(())
    }

    /// Writes the tables. `latest` is the newest time that an inode may have, in seconds since the epoch.
    pub fn finish(mut self, tree: &mut Tree, latest: Option<i64>) -> Result<Packed, BuildError> {
        let names = tree.walk();
        let mut inline: HashMap<InodeId, BodyId> = HashMap::new();
        for (path, id) in &names {
            if let Some(latest) = latest {
                let metadata = &mut tree.inode_mut(*id).metadata;
                metadata.mtime = metadata.mtime.min(latest);
            }
            if let Node::File { source: Source::Inline(bytes), .. } = &tree.inode(*id).node
                && !inline.contains_key(id)
            {
                let body = self
                    .writer
                    .body(&mut bytes.as_ref(), bytes.len() as u64)
                    .map_err(|error| pack_fault(path, error))?;
                inline.insert(*id, body);
            }
        }
        let (bodies, tree) = (&self.bodies, &*tree);
        let (_, summary) = self
            .writer
            .finish(tree, &|id| match &tree.inode(id).node {
                Node::File { source: Source::Layer { layer, path }, .. } => {
                    bodies.get(&(*layer, path.clone())).copied()
                }
                _ => inline.get(&id).copied(),
            })
            .map_err(|error| pack_fault(&TreePath::root(), error))?;
        Ok(Packed { summary, segments: self.segments })
    }
}

fn pack_fault(path: &TreePath, error: WriteError) -> BuildError {
    BuildError::Pack { path: path.clone(), cause: error.to_string() }
}

/// Regular files whose bodies are in the layer's contents, in the order of its index.
pub fn stored_bodies(layer: &Layer) -> impl Iterator<Item = (&TreePath, u64)> {
    layer.entries.iter().filter_map(|entry| match &entry.change {
        Change::Put(_, Kind::File { size, body: Body::Stored }) => Some((&entry.path, *size)),
        _ => None,
    })
}

/// Reads one file of a merged tree; `captured` serves layers that cannot be opened by path.
pub fn read_in(
    tree: &Tree,
    layers: &[Held],
    path: &TreePath,
    captured: &dyn Fn(u32, &TreePath) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let (_, found) = tree.resolve(path.as_bytes(), true).ok()?;
    let Node::File { size, source } = &tree.inode(found?).node else { return None };
    match source {
        Source::Inline(bytes) => Some(bytes.to_vec()),
        Source::Layer { layer, path } => {
            let held = layers.get(*layer as usize)?;
            if matches!(held.contents, Contents::Archive(..)) {
                return captured(*layer, path);
            }
            read_all(&mut held.open(path).ok()?, (*size).min(MAXIMUM_READ)).ok()
        }
    }
}

fn read_all(body: &mut dyn Read, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    body.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_metadata(path: &TreePath) -> bool {
    path.components().next().is_some_and(|first| first == b".singularity.d")
        || (path.as_bytes().starts_with(b"scif/apps/") && path.components().nth(3).is_some_and(|part| part == b"scif"))
}
