//! An OCI image layout as target: the whole filesystem as one layer (image-spec, image-layout.md).

use super::filesystem::Filesystem;
use super::output::{DRAFT, Finishing, directory_of};
use super::{BuildError, Engine};
use crate::archive::tar::{Header, Kind as TarKind, Writer};
use crate::digest::{Algorithm, Digest, HashingWriter};
use crate::event::{Event, Task};
use crate::oci::manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use crate::store::Held;
use crate::tree::{InodeId, Node, Source, TreePath};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Level of the layer's zstd stream.
const LEVEL: i32 = 6;

/// Writes a layout beside the target and gives it its name.
pub fn write(
    filesystem: &mut Filesystem,
    config: Option<&[u8]>,
    finishing: &Finishing<'_>,
    engine: &Engine<'_>,
) -> Result<(), BuildError> {
    let target = &finishing.options.target;
    let fault = |cause: io::Error| BuildError::Write {
        path: target.clone(),
        cause: crate::disk::without_path(cause).to_string(),
    };
    engine.observer.observe(Event::Info("Creating OCI layout...".to_owned()));
    let draft =
        tempfile::Builder::new().prefix(&format!("{DRAFT}oci-")).tempdir_in(directory_of(target)).map_err(fault)?;
    let root = draft.path().join("layout");
    let blobs = root.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(fault)?;

    let (layer, diff_id, size) = write_layer(filesystem, target, &blobs, finishing.options.epoch, engine)?;
    let image = image_config(filesystem, config, &diff_id, finishing);
    let image = put(&blobs, &image).map_err(fault)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, &image),
        "layers": [descriptor(&format!("{OCI_LAYER}+zstd"), &(layer, size))],
    });
    let manifest = put(&blobs, &manifest).map_err(fault)?;
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, &manifest)]});
    fs::write(root.join("index.json"), index.to_string()).map_err(fault)?;
    fs::write(root.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string()).map_err(fault)?;
    engine.check_bases()?;
    if finishing.options.force && fs::symlink_metadata(target).is_ok() {
        fs::rename(target, draft.path().join("old")).map_err(fault)?;
    }
    fs::rename(&root, target).map_err(fault)
}

fn put(blobs: &Path, value: &Value) -> io::Result<(Digest, u64)> {
    let bytes = value.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    fs::write(blobs.join(digest.hex()), &bytes)?;
    Ok((digest, bytes.len() as u64))
}

fn descriptor(media_type: &str, blob: &(Digest, u64)) -> Value {
    json!({"mediaType": media_type, "digest": blob.0.to_string(), "size": blob.1})
}

/// Digest of the compressed layer, of its tar, and the compressed size.
fn write_layer(
    filesystem: &mut Filesystem,
    target: &Path,
    blobs: &Path,
    epoch: Option<i64>,
    engine: &Engine<'_>,
) -> Result<(Digest, Digest, u64), BuildError> {
    let path = blobs.join(".layer");
    let fault = |cause: io::Error| BuildError::Write { path: target.to_path_buf(), cause: cause.to_string() };
    let file = HashingWriter::new(io::BufWriter::new(File::create(&path).map_err(fault)?), Algorithm::Sha256);
    let encoder = zstd::Encoder::new(file, LEVEL).map_err(fault)?;
    let mut tar = Writer::new(HashingWriter::new(encoder, Algorithm::Sha256));
    let mut first: HashMap<InodeId, TreePath> = HashMap::new();
    for (name, id) in filesystem.tree.walk() {
        append(filesystem, &mut tar, &mut first, &name, id, epoch)
            .map_err(|error| BuildError::Pack { path: name.clone(), cause: error.to_string() })?;
    }
    let (encoder, diff_id, done) = tar.finish().map_err(fault)?.finish();
    let (mut file, digest, size) = encoder.finish().map_err(fault)?.finish();
    file.flush().map_err(fault)?;
    engine.observer.observe(Event::ProgressFinished { task: Task::Pack, subject: format!("{done} bytes") });
    fs::rename(&path, blobs.join(digest.hex())).map_err(fault)?;
    Ok((digest, diff_id, size))
}

fn append<W: Write>(
    filesystem: &Filesystem,
    tar: &mut Writer<W>,
    first: &mut HashMap<InodeId, TreePath>,
    name: &TreePath,
    id: InodeId,
    epoch: Option<i64>,
) -> io::Result<()> {
    let inode = filesystem.tree.inode(id);
    let mut size = 0;
    let mut body: Box<dyn io::Read + '_> = Box::new(io::empty());
    let kind = match (&inode.node, first.get(&id)) {
        (_, Some(target)) => TarKind::HardLink(target.as_bytes().to_vec()),
        (Node::Directory(_), _) => TarKind::Directory,
        (Node::File { size: length, source }, _) => {
            size = *length;
            body = match source {
                Source::Inline(bytes) => Box::new(io::Cursor::new(bytes.as_ref())),
                Source::Layer { layer, path } => {
                    let held: &Held = &filesystem.layers[*layer as usize];
                    held.open(path).map_err(io::Error::other)?
                }
            };
            TarKind::File
        }
        (Node::Symlink { target }, _) => TarKind::Symlink(target.clone()),
        (Node::CharacterDevice { major, minor }, _) => TarKind::CharacterDevice { major: *major, minor: *minor },
        (Node::BlockDevice { major, minor }, _) => TarKind::BlockDevice { major: *major, minor: *minor },
        (Node::Fifo, _) => TarKind::Fifo,
        // Tar has no sockets; nothing is lost, since a socket without its process is of no use.
        (Node::Socket, _) => return Ok(()),
    };
    first.entry(id).or_insert_with(|| name.clone());
    let metadata = &inode.metadata;
    let header = Header {
        path: if name.is_root() { b"./".to_vec() } else { name.as_bytes().to_vec() },
        kind,
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: epoch.map_or(metadata.mtime, |epoch| metadata.mtime.min(epoch)),
        size,
        xattrs: metadata.xattrs.clone(),
    };
    tar.append(&header, &mut body)
}

fn image_config(filesystem: &Filesystem, config: Option<&[u8]>, diff_id: &Digest, finishing: &Finishing<'_>) -> Value {
    let mut inner: Value = config.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_else(|| json!({}));
    let labels = TreePath::parse(".singularity.d/labels.json").ok().and_then(|path| filesystem.read(&path));
    let labels: BTreeMap<String, String> =
        labels.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    inner["Labels"] = json!(labels);
    inner["Entrypoint"] = json!(["/.singularity.d/actions/run"]);
    inner["Cmd"] = Value::Null;
    let created = match finishing.options.epoch {
        Some(epoch) => crate::skeleton::Timestamp::utc(epoch),
        None => finishing.options.now.clone(),
    };
    json!({
        "created": created.rfc3339(),
        "architecture": finishing.options.arch.oci(),
        "os": "linux",
        "config": inner,
        "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]},
        "history": [{"created": created.rfc3339(), "created_by": "sifbuild"}],
    })
}
