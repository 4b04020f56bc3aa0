//! `sifbuild sif`: what is in a SIF image, and changes to it; the commands and texts of siftool.

use crate::disk::{self, AtomicFile};
use crate::sif::edit::{self, EditError};
use crate::sif::format::{
    DataType, Extra, FileSystem, HashType, Link, PartitionExtra, PartitionType, SbomFormat, arch_code, random_id,
};
use crate::sif::reader::{ReadError, Sif};
use crate::sif::writer::{ObjectOptions, WriteError, Writer, WriterOptions};
use crate::{arch::Arch, sif::dump};
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Look into a SIF image, or change it
#[derive(Debug, clap::Args)]
pub struct SifArguments {
    #[command(subcommand)]
    pub command: SifCommand,
}

#[derive(Debug, clap::Subcommand)]
pub enum SifCommand {
    /// Show the global header
    Header { image: PathBuf },
    /// List the data objects
    List { image: PathBuf },
    /// Show everything about one data object
    Info { id: u32, image: PathBuf },
    /// Write the bytes of one data object to standard output
    Dump { id: u32, image: PathBuf },
    /// Make an image without data objects
    New { image: PathBuf },
    /// Add a data object
    Add(Box<AddArguments>),
    /// Delete a data object; its bytes stay in the file
    Del { id: u32, image: PathBuf },
    /// Make a system partition the primary one
    Setprim { id: u32, image: PathBuf },
}

#[derive(Debug, clap::Args)]
pub struct AddArguments {
    pub image: PathBuf,
    /// File that holds the object's bytes
    pub object: PathBuf,
    /// 1 definition file, 2 environment, 3 labels, 4 partition, 5 signature, 6 JSON, 7 generic, 8 cryptographic message,
    /// 9 SBOM, 10 OCI root index, 11 OCI blob
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=11))]
    pub datatype: i32,
    /// 1 system, 2 primary system, 3 data, 4 overlay
    #[arg(long, required_if_eq("datatype", "4"), value_parser = clap::value_parser!(i32).range(1..=4))]
    pub parttype: Option<i32>,
    /// 1 squashfs, 2 ext3, 3 archive, 4 raw, 5 encrypted squashfs, 6 gocryptfs squashfs
    #[arg(long, required_if_eq("datatype", "4"), value_parser = clap::value_parser!(i32).range(1..=6))]
    pub partfs: Option<i32>,
    /// 1 386, 2 amd64, 3 arm, 4 arm64, 5 ppc64, 6 ppc64le, 7 mips, 8 mipsle, 9 mips64, 10 mips64le, 11 s390x, 12 riscv64,
    /// 13 loong64
    #[arg(long, required_if_eq("datatype", "4"), value_parser = parse_arch)]
    pub partarch: Option<Arch>,
    /// 1 SHA-256, 2 SHA-384, 3 SHA-512, 4 BLAKE2s-256, 5 BLAKE2b-256
    #[arg(long, required_if_eq("datatype", "5"), value_parser = clap::value_parser!(i32).range(1..=5))]
    pub signhash: Option<i32>,
    /// Fingerprint of the signing key: 40 hexadecimal digits
    #[arg(long, required_if_eq("datatype", "5"), value_parser = parse_fingerprint)]
    pub signentity: Option<[u8; 20]>,
    /// cyclonedx-json, cyclonedx-xml, github-json, spdx-json, spdx-rdf, spdx-tag-value, spdx-yaml or syft-json
    #[arg(long, required_if_eq("datatype", "9"), value_parser = parse_sbom_format)]
    pub sbomformat: Option<SbomFormat>,
    /// Group of the object; 0 for none
    #[arg(long, default_value_t = 0)]
    pub groupid: u32,
    /// Object, or group with the mask 0xF0000000, that the object belongs to; 0 for none
    #[arg(long, default_value_t = 0)]
    pub link: u32,
    /// A power of two [default: 4096 for partitions, 0 otherwise]
    #[arg(long)]
    pub alignment: Option<u64>,
    /// Name of the object
    #[arg(long)]
    pub filename: Option<String>,
}

/// The numbers of `--datatype` are those of the format without this.
const DATA_TYPE_BASE: i32 = 0x4000;

