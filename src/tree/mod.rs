//! A filesystem as a value: layers (changes) and the tree that they make when merged.
//!
//! Knows nothing of definitions, archives or images.

mod layer;
mod path;
pub mod text;

pub use layer::{Body, Change, Entry, Kind, Layer, Metadata, Xattrs};
pub use path::{PathError, TreePath};

use std::collections::BTreeMap;
use std::sync::Arc;

/// Symlinks followed in one look-up before it is given up (Linux follows 40).
const MAXIMUM_SYMLINKS: u32 = 40;
/// Inodes of one tree, some 2 GB of memory: one member of an archive may stand for two thousand directories that are made on its way.
const MAXIMUM_INODES: usize = 8 << 20;

/// Index of an inode in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(pub u32);

/// Where a merged file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the contents of layer number `layer` (as given to [`Tree::apply`]) under `path`.
    Layer {
        layer: u32,
        path: TreePath,
    },
    Inline(Arc<[u8]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Directory(BTreeMap<Vec<u8>, InodeId>),
    File { size: u64, source: Source },
    Symlink { target: Vec<u8> },
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
    Socket,
}

impl Node {
    /// The same as a layer says it; a file's body is stored elsewhere.
    pub fn kind(&self) -> Kind {
        match self {
            Node::Directory(_) => Kind::Directory,
            Node::File { size, .. } => Kind::File { size: *size, body: Body::Stored },
            Node::Symlink { target } => Kind::Symlink { target: target.clone() },
            Node::CharacterDevice { major, minor } => Kind::CharacterDevice { major: *major, minor: *minor },
            Node::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
            Node::Fifo => Kind::Fifo,
            Node::Socket => Kind::Socket,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    pub metadata: Metadata,
    pub node: Node,
}

/// Layers merged. Hard links are names that share an [`InodeId`].
#[derive(Clone, Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
}

/// Why a layer does not fit on what lies below it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("{path} lies below {parent}, which is not a directory")]
    ParentNotDirectory { path: TreePath, parent: TreePath },
    #[error("{path} is a hard link to {target}, which does not exist")]
    LinkTargetMissing { path: TreePath, target: TreePath },
    #[error("{path} is a hard link to {target}, which is a directory")]
    LinkToDirectory { path: TreePath, target: TreePath },
    #[error("the root directory would be a hard link to {target}")]
    LinkAsRoot { target: TreePath },
    #[error("{path}: more than 40 symbolic links")]
    TooManySymlinks { path: TreePath },
    #[error("{path}: the tree would have more than {limit} files and directories")]
    TooManyInodes { path: TreePath, limit: usize },
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    pub const ROOT: InodeId = InodeId(0);

