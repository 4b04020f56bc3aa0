//! What is kept between builds, in one directory:
//!
//! ```text
//! VERSION/                 "1": the layout; another version lives beside it
//!   lock                   builds hold it shared, collection holds it exclusive
//!   limit                  bytes that may be kept, or "none"; absent: the default
//!   blobs/sha256/HEX       archives as downloaded: layers, .deb files; verified
//!   steps/MODE/HEX/        a step's result, named by the digest of its key document
//!     document             the key document (for `why`)
//!     index                the layer's index, canonical text (crate::tree::text)
//!     chain                digests of the results below it, bottom first
//!     oci-config.json      attachments: what else a step found out
//!     blocks-SETTINGS      the bodies as an image had them (crate::squashfs::Kept)
//!     size                 bytes that root takes on the disk
//!     root/                the layer's contents: a directory that overlay takes as lower
//!   answers/HEX            what the world answered to a question, named by the question's digest; for --offline
//!   mount                  an empty directory, on which programs mount an image for themselves (crate::sandbox::program)
//!   work/NAME/             builds in flight; each locked by its owner, swept when the lock is free
//! ```
//!
//! `MODE` is the id mode (`root`, `range-START`, `single`): files on disk are owned through its map, so that results of one mode
//! do not serve another. Everything below `blobs` and `steps` is written beside its place and renamed, and immutable from then on;
//! so many jobs may share one store, on a network filesystem too: no database, no reliance on a lock for correctness of a read.

mod ahead;
mod blob;
mod checkout;
mod collect;
mod contents;
mod extract;

pub use blob::{BlobError, LayerBlob, VerifiedReader};
pub use checkout::{Ownership, check_out, lay_out, set_metadata, stand_in_for_devices};
pub use collect::{Collection, Limit, Usage, mark_used, size_on_disk};
pub use contents::{Contents, Held, Opener, Origin, Shadow};

use crate::digest::Digest;
use crate::tree::{Layer, text};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// Refusals of the store, each naming its path.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{action} {path}: {cause}", path = path.display())]
    Path { action: &'static str, path: PathBuf, cause: io::Error },
    #[error(
        "the image gives {path} to user {uid} and group {gid}, which lie beyond the ids that this user has; a longer range in /etc/subuid and \
         /etc/subgid, or root, has them",
        path = path.display()
    )]
    Owner { path: PathBuf, uid: u32, gid: u32 },
    #[error("the store's record {path} is damaged: {cause}; remove it with `sifbuild cache clean`", path = path.display())]
    Damaged { path: PathBuf, cause: String },
    #[error("the layers do not fit on each other: {0}")]
    Apply(#[from] crate::tree::ApplyError),
    /// An archive that came from outside is not what it should be.
    #[error("{file}: {cause}", file = file.display())]
    Layer { file: PathBuf, cause: String },
    #[error("{subject}: {cause}")]
    Read { subject: String, cause: String },
}

pub(crate) fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |cause| StoreError::Path { action, path: path.to_path_buf(), cause }
}

/// File beside a result: bytes that its `root` takes on the disk, so that nobody counts them again.
const SIZE: &str = "size";
/// Version of the layout, in which all below the directory lies.
const LAYOUT: &str = "1";

/// An opened store.
pub struct Store {
    root: PathBuf,
    mode: String,
    added: Arc<AtomicBool>,
    /// When the store was opened, archives came last then.
    archived: Option<SystemTime>,
    _lock: File,
}

impl Store {
    /// Opens, and makes where absent, the store below `root` for one id mode, and holds its lock shared.
    pub fn open(root: &Path, mode: &str) -> Result<Store, StoreError> {
        let root = root.join(LAYOUT);
        for folder in ["blobs/sha256", "steps", "work"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(at("cannot make the store's directory", &path))?;
        }
        let path = root.join("steps").join(mode);
        fs::create_dir_all(&path).map_err(at("cannot make the store's directory", &path))?;
        let lock = open_lock(&root)?;
        // A filesystem without locks (Lustre without flock) is served too: collection is then refused, reading is safe without.
        let _ = lock.lock_shared();
        let archived = last_archived(&root);
        Ok(Store { root, mode: mode.to_owned(), added: Arc::default(), archived, _lock: lock })
    }

    /// Whether results or archives came since it was opened, by whatever build.
    pub fn has_grown(&self) -> bool {
        self.added.load(Ordering::Relaxed) || last_archived(&self.root) != self.archived
    }

    /// The part for one id mode that this store is.
    pub fn mode(&self) -> &str {
        &self.mode
    }

