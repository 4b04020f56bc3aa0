//! A collection that files are taken from.

use super::{Named, Place, VendorError, named};
use crate::agent::oci::{self, Container};
use crate::agent::packages::{self, PathError, make_place};
use crate::digest::Digest;
use crate::disk::AtomicFile;
use crate::event::{Event, Observer};
use crate::fetch::FetchError;
use crate::fetch::registry::Registry;
use crate::oci::manifest::Descriptor;
use crate::oci::vendor;
use crate::pins::BasePin;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use tempfile::TempDir;

/// Blobs of a registry on their way at the same time.
const CONCURRENCY: usize = 4;

pub struct Vendor {
    pub place: Place,
    /// None: it is in a registry.
    layout: Option<Container>,
    /// By the checksums that locks name them with. A registry is asked when the first is wanted.
    files: OnceCell<BTreeMap<String, Descriptor>>,
    /// What a compressed archive was unpacked to, and files of a registry that are not checked yet.
    work: TempDir,
}

impl Vendor {
    /// `work` is a directory for what has to be unpacked.
    pub fn open(place: &Place, work: &Path) -> Result<Vendor, VendorError> {
        let own = tempfile::Builder::new().prefix("vendor-").tempdir_in(work);
        let own = own.map_err(PathError::at("cannot make a directory in", work))?;
        let (layout, files) = (open_layout(place, own.path())?, OnceCell::new());
        if let Some(layout) = &layout {
            let fault = |cause| VendorError::Document { place: place.to_string(), cause };
            let manifest = vendor::read_index(&layout.read("index.json", "index")?).map_err(fault)?;
            let bytes = layout.read(&blob(&manifest.digest), "manifest")?;
            if Digest::of(&bytes) != manifest.digest {
                return Err(VendorError::DamagedManifest { place: place.to_string(), blob: blob(&manifest.digest) });
            }
            let _ = files.set(vendor::read_manifest(&bytes).map_err(fault)?.1);
        }
        Ok(Vendor { place: place.clone(), layout, files, work: own })
    }

    /// Puts what the base needs, and the collection has, among the blobs; `documents`: only what says of what an image is made. `registry`
    /// must be there where the collection is in one.
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
                let files = self.files(registry, observer)?;
                let Some(descriptor) = files.get(&file.checksum.to_string()) else { continue };
                if let Some(fault) = self.take_one(file, descriptor, &file.place(blobs), registry, observer)? {
                    let text = format!("{} in {} {fault}, and is looked for elsewhere", file.title, self.place);
                    observer.observe(Event::Warning(text));
                }
            }
        }
        Ok(())
    }

    /// A registry that does not answer has none.
    fn files(
        &self,
        registry: Option<&Registry<'_>>,
        observer: &dyn Observer,
    ) -> Result<&BTreeMap<String, Descriptor>, VendorError> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let files = match (&self.place, registry) {
            (Place::Registry(reference), Some(registry)) => {
                match registry.pull(reference, observer).and_then(|pull| pull.manifest()) {
                    Ok(manifest) => {
                        let fault = |cause| VendorError::Document { place: self.place.to_string(), cause };
                        vendor::read_manifest(&manifest.bytes).map_err(fault)?.1
                    }
                    Err(error) => {
                        observer.observe(Event::Warning(format!("nothing is taken from {}: {error}", self.place)));
                        BTreeMap::new()
                    }
                }
            }
            _ => return Err(FetchError::NoSource(self.place.to_string()).into()),
        };
        Ok(self.files.get_or_init(|| files))
    }

    /// Tells what is wrong where it is not what the lock names.
    fn take_one(
        &self,
        file: &Named,
        descriptor: &Descriptor,
        target: &Path,
        registry: Option<&Registry<'_>>,
        observer: &dyn Observer,
    ) -> Result<Option<String>, VendorError> {
        const DAMAGED: &str = "is damaged";
        make_place(target)?;
        let fault = |cause: io::Error| PathError::at("cannot write", target)(cause);
        let fault_of = |copy: &mut File| -> Result<Option<String>, VendorError> {
            let found = packages::checksum(copy, file.checksum.algorithm()).map_err(fault)?;
            Ok((found != file.checksum).then(|| DAMAGED.to_owned()))
        };
        if file.size.is_some_and(|size| size != descriptor.size) {
            return Ok(Some(DAMAGED.to_owned()));
        }
        if let Some(layout) = &self.layout {
            let Some(range) = layout.find(&blob(&descriptor.digest)) else {
                return Ok(Some("is missing".to_owned()));
            };
            if range.length != descriptor.size {
                return Ok(Some(DAMAGED.to_owned()));
            }
            let mut source = match File::open(&range.file) {
                Ok(file) => file,
                Err(error) => return Ok(Some(format!("cannot be read ({error})"))),
            };
            source.seek(SeekFrom::Start(range.offset)).map_err(PathError::at("cannot read", &range.file))?;
            let mut copy = AtomicFile::create(target, 0o666)?;
            io::copy(&mut source.take(range.length), copy.file_mut()).map_err(fault)?;
            let found = fault_of(copy.file_mut())?;
            if found.is_none() {
                copy.commit(true)?;
            }
            return Ok(found);
        }
        let (Place::Registry(reference), Some(registry)) = (&self.place, registry) else {
            return Err(FetchError::NoSource(self.place.to_string()).into());
        };
        // Invariant: foreign bytes never stand under a blob's name.
        let draft = self.work.path().join(descriptor.digest.hex());
        let wanted = [(descriptor, draft.clone())];
        match registry.pull(reference, observer).and_then(|pull| pull.blobs(&wanted, CONCURRENCY)) {
            Err(error @ FetchError::File { .. }) => return Err(error.into()),
            Err(error) => return Ok(Some(format!("cannot be had ({error})"))),
            Ok(_) => {}
        }
        let found = fault_of(&mut File::open(&draft).map_err(fault)?)?;
        match &found {
            None => fs::rename(&draft, target).map_err(fault)?,
            Some(_) => fs::remove_file(&draft).map_err(fault)?,
        }
        Ok(found)
    }
}

