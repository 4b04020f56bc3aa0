//! `sifbuild solve`: which packages would be installed, and why.

use super::build::{Stop, finish};
use super::exchange::{RegistryArguments, parse_arch, source};
use super::progress::Terminal;
use super::{GlobalArguments, exit, session};
use crate::agent::yum::repository::Access;
use crate::agent::yum::{Choice, Question, Source, Trust, YumError, choose, read_keys};
use crate::arch::Arch;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Choose packages from RPM repositories for an empty root, as dnf would, and show them
#[derive(Args, Clone, Debug)]
pub struct SolveArguments {
    /// Packages: names, name-version, name.arch, patterns, provisions, files, @groups
    #[arg(required = true, value_name = "PACKAGE")]
    pub packages: Vec<String>,
    /// A repository as NAME=URL: its base, a list of mirrors or a metalink; NAME@PRIORITY=URL prefers lower numbers; may be repeated
    #[arg(long, required = true, value_name = "NAME=URL")]
    pub repo: Vec<String>,
    /// A module stream to choose, as MODULE:STREAM; may be repeated
    #[arg(long, value_name = "NAME:STREAM")]
    pub module: Vec<String>,
    /// Leave out what is only recommended
    #[arg(long)]
    pub no_weak: bool,
    /// Packages that are not to be chosen; patterns are known; may be repeated
    #[arg(long, value_name = "PACKAGE")]
    pub exclude: Vec<String>,
    /// Architecture of the root
    #[arg(long)]
    pub arch: Option<String>,
    /// File of keys that repositories are signed with; may be repeated
    #[arg(long, alias = "gpg-key", value_name = "FILE")]
    pub keyring: Vec<PathBuf>,
    /// Believe repositories whose signature does not hold
    #[arg(long)]
    pub no_check_signatures: bool,
    /// Accept SHA-1, which can be forged, as proof of what a repository lists
    #[arg(long)]
    pub allow_sha1: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Directory for what is kept between runs
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
}

pub fn run(arguments: SolveArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    finish(solve(&arguments, &terminal))
}

fn solve(arguments: &SolveArguments, terminal: &Terminal) -> Result<(), Stop> {
    let sources = arguments.repo.iter().map(|text| Source::parse(text)).collect::<Result<Vec<_>, _>>();
    let sources = sources.map_err(|error| Stop::usage(format!("--repo: {error}")))?;
    if let Some(twice) =
        sources.iter().enumerate().find(|(at, one)| sources[..*at].iter().any(|other| other.name == one.name))
    {
        return Err(Stop::usage(format!("--repo: {}", YumError::BadSource(twice.1.name.clone()))));
    }
    let question = Question {
        sources,
        modules: arguments.module.clone(),
        packages: arguments.packages.clone(),
        excluded: arguments.exclude.clone(),
        no_weak: arguments.no_weak,
        arch: arguments.arch.as_deref().map_or(Ok(Arch::host()), parse_arch)?,
        kept: None,
        files: Vec::new(),
    };
    let trust = Trust {
        keyring: read_keys(&arguments.keyring).map_err(source)?,
        check_signatures: !arguments.no_check_signatures,
        allow_sha1: arguments.allow_sha1,
        now: session::now().seconds,
    };
    let connections = RegistryArguments::default().connect().map_err(source)?;
    let access = Access {
        fetch: connections.fetch.as_ref(),
        observer: terminal,
        trust: &trust,
        cache: Some(session::cache_directory(arguments.cache_dir.as_deref()).join("rpm-metadata")),
    };
    let choice = choose(&access, &question).map_err(|error| Stop { code: code_of(&error), text: error.to_string() })?;
    match arguments.json {
        true => println!("{}", as_json(&choice)),
        false => print!("{}", as_text(&choice)),
    }
    Ok(())
}

fn code_of(error: &YumError) -> u8 {
    match error {
        YumError::Signature { .. } | YumError::NoKey { .. } | YumError::Block { .. } => exit::SIGNATURE,
        _ => exit::SOURCE,
    }
}

fn as_json(choice: &Choice) -> Value {
    let pool = &choice.pool;
    let install: Vec<Value> = choice
        .solution
        .install
        .iter()
        .map(|(package, reason)| {
            json!({
                "nevra": pool.nevra(*package),
                "repo": pool.repository_of(*package).name,
                "reason": reason.name(),
                "size": pool.packages()[*package].size,
                "checksum": pool.packages()[*package].checksum.to_string(),
            })
        })
        .collect();
    json!({ "install": install })
}

fn as_text(choice: &Choice) -> String {
    let pool = &choice.pool;
    let packages = &choice.solution.install;
    let width = packages.iter().map(|(package, _)| pool.nevra(*package).len()).max().unwrap_or(0);
    let mut text = String::new();
    for (package, reason) in packages {
        let repository = &pool.repository_of(*package).name;
        text.push_str(&format!("{:<width$}  {repository}  {}\n", pool.nevra(*package), reason.name()));
    }
    let size: u64 = packages.iter().map(|(package, _)| pool.packages()[*package].size).sum();
    text.push_str(&format!("{} packages, {:.1} MB\n", packages.len(), size as f64 / 1e6));
    text
}
