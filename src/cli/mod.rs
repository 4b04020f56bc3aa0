//! The edge: command line, environment, clock and terminal. One file a command; errors become text only here.

mod arguments;
mod attach;
mod binds;
mod build;
pub mod cache;
pub mod check;
mod compare;
mod doctor;
pub mod encryption;
mod exchange;
mod ids;
pub mod inspect;
mod judge;
mod key;
mod keyserver;
mod limits;
mod lock;
mod login;
mod passphrase;
mod plan;
mod progress;
mod pull;
mod push;
mod registry;
mod run_image;
mod search;
mod session;
pub mod sif;
mod sign;
mod solve;
mod tag;
mod trust;
mod vendor;
mod verify;
mod verify_reproducible;

use crate::build::BuildError;
use crate::sandbox;
use clap::{CommandFactory, Parser, Subcommand};
use progress::{ProgressForm, Verbosity};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

/// Exit codes, by kind of failure (README, "Exit codes").
pub mod exit {
    pub const SUCCESS: u8 = 0;
    /// Bad command line.
    pub const USAGE: u8 = 1;
    /// The definition has faults.
    pub const DEFINITION: u8 = 2;
    /// A section's script failed.
    pub const SCRIPT: u8 = 3;
    /// A base, a file or a package could not be had, or was not what it should be.
    pub const SOURCE: u8 = 4;
    /// No sandbox can be had on this host.
    pub const SANDBOX: u8 = 5;
    /// The image or the store could not be written.
    pub const OUTPUT: u8 = 6;
    /// The target exists and may not be replaced.
    pub const TARGET: u8 = 7;
    /// A signature does not hold, or is missing; a base is not one that may be built from.
    pub const SIGNATURE: u8 = 8;
    /// Two builds, or two images, are not the same.
    pub const DIFFERENCE: u8 = 9;
}

/// Builds Singularity and Apptainer images from definition files, without a daemon and without privileges.
#[derive(Parser, Debug)]
#[command(name = "sifbuild", version, max_term_width = 100)]
struct CommandLine {
    #[command(flatten)]
    global: GlobalArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args, Clone, Debug)]
struct GlobalArguments {
    /// Say more; twice as much is not possible
    #[arg(short = 'v', long, global = true)]
    verbose: bool,
    /// Say only warnings and errors
    #[arg(short = 'q', long, global = true)]
    quiet: bool,
    /// Say only errors
    #[arg(long)]
    silent: bool,
    /// As --verbose
    #[arg(short = 'd', long, hide = true)]
    debug: bool,
    /// No colours
    #[arg(long, global = true)]
    nocolor: bool,
    /// Form of the progress report
    #[arg(long, global = true, value_enum, default_value_t)]
    progress: ProgressForm,
}

