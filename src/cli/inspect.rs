//! `sifbuild inspect`: labels, scripts and environment of an image.
//!
//! A SIF image carries them as an object of its own. For images without one, for bare squashfs files and for sandbox directories they
//! are read from the tree; nothing of the image is ever run.

use super::encryption::{self, KeyArguments};
use super::session;
use crate::agent::encrypted::{self, PartitionError};
use crate::sif::format::{DataType, FileSystem};
use crate::sif::metadata::{self, Attributes, Metadata};
use crate::sif::reader::{self, ReadError, Sif};
use crate::squashfs::{self, Window};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

mod partition;
mod sandbox;

/// Show metadata of an image
#[derive(Debug, Default, clap::Args)]
pub struct InspectArguments {
    /// SIF image, squashfs file or sandbox directory
    pub image: PathBuf,
    /// Show the labels (default)
    #[arg(short, long)]
    pub labels: bool,
    /// Show the definition file that the image was built from
    #[arg(short, long)]
    pub deffile: bool,
    /// Print JSON instead of text
    #[arg(short, long)]
    pub json: bool,
    /// List the apps
    #[arg(long)]
    pub list_apps: bool,
    /// Look at this app instead of the container
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Show the runscript
    #[arg(short, long)]
    pub runscript: bool,
    /// Show the startscript
    #[arg(short, long)]
    pub startscript: bool,
    /// Show the test script
    #[arg(short, long)]
    pub test: bool,
    /// Show the environment settings
    #[arg(short, long)]
    pub environment: bool,
    /// Show the help text
    #[arg(short = 'H', long)]
    pub helpfile: bool,
    /// Show everything, as JSON
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub key: KeyArguments,
}

/// Why an image is not shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("cannot open {}: {cause}", path.display())]
    Open { path: PathBuf, cause: io::Error },
    #[error("cannot read {}: {cause}", path.display())]
    Sif { path: PathBuf, cause: ReadError },
    #[error("the object inspect-metadata.json of {} is not valid: {cause}", path.display())]
    Metadata { path: PathBuf, cause: serde_json::Error },
    #[error("{} is no image that is known: neither SIF, nor squashfs, nor a directory", path.display())]
    UnknownFormat { path: PathBuf },
    #[error("{} has no metadata object, and no primary partition to read instead", path.display())]
    NoPartition { path: PathBuf },
    #[error("{} has no metadata object, and to read instead: its root filesystem {cause}", path.display())]
    Partition { path: PathBuf, cause: PartitionError },
    #[error("{0}")]
    Key(String),
    #[error("cannot read the file system of {}: {cause}", path.display())]
    Squashfs { path: PathBuf, cause: squashfs::ReadError },
    #[error("cannot read a file in the file system of {}: {cause}", path.display())]
    Body { path: PathBuf, cause: io::Error },
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

const SQUASHFS_MAGIC: &[u8] = b"hsqs";
const LAUNCH_LINE_END: &[u8] = b" run-singularity\n";

/// Bytes that are read of an object or a file; metadata is texts written by people.
const MAXIMUM_SIZE: u64 = 64 << 20;

pub fn run(arguments: &InspectArguments) -> Result<(), InspectError> {
    write(arguments, &mut io::stdout().lock())
}

/// As [`run`], with the text going to `output`.
pub fn write(arguments: &InspectArguments, output: &mut dyn Write) -> Result<(), InspectError> {
    let selected = select(read(&arguments.image, &arguments.key)?, arguments);
    let text = if arguments.json || arguments.all {
        metadata::to_json_indented(&selected) + "\n"
    } else {
        render(&selected.data.attributes, arguments)
    };
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => Err(InspectError::Output(cause)),
        _ => Ok(()),
    }
}

/// Everything that an image says of itself.
pub fn read(path: &Path, key: &KeyArguments) -> Result<Metadata, InspectError> {
    let opened = |cause| InspectError::Open { path: path.to_owned(), cause };
    let mut file = File::open(path).map_err(opened)?;
    if file.metadata().map_err(opened)?.is_dir() {
        return Ok(sandbox::describe(&file));
    }
    let mut start = Vec::new();
    (&file).take(128).read_to_end(&mut start).map_err(opened)?;
    file.rewind().map_err(opened)?;
    if reader::is_sif(&start) {
        return read_sif(path, file, key);
    }
    let Some(offset) = squashfs_offset(&start) else {
        return Err(InspectError::UnknownFormat { path: path.to_owned() });
    };
    let length = file.metadata().map_err(opened)?.len() - offset;
    partition::describe(path, Window::new(file, offset, length))
}

/// Compat: a squashfs file may begin with a line that starts Singularity 2.
fn squashfs_offset(start: &[u8]) -> Option<u64> {
    let launch_line = start.windows(LAUNCH_LINE_END.len()).position(|bytes| bytes == LAUNCH_LINE_END);
    let offset = launch_line.map_or(0, |at| at + LAUNCH_LINE_END.len());
    start[offset..].starts_with(SQUASHFS_MAGIC).then_some(offset as u64)
}