/// Why a command on an image failed.
#[derive(Debug, thiserror::Error)]
pub enum SifError {
    #[error("cannot open {}: {cause}", path.display())]
    Open { path: PathBuf, cause: io::Error },
    #[error("cannot read {}: {cause}", path.display())]
    Read { path: PathBuf, cause: ReadError },
    #[error("cannot change {}: {cause}", path.display())]
    Edit { path: PathBuf, cause: EditError },
    #[error("cannot write {}: {cause}", path.display())]
    Write { path: PathBuf, cause: WriteError },
    #[error("{} has no object {id}", path.display())]
    NotFound { path: PathBuf, id: u32 },
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error("cannot copy {}: {cause}", path.display())]
    Copy { path: PathBuf, cause: io::Error },
    #[error("the system gives no random bytes: {0}")]
    Random(io::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

pub fn run(arguments: &SifArguments) -> Result<(), SifError> {
    write(arguments, &mut io::stdout().lock())
}

/// As [`run`], with the command's text and bytes going to `output`.
pub fn write(arguments: &SifArguments, output: &mut dyn Write) -> Result<(), SifError> {
    match &arguments.command {
        SifCommand::Header { image } => print(output, &dump::header(open(image)?.header())),
        SifCommand::List { image } => print(output, &dump::list(open(image)?.objects())),
        SifCommand::Info { id, image } => {
            let sif = open(image)?;
            let object = sif.object(*id).ok_or_else(|| SifError::NotFound { path: image.clone(), id: *id })?;
            print(output, &dump::info(object))
        }
        SifCommand::Dump { id, image } => dump_object(image, *id, output),
        SifCommand::New { image } => create(image),
        SifCommand::Add(add) => add_object(add),
        SifCommand::Del { id, image } => change(image, |file| edit::delete(file, *id, now())),
        SifCommand::Setprim { id, image } => change(image, |file| edit::set_primary(file, *id, now())),
    }
}

/// Opens an image.
pub fn open(path: &Path) -> Result<Sif<File>, SifError> {
    let file = File::open(path).map_err(|cause| SifError::Open { path: path.to_owned(), cause })?;
    Sif::read(file).map_err(|cause| SifError::Read { path: path.to_owned(), cause })
}

fn print(output: &mut dyn Write, text: &str) -> Result<(), SifError> {
    finish(output.write_all(text.as_bytes()).and_then(|()| output.flush()))
}

/// A reader that has seen enough and closed the pipe is no error.
fn finish(result: io::Result<()>) -> Result<(), SifError> {
    match result {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => Err(SifError::Output(cause)),
        _ => Ok(()),
    }
}

fn dump_object(path: &Path, id: u32, output: &mut dyn Write) -> Result<(), SifError> {
    let sif = open(path)?;
    let object = sif.object(id).ok_or_else(|| SifError::NotFound { path: path.to_owned(), id })?.clone();
    let mut contents = sif.into_window(&object);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match contents.read(&mut buffer) {
            Ok(0) => return finish(output.flush()),
            Ok(count) => count,
            Err(cause) => return Err(SifError::Read { path: path.to_owned(), cause: cause.into() }),
        };
        if let Err(cause) = output.write_all(&buffer[..count]) {
            return finish(Err(cause));
        }
    }
}

/// Compat: like siftool's `new`, the image has no launch script, a random id and the current time, and replaces what is there.
fn create(path: &Path) -> Result<(), SifError> {
    let mut random = [0; 16];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).map_err(SifError::Random)?;
    let options =
        WriterOptions { id: Some(random_id(random)), time: Some(now()), launch_script: "", ..WriterOptions::default() };
    let mut target = AtomicFile::create(path, 0o755)?;
    Writer::new(target.file_mut(), &options)
        .and_then(Writer::finish)
        .map_err(|cause| SifError::Write { path: path.to_owned(), cause })?;
    target.commit(true)?;
    Ok(())
}

