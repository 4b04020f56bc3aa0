//! Makes a collection: the same lock gives the same bytes.

use super::take::open_layout;
use super::{Named, Place, VendorError};
use crate::agent::packages::{self, PathError};
use crate::archive::tar;
use crate::digest::{Algorithm, Digest, HashingWriter};
use crate::disk::{self, AtomicFile};
use crate::event::Observer;
use crate::fetch::FetchError;
use crate::fetch::http::Body;
use crate::fetch::registry::{Push, Registry};
use crate::oci::artifact::TITLE;
use crate::oci::manifest::{Descriptor, OCI_MANIFEST};
use crate::oci::reference::Reference;
use crate::oci::vendor::{self, LOCK};
use crate::rpm::metadata::{Checksum, ChecksumAlgorithm};
use crate::tree::Xattrs;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes `files`, which are among the blobs, and the lock. A collection that is there is replaced as a whole. Gives the digest of the
/// artifact and the bytes of the files. `registry` must be there where the place is in one; then `work` is where all lies before.
pub fn write(
    lock: &str,
    files: &[Named],
    blobs: &Path,
    place: &Place,
    work: &Path,
    registry: Option<&Registry<'_>>,
    observer: &dyn Observer,
) -> Result<(Digest, u64), VendorError> {
    let place = &resolve(place);
    let beside = match place {
        Place::Directory(path) | Place::Archive(path) => {
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
        }
        Place::Registry(_) => work,
    };
    let draft = tempfile::Builder::new().prefix(".sifbuild-vendor-").tempdir_in(beside);
    let draft = draft.map_err(PathError::at("cannot make a directory in", beside))?;
    if !may_replace(place, draft.path()) {
        return Err(VendorError::Occupied { place: place.to_string() });
    }
    let root = draft.path().join("layout");
    let done = write_layout(lock, files, blobs, &root)?;
    match (place, registry) {
        (Place::Directory(target), _) => disk::replace_directory(&root, target, &draft.path().join("old"))?,
        (Place::Archive(target), _) => write_archive(&root, target)?,
        (Place::Registry(reference), Some(registry)) => push(&root, reference, registry, observer)?,
        (Place::Registry(reference), None) => return Err(FetchError::NoSource(reference.to_string()).into()),
    }
    Ok(done)
}

/// What a symbolic link leads to is replaced, and not the link.
fn resolve(place: &Place) -> Place {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    match place {
        Place::Directory(path) => Place::Directory(real(path)),
        Place::Archive(path) => Place::Archive(real(path)),
        Place::Registry(_) => place.clone(),
    }
}

/// Nothing that is not ours is replaced.
fn may_replace(place: &Place, work: &Path) -> bool {
    let path = match place {
        Place::Directory(path) | Place::Archive(path) => path,
        Place::Registry(_) => return true,
    };
    let is_empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if fs::symlink_metadata(path).is_err() || matches!(place, Place::Directory(_)) && is_empty() {
        return true;
    }
    let Ok(Some(layout)) = open_layout(place, work) else { return false };
    match layout.read("index.json", "index").map(|bytes| vendor::read_index(&bytes)) {
        Ok(Ok(_)) => true,
        Ok(Err(vendor::VendorError::NotOurs)) => false,
        // A damaged collection is ours by its manifest.
        _ => fs::read_dir(path.join("blobs/sha256")).is_ok_and(|blobs| {
            blobs.flatten().any(|blob| {
                let bytes = layout.read(&format!("blobs/sha256/{}", blob.file_name().to_string_lossy()), "manifest");
                bytes.is_ok_and(|bytes| vendor::read_manifest(&bytes).is_ok())
            })
        }),
    }
}

fn write_layout(lock: &str, files: &[Named], blobs: &Path, root: &Path) -> Result<(Digest, u64), VendorError> {
    let folder = root.join("blobs/sha256");
    fs::create_dir_all(&folder).map_err(PathError::at("cannot make", &folder))?;
    let put = |media_type: &str, bytes: &[u8]| -> Result<Descriptor, VendorError> {
        let digest = Digest::of(bytes);
        let path = folder.join(digest.hex());
        fs::write(&path, bytes).map_err(PathError::at("cannot write", &path))?;
        Ok(descriptor(media_type, digest, bytes.len() as u64))
    };
    let mut sorted: BTreeMap<String, &Named> = BTreeMap::new();
    for file in files {
        sorted.entry(file.checksum.to_string()).or_insert(file);
    }
    let mut layers = Vec::new();
    for (checksum, file) in &sorted {
        layers.push(vendor::describe(copy(file, &file.place(blobs), &folder)?, &file.title, checksum));
    }
    layers.sort_by(|left, right| (&left.annotations, &left.digest).cmp(&(&right.annotations, &right.digest)));
    let bytes = layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    let manifest = put(OCI_MANIFEST, &vendor::write_manifest(put(LOCK, lock.as_bytes())?, layers))?;
    let digest = manifest.digest.clone();
    for (name, content) in [("index.json", vendor::write_index(manifest)), ("oci-layout", LAYOUT.into())] {
        let path = root.join(name);
        fs::write(&path, content).map_err(PathError::at("cannot write", &path))?;
    }
    Ok((digest, bytes))
}

