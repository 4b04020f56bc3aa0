//! `sifbuild search`: what a registry has.

use super::GlobalArguments;
use super::build::{Stop, finish};
use super::exchange::RegistryArguments;
use super::progress::Terminal;
use super::tag::search_registry;
use clap::Args;

/// List the repositories of a registry or the tags of a repository; or search a library
#[derive(Args, Clone, Debug)]
pub struct SearchArguments {
    /// oras://REGISTRY, oras://REGISTRY/REPOSITORY, or the text to search a library for
    pub query: String,
    #[command(flatten)]
    pub registry: RegistryArguments,
}

pub fn run(mut arguments: SearchArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    let query = arguments.query.clone();
    finish(match query.starts_with("oras://") {
        true => search_registry(&query, &mut arguments.registry, &terminal),
        false => Err(Stop::usage(format!(
            "{query}: an address like oras://REGISTRY or oras://REGISTRY/REPOSITORY is needed"
        ))),
    })
}
