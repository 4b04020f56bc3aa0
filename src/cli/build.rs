//! `sifbuild build`: from the command line to [`crate::build::build`], and its outcome to text and exit code.

use super::arguments::{BuildArguments, OnFail};
use super::binds::binds;
use super::encryption::{self, SECRET_VARIABLES};
use super::keyserver::Asker;
use super::limits::limits;
use super::progress::Terminal;
use super::sign::SignWithArguments;
use super::{GlobalArguments, cache, exit, exit_code, ids, render_error, session, verify_reproducible};
use crate::agent::{debian, docker, local, yum};
use crate::arch::Arch;
use crate::build::{self, BuildError, Engine, Form, Options};
use crate::deb::pin::Variant;
use crate::definition::{self, Arguments, Definition, render};
use crate::diagnostic::Severity;
use crate::event::{Event, Observer};
use crate::openpgp::Issuer;
use crate::pins::Pins;
use crate::plan::Sections;
use crate::sandbox;
use crate::sif::signature::Signatory;
use crate::squashfs::Compression;
use crate::squashfs::format::is_block_size;
use crate::store::Store;
use std::cell::{OnceCell, RefCell};
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// What stops a command before or in its work: one line or more, and the exit code.
pub struct Stop {
    pub text: String,
    pub code: u8,
}

impl Stop {
    pub fn usage(text: impl Into<String>) -> Stop {
        Stop { text: text.into(), code: exit::USAGE }
    }
}

impl From<BuildError> for Stop {
    fn from(error: BuildError) -> Stop {
        Stop { text: error.to_string(), code: exit_code(&error) }
    }
}

pub fn run(mut arguments: BuildArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    if let (Some(repetition), Some(shared)) = (arguments.repetition, arguments.verification.clone()) {
        return finish(verify_reproducible::build_one(arguments, repetition, shared, &terminal));
    }
    if arguments.verify_reproducible {
        // Each of the two builds does this again, with a target of its own.
        arguments.fill(&|name| std::env::var(name).ok());
    }
    arguments.force = arguments.force || may_replace(&arguments.target);
    if arguments.verify_reproducible {
        return finish(verify_reproducible::build_twice(&arguments, &terminal));
    }
    finish(with_engine(arguments, &terminal, &|definition, engine, options| {
        Ok(build::build(definition, engine, options)?)
    }))
}

