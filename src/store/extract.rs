//! Layers whose files can be opened by path, written out by several threads, each file where it belongs at once.
//!
//! An archive's bodies come in its own order and before the tree is known; they go the other way, in [`super::checkout`].

use super::checkout::{flatten, make, set_metadata};
use super::contents::Opener;
use super::{Held, Ownership, Shadow, StoreError, at};
use crate::tree::{Body, Change, InodeId, Kind, Layer, Node, Source, Tree, TreePath};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

/// Larger files are written in pieces of this size, by several threads.
const PIECE: u64 = 16 << 20;
/// Jobs that one thread takes at once: neighbours share directories and fragments.
const BATCH: usize = 32;
/// Bytes of one write.
const BUFFER: usize = 128 << 10;

/// What one thread does without another.
enum Job<'a> {
    /// A whole file from a layer.
    File { id: InodeId, place: &'a TreePath, layer: u32, body: &'a TreePath, size: u64 },
    /// A part of a large one, which is there with its length.
    Piece { place: &'a TreePath, layer: u32, body: &'a TreePath, offset: u64, length: u64 },
    /// A link, a device, a file whose content stands in the index.
    Other { id: InodeId, place: &'a TreePath },
}

struct Extraction<'a> {
    layers: &'a [Held],
    tree: &'a Tree,
    root: &'a Path,
    ownership: Ownership,
}

/// Writes `layers` (bottom first), none of which is an archive, merged into the empty directory `root`. Gives the index of what is there.
pub(super) fn extract(
    layers: &[Held],
    root: &Path,
    ownership: Ownership,
    threads: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Layer, StoreError> {
    let mut tree = Tree::new();
    for (number, held) in layers.iter().enumerate() {
        tree.apply(&held.layer, number as u32)?;
    }
    let order = visible(layers);
    let names = tree.walk();
    let mut first: HashMap<InodeId, &TreePath> = HashMap::new();
    for (path, id) in &names {
        if matches!(tree.inode(*id).node, Node::Directory(_)) && !path.is_root() {
            let place = path.below(root);
            fs::create_dir(&place).map_err(at("cannot make", &place))?;
        }
        first.entry(*id).or_insert(path);
    }
    let (jobs, large) = jobs(&tree, &names, &first, &order, root)?;
    let extraction = Extraction { layers, tree: &tree, root, ownership };
    extraction.perform(&jobs, threads, progress)?;
    let settle =
        |path: &TreePath, id: InodeId| set_metadata(&path.below(root), &tree.inode(id).metadata, false, ownership);
    large.into_iter().try_for_each(|(path, id)| settle(path, id))?;
    for (path, id) in names.iter().filter(|(path, id)| first[id] != path) {
        let place = path.below(root);
        fs::hard_link(first[id].below(root), &place).map_err(at("cannot link", &place))?;
    }
    // Directories last and innermost first: their times and modes must survive what is made in them.
    for (path, id) in names.iter().rev().filter(|(_, id)| matches!(tree.inode(*id).node, Node::Directory(_))) {
        settle(path, *id)?;
    }
    Ok(flatten(&tree, order.iter().map(|(number, path, _)| (*number, *path))))
}

/// Stored bodies that no upper layer hides, topmost layer first, each layer's in the order of its index.
fn visible(layers: &[Held]) -> Vec<(u32, &TreePath, u64)> {
    let mut shadow = Shadow::default();
    let mut order = Vec::new();
    for (number, held) in layers.iter().enumerate().rev() {
        for entry in &held.layer.entries {
            if let Change::Put(_, Kind::File { size, body: Body::Stored }) = &entry.change
                && !shadow.hides(&entry.path)
            {
                order.push((number as u32, &entry.path, *size));
            }
        }
        shadow.cover(&held.layer);
    }
    order
}

type Placed<'a> = Vec<(&'a TreePath, InodeId)>;

