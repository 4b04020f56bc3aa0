//! `sifbuild exec`, `run`, `shell`, `test`: a program in an image, or in a kept step of a build, as Apptainer runs it.
//!
//! Without a setuid program: a SIF is mounted through FUSE by this program itself, or unpacked into the store once. This process
//! becomes the program.

mod caller;
mod environment;
mod image;
mod imitated;

use super::build::Stop;
use super::encryption::{self, KeyArguments};
use super::progress::Terminal;
use super::{GlobalArguments, arguments, binds, limits, render_error, session};
use crate::event::{Event, Observer};
use crate::sandbox::{self, Access, Bind, Fakeroot, IdMode, IdModeRequest, Program, Scope, Shown};
use caller::{Caller, Home};
use environment::{Action, Surroundings};
use image::{Subject, Unpacking};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What Apptainer ends with when the program cannot be started; all other codes are the program's.
const NOT_STARTED: u8 = 255;

impl Stop {
    fn before_start(text: impl Into<String>) -> Stop {
        Stop { text: text.into(), code: NOT_STARTED }
    }
}

#[derive(clap::Args, Clone, Debug, Default)]
pub struct ProgramArguments {
    /// Bind SOURCE[:DESTINATION[:ro]] into the container; may be repeated, commas separate
    #[arg(short = 'B', long, value_name = "SPEC")]
    bind: Vec<String>,
    /// Bind as type=bind,source=…,destination=…[,ro]; may be repeated
    #[arg(long, value_name = "SPEC")]
    mount: Vec<String>,
    /// Directory in the container where the program starts [default: the current one]
    #[arg(long, visible_alias = "cwd", value_name = "DIR")]
    pwd: Option<PathBuf>,
    /// Set a variable in the container, NAME=VALUE; may be repeated, commas separate
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// File of NAME=VALUE lines to set in the container
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Pass no variables of the caller but the terminal's and proxies
    #[arg(short = 'e', long)]
    cleanenv: bool,
    /// The app of the image that is meant
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Do not show the home directory
    #[arg(long)]
    no_home: bool,
    /// Another home directory: SOURCE[:DESTINATION]
    #[arg(short = 'H', long, value_name = "SPEC")]
    home: Option<String>,
    /// Be root in the container, with the subordinate ids that the user has
    #[arg(short = 'f', long)]
    fakeroot: bool,
    /// Let the program change the root; changes are in memory and gone with it
    #[arg(long)]
    writable_tmpfs: bool,
    /// Let the program change a sandbox directory itself
    #[arg(short = 'w', long, conflicts_with = "writable_tmpfs")]
    writable: bool,
    /// Memory file systems instead of the home, /tmp and /var/tmp
    #[arg(short = 'c', long)]
    contain: bool,
    /// Unpack the image into the store, once, also where it can be mounted: worth it for what is run often
    #[arg(long)]
    unpack: bool,
    /// Directory for what is kept between builds, and unpacked images
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArguments,
}

/// Run a program in an image or in a kept step
#[derive(clap::Args, Clone, Debug)]
pub struct ExecArguments {
    #[command(flatten)]
    program: ProgramArguments,
    /// Image or key of a kept step, then the program and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, allow_hyphen_values = true, value_names = ["IMAGE|STEP", "PROGRAM"])]
    words: Vec<OsString>,
}

/// Run the runscript of an image or of a kept step
#[derive(clap::Args, Clone, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    program: ProgramArguments,
    /// Image or key of a kept step, then the arguments of its runscript
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "IMAGE|STEP [ARGUMENT")]
    words: Vec<OsString>,
}

/// Run the test script of an image or of a kept step
#[derive(clap::Args, Clone, Debug)]
pub struct TestArguments {
    #[command(flatten)]
    program: ProgramArguments,
    /// Image or key of a kept step, then the arguments of its test script
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "IMAGE|STEP [ARGUMENT")]
    words: Vec<OsString>,
}

/// Open a shell in an image or in a kept step
#[derive(clap::Args, Clone, Debug)]
pub struct ShellArguments {
    #[command(flatten)]
    program: ProgramArguments,
    /// Path of the shell in the image [default: /bin/bash, else /bin/sh]
    #[arg(short = 's', long, value_name = "PATH")]
    shell: Option<String>,
    /// Image or key of a kept step, then arguments of the shell
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "IMAGE|STEP [ARGUMENT")]
    words: Vec<OsString>,
}

pub fn run_exec(arguments: ExecArguments, global: &GlobalArguments) -> u8 {
    start(Action::Exec, arguments.program, None, &arguments.words, global)
}

