//! `build --verify-reproducible`: the same build twice, the second time in other surroundings, and in what the images differ.
//!
//! Each build is a process of its own, since a process enters a user namespace once. Both keep to the bases that the first one pins.
//!
//! # What is another in the second build
//! No result of a step and no block is there to be reused; what was downloaded is. The work lies elsewhere, there is one processor fewer, and another number of threads packs.
//! This program's clock is 400 days ahead. `%pre`, `%setup` and `%test` see another home, user, language and time zone, `%post` another host name,
//! processor count and terminal, all of them another umask of the caller. The clock that scripts see goes on by itself: they begin at
//! least two seconds after those of the first, so that a time in a file shows, but a date need not.

use super::arguments::BuildArguments;
use super::build::{Stop, with_engine};
use super::compare::differences;
use super::progress::Terminal;
use super::{exit, render_error, session};
use crate::build::{self, Engine, Form, Options};
use crate::definition::Definition;
use crate::disk::{AtomicFile, copy_file, without_path};
use crate::event::{Event, Observer};
use crate::sandbox::{self, WorkDirectory};
use clap::ValueEnum;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The coarsest times that common formats tell (zip) are of two seconds.
const APART: Duration = Duration::from_millis(2100);
/// How far this program's own clock is ahead in the second build.
const AHEAD: i64 = 400 * 86_400;
/// The host's name in the second build.
const HOST: &str = "elsewhere";
const FLAG: &str = "--verify-reproducible";
/// Files of the shared directory.
const LOCK: &str = "lock";
const IMAGES: [&str; 2] = ["first.sif", "second.sif"];

/// Which of the two builds a process makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Repetition {
    First,
    Second,
}

/// Builds twice and compares. The target is written only where both images are equal.
pub fn build_twice(arguments: &BuildArguments, terminal: &Terminal) -> Result<(), Stop> {
    let refused = [
        (arguments.encrypt || arguments.key.is_given(), "--encrypt: keys are random, so that no two images are equal"),
        (arguments.sign.is_some(), "--sign: verify first, and sign the image then with `sifbuild sign`"),
        (arguments.sandbox || arguments.oci_layout, "only SIF images are compared"),
    ];
    if let Some((_, reason)) = refused.iter().find(|(given, _)| *given) {
        return Err(Stop::usage(format!("{FLAG}: {reason}")));
    }
    build::check_target(&arguments.target, Form::Sif, arguments.force)?;
    let target = arguments.target.display().to_string();
    sandbox::install_interrupt(move |signal| {
        render_error(&format!("interrupted by {signal}; {target} is not written"))
    })
    .map_err(|error| Stop { text: format!("signals cannot be handled: {error}"), code: exit::SANDBOX })?;
    let fault = |action: &str, path: &Path, cause: String| Stop {
        text: format!("cannot {action} {}: {cause}", path.display()),
        code: exit::OUTPUT,
    };
    let cache = session::cache_directory(arguments.cache_dir.as_deref());
    std::fs::create_dir_all(&cache).map_err(|error| fault("make", &cache, without_path(error).to_string()))?;
    let shared =
        WorkDirectory::create(&cache).map_err(|error| fault("make a directory in", &cache, error.to_string()))?;
    let began = Instant::now();
    build_as(Repetition::First, shared.path(), arguments.force)?;
    std::thread::sleep(APART.saturating_sub(began.elapsed()));
    terminal.observe(Event::Info("Building again, in other surroundings".to_owned()));
    build_as(Repetition::Second, shared.path(), arguments.force)?;
    let [first, second] = IMAGES.map(|name| shared.path().join(name));
    let lines = differences(&first, &second)?;
    if !lines.is_empty() {
        lines.iter().for_each(|line| terminal.observe(Event::Warning(line.clone())));
        let mut text = format!("{} is not written: two builds gave different images", arguments.target.display());
        if arguments.keep_failed {
            text += &format!("; they are in {}", shared.keep().display());
        }
        return Err(Stop { text, code: exit::DIFFERENCE });
    }
    move_to(&first, &arguments.target).map_err(|cause| fault("write", &arguments.target, cause))?;
    terminal.observe(Event::Info(format!("Two builds gave equal images: {}", arguments.target.display())));
    Ok(())
}

