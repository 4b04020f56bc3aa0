//! `%files`: what is copied, as a layer (facts §1.4). From the host as `cp -fLr` does, from a stage as tar does.

use super::BuildError;
use super::glob::{self, Listing};
use crate::definition::FileEntry;
use crate::store::{Contents, Held, Origin};
use crate::tree::{Body, Change, Entry, InodeId, Kind, Layer, Metadata, Node, Source, Tree, TreePath};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directories below one source, at most: a symlink loop through bind mounts must end too.
const MAXIMUM_DEPTH: usize = 256;

/// What a copy wants to know besides its entries.
#[derive(Clone)]
pub struct CopyOptions {
    /// Relative sources are taken from here (the directory that `build` was called in).
    pub directory: PathBuf,
    /// Given to everything copied: `cp` does not keep times.
    pub modification_time: i64,
    /// The definition's name and text, for messages.
    pub source: Arc<crate::source::SourceFile>,
}

/// A copy in the making: the target's tree as it is so far, and what is added.
pub struct Copy {
    tree: Tree,
    layer: Layer,
    origins: BTreeMap<TreePath, Origin>,
    /// Paths of the layer.
    added: HashSet<TreePath>,
    options: CopyOptions,
    pub warnings: Vec<String>,
}

impl Copy {
    pub fn new(tree: Tree, options: CopyOptions) -> Copy {
        let (layer, origins, added) = (Layer::default(), BTreeMap::new(), HashSet::new());
        Copy { tree, layer, origins, added, options, warnings: Vec::new() }
    }

    pub fn finish(self) -> Held {
        Held { layer: self.layer, contents: Contents::Copied(self.origins) }
    }

