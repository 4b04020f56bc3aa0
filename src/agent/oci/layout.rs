//! OCI layouts: `index.json` and `blobs/ALGORITHM/HEX`.

use super::container::{Container, Range};
use super::{Context, Error, Source, list};
use crate::agent::ImageBase;
use crate::digest::{Digest, Hasher};
use crate::oci::config;
use crate::oci::manifest::{self, Descriptor, Document, Index, Manifest, ManifestError, REFERENCE_NAME};
use crate::oci::reference::Reference;

/// Annotation with the full name, by containerd and Docker.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const INDEX: &str = "index.json";

pub(super) fn open(container: &Container, source: &Source, context: Context<'_>) -> Result<ImageBase, Error> {
    let index = read_index(container)?;
    let chosen = choose(container, &index, source, context)?;
    let document = read_document(container, &chosen)?;
    let mut fetch = |descriptor: &Descriptor| read_document(container, descriptor).map_err(Fault::Other);
    let (manifest, found) =
        manifest::resolve(document, context.target, &mut fetch).map_err(|fault| fault.at(container))?;
    provide(container, &manifest, found.map_or(chosen.digest, |descriptor| descriptor.digest))
}

fn provide(container: &Container, manifest: &Manifest, digest: Digest) -> Result<ImageBase, Error> {
    let layers = manifest.filesystem_layers().map_err(|cause| at(container, cause))?;
    let document = read_blob(container, &manifest.config, "image config")?;
    let config = config::parse(&document).map_err(|cause| Error::Config { path: container.path.clone(), cause })?;
    // Some old tools write no diff ids at all; a wrong number of them is a mix-up.
    if !config.diff_ids.is_empty() && config.diff_ids.len() != layers.len() {
        let (layers, diff_ids) = (layers.len(), config.diff_ids.len());
        return Err(Error::LayerCount { path: container.path.clone(), layers, diff_ids });
    }
    let mut blobs = Vec::with_capacity(layers.len());
    for (number, (descriptor, _)) in layers.iter().enumerate() {
        let range = find_blob(container, descriptor, "layer")?;
        let diff_id = config.diff_ids.get(number).cloned();
        blobs.push(container.layer(range, Some(descriptor.digest.clone()), diff_id)?);
    }
    Ok(ImageBase { layers: blobs, config, manifest_digest: digest, name: String::new() })
}

fn read_index(container: &Container) -> Result<Index, Error> {
    if !container.has(INDEX) {
        let cause = "it has no index.json".to_owned();
        return Err(Error::NotAnImage { path: container.path.clone(), what: "an OCI layout", cause });
    }
    let bytes = container.read(INDEX, "index")?;
    match manifest::parse(&bytes, Some(manifest::OCI_INDEX)).map_err(|cause| at(container, cause))? {
        Document::Index(index) => Ok(index),
        Document::Manifest(_) => {
            let cause = "its index.json is a manifest".to_owned();
            Err(Error::NotAnImage { path: container.path.clone(), what: "an OCI layout", cause })
        }
    }
}

fn choose(container: &Container, index: &Index, source: &Source, context: Context<'_>) -> Result<Descriptor, Error> {
    let images: Vec<&Descriptor> = index.manifests.iter().filter(|entry| !entry.is_attestation()).collect();
    if let Some(digest) = &source.digest {
        return choose_by_digest(container, &images, digest);
    }
    let matching: Vec<&Descriptor> = match &source.reference {
        Some(wanted) => images.iter().copied().filter(|entry| is_named(entry, wanted)).collect(),
        None => images.clone(),
    };
    let available = || list(images.iter().map(|entry| describe(entry)));
    match (matching.as_slice(), &source.reference) {
        ([only], _) => Ok((*only).clone()),
        ([], Some(wanted)) => {
            Err(Error::NoSuchImage { path: container.path.clone(), wanted: wanted.clone(), available: available() })
        }
        ([], None) => {
            let cause = "its index.json lists no image".to_owned();
            Err(Error::NotAnImage { path: container.path.clone(), what: "an OCI layout", cause })
        }
        (several, _) => {
            // One image for several platforms, listed without an index of its own.
            let manifests = several.iter().map(|entry| (*entry).clone()).collect();
            let part = Index { manifests, ..index.clone() };
            let fitting = part.candidates(context.target);
            let names: std::collections::BTreeSet<_> = several.iter().map(|entry| name(entry)).collect();
            match fitting.first() {
                Some(best) if names.len() == 1 && best.platform.is_some() => Ok((*best).clone()),
                _ => Err(Error::SeveralImages { path: container.path.clone(), available: available() }),
            }
        }
    }
}

