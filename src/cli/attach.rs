//! `sifbuild attach` and `sifbuild attachments`: files beside an image in a registry.

use super::build::{Stop, finish};
use super::exchange::{RegistryArguments, annotations, oras_reference, parse_arch, source, with_registry};
use super::progress::Terminal;
use super::tag::shown;
use super::{GlobalArguments, session};
use crate::agent::oras::attach::{self, Attachment};
use crate::event::{Event, Observer};
use crate::oci::artifact::TITLE;
use crate::oci::manifest::Target;
use crate::oci::reference::Reference;
use clap::Args;
use std::path::PathBuf;

/// Attach a file (an SBOM, a signature, a report) to an image in a registry
#[derive(Args, Clone, Debug)]
pub struct AttachArguments {
    pub file: PathBuf,
    /// oras://REGISTRY/REPOSITORY[:TAG]
    pub uri: String,
    /// What the file is: a media type like application/spdx+json
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_media_type)]
    pub artifact_type: String,
    /// Annotation of the attachment, as KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Attach to the image for this architecture, and not to the tag's index as a whole
    #[arg(long)]
    pub arch: Option<String>,
    #[command(flatten)]
    pub registry: RegistryArguments,
}

/// List what is attached to an image in a registry, or pull it
#[derive(Args, Clone, Debug)]
pub struct AttachmentsArguments {
    /// oras://REGISTRY/REPOSITORY[:TAG]
    pub uri: String,
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub artifact_type: Option<String>,
    /// Pull the files into this directory
    #[arg(long, value_name = "DIR")]
    pub pull: Option<PathBuf>,
    /// Replace files that are there
    #[arg(short = 'F', long)]
    pub force: bool,
    /// Of the image for this architecture
    #[arg(long)]
    pub arch: Option<String>,
    #[command(flatten)]
    pub registry: RegistryArguments,
}

/// Spec: RFC 6838: `TYPE/SUBTYPE`.
fn parse_media_type(text: &str) -> Result<String, String> {
    let word = |word: &str| {
        !word.is_empty()
            && word.len() <= 127
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    match text.split_once('/') {
        Some((kind, rest)) if word(kind) && word(rest) => Ok(text.to_owned()),
        _ => Err("it is a media type like application/spdx+json".to_owned()),
    }
}

fn target(arch: Option<&str>) -> Result<Option<Target>, Stop> {
    Ok(arch.map(parse_arch).transpose()?.map(|arch| Target::new(arch, None)))
}

pub fn run_attach(mut arguments: AttachArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    finish((|| {
        let reference = oras_reference(&arguments.uri)?;
        let (annotations, target) = (annotations(&arguments.annotation)?, target(arguments.arch.as_deref())?);
        let now = session::date().map_err(Stop::usage)?;
        let (file, kind) = (arguments.file.clone(), arguments.artifact_type.clone());
        let digest = with_registry(&mut arguments.registry, &terminal, |registry| {
            let subject = attach::subject(registry, &reference, target.as_ref(), &terminal).map_err(source)?;
            let push = registry.push(&reference, None, &terminal).map_err(source)?;
            attach::attach(&push, &subject, &file, &kind, &annotations, &now).map_err(source)
        })?;
        terminal.observe(Event::Info(format!("Attached {} to {reference}", file.display())));
        println!("{}@{digest}", reference.name());
        Ok(())
    })())
}

pub fn run_attachments(mut arguments: AttachmentsArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    finish((|| {
        let reference = oras_reference(&arguments.uri)?;
        let target = target(arguments.arch.as_deref())?;
        let (kind, directory, force) = (arguments.artifact_type.clone(), arguments.pull.clone(), arguments.force);
        with_registry(&mut arguments.registry, &terminal, |registry| {
            let subject = attach::subject(registry, &reference, target.as_ref(), &terminal).map_err(source)?;
            let found = attach::attachments(registry, &reference, &subject.digest, kind.as_deref(), &terminal);
            for attachment in found.map_err(source)? {
                print(&reference, &attachment);
                let Some(directory) = &directory else { continue };
                let paths = attach::pull(registry, &reference, &attachment, directory, force, &terminal);
                for path in paths.map_err(source)? {
                    terminal.observe(Event::Info(format!("Pulled {}", path.display())));
                }
            }
            Ok(())
        })
    })())
}

fn print(reference: &Reference, attachment: &Attachment) {
    println!("{}@{}  {}", reference.name(), attachment.digest, shown(&attachment.artifact_type));
    for file in &attachment.files {
        let title = file.annotations.get(TITLE).map_or("(no name)", String::as_str);
        println!("  {}  {}  {}", file.digest, super::cache::human(file.size), shown(title));
    }
}
