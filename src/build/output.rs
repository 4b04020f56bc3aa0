//! The image: a SIF, a sandbox directory, or an OCI layout; each appears complete or not at all.

use super::encryption::{Sealed, Sink, random};
use super::filesystem::Filesystem;
use super::pack::Packing;
use super::{BuildError, Engine, Options, oci_layout};
use crate::definition::{Definition, Stage};
use crate::digest::Digest;
use crate::disk::{self, AtomicFile, WriteBehind};
use crate::event::{Event, Task};
use crate::sif::format::{DataType, Extra, FileSystem, Link, MessageFormat, MessageType, PartitionType};
use crate::sif::metadata;
use crate::sif::signature::{Scope, sign};
use crate::sif::writer::{ObjectOptions, Writer as SifWriter, WriterOptions};
use crate::skeleton::{BaseImage, MetadataInputs, Timestamp, definition_metadata};
use crate::squashfs::{Options as SquashfsOptions, ReadAt, Window, Writer};
use crate::store::Store;
use crate::tree::{Layer, Tree, TreePath};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Sif,
    Sandbox,
    OciLayout,
}

/// Offset of the first object (facts §5.1).
const DATA_OFFSET: u64 = 32176;
/// Partitions begin at multiples of this.
const ALIGNMENT: u64 = 4096;

/// Beginning of the names of unfinished targets, beside the target.
pub const DRAFT: &str = ".sifbuild-";

/// Where a target appears.
pub fn directory_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Everything that the last stage's metadata need.
pub struct Finishing<'a> {
    pub definition: &'a Definition,
    pub stage: &'a Stage,
    /// Registry reference and manifest.
    pub base: Option<(String, Digest)>,
    /// Flags by which checks of this build's bases were turned off, also those of other stages, or what the base says of its own.
    pub unchecked: Option<String>,
    pub options: &'a Options,
}

impl Finishing<'_> {
    pub fn metadata(&self, tree: &Tree, read: &dyn Fn(&TreePath) -> Option<Vec<u8>>) -> (Layer, Vec<String>) {
        let created = match self.options.epoch {
            Some(epoch) => Timestamp::utc(epoch),
            None => self.options.now.clone(),
        };
        let inputs = MetadataInputs {
            raw: &self.definition.raw,
            mtime: created.seconds,
            created,
            arch: self.options.arch,
            variant: self.options.variant.as_deref(),
            version: env!("CARGO_PKG_VERSION"),
            base: self.base.clone().map(|(name, digest)| BaseImage { name, digest }),
            unchecked: self.unchecked.as_deref(),
            force: self.options.force,
        };
        definition_metadata(self.stage, tree, &inputs, read)
    }
}

/// Refuses a target that may not be replaced, before any work.
pub fn check_target(target: &Path, form: Form, force: bool) -> Result<(), BuildError> {
    let fault = |cause: String| BuildError::Target { path: target.to_path_buf(), cause };
    let parent = directory_of(target);
    if !parent.is_dir() {
        return Err(fault(format!("its directory {} does not exist", parent.display())));
    }
    tempfile::Builder::new().prefix(DRAFT).tempfile_in(parent).map_err(|error| {
        let (error, parent) = (disk::without_path(error), parent.display());
        fault(format!("nothing can be written in its directory {parent}: {error}; name a target in another directory"))
    })?;
    let Ok(found) = fs::symlink_metadata(target) else { return Ok(()) };
    if !force {
        return Err(BuildError::TargetExists { path: target.to_path_buf() });
    }
    if found.is_dir() && form == Form::Sif && fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(fault("it is a directory with content; remove it first".to_owned()));
    }
    Ok(())
}

/// A SIF in the making whose squashfs receives bodies already.
pub struct Output<'a> {
    file: AtomicFile,
    packing: Packing<'a, Box<dyn Sink>>,
    /// Where the partition begins.
    offset: u64,
    sealed: Option<Sealed>,
}