    /// Where everything that is kept lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Directory of content-addressed archives (`sha256/HEX` below it).
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Takes the archives of the store below another directory, so that they need not be fetched again. They are verified when they are
    /// used, as all are; what cannot be taken is fetched.
    pub fn share_blobs(&self, other: &Path) -> Result<(), StoreError> {
        let theirs = other.join(LAYOUT).join("blobs");
        for algorithm in fs::read_dir(&theirs).into_iter().flatten().flatten() {
            let ours = self.blobs().join(algorithm.file_name());
            fs::create_dir_all(&ours).map_err(at("cannot make the store's directory", &ours))?;
            for blob in fs::read_dir(algorithm.path()).into_iter().flatten().flatten() {
                let place = ours.join(blob.file_name());
                if fs::hard_link(blob.path(), &place).is_err() && fs::copy(blob.path(), &place).is_err() {
                    let _ = fs::remove_file(&place);
                }
            }
        }
        Ok(())
    }

    /// The latest answer to a question.
    pub fn answer(&self, question: &str) -> Option<String> {
        fs::read_to_string(self.root.join("answers").join(Digest::of(question.as_bytes()).hex())).ok()
    }

    /// Keeps an answer. A store that cannot is no reason to stop: the answer is at hand.
    pub fn keep_answer(&self, question: &str, text: &str) {
        let folder = self.root.join("answers");
        let written = fs::create_dir_all(&folder).and_then(|()| {
            let draft = tempfile::NamedTempFile::new_in(&folder)?;
            fs::write(draft.path(), text)?;
            draft.persist(folder.join(Digest::of(question.as_bytes()).hex())).map_err(|error| error.error)
        });
        drop(written);
    }

