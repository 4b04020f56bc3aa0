//! Scripts of a definition, run and judged.

use super::error::ScriptFailure;
use super::filesystem::{Filesystem, copy_root_metadata, new_directory};
use super::locate::locate;
use super::{BuildError, Engine, OnFail, Options, full};
use crate::definition::Script;
use crate::digest::Digest;
use crate::disk::{self, ScanOptions};
use crate::sandbox::{self, Bind, Ending, Outcome, Root, Run, StandardInput};
use crate::skeleton::script_argv;
use crate::store::{Contents, Held, Ownership};
use crate::tree::{Change, Layer, Tree};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `PATH` of scripts (facts §7.4).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where `%post` may add to the environment of the image.
const ENVIRONMENT_FILE: &str = "/.singularity.d/env/91-environment.sh";
/// What programs that write dates into their files take instead of the clock (reproducible-builds.org).
pub const EPOCH: &str = "SOURCE_DATE_EPOCH";
const LABELS_FILE: &str = "/.build.labels";

/// Which script, for messages.
pub struct Subject<'a> {
    /// `%post`.
    pub section: &'a str,
    /// `app.def:12`.
    pub place: String,
    /// What its commands are looked for in.
    pub script: Option<&'a Script>,
}

/// One program to run on a filesystem.
pub struct Job<'a> {
    pub subject: Subject<'a>,
    pub argv: Vec<String>,
    pub script: Option<(&'a str, Vec<u8>)>,
    pub environment: Vec<(OsString, OsString)>,
    pub binds: Vec<Bind>,
    pub read_only: bool,
    pub host_name_resolution: bool,
}

/// The clean environment of `%post` (facts §7.4).
pub fn post_environment(caller: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> = [
        ("HOME", "/root"),
        ("LANG", "C"),
        ("PATH", DEFAULT_PATH),
        ("APPTAINER_ENVIRONMENT", ENVIRONMENT_FILE),
        ("SINGULARITY_ENVIRONMENT", ENVIRONMENT_FILE),
        ("APPTAINER_LABELS", LABELS_FILE),
        ("SINGULARITY_LABELS", LABELS_FILE),
    ]
    .map(|(name, value)| (OsString::from(name), OsString::from(value)))
    .to_vec();
    environment.extend(passed(caller));
    environment
}

/// What a script sees of the caller's environment: terminal, proxies, and `APPTAINERENV_X` as `X`.
pub fn passed(caller: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut found = Vec::new();
    for (name, value) in caller {
        let Some(text) = name.to_str() else { continue };
        let lower = text.to_ascii_lowercase();
        let is_proxy = matches!(lower.as_str(), "http_proxy" | "https_proxy" | "ftp_proxy" | "all_proxy" | "no_proxy");
        if text == "TERM" || is_proxy {
            found.push((name.clone(), value.clone()));
        } else if let Some(inner) =
            ["SINGULARITYENV_", "APPTAINERENV_", "SIFBUILDENV_"].iter().find_map(|prefix| text.strip_prefix(prefix))
        {
            found.push((OsString::from(inner), value.clone()));
        }
    }
    found
}

/// What `%test` sees: a path and a home that exist in the image, and the rest of the caller's environment (facts §7.5).
pub fn test_environment(caller: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut environment = post_environment(&[]);
    environment.retain(|(name, _)| name == "PATH" || name == "HOME");
    let given = |(name, _): &&(OsString, OsString)| name != "PATH" && name != "HOME";
    environment.extend(caller.iter().filter(given).cloned());
    environment
}

/// Identifies what a test sees, without the variables that are another in every session and that a test of an image does not ask for.
pub fn digest_for_test(caller: &[(OsString, OsString)]) -> Digest {
    const SESSION: [&str; 13] = [
        "_",
        "COLUMNS",
        "DISPLAY",
        "LINES",
        "LS_COLORS",
        "MAIL",
        "OLDPWD",
        "PWD",
        "SHLVL",
        "TERM",
        "WAYLAND_DISPLAY",
        "WINDOWID",
        "XAUTHORITY",
    ];
    let is_of_session = |name: &str| {
        SESSION.contains(&name)
            || ["SSH_", "XDG_", "DBUS_", "SIFBUILD_"].iter().any(|prefix| name.starts_with(prefix))
            || name.to_ascii_lowercase().ends_with("_proxy")
    };
    let seen = test_environment(caller);
    let mut lines: Vec<Vec<u8>> = seen
        .iter()
        .filter(|(name, _)| !is_of_session(&name.to_string_lossy()))
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat())
        .collect();
    lines.sort();
    Digest::of(&lines.concat())
}

