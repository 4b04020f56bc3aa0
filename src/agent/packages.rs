//! What agents of distributions do with package files, whatever their format: keep them as blobs, show them under their names, and make
//! one layer of what is unpacked from them.

use crate::archive::compress::Compression;
use crate::digest::{Algorithm, HashingWriter};
use crate::event::Observer;
use crate::fetch::FetchError;
use crate::fetch::download::{Expected, Failed, Job, download_all};
use crate::fetch::http::{Fetch, parse_url};
use crate::rpm::metadata::checksum::ChecksumHasher;
use crate::rpm::metadata::{Checksum, ChecksumAlgorithm};
use crate::store::LayerBlob;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek};
use std::path::{Path, PathBuf};

/// Package files on their way at the same time.
pub const CONCURRENCY: usize = 8;

/// A file or directory of ours that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {cause}", path = path.display())]
pub struct PathError {
    pub action: &'static str,
    pub path: PathBuf,
    pub cause: io::Error,
}

impl PathError {
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PathError {
        let path = path.to_path_buf();
        move |cause| PathError { action, path, cause }
    }
}

/// Where a file lies among the blobs.
pub fn place(blobs: &Path, checksum: &Checksum) -> PathBuf {
    blobs.join(checksum.algorithm().name()).join(checksum.hex())
}

/// A package file to unpack.
pub fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(BufReader::new(File::open(path)?)))
}

/// Makes the directory in which `blob` will lie.
pub fn make_place(blob: &Path) -> Result<(), PathError> {
    match blob.parent() {
        Some(folder) => std::fs::create_dir_all(folder).map_err(PathError::at("cannot make", folder)),
        None => Ok(()),
    }
}

/// The folder `packages` in `work` with `files` (blob, name): other names for the blobs, or copies.
pub fn stage(files: impl Iterator<Item = (PathBuf, String)>, work: &Path) -> Result<PathBuf, PathError> {
    let folder = work.join("packages");
    std::fs::create_dir_all(&folder).map_err(PathError::at("cannot make", &folder))?;
    for (source, name) in files {
        let target = folder.join(name);
        // Invariant: a copy must never be written through a name that an earlier run made of the blob itself.
        match std::fs::remove_file(&target) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(PathError::at("cannot remove", &target)(cause));
            }
            _ => {}
        }
        if std::fs::hard_link(&source, &target).is_err() {
            std::fs::copy(&source, &target).map_err(PathError::at("cannot write", &target))?;
        }
    }
    Ok(folder)
}

/// The uncompressed tar archive that `write` writes to `path`, as a layer.
pub fn write_layer<E: From<PathError>>(
    path: PathBuf,
    write: impl FnOnce(&mut HashingWriter<BufWriter<File>>) -> Result<(), E>,
) -> Result<LayerBlob, E> {
    let file = File::create(&path).map_err(PathError::at("cannot write", &path))?;
    let mut writer = HashingWriter::new(BufWriter::with_capacity(1 << 20, file), Algorithm::Sha256);
    write(&mut writer)?;
    let (_, digest, length) = writer.finish();
    Ok(LayerBlob {
        digest: Some(digest.clone()),
        diff_id: Some(digest),
        file: path,
        offset: 0,
        length,
        compression: Compression::None,
    })
}

/// What stays as a lock has it while other packages move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Names, versions and architectures; of none that moves.
    pub versions: BTreeSet<(String, String, String)>,
    /// Names.
    pub moving: BTreeSet<String>,
    /// Of the base as it was.
    pub lines: Vec<String>,
    /// Where package files are that are no longer in the repositories.
    pub blobs: PathBuf,
}

impl Kept {
    pub fn has(&self, name: &str, version: &str, architecture: &str) -> bool {
        self.versions.contains(&(name.to_owned(), version.to_owned(), architecture.to_owned()))
    }
}