/// A digest may name an entry of the index or any other manifest in the layout.
fn choose_by_digest(container: &Container, images: &[&Descriptor], digest: &Digest) -> Result<Descriptor, Error> {
    if let Some(entry) = images.iter().find(|entry| entry.digest == *digest) {
        return Ok((*entry).clone());
    }
    let Some(range) = container.find(&blob_name(digest)) else {
        let available = list(images.iter().map(|entry| describe(entry)));
        return Err(Error::NoSuchImage { path: container.path.clone(), wanted: digest.to_string(), available });
    };
    Ok(Descriptor {
        media_type: String::new(),
        digest: digest.clone(),
        size: range.length,
        artifact_type: None,
        annotations: Default::default(),
        platform: None,
    })
}

fn name(entry: &Descriptor) -> Option<&String> {
    entry.annotations.get(CONTAINERD_NAME).or_else(|| entry.annotations.get(REFERENCE_NAME))
}

/// A tag as the layout writes it, or a name that means the same image as the layout's name.
fn is_named(entry: &Descriptor, wanted: &str) -> bool {
    let names = [entry.annotations.get(REFERENCE_NAME), entry.annotations.get(CONTAINERD_NAME)];
    names.into_iter().flatten().any(|name| {
        name == wanted
            || (name.contains([':', '/'])
                && Reference::parse(name).is_ok_and(|name| Reference::parse(wanted) == Ok(name)))
    })
}

fn describe(entry: &Descriptor) -> String {
    name(entry).map_or_else(|| format!("@{}", entry.digest), Clone::clone)
}

fn read_document(container: &Container, descriptor: &Descriptor) -> Result<Document, Error> {
    let bytes = read_blob(container, descriptor, "manifest")?;
    let media_type = Some(descriptor.media_type.as_str()).filter(|text| !text.is_empty());
    manifest::parse(&bytes, media_type).map_err(|cause| at(container, cause))
}

fn read_blob(container: &Container, descriptor: &Descriptor, what: &'static str) -> Result<Vec<u8>, Error> {
    find_blob(container, descriptor, what)?;
    let bytes = container.read(&blob_name(&descriptor.digest), what)?;
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    hasher.update(&bytes);
    let actual = hasher.finish();
    if actual != descriptor.digest {
        let expected = descriptor.digest.clone();
        return Err(Error::WrongDigest { path: container.path.clone(), what, expected, actual });
    }
    Ok(bytes)
}

fn find_blob(container: &Container, descriptor: &Descriptor, what: &'static str) -> Result<Range, Error> {
    let (path, name) = (container.path.clone(), descriptor.digest.to_string());
    match container.find(&blob_name(&descriptor.digest)) {
        None => Err(Error::Missing { path, what, name }),
        Some(range) if range.length != descriptor.size => {
            Err(Error::WrongSize { path, what, name, expected: descriptor.size, actual: range.length })
        }
        Some(range) => Ok(range),
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn at(container: &Container, cause: ManifestError) -> Error {
    Error::Manifest { path: container.path.clone(), cause }
}

/// What can stop the walk through indexes.
enum Fault {
    Manifest(ManifestError),
    Other(Error),
}

impl From<ManifestError> for Fault {
    fn from(error: ManifestError) -> Fault {
        Fault::Manifest(error)
    }
}

impl Fault {
    fn at(self, container: &Container) -> Error {
        match self {
            Fault::Manifest(cause) => at(container, cause),
            Fault::Other(error) => error,
        }
    }
}
