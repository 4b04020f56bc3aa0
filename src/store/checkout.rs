//! Layers written out as a directory, for scripts to run on and for sandbox targets.
//!
//! Two shapes: merged (whiteouts resolved: a base), and overlay (whiteouts kept as overlay's own marks: one layer between others).

use super::{Contents, Held, Shadow, StoreError, at};
use crate::tree::{Body, Change, Entry, InodeId, Kind, Layer, Metadata, Node, Source, Tree, TreePath};
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// How much of the metadata the directory itself must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Owners are set; failing to is an error. For root and for a range of ids.
    Real,
    /// All that the kernel allows is set; the index is the truth. For one id, or none.
    IndexOnly,
}

/// Writes `layers` (bottom first) merged into the empty directory `root` and gives the index of what is there: one layer, bodies in arrival order.
pub fn check_out(
    layers: &mut [Held],
    root: &Path,
    ownership: Ownership,
    threads: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Layer, StoreError> {
    if layers.iter().all(|held| !matches!(held.contents, Contents::Archive(..))) {
        return super::extract::extract(layers, root, ownership, threads, progress);
    }
    let order = write_bodies(layers, root, progress)?;
    let mut tree = Tree::new();
    for (number, held) in layers.iter().enumerate() {
        tree.apply(&held.layer, number as u32)?;
    }
    settle(&tree, root, &order, ownership)?;
    Ok(flatten(&tree, order.iter().map(|(number, path, _)| (*number, path))))
}

/// File bodies go to numbered files first: the final name is known only when all layers have been seen.
fn write_bodies(
    layers: &mut [Held],
    root: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<(u32, TreePath, PathBuf)>, StoreError> {
    let draft = root.join(".sifbuild-bodies");
    fs::create_dir(&draft).map_err(at("cannot make", &draft))?;
    let mut shadow = Shadow::default();
    let mut order = Vec::new();
    for number in (0..layers.len()).rev() {
        let held = &mut layers[number];
        held.stream(&|path| !shadow.hides(path), &mut |path, size, body| {
            let place = draft.join(order.len().to_string());
            write_body(&place, size, body)?;
            progress(size);
            order.push((number as u32, path.clone(), place));
            Ok(())
        })?;
        shadow.cover(&held.layer);
    }
    Ok(order)
}

fn write_body(place: &Path, size: u64, body: &mut dyn Read) -> Result<(), StoreError> {
    let mut file =
        File::options().write(true).create_new(true).mode(0o600).open(place).map_err(at("cannot write", place))?;
    let mut buffer = vec![0; 128 * 1024];
    let mut left = size;
    let mut pending_hole = false;
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        body.read_exact(&mut buffer[..want]).map_err(at("cannot read the content for", place))?;
        pending_hole = buffer[..want].iter().all(|byte| *byte == 0);
        if pending_hole {
            io::Seek::seek(&mut file, io::SeekFrom::Current(want as i64)).map_err(at("cannot write", place))?;
        } else {
            file.write_all(&buffer[..want]).map_err(at("cannot write", place))?;
        }
        left -= want as u64;
    }
    if pending_hole {
        file.set_len(size).map_err(at("cannot write", place))?;
    }
    Ok(())
}

/// Gives every name its place, then every inode its metadata, directories last and deepest first.
fn settle(
    tree: &Tree,
    root: &Path,
    order: &[(u32, TreePath, PathBuf)],
    ownership: Ownership,
) -> Result<(), StoreError> {
    let bodies: HashMap<(u32, &TreePath), &PathBuf> =
        order.iter().map(|(number, path, place)| ((*number, path), place)).collect();
    let mut first_name: HashMap<InodeId, PathBuf> = HashMap::new();
    let names = tree.walk();
    for (path, id) in &names {
        let place = path.below(root);
        if let Some(first) = first_name.get(id) {
            fs::hard_link(first, &place).map_err(at("cannot link", &place))?;
            continue;
        }
        make(tree, *id, path, &place, &bodies)?;
        first_name.insert(*id, place);
    }
    let draft = root.join(".sifbuild-bodies");
    fs::remove_dir_all(&draft).map_err(at("cannot remove", &draft))?;
    for (path, id) in names.iter().rev() {
        let inode = tree.inode(*id);
        let place = path.below(root);
        if first_name.get(id) == Some(&place) && fs::symlink_metadata(&place).is_ok() {
            set_metadata(&place, &inode.metadata, matches!(inode.node, Node::Symlink { .. }), ownership)?;
        }
    }
    Ok(())
}

pub(super) fn make(
    tree: &Tree,
    id: InodeId,
    path: &TreePath,
    place: &Path,
    bodies: &HashMap<(u32, &TreePath), &PathBuf>,
) -> Result<(), StoreError> {
    match &tree.inode(id).node {
        Node::Directory(_) if path.is_root() => Ok(()),
        Node::Directory(_) => fs::create_dir(place).map_err(at("cannot make", place)),
        Node::File { source: Source::Inline(bytes), .. } => fs::write(place, bytes).map_err(at("cannot write", place)),
        Node::File { source: Source::Layer { layer, path: from }, .. } => {
            let body = bodies.get(&(*layer, from)).ok_or_else(|| StoreError::Read {
                subject: path.to_string(),
                cause: "its content is not in the layer".to_owned(),
            })?;
            fs::rename(body, place).map_err(at("cannot place", place))
        }
        Node::Symlink { target } => {
            use std::os::unix::ffi::OsStrExt;
            symlink(std::ffi::OsStr::from_bytes(target), place).map_err(at("cannot link", place))
        }
        Node::Fifo => make_node(place, libc::S_IFIFO, 0),
        Node::Socket => make_node(place, libc::S_IFSOCK, 0),
        Node::CharacterDevice { major, minor } => make_node(place, libc::S_IFCHR, libc::makedev(*major, *minor)),
        Node::BlockDevice { major, minor } => make_node(place, libc::S_IFBLK, libc::makedev(*major, *minor)),
    }
}

/// Devices cannot be made without privileges; the index holds them, and the sandbox brings its own `/dev`.
fn make_node(place: &Path, kind: u32, device: u64) -> Result<(), StoreError> {
    let kind = nix::sys::stat::SFlag::from_bits_truncate(kind);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    match nix::sys::stat::mknod(place, kind, mode, device) {
        Ok(()) | Err(nix::Error::EPERM) => Ok(()),
        Err(error) => Err(at("cannot make the device", place)(error.into())),
    }
}

/// Puts an empty file where `index` has a device that could not be made in `root`: a name for the fakeroot to show a device at.
pub fn stand_in_for_devices(index: &Layer, root: &Path) -> Result<(), StoreError> {
    let mut changed = HashSet::new();
    for entry in &index.entries {
        let Change::Put(metadata, Kind::CharacterDevice { .. } | Kind::BlockDevice { .. }) = &entry.change else {
            continue;
        };
        let place = entry.path.below(root);
        let made = File::options().write(true).create_new(true).mode(u32::from(metadata.mode) & 0o7777).open(&place);
        match made {
            Ok(file) => {
                let mode = Permissions::from_mode(u32::from(metadata.mode));
                file.set_permissions(mode).map_err(at("cannot set the mode of", &place))?;
                changed.extend(entry.path.parent());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(at("cannot write", &place)(error)),
        }
    }
    for entry in index.entries.iter().filter(|entry| changed.contains(&entry.path)) {
        if let Change::Put(metadata, Kind::Directory) = &entry.change {
            set_time(&entry.path.below(root), metadata.mtime)?;
        }
    }
    Ok(())
}

pub fn set_metadata(place: &Path, metadata: &Metadata, link: bool, ownership: Ownership) -> Result<(), StoreError> {
    let owner = std::os::unix::fs::lchown(place, Some(metadata.uid), Some(metadata.gid));
    if ownership == Ownership::Real {
        let (uid, gid) = (metadata.uid, metadata.gid);
        owner.map_err(|cause| match cause.raw_os_error() {
            // The kernel's word for an id that the user namespace does not have.
            Some(libc::EINVAL) => StoreError::Owner { path: place.to_path_buf(), uid, gid },
            _ => at("cannot set the owner of", place)(cause),
        })?;
    }
    if !link {
        let mode = Permissions::from_mode(u32::from(metadata.mode));
        fs::set_permissions(place, mode).map_err(at("cannot set the mode of", place))?;
    }
    for (name, value) in &metadata.xattrs {
        let Ok(name) = CString::new(name.as_slice()) else { continue };
        // What the kernel or the filesystem refuses (trusted.*, a filesystem without attributes) lives on in the index.
        let _ = rustix::fs::lsetxattr(place, name.as_c_str(), value, rustix::fs::XattrFlags::empty());
    }
    set_time(place, metadata.mtime)
}

fn set_time(place: &Path, seconds: i64) -> Result<(), StoreError> {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, place, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| at("cannot set the time of", place)(error.into()))
}

/// The merged tree as one layer: directories, bodies in arrival order, then everything else in path order. Directories stand first, so
/// that a file never makes a parent with invented metadata.
pub(super) fn flatten<'a>(tree: &Tree, order: impl Iterator<Item = (u32, &'a TreePath)>) -> Layer {
    let mut rank: HashMap<(u32, &TreePath), usize> = HashMap::new();
    for (number, body) in order.enumerate() {
        rank.entry(body).or_insert(number);
    }
    let mut layer = tree.layer();
    layer.entries.sort_by_cached_key(|entry| match &entry.change {
        Change::Put(_, Kind::Directory) => (0, 0),
        Change::Put(_, Kind::File { .. }) => match tree.get(&entry.path).map(|id| &tree.inode(id).node) {
            Some(Node::File { source: Source::Layer { layer, path }, .. }) => {
                (1, rank.get(&(*layer, path)).copied().unwrap_or(usize::MAX))
            }
            _ => (2, 0),
        },
        Change::Link(_) => (3, 0),
        _ => (2, 0),
    });
    layer
}