/// Runs a job; what it changed is a new layer, whose contents lie below `work`. `None` for a read-only run.
pub fn run(
    job: Job<'_>,
    filesystem: &mut Filesystem,
    work: &Path,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<Option<(Held, PathBuf)>, BuildError> {
    let ownership = engine.ownership();
    filesystem.materialize(work, ownership, options.threads, &mut |_| {})?;
    let (upper, kernel) = (new_directory(work, "upper")?, new_directory(work, "kernel")?);
    copy_root_metadata(&filesystem.tree, &upper, ownership)?;
    let argv = through_environment(&filesystem.tree, &job.argv);
    let mut lower = filesystem.directories();
    if lower.is_empty() {
        lower.push(new_directory(work, "empty")?);
    }
    let run = Run {
        root: Root::Overlay { lower, upper: upper.clone(), work: kernel },
        argv: argv.iter().map(OsString::from).collect(),
        environment: job.environment,
        working_directory: PathBuf::from("/"),
        umask: 0o002,
        binds: job.binds,
        read_only_root: job.read_only,
        host_name_resolution: job.host_name_resolution,
        script: job.script.map(|(path, bytes)| sandbox::Script { path_in_root: PathBuf::from(path), bytes }),
        step: job.subject.section.trim_start_matches('%').to_owned(),
        log: work.join(format!("{}.log", job.subject.section.trim_start_matches('%'))),
        standard_input: StandardInput::Inherit,
        interactive: false,
        fakeroot: engine.fakeroot(&filesystem.tree),
        temporary: work.to_path_buf(),
    };
    let outcome = sandbox::run(&run, engine.observer).map_err(|cause| BuildError::Sandbox {
        section: job.subject.section.to_owned(),
        place: job.subject.place.clone(),
        cause,
    })?;
    if !outcome.is_success() {
        return Err(failed(&job.subject, run, outcome, engine, options));
    }
    if job.read_only {
        return Ok(None);
    }
    let mut layer = disk::scan(&upper, &ScanOptions { overlay: true })?;
    if let Some(recorded) = &outcome.recorded {
        sandbox::correct(&mut layer, recorded).expect("what this program wrote a moment ago");
    } else if ownership == Ownership::IndexOnly {
        layer = with_known_owners(layer, &filesystem.tree);
    }
    Ok(Some((Held { layer, contents: Contents::Directory(upper.clone()) }, upper)))
}

/// `%pre` and `%setup`: on the host, with the stage's root at `rootfs`.
pub fn run_on_host(
    script: &Script,
    subject: Subject<'_>,
    rootfs: &Path,
    work: &Path,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<(), BuildError> {
    let file = work.join(subject.section.trim_start_matches('%'));
    std::fs::write(&file, &script.body).map_err(|cause| crate::store::StoreError::Path {
        action: "cannot write",
        path: file.clone(),
        cause,
    })?;
    let argv = script_argv(script, &file.to_string_lossy())
        .map_err(|error| BuildError::Header { place: subject.place.clone(), cause: error.to_string() })?;
    let mut environment = options.environment.clone();
    for prefix in ["APPTAINER", "SINGULARITY"] {
        environment.push((format!("{prefix}_ROOTFS").into(), rootfs.as_os_str().to_owned()));
        environment.push((format!("{prefix}_ENVIRONMENT").into(), ENVIRONMENT_FILE.into()));
    }
    let run = sandbox::HostScript {
        argv: argv.iter().map(OsString::from).collect(),
        environment,
        working_directory: options.directory.clone(),
        step: subject.section.trim_start_matches('%').to_owned(),
        log: file.with_extension("log"),
        standard_input: StandardInput::Inherit,
    };
    let outcome = sandbox::host_script(&run, engine.observer).map_err(|cause| BuildError::Sandbox {
        section: subject.section.to_owned(),
        place: subject.place.clone(),
        cause,
    })?;
    match outcome.is_success() {
        true => Ok(()),
        // The host itself is the state that it left.
        false => Err(BuildError::Script(Box::new(describe(&subject, outcome, None, engine)))),
    }
}

/// `%setup`: the stage's root is mounted at `rootfs` while the script runs on the host; what it changed is a layer.
pub fn setup(
    script: &Script,
    subject: Subject<'_>,
    rootfs: &Path,
    filesystem: &mut Filesystem,
    work: &Path,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<Held, BuildError> {
    let ownership = engine.ownership();
    filesystem.materialize(work, ownership, options.threads, &mut |_| {})?;
    let (upper, kernel) = (new_directory(work, "upper")?, new_directory(work, "kernel")?);
    copy_root_metadata(&filesystem.tree, &upper, ownership)?;
    let mut lower = filesystem.directories();
    if lower.is_empty() {
        lower.push(new_directory(work, "empty")?);
    }
    let root = Root::Overlay { lower, upper: upper.clone(), work: kernel };
    let place = subject.place.clone();
    let mounted = sandbox::mount_root(&root, rootfs).map_err(|cause| BuildError::Sandbox {
        section: "%setup".to_owned(),
        place,
        cause,
    })?;
    run_on_host(script, subject, rootfs, work, engine, options)?;
    drop(mounted);
    let layer = disk::scan(&upper, &ScanOptions { overlay: true })?;
    let layer = if ownership == Ownership::IndexOnly { with_known_owners(layer, &filesystem.tree) } else { layer };
    Ok(Held { layer, contents: Contents::Directory(upper) })
}

/// The image's environment files come first, as the runtime reads them before any program (facts §7.4).
fn through_environment(tree: &Tree, argv: &[String]) -> Vec<String> {
    const EXEC: &str = "/.singularity.d/actions/exec";
    let there = matches!(tree.resolve(EXEC.as_bytes(), true), Ok((_, Some(_))));
    let mut all: Vec<String> = if there { vec!["/bin/sh".to_owned(), EXEC.to_owned()] } else { Vec::new() };
    all.extend(argv.iter().cloned());
    all
}

fn failed(subject: &Subject<'_>, mut run: Run, outcome: Outcome, engine: &Engine<'_>, options: &Options) -> BuildError {
    let kept = options.keep_failed.then(|| run.temporary.clone());
    if kept.is_some() {
        // Without it the directory is there all the same, to be looked at by hand.
        let _ = sandbox::FailedStep::write(&run, outcome.recorded.as_deref(), engine.store.mode());
    }
    let mut failure = describe(subject, outcome, kept, engine);
    failure.can_look_around = options.on_fail != OnFail::Shell;
    failure.full = full::note_for_script(&failure.last_lines, engine, options);
    if options.on_fail == OnFail::Shell {
        use crate::event::Event;
        let place = run
            .script
            .as_ref()
            .map_or(String::new(), |script| format!("; the script is {}", script.path_in_root.display()));
        engine.observer.observe(Event::Warning(format!(
            "{} failed with {}: this is a shell in the state that it left{place}; leave with `exit`",
            failure.section, failure.status
        )));
        run.argv = vec!["/bin/sh".into()];
        run.interactive = true;
        if let Err(error) = sandbox::run(&run, engine.observer) {
            engine.observer.observe(Event::Warning(format!("no shell can be started: {error}")));
        }
    }
    BuildError::Script(Box::new(failure))
}

fn describe(subject: &Subject<'_>, outcome: Outcome, kept: Option<PathBuf>, engine: &Engine<'_>) -> ScriptFailure {
    let status = match outcome.ending {
        Ending::Exited(code) => format!("exit status {code}"),
        Ending::Signaled(signal) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("signal {signal}"),
            Err(_) => format!("signal {signal}"),
        },
    };
    let location =
        subject.script.zip(outcome.last_command.as_deref()).and_then(|(script, command)| locate(script, command));
    let name = subject.place.rsplit_once(':').map_or("", |(name, _)| name);
    ScriptFailure {
        section: subject.section.to_owned(),
        place: location.map_or_else(|| subject.place.clone(), |found| format!("{name}:{}", found.section)),
        command_place: location.map(|found| format!("{name}:{}", found.command)),
        status,
        duration: outcome.duration,
        command: outcome.last_command,
        last_lines: outcome.last_lines,
        log: outcome.log,
        kept,
        can_look_around: false,
        full: None,
        single_id: engine.id_mode == crate::plan::IdMode::Single && engine.fakeroot.is_none(),
    }
}

/// With one id the disk says that everything is root's; what lay below keeps the owner that its layer's index says.
fn with_known_owners(mut layer: Layer, below: &Tree) -> Layer {
    for entry in &mut layer.entries {
        if let Change::Put(metadata, kind) = &mut entry.change
            && let Some(id) = below.get(&entry.path)
        {
            let known = below.inode(id);
            if std::mem::discriminant(kind) == std::mem::discriminant(&known.node.kind())
                && (metadata.uid, metadata.gid) == (0, 0)
            {
                (metadata.uid, metadata.gid) = (known.metadata.uid, known.metadata.gid);
            }
        }
    }
    layer
}
