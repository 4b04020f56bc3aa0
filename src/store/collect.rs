//! How much is kept, and less of it: what was used least recently goes first.
//!
//! Nothing here walks over the files of a result: each has the file `size` beside it, written when it is kept. What came beside it
//! later, its blocks, is seen in the result's own folder, which has a handful of files.

use super::{LAYOUT, SIZE, Store, StoreError, at, open_lock};
use crate::disk;
use crate::tree::{Body, Change, Kind, Layer};
use nix::sys::statvfs::statvfs;
use std::collections::HashMap;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Kept at most, where nobody said otherwise; on a small file system a quarter of it.
const DEFAULT_LIMIT: u64 = 50 << 30;
const LIMIT: &str = "limit";
/// What a file or directory takes is a multiple of this on most file systems.
const UNIT: u64 = 4096;
/// Files from this size on are asked what they take, for they may have holes.
const LARGE: u64 = 1 << 20;
/// Beginning of the name of an entry that is being removed.
const GONE: &str = ".gone-";
/// Some file systems keep times as coarsely as this.
const COARSENESS: Duration = Duration::from_secs(1);

/// How much one kind of content takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub entries: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

impl Usage {
    /// Of a directory, as far as this process can see into it.
    pub fn below(directory: &Path) -> u64 {
        walk(directory).0
    }
}

/// How much a store may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Bytes(u64),
    Unlimited,
}

/// What a collection takes.
#[derive(Clone, Copy, Debug)]
pub struct Collection {
    /// Nothing is taken while the store holds no more bytes than this.
    pub limit: u64,
    /// Bytes that may be left.
    pub target: u64,
    /// What was used since then stays.
    pub spared: Option<SystemTime>,
}

impl Limit {
    /// What was set for the store below `root`.
    pub fn remembered(root: &Path) -> Option<Limit> {
        match fs::read_to_string(root.join(LAYOUT).join(LIMIT)).ok()?.trim() {
            "none" => Some(Limit::Unlimited),
            number => number.parse().ok().map(Limit::Bytes),
        }
    }

    /// 50 GiB, but a quarter of the store's file system at most.
    pub fn default_of(root: &Path) -> Limit {
        let size = statvfs(root).map_or(u64::MAX, |found| found.fragment_size().saturating_mul(found.blocks()));
        Limit::Bytes(DEFAULT_LIMIT.min(size / 4))
    }

    /// Sets the limit of the store below `root` for all builds that use it; `None` takes the default again.
    pub fn remember(limit: Option<Limit>, root: &Path) -> Result<(), StoreError> {
        let folder = root.join(LAYOUT);
        let place = folder.join(LIMIT);
        let text = match limit {
            Some(Limit::Bytes(bytes)) => format!("{bytes}\n"),
            Some(Limit::Unlimited) => "none\n".to_owned(),
            None => {
                return match fs::remove_file(&place) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("cannot remove", &place)(error)),
                    _ => Ok(()),
                };
            }
        };
        fs::create_dir_all(&folder).map_err(at("cannot make the store's directory", &folder))?;
        write_whole(&place, &text).map_err(at("cannot write", &place))
    }
}

impl Store {
    /// What archives take, and results of steps, in this order.
    pub fn usage(&self) -> (Usage, Usage) {
        let sum = |entries: Vec<Entry>| Usage {
            entries: entries.len() as u64,
            bytes: entries.iter().map(|entry| entry.bytes).fold(0, u64::saturating_add),
        };
        (sum(archives(&self.root)), sum(results(&self.root, &self.mode)))
    }

    /// Removes results and archives of the store below `root`, least recently used first. All results count; those are taken that
    /// this process can remove, whose id mode `mode` is.
    /// Waits for no one: `Ok(None)` when builds hold the store, or where it cannot be known because the file system has no locks.
    pub fn collect(root: &Path, mode: &str, collection: Collection) -> Result<Option<Usage>, StoreError> {
        let root = root.join(LAYOUT);
        let lock = match open_lock(&root) {
            Ok(lock) => lock,
            Err(StoreError::Path { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Usage::default()));
            }
            Err(error) => return Err(error),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(at("cannot lock", &root)(error)),
        }
        let mut found = archives(&root);
        let mut others = 0;
        for name in names(&root.join("steps")) {
            let entries = results(&root, &name);
            match may_remove(mode, &name) {
                true => found.extend(entries),
                false => others = entries.iter().map(|entry| entry.bytes).fold(others, u64::saturating_add),
            }
        }
        take(found, others, &collection).map(Some)
    }
}

/// Removes of `found` what `collection` says; `others` are bytes that stay.
fn take(mut found: Vec<Entry>, others: u64, collection: &Collection) -> Result<Usage, StoreError> {
    let mut total = found.iter().map(|entry| entry.bytes).fold(others, u64::saturating_add);
    let mut removed = Usage::default();
    let over = total > collection.limit;
    settle_order(&mut found);
    let spared = collection.spared.map(|since| since - COARSENESS);
    for entry in found {
        // Nobody holds the store: what has no name yet, or no longer one, never will.
        let dead = entry.is_result && entry.name.starts_with('.');
        let due = over && total > collection.target && spared.is_none_or(|since| entry.used < since);
        if dead || due {
            entry.remove()?;
            total = total.saturating_sub(entry.bytes);
            removed.entries += 1;
            removed.bytes += entry.bytes;
        }
    }
    Ok(removed)
}