/// Runs this program with the same command line.
fn build_as(repetition: Repetition, shared: &Path, force: bool) -> Result<(), Stop> {
    let name = repetition.to_possible_value().expect("both have names");
    let mut command = Command::new("/proc/self/exe");
    // The first word of this name is the command: no option before it takes such a value.
    for argument in std::env::args_os().skip(1) {
        let is_command = argument == "build" && !command.get_args().any(|argument| argument == "build");
        command.arg(argument);
        if is_command {
            command.arg("--repetition").arg(name.get_name()).arg("--verification").arg(shared);
        }
    }
    if force {
        // It may have been said at the terminal.
        command.env("SIFBUILD_FORCE", "1");
    }
    let status = sandbox::run_informed(&mut command).map_err(|error| Stop {
        text: format!("this program cannot be started again: {error}"),
        code: exit::SANDBOX,
    })?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        // It has told why.
        (Some(code), _) => Err(Stop { text: String::new(), code: code as u8 }),
        (None, signal) => {
            let signal = signal.expect("a program ends with a code or by a signal");
            Err(Stop { text: format!("a build was ended by signal {signal}"), code: 128 + signal as u8 })
        }
    }
}

fn move_to(image: &Path, target: &Path) -> Result<(), String> {
    let mut from = File::open(image).map_err(|error| error.to_string())?;
    let mut file = AtomicFile::create(target, 0o777).map_err(|error| error.to_string())?;
    copy_file(&mut from, file.file_mut()).map_err(|error| error.to_string())?;
    file.commit(true).map_err(|error| error.to_string())
}

/// One of the two builds.
pub fn build_one(
    mut arguments: BuildArguments,
    repetition: Repetition,
    shared: PathBuf,
    terminal: &Terminal,
) -> Result<(), Stop> {
    // Whatever ends the one that compares: then nobody waits for this build.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM);
    arguments.reproducible = true;
    arguments.target = shared.join(IMAGES[usize::from(repetition == Repetition::Second)]);
    let lock = shared.join(LOCK);
    if repetition == Repetition::First {
        return with_engine(arguments, terminal, &|definition, engine, options| {
            first(definition, engine, options, &lock)
        });
    }
    let kept = session::cache_directory(arguments.cache_dir.as_deref());
    arguments.lock = Some(lock);
    arguments.no_lock = false;
    arguments.disable_cache = true;
    arguments.tmpdir = Some(shared.clone());
    let threads = arguments.jobs.unwrap_or(std::thread::available_parallelism().map_or(1, usize::from));
    arguments.jobs = Some(if threads == 1 { 2 } else { threads - 1 });
    let fault =
        |cause: String| Stop { text: format!("other surroundings cannot be made: {cause}"), code: exit::SANDBOX };
    vary_process().map_err(|error| fault(error.to_string()))?;
    with_engine(arguments, terminal, &|definition, engine, options| {
        if build::executes(definition, options.notest) {
            sandbox::rename_host(HOST).map_err(|error| fault(error.to_string()))?;
        }
        engine.store.share_blobs(&kept).map_err(|error| Stop { text: error.to_string(), code: exit::OUTPUT })?;
        Ok(build::build(definition, engine, &varied(options, &shared))?)
    })
}

fn first(definition: &Definition, engine: &Engine<'_>, options: &Options, lock: &Path) -> Result<(), Stop> {
    let pins = build::lock(definition, engine, options)?;
    std::fs::write(lock, pins.lock())
        .map_err(|error| Stop { text: format!("cannot write {}: {error}", lock.display()), code: exit::OUTPUT })?;
    Ok(build::build(definition, engine, &Options { lock: pins, ..options.clone() })?)
}

/// What children inherit.
fn vary_process() -> nix::Result<()> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::sys::stat::{Mode, umask};
    use nix::unistd::Pid;
    umask(Mode::from_bits_truncate(0o077));
    let mut processors = sched_getaffinity(Pid::from_raw(0))?;
    let usable: Vec<usize> = (0..CpuSet::count()).filter(|one| processors.is_set(*one) == Ok(true)).collect();
    if let [_, .., last] = usable[..] {
        processors.unset(last)?;
        sched_setaffinity(Pid::from_raw(0), &processors)?;
    }
    Ok(())
}

fn varied(options: &Options, shared: &Path) -> Options {
    let mut options = options.clone();
    options.background = !options.background;
    options.now.seconds += AHEAD;
    let other = |name: &str, value: &str, instead: &str| {
        let before = options.environment.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
        let value = if before.as_deref() == Some(OsStr::new(value)) { instead } else { value };
        (OsString::from(name), OsString::from(value))
    };
    let mut changed = vec![
        other("USER", "somebody", "another"),
        other("LOGNAME", "somebody", "another"),
        other("LANG", "C.UTF-8", "C"),
        other("LC_ALL", "C.UTF-8", "C"),
        other("TERM", "dumb", "vt100"),
        other("TZ", "UTC+11", "UTC-12"),
    ];
    changed.push(("HOME".into(), shared.into()));
    options.environment.retain(|(name, _)| !changed.iter().any(|(other, _)| other == name));
    options.environment.extend(changed);
    options
}