impl<'a> Output<'a> {
    /// Starts the file; the partition begins at `offset`.
    pub fn begin(options: &Options, offset: u64, store: &'a Store) -> Result<Output<'a>, BuildError> {
        let fault = |cause: String| BuildError::Write { path: options.target.clone(), cause };
        let file = AtomicFile::create(&options.target, 0o755)?;
        let out = file.file().try_clone().map_err(|error| fault(error.to_string()))?;
        let mut out = WriteBehind::new(out, file.temporary_path());
        let sealed =
            options.encryption.as_ref().map(Sealed::begin).transpose().map_err(|error| fault(error.to_string()))?;
        let sink = match &sealed {
            Some(sealed) => sealed.sink(out, offset),
            None => out.seek(SeekFrom::Start(offset)).map(|_| Box::new(out) as Box<dyn Sink>),
        };
        let sink = sink.map_err(|error| fault(error.to_string()))?;
        let writer = Writer::new(sink, squashfs_options(options)).map_err(|error| fault(error.to_string()))?;
        Ok(Output { file, packing: Packing::new(writer, store), offset, sealed })
    }

    /// An offset that leaves room for metadata which are not known yet.
    pub fn roomy_offset(definition: &Definition, config: usize) -> u64 {
        let estimate = DATA_OFFSET + 4 * (definition.raw.len() + config) as u64 + (64 << 10);
        estimate.next_power_of_two()
    }

    pub fn stream(&mut self, filesystem: &mut Filesystem, engine: &Engine<'_>) -> Result<(), BuildError> {
        self.packing.stream(filesystem, engine.observer)
    }

    fn finish(
        self,
        mut filesystem: Filesystem,
        objects: &[(ObjectOptions, Vec<u8>)],
        engine: &Engine<'_>,
        options: &Options,
    ) -> Result<(), BuildError> {
        let Output { mut file, mut packing, offset, sealed } = self;
        let fault = |cause: String| BuildError::Write { path: options.target.clone(), cause };
        packing.stream(&mut filesystem, engine.observer)?;
        let packed = packing.finish(&mut filesystem.tree, options.epoch)?;
        let summary = &packed.summary;
        engine.observer.observe(Event::ProgressFinished { task: Task::Pack, subject: "image".to_owned() });
        for lost in &summary.unsupported_xattrs {
            let name = String::from_utf8_lossy(&lost.name);
            engine
                .observer
                .observe(Event::Warning(format!("{}: squashfs cannot keep the attribute {name}", lost.path)));
        }
        let (id, time) = match options.epoch {
            Some(_) => (None, None),
            None => (Some(random_id().map_err(|error| fault(error.to_string()))?), Some(options.now.seconds)),
        };
        let arch = detect_arch(&filesystem).unwrap_or(options.arch);
        let out = file.file().try_clone().map_err(|error| fault(error.to_string()))?;
        let mut sif = SifWriter::new(out, &WriterOptions { id, time, ..WriterOptions::default() })
            .map_err(|error| fault(error.to_string()))?;
        for (object, bytes) in objects {
            sif.add(object, bytes).map_err(|error| fault(error.to_string()))?;
        }
        let (file_system, size) = match &sealed {
            Some(_) => (FileSystem::ENCRYPTED_SQUASHFS, Sealed::OVERHEAD + summary.size),
            None => (FileSystem::SQUASHFS, summary.size),
        };
        let mut partition = ObjectOptions::partition(file_system, PartitionType::PRIMARY_SYSTEM, arch);
        partition.alignment = if offset.is_power_of_two() { offset } else { ALIGNMENT };
        let place = sif.begin_partition(&partition).map_err(|error| fault(error.to_string()))?;
        if place != offset {
            move_up(file.file_mut(), offset, place, size).map_err(|error| fault(error.to_string()))?;
        }
        let partition = sif.end_partition(size).map_err(|error| fault(error.to_string()))?;
        let message = sealed.as_ref().and_then(|sealed| sealed.message.as_deref()).unwrap_or_default();
        if !message.is_empty() {
            sif.add(&wrapped_key(partition), message.as_bytes()).map_err(|error| fault(error.to_string()))?;
        }
        sif.finish().map_err(|error| fault(error.to_string()))?;
        file.file().set_len(place + size + message.len() as u64).map_err(|error| fault(error.to_string()))?;
        if let Some(signatory) = &options.signatory {
            let signed_at = options.epoch.unwrap_or(options.now.seconds);
            sign(file.file_mut(), Scope::Groups, &signatory.with(), signed_at, options.now.seconds)
                .map_err(|error| fault(format!("it cannot be signed: {error}")))?;
        }
        let image = file.file().try_clone().map_err(|error| fault(error.to_string()))?;
        let image = Window::new(image, place, size);
        let image: Box<dyn ReadAt> = match &sealed {
            Some(sealed) => sealed.opened(image),
            None => Box::new(image),
        };
        engine.check_bases()?;
        file.commit(options.force)?;
        if let Err(error) = packed.keep(&*image, &squashfs_options(options), engine.store) {
            engine.observer.observe(Event::Warning(format!("the next build will be slower: {error}")));
        }
        Ok(())
    }
}

/// The object that holds the key of `partition`.
fn wrapped_key(partition: u32) -> ObjectOptions {
    let extra = Extra::CryptoMessage { format: MessageFormat::PEM, message_type: MessageType::RSA_OAEP };
    ObjectOptions { link: Link::Object(partition), extra, ..ObjectOptions::new(DataType::CRYPTO_MESSAGE) }
}

pub fn squashfs_options(options: &Options) -> SquashfsOptions {
    SquashfsOptions {
        compression: options.compression,
        block_size: options.block_size,
        threads: options.threads,
        modification_time: u32::try_from(options.epoch.unwrap_or(options.now.seconds)).unwrap_or(0),
    }
}

/// Writes the target from a finished filesystem; `output` is there when its bodies streamed already.
pub fn write(
    mut filesystem: Filesystem,
    config: Option<Vec<u8>>,
    output: Option<Output<'_>>,
    finishing: &Finishing<'_>,
    engine: &Engine<'_>,
) -> Result<(), BuildError> {
    let options = finishing.options;
    match options.form {
        Form::Sandbox => write_sandbox(&mut filesystem, engine, options)?,
        Form::OciLayout => oci_layout::write(&mut filesystem, config.as_deref(), finishing, engine)?,
        Form::Sif => {
            engine.observer.observe(Event::Info("Creating SIF file...".to_owned()));
            let objects = objects(&filesystem, config, finishing);
            let output = match output {
                Some(output) => output,
                None => {
                    let end: u64 = DATA_OFFSET + objects.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
                    Output::begin(options, end.next_multiple_of(ALIGNMENT), engine.store)?
                }
            };
            output.finish(filesystem, &objects, engine, options)?;
        }
    }
    engine.observer.observe(Event::Info(format!("Build complete: {}", options.target.display())));
    Ok(())
}

/// Definition and JSON objects in the order of facts §5.3.
fn objects(
    filesystem: &Filesystem,
    config: Option<Vec<u8>>,
    finishing: &Finishing<'_>,
) -> Vec<(ObjectOptions, Vec<u8>)> {
    let read = |path: &str| filesystem.read(&TreePath::parse(path).ok()?);
    let described = metadata::describe(&read, &|path| filesystem.list(path));
    let mut objects = vec![
        (ObjectOptions::new(DataType::DEFFILE), finishing.definition.raw.clone().into_bytes()),
        (
            ObjectOptions::named(DataType::GENERIC_JSON, "inspect-metadata.json"),
            metadata::to_json_compact(&described).into_bytes(),
        ),
    ];
    if let Some(config) = config.filter(|config| !config.is_empty()) {
        objects.push((ObjectOptions::named(DataType::GENERIC_JSON, "oci-config.json"), config));
    }
    objects
}

fn write_sandbox(filesystem: &mut Filesystem, engine: &Engine<'_>, options: &Options) -> Result<(), BuildError> {
    engine.observer.observe(Event::Info("Creating sandbox directory...".to_owned()));
    let target = &options.target;
    let fault = |cause: std::io::Error| BuildError::Write {
        path: target.clone(),
        cause: disk::without_path(cause).to_string(),
    };
    let draft =
        tempfile::Builder::new().prefix(&format!("{DRAFT}sandbox-")).tempdir_in(directory_of(target)).map_err(fault)?;
    let root = draft.path().join("root");
    fs::create_dir(&root).map_err(fault)?;
    let written =
        crate::store::check_out(&mut filesystem.layers, &root, engine.ownership(), options.threads, &mut |_| {});
    // People know the target, not the draft.
    let told = |error: crate::store::StoreError| BuildError::Write {
        path: target.clone(),
        cause: error.to_string().replace(&*root.to_string_lossy(), &target.to_string_lossy()),
    };
    let placed = written.map_err(told).and_then(|_| engine.check_bases()).and_then(|()| {
        let old = draft.path().join("old");
        let replaced = fs::symlink_metadata(target).is_ok();
        if replaced {
            fs::rename(target, &old).map_err(fault)?;
        }
        fs::rename(&root, target).map_err(|error| {
            if replaced {
                let _ = fs::rename(&old, target);
            }
            fault(error)
        })
    });
    // Directories without permissions, and other users' files, are removed as root of the namespace.
    let path = draft.keep();
    disk::remove_tree(&path)?;
    placed
}

/// From the ELF header of the image's shell (facts §5.3).
fn detect_arch(filesystem: &Filesystem) -> Option<crate::arch::Arch> {
    let shell = TreePath::parse("bin/sh").ok()?;
    crate::arch::Arch::from_elf(&filesystem.read(&shell)?)
}

fn random_id() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    random(&mut bytes)?;
    Ok(crate::sif::format::random_id(bytes))
}

/// Moves `size` bytes from `from` to the later place `to`, the last first.
fn move_up(file: &mut File, from: u64, to: u64, size: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        let count = left.min(buffer.len() as u64);
        left -= count;
        let part = &mut buffer[..count as usize];
        file.seek(SeekFrom::Start(from + left))?;
        file.read_exact(part)?;
        file.seek(SeekFrom::Start(to + left))?;
        file.write_all(part)?;
    }
    Ok(())
}
