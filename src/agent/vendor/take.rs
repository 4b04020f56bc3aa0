//! A collection that files are taken from.

use super::{Named, Place, VendorError, named};
use crate::agent::oci::Container;
use crate::agent::packages::{self, PathError, make_place};
use crate::digest::Digest;
use crate::disk::AtomicFile;
use crate::event::{Event, Observer};
use crate::fetch::FetchError;
use crate::fetch::registry::Registry;
use crate::oci::manifest::Descriptor;
use crate::oci::vendor;
use crate::pins::BasePin;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Blobs of a registry on their way at the same time.
const CONCURRENCY: usize = 4;

pub struct Vendor {
    pub place: Place,
    /// None: it is in a registry.
    layout: Option<Container>,
    /// By the checksums that locks name them with.
    files: BTreeMap<String, Descriptor>,
    /// What a compressed archive was unpacked to.
    _work: TempDir,
}

impl Vendor {
    /// `work` is a directory for what has to be unpacked. `registry` must be there where the collection is in one.
    pub fn open(
        place: &Place,
        work: &Path,
        registry: Option<&Registry<'_>>,
        observer: &dyn Observer,
    ) -> Result<Vendor, VendorError> {
        let own = tempfile::Builder::new().prefix("vendor-").tempdir_in(work);
        let own = own.map_err(PathError::at("cannot make a directory in", work))?;
        let layout = match place {
            Place::Directory(path) => Some(Container::directory(path)?),
            Place::Archive(path) => Some(Container::archive(path, own.path())?),
            Place::Registry(_) => None,
        };
        let fault = |cause| VendorError::Document { place: place.to_string(), cause };
        let bytes = match (&layout, place, registry) {
            (Some(layout), ..) => {
                let manifest = vendor::read_index(&layout.read("index.json", "index")?).map_err(fault)?;
                let bytes = layout.read(&blob(&manifest.digest), "manifest")?;
                if Digest::of(&bytes) != manifest.digest {
                    return Err(VendorError::Damaged { path: PathBuf::from(place.to_string()) });
                }
                bytes
            }
            (None, Place::Registry(reference), Some(registry)) => registry.pull(reference, observer)?.manifest()?.bytes,
            (None, ..) => return Err(FetchError::NoSource(place.to_string()).into()),
        };
        let (_, files) = vendor::read_manifest(&bytes).map_err(fault)?;
        Ok(Vendor { place: place.clone(), layout, files, _work: own })
    }

    /// Puts what the base needs, and the collection has, among the blobs; `documents`: only what says of what an image is made.
    pub fn take(
        &self,
        base: &BasePin,
        documents: bool,
        blobs: &Path,
        registry: Option<&Registry<'_>>,
        observer: &dyn Observer,
    ) -> Result<(), VendorError> {
        // An image's files are known when its manifest is there.
        let rounds = if matches!(base, BasePin::Docker { .. }) { 2 } else { 1 };
        for _ in 0..rounds {
            let wanted = named(base, blobs)?;
            let missing = wanted.iter().filter(|file| !documents || file.is_document());
            for file in missing.filter(|file| !file.place(blobs).exists()) {
                let Some(descriptor) = self.files.get(&file.checksum.to_string()) else { continue };
                if !self.take_one(file, descriptor, &file.place(blobs), registry, observer)? {
                    let text = format!("{} in {} is damaged, and is looked for elsewhere", file.title, self.place);
                    observer.observe(Event::Warning(text));
                }
            }
        }
        Ok(())
    }

    /// Tells whether it was what the lock names.
    fn take_one(
        &self,
        file: &Named,
        descriptor: &Descriptor,
        target: &Path,
        registry: Option<&Registry<'_>>,
        observer: &dyn Observer,
    ) -> Result<bool, VendorError> {
        make_place(target)?;
        let fault = |cause: io::Error| PathError::at("cannot write", target)(cause);
        let is_right = |copy: &mut File| -> Result<bool, VendorError> {
            Ok(packages::checksum(copy, file.checksum.algorithm()).map_err(fault)? == file.checksum)
        };
        match (&self.layout, &self.place, registry) {
            (Some(layout), ..) => {
                let Some(range) = layout.find(&blob(&descriptor.digest)) else { return Ok(false) };
                let mut source = File::open(&range.file).map_err(PathError::at("cannot read", &range.file))?;
                source.seek(SeekFrom::Start(range.offset)).map_err(PathError::at("cannot read", &range.file))?;
                let mut copy = AtomicFile::create(target, 0o666).map_err(|error| fault(io::Error::other(error)))?;
                io::copy(&mut source.take(range.length), copy.file_mut()).map_err(fault)?;
                let right = is_right(copy.file_mut())?;
                if right {
                    copy.commit(true).map_err(|error| fault(io::Error::other(error)))?;
                }
                Ok(right)
            }
            (None, Place::Registry(reference), Some(registry)) => {
                let pull = registry.pull(reference, observer)?;
                pull.blobs(&[(descriptor, target.to_path_buf())], CONCURRENCY)?;
                let right = is_right(&mut File::open(target).map_err(fault)?)?;
                if !right {
                    fs::remove_file(target).map_err(fault)?;
                }
                Ok(right)
            }
            _ => Ok(false),
        }
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}
