//! `docker save` archives: `manifest.json` names configs and layers of each image.

use super::container::{Container, shorten};
use super::{Error, Source, list};
use crate::agent::ImageBase;
use crate::digest::{Algorithm, Digest};
use crate::oci::config;
use crate::oci::reference::Reference;
use serde::Deserialize;

const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

pub(super) fn open(container: &Container, source: &Source) -> Result<ImageBase, Error> {
    let images = read_manifest(container)?;
    let image = choose(container, &images, source)?;
    let document = container.read(&image.config, "image config")?;
    let digest = Digest::of(&document);
    if let Some(expected) = promised_digest(&image.config)
        && expected != digest
    {
        let path = container.path.clone();
        return Err(Error::WrongDigest { path, what: "image config", expected, actual: digest });
    }
    let config = config::parse(&document).map_err(|cause| Error::Config { path: container.path.clone(), cause })?;
    let layers = image.layers.as_deref().unwrap_or_default();
    if config.diff_ids.len() != layers.len() {
        let (layers, diff_ids) = (layers.len(), config.diff_ids.len());
        return Err(Error::LayerCount { path: container.path.clone(), layers, diff_ids });
    }
    let mut blobs = Vec::with_capacity(layers.len());
    for (name, diff_id) in layers.iter().zip(&config.diff_ids) {
        let missing = || Error::Missing { path: container.path.clone(), what: "layer", name: shorten(name) };
        blobs.push(container.layer(container.find(name).ok_or_else(missing)?, None, Some(diff_id.clone()))?);
    }
    if blobs.is_empty() {
        let cause = "its image has no layers".to_owned();
        return Err(Error::NotAnImage { path: container.path.clone(), what: "usable as a base", cause });
    }
    Ok(ImageBase { layers: blobs, config, manifest_digest: digest, name: String::new() })
}

fn read_manifest(container: &Container) -> Result<Vec<Image>, Error> {
    let fault = |cause: String| Error::NotAnImage { path: container.path.clone(), what: "a Docker archive", cause };
    if !container.has(MANIFEST) {
        let cause = if container.has("repositories") {
            "it was saved by a Docker older than 1.10; save it again with a current one"
        } else {
            "it has no manifest.json"
        };
        return Err(fault(cause.to_owned()));
    }
    let bytes = container.read(MANIFEST, "manifest.json")?;
    serde_json::from_slice(&bytes).map_err(|error| fault(format!("its manifest.json is not valid: {error}")))
}

fn choose<'a>(container: &Container, images: &'a [Image], source: &Source) -> Result<&'a Image, Error> {
    let path = container.path.clone();
    let available = || {
        list(images.iter().map(|image| match image.repo_tags.as_deref() {
            Some([first, ..]) => first.clone(),
            _ => image.config.clone(),
        }))
    };
    let Some(wanted) = &source.reference else {
        return match images {
            [only] => Ok(only),
            [] => Err(Error::NotAnImage {
                path,
                what: "a Docker archive",
                cause: "its manifest.json lists no image".to_owned(),
            }),
            _ => Err(Error::SeveralImages { path, available: available() }),
        };
    };
    let is_wanted = |tag: &String| {
        tag == wanted
            || tag.rsplit_once(':').is_some_and(|(_, tag)| tag == wanted)
            || Reference::parse(tag).is_ok_and(|tag| {
                Reference::parse(wanted).is_ok_and(|wanted| tag == wanted || tag.to_string() == wanted.to_string())
            })
    };
    let mut found = images.iter().filter(|image| image.repo_tags.iter().flatten().any(is_wanted));
    match (found.next(), found.next()) {
        (Some(image), None) => Ok(image),
        (Some(_), Some(_)) => Err(Error::SeveralImages { path, available: available() }),
        (None, _) => Err(Error::NoSuchImage { path, wanted: wanted.clone(), available: available() }),
    }
}

/// Configs are called after their digest: `HEX.json` or `blobs/sha256/HEX`.
fn promised_digest(name: &str) -> Option<Digest> {
    let name = name.strip_suffix(".json").or_else(|| name.strip_prefix("blobs/sha256/"))?;
    Digest::from_hex(Algorithm::Sha256, name).ok()
}
