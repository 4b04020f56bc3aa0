//! Files that are attached to an image in a registry: signatures, SBOMs, reports.
//!
//! Sources: OCI image-spec 1.1 (`subject`), distribution-spec 1.1, "Pushing Manifests with Subject", "Referrers Tag Schema".

use super::OrasError;
use crate::digest::{Algorithm, Digest, HashingReader};
use crate::event::Observer;
use crate::fetch::http::Body;
use crate::fetch::registry::{Push, Registry};
use crate::oci::artifact::{self, CREATED, Content, EMPTY_OBJECT, TITLE};
use crate::oci::manifest::{self, Descriptor, Document, Manifest, OCI_INDEX, OCI_MANIFEST, Target};
use crate::oci::reference::Reference;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Something that is attached to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Of its manifest.
    pub digest: Digest,
    pub artifact_type: String,
    /// With their names in the annotations.
    pub files: Vec<Descriptor>,
}

impl Attachment {
    /// The name of its file number `at` on a host: never a path.
    pub fn file_name(&self, at: usize) -> String {
        let Some(file) = self.files.get(at) else { return self.digest.hex().to_owned() };
        let named = file.annotations.get(TITLE).map(String::as_str).unwrap_or_default();
        let plain = !named.is_empty() && !named.starts_with('.') && named.len() <= 200;
        let harmless = |letter: char| letter.is_alphanumeric() || "._-+ ()@".contains(letter);
        if plain && named.chars().all(harmless) { named.to_owned() } else { file.digest.hex().to_owned() }
    }
}

/// What `reference` names, or the image for `target` in it, as a descriptor.
pub fn subject(
    registry: &Registry<'_>,
    reference: &Reference,
    target: Option<&Target>,
    observer: &dyn Observer,
) -> Result<Descriptor, OrasError> {
    let fault = |cause| OrasError::Manifest { reference: reference.to_string(), cause };
    let pull = registry.pull(reference, observer)?;
    let top = pull.manifest()?;
    let document = manifest::parse(&top.bytes, top.media_type.as_deref()).map_err(fault)?;
    let media_type = match (&document, top.media_type) {
        (Document::Index(index), _) if !index.media_type.is_empty() => index.media_type.clone(),
        (Document::Manifest(image), _) if !image.media_type.is_empty() => image.media_type.clone(),
        (_, Some(told)) => told,
        (Document::Index(_), None) => OCI_INDEX.to_owned(),
        (Document::Manifest(_), None) => OCI_MANIFEST.to_owned(),
    };
    let whole = Descriptor {
        media_type,
        digest: top.digest,
        size: top.bytes.len() as u64,
        artifact_type: None,
        annotations: BTreeMap::new(),
        platform: None,
    };
    let (Some(target), Document::Index(index)) = (target, &document) else { return Ok(whole) };
    let found = index.candidates(target).into_iter().find(|entry| !entry.is_index());
    let platforms = || index.platforms().collect::<Vec<_>>().join(", ");
    found.cloned().ok_or_else(|| {
        fault(manifest::ManifestError::NoPlatform { target: target.to_string(), available: platforms() })
    })
}

/// Attaches a file; gives the digest of the manifest that does so.
pub fn attach(
    push: &Push<'_>,
    subject: &Descriptor,
    path: &Path,
    artifact_type: &str,
    annotations: &BTreeMap<String, String>,
    now: &str,
) -> Result<Digest, OrasError> {
    let fault = |cause: io::Error| OrasError::Image { path: path.to_path_buf(), cause: cause.to_string() };
    let file = File::open(path).map_err(fault)?;
    let mut reader = HashingReader::new(&file, Algorithm::Sha256);
    io::copy(&mut reader, &mut io::sink()).map_err(fault)?;
    let (digest, size) = reader.finish();
    let title = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let content = Content { media_type: artifact_type.to_owned(), digest, size, title };
    push.blob(&Body::from_bytes(EMPTY_OBJECT), &Digest::of(EMPTY_OBJECT), "config")?;
    push.blob(&Body::from_file(Arc::new(file), size), &content.digest, &content.title)?;
    let mut all = BTreeMap::from([(CREATED.to_owned(), now.to_owned())]);
    all.extend(annotations.clone());
    let bytes = artifact::write_referrer(subject, artifact_type, &content, &all);
    let digest = Digest::of(&bytes);
    if !push.manifest(&digest.to_string(), OCI_MANIFEST, &bytes)? {
        let entry = Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: digest.clone(),
            size: bytes.len() as u64,
            artifact_type: Some(artifact_type.to_owned()),
            annotations: all,
            platform: None,
        };
        list_under_tag(push, &subject.digest, &entry)?;
    }
    Ok(digest)
}

