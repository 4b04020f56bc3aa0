//! What is looked into: an image of this host, or a kept step of a build; as directories that an overlay can lie over.

use super::Stop;
use crate::agent::encrypted::Unlocking;
use crate::agent::local::{self, Digests, LocalError};
use crate::digest::Digest;
use crate::event::{Event, Observer};
use crate::pins::LocalKind;
use crate::sandbox::{self, FailedStep, Fakeroot, IdMode, Owners, Scope, WorkDirectory};
use crate::sif::format::{FileSystem, PartitionType};
use crate::sif::reader::Sif;
use crate::store::{Ownership, Store, StoreError, check_out};
use crate::tree::Tree;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Fewer digits of a step's key could be a word.
const SHORTEST_KEY: usize = 4;

/// What the command line names, before any namespace is entered.
#[derive(Clone, Debug)]
pub enum Subject {
    Directory(PathBuf),
    /// A SIF, or a bare squashfs.
    File(PathBuf, LocalKind),
    /// A kept result, in the store's part for an id mode.
    Step {
        mode: String,
        key: Digest,
    },
    /// What a failed build kept at this path.
    Failed(PathBuf, FailedStep),
}

impl Subject {
    /// The store's name for the ids that its files are owned through; for what builds made.
    pub fn mode(&self) -> Option<&str> {
        match self {
            Subject::Step { mode, .. } | Subject::Failed(_, FailedStep { mode, .. }) => Some(mode),
            Subject::Directory(_) | Subject::File(..) => None,
        }
    }

    pub fn is_step(&self) -> bool {
        matches!(self, Subject::Step { .. } | Subject::Failed(..))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Directory(path) | Subject::File(path, _) | Subject::Failed(path, _) => {
                write!(formatter, "{}", path.display())
            }
            Subject::Step { key, .. } => write!(formatter, "{key}"),
        }
    }
}

/// Finds out what `word` names. `store` is the directory of the cache.
pub fn recognise(word: &str, store: &Path) -> Result<Subject, Stop> {
    let path = Path::new(word);
    if !path.exists() {
        return find_step(word, store);
    }
    let absolute = path.canonicalize().map_err(|error| Stop::before_start(format!("{word}: {error}")))?;
    match local::recognise(path).map_err(|error| Stop::before_start(error.to_string()))? {
        Some(LocalKind::Sandbox) => Ok(match FailedStep::read(&absolute) {
            Some(step) => Subject::Failed(absolute, step),
            None => Subject::Directory(absolute),
        }),
        Some(kind) => Ok(Subject::File(absolute, kind)),
        None => Err(Stop::before_start(format!(
            "{word} is no image: neither a SIF, nor a squashfs, nor a directory; a definition file is built first: sifbuild build IMAGE {word}"
        ))),
    }
}

fn find_step(word: &str, store: &Path) -> Result<Subject, Stop> {
    if word.contains("://") {
        return Err(Stop::before_start(format!(
            "{word} is fetched first: sifbuild pull image.sif {word}; then image.sif stands in its place"
        )));
    }
    let prefix = word.strip_prefix("sha256:").unwrap_or(word);
    let is_key = (SHORTEST_KEY..=64).contains(&prefix.len())
        && prefix.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !is_key {
        return Err(Stop::before_start(format!(
            "{word} does not exist; it is an image file, a sandbox directory, or the key of a kept step (sifbuild cache steps)"
        )));
    }
    let mut found = Store::find(store, prefix);
    match found.len() {
        0 => Err(Stop::before_start(format!(
            "there is neither an image {word} nor a kept step whose key begins so in {} (sifbuild cache steps)",
            store.display()
        ))),
        1 => {
            let (mode, key, _) = found.remove(0);
            Ok(Subject::Step { mode, key })
        }
        count => {
            Err(Stop::before_start(format!("{count} kept steps have keys that begin with {prefix}; give more of it")))
        }
    }
}

/// The directories of a subject, the topmost first.
pub struct Unpacked {
    pub layers: Vec<PathBuf>,
    /// Where the program's root may be mounted.
    pub place: PathBuf,
}

/// What unpacking needs to know.
pub struct Unpacking<'a> {
    pub store: &'a Path,
    pub mode: IdMode,
    pub unlocking: Option<&'a Unlocking>,
    pub threads: usize,
    /// Also where the image could be mounted.
    pub unpack_always: bool,
    pub observer: &'a dyn Observer,
}

