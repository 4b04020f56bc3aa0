//! The filesystem that a stage has so far: layers, and the tree that they make.

use super::BuildError;
use super::pack::read_in;
use crate::digest::Digest;
use crate::store::{Contents, Held, Ownership, StoreError, check_out, lay_out, stand_in_for_devices};
use crate::tree::{Node, Tree, TreePath};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Layers, bottom first, with their tree.
#[derive(Clone, Default)]
pub struct Filesystem {
    pub layers: Vec<Held>,
    pub tree: Tree,
    /// Keys of the layers that the store has, for as long as all have been kept there.
    pub chain: Vec<Digest>,
    /// Metadata files of archives that streamed by.
    pub captured: HashMap<(u32, TreePath), Vec<u8>>,
}

impl Filesystem {
    pub fn push(&mut self, held: Held) -> Result<(), BuildError> {
        self.tree.apply(&held.layer, self.layers.len() as u32).map_err(StoreError::from)?;
        self.layers.push(held);
        Ok(())
    }

    /// The content of a file, symlinks followed inside the root.
    pub fn read(&self, path: &TreePath) -> Option<Vec<u8>> {
        read_in(&self.tree, &self.layers, path, &|layer, path| self.captured.get(&(layer, path.clone())).cloned())
    }

    /// Names in a directory.
    pub fn list(&self, path: &str) -> Vec<String> {
        list_in(&self.tree, path)
    }

    /// Puts every layer that is not a directory yet into one below `work`, so that overlay can take it.
    pub fn materialize(
        &mut self,
        work: &Path,
        ownership: Ownership,
        threads: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), BuildError> {
        let user_xattrs = !real_root();
        for number in 0..self.layers.len() {
            if matches!(self.layers[number].contents, Contents::Directory(_)) {
                continue;
            }
            let root = new_directory(work, &format!("layer-{number}"))?;
            if number == 0 {
                let index = check_out(&mut self.layers[..1], &root, ownership, threads, progress)?;
                stand_in_for_devices(&index, &root)?;
                self.layers[0] = Held { layer: index, contents: Contents::Directory(root) };
            } else {
                let mut merged = Tree::new();
                for (below, held) in self.layers[..=number].iter().enumerate() {
                    merged.apply(&held.layer, below as u32).map_err(StoreError::from)?;
                }
                let held = &self.layers[number];
                copy_root_metadata(&merged, &root, ownership)?;
                lay_out(held, &merged, &root, ownership, user_xattrs)?;
                stand_in_for_devices(&held.layer, &root)?;
                let layer = stored(&held.layer);
                self.layers[number] = Held { layer, contents: Contents::Directory(root) };
            }
        }
        let layers = std::mem::take(&mut self.layers);
        self.tree = Tree::new();
        layers.into_iter().try_for_each(|held| self.push(held))
    }

    /// The layers' directories, topmost first.
    pub fn directories(&self) -> Vec<PathBuf> {
        let directory = |held: &Held| match &held.contents {
            Contents::Directory(path) => Some(path.clone()),
            _ => None,
        };
        self.layers.iter().rev().filter_map(directory).collect()
    }
}

/// A new directory below `parent`; a name that is taken gets a number.
pub fn new_directory(parent: &Path, name: &str) -> Result<PathBuf, BuildError> {
    for number in 0.. {
        let path = parent.join(if number == 0 { name.to_owned() } else { format!("{name}.{number}") });
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(StoreError::Path { action: "cannot make", path, cause }.into()),
        }
    }
    unreachable!("numbers do not end")
}

/// Overlay shows the topmost root directory's owner and mode; each layer's must be the image's.
pub fn copy_root_metadata(tree: &Tree, root: &Path, ownership: Ownership) -> Result<(), BuildError> {
    let metadata = &tree.inode(Tree::ROOT).metadata;
    Ok(crate::store::set_metadata(root, metadata, false, ownership)?)
}

pub fn list_in(tree: &Tree, path: &str) -> Vec<String> {
    match tree.resolve(path.as_bytes(), true) {
        Ok((_, Some(id))) => match &tree.inode(id).node {
            Node::Directory(children) => {
                children.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Whether `trusted.*` attributes can be had: in the initial user namespace only.
pub fn real_root() -> bool {
    nix::unistd::geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_whitespace().collect::<Vec<_>>() == ["0", "0", "4294967295"])
}

/// The same index when its bodies lie in a directory.
fn stored(layer: &crate::tree::Layer) -> crate::tree::Layer {
    use crate::tree::{Body, Change, Kind};
    let mut layer = layer.clone();
    for entry in &mut layer.entries {
        if let Change::Put(_, Kind::File { body, .. }) = &mut entry.change {
            *body = Body::Stored;
        }
    }
    layer
}