pub fn run_run(arguments: RunArguments, global: &GlobalArguments) -> u8 {
    start(Action::Run, arguments.program, None, &arguments.words, global)
}

pub fn run_test(arguments: TestArguments, global: &GlobalArguments) -> u8 {
    start(Action::Test, arguments.program, None, &arguments.words, global)
}

pub fn run_shell(arguments: ShellArguments, global: &GlobalArguments) -> u8 {
    start(Action::Shell, arguments.program, arguments.shell, &arguments.words, global)
}

/// Returns only when the program could not be started.
fn start(
    action: Action,
    arguments: ProgramArguments,
    shell: Option<String>,
    words: &[OsString],
    global: &GlobalArguments,
) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    let stop = match prepare(action, arguments, shell, words, &terminal) {
        Ok((program, Some((fakeroot, work)))) => match imitated::run(&program, fakeroot, &work, &terminal) {
            Ok(code) => return code as u8,
            Err(stop) => stop,
        },
        Ok((program, None)) => {
            let warn = |text: &str| terminal.observe(Event::Warning(text.to_owned()));
            Stop::before_start(sandbox::become_program(&program, &warn).to_string())
        }
        Err(stop) => stop,
    };
    render_error(&stop.text);
    // Any other code could be the program's.
    NOT_STARTED
}

fn prepare(
    action: Action,
    mut arguments: ProgramArguments,
    shell: Option<String>,
    words: &[OsString],
    terminal: &Terminal,
) -> Result<(Program, Option<(Fakeroot, PathBuf)>), Stop> {
    let variable = |name: &str| std::env::var(name).ok();
    arguments.fill(&variable);
    let (image, argv) = words.split_first().ok_or_else(|| Stop::usage("no image is named"))?;
    let image = image.to_str().ok_or_else(|| Stop::usage("the image's name is not UTF-8"))?;
    if image.starts_with('-') {
        return Err(Stop::usage(format!(
            "unexpected argument {image}; flags come before the image, and --help lists them"
        )));
    }
    let binds = binds::binds(&arguments.bind, &arguments.mount)?;
    let given = arguments.given_variables()?;
    let caller = Caller::look()?;
    let store = session::cache_directory(arguments.cache_dir.as_deref());
    let subject = image::recognise(image, &store)?;
    let access = arguments.access(&subject)?;
    let key = arguments.key.key(&variable, false)?;
    let unlocking = key.map(|key| encryption::unlocking(key, session::available_memory()));
    // A step is looked into as its script was run.
    let as_root = arguments.fakeroot || subject.is_step();
    let mode = enter(&subject, arguments.fakeroot)?;
    let imitates = as_root && mode == IdMode::Single && sandbox::try_fakeroot(Scope::Everything).is_ok();
    let threads = limits::limits(None, None, &crate::squashfs::Options::default(), &variable).threads;
    let unpacking = Unpacking {
        store: &store,
        mode,
        unlocking: unlocking.as_ref(),
        threads,
        unpack_always: arguments.unpack || imitates,
        observer: terminal,
    };
    let unpacked = unpacking.unpack(&subject)?;
    let fakeroot = if imitates { Some((unpacking.fakeroot(&subject)?, store.join("1/work"))) } else { None };
    let home = caller.home(arguments.home.as_deref(), as_root)?;
    let surroundings = Surroundings {
        caller: std::env::vars_os().filter(|(name, _)| !super::build::is_secret(name)).collect(),
        clean: arguments.cleanenv || subject.is_step(),
        given,
        app: arguments.app.clone(),
        name: Path::new(image).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        image: subject.to_string(),
        home: home.destination.clone().into_os_string(),
        binds: binds.iter().map(|bind| bind.destination.to_string_lossy()).collect::<Vec<_>>().join(","),
        shell,
    };
    let is_apart = arguments.contain || subject.is_step();
    let caller_directory = caller.directory.clone().filter(|_| !is_apart);
    let private = [Path::new("/tmp"), Path::new("/var/tmp"), &home.destination];
    let program = Program {
        root: unpacked.layers,
        access,
        shown: arguments.shown(&caller, &home, binds, &subject),
        private: private.iter().filter(|_| arguments.contain).map(|path| path.to_path_buf()).collect(),
        generated: caller.generated(&home.destination, as_root),
        directories: match arguments.pwd.clone() {
            Some(directory) => vec![directory],
            None => caller_directory.iter().cloned().chain([home.destination.clone(), "/".into()]).collect(),
        },
        caller_directory,
        argv: argv.to_vec(),
        prologue: surroundings.prologue(action),
        environment: surroundings.first(),
        plain_environment: surroundings.plain(action),
        identity: (mode == IdMode::Single && !as_root && caller.uid != 0).then_some((caller.uid, caller.gid)),
        place: unpacked.place,
    };
    Ok((program, fakeroot))
}

