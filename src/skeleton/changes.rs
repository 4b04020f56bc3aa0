//! Collects the changes of one step above a tree: real paths, parents made, modes kept where the rules keep them.

use super::Read;
use crate::tree::{InodeId, Kind, Layer, Metadata, Node, Tree, TreePath};
use std::collections::BTreeSet;

/// Changes on top of `tree`, in the order in which they were asked for.
pub(super) struct Changes<'a> {
    tree: &'a Tree,
    /// Seconds since the epoch, for everything made here.
    mtime: i64,
    made: BTreeSet<TreePath>,
    pub(super) layer: Layer,
}

impl<'a> Changes<'a> {
    pub(super) fn new(tree: &'a Tree, mtime: i64) -> Changes<'a> {
        Changes { tree, mtime, made: BTreeSet::new(), layer: Layer::default() }
    }

    /// What the tree below has at `path`, symlinks followed, and its real path.
    pub(super) fn find(&self, path: &str) -> Option<(TreePath, InodeId)> {
        let (real, found) = self.tree.resolve(path.as_bytes(), true).ok()?;
        found.map(|id| (real, id))
    }

    /// The bytes of a regular file of the tree below.
    pub(super) fn read(&self, path: &str, read: Read<'_>) -> Option<Vec<u8>> {
        let (real, id) = self.find(path)?;
        match &self.tree.inode(id).node {
            Node::File { source: crate::tree::Source::Inline(bytes), .. } => Some(bytes.to_vec()),
            Node::File { .. } => read(&real),
            _ => None,
        }
    }

    /// Makes a directory and its missing parents; leaves alone what is a directory or a symlink already.
    pub(super) fn directory(&mut self, path: &str) {
        let mut real = self.real(path, false);
        if self.tree.get(&real).is_some_and(|id| matches!(self.tree.inode(id).node, Node::Symlink { .. })) {
            return;
        }
        let mut missing = Vec::new();
        while !real.is_root() && !self.is_directory(&real) && !self.made.contains(&real) {
            let parent = real.parent().unwrap_or_default();
            missing.push(real);
            real = parent;
        }
        for path in missing.into_iter().rev() {
            self.made.insert(path.clone());
            self.layer.put(path, Metadata::new(0o755, self.mtime), Kind::Directory);
        }
    }

    /// Puts a file of root's, replacing what is there.
    pub(super) fn file(&mut self, path: &str, mode: u16, bytes: Vec<u8>) {
        let metadata = Metadata::new(mode, self.mtime);
        self.put(path, metadata, bytes);
    }

    /// Puts new content: a file that exists keeps its mode, owner and attributes (facts §4.2, below the table).
    pub(super) fn content(&mut self, path: &str, mode: u16, bytes: Vec<u8>) {
        let metadata = match self.find(path).map(|(_, id)| self.tree.inode(id)) {
            Some(inode) if matches!(inode.node, Node::File { .. }) => {
                Metadata { mtime: self.mtime, ..inode.metadata.clone() }
            }
            _ => Metadata::new(mode, self.mtime),
        };
        self.put(path, metadata, bytes);
    }

    pub(super) fn symlink(&mut self, path: &str, target: &str) {
        let real = self.real(path, false);
        let kind = Kind::Symlink { target: target.as_bytes().to_vec() };
        self.layer.put(real, Metadata::new(0o777, self.mtime), kind);
    }

    fn put(&mut self, path: &str, metadata: Metadata, bytes: Vec<u8>) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        // A symlink that leads to a file is written through, inside the image; one that leads nowhere is replaced.
        let follow = self.find(path).is_some();
        let real = self.real(path, follow);
        // Invariant: one file for each path, for a layer that is written out has one body for each.
        self.layer.entries.retain(|entry| entry.path != real);
        self.layer.put_file(real, metadata, bytes);
    }

    fn real(&self, path: &str, follow: bool) -> TreePath {
        match self.tree.resolve(path.as_bytes(), follow) {
            Ok((real, _)) => real,
            // Symlinks in a circle: applying the layer will say so by the path.
            Err(_) => TreePath::parse(path).unwrap_or_default(),
        }
    }

    fn is_directory(&self, path: &TreePath) -> bool {
        self.tree.get(path).is_some_and(|id| matches!(self.tree.inode(id).node, Node::Directory(_)))
    }
}