/// Writes one layer so that overlay can take it between others: parents carry the metadata that they have in `below` (the merged tree
/// with this layer on top), whiteouts and opaque marks are overlay's own. Gives the index, with real paths.
pub fn lay_out(
    held: &Held,
    merged: &Tree,
    root: &Path,
    ownership: Ownership,
    user_xattrs: bool,
) -> Result<(), StoreError> {
    for entry in &held.layer.entries {
        if matches!(entry.change, Change::Whiteout) {
            let place = entry.path.below(root);
            make_parents(merged, &entry.path, root, ownership)?;
            let kind = nix::sys::stat::SFlag::S_IFCHR;
            nix::sys::stat::mknod(&place, kind, nix::sys::stat::Mode::empty(), 0)
                .map_err(|error| at("cannot make the whiteout", &place)(error.into()))?;
        }
    }
    let mut written = Vec::new();
    for entry in &held.layer.entries {
        let (real, found) = merged.resolve(entry.path.as_bytes(), false)?;
        let Some(id) = found else { continue };
        match &entry.change {
            Change::Whiteout => {}
            Change::Opaque => {
                make_parents(merged, &real, root, ownership)?;
                mark_opaque(&real.below(root), user_xattrs)?;
            }
            Change::Put(..) | Change::Link(_) => {
                let place = real.below(root);
                make_parents(merged, &real, root, ownership)?;
                write_entry(held, merged, entry, id, &place, root)?;
                written.push((place, id));
            }
        }
    }
    for (place, id) in written.iter().rev() {
        let inode = merged.inode(*id);
        if fs::symlink_metadata(place).is_ok() {
            set_metadata(place, &inode.metadata, matches!(inode.node, Node::Symlink { .. }), ownership)?;
        }
    }
    Ok(())
}