/// The namespaces that the subject's files are owned through.
fn enter(subject: &Subject, fakeroot: bool) -> Result<IdMode, Stop> {
    let fault = |error: sandbox::Error| Stop::before_start(error.to_string());
    let Some(mode) = subject.mode() else {
        return match fakeroot {
            true => sandbox::enter(IdModeRequest::Auto).map(|entered| entered.mode).map_err(fault),
            false => sandbox::enter_for_program().map_err(fault),
        };
    };
    let entered = match mode.starts_with("range-") {
        true => sandbox::enter(IdModeRequest::Range).map(|entered| entered.mode).map_err(fault)?,
        false => sandbox::enter_for_program().map_err(fault)?,
    };
    let own = session::store_mode();
    if own != mode {
        return Err(Stop::before_start(format!(
            "the step was built with other ids ({mode}) than this user has here ({own}); look into it as the user who built it"
        )));
    }
    Ok(entered)
}

impl ProgramArguments {
    /// Fills what the command line left open from the environment.
    fn fill(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        let text = |name: &str| arguments::lookup(name, variable).filter(|value| !value.is_empty());
        let yes = |name: &str| {
            text(name).is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
        };
        for (flag, name) in [
            (&mut self.cleanenv, "CLEANENV"),
            (&mut self.no_home, "NO_HOME"),
            (&mut self.fakeroot, "FAKEROOT"),
            (&mut self.writable_tmpfs, "WRITABLE_TMPFS"),
            (&mut self.contain, "CONTAIN"),
        ] {
            *flag |= yes(name);
        }
        self.app = self.app.take().or_else(|| text("APP"));
        self.home = self.home.take().or_else(|| text("HOME"));
        self.pwd = self.pwd.take().or_else(|| text("CWD").or_else(|| text("PWD")).map(PathBuf::from));
        self.env_file = self.env_file.take().or_else(|| text("ENV_FILE").map(PathBuf::from));
        self.mount.extend(text("MOUNT").iter().flat_map(|list| list.lines()).map(str::to_owned));
        self.bind.extend(text("BIND").or_else(|| text("BINDPATH")));
    }

    /// Places of the host, in the order of their mounts.
    fn shown(&self, caller: &Caller, home: &Home, binds: Vec<Bind>, subject: &Subject) -> Vec<Shown> {
        let mut shown = caller.shown(self.contain, subject.is_step());
        let without_home = self.no_home || self.contain || subject.is_step() && self.home.is_none();
        shown.extend((!without_home).then(|| home.shown()));
        shown.extend(binds.into_iter().map(|bind| Shown { bind, required: true }));
        shown
    }

    fn access(&self, subject: &Subject) -> Result<Access, Stop> {
        match (self.writable, self.writable_tmpfs, subject) {
            (true, _, Subject::Directory(_)) => Ok(Access::InPlace),
            (true, ..) => Err(Stop::usage(
                "--writable: only a sandbox directory can be changed; --writable-tmpfs changes in memory",
            )),
            (_, true, _) => Ok(Access::Discarded),
            // A shell to try things out in, as the script had it.
            (_, _, Subject::Step { .. } | Subject::Failed(..)) => Ok(Access::Discarded),
            _ => Ok(Access::ReadOnly),
        }
    }

    /// `--env-file`, then `--env`, which wins.
    fn given_variables(&self) -> Result<Vec<(String, String)>, Stop> {
        let mut lines = Vec::new();
        if let Some(path) = &self.env_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Stop::usage(format!("cannot read the variables of {}: {error}", path.display())))?;
            let is_content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
            lines.extend(
                text.lines().filter(is_content).map(|line| line.trim_start().trim_start_matches("export ").to_owned()),
            );
        }
        // Compat: commas separate, and one that no name follows belongs to the value.
        for text in &self.env {
            for part in text.split(',') {
                match (part.contains('='), lines.last_mut()) {
                    (false, Some(last)) => last.extend([",", part]),
                    _ => lines.push(part.to_owned()),
                }
            }
        }
        let split = |line: &String| match line.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), unquote(value).to_owned())),
            None => Err(Stop::usage(format!("{line}: a variable is set as NAME=VALUE"))),
        };
        lines.iter().map(split).collect()
    }
}

/// The value without one pair of quotes around it.
fn unquote(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}
