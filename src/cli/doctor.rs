//! `sifbuild doctor`: what this host can do for builds, and what to change where it cannot.

use super::build::{Stop, finish};
use super::exchange::{RegistryArguments, registry_host};
use super::progress::Terminal;
use super::{GlobalArguments, exit, session};
use crate::doctor::{self, Observations, Reached, Role};
use crate::event::{Event, Observer, Silent};
use crate::fetch::registry::Registry;
use crate::sandbox;
use std::io::Write;
use std::path::PathBuf;

/// Try what builds need of this host, and say the mode, the cause and the remedy of what fails
#[derive(clap::Args, Clone, Debug, Default)]
pub struct DoctorArguments {
    /// Registries to reach, as docker://HOST
    #[arg(value_name = "REGISTRY")]
    registries: Vec<String>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
    /// Directory of the cache
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Where a build that keeps nothing works
    #[arg(long, value_name = "DIR")]
    tmpdir: Option<PathBuf>,
    /// Directory where images will go [default: the current one]
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArguments,
}

/// 0 where a definition with `%post` can be built; else as the build would end.
pub fn run(arguments: DoctorArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    match examine(arguments, &terminal) {
        Ok(code) => code,
        Err(stop) => finish(Err(stop)),
    }
}

fn examine(mut arguments: DoctorArguments, terminal: &Terminal) -> Result<u8, Stop> {
    let hosts = arguments.registries.iter().map(|uri| registry_host(uri)).collect::<Result<Vec<String>, Stop>>()?;
    let store = session::cache_directory(arguments.cache_dir.as_deref());
    let fault = |error: sandbox::Error| Stop { text: error.to_string(), code: exit::SANDBOX };
    let temporary = arguments.tmpdir.clone().or_else(temporary_directory).unwrap_or_else(std::env::temp_dir);
    let target = match &arguments.target_dir {
        Some(directory) => (Role::Target, directory.clone()),
        None => (Role::Current, PathBuf::from(".")),
    };
    // Invariant: the network's client starts threads; what changes namespaces comes before.
    let mut observations = Observations {
        host: sandbox::observe_host(),
        range: sandbox::observe_range().map_err(fault)?,
        single: sandbox::observe_single().map_err(fault)?,
        inside: sandbox::observe_inside(&store).map_err(fault)?,
        places: [(Role::Store, &store), (Role::Temporary, &temporary), (target.0, &target.1)]
            .into_iter()
            .map(|(role, path)| sandbox::observe_place(role, path))
            .collect(),
        fuse: sandbox::observe_fuse(),
        registries: Vec::new(),
    };
    observations.registries = reach(&hosts, &mut arguments.registry, terminal)?;
    let report = doctor::judge(&observations);
    let text = match arguments.json {
        true => format!("{:#}\n", doctor::json(&report, &observations)),
        false => doctor::text(&report, &observations),
    };
    // Who closes the pipe has read enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(match (report.stores, report.executes) {
        (false, _) => exit::OUTPUT,
        (true, false) => exit::SANDBOX,
        (true, true) => exit::SUCCESS,
    })
}

fn temporary_directory() -> Option<PathBuf> {
    let value = super::arguments::lookup("TMPDIR", &|name| std::env::var(name).ok());
    value.filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Asks each registry whether it is there; one that wants a login is.
fn reach(hosts: &[String], arguments: &mut RegistryArguments, terminal: &Terminal) -> Result<Vec<Reached>, Stop> {
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    arguments.complete()?;
    let connections = arguments.connect().map_err(|text| Stop { text, code: exit::SOURCE })?;
    for warning in &connections.configuration.warnings {
        terminal.observe(Event::Warning(warning.clone()));
    }
    let (fetch, no_https) = (connections.fetch, connections.no_https);
    let registry = Registry::new(fetch.as_ref(), connections.credentials, connections.configuration, no_https);
    let ask = |host: &String| match registry.check_login(host, &Silent) {
        Err(error) if error.status().is_none() => (host.clone(), Err(error.to_string())),
        _ => (host.clone(), Ok(())),
    };
    Ok(hosts.iter().map(ask).collect())
}