    /// One line of a host `%files` block.
    pub fn add_host(&mut self, entry: &FileEntry) -> Result<(), BuildError> {
        let fault = |cause: String| self.fault(entry, cause);
        let pattern = glob::expand_variables(&entry.source).map_err(|cause| fault(cause.to_owned()))?;
        if pattern.is_empty() {
            self.warnings.push(format!("{}: a copy without a source is skipped", self.place(entry)));
            return Ok(());
        }
        let directory = self.options.directory.clone();
        let host = Host { directory: &directory };
        for matched in glob::expand(&pattern, &host) {
            let path = host.place(&matched);
            let metadata = fs::metadata(&path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    self.fault(entry, format!("{} does not exist on this host", path.display()))
                }
                _ => self.fault(entry, format!("cannot read {}: {error}", path.display())),
            })?;
            let target = self.target(entry, &matched, base_name(&matched))?;
            self.copy_host(entry, &path, &metadata, target, &mut Vec::new())?;
        }
        Ok(())
    }

    /// One line of a `%files from STAGE` block.
    pub fn add_stage(&mut self, entry: &FileEntry, stage: &StageFiles) -> Result<(), BuildError> {
        let pattern = glob::expand_variables(&entry.source).map_err(|cause| self.fault(entry, cause.to_owned()))?;
        let pattern = if pattern.starts_with('/') { pattern } else { format!("/{pattern}") };
        for matched in glob::expand(&pattern, stage) {
            let (real, found) =
                stage.tree.resolve(&matched, true).map_err(|error| self.fault(entry, error.to_string()))?;
            let Some(id) = found else {
                let shown = String::from_utf8_lossy(&matched);
                return Err(self.fault(entry, format!("{shown} does not exist in the stage {}", stage.name)));
            };
            let target = self.target(entry, &matched, base_name(&matched))?;
            self.copy_tree(entry, stage, id, &real, target, &mut HashMap::new())?;
        }
        Ok(())
    }

    /// Where one matched source goes: facts §1.4, "Destination".
    fn target(&mut self, entry: &FileEntry, matched: &[u8], name: &[u8]) -> Result<TreePath, BuildError> {
        let wanted = if entry.destination.is_empty() { matched } else { entry.destination.as_bytes() };
        let slash = wanted.ends_with(b"/");
        let (real, found) = self.tree.resolve(wanted, true).map_err(|error| self.fault(entry, error.to_string()))?;
        let into_directory = match found {
            Some(id) => matches!(self.tree.inode(id).node, Node::Directory(_)),
            None => slash,
        };
        if found.is_some() && slash && !into_directory {
            return Err(self.fault(entry, format!("{real} is not a directory in the image")));
        }
        if found.is_none() {
            let directory = if slash { real.clone() } else { real.parent().unwrap_or_default() };
            self.make_directories(entry, &directory)?;
        }
        // Compat: `cp -r DIR/. TARGET` copies the content, not a directory named '.'.
        if into_directory && !matches!(name, b"." | b".." | b"") {
            return real.join(name).map_err(|error| self.fault(entry, error.to_string()));
        }
        Ok(real)
    }

    fn make_directories(&mut self, entry: &FileEntry, path: &TreePath) -> Result<(), BuildError> {
        let mut at = TreePath::root();
        for component in path.components() {
            at = at.join(component).map_err(|error| self.fault(entry, error.to_string()))?;
            if self.tree.get(&at).is_none() {
                let metadata = Metadata::new(0o755, self.options.modification_time);
                self.add(entry, &at, Change::Put(metadata, Kind::Directory))?;
            }
        }
        Ok(())
    }

    fn copy_host(
        &mut self,
        entry: &FileEntry,
        path: &Path,
        metadata: &fs::Metadata,
        target: TreePath,
        above: &mut Vec<(u64, u64)>,
    ) -> Result<(), BuildError> {
        // `cp` without `-p`: the source's permissions under the build's umask of 0002, and no set-id bits.
        let mut new = Metadata::new((metadata.mode() & 0o777 & !0o002) as u16, self.options.modification_time);
        let kind = metadata.file_type();
        if kind.is_dir() {
            let identity = (metadata.dev(), metadata.ino());
            if above.contains(&identity) || above.len() > MAXIMUM_DEPTH {
                return Err(self.fault(entry, format!("{} contains itself through a symbolic link", path.display())));
            }
            if self.tree.get(&target).is_none_or(|id| !matches!(self.tree.inode(id).node, Node::Directory(_))) {
                new.mode |= 0o700;
                self.add(entry, &target, Change::Put(new, Kind::Directory))?;
            }
            above.push(identity);
            for (name, below, metadata) in self.list_host(entry, path)? {
                let target = target.join(&name).map_err(|error| self.fault(entry, error.to_string()))?;
                self.copy_host(entry, &below, &metadata, target, above)?;
            }
            above.pop();
            return Ok(());
        }
        if kind.is_fifo() {
            return self.add(entry, &target, Change::Put(new, Kind::Fifo));
        }
        if !kind.is_file() {
            return Err(self.fault(
                entry,
                format!("{} is a device or a socket; %files copies files, directories and links", path.display()),
            ));
        }
        let change = Change::Put(new, Kind::File { size: metadata.len(), body: Body::Stored });
        self.add_file(entry, &target, change, Some(Origin::Host(path.to_path_buf())))
    }

    fn list_host(&self, entry: &FileEntry, path: &Path) -> Result<Vec<(Vec<u8>, PathBuf, fs::Metadata)>, BuildError> {
        let fault =
            |path: &Path, error: std::io::Error| self.fault(entry, format!("cannot read {}: {error}", path.display()));
        let mut found = Vec::new();
        for child in fs::read_dir(path).map_err(|error| fault(path, error))? {
            let child = child.map_err(|error| fault(path, error))?;
            let metadata = fs::metadata(child.path()).map_err(|error| fault(&child.path(), error))?;
            found.push((child.file_name().into_vec(), child.path(), metadata));
        }
        found.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(found)
    }

    fn copy_tree(
        &mut self,
        entry: &FileEntry,
        stage: &StageFiles,
        id: InodeId,
        path: &TreePath,
        target: TreePath,
        links: &mut HashMap<InodeId, TreePath>,
    ) -> Result<(), BuildError> {
        let inode = stage.tree.inode(id);
        if let Some(first) = links.get(&id) {
            let change = Change::Link(first.clone());
            return self.add(entry, &target, change);
        }
        let mut origin = None;
        let kind = match &inode.node {
            Node::Directory(children) => {
                self.add(entry, &target, Change::Put(inode.metadata.clone(), Kind::Directory))?;
                for (name, child) in children {
                    let fault = |error: crate::tree::PathError| self.fault(entry, error.to_string());
                    let (from, to) = (path.join(name).map_err(fault)?, target.join(name).map_err(fault)?);
                    self.copy_tree(entry, stage, *child, &from, to, links)?;
                }
                return Ok(());
            }
            Node::File { size, source: Source::Inline(bytes) } => {
                Kind::File { size: *size, body: Body::Inline(Arc::clone(bytes)) }
            }
            Node::File { size, source: Source::Layer { layer, path } } => {
                let held = Arc::clone(&stage.layers[*layer as usize]);
                origin = Some(Origin::Layer(held, path.clone()));
                Kind::File { size: *size, body: Body::Stored }
            }
            Node::Symlink { target } => Kind::Symlink { target: target.clone() },
            _ => {
                self.warnings.push(format!(
                    "{}: {path} of the stage {} is a device, fifo or socket and is not copied",
                    self.place(entry),
                    stage.name
                ));
                return Ok(());
            }
        };
        links.insert(id, target.clone());
        self.add_file(entry, &target, Change::Put(inode.metadata.clone(), kind), origin)
    }

    fn add_file(
        &mut self,
        entry: &FileEntry,
        path: &TreePath,
        change: Change,
        origin: Option<Origin>,
    ) -> Result<(), BuildError> {
        self.add(entry, path, change)?;
        if let Some(origin) = origin {
            self.origins.insert(path.clone(), origin);
        }
        Ok(())
    }

    fn add(&mut self, entry: &FileEntry, path: &TreePath, change: Change) -> Result<(), BuildError> {
        let one = Entry { path: path.clone(), change };
        if path.is_root() && !matches!(one.change, Change::Put(_, Kind::Directory)) {
            return Err(self.fault(entry, "the destination is the image's root directory".to_owned()));
        }
        if let (Change::Put(_, kind), Some(id)) = (&one.change, self.tree.get(path)) {
            let is_directory = matches!(self.tree.inode(id).node, Node::Directory(_));
            if is_directory && *kind != Kind::Directory {
                return Err(self
                    .fault(entry, format!("{path} is a directory in the image and cannot be overwritten by a file")));
            }
            if !is_directory && *kind == Kind::Directory {
                return Err(self.fault(
                    entry,
                    format!("{path} is not a directory in the image and cannot take the content of one"),
                ));
            }
            if is_directory {
                // An existing directory keeps its metadata.
                return Ok(());
            }
        }
        let layer = Layer { entries: vec![one.clone()] };
        self.tree.apply(&layer, 0).map_err(|error| self.fault(entry, error.to_string()))?;
        if !self.added.insert(path.clone()) {
            self.retire(path);
        }
        self.layer.entries.push(one);
        Ok(())
    }

    /// Removes what an earlier line copied to `path`: a layer's contents have one body for each path. Other names of the same file
    /// keep it.
    fn retire(&mut self, path: &TreePath) {
        let Some(at) = self.layer.entries.iter().rposition(|earlier| earlier.path == *path) else { return };
        let earlier = self.layer.entries.remove(at);
        let origin = self.origins.remove(path);
        let mut heir: Option<TreePath> = None;
        for other in &mut self.layer.entries {
            if !matches!(&other.change, Change::Link(target) if target == path) {
                continue;
            }
            match &heir {
                Some(heir) => other.change = Change::Link(heir.clone()),
                None => {
                    other.change = earlier.change.clone();
                    heir = Some(other.path.clone());
                }
            }
        }
        if let (Some(heir), Some(origin)) = (heir, origin) {
            self.origins.insert(heir, origin);
        }
    }

    fn place(&self, entry: &FileEntry) -> String {
        let (line, _) = self.options.source.position(entry.span.start);
        format!("{}:{line}", self.options.source.name)
    }

    fn fault(&self, entry: &FileEntry, cause: String) -> BuildError {
        BuildError::Copy { place: self.place(entry), source_path: entry.source.clone(), cause }
    }
}

