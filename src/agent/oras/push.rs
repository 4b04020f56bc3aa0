//! A SIF, or several for different architectures, on its way to a tag.
//!
//! One image without an architecture named replaces what the tag names, as Apptainer's push does. Several images, or one with its
//! architecture named, come into an index under the tag, beside the images for other architectures that are there.
//!
//! Sources: facts §6.1; OCI image-spec 1.1, image-index.md.

use super::OrasError;
use crate::arch::Arch;
use crate::digest::{Algorithm, Digest, HashingReader};
use crate::event::{Event, Observer};
use crate::fetch::FetchError;
use crate::fetch::http::Body;
use crate::fetch::registry::{ManifestDocument, Placed, Push};
use crate::oci::artifact::{self, CREATED, Content, EMPTY_OBJECT, SIF_LAYER};
use crate::oci::manifest::{self, Descriptor, Document, OCI_INDEX, OCI_MANIFEST, Platform};
use crate::sif::format::{DataType, HEADER_SIZE, Header};
use crate::sif::metadata::{self, Metadata};
use crate::sif::reader::{Sif, is_sif};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest metadata object that is looked into.
const LARGEST_METADATA: u64 = 8 << 20;
/// How often an index is written again that somebody else wrote at the same moment.
const TRIES: u32 = 8;

/// How images are pushed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Win over those that are made here.
    pub annotations: BTreeMap<String, String>,
    /// Into an index, although it is one image.
    pub index: bool,
    /// Replace an index by one image, or a container image by an index.
    pub force: bool,
    /// `created` of images that do not say it themselves, RFC 3339.
    pub now: String,
}

/// A SIF on this host, ready to be pushed.
pub struct Image {
    path: PathBuf,
    body: Body,
    content: Content,
    arch: Option<Arch>,
    /// RFC 3339.
    created: Option<String>,
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Of what the tag names now.
    pub digest: Digest,
    /// Of each image: the digest of its manifest, and how its bytes came there.
    pub images: Vec<(Digest, Placed)>,
}

impl Image {
    /// Reads and hashes the whole file.
    pub fn open(path: &Path) -> Result<Image, OrasError> {
        let fault = |cause: String| OrasError::Image { path: path.to_path_buf(), cause };
        let io_fault = |cause: io::Error| fault(cause.to_string());
        let mut file = File::open(path).map_err(io_fault)?;
        let sif = Sif::read(&file).map_err(|error| fault(format!("it is no sound SIF: {error}")))?;
        let arch = sif.primary_partition().and_then(|(_, partition)| partition.arch()).or_else(|| sif.header().arch());
        let created = created_of(sif);
        file.seek(SeekFrom::Start(0)).map_err(io_fault)?;
        let mut reader = HashingReader::new(&file, Algorithm::Sha256);
        io::copy(&mut reader, &mut io::sink()).map_err(io_fault)?;
        let (digest, size) = reader.finish();
        let title = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let content = Content { media_type: SIF_LAYER.to_owned(), digest, size, title };
        let body = Body::from_file(Arc::new(file), size);
        Ok(Image { path: path.to_path_buf(), body, content, arch, created })
    }

    pub fn arch(&self) -> Option<Arch> {
        self.arch
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.content.size
    }

    fn annotations(&self, options: &Options) -> BTreeMap<String, String> {
        let created = self.created.clone().unwrap_or_else(|| options.now.clone());
        let mut annotations = BTreeMap::from([(CREATED.to_owned(), created)]);
        annotations.extend(options.annotations.clone());
        annotations
    }
}

/// What the image's own label says.
fn created_of(mut sif: Sif<&File>) -> Option<String> {
    let object = sif.find_named(DataType::GENERIC_JSON, metadata::OBJECT_NAME)?.clone();
    let bytes = sif.contents(&object, LARGEST_METADATA).ok()?;
    let mut labels = Metadata::parse(&bytes).ok()?.data.attributes.labels;
    labels.remove(CREATED).filter(|created| crate::calendar::parse_rfc3339(created).is_some())
}