#[derive(Subcommand, Debug)]
enum Command {
    Build(Box<arguments::BuildArguments>),
    /// Check definition files without building
    Check(check::CheckArguments),
    Plan(Box<plan::PlanArguments>),
    /// Show what an image says of itself
    Inspect(inspect::InspectArguments),
    /// Work on the parts of a SIF file
    Sif(sif::SifArguments),
    Compare(compare::CompareArguments),
    Sign(Box<sign::SignArguments>),
    Verify(Box<verify::VerifyArguments>),
    Key(Box<key::KeyArguments>),
    /// Show or shrink what is kept between builds
    Cache(cache::CacheArguments),
    Pull(Box<pull::PullArguments>),
    Push(Box<push::PushArguments>),
    Doctor(Box<doctor::DoctorArguments>),
    Exec(Box<run_image::ExecArguments>),
    Run(Box<run_image::RunArguments>),
    Shell(Box<run_image::ShellArguments>),
    Test(Box<run_image::TestArguments>),
    Tag(tag::TagArguments),
    Delete(tag::DeleteArguments),
    Search(search::SearchArguments),
    Solve(solve::SolveArguments),
    Lock(Box<lock::LockArguments>),
    Vendor(Box<vendor::VendorArguments>),
    Attach(attach::AttachArguments),
    Attachments(attach::AttachmentsArguments),
    /// Log in to registries, and see which login and settings are used
    Registry(registry::RegistryCommandArguments),
    /// Write a completion script for a shell to standard output
    Completions {
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    Man {
        directory: PathBuf,
    },
}

impl GlobalArguments {
    fn verbosity(&self) -> Verbosity {
        match self {
            _ if self.verbose || self.debug => Verbosity::Verbose,
            _ if self.silent => Verbosity::Silent,
            _ if self.quiet => Verbosity::Quiet,
            _ => Verbosity::Normal,
        }
    }
}

impl Command {
    /// Its work is to print: there is nothing else to bring to an end when nobody reads any more.
    fn shows(&self) -> bool {
        matches!(
            self,
            Command::Check(_)
                | Command::Plan(_)
                | Command::Inspect(_)
                | Command::Sif(_)
                | Command::Compare(_)
                | Command::Verify(_)
                | Command::Key(_)
                | Command::Cache(_)
                | Command::Search(_)
                | Command::Solve(_)
                | Command::Attachments(_)
                | Command::Registry(_)
                | Command::Completions { .. }
        )
    }
}

/// Runs one command line and gives the exit code.
pub fn run(arguments: &[OsString]) -> u8 {
    let line = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::SUCCESS };
        }
    };
    if line.command.shows() {
        sandbox::end_with_reader();
    }
    match line.command {
        Command::Build(arguments) => build::run(*arguments, &line.global),
        Command::Plan(arguments) => plan::run(*arguments, &line.global),
        Command::Check(arguments) => check::run(&arguments) as u8,
        Command::Inspect(arguments) => report(inspect::run(&arguments), exit::SOURCE),
        Command::Sif(arguments) => report(sif::run(&arguments), exit::SOURCE),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Sign(arguments) => sign::run(*arguments, &line.global),
        Command::Verify(arguments) => verify::run(*arguments, &line.global),
        Command::Key(arguments) => key::run(*arguments, &line.global),
        Command::Cache(arguments) => report(cache::run(&arguments), exit::OUTPUT),
        Command::Pull(arguments) => pull::run(*arguments, &line.global),
        Command::Tag(arguments) => tag::run_tag(arguments, &line.global),
        Command::Delete(arguments) => tag::run_delete(arguments, &line.global),
        Command::Search(arguments) => search::run(arguments, &line.global),
        Command::Solve(arguments) => solve::run(arguments, &line.global),
        Command::Lock(arguments) => lock::run(*arguments, &line.global),
        Command::Vendor(arguments) => vendor::run(*arguments, &line.global),
        Command::Attach(arguments) => attach::run_attach(arguments, &line.global),
        Command::Attachments(arguments) => attach::run_attachments(arguments, &line.global),
        Command::Registry(arguments) => registry::run(arguments, &line.global),
        Command::Doctor(arguments) => doctor::run(*arguments, &line.global),
        Command::Exec(arguments) => run_image::run_exec(*arguments, &line.global),
        Command::Run(arguments) => run_image::run_run(*arguments, &line.global),
        Command::Shell(arguments) => run_image::run_shell(*arguments, &line.global),
        Command::Test(arguments) => run_image::run_test(*arguments, &line.global),
        Command::Push(arguments) => push::run(*arguments, &line.global),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut CommandLine::command(), "sifbuild", &mut std::io::stdout());
            exit::SUCCESS
        }
        Command::Man { directory } => {
            let written = std::fs::create_dir_all(&directory)
                .and_then(|()| clap_mangen::generate_to(CommandLine::command(), &directory));
            report(
                written.map_err(|error| format!("cannot write manual pages to {}: {error}", directory.display())),
                exit::OUTPUT,
            )
        }
    }
}

fn report<E: std::fmt::Display>(result: Result<(), E>, code: u8) -> u8 {
    match result {
        Ok(()) => exit::SUCCESS,
        Err(error) => {
            render_error(&error.to_string());
            code
        }
    }
}

fn render_error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{:<9}{text}", "ERROR:");
}

/// The exit code of a failed build.
fn exit_code(error: &BuildError) -> u8 {
    use crate::build::Failure;
    match error.kind() {
        Failure::Definition => exit::DEFINITION,
        Failure::Script => exit::SCRIPT,
        Failure::Source => exit::SOURCE,
        Failure::Sandbox => exit::SANDBOX,
        Failure::Output => exit::OUTPUT,
        Failure::Target => exit::TARGET,
        Failure::Trust => exit::SIGNATURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