/// A finished stage, as `%files from` sees it.
pub struct StageFiles {
    pub name: String,
    pub tree: Tree,
    pub layers: Vec<Arc<Held>>,
}

impl Listing for StageFiles {
    fn names(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        match self.tree.resolve(directory, true) {
            Ok((_, Some(id))) => match &self.tree.inode(id).node {
                Node::Directory(children) => children.keys().cloned().collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    fn exists(&self, path: &[u8]) -> bool {
        matches!(self.tree.resolve(path, false), Ok((_, Some(_))))
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        matches!(self.tree.resolve(path, false), Ok((_, Some(id))) if matches!(self.tree.inode(id).node, Node::Directory(_)))
    }
}

/// The host's filesystem as patterns see it.
pub struct Host<'a> {
    pub directory: &'a Path,
}

impl Host<'_> {
    pub fn place(&self, path: &[u8]) -> PathBuf {
        self.directory.join(OsStr::from_bytes(path))
    }
}

impl Listing for Host<'_> {
    fn names(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.place(directory)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_vec()).collect()
    }

    fn exists(&self, path: &[u8]) -> bool {
        fs::symlink_metadata(self.place(path)).is_ok()
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        fs::symlink_metadata(self.place(path)).is_ok_and(|metadata| metadata.is_dir())
    }
}

fn base_name(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    &path[start..end]
}