    /// An empty root directory, mode 0755, owned by root, dated to the epoch.
    pub fn new() -> Tree {
        Tree { inodes: vec![Inode { metadata: Metadata::new(0o755, 0), node: Node::Directory(BTreeMap::new()) }] }
    }

    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }

    pub fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0 as usize]
    }

    /// All inodes ever made here; some may be unreachable. Bounds [`InodeId`]s.
    pub fn capacity(&self) -> usize {
        self.inodes.len()
    }

    /// Exact look-up: no symlink is followed.
    pub fn get(&self, path: &TreePath) -> Option<InodeId> {
        let mut id = Tree::ROOT;
        for component in path.components() {
            id = self.child(id, component)?;
        }
        Some(id)
    }

    pub fn child(&self, directory: InodeId, name: &[u8]) -> Option<InodeId> {
        match &self.inode(directory).node {
            Node::Directory(children) => children.get(name).copied(),
            _ => None,
        }
    }

    /// Look-up as a process rooted here does it, `..` clamped at the root; the last component's
    /// symlink is followed when `follow` is set. Gives the real path and what is there; the last component may be absent.
    pub fn resolve(&self, path: &[u8], follow: bool) -> Result<(TreePath, Option<InodeId>), ApplyError> {
        let shown = || {
            TreePath::parse(path.split(|b| *b == b'/').filter(|c| *c != b"..").collect::<Vec<_>>().join(&b'/'))
                .unwrap_or_default()
        };
        let mut pending: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut real: Vec<(Vec<u8>, InodeId)> = Vec::new();
        let mut symlinks = 0;
        let mut missing: Vec<Vec<u8>> = Vec::new();
        while let Some(component) = pending.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if missing.pop().is_none() {
                        real.pop();
                    }
                    continue;
                }
                _ => {}
            }
            if !missing.is_empty() {
                missing.push(component);
                continue;
            }
            let here = real.last().map_or(Tree::ROOT, |(_, id)| *id);
            let Some(id) = self.child(here, &component) else {
                missing.push(component);
                continue;
            };
            let last = pending.iter().all(|rest| rest.is_empty());
            if let Node::Symlink { target } = &self.inode(id).node
                && (follow || !last)
            {
                symlinks += 1;
                if symlinks > MAXIMUM_SYMLINKS {
                    return Err(ApplyError::TooManySymlinks { path: shown() });
                }
                if target.starts_with(b"/") {
                    real.clear();
                }
                pending.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                continue;
            }
            real.push((component, id));
        }
        let found = missing.is_empty().then(|| real.last().map_or(Tree::ROOT, |(_, id)| *id));
        let bytes = real.into_iter().map(|(name, _)| name).chain(missing).collect::<Vec<_>>().join(&b'/');
        Ok((TreePath::parse(bytes).unwrap_or_default(), found))
    }

    /// Merges a layer on top. `number` is what [`Source::Layer`] will say of its files.
    /// Missing parents are made (0755, root); parents that are symlinks are followed within the root,
    /// as container runtimes do.
    pub fn apply(&mut self, layer: &Layer, number: u32) -> Result<(), ApplyError> {
        self.apply_bounded(layer, number, MAXIMUM_INODES)
    }

    fn apply_bounded(&mut self, layer: &Layer, number: u32, limit: usize) -> Result<(), ApplyError> {
        for entry in &layer.entries {
            match entry.change {
                Change::Whiteout => self.remove(&entry.path)?,
                Change::Opaque => self.clear(&entry.path)?,
                _ => {}
            }
        }
        for entry in &layer.entries {
            match &entry.change {
                Change::Put(metadata, kind) => self.put(entry, metadata, kind, number)?,
                Change::Link(target) => self.link(&entry.path, target)?,
                _ => {}
            }
            if self.inodes.len() > limit {
                return Err(ApplyError::TooManyInodes { path: entry.path.clone(), limit });
            }
        }
        Ok(())
    }

    /// Every reachable name, a directory before its content, children in byte order; the root first.
    pub fn walk(&self) -> Vec<(TreePath, InodeId)> {
        let mut found = Vec::new();
        let mut pending = vec![(TreePath::root(), Tree::ROOT)];
        while let Some((path, id)) = pending.pop() {
            if let Node::Directory(children) = &self.inode(id).node {
                for (name, child) in children.iter().rev() {
                    if let Ok(below) = path.join(name) {
                        pending.push((below, *child));
                    }
                }
            }
            found.push((path, id));
        }
        found
    }

    /// The whole tree as one layer, names in the order of [`Tree::walk`]; files are stored under their first names.
    pub fn layer(&self) -> Layer {
        let mut first: BTreeMap<InodeId, TreePath> = BTreeMap::new();
        let mut layer = Layer::default();
        for (path, id) in self.walk() {
            if let Some(target) = first.get(&id) {
                layer.entries.push(Entry { path, change: Change::Link(target.clone()) });
                continue;
            }
            let inode = self.inode(id);
            layer.put(path.clone(), inode.metadata.clone(), inode.node.kind());
            first.insert(id, path);
        }
        layer
    }

    fn real_parent(&mut self, path: &TreePath) -> Result<(InodeId, Vec<u8>), ApplyError> {
        let parent = path.parent().unwrap_or_default();
        let (real, found) = self.resolve(parent.as_bytes(), true)?;
        let id = match found {
            Some(id) => id,
            None => self.make_directories(&real)?,
        };
        if !matches!(self.inode(id).node, Node::Directory(_)) {
            return Err(ApplyError::ParentNotDirectory { path: path.clone(), parent: real });
        }
        Ok((id, path.name().to_vec()))
    }

    fn make_directories(&mut self, path: &TreePath) -> Result<InodeId, ApplyError> {
        let mut id = Tree::ROOT;
        for component in path.components() {
            id = match self.child(id, component) {
                Some(child) => child,
                None => {
                    let inode = Inode { metadata: Metadata::new(0o755, 0), node: Node::Directory(BTreeMap::new()) };
                    let child = self.add(inode);
                    if !self.set_child(id, component.to_vec(), child) {
                        return Err(ApplyError::ParentNotDirectory { path: path.clone(), parent: path.clone() });
                    }
                    child
                }
            };
        }
        Ok(id)
    }

    /// Makes an inode that has no name yet.
    pub fn add(&mut self, inode: Inode) -> InodeId {
        self.inodes.push(inode);
        InodeId((self.inodes.len() - 1) as u32)
    }

    /// Names an inode; false if `directory` is none. The name is the caller's care (see [`TreePath`]'s invariant).
    pub fn set_child(&mut self, directory: InodeId, name: Vec<u8>, child: InodeId) -> bool {
        match &mut self.inode_mut(directory).node {
            Node::Directory(children) => {
                children.insert(name, child);
                true
            }
            _ => false,
        }
    }

    fn put(&mut self, entry: &Entry, metadata: &Metadata, kind: &Kind, number: u32) -> Result<(), ApplyError> {
        if entry.path.is_root() {
            if *kind == Kind::Directory {
                self.inode_mut(Tree::ROOT).metadata = metadata.clone();
            }
            return Ok(());
        }
        let (parent, name) = self.real_parent(&entry.path)?;
        if *kind == Kind::Directory
            && let Some(existing) = self.child(parent, &name)
            && matches!(self.inode(existing).node, Node::Directory(_))
        {
            self.inode_mut(existing).metadata = metadata.clone();
            return Ok(());
        }
        let node = match kind {
            Kind::Directory => Node::Directory(BTreeMap::new()),
            Kind::File { size, body } => Node::File {
                size: *size,
                source: match body {
                    Body::Stored => Source::Layer { layer: number, path: entry.path.clone() },
                    Body::Inline(bytes) => Source::Inline(Arc::clone(bytes)),
                },
            },
            Kind::Symlink { target } => Node::Symlink { target: target.clone() },
            Kind::CharacterDevice { major, minor } => Node::CharacterDevice { major: *major, minor: *minor },
            Kind::BlockDevice { major, minor } => Node::BlockDevice { major: *major, minor: *minor },
            Kind::Fifo => Node::Fifo,
            Kind::Socket => Node::Socket,
        };
        let id = self.add(Inode { metadata: metadata.clone(), node });
        self.set_child(parent, name, id);
        Ok(())
    }

    fn link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), ApplyError> {
        if path.is_root() {
            return Err(ApplyError::LinkAsRoot { target: target.clone() });
        }
        let (real, found) = self.resolve(target.as_bytes(), false)?;
        let id = found.ok_or_else(|| ApplyError::LinkTargetMissing { path: path.clone(), target: target.clone() })?;
        if matches!(self.inode(id).node, Node::Directory(_)) {
            return Err(ApplyError::LinkToDirectory { path: path.clone(), target: real });
        }
        let (parent, name) = self.real_parent(path)?;
        self.set_child(parent, name, id);
        Ok(())
    }

    fn remove(&mut self, path: &TreePath) -> Result<(), ApplyError> {
        let (real, found) = self.resolve(path.as_bytes(), false)?;
        if found.is_some()
            && let Some(parent) = real.parent().and_then(|parent| self.get(&parent))
            && let Node::Directory(children) = &mut self.inode_mut(parent).node
        {
            children.remove(real.name());
        }
        Ok(())
    }

    fn clear(&mut self, path: &TreePath) -> Result<(), ApplyError> {
        if let (_, Some(id)) = self.resolve(path.as_bytes(), false)?
            && let Node::Directory(children) = &mut self.inode_mut(id).node
        {
            children.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