fn read_sif(path: &Path, file: File, key: &KeyArguments) -> Result<Metadata, InspectError> {
    let failed = |cause| InspectError::Sif { path: path.to_owned(), cause };
    let mut sif = Sif::read(file).map_err(failed)?;
    if let Some(object) = sif.find_named(DataType::GENERIC_JSON, metadata::OBJECT_NAME).cloned() {
        let bytes = sif.contents(&object, MAXIMUM_SIZE).map_err(failed)?;
        return Metadata::parse(&bytes).map_err(|cause| InspectError::Metadata { path: path.to_owned(), cause });
    }
    let (partition, extra) =
        sif.primary_partition().ok_or_else(|| InspectError::NoPartition { path: path.to_owned() })?;
    let place = (partition.id, partition.offset as u64, partition.size as u64);
    let unlocking = match extra.file_system {
        FileSystem::ENCRYPTED_SQUASHFS => {
            let key = key.key(&|name| std::env::var(name).ok(), false).map_err(|stop| InspectError::Key(stop.text))?;
            key.map(|key| encryption::unlocking(key, session::available_memory()))
        }
        _ => None,
    };
    let source = encrypted::open(&mut sif, place, &extra, unlocking.as_ref())
        .map_err(|cause| InspectError::Partition { path: path.to_owned(), cause })?;
    let definition = sif.find(DataType::DEFFILE).cloned();
    let definition = definition.map(|object| sif.contents(&object, MAXIMUM_SIZE)).transpose().map_err(failed)?;
    let mut metadata = partition::describe(path, source)?;
    if let Some(bytes) = definition {
        metadata.data.attributes.deffile = metadata::text_of(&bytes);
    }
    Ok(metadata)
}

/// Keeps what the flags ask for. With `--app`, and without `--all`, that is the app's and nothing of the container but the
/// definition file.
fn select(metadata: Metadata, arguments: &InspectArguments) -> Metadata {
    if arguments.all {
        return metadata;
    }
    let Attributes { mut apps, environment, labels, runscript, test, helpfile, deffile, startscript } =
        metadata.data.attributes;
    let wants_labels = arguments.labels || is_default(arguments);
    let mut selected = Attributes { deffile: only(arguments.deffile, deffile), ..Attributes::default() };
    match &arguments.app {
        None => {
            selected.labels = only(wants_labels, labels);
            selected.environment = only(arguments.environment, environment);
            selected.runscript = only(arguments.runscript, runscript);
            selected.startscript = only(arguments.startscript, startscript);
            selected.test = only(arguments.test, test);
            selected.helpfile = only(arguments.helpfile, helpfile);
        }
        Some(name) if !arguments.list_apps => {
            if let Some(app) = apps.get_mut(name) {
                app.labels = only(wants_labels, std::mem::take(&mut app.labels));
                app.environment = only(arguments.environment, std::mem::take(&mut app.environment));
                app.runscript = only(arguments.runscript, std::mem::take(&mut app.runscript));
                app.startscript = only(arguments.startscript, std::mem::take(&mut app.startscript));
                app.test = only(arguments.test, std::mem::take(&mut app.test));
                app.helpfile = only(arguments.helpfile, std::mem::take(&mut app.helpfile));
            }
        }
        Some(_) => {}
    }
    if !arguments.list_apps {
        apps.retain(|name, _| Some(name) == arguments.app.as_ref());
    }
    selected.apps = apps;
    let mut metadata = Metadata::default();
    metadata.data.attributes = selected;
    metadata
}

fn only<T: Default>(wanted: bool, value: T) -> T {
    if wanted { value } else { T::default() }
}

/// Labels are shown where nothing else is asked for.
fn is_default(arguments: &InspectArguments) -> bool {
    let InspectArguments { deffile, list_apps, runscript, startscript, test, environment, helpfile, .. } = *arguments;
    !(deffile || list_apps || runscript || startscript || test || environment || helpfile)
}

fn render(attributes: &Attributes, arguments: &InspectArguments) -> String {
    let empty = metadata::AppAttributes::default();
    let app = arguments.app.as_ref().and_then(|name| attributes.apps.get(name)).unwrap_or(&empty);
    let mut text = String::new();
    if arguments.list_apps {
        attributes.apps.keys().for_each(|name| push(&mut text, name));
    }
    let texts = [
        &attributes.deffile,
        or(&attributes.runscript, &app.runscript),
        or(&attributes.startscript, &app.startscript),
        or(&attributes.test, &app.test),
        or(&attributes.helpfile, &app.helpfile),
    ];
    texts.into_iter().filter(|part| !part.is_empty()).for_each(|part| push(&mut text, part));
    for (path, contents) in or_map(&attributes.environment, &app.environment) {
        push(&mut text, &format!("=== {path} ===\n{contents}\n"));
    }
    for (key, value) in or_map(&attributes.labels, &app.labels) {
        push(&mut text, &format!("{key}: {value}"));
    }
    text
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn or<'a>(first: &'a String, second: &'a String) -> &'a String {
    if first.is_empty() { second } else { first }
}

type Texts = BTreeMap<String, String>;

fn or_map<'a>(first: &'a Texts, second: &'a Texts) -> &'a Texts {
    if first.is_empty() { second } else { first }
}
