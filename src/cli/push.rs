//! `sifbuild push`: images to a registry.

use super::build::{Stop, finish};
use super::exchange::{RegistryArguments, annotations, oras_reference, parse_arch, source, with_registry};
use super::progress::Terminal;
use super::{GlobalArguments, session};
use crate::agent::oras::push::{Image, Options, Pushed, push};
use crate::arch::Arch;
use crate::event::{Event, Observer};
use crate::fetch::registry::Placed;
use crate::oci::artifact::DESCRIPTION;
use clap::Args;
use std::path::PathBuf;

/// Push images (SIF files) to a registry
#[derive(Args, Clone, Debug)]
pub struct PushArguments {
    /// The image; several, for different architectures, come under one tag
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// oras://REGISTRY/REPOSITORY[:TAG]
    pub uri: String,
    /// Put the image beside those for other architectures under the same tag
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
    /// Annotation of the manifest, as KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Description of the image (an annotation)
    #[arg(short = 'D', long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Another repository of the same registry, from which blobs are taken instead of being sent
    #[arg(long, value_name = "REPOSITORY")]
    pub mount_from: Option<String>,
    /// Replace what else the tag names
    #[arg(short = 'F', long)]
    pub force: bool,
    /// Accepted: signatures are not asked for
    #[arg(short = 'U', long, hide = true)]
    pub allow_unsigned: bool,
    #[command(flatten)]
    pub registry: RegistryArguments,
}

pub fn run(arguments: PushArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    finish(push_all(arguments, &terminal))
}

fn push_all(mut arguments: PushArguments, terminal: &Terminal) -> Result<(), Stop> {
    if arguments.uri.starts_with("library://") {
        return Err(Stop::usage(
            "images are not pushed to libraries; registries take them: oras://REGISTRY/REPOSITORY:TAG",
        ));
    }
    let reference = oras_reference(&arguments.uri)?;
    let options = options(&arguments)?;
    let images =
        arguments.images.iter().map(|path| Image::open(path).map_err(source)).collect::<Result<Vec<_>, _>>()?;
    check_architectures(&arguments, &images)?;
    let bytes: u64 = images.iter().map(Image::size).sum();
    terminal.observe(Event::Info(format!("Pushing {reference} ({})", super::cache::human(bytes))));
    let mount_from = arguments.mount_from.clone();
    let pushed = with_registry(&mut arguments.registry, terminal, |registry| {
        let target = registry.push(&reference, mount_from.as_deref(), terminal).map_err(source)?;
        push(&target, &images, &options, terminal).map_err(source)
    })?;
    for (path, (_, placed)) in arguments.images.iter().zip(&pushed.images) {
        let how = match placed {
            Placed::Present => "was there".to_owned(),
            Placed::Mounted => "was mounted from another repository".to_owned(),
            Placed::Sent(bytes) => format!("was sent in {}", super::cache::human(*bytes)),
        };
        terminal.observe(Event::Detail(format!("{} {how}", path.display())));
    }
    let Pushed { digest, .. } = pushed;
    terminal.observe(Event::Info(format!("Push complete: {reference}")));
    println!("{}@{digest}", reference.name());
    Ok(())
}

fn options(arguments: &PushArguments) -> Result<Options, Stop> {
    let mut annotations = annotations(&arguments.annotation)?;
    annotations.extend(arguments.description.clone().map(|text| (DESCRIPTION.to_owned(), text)));
    let now = session::date().map_err(Stop::usage)?;
    Ok(Options { annotations, index: arguments.arch.is_some(), force: arguments.force, now })
}

fn check_architectures(arguments: &PushArguments, images: &[Image]) -> Result<(), Stop> {
    let given = arguments.arch.as_deref().map(parse_arch).transpose()?;
    for (number, (path, image)) in arguments.images.iter().zip(images).enumerate() {
        let told = image.arch().map_or("none", Arch::oci);
        if let Some(given) = given.filter(|given| image.arch() != Some(*given)) {
            return Err(Stop::usage(format!("--arch {given}: {} says that it is for {told}", path.display())));
        }
        if images[..number].iter().any(|other| other.arch() == image.arch()) {
            return Err(Stop::usage(format!("{}: another of the images is for {told}, too", path.display())));
        }
    }
    Ok(())
}