/// Asks at a terminal whether an existing target may be replaced.
fn may_replace(target: &Path) -> bool {
    let here = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !here || std::fs::symlink_metadata(target).is_err() || std::env::var_os("CI").is_some() {
        return false;
    }
    eprint!("Build target '{}' already exists. Do you want to overwrite it? [y/N] ", target.display());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Renders what stopped a command.
pub fn finish(result: Result<(), Stop>) -> u8 {
    match result {
        Ok(()) => exit::SUCCESS,
        Err(stop) => {
            if !stop.text.is_empty() {
                render_error(&stop.text);
            }
            stop.code
        }
    }
}

/// What is done with a definition once everything is in place.
pub type Work<'a> = &'a dyn Fn(&Definition, &Engine<'_>, &Options) -> Result<(), Stop>;

/// Reads the definition, enters the namespaces, opens the store, and does the work.
pub fn with_engine(mut arguments: BuildArguments, terminal: &Terminal, work: Work<'_>) -> Result<(), Stop> {
    let variable = |name: &str| std::env::var(name).ok();
    arguments.fill(&variable);
    refuse_or_accept(&arguments, terminal)?;
    let definition = read_definition(&arguments, terminal)?;
    arguments.registry.complete()?;
    let mut options = options(&arguments, terminal)?;
    let warn = |text: &str| terminal.observe(Event::Warning(text.to_owned()));
    (options.encryption, options.unlocking) = encryption::settle(arguments.encrypt, &arguments.key, &variable, &warn)?;
    options.signatory = signatory(&arguments, terminal)?;
    if let Some(path) = lock_file(&arguments) {
        options.lock = read_lock(&path)?;
        terminal.observe(Event::Detail(format!("the bases are those of {}", path.display())));
        options.locked_by = Some(path);
    }
    // Invariant: no thread has been started yet; a user namespace can only be entered by a single one.
    let (id_mode, fakeroot) = ids::enter(&arguments, build::executes(&definition, arguments.notest), terminal)?;
    let temporary;
    let place = if arguments.disable_cache {
        let parent = arguments.tmpdir.clone().unwrap_or_else(std::env::temp_dir);
        temporary = tempfile::Builder::new().prefix("sifbuild-").tempdir_in(&parent).map_err(|error| Stop {
            text: format!(
                "cannot make a directory in {}: {}; --tmpdir DIRECTORY names another place",
                parent.display(),
                crate::disk::without_path(error)
            ),
            code: exit::OUTPUT,
        })?;
        temporary.path().to_path_buf()
    } else {
        session::cache_directory(arguments.cache_dir.as_deref())
    };
    // The sandbox works in another directory.
    let place = std::path::absolute(&place)
        .map_err(|error| Stop::usage(format!("{} cannot be used for the cache: {error}", place.display())))?;
    if !arguments.disable_cache {
        // Of verifications that were killed.
        sandbox::sweep(&place);
    }
    let (limit, _) = cache::limit(&place).map_err(|error| Stop::usage(error.to_string()))?;
    let began = SystemTime::now();
    let store = Store::open(&place, &session::store_mode()).map_err(|error| Stop {
        text: format!("{error}; --cache-dir DIRECTORY or SIFBUILD_CACHEDIR names another place for the cache"),
        code: exit::OUTPUT,
    })?;
    options.debian.answers = Some(place.join("1/answers"));
    options.yum.metadata = Some(place.join("rpm-metadata"));
    let connect = || {
        let fault = |cause| BuildError::Base { place: arguments.spec.clone(), cause };
        arguments.registry.connect_unless(arguments.offline).map_err(fault)
    };
    let asker = Asker::new(None, terminal);
    let ask = |issuer: &Issuer| asker.ask(issuer);
    let mut engine = Engine {
        store: &store,
        observer: terminal,
        id_mode,
        fakeroot,
        connect: &connect,
        connections: OnceCell::new(),
        digests: local::Digests::default(),
        examined: RefCell::default(),
        sizes: RefCell::default(),
        bases: RefCell::default(),
        ask: Some(&ask),
        vendor: None,
    };
    engine.vendor = super::vendor::open(&arguments, &engine)?;
    let done = work(&definition, &engine, &options);
    if arguments.disable_cache {
        drop(store);
        // Files of subordinate ids are removed here, as root of the namespace.
        let _ = crate::disk::remove_tree(&place);
    } else if store.has_grown() {
        // Invariant: this build holds the store no longer, or nothing could be taken.
        drop(store);
        cache::keep_within(limit, &place, &session::store_mode(), began, terminal);
    }
    done
}

/// The lock file that a build keeps to.
fn lock_file(arguments: &BuildArguments) -> Option<PathBuf> {
    if arguments.no_lock {
        return None;
    }
    let beside = lock_beside(Path::new(&arguments.spec));
    arguments.lock.clone().or_else(|| beside.is_file().then_some(beside))
}

/// `FILE.lock` of a definition file.
pub fn lock_beside(definition: &Path) -> PathBuf {
    beside(definition, ".lock")
}

pub fn beside(definition: &Path, ending: &str) -> PathBuf {
    let mut name = definition.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

pub fn read_lock(path: &Path) -> Result<Pins, Stop> {
    let fault = |cause: String| Stop { text: format!("{}: {cause}", path.display()), code: exit::SOURCE };
    let text = std::fs::read_to_string(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
    Pins::parse(&text).map_err(|error| fault(error.to_string()))
}

/// Apptainer's flags that have no meaning here: one clear line, or the reason why not (README, "Flags").
fn refuse_or_accept(arguments: &BuildArguments, terminal: &dyn Observer) -> Result<(), Stop> {
    let accepted = &arguments.accepted;
    let refused = [
        (
            (arguments.encrypt || arguments.key.is_given()) && (arguments.sandbox || arguments.oci_layout),
            "--encrypt",
            "only a SIF has an encrypted form",
        ),
        (accepted.data, "--data", "data images cannot be written yet"),
        (
            accepted.nv || accepted.nvccli || accepted.rocm,
            "--nv, --nvccli and --rocm",
            "no host library enters the sandbox; run the GPU tests with the finished image",
        ),
        (accepted.remote, "--remote", "there is no remote builder; build locally without it"),
        (
            arguments.update,
            "--update",
            "an existing sandbox is not changed in place; use it as `Bootstrap: localimage` and build anew",
        ),
    ];
    if let Some((_, flag, reason)) = refused.iter().find(|(given, _, _)| *given) {
        return Err(Stop::usage(format!("{flag}: {reason}")));
    }
    let idle = [
        (accepted.json, "--json", "the definition is read as text"),
        (accepted.ignore_subuid, "--ignore-subuid", "use --id-mode single"),
        (accepted.ignore_fakeroot_command, "--ignore-fakeroot-command", "no fakeroot program is used"),
        (accepted.ignore_proot, "--ignore-proot", "no proot is used"),
        (accepted.ignore_userns, "--ignore-userns", "user namespaces are the only way here"),
        (
            accepted.mksquashfs_args.is_some(),
            "--mksquashfs-args",
            "no mksquashfs is used; see --compression and --block-size",
        ),
        (accepted.buildkit_host.is_some(), "--buildkit-host", "no buildkit is used"),
        (accepted.compat32, "--compat32", "no host library enters the sandbox"),
    ];
    for (_, flag, reason) in idle.iter().filter(|(given, _, _)| *given) {
        terminal.observe(Event::Info(format!("{flag} has no effect: {reason}")));
    }
    Ok(())
}

/// The definition that SPEC stands for: a URI, an image, or a file.
pub fn read_definition(arguments: &BuildArguments, terminal: &dyn Observer) -> Result<Definition, Stop> {
    let spec = &arguments.spec;
    if let Some((scheme, rest)) = definition::parse_spec_uri(spec) {
        let parsed = Definition::from_uri(scheme, rest);
        return parsed
            .definition
            .ok_or_else(|| Stop { text: render::text(&parsed.diagnostics, false), code: exit::DEFINITION });
    }
    let path = Path::new(spec);
    if let Ok(Some(_)) = local::recognise(path) {
        return Ok(Definition::from_image(spec));
    }
    let bytes = std::fs::read(path)
        .map_err(|cause| Stop::from(BuildError::ReadDefinition { path: path.to_path_buf(), cause }))?;
    let faults = |text: String| Stop { text, code: exit::DEFINITION };
    let source =
        definition::read_text(spec, bytes).map_err(|diagnostic| faults(render::text(&[*diagnostic], false)))?;
    let mut given = Arguments::default();
    given.warn_unused = arguments.warn_unused_build_args;
    let mut diagnostics = Vec::new();
    if let Some(file) = &arguments.build_arg_file {
        let bytes = std::fs::read(file)
            .map_err(|error| Stop::usage(format!("cannot read the build argument file {}: {error}", file.display())))?;
        let text = definition::read_text(&file.to_string_lossy(), bytes)
            .map_err(|diagnostic| faults(render::text(&[*diagnostic], false)))?;
        diagnostics.extend(given.add_file(&text));
    }
    for text in &arguments.build_arg {
        given.add(text).map_err(|error| Stop::usage(error.to_string()))?;
    }
    let parsed = definition::parse(&source, &given);
    diagnostics.extend(parsed.diagnostics);
    // Lints are `check`'s; here what stops the build, and the warnings that Apptainer gives.
    let (errors, warnings): (Vec<_>, Vec<_>) =
        diagnostics.into_iter().partition(|found| found.severity == Severity::Error);
    match parsed.definition {
        Some(definition) if errors.is_empty() => {
            for warning in warnings.iter().filter(|found| found.severity == Severity::Warning) {
                terminal.observe(Event::Detail(format!("{}: {}", warning.code, warning.message)));
            }
            Ok(definition)
        }
        _ => Err(faults(render::text(&errors, false))),
    }
}

fn options(arguments: &BuildArguments, observer: &dyn Observer) -> Result<Options, Stop> {
    let arch = match &arguments.arch {
        Some(name) => Arch::parse(name).ok_or_else(|| {
            Stop::usage(format!(
                "--arch {name}: unknown architecture; known are {}",
                Arch::ALL.iter().map(|arch| arch.oci()).collect::<Vec<_>>().join(", ")
            ))
        })?,
        None => Arch::host(),
    };
    let sections = match arguments.section.as_slice() {
        [] => Sections::all(),
        list => Sections::parse(list.iter().map(String::as_str))
            .map_err(|error| Stop::usage(format!("--section: {error}")))?,
    };
    let compression = match &arguments.compression {
        Some(text) => text.parse().map_err(|error| Stop::usage(format!("--compression {text}: {error}")))?,
        None => Compression::default(),
    };
    let block_size = arguments.block_size.unwrap_or(131_072);
    if !is_block_size(block_size) {
        return Err(Stop::usage(format!("--block-size {block_size}: it must be a power of two from 4096 to 1048576")));
    }
    let memory = match arguments.memory.as_deref() {
        Some(text) => Some(super::cache::parse_size(text).ok_or_else(|| {
            Stop::usage(format!("--memory {text}: it must be a number of bytes, or one with K, M, G or T"))
        })?),
        None => None,
    };
    let packing = crate::squashfs::Options { compression, block_size, ..Default::default() };
    let limits = limits(arguments.jobs, memory, &packing, &|name| std::env::var(name).ok());
    limits.note.into_iter().for_each(|note| observer.observe(Event::Detail(note)));
    let variant = Variant::parse(&arguments.debian_variant).ok_or_else(|| {
        Stop::usage(format!("--debian-variant {}: known are minbase, buildd and default", arguments.debian_variant))
    })?;
    let now = session::now();
    let epoch = session::source_date_epoch().map_err(Stop::usage)?;
    let debian = debian::Options {
        variant,
        keyrings: arguments.keyring.clone(),
        ignore_valid_until: arguments.ignore_valid_until,
        ..debian::Options::default()
    };
    Ok(Options {
        target: arguments.target.clone(),
        form: match (arguments.sandbox, arguments.oci_layout) {
            (true, _) => Form::Sandbox,
            (_, true) => Form::OciLayout,
            _ => Form::Sif,
        },
        force: arguments.force,
        notest: arguments.notest,
        sections,
        arch,
        variant: platform_variant(arguments.arch.as_deref(), arguments.arch_variant.as_deref()),
        binds: binds(&arguments.bind, &arguments.mount)?,
        on_fail: if arguments.on_fail == OnFail::Shell { build::OnFail::Shell } else { build::OnFail::Clean },
        keep_failed: arguments.keep_failed,
        disable_cache: arguments.disable_cache,
        reuse: !arguments.no_reuse,
        offline: arguments.offline,
        compression,
        block_size,
        background: !arguments.no_background,
        threads: limits.threads,
        epoch,
        reproducible: arguments.reproducible,
        now,
        directory: std::env::current_dir()
            .map_err(|error| Stop::usage(format!("the current directory cannot be used: {error}")))?,
        environment: std::env::vars_os().filter(|(name, _)| !is_secret(name)).collect(),
        docker_host: arguments.docker_host.clone(),
        yum: yum::Options {
            keyrings: arguments.keyring.clone(),
            key_url: std::env::var("GPG").ok().filter(|url| !url.is_empty()),
            check_signatures: !arguments.no_check_signatures,
            allow_sha1: arguments.allow_sha1,
            ..yum::Options::default()
        },
        debian: debian.with_environment(|name| std::env::var(name).ok()),
        concurrency: super::arguments::lookup("DOWNLOAD_CONCURRENCY", &|name| std::env::var(name).ok())
            .and_then(|text| text.parse().ok())
            .filter(|count| (1..=64).contains(count))
            .unwrap_or(docker::CONCURRENCY),
        trust: arguments.trust.trust(&|name| std::env::var(name).ok())?,
        unlocking: None,
        encryption: None,
        signatory: None,
        lock: Pins::default(),
        locked_by: None,
        moving: Default::default(),
        vaults: arguments.supply.vault.iter().map(|url| format!("{}/", url.trim_end_matches('/'))).collect(),
    })
}

/// The key that signs, unlocked before any work.
fn signatory(arguments: &BuildArguments, terminal: &Terminal) -> Result<Option<Arc<Signatory>>, Stop> {
    let Some(key) = &arguments.sign else { return Ok(None) };
    if arguments.sandbox || arguments.oci_layout {
        return Err(Stop::usage("--sign: only SIF images can be signed"));
    }
    let with = SignWithArguments::named(key, arguments.passphrase.clone());
    with.unlock(arguments.trust.keysdir.as_deref(), terminal).map(Arc::new).map(Some)
}

/// Whether a variable is for this program alone.
pub fn is_secret(name: &std::ffi::OsStr) -> bool {
    SECRET_VARIABLES.iter().any(|secret| name.to_string_lossy().ends_with(secret))
}

/// `v7`, from `--arch-variant 7` or `--arch arm32v7` (facts §2.2).
pub fn platform_variant(arch: Option<&str>, variant: Option<&str>) -> Option<String> {
    let named = match arch {
        Some("arm32v5") => Some("v5"),
        Some("arm32v6") => Some("v6"),
        Some("arm32v7") => Some("v7"),
        Some("arm64v8") => Some("v8"),
        _ => None,
    };
    let given = variant.filter(|text| !text.is_empty());
    given.or(named).map(|text| {
        if text.starts_with(|digit: char| digit.is_ascii_digit()) { format!("v{text}") } else { text.to_owned() }
    })
}
