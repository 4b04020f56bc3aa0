//! `sifbuild search`: what a registry has.

use super::GlobalArguments;
use super::build::{Stop, finish};
use super::exchange::{RegistryArguments, parse_arch, source};
use super::progress::Terminal;
use super::tag::{search_registry, shown};
use crate::arch::Arch;
use crate::build::Connections;
use clap::Args;

/// List the repositories of a registry or the tags of a repository; or search a library
#[derive(Args, Clone, Debug)]
pub struct SearchArguments {
    /// oras://REGISTRY, oras://REGISTRY/REPOSITORY, or the text to search a library for
    pub query: String,
    /// Architecture of the images, in a library
    #[arg(long)]
    pub arch: Option<String>,
    #[command(flatten)]
    pub registry: RegistryArguments,
}

pub fn run(mut arguments: SearchArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    let query = arguments.query.clone();
    finish(match query.starts_with("oras://") {
        true => search_registry(&query, &mut arguments.registry, &terminal),
        false => search_library(&query, arguments, &terminal),
    })
}

fn search_library(text: &str, mut arguments: SearchArguments, terminal: &Terminal) -> Result<(), Stop> {
    let arch = arguments.arch.as_deref().map_or(Ok(Arch::host()), parse_arch)?;
    arguments.registry.complete()?;
    let Connections { fetch, library: settings, .. } = arguments.registry.connect().map_err(source)?;
    let library = settings.usual(fetch.as_ref(), terminal).map_err(source)?;
    for image in library.search(text, arch, terminal).map_err(source)? {
        println!("{}", shown(&image));
    }
    Ok(())
}
