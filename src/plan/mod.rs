//! What will be done, in order, as a value: printed, compared and tested without doing it.
//!
//! Source: facts §1.6 (order of one stage), design "Plan" and "Key". A plan asks nothing: all answers are in
//! [`Pins`]. Each step says what it needs and whether its result may be reused; [`prune`] decides, walking back from
//! the output, which of them run.

mod key;
mod order;
mod prune;
pub mod render;
mod sections;
mod step;

pub use key::{Difference, KEY_VERSION, Key, KeyDocument, KeyDocumentError};
pub use prune::{Decision, Verdict, Why, explain, prune};
pub use sections::{Sections, SectionsError};
pub use step::{Action, AppFile, HostFile, Reuse, Step, StepId};

use crate::arch::Arch;
use crate::definition::{Definition, Stage};
use crate::digest::Digest;
use crate::pins::Pins;
use std::collections::BTreeMap;

/// The steps of a build in the order in which they are performed; the last one writes the image.
#[derive(Clone, Debug)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// The definition's stages as far as they are performed (`--section`), all of them, in order.
    pub stages: Vec<Stage>,
    /// Stages without steps: the last one takes nothing from them, and they run nothing on the host.
    ///
    /// Compat: Apptainer builds them and throws them away.
    pub unneeded: Vec<usize>,
}

/// What of the command line and the host decides results.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    pub arch: Arch,
    pub sections: Sections,
    /// `--notest`.
    pub notest: bool,
    /// How owners inside the image are made.
    pub id_mode: IdMode,
    /// How far the fakeroot goes.
    pub fakeroot: Option<&'static str>,
    pub network: Network,
    /// `--bind` and `--mount`, as the sandbox takes them.
    pub binds: Vec<String>,
    /// What scripts see of the caller's environment, beyond what is the same in every build.
    pub environment: BTreeMap<String, String>,
    /// Of all that `%test` sees of the caller's environment: it may hold secrets, which no key may show.
    pub test_environment: Option<Digest>,
}

impl PlanOptions {
    /// All sections, the host's network, no binds.
    pub fn new(arch: Arch, id_mode: IdMode) -> PlanOptions {
        PlanOptions {
            arch,
            sections: Sections::all(),
            notest: false,
            id_mode,
            fakeroot: None,
            network: Network::Host,
            binds: Vec::new(),
            environment: BTreeMap::new(),
            test_environment: None,
        }
    }
}

/// Whose ids a script runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMode {
    /// Real root.
    Root,
    /// A subordinate range.
    Range,
    /// One id, with the built-in fakeroot.
    Single,
}

impl IdMode {
    pub fn name(self) -> &'static str {
        match self {
            IdMode::Root => "root",
            IdMode::Range => "range",
            IdMode::Single => "single",
        }
    }
}

/// What network a script sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Host,
    None,
}

impl Network {
    pub fn name(self) -> &'static str {
        match self {
            Network::Host => "host",
            Network::None => "none",
        }
    }
}

/// Plans the build of `definition`, whose stages `pins` answers in the same order.
///
/// Panics when `pins` has another number of stages: pins are made from the definition that is planned.
pub fn plan(definition: &Definition, pins: &Pins, options: &PlanOptions) -> Plan {
    assert_eq!(definition.stages.len(), pins.stages.len(), "pins belong to another definition");
    order::order(definition, pins, options)
}

impl Plan {
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.0]
    }
}

#[cfg(test)]
mod tests;
