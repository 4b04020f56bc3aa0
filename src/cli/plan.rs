//! `sifbuild plan`: what a build would do, and why, without doing it.

use super::arguments::{BuildArguments, DefinitionArguments};
use super::build::{Stop, finish, with_engine};
use super::progress::Terminal;
use super::{GlobalArguments, exit};
use crate::build;
use crate::plan::{KeyDocument, Step, render};
use clap::Args;
use std::io::Write;

/// Show the steps of a build, in order, each with `run` or `reuse` and why.
#[derive(Args, Clone, Debug)]
pub struct PlanArguments {
    /// A definition file, an image, or a URI
    pub spec: String,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub definition: DefinitionArguments,
    /// Without %test
    #[arg(short = 'T', long)]
    pub notest: bool,
    /// Ask no network
    #[arg(long)]
    pub offline: bool,
}

pub fn run(arguments: PlanArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    let json = arguments.json;
    let build = BuildArguments {
        notest: arguments.notest,
        offline: arguments.offline,
        ..arguments.definition.build(arguments.spec, "plan.sif")
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