/// Compat: the object has a name only where `--filename` gives one, whatever siftool's help says.
fn add_object(arguments: &AddArguments) -> Result<(), SifError> {
    let data_type = DataType(DATA_TYPE_BASE + arguments.datatype);
    let defaults = ObjectOptions::new(data_type);
    let options = ObjectOptions {
        data_type,
        name: arguments.filename.clone().unwrap_or_default(),
        group: Some(arguments.groupid).filter(|group| *group != 0),
        link: Link::from_raw(arguments.link),
        alignment: arguments.alignment.unwrap_or(defaults.alignment),
        extra: extra(arguments, data_type),
    };
    let path = &arguments.object;
    let mut contents = File::open(path).map_err(|cause| SifError::Open { path: path.clone(), cause })?;
    change(&arguments.image, |file| edit::add(file, &options, &mut contents, now()).map(drop))
}

fn extra(arguments: &AddArguments, data_type: DataType) -> Extra {
    match (data_type, arguments) {
        (
            DataType::PARTITION,
            AddArguments { partfs: Some(file_system), parttype: Some(partition_type), partarch: Some(arch), .. },
        ) => Extra::Partition(PartitionExtra {
            file_system: FileSystem(*file_system),
            partition_type: PartitionType(*partition_type),
            arch: arch_code(*arch),
        }),
        (DataType::SIGNATURE, AddArguments { signhash: Some(hash), signentity: Some(entity), .. }) => {
            Extra::Signature { hash_type: HashType(*hash), entity: *entity }
        }
        (DataType::SBOM, AddArguments { sbomformat: Some(format), .. }) => Extra::Sbom(*format),
        _ => Extra::None,
    }
}

fn change(path: &Path, edit: impl FnOnce(&mut File) -> Result<(), EditError>) -> Result<(), SifError> {
    replace(path, edit)?.map_err(|cause| SifError::Edit { path: path.to_owned(), cause })
}

/// Applies a change to a copy beside the image, which then takes its place. Where the change fails, the image stays as it is.
pub fn replace<T, E>(path: &Path, edit: impl FnOnce(&mut File) -> Result<T, E>) -> Result<Result<T, E>, SifError> {
    let failed = |cause| SifError::Copy { path: path.to_owned(), cause };
    // A symbolic link stays one: what it points to is replaced.
    let target = path.canonicalize().map_err(|cause| SifError::Open { path: path.to_owned(), cause })?;
    let mut original = File::open(&target).map_err(|cause| SifError::Open { path: path.to_owned(), cause })?;
    let metadata = original.metadata().map_err(failed)?;
    Sif::read(&original).map_err(|cause| SifError::Read { path: path.to_owned(), cause })?;

    let mut copy = AtomicFile::create(&target, 0o600)?;
    // Where the filesystem can share blocks, nothing is copied.
    if rustix::fs::ioctl_ficlone(copy.file(), &original).is_err() {
        io::Seek::rewind(&mut original).and_then(|()| io::copy(&mut original, copy.file_mut())).map_err(failed)?;
    }
    let edited = edit(copy.file_mut());
    if edited.is_ok() {
        // Only root can give files away; for everybody else the owner is already right, or cannot be.
        let _ = std::os::unix::fs::fchown(copy.file(), Some(metadata.uid()), Some(metadata.gid()));
        copy.file().set_permissions(Permissions::from_mode(metadata.permissions().mode())).map_err(failed)?;
        copy.commit(true)?;
    }
    Ok(edited)
}

/// Unix seconds.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs() as i64)
}

fn parse_fingerprint(text: &str) -> Result<[u8; 20], String> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|character| character.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    match digits {
        Some(digits) if digits.len() == 40 => Ok(std::array::from_fn(|at| digits[2 * at] << 4 | digits[2 * at + 1])),
        _ => Err("a fingerprint has 40 hexadecimal digits".to_owned()),
    }
}

fn parse_arch(text: &str) -> Result<Arch, String> {
    Arch::from_sif(&format!("{text:0>2}")).ok_or_else(|| "known are 1 to 13".to_owned())
}

fn parse_sbom_format(text: &str) -> Result<SbomFormat, String> {
    let known = SbomFormat::KNOWN.iter().copied().find(|format| format.text() == text);
    known.ok_or_else(|| {
        let names: Vec<&str> = SbomFormat::KNOWN.iter().map(|format| format.text()).collect();
        format!("known are {}", names.join(", "))
    })
}