impl Unpacking<'_> {
    /// Inside of the namespace. A SIF is mounted; else unpacked into the store once, by its digest, and found there from then on.
    pub fn unpack(&self, subject: &Subject) -> Result<Unpacked, Stop> {
        let mut store = match self.open_store() {
            Err(_) if matches!(subject, Subject::Directory(_)) => return self.without_store(subject),
            opened => opened?,
        };
        let place = store.root().join("mount");
        match fs::create_dir(&place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Stop::before_start(format!("cannot make {}: {error}", place.display())));
            }
            _ => {}
        }
        let layers = match subject {
            Subject::Directory(path) => vec![path.clone()],
            Subject::Step { key, .. } => self.layers_of_step(&store, key)?,
            Subject::Failed(path, step) => layers_of_failed(path, step)?,
            Subject::File(path, kind) => match self.known(&store, path) {
                Some(directory) => vec![directory],
                None => {
                    // The process that serves the image holds what is open here.
                    drop(store);
                    if let Some(mounted) = self.mount(path, *kind, &place)? {
                        return Ok(mounted);
                    }
                    store = self.open_store()?;
                    if is_encrypted(path, *kind) {
                        return self.unpack_encrypted(&store, path, *kind, &place);
                    }
                    vec![self.unpack_file(&store, path, *kind)?]
                }
            },
        };
        store.hold_beyond_exec().map_err(|error| Stop::before_start(format!("cannot hold the store: {error}")))?;
        Ok(Unpacked { layers, place })
    }

    fn open_store(&self) -> Result<Store, Stop> {
        Store::open(self.store, &super::super::session::store_mode()).map_err(|error| {
            Stop::before_start(format!(
                "{error}; --cache-dir DIRECTORY or SIFBUILD_CACHEDIR names another place for the cache"
            ))
        })
    }

    /// The directory of a file that was unpacked, and that nobody touched since.
    fn known(&self, store: &Store, path: &Path) -> Option<PathBuf> {
        let digest = store.answer(&question(path).ok()?)?.trim().parse().ok()?;
        store.directory(&key(&digest).0)
    }

    /// Mounts the image where FUSE can be had; the program holds the mount, and needs the store no longer.
    fn mount(&self, path: &Path, kind: LocalKind, place: &Path) -> Result<Option<Unpacked>, Stop> {
        if self.unpack_always || sandbox::observe_fuse().is_err() {
            return Ok(None);
        }
        let image = local::open(path, kind, self.unlocking).map_err(|error| Stop::before_start(error.to_string()))?;
        let owners = match self.ownership() {
            Ownership::Real => Owners::OfTheImage,
            Ownership::IndexOnly => Owners::Root,
        };
        let [root, inner] = make_in_memory(place)?;
        match sandbox::mount_image(&image, owners, &root) {
            Ok(()) => Ok(Some(Unpacked { layers: vec![root], place: inner })),
            Err(error) => {
                self.observer.observe(Event::Detail(format!("the image is unpacked, because FUSE failed: {error}")));
                Ok(None)
            }
        }
    }

    /// A sandbox directory needs nothing that is kept.
    fn without_store(&self, subject: &Subject) -> Result<Unpacked, Stop> {
        let Subject::Directory(path) = subject else { unreachable!("a file is unpacked into the store") };
        let place = tempfile::Builder::new()
            .prefix("sifbuild-mount-")
            .tempdir()
            .map_err(|error| Stop::before_start(format!("cannot make a directory to mount the root at: {error}")))?;
        Ok(Unpacked { layers: vec![path.clone()], place: place.keep() })
    }

    fn layers_of_step(&self, store: &Store, key: &Digest) -> Result<Vec<PathBuf>, Stop> {
        let chain = store.chain(key).map_err(|error| Stop::before_start(error.to_string()))?;
        let directory = |key: &Digest| {
            store.directory(key).ok_or_else(|| {
                Stop::before_start(format!("a step below it, {key}, is no longer kept; build the definition again"))
            })
        };
        chain.iter().rev().map(directory).collect()
    }

    /// What is to be imitated of owners, after [`Unpacking::unpack`].
    pub fn fakeroot(&self, subject: &Subject) -> Result<Fakeroot, Stop> {
        let fault = |error: StoreError| Stop::before_start(error.to_string());
        if let Subject::Failed(_, FailedStep { fakeroot: Some(fakeroot), .. }) = subject {
            return Ok(fakeroot.clone());
        }
        let store = self.open_store()?;
        let keys = match subject {
            Subject::Step { key, .. } => store.chain(key).map_err(fault)?,
            Subject::File(path, _) => vec![key(&pin(&store, path, &Digests::default())?).0],
            // Their owners are those on the disk.
            Subject::Directory(_) | Subject::Failed(..) => Vec::new(),
        };
        let mut tree = Tree::new();
        for (number, key) in keys.iter().enumerate() {
            if let Some(held) = store.recall(key).map_err(fault)? {
                tree.apply(&held.layer, number as u32).map_err(|error| fault(error.into()))?;
            }
        }
        Ok(Fakeroot::new(Scope::Everything, &tree))
    }

    fn ownership(&self) -> Ownership {
        match self.mode {
            IdMode::Root | IdMode::Range => Ownership::Real,
            IdMode::Single | IdMode::None => Ownership::IndexOnly,
        }
    }

    fn unpack_file(&self, store: &Store, path: &Path, kind: LocalKind) -> Result<PathBuf, Stop> {
        let digests = Digests::default();
        let digest = pin(store, path, &digests)?;
        let (key, document) = key(&digest);
        if let Some(directory) = store.directory(&key) {
            return Ok(directory);
        }
        self.observer.observe(Event::Info(format!("Unpacking {} (once)", path.display())));
        sandbox::sweep(&store.work());
        let work = WorkDirectory::create(&store.work()).map_err(|error| Stop::before_start(error.to_string()))?;
        let root = work.path().join("root");
        fs::create_dir(&root)
            .map_err(|error| Stop::before_start(format!("cannot make {}: {error}", root.display())))?;
        let layer = self.write_out(path, kind, &digest, &digests, &root)?;
        let kept = store.remember(&key, &document, &layer, &root, &[], &[]);
        kept.map_err(|error| Stop::before_start(error.to_string()))?;
        store.directory(&key).ok_or_else(|| Stop::before_start("the unpacked image was removed meanwhile; try again"))
    }

    /// Into memory: the disk never has what was encrypted.
    fn unpack_encrypted(&self, store: &Store, path: &Path, kind: LocalKind, place: &Path) -> Result<Unpacked, Stop> {
        let digests = Digests::default();
        let digest = pin(store, path, &digests)?;
        let [root, inner] = make_in_memory(place)?;
        self.write_out(path, kind, &digest, &digests, &root)?;
        Ok(Unpacked { layers: vec![root], place: inner })
    }

    fn write_out(
        &self,
        path: &Path,
        kind: LocalKind,
        digest: &Digest,
        digests: &Digests,
        root: &Path,
    ) -> Result<crate::tree::Layer, Stop> {
        let fault = |error: LocalError| Stop::before_start(error.to_string());
        let base = local::provide(path, kind, digest, digests, self.unlocking).map_err(fault)?;
        let layer = check_out(&mut [base.held], root, self.ownership(), self.threads, &mut |_| {})
            .map_err(|error| Stop::before_start(error.to_string()))?;
        if let Some(pinned) = base.pinned {
            pinned.check().map_err(fault)?;
        }
        Ok(layer)
    }
}