/// A package file that was kept, checked as if it came from outside; else why it cannot be used.
pub fn open_kept(path: &Path, wanted: &Checksum) -> Result<File, String> {
    let absent = |_| "its file is neither in the cache nor in a vendor directory".to_owned();
    let mut file = File::open(path).map_err(absent)?;
    let found = checksum(&mut file, wanted.algorithm()).and_then(|found| file.rewind().map(|()| found));
    match found.map_err(|error| error.to_string())? == *wanted {
        true => Ok(file),
        false => Err(format!("the kept file {} is damaged", path.display())),
    }
}

/// Of a whole file.
pub fn checksum(file: &mut File, algorithm: ChecksumAlgorithm) -> io::Result<Checksum> {
    file.rewind()?;
    let mut hasher = ChecksumHasher::new(algorithm);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Where packages are looked for beside their own mirror, and what is said where they are nowhere.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Addresses of archives that keep old packages, asked after the mirror; each takes the place of a repository's base. With a slash at the
    /// end.
    pub vaults: Vec<String>,
    /// The collection that was looked through before.
    pub vendor: Option<String>,
    /// The lock file that names the packages.
    pub locked_by: Option<PathBuf>,
}

/// A package file that is not among the blobs.
pub struct Missing<'a> {
    /// Name and version.
    pub label: String,
    /// The package's name alone.
    pub name: &'a str,
    pub checksum: Checksum,
    /// In bytes.
    pub size: u64,
    /// Below each of `bases`, which have a slash at the end.
    pub location: &'a str,
    pub bases: Vec<String>,
    pub destination: PathBuf,
}

/// A package that neither its mirror nor any other place has.
#[derive(Debug, thiserror::Error)]
#[error("the package {label} ({location}, {checksum}) cannot be had: {cause}; {advice}")]
pub struct Gone {
    pub label: String,
    pub location: String,
    pub checksum: Checksum,
    pub cause: FetchError,
    pub advice: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Gone(Box<Gone>),
}

impl Elsewhere {
    /// Brings the files: from the mirrors, else from the vaults.
    pub fn download(
        &self,
        missing: &[Missing<'_>],
        fetch: &dyn Fetch,
        observer: &dyn Observer,
    ) -> Result<(), DownloadError> {
        let mut jobs = Vec::new();
        for file in missing {
            make_place(&file.destination)?;
            let bases = file.bases.iter().chain(&self.vaults);
            jobs.push(Job {
                urls: bases.map(|base| parse_url(&format!("{base}{}", file.location))).collect::<Result<_, _>>()?,
                destination: file.destination.clone(),
                expected: Expected { digest: file.checksum.digest(), size: Some(file.size), most: None },
                label: file.label.clone(),
            });
        }
        match download_all(fetch, &jobs, CONCURRENCY, observer) {
            Ok(_) => Ok(()),
            Err(Failed { error: error @ FetchError::File { .. }, .. }) => Err(error.into()),
            Err(Failed { job, error }) => Err(DownloadError::Gone(Box::new(self.gone(&missing[job], error)))),
        }
    }

    fn gone(&self, file: &Missing<'_>, cause: FetchError) -> Gone {
        let vendor = match &self.vendor {
            Some(place) => format!("; the cache and {place} do not have it"),
            None => "; the cache does not have it, and there is no vendor directory".to_owned(),
        };
        let advice = match &self.locked_by {
            Some(lock) => {
                let beside = lock.extension().filter(|end| *end == "lock").map(|_| lock.with_extension(""));
                let definition = beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("DEFINITION"));
                format!(
                    "{lock} names it{vendor}. Where it is still to be had: `sifbuild vendor` on a host whose cache has it, an archive of \
                     old packages with --vault URL; or move on with `sifbuild lock {} --update {}`",
                    definition.display(),
                    file.name,
                    lock = lock.display()
                )
            }
            None => "the mirror changed since it was asked, or is incomplete: build again, or name another".to_owned(),
        };
        Gone {
            label: file.label.clone(),
            location: file.location.to_owned(),
            checksum: file.checksum.clone(),
            cause,
            advice,
        }
    }
}
