//! Layers to an image: bodies stream into the squashfs as they come, tables last, straight into the SIF's own data object.

use super::BuildError;
use super::filesystem::Filesystem;
use crate::event::{Event, Observer, Task};
use crate::squashfs::{BodyId, Summary, WriteError, Writer};
use crate::store::{Contents, Held, Shadow, StoreError};
use crate::tree::{InodeId, Node, Source, Tree, TreePath};
use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};

/// Largest file of `/.singularity.d` and of app metadata that is kept while an archive streams by, for the metadata that is written on top.
const MAXIMUM_CAPTURE: u64 = 4 << 20;

/// A squashfs in the making: which bodies it has.
pub struct Packing<W: Write + Seek> {
    writer: Writer<W>,
    bodies: HashMap<(u32, TreePath), BodyId>,
    /// Layers of the filesystem that were streamed.
    streamed: usize,
    done: u64,
}

impl<W: Write + Seek> Packing<W> {
    pub fn new(writer: Writer<W>) -> Packing<W> {
        Packing { writer, bodies: HashMap::new(), streamed: 0, done: 0 }
    }

    /// Streams the layers that came since the last call, top-down, so that what an upper one hides is not packed. Archives get their index;
    /// the filesystem's tree is whole afterwards.
    pub fn stream(&mut self, filesystem: &mut Filesystem, observer: &dyn Observer) -> Result<(), BuildError> {
        let mut shadow = Shadow::default();
        for number in (self.streamed..filesystem.layers.len()).rev() {
            self.stream_layer(number, filesystem, &shadow, observer)?;
            shadow.cover(&filesystem.layers[number].layer);
        }
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
        let mut reported = *done;
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
            *done += size;
            if *done - reported > 1 << 20 {
                reported = *done;
                observer.observe(Event::Progress {
                    task: Task::Pack,
                    subject: "image".to_owned(),
                    done: *done,
                    total: None,
                });
            }
            Ok(())
        });
        match (result, failed) {
            (Err(error @ StoreError::Layer { .. }), _) => Err(error.into()),
            (_, Some(failed)) => Err(failed),
            (result, None) => Ok(result?),
        }
    }

    /// Writes the tables. `latest` is the newest time that an inode may have, in seconds since the epoch.
    pub fn finish(mut self, tree: &mut Tree, latest: Option<i64>) -> Result<(W, Summary), BuildError> {
        let fault =
            |path: &TreePath, error: WriteError| BuildError::Pack { path: path.clone(), cause: error.to_string() };
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
                let body =
                    self.writer.body(&mut bytes.as_ref(), bytes.len() as u64).map_err(|error| fault(path, error))?;
                inline.insert(*id, body);
            }
        }
        let (bodies, tree) = (&self.bodies, &*tree);
        self.writer
            .finish(tree, &|id| match &tree.inode(id).node {
                Node::File { source: Source::Layer { layer, path }, .. } => {
                    bodies.get(&(*layer, path.clone())).copied()
                }
                _ => inline.get(&id).copied(),
            })
            .map_err(|error| fault(&TreePath::root(), error))
    }
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
            read_all(&mut held.open(path).ok()?, (*size).min(MAXIMUM_CAPTURE)).ok()
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