/// None: it is in a registry.
pub(super) fn open_layout(place: &Place, work: &Path) -> Result<Option<Container>, oci::Error> {
    Ok(match place {
        Place::Directory(path) => Some(Container::directory(path)?),
        Place::Archive(path) => Some(Container::archive(path, work)?),
        Place::Registry(_) => None,
    })
}

fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Recorder, Silent};
    use crate::fetch::auth::Credentials;
    use crate::fetch::fake_server::{Answer, FakeServer, client};
    use crate::fetch::registry::Configuration;
    use crate::oci::reference::Reference;
    use crate::rpm::metadata::{Checksum, ChecksumAlgorithm};

    const BYTES: &[u8] = b"some bytes";

    fn named(checksum: Checksum, size: Option<u64>) -> Named {
        Named { title: "file".to_owned(), checksum, media_type: String::new(), size }
    }

    fn descriptor(bytes: &[u8], size: usize) -> Descriptor {
        let text = format!(r#"{{"digest":"{}","size":{size}}}"#, Digest::of(bytes));
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn blobs_that_have_another_size_than_the_collection_or_the_lock_says_are_damaged() {
        let place = tempfile::tempdir().unwrap();
        let digest = Digest::of(BYTES);
        fs::create_dir_all(place.path().join("blobs/sha256")).unwrap();
        fs::write(place.path().join(blob(&digest)), BYTES).unwrap();
        let layout = Some(Container::directory(place.path()).unwrap());
        let work = tempfile::tempdir().unwrap();
        let vendor = Vendor { place: Place::Directory(place.path().into()), layout, files: OnceCell::new(), work };
        let target = place.path().join("target");
        let take = |locked: Option<u64>, said: usize| {
            let file = named(Checksum::from(&digest), locked);
            vendor.take_one(&file, &descriptor(BYTES, said), &target, None, &Silent).unwrap()
        };
        for (locked, said) in [(None, 9), (Some(9), 10), (Some(9), 9)] {
            assert_eq!(take(locked, said).as_deref(), Some("is damaged"), "{locked:?} {said}");
            assert!(!target.exists());
        }
        assert_eq!(take(Some(10), 10), None);
        assert_eq!(fs::read(target).unwrap(), BYTES);
    }

    #[test]
    fn a_registry_that_lacks_a_blob_or_lies_of_it_only_warns_and_is_asked_when_something_is_missing() {
        let good = Checksum::of(ChecksumAlgorithm::Sha512, BYTES);
        let file = |bytes: &[u8], checksum: &str| vendor::describe(descriptor(bytes, bytes.len()), "file", checksum);
        let absent = Checksum::from(&Digest::of(b"absent"));
        let files = vec![file(b"foreign by", &good.to_string()), file(b"absent", &absent.to_string())];
        let manifest = vendor::write_manifest(descriptor(b"lock", 4), files);
        let server = FakeServer::start(move |asked, _| match asked.path() {
            "/v2/" => Answer::new(200, "{}"),
            "/v2/org/app/manifests/1" => Answer::new(200, manifest.clone()),
            path if path.ends_with(Digest::of(b"foreign by").hex()) => Answer::new(200, "foreign by"),
            _ => Answer::new(404, ""),
        });
        let (client, blobs) = (client(), tempfile::tempdir().unwrap());
        let registry = Registry::new(&client, Credentials::default(), Configuration::default(), true);
        let place = Place::Registry(Reference::parse(&format!("{}/org/app:1", server.host())).unwrap());
        let vendor = Vendor::open(&place, blobs.path()).unwrap();
        let recorder = Recorder::default();
        let (one, two) = (named(good, Some(10)), named(absent.clone(), Some(6)));
        let base = BasePin::Busybox { url: "u".to_owned(), digest: Digest::of(b"absent") };
        fs::create_dir_all(two.place(blobs.path()).parent().unwrap()).unwrap();
        fs::write(two.place(blobs.path()), "absent").unwrap();
        vendor.take(&base, false, blobs.path(), Some(&registry), &recorder).unwrap();
        assert!(server.asked().is_empty(), "all was there");
        fs::remove_file(two.place(blobs.path())).unwrap();
        vendor.take(&base, false, blobs.path(), Some(&registry), &recorder).unwrap();
        assert!(!two.place(blobs.path()).exists());
        let told = |part: &str| format!("{:?}", recorder.events.lock().unwrap()).contains(part);
        assert!(told("cannot be had ("));
        let files = vendor.files(Some(&registry), &recorder).unwrap();
        let target = one.place(blobs.path());
        let found = vendor.take_one(&one, &files[&one.checksum.to_string()], &target, Some(&registry), &recorder);
        assert_eq!(found.unwrap().as_deref(), Some("is damaged"));
        assert!(!target.exists());
        drop(server);
        let down = Vendor::open(&place, blobs.path()).unwrap();
        down.take(&base, false, blobs.path(), Some(&registry), &recorder).unwrap();
        assert!(told("nothing is taken from oras://"));
    }
}