/// Registries from before 1.1 do not keep the list themselves.
fn list_under_tag(push: &Push<'_>, subject: &Digest, entry: &Descriptor) -> Result<(), OrasError> {
    let tag = artifact::referrers_tag(subject);
    let before = push.current(&tag)?.map(|document| document.bytes);
    let merged = artifact::merge_referrer(before.as_deref(), entry)
        .map_err(|cause| OrasError::Artifact { reference: format!("{}:{tag}", push.reference().name()), cause })?;
    push.manifest(&tag, OCI_INDEX, &merged)?;
    Ok(())
}

/// What is attached to `subject`, of one type or of all.
pub fn attachments(
    registry: &Registry<'_>,
    reference: &Reference,
    subject: &Digest,
    artifact_type: Option<&str>,
    observer: &dyn Observer,
) -> Result<Vec<Attachment>, OrasError> {
    let pull = registry.pull(reference, observer)?;
    let mut found = Vec::new();
    for entry in registry.referrers(reference, subject, artifact_type, observer)? {
        let document = pull.manifest_of(&entry.digest)?;
        let parsed = manifest::parse(&document.bytes, document.media_type.as_deref());
        let Ok(Document::Manifest(Manifest { layers, artifact_type, config, .. })) = parsed else { continue };
        let artifact_type = artifact_type.or(entry.artifact_type).unwrap_or(config.media_type);
        found.push(Attachment { digest: entry.digest, artifact_type, files: layers });
    }
    Ok(found)
}

/// Downloads an attachment's files into `directory`; gives their paths. One that is there already is an error, or is replaced.
pub fn pull(
    registry: &Registry<'_>,
    reference: &Reference,
    attachment: &Attachment,
    directory: &Path,
    replace: bool,
    observer: &dyn Observer,
) -> Result<Vec<PathBuf>, OrasError> {
    let names = (0..attachment.files.len()).map(|at| directory.join(attachment.file_name(at)));
    let wanted: Vec<(&Descriptor, PathBuf)> = attachment.files.iter().zip(names).collect();
    for (number, (_, path)) in wanted.iter().enumerate() {
        let twice = wanted[..number].iter().any(|(_, other)| other == path);
        if twice || (!replace && std::fs::symlink_metadata(path).is_ok()) {
            let cause = "a file of this name is there already".to_owned();
            return Err(OrasError::Place { path: path.clone(), cause });
        }
    }
    registry.pull(reference, observer)?.blobs(&wanted, 1)?;
    Ok(wanted.into_iter().map(|(_, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_a_name_and_never_a_path() {
        let name = |title: &str| {
            let mut file: Descriptor =
                serde_json::from_str(&format!("{{\"digest\":\"{}\",\"size\":1}}", Digest::of(b"x"))).unwrap();
            file.annotations.insert(TITLE.to_owned(), title.to_owned());
            Attachment { digest: Digest::of(b"m"), artifact_type: String::new(), files: vec![file] }.file_name(0)
        };
        assert_eq!(name("sbom.spdx.json"), "sbom.spdx.json");
        for title in ["", ".", "..", "../x", "/etc/passwd", "a/b", ".bashrc", "a\nb", "a\0", &"x".repeat(300)] {
            assert_eq!(name(title), Digest::of(b"x").hex(), "{title:?}");
        }
    }
}