fn layers_of_failed(path: &Path, step: &FailedStep) -> Result<Vec<PathBuf>, Stop> {
    match step.directories.iter().find(|directory| !directory.is_dir()) {
        None => Ok(step.directories.clone()),
        Some(gone) => Err(Stop::before_start(format!(
            "{} was kept, but {}, on which it lies, is gone; build the definition again",
            path.display(),
            gone.display()
        ))),
    }
}

/// Directories for the image and for the program's root, in a memory file system that only this process sees.
fn make_in_memory(place: &Path) -> Result<[PathBuf; 2], Stop> {
    sandbox::mount_memory(place).map_err(|error| Stop::before_start(error.to_string()))?;
    let directories = ["image", "mount"].map(|name| place.join(name));
    for path in &directories {
        fs::create_dir(path).map_err(|error| Stop::before_start(format!("cannot make {}: {error}", path.display())))?;
    }
    Ok(directories)
}

/// Key of an unpacked image, and the document that it is the digest of.
fn key(digest: &Digest) -> (Digest, String) {
    let document = format!("action image\ndigest {digest}\n");
    (Digest::of(document.as_bytes()), document)
}

/// What changes when the file does.
fn question(path: &Path) -> io::Result<String> {
    let found = fs::metadata(path)?;
    Ok(format!(
        "digest of the file {}:{} of {} bytes, {}.{:09}, {}.{:09}",
        found.dev(),
        found.ino(),
        found.len(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec()
    ))
}

/// The file's digest; of one that nobody touched since, the one that was computed then.
fn pin(store: &Store, path: &Path, digests: &Digests) -> Result<Digest, Stop> {
    let question = question(path).map_err(|error| Stop::before_start(format!("{}: {error}", path.display())))?;
    if let Some(digest) = store.answer(&question).and_then(|text| text.trim().parse().ok()) {
        digests.proven(path, &digest);
        return Ok(digest);
    }
    let (_, digest) = local::pin(path, digests).map_err(|error| Stop::before_start(error.to_string()))?;
    store.keep_answer(&question, &format!("{digest}\n"));
    Ok(digest)
}

fn is_encrypted(path: &Path, kind: LocalKind) -> bool {
    let file_system = || {
        let sif = Sif::read(File::open(path).ok()?).ok()?;
        sif.partition(PartitionType::PRIMARY_SYSTEM).map(|(_, partition)| partition.file_system)
    };
    kind == LocalKind::Sif && file_system().is_some_and(|found| found == FileSystem::ENCRYPTED_SQUASHFS)
}