    /// Directory for builds in flight.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    fn step(&self, key: &Digest) -> PathBuf {
        self.root.join("steps").join(&self.mode).join(key.hex())
    }

    /// Whether a step's result is here, and all results below it.
    pub fn recalls(&self, key: &Digest) -> bool {
        let here = |key: &Digest| self.step(key).join("index").exists();
        self.chain(key).is_ok_and(|chain| chain.iter().all(here))
    }

    /// The results that make up the filesystem after a step: those below it, bottom first, and its own.
    pub fn chain(&self, key: &Digest) -> Result<Vec<Digest>, StoreError> {
        let path = self.step(key).join("chain");
        let text = fs::read_to_string(&path).map_err(at("cannot read", &path))?;
        let below: Result<Vec<Digest>, _> = text.lines().map(str::parse).collect();
        let mut chain = below.map_err(|error| StoreError::Damaged { path, cause: error.to_string() })?;
        chain.push(key.clone());
        Ok(chain)
    }

    /// What was kept beside a result under this name.
    pub fn attachment(&self, key: &Digest, name: &str) -> Option<Vec<u8>> {
        fs::read(self.step(key).join(name)).ok()
    }

    /// The result of a step that succeeded before.
    pub fn recall(&self, key: &Digest) -> Result<Option<Held>, StoreError> {
        let path = self.step(key);
        let index = path.join("index");
        let bytes = match fs::read_to_string(&index) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("cannot read", &index)(error)),
        };
        let layer = text::parse(&bytes)
            .map_err(|error| StoreError::Damaged { path: index.clone(), cause: error.to_string() })?;
        self.mark_used(key);
        Ok(Some(Held { layer, contents: Contents::Directory(path.join("root")) }))
    }

    /// The directory of a result's contents, without reading its index.
    pub fn directory(&self, key: &Digest) -> Option<PathBuf> {
        let path = self.step(key);
        let found = path.join("index").exists().then(|| path.join("root"))?;
        self.mark_used(key);
        Some(found)
    }

    /// Results in the store below `root` whose digest begins with `prefix`, of all id modes: mode, key, and the key document.
    pub fn find(root: &Path, prefix: &str) -> Vec<(String, Digest, String)> {
        let names = |path: PathBuf| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<String>>()
        };
        let steps = root.join("1/steps");
        let mut found = Vec::new();
        for mode in names(steps.clone()) {
            for name in names(steps.join(&mode)).into_iter().filter(|name| name.starts_with(prefix)) {
                let document = fs::read_to_string(steps.join(&mode).join(&name).join("document"));
                if let (Ok(key), Ok(document)) = (format!("sha256:{name}").parse(), document) {
                    found.push((mode.clone(), key, document));
                }
            }
        }
        found
    }

    /// When a result that [`Store::find`] gave was of use last.
    pub fn last_used(root: &Path, mode: &str, key: &Digest) -> Option<SystemTime> {
        let index = root.join("1/steps").join(mode).join(key.hex()).join("index");
        fs::metadata(index).and_then(|found| found.modified()).ok()
    }

    /// Holds the store for as long as the program runs that this process is about to become, and all that it starts.
    pub fn hold_beyond_exec(&self) -> io::Result<()> {
        // A number that scripts do not choose for descriptors of their own.
        const NUMBER: i32 = 100;
        let held = rustix::io::fcntl_dupfd_cloexec(&self._lock, NUMBER)?;
        rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::empty())?;
        let _ = std::os::fd::IntoRawFd::into_raw_fd(held);
        Ok(())
    }

    /// Notes that a result was of use now: collection takes what was not for longest.
    pub fn mark_used(&self, key: &Digest) {
        mark_used(&self.step(key).join("index"));
    }

    /// The key document under which a result was kept.
    pub fn document(&self, key: &Digest) -> Option<String> {
        fs::read_to_string(self.step(key).join("document")).ok()
    }

    /// All key documents kept, for the nearest-neighbour comparison of `why`.
    pub fn documents(&self) -> Vec<String> {
        let folder = self.root.join("steps").join(&self.mode);
        let mut documents: Vec<String> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("document")).ok())
            .collect();
        documents.sort();
        documents
    }

    /// Keeps a step's result: moves the directory `root` (on the store's filesystem) into place.
    /// When another build was faster, its result is taken and this one removed.
    pub fn remember(
        &self,
        key: &Digest,
        document: &str,
        layer: &Layer,
        root: &Path,
        chain: &[Digest],
        attachments: &[(&str, &[u8])],
    ) -> Result<Held, StoreError> {
        let place = self.step(key);
        let parent = place.parent().unwrap_or(&self.root).to_path_buf();
        let draft = tempfile::Builder::new()
            .prefix(".draft-")
            .tempdir_in(&parent)
            .map_err(at("cannot make a directory in", &parent))?;
        let chain: String = chain.iter().map(|below| format!("{below}\n")).collect();
        let index = text::write(layer);
        let size = format!("{}\n", collect::size_on_disk(layer, root));
        let own = [("document", document), ("index", &index), ("chain", &chain), (SIZE, &size)];
        let own = own.map(|(name, text)| (name, text.as_bytes()));
        for (name, content) in own.iter().chain(attachments) {
            let path = draft.path().join(name);
            fs::write(&path, content).map_err(at("cannot write", &path))?;
        }
        let inner = draft.path().join("root");
        fs::rename(root, &inner).map_err(at("cannot move into the store", root))?;
        // A result whose chain was broken by a collection is made anew.
        if place.exists() && !self.recalls(key) {
            let _ = crate::disk::remove_tree(&place);
        }
        match fs::rename(draft.path(), &place) {
            Ok(()) => {
                let _ = draft.keep();
            }
            Err(_) if place.join("index").exists() => {
                let _ = crate::disk::remove_tree(&draft.keep());
            }
            Err(error) => return Err(at("cannot keep", &place)(error)),
        }
        self.mark_used(key);
        self.added.store(true, Ordering::Relaxed);
        Ok(Held { layer: layer.clone(), contents: Contents::Directory(place.join("root")) })
    }

    /// A file that was kept beside a result later, such as its blocks.
    pub fn supplement(&self, key: &Digest, name: &str) -> Option<File> {
        File::open(self.step(key).join(name)).ok()
    }

    /// Keeps a file beside a result that is here.
    pub fn add_supplement(
        &self,
        key: &Digest,
        name: &str,
        write: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let draft = self.begin_supplement(key, name)?;
        write(&mut draft.file()).map_err(at("cannot write", &draft.place))?;
        draft.keep()
    }

    /// Begins a file that will lie beside a result that is here.
    pub fn begin_supplement(&self, key: &Digest, name: &str) -> Result<Supplement, StoreError> {
        let parent = self.step(key);
        let draft = tempfile::Builder::new()
            .prefix(".draft-")
            .tempfile_in(&parent)
            .map_err(at("cannot make a file in", &parent))?;
        let registered = crate::disk::register(draft.path());
        Ok(Supplement { draft, place: parent.join(name), added: self.added.clone(), _registered: registered })
    }
}

/// A file beside a result, in the making; dropped, it is gone.
pub struct Supplement {
    draft: tempfile::NamedTempFile,
    place: PathBuf,
    added: Arc<AtomicBool>,
    _registered: crate::disk::Registered,
}

impl Supplement {
    pub fn file(&self) -> &File {
        self.draft.as_file()
    }

    pub fn keep(self) -> Result<(), StoreError> {
        let place = self.place;
        self.draft.persist(&place).map_err(|error| at("cannot keep", &place)(error.error))?;
        self.added.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn open_lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    File::options().create(true).truncate(false).write(true).open(&path).map_err(at("cannot open", &path))
}

/// When a directory of archives last got or lost a name.
fn last_archived(root: &Path) -> Option<SystemTime> {
    fs::metadata(root.join("blobs/sha256")).and_then(|found| found.modified()).ok()
}