/// The work, bodies in their layers' order, and the large files, which are made here and get their metadata last.
fn jobs<'a>(
    tree: &'a Tree,
    names: &'a [(TreePath, InodeId)],
    first: &HashMap<InodeId, &'a TreePath>,
    order: &[(u32, &'a TreePath, u64)],
    root: &Path,
) -> Result<(Vec<Job<'a>>, Placed<'a>), StoreError> {
    let mut others = Vec::new();
    let mut places: HashMap<(u32, &TreePath), (InodeId, &'a TreePath)> = HashMap::new();
    for (path, id) in names.iter().filter(|(path, id)| first[id] == path) {
        match &tree.inode(*id).node {
            Node::Directory(_) => {}
            Node::File { source: Source::Layer { layer, path: body }, .. } => {
                places.insert((*layer, body), (*id, path));
            }
            _ => others.push(Job::Other { id: *id, place: path }),
        }
    }
    let (mut jobs, mut large) = (Vec::new(), Vec::new());
    for &(layer, body, size) in order {
        let Some((id, place)) = places.remove(&(layer, body)) else { continue };
        if size <= PIECE {
            jobs.push(Job::File { id, place, layer, body, size });
            continue;
        }
        let path = place.below(root);
        create(&path).and_then(|file| file.set_len(size)).map_err(at("cannot write", &path))?;
        large.push((place, id));
        for offset in (0..size).step_by(PIECE as usize) {
            jobs.push(Job::Piece { place, layer, body, offset, length: PIECE.min(size - offset) });
        }
    }
    if let Some((_, (_, place))) = places.into_iter().next() {
        let cause = "its content is not in the layer".to_owned();
        return Err(StoreError::Read { subject: place.to_string(), cause });
    }
    jobs.append(&mut others);
    Ok((jobs, large))
}

fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

impl Extraction<'_> {
    fn perform(&self, jobs: &[Job<'_>], threads: usize, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let next = AtomicUsize::new(0);
        let threads = threads.clamp(1, jobs.len().div_ceil(BATCH).max(1));
        std::thread::scope(|scope| {
            let (sender, results) = channel();
            for _ in 0..threads {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || self.work(jobs, next, &sender));
            }
            drop(sender);
            for result in results {
                // The others stop at their next batch: there is none.
                progress(result.inspect_err(|_| next.store(jobs.len(), Ordering::Relaxed))?);
            }
            Ok(())
        })
    }

    fn work(&self, jobs: &[Job<'_>], next: &AtomicUsize, results: &Sender<Result<u64, StoreError>>) {
        let mut hand = Hand { openers: HashMap::new(), buffer: vec![0; BUFFER] };
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed).min(jobs.len());
            let batch = &jobs[from..(from + BATCH).min(jobs.len())];
            if batch.is_empty() {
                return;
            }
            let done = batch.iter().try_fold(0, |sum, job| Ok(sum + self.carry_out(job, &mut hand)?));
            let failed = done.is_err();
            if results.send(done).is_err() || failed {
                return;
            }
        }
    }

    /// Gives the bytes that were written.
    fn carry_out<'h>(&'h self, job: &Job<'_>, hand: &mut Hand<'h>) -> Result<u64, StoreError> {
        match job {
            Job::File { id, place, layer, body, size } => {
                let path = place.below(self.root);
                let file = create(&path).map_err(at("cannot write", &path))?;
                let hole = self.copy((*layer, body), 0, *size, &file, &path, hand)?;
                if hole {
                    file.set_len(*size).map_err(at("cannot write", &path))?;
                }
                drop(file);
                set_metadata(&path, &self.tree.inode(*id).metadata, false, self.ownership)?;
                Ok(*size)
            }
            Job::Piece { place, layer, body, offset, length } => {
                let path = place.below(self.root);
                let file = File::options().write(true).open(&path).map_err(at("cannot write", &path))?;
                self.copy((*layer, body), *offset, *length, &file, &path, hand)?;
                Ok(*length)
            }
            Job::Other { id, place } => {
                let path = place.below(self.root);
                let inode = self.tree.inode(*id);
                make(self.tree, *id, place, &path, &HashMap::new())?;
                // Devices cannot always be made.
                if fs::symlink_metadata(&path).is_ok() {
                    let link = matches!(inode.node, Node::Symlink { .. });
                    set_metadata(&path, &inode.metadata, link, self.ownership)?;
                }
                Ok(0)
            }
        }
    }

    /// Writes a part of a body to its place in `file`; zeros stay holes. Gives whether the part ends with one.
    fn copy<'h>(
        &'h self,
        (layer, body): (u32, &TreePath),
        offset: u64,
        length: u64,
        file: &File,
        path: &Path,
        hand: &mut Hand<'h>,
    ) -> Result<bool, StoreError> {
        let Hand { openers, buffer } = hand;
        let held = &self.layers[layer as usize];
        let opener = match openers.entry(layer) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(held.opener()?),
        };
        let fault = |cause: io::Error| StoreError::Read { subject: body.to_string(), cause: cause.to_string() };
        let mut reader: Box<dyn Read> = match opener {
            Some(open) => open(body, offset).map_err(fault)?,
            None => {
                let mut reader = held.open(body)?;
                io::copy(&mut (&mut reader).take(offset), &mut io::sink()).map_err(fault)?;
                reader
            }
        };
        let (mut done, mut hole) = (0, false);
        while done < length {
            let want = buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
            reader.read_exact(&mut buffer[..want]).map_err(fault)?;
            hole = buffer[..want].iter().all(|byte| *byte == 0);
            if !hole {
                file.write_all_at(&buffer[..want], offset + done).map_err(at("cannot write", path))?;
            }
            done += want as u64;
        }
        Ok(hole)
    }
}

