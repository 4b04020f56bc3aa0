//! `sifbuild vendor`: all that a lock file names, in one place, from which builds need no network.

use super::arguments::{BuildArguments, DefinitionArguments, SupplyArguments};
use super::build::{Stop, beside, finish, lock_beside, with_engine};
use super::exchange::{RegistryArguments, source};
use super::lock::print;
use super::progress::Terminal;
use super::{GlobalArguments, cache, exit};
use crate::agent::vendor::{Place, Vendor, VendorError, write};
use crate::build::{self, Engine};
use crate::event::{Event, Observer};
use clap::Args;
use std::path::{Path, PathBuf};

/// Collect all files that FILE.lock names, so that FILE can be built without a network
#[derive(Args, Clone, Debug)]
pub struct VendorArguments {
    /// A definition file with a lock file
    pub file: PathBuf,
    /// A directory, oci-archive:FILE or oras://REGISTRY/REPOSITORY:TAG [default: FILE.vendor, which builds find by themselves]
    pub place: Option<String>,
    /// Lock file [default: FILE.lock]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    #[command(flatten)]
    pub supply: SupplyArguments,
    #[command(flatten)]
    pub definition: DefinitionArguments,
    #[command(flatten)]
    pub registry: RegistryArguments,
}

pub fn run(arguments: VendorArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    finish(vendor(arguments, &terminal))
}

fn vendor(arguments: VendorArguments, terminal: &Terminal) -> Result<(), Stop> {
    let place = match &arguments.place {
        Some(text) => parse(text)?,
        None => Place::Directory(vendor_beside(&arguments.file)),
    };
    let lock = arguments.lock.unwrap_or_else(|| lock_beside(&arguments.file));
    if !lock.is_file() {
        let text = format!("{} is not there: `sifbuild lock {}` writes it", lock.display(), arguments.file.display());
        return Err(Stop { text, code: exit::SOURCE });
    }
    let build = BuildArguments {
        lock: Some(lock),
        supply: arguments.supply,
        registry: arguments.registry,
        ..arguments.definition.build(arguments.file.to_string_lossy().into_owned(), "vendor.sif")
    };
    with_engine(build, terminal, &|definition, engine, options| {
        let (pins, files) = build::collect(definition, engine, options)?;
        let registry = match &place {
            Place::Registry(_) => Some(engine.registry()?),
            _ => None,
        };
        let (blobs, work) = (engine.store.blobs(), engine.store.work());
        let written = write(&pins.lock(), &files, &blobs, &place, &work, registry.as_ref(), terminal);
        let (digest, bytes) = written.map_err(|error| Stop {
            text: error.to_string(),
            code: if matches!(error, VendorError::Occupied { .. }) { exit::TARGET } else { exit::OUTPUT },
        })?;
        terminal.observe(Event::Info(format!("{place} has {} files, {}", files.len(), cache::human(bytes))));
        print(&format!("{digest}\n"))
    })
}

/// The collection that a build takes files from: the one that is named, or the one beside the definition.
pub fn open(arguments: &BuildArguments, engine: &Engine<'_>) -> Result<Option<Vendor>, Stop> {
    let place = match &arguments.supply.vendor {
        Some(text) => parse(text)?,
        None => {
            let beside = vendor_beside(Path::new(&arguments.spec));
            if !beside.join("index.json").is_file() {
                return Ok(None);
            }
            Place::Directory(beside)
        }
    };
    let opened = match Vendor::open(&place, &engine.store.work()) {
        Err(error) if arguments.supply.vendor.is_none() => {
            engine.observer.observe(Event::Warning(format!("nothing is taken from {place}: {error}")));
            return Ok(None);
        }
        opened => opened.map_err(source)?,
    };
    engine.observer.observe(Event::Detail(format!("files of bases are taken from {place}")));
    Ok(Some(opened))
}

fn parse(text: &str) -> Result<Place, Stop> {
    Place::parse(text).map_err(|error| Stop::usage(error.to_string()))
}

fn vendor_beside(definition: &Path) -> PathBuf {
    beside(definition, ".vendor")
}