fn write_entry(
    held: &Held,
    merged: &Tree,
    entry: &Entry,
    id: InodeId,
    place: &Path,
    root: &Path,
) -> Result<(), StoreError> {
    if fs::symlink_metadata(place).is_ok_and(|found| !found.is_dir()) {
        fs::remove_file(place).map_err(at("cannot replace", place))?;
    }
    match &entry.change {
        Change::Link(target) => {
            let target = target.below(root);
            fs::hard_link(&target, place).map_err(at("cannot link", place))
        }
        Change::Put(_, Kind::File { size, body: Body::Stored }) => {
            let mut body = held.open(&entry.path)?;
            write_body(place, *size, &mut body)
        }
        _ if matches!(merged.inode(id).node, Node::Directory(_)) => match fs::create_dir(place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done.map_err(at("cannot make", place)),
        },
        _ => make(merged, id, &entry.path, place, &HashMap::new()),
    }
}

fn make_parents(merged: &Tree, path: &TreePath, root: &Path, ownership: Ownership) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    let mut at_path = path.parent();
    while let Some(parent) = at_path {
        if parent.is_root() || fs::symlink_metadata(parent.below(root)).is_ok() {
            break;
        }
        at_path = parent.parent();
        missing.push(parent);
    }
    for parent in missing.iter().rev() {
        let place = parent.below(root);
        fs::create_dir(&place).map_err(at("cannot make", &place))?;
        if let Some(id) = merged.get(parent) {
            set_metadata(&place, &merged.inode(id).metadata, false, ownership)?;
        }
    }
    Ok(())
}

fn mark_opaque(place: &Path, user_xattrs: bool) -> Result<(), StoreError> {
    let name = if user_xattrs { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
    rustix::fs::lsetxattr(place, name, b"y", rustix::fs::XattrFlags::empty())
        .map_err(|error| at("cannot mark as opaque", place)(error.into()))
}