/// Pushes all images and lets the tag of `push`'s reference name them.
pub fn push(
    push: &Push<'_>,
    images: &[Image],
    options: &Options,
    observer: &dyn Observer,
) -> Result<Pushed, OrasError> {
    let tag = match (push.reference().tag(), &push.reference().digest) {
        (Some(tag), None) => tag.to_owned(),
        _ => return Err(OrasError::NeedsTag { reference: push.reference().to_string() }),
    };
    let before = push.current(&tag)?;
    let index = options.index || images.len() > 1;
    check_replacement(push, before.as_ref(), index, options)?;
    let mut pushed = Vec::new();
    let mut entries = Vec::new();
    push.blob(&Body::from_bytes(EMPTY_OBJECT), &Digest::of(EMPTY_OBJECT), "config")?;
    for image in images {
        let placed = push.blob(&image.body, &image.content.digest, &image.content.title)?;
        let manifest = artifact::write_sif_manifest(&image.content, &image.annotations(options));
        let digest = Digest::of(&manifest);
        let identifier = if index { digest.to_string() } else { tag.clone() };
        push.manifest(&identifier, OCI_MANIFEST, &manifest)?;
        observer.observe(Event::Detail(format!("{}: {placed:?}, manifest {digest}", image.path.display())));
        if index {
            entries.push(entry(
                &digest,
                manifest.len(),
                image.arch.ok_or_else(|| OrasError::NoArchitecture { path: image.path.clone() })?,
            ));
        }
        pushed.push((digest, placed));
    }
    let digest = match pushed.as_slice() {
        [(digest, _)] if !index => digest.clone(),
        _ => write_index(push, &tag, &entries, options)?,
    };
    Ok(Pushed { digest, images: pushed })
}

/// What others would lose is not replaced without being told to.
fn check_replacement(
    push: &Push<'_>,
    before: Option<&ManifestDocument>,
    index: bool,
    options: &Options,
) -> Result<(), OrasError> {
    let Some(before) = before.filter(|_| !options.force) else { return Ok(()) };
    let reference = push.reference().to_string();
    match manifest::parse(&before.bytes, before.media_type.as_deref()) {
        Ok(Document::Index(index_before)) if !index => {
            let platforms: Vec<String> = index_before.platforms().collect();
            Err(OrasError::WouldReplaceIndex { reference, platforms: platforms.join(", ") })
        }
        Ok(Document::Manifest(image)) if index && artifact::sif_of(&image).is_err() => {
            Err(OrasError::WouldReplaceOther { reference })
        }
        _ => Ok(()),
    }
}

/// Adds to the index under the tag. What was written is read back, and done again where another's index took its place meanwhile; registries have
/// no lock, so that of two who write at the very same moment one may still be lost.
fn write_index(push: &Push<'_>, tag: &str, entries: &[Descriptor], options: &Options) -> Result<Digest, OrasError> {
    let mut last = None;
    for _ in 0..TRIES {
        let before = push.current(tag)?;
        let mut bytes = before.map(|before| as_index(push, &before, options)).transpose()?.flatten();
        for entry in entries {
            let merged = artifact::merge_platform(bytes.as_deref(), entry);
            bytes =
                Some(merged.map_err(|cause| OrasError::Artifact { reference: push.reference().to_string(), cause })?);
        }
        let bytes = bytes.unwrap_or_default();
        match push.manifest(tag, OCI_INDEX, &bytes) {
            Ok(_) => return Ok(Digest::of(&bytes)),
            Err(error @ FetchError::WrongDigest { .. }) => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.map_or_else(|| OrasError::NeedsTag { reference: push.reference().to_string() }, OrasError::Fetch))
}

/// The index that a tag names, or one around the only image that it names.
fn as_index(push: &Push<'_>, before: &ManifestDocument, options: &Options) -> Result<Option<Vec<u8>>, OrasError> {
    let reference = || push.reference().to_string();
    let document = manifest::parse(&before.bytes, before.media_type.as_deref())
        .map_err(|cause| OrasError::Manifest { reference: reference(), cause })?;
    let image = match document {
        Document::Index(_) => return Ok(Some(before.bytes.clone())),
        Document::Manifest(image) => image,
    };
    let Ok(sif) = artifact::sif_of(&image) else {
        return if options.force { Ok(None) } else { Err(OrasError::WouldReplaceOther { reference: reference() }) };
    };
    let start = push.blob_start(sif, HEADER_SIZE as u64)?;
    let header = start.first_chunk::<HEADER_SIZE>().filter(|_| is_sif(&start)).map(Header::decode);
    // An image of no known architecture can have no place in an index.
    let Some(arch) = header.and_then(|header| header.arch()) else { return Ok(None) };
    let old = entry(&before.digest, before.bytes.len(), arch);
    artifact::merge_platform(None, &old)
        .map(Some)
        .map_err(|cause| OrasError::Artifact { reference: reference(), cause })
}

fn entry(digest: &Digest, length: usize, arch: Arch) -> Descriptor {
    Descriptor {
        media_type: OCI_MANIFEST.to_owned(),
        digest: digest.clone(),
        size: length as u64,
        artifact_type: Some(artifact::SIF_CONFIG.to_owned()),
        annotations: BTreeMap::new(),
        platform: Some(Platform { architecture: arch.oci().to_owned(), os: "linux".to_owned(), variant: None }),
    }
}
