//! `sifbuild tag`, `sifbuild delete` and `sifbuild search`: names in a registry.

use super::GlobalArguments;
use super::build::{Stop, finish};
use super::exchange::{RegistryArguments, oras_reference, registry_host, source, with_registry};
use super::progress::Terminal;
use crate::event::{Event, Observer};
use crate::oci::artifact::sif_of;
use crate::oci::manifest::{self, Document, OCI_INDEX, OCI_MANIFEST};
use crate::oci::reference::Reference;
use clap::Args;
use std::io::{BufRead, IsTerminal};

/// Give an image in a registry further tags
#[derive(Args, Clone, Debug)]
pub struct TagArguments {
    /// oras://REGISTRY/REPOSITORY[:TAG]
    pub uri: String,
    #[arg(required = true)]
    pub tags: Vec<String>,
    #[command(flatten)]
    pub registry: RegistryArguments,
}

/// Delete an image in a registry
#[derive(Args, Clone, Debug)]
pub struct DeleteArguments {
    /// oras://REGISTRY/REPOSITORY:TAG or oras://REGISTRY/REPOSITORY@DIGEST
    pub uri: String,
    /// Do not ask
    #[arg(short = 'F', long)]
    pub force: bool,
    #[command(flatten)]
    pub registry: RegistryArguments,
}

pub fn run_tag(mut arguments: TagArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    finish((|| {
        let reference = oras_reference(&arguments.uri)?;
        let named = |tag: &String| {
            let text = format!("{}:{tag}", reference.name());
            Reference::parse(&text).map_err(|error| Stop::usage(error.to_string())).map(|_| ())
        };
        arguments.tags.iter().try_for_each(named)?;
        let tags = arguments.tags.clone();
        with_registry(&mut arguments.registry, &terminal, |registry| {
            let push = registry.push(&reference, None, &terminal).map_err(source)?;
            let missing = || source(format!("{reference} is not there: check the name and the tag"));
            let document = push.current(&reference.identifier()).map_err(source)?.ok_or_else(missing)?;
            let parsed = manifest::parse(&document.bytes, document.media_type.as_deref()).map_err(source)?;
            let (own, default) = match parsed {
                Document::Index(index) => (index.media_type, OCI_INDEX),
                Document::Manifest(image) => (image.media_type, OCI_MANIFEST),
            };
            let told = document.media_type.as_deref().unwrap_or(default);
            let media_type = if own.is_empty() { told } else { &own };
            for tag in &tags {
                push.manifest(tag, media_type, &document.bytes).map_err(source)?;
                terminal.observe(Event::Info(format!("{}:{tag} is {}", reference.name(), document.digest)));
            }
            Ok(())
        })
    })())
}

pub fn run_delete(mut arguments: DeleteArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    finish((|| {
        let reference = oras_reference(&arguments.uri)?;
        if !arguments.force && !confirmed(&reference)? {
            return Err(Stop { text: "nothing was deleted".to_owned(), code: super::exit::TARGET });
        }
        with_registry(&mut arguments.registry, &terminal, |registry| {
            let Err(error) = registry.delete(&reference, &terminal) else {
                terminal.observe(Event::Info(format!("Deleted {reference}")));
                return Ok(());
            };
            // Many registries delete no tags but only what they name.
            if reference.digest.is_some() || !matches!(error.status(), Some(400 | 404 | 405)) {
                return Err(source(explain(&error)));
            }
            let push = registry.push(&reference, None, &terminal).map_err(source)?;
            let missing = || source(format!("{reference} is not there: check the name and the tag"));
            let document = push.current(&reference.identifier()).map_err(source)?.ok_or_else(missing)?;
            let by_digest = Reference { digest: Some(document.digest.clone()), ..reference.clone() };
            let others: Vec<String> = registry
                .tags(&reference, &terminal)
                .unwrap_or_default()
                .into_iter()
                .filter(|tag| Some(tag.as_str()) != reference.tag())
                .filter(|tag| matches!(push.current(tag), Ok(Some(other)) if other.digest == document.digest))
                .collect();
            if !others.is_empty() && !arguments.force {
                let others = others.join(", ");
                return Err(source(format!(
                    "this registry cannot delete the tag alone, and the same image has the tags {others}, which would go, too; --force deletes all"
                )));
            }
            registry.delete(&by_digest, &terminal).map_err(|error| source(explain(&error)))?;
            terminal.observe(Event::Info(format!("Deleted {reference} ({})", document.digest)));
            Ok(())
        })
    })())
}

fn explain(error: &crate::fetch::FetchError) -> String {
    match error.status() {
        Some(405) => {
            format!("{error}; this registry is not set up to delete (docker's registry: storage.delete.enabled)")
        }
        _ => error.to_string(),
    }
}

fn confirmed(reference: &Reference) -> Result<bool, Stop> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Stop::usage(format!("{reference} is deleted without being asked for only with --force")));
    }
    eprint!("Delete {reference}? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What a registry has: `oras://HOST` its repositories, `oras://HOST/REPOSITORY` the tags.
pub fn search_registry(uri: &str, arguments: &mut RegistryArguments, terminal: &Terminal) -> Result<(), Stop> {
    let rest = uri.strip_prefix("oras://").unwrap_or(uri).trim_end_matches('/');
    if !rest.contains('/') {
        let host = registry_host(uri)?;
        return with_registry(arguments, terminal, |registry| {
            for name in sorted(registry.repositories(&host, terminal).map_err(source)?) {
                println!("oras://{host}/{}", shown(&name));
            }
            Ok(())
        });
    }
    let reference = oras_reference(uri)?;
    with_registry(arguments, terminal, |registry| {
        for tag in sorted(registry.tags(&reference, terminal).map_err(source)?) {
            let named = Reference { tag: Some(tag.clone()), digest: None, ..reference.clone() };
            println!("oras://{}:{}  {}", reference.name(), shown(&tag), kind(registry, &named, terminal));
        }
        Ok(())
    })
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

/// What a tag names, in a few words.
fn kind(registry: &crate::fetch::registry::Registry<'_>, named: &Reference, terminal: &Terminal) -> String {
    let document = registry.pull(named, terminal).and_then(|pull| pull.manifest());
    let Ok(document) = document else { return "(cannot be read)".to_owned() };
    match manifest::parse(&document.bytes, document.media_type.as_deref()) {
        Ok(Document::Index(index)) => {
            format!("several images: {}", shown(&index.platforms().collect::<Vec<_>>().join(", ")))
        }
        Ok(Document::Manifest(image)) => match sif_of(&image) {
            Ok(sif) => format!("SIF, {}", super::cache::human(sif.size)),
            Err(_) => "not a SIF".to_owned(),
        },
        Err(_) => "(unknown)".to_owned(),
    }
}

/// A registry's text for a terminal.
pub fn shown(text: &str) -> String {
    text.chars().take(200).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