/// What one thread works with.
struct Hand<'a> {
    openers: HashMap<u32, Option<Opener<'a>>>,
    buffer: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{ScanOptions, scan};
    use crate::squashfs::{Image, Options, Window, Writer};
    use crate::store::Contents;
    use crate::tree::{Entry, Metadata, Xattrs, text};
    use std::io::{Cursor, Write};
    use std::sync::Arc;

    /// Two images, the upper of which hides and replaces some of the lower; with a file of several pieces, holes, and second names.
    fn layers() -> Vec<Held> {
        let large: Vec<u8> = (0..PIECE as usize * 2 + 12_345)
            .map(|at| if at / 300_000 % 3 == 1 { 0 } else { (at % 251) as u8 })
            .collect();
        let mut lower = vec![("large", large), ("hole", vec![0; 400_000]), ("empty", Vec::new())];
        let names: Vec<String> = (0..150).map(|number| format!("d{}/f{number}", number % 7)).collect();
        lower.extend(names.iter().enumerate().map(|(at, name)| (name.as_str(), vec![at as u8; at * 311])));
        let upper = vec![("d1/f8", b"replaced".to_vec()), ("new", vec![7; 200_000])];
        let mut layers = vec![image(&lower), image(&upper)];
        let path = |text: &str| TreePath::parse(text).unwrap();
        layers[0].layer.entries.push(Entry { path: path("second"), change: Change::Link(path("large")) });
        layers[1].layer.entries.push(Entry { path: path("d2/f2"), change: Change::Whiteout });
        let (metadata, target) = (metadata(0o777), b"new".to_vec());
        layers[1].layer.put(path("link"), metadata, Kind::Symlink { target });
        layers
    }

    fn metadata(mode: u16) -> Metadata {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Metadata { mode, uid: owner.0, gid: owner.1, mtime: 1_000_000_000, xattrs: Xattrs::new() }
    }

    fn image(files: &[(&str, Vec<u8>)]) -> Held {
        let mut layer = Layer::default();
        let mut writer = Writer::new(Cursor::new(Vec::new()), Options::default()).unwrap();
        let mut bodies = HashMap::new();
        layer.put(TreePath::root(), metadata(0o755), Kind::Directory);
        for number in 0..7 {
            layer.put(TreePath::parse(format!("d{number}")).unwrap(), metadata(0o750), Kind::Directory);
        }
        for (path, bytes) in files {
            let size = bytes.len() as u64;
            bodies.insert((*path).to_owned(), writer.body(&mut bytes.as_slice(), size).unwrap());
            layer.put(TreePath::parse(path).unwrap(), metadata(0o4755), Kind::File { size, body: Body::Stored });
        }
        let mut tree = Tree::new();
        tree.apply(&layer, 0).unwrap();
        let body = |id: InodeId| match &tree.inode(id).node {
            Node::File { source: Source::Layer { path, .. }, .. } => {
                bodies.get(path.to_string().trim_start_matches('/')).copied()
            }
            _ => None,
        };
        let (bytes, _) = writer.finish(&tree, &body).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes.get_ref()).unwrap();
        let source: Box<dyn crate::squashfs::ReadAt + Send> = Box::new(Window::whole(file).unwrap());
        let image = Image::open(source).unwrap();
        Held { layer: image.tree.layer(), contents: Contents::Squashfs(Arc::new(image)) }
    }

    #[test]
    fn writes_what_the_layers_hold_with_any_number_of_threads() {
        let layers = layers();
        let mut seen = Vec::new();
        for threads in [1, 2, 5] {
            let place = tempfile::tempdir().unwrap();
            let mut told = 0;
            let layer = extract(&layers, place.path(), Ownership::Real, threads, &mut |bytes| told += bytes).unwrap();
            let found = scan(place.path(), &ScanOptions::default()).unwrap();
            let paths: Vec<TreePath> = found.entries.iter().map(|entry| entry.path.clone()).collect();
            assert!(!paths.contains(&TreePath::parse("d2/f2").unwrap()));
            let here = |name: &str| fs::read(place.path().join(name)).unwrap();
            assert_eq!(here("d1/f8"), b"replaced");
            assert_eq!(here("link"), here("new"));
            for held in &layers[..1] {
                for entry in &held.layer.entries {
                    let Change::Put(_, Kind::File { body: Body::Stored, .. }) = &entry.change else { continue };
                    if ["d1/f8", "d2/f2"].contains(&entry.path.to_string().trim_start_matches('/')) {
                        continue;
                    }
                    let mut bytes = Vec::new();
                    held.open(&entry.path).unwrap().read_to_end(&mut bytes).unwrap();
                    assert!(bytes == fs::read(entry.path.below(place.path())).unwrap(), "{}", entry.path);
                }
            }
            let files = found.entries.iter().filter_map(|entry| match &entry.change {
                Change::Put(_, Kind::File { size, .. }) => Some(*size),
                _ => None,
            });
            assert_eq!(told, files.sum::<u64>(), "told of every byte once");
            seen.push((text::write(&layer), text::write(&found)));
        }
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "the threads change what is written");
    }

    #[test]
    fn a_body_that_cannot_be_read_stops_the_work_and_is_named() {
        let place = tempfile::tempdir().unwrap();
        let mut layers = layers();
        for entry in &mut layers[0].layer.entries {
            if let Change::Put(_, Kind::File { size, .. }) = &mut entry.change
                && entry.path.to_string().contains("f100")
            {
                *size += 1;
            }
        }
        let error = extract(&layers, place.path(), Ownership::Real, 3, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("f100"), "{error}");
    }
}
