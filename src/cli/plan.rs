//! `sifbuild plan`: what a build would do, and why, without doing it.

use super::arguments::BuildArguments;
use super::build::{Stop, finish, with_engine};
use super::progress::Terminal;
use super::{GlobalArguments, exit};
use crate::build;
use crate::plan::{KeyDocument, Step, render};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

/// Show the steps of a build, in order, each with `run` or `reuse` and why.
#[derive(Args, Clone, Debug)]
pub struct PlanArguments {
    /// A definition file, an image, or a URI
    pub spec: String,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Value for {{ KEY }} in the definition, as KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub build_arg: Vec<String>,
    /// File of KEY=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub build_arg_file: Option<PathBuf>,
    /// Architecture of the image
    #[arg(long)]
    pub arch: Option<String>,
    /// Without %test
    #[arg(short = 'T', long)]
    pub notest: bool,
    /// Ask no network
    #[arg(long)]
    pub offline: bool,
    /// Directory for what is kept between builds
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
}

pub fn run(arguments: PlanArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    let json = arguments.json;
    let build = BuildArguments {
        target: PathBuf::from("plan.sif"),
        spec: arguments.spec,
        build_arg: arguments.build_arg,
        build_arg_file: arguments.build_arg_file,
        arch: arguments.arch,
        notest: arguments.notest,
        offline: arguments.offline,
        cache_dir: arguments.cache_dir,
        debian_variant: "minbase".to_owned(),
        ..BuildArguments::default()
    };
    finish(with_engine(build, &terminal, &|definition, engine, options| {
        let (plan, decisions) = build::decide(definition, engine, options)?;
        let kept: Vec<KeyDocument> =
            engine.store.documents().iter().filter_map(|text| KeyDocument::parse(text).ok()).collect();
        let previous = |step: &Step| nearest(step, &kept);
        let text = match json {
            true => format!("{:#}\n", render::json(&plan, &decisions, &previous)),
            false => render::text(&plan, &decisions, &previous),
        };
        std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| Stop { text: format!("cannot write the plan: {error}"), code: exit::OUTPUT })
    }))
}

/// The kept document that differs least from the step's own: most likely the same step of an earlier build.
fn nearest(step: &Step, kept: &[KeyDocument]) -> Option<KeyDocument> {
    let own = step.document()?;
    let same_action = |document: &&KeyDocument| document.value("action") == own.value("action");
    kept.iter().filter(same_action).min_by_key(|document| document.differences(own).len()).cloned()
}
