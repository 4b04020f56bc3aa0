//! `sifbuild lock`: what a definition's bases are exactly, in a file beside it that builds keep to.

use super::arguments::{BuildArguments, DefinitionArguments};
use super::build::{Stop, finish, lock_beside, read_lock, with_engine};
use super::exchange::RegistryArguments;
use super::progress::Terminal;
use super::{GlobalArguments, exit};
use crate::arch::Arch;
use crate::build::{self, Options};
use crate::deb::pin::Variant;
use crate::disk::AtomicFile;
use crate::event::{Event, Observer};
use crate::pins::{BasePin, Pins, StagePins, difference};
use clap::Args;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Write the exact bases of a definition into FILE.lock, which builds of FILE keep to
#[derive(Args, Clone, Debug)]
pub struct LockArguments {
    /// A definition file; with --diff: a lock file
    #[arg(required_unless_present = "update")]
    pub file: Option<PathBuf>,
    /// With --diff: the newer lock file
    #[arg(requires = "diff")]
    pub newer: Option<PathBuf>,
    /// Ask anew for all bases, also for those that the lock answers; with PACKAGEs only for these, and what they need: all others stay as
    /// they are (where no FILE stands before it, the last word is FILE)
    #[arg(long, value_name = "PACKAGE", num_args = 0..)]
    pub update: Option<Vec<String>>,
    /// Show what changed from one lock file to another: ~ changed, + added, - removed
    #[arg(long, requires = "newer")]
    pub diff: bool,
    #[command(flatten)]
    pub definition: DefinitionArguments,
    /// Keyring to check a distribution's signature with; may be repeated [default: the host's]
    #[arg(long, value_name = "FILE")]
    pub keyring: Vec<PathBuf>,
    /// Accept RPM repositories whose signature does not hold; the lock says so, and packages are not checked either
    #[arg(long)]
    pub no_check_signatures: bool,
    /// Accept SHA-1, which can be forged, as proof of what an RPM repository lists
    #[arg(long)]
    pub allow_sha1: bool,
    /// Variant of a Debian base: minbase, buildd, or default [default: the lock's, else minbase]
    #[arg(long, value_name = "NAME")]
    pub debian_variant: Option<String>,
    #[command(flatten)]
    pub registry: RegistryArguments,
}

pub fn run(mut arguments: LockArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    let last = || arguments.update.as_mut().and_then(Vec::pop).map(PathBuf::from);
    let Some(file) = arguments.file.take().or_else(last) else {
        return finish(Err(Stop::usage("lock: which definition file?")));
    };
    finish(match &arguments.newer {
        Some(newer) => compare(&file, newer),
        None => lock(&file, arguments, &terminal),
    })
}

fn compare(older: &Path, newer: &Path) -> Result<(), Stop> {
    show(&read_lock(older)?, &read_lock(newer)?)
}

fn show(older: &Pins, newer: &Pins) -> Result<(), Stop> {
    print(&difference(older, newer).iter().map(|one| format!("{one}\n")).collect::<String>())
}

/// What was done stays done when nobody reads of it.
pub fn print(text: &str) -> Result<(), Stop> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Stop { text: format!("cannot write to standard output: {error}"), code: exit::OUTPUT })
        }
        _ => Ok(()),
    }
}

fn lock(file: &Path, mut arguments: LockArguments, terminal: &Terminal) -> Result<(), Stop> {
    let path = lock_beside(file);
    let before = if path.exists() { Some(read_lock(&path)?) } else { None };
    let moving: BTreeSet<String> = arguments.update.iter().flatten().cloned().collect();
    let update = arguments.update.is_some() && moving.is_empty();
    check_moving(&moving, before.as_ref(), &path)?;
    if let Some(before) = &before {
        let variant = arguments.debian_variant.clone();
        arguments.debian_variant =
            settle("--debian-variant", variant, variants(before), Variant::parse, !update, &path)?;
        // The architecture is part of the question: without packages that stay, it is another base.
        if !moving.is_empty() {
            let arch = arguments.definition.arch.clone();
            arguments.definition.arch = settle("--arch", arch, architectures(before), Arch::parse, true, &path)?;
        }
    }
    let build = BuildArguments {
        keyring: arguments.keyring,
        no_check_signatures: arguments.no_check_signatures,
        allow_sha1: arguments.allow_sha1,
        debian_variant: arguments.debian_variant.unwrap_or_else(|| Variant::Minbase.name().to_owned()),
        registry: arguments.registry,
        // What the lock does not answer is asked for, not refused.
        no_lock: true,
        ..arguments.definition.build(file.to_string_lossy().into_owned(), "lock.sif")
    };
    with_engine(build, terminal, &|definition, engine, options| {
        let mut options = Options { moving: moving.clone(), ..options.clone() };
        if let Some(before) = before.as_ref().filter(|_| !update) {
            options.lock = before.clone();
        }
        let pins = build::lock(definition, engine, &options)?;
        let text = pins.lock();
        if before.as_ref().is_some_and(|before| before.lock() == text) {
            terminal.observe(Event::Info(format!("{} is as it was", path.display())));
            return Ok(());
        }
        write(&path, &text)?;
        show(before.as_ref().unwrap_or(&pins), &pins)?;
        terminal.observe(Event::Info(format!("{} has {} lines", path.display(), text.lines().count())));
        Ok(())
    })
}

fn variants(pins: &Pins) -> Vec<&str> {
    fn variant(stage: &StagePins) -> Option<&str> {
        match &stage.base {
            BasePin::Debian { lines } => lines.iter().find_map(|line| line.strip_prefix("variant ")),
            _ => None,
        }
    }
    pins.stages.iter().filter_map(variant).collect()
}

/// The second word of a question.
fn architectures(pins: &Pins) -> Vec<&str> {
    pins.stages.iter().filter_map(|stage| stage.question.split(' ').nth(1)).collect()
}

/// What a flag left open is as the lock has it. `stays`: the flag may not change it.
fn settle<T: PartialEq>(
    flag: &str,
    given: Option<String>,
    pinned: Vec<&str>,
    parse: fn(&str) -> Option<T>,
    stays: bool,
    path: &Path,
) -> Result<Option<String>, Stop> {
    let Some(name) = given else { return Ok(pinned.first().map(|name| (*name).to_owned())) };
    match pinned.iter().find(|pinned| parse(&name).is_some_and(|given| Some(given) != parse(pinned))) {
        Some(pinned) if stays => Err(Stop::usage(format!(
            "{flag} {name}: {} has {pinned}; only --update without packages changes that",
            path.display()
        ))),
        _ => Ok(Some(name)),
    }
}

/// What moves must be there.
fn check_moving(moving: &BTreeSet<String>, before: Option<&Pins>, path: &Path) -> Result<(), Stop> {
    let bases = before.iter().flat_map(|pins| &pins.stages).map(|stage| &stage.base);
    let names: BTreeSet<&str> = bases.flat_map(|base| base.packages()).map(|(name, ..)| name).collect();
    match moving.iter().find(|name| !names.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let text = format!("--update {name}: {} has no package of this name", path.display());
            Err(Stop { text, code: exit::SOURCE })
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), Stop> {
    let fault = |cause: String| Stop { text: format!("cannot write {}: {cause}", path.display()), code: exit::OUTPUT };
    let mut file = AtomicFile::create(path, 0o666).map_err(|error| fault(error.to_string()))?;
    file.file_mut().write_all(text.as_bytes()).map_err(|error| fault(error.to_string()))?;
    file.commit(true).map_err(|error| fault(error.to_string()))
}