/// Marks a file of the store as used just now. A store that cannot be written serves too.
pub fn mark_used(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Bytes that the contents of a layer take in the directory `root`.
pub fn size_on_disk(layer: &Layer, root: &Path) -> u64 {
    let mut bytes = 0_u64;
    for entry in &layer.entries {
        let Change::Put(_, kind) = &entry.change else { continue };
        bytes = bytes.saturating_add(match kind {
            Kind::File { size, body: Body::Stored } if *size >= LARGE => {
                fs::symlink_metadata(entry.path.below(root)).map_or(*size, |found| allocated(&found))
            }
            Kind::File { size, .. } => size.next_multiple_of(UNIT),
            Kind::Directory => UNIT,
            _ => 0,
        });
    }
    bytes
}

/// One result, or one archive.
struct Entry {
    path: PathBuf,
    name: String,
    is_result: bool,
    used: SystemTime,
    bytes: u64,
    /// Names of the results below it.
    chain: Vec<String>,
}

impl Entry {
    /// Invariant: a result that was removed in part is never found under its name.
    fn remove(&self) -> Result<(), StoreError> {
        let gone = self.path.with_file_name(format!("{GONE}{}", self.name));
        let path = match self.is_result && !self.name.starts_with('.') {
            true => {
                fs::rename(&self.path, &gone).map_err(at("cannot remove", &self.path))?;
                &gone
            }
            false => &self.path,
        };
        disk::remove_tree(path)
            .map_err(|error| StoreError::Read { subject: path.display().to_string(), cause: error.to_string() })
    }
}

/// Least recently used first. What others stand on was used when they were; they go first, for without it they are of no use.
fn settle_order(found: &mut [Entry]) {
    let mut latest: HashMap<String, SystemTime> = HashMap::new();
    for entry in found.iter() {
        for below in &entry.chain {
            let time = latest.entry(below.clone()).or_insert(entry.used);
            *time = entry.used.max(*time);
        }
    }
    for entry in found.iter_mut() {
        entry.used = latest.get(&entry.name).map_or(entry.used, |time| entry.used.max(*time));
    }
    found.sort_by(|a, b| (a.used, b.chain.len(), &a.path).cmp(&(b.used, a.chain.len(), &b.path)));
}

fn archives(root: &Path) -> Vec<Entry> {
    let blobs = root.join("blobs");
    let mut found = Vec::new();
    for algorithm in names(&blobs) {
        for name in names(&blobs.join(&algorithm)) {
            let path = blobs.join(&algorithm).join(&name);
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let bytes = if metadata.is_dir() { walk(&path).0 } else { allocated(&metadata) };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Entry { path, name, is_result: false, used, bytes, chain: Vec::new() });
        }
    }
    found
}

fn results(root: &Path, mode: &str) -> Vec<Entry> {
    let folder = root.join("steps").join(mode);
    let entry = |name: String| {
        let path = folder.join(&name);
        let used = [path.join("index"), path.clone()]
            .iter()
            .find_map(|path| fs::symlink_metadata(path).and_then(|found| found.modified()).ok())
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let chain = fs::read_to_string(path.join("chain")).unwrap_or_default();
        let chain = chain.lines().filter_map(|line| line.split_once(':')).map(|(_, hex)| hex.to_owned()).collect();
        Entry { bytes: size_of_result(&path), path, name, is_result: true, used, chain }
    };
    names(&folder).into_iter().map(entry).collect()
}

/// Its own files, and what is known of its `root`. A result of an older build is measured, once.
fn size_of_result(path: &Path) -> u64 {
    let kept = path.join(SIZE);
    let root = match fs::read_to_string(&kept).ok().and_then(|text| text.trim().parse().ok()) {
        Some(bytes) => bytes,
        None => {
            let (bytes, complete) = walk(&path.join("root"));
            // Results of another id mode may be closed to this process.
            if complete {
                let _ = write_whole(&kept, &format!("{bytes}\n"));
            }
            bytes
        }
    };
    let own = names(path).into_iter().filter_map(|name| fs::symlink_metadata(path.join(name)).ok());
    own.filter(Metadata::is_file).map(|found| allocated(&found)).fold(root, u64::saturating_add)
}

/// Whether a process of the id mode `own` can remove results of the mode `other`, which belong to the ids of that.
fn may_remove(own: &str, other: &str) -> bool {
    own == other || own == "root-0" || (own.starts_with("range-") && other == "single")
}

fn names(folder: &Path) -> Vec<String> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    found.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn allocated(found: &Metadata) -> u64 {
    found.blocks().saturating_mul(512)
}

/// Bytes of everything below `path`, and whether everything was seen.
fn walk(path: &Path) -> (u64, bool) {
    let (mut bytes, mut complete) = (0_u64, true);
    let mut pending = vec![path.to_path_buf()];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        bytes = bytes.saturating_add(allocated(&metadata));
        if metadata.is_dir() {
            match fs::read_dir(&path) {
                Ok(entries) => pending.extend(entries.flatten().map(|entry| entry.path())),
                Err(_) => complete = false,
            }
        }
    }
    (bytes, complete)
}

/// Writes a file beside its place and renames it.
fn write_whole(place: &Path, text: &str) -> io::Result<()> {
    let mut draft = tempfile::NamedTempFile::new_in(place.parent().unwrap_or(Path::new(".")))?;
    draft.write_all(text.as_bytes())?;
    draft.persist(place).map(|_| ()).map_err(|error| error.error)
}

#[cfg(test)]
mod tests;