/// What was kept is checked as if it came from outside.
fn copy(file: &Named, source: &Path, folder: &Path) -> Result<Descriptor, VendorError> {
    let draft = folder.join(".draft");
    let mut reader = File::open(source).map_err(PathError::at("cannot read", source))?;
    let writer = File::create(&draft).map_err(PathError::at("cannot write", &draft))?;
    let mut writer = HashingWriter::new(writer, Algorithm::Sha256);
    io::copy(&mut reader, &mut writer).map_err(PathError::at("cannot write", &draft))?;
    let (_, digest, size) = writer.finish();
    let found = match file.checksum.algorithm() {
        ChecksumAlgorithm::Sha256 => Checksum::from(&digest),
        other => packages::checksum(&mut reader, other).map_err(PathError::at("cannot read", source))?,
    };
    if found != file.checksum {
        return Err(VendorError::Damaged { path: source.to_path_buf() });
    }
    let path = folder.join(digest.hex());
    fs::rename(&draft, &path).map_err(PathError::at("cannot write", &path))?;
    Ok(descriptor(&file.media_type, digest, size))
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    let (artifact_type, annotations, platform) = (None, BTreeMap::new(), None);
    Descriptor { media_type: media_type.to_owned(), digest, size, artifact_type, annotations, platform }
}

fn write_archive(root: &Path, target: &Path) -> Result<(), VendorError> {
    let fault = |cause: io::Error| PathError::at("cannot write", target)(cause);
    let mut file = AtomicFile::create(target, 0o666).map_err(|error| fault(io::Error::other(error)))?;
    let mut archive = tar::Writer::new(io::BufWriter::with_capacity(1 << 20, file.file_mut()));
    let folder = root.join("blobs/sha256");
    let names = fs::read_dir(&folder).and_then(|entries| {
        entries.map(|entry| Ok(format!("blobs/sha256/{}", entry?.file_name().to_string_lossy()))).collect()
    });
    let mut names: Vec<String> = names.map_err(PathError::at("cannot read", &folder))?;
    names.extend(["index.json".to_owned(), "oci-layout".to_owned()]);
    names.sort();
    for name in names {
        let path = root.join(&name);
        let mut body = File::open(&path).map_err(PathError::at("cannot read", &path))?;
        let size = body.metadata().map_err(PathError::at("cannot read", &path))?.len();
        let (path, kind, xattrs) = (name.into_bytes(), tar::Kind::File, Xattrs::new());
        let header = tar::Header { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, size, xattrs };
        archive.append(&header, &mut body).map_err(fault)?;
    }
    let writer = archive.finish().map_err(fault)?;
    writer.into_inner().map_err(|error| fault(error.into_error()))?;
    Ok(file.commit(true).map_err(|error| fault(io::Error::other(error)))?)
}

/// Other things that the tag names are not replaced.
fn push(
    directory: &Path,
    reference: &Reference,
    registry: &Registry<'_>,
    observer: &dyn Observer,
) -> Result<(), VendorError> {
    let (Some(tag), None) = (reference.tag(), &reference.digest) else {
        return Err(VendorError::NeedsTag(reference.clone()));
    };
    let push = registry.push(reference, None, observer)?;
    let place = || format!("oras://{reference}");
    if let Some(before) = push.current(tag)?
        && vendor::read_manifest(&before.bytes).is_err()
    {
        return Err(VendorError::Occupied { place: place() });
    }
    let fault = |cause| VendorError::Document { place: place(), cause };
    let read = |path: &Path| fs::read(path).map_err(PathError::at("cannot read", path));
    let blob = |descriptor: &Descriptor| directory.join("blobs/sha256").join(descriptor.digest.hex());
    let manifest = vendor::read_index(&read(&directory.join("index.json"))?).map_err(fault)?;
    let bytes = read(&blob(&manifest))?;
    let (lock, files) = vendor::read_manifest(&bytes).map_err(fault)?;
    for descriptor in std::iter::once(&lock).chain(files.values()) {
        send(&push, descriptor, &blob(descriptor))?;
    }
    push.manifest(tag, OCI_MANIFEST, &bytes)?;
    Ok(())
}

fn send(push: &Push<'_>, descriptor: &Descriptor, path: &Path) -> Result<(), VendorError> {
    let file = File::open(path).map_err(PathError::at("cannot read", path))?;
    let title = descriptor.annotations.get(TITLE).map_or("lock", String::as_str);
    push.blob(&Body::from_file(Arc::new(file), descriptor.size), &descriptor.digest, title)?;
    Ok(())
}
