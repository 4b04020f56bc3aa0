//! Which steps of a plan run, given what earlier builds left.

use super::Plan;
use super::key::{Difference, Key, KeyDocument};
use super::step::{Action, Reuse, Step, StepId};
use std::fmt;

/// What becomes of one step, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub step: StepId,
    pub verdict: Verdict,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Run,
    /// What is stored under its key stands for it.
    Reuse,
    /// Nothing that runs needs it.
    Skip,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    Stored,
    NotStored,
    /// Written anew in every build.
    Anew,
    Output,
    Never {
        because: String,
        line: usize,
    },
    NotNeeded,
}

/// Decides for every step, in the plan's order: walks back from the output, from tests and from what runs on the
/// host, and stops at every key that `recalled` knows.
///
/// A recalled key stands for the whole filesystem after its step, the layers below included; for a test, that it
/// passed.
pub fn prune(plan: &Plan, recalled: &dyn Fn(&Key) -> bool) -> Vec<Decision> {
    let mut needed: Vec<bool> = plan.steps.iter().map(|step| is_wanted_for_itself(&step.action)).collect();
    let mut decisions = Vec::with_capacity(plan.steps.len());
    for step in plan.steps.iter().rev() {
        let (verdict, why) = match &step.reuse {
            _ if !needed[step.id.0] => (Verdict::Skip, Why::NotNeeded),
            Reuse::Keyed { key, .. } if recalled(key) => (Verdict::Reuse, Why::Stored),
            Reuse::Keyed { .. } => (Verdict::Run, Why::NotStored),
            Reuse::Anew if matches!(step.action, Action::Pack) => (Verdict::Run, Why::Output),
            Reuse::Anew => (Verdict::Run, Why::Anew),
            Reuse::Never { because, line } => (Verdict::Run, Why::Never { because: because.clone(), line: *line }),
        };
        if verdict == Verdict::Run {
            step.needs.iter().for_each(|need| needed[need.0] = true);
        }
        decisions.push(Decision { step: step.id, verdict, why });
    }
    decisions.reverse();
    decisions
}

/// What changed since `previous`, the document that the same step had in an earlier build. When something besides
/// the keys of the steps before changed, only that is told.
pub fn explain(step: &Step, previous: &KeyDocument) -> Vec<Difference> {
    let Some(document) = step.document() else { return Vec::new() };
    let all = previous.differences(document);
    let is_key = |difference: &Difference| matches!(difference.name.as_str(), "parent" | "source");
    let own: Vec<Difference> = all.iter().filter(|difference| !is_key(difference)).cloned().collect();
    if own.is_empty() { all } else { own }
}

fn is_wanted_for_itself(action: &Action) -> bool {
    matches!(action, Action::Pack | Action::Test { .. } | Action::Pre { .. } | Action::Setup { .. })
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Run => "run",
            Verdict::Reuse => "reuse",
            Verdict::Skip => "skip",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Stored => formatter.write_str("its result is stored"),
            Why::NotStored => formatter.write_str("its result is not stored"),
            Why::Anew => formatter.write_str("written anew in every build"),
            Why::Output => formatter.write_str("it is the output"),
            Why::Never { because, line } => write!(formatter, "{because} (line {line})"),
            Why::NotNeeded => formatter.write_str("nothing that runs needs it"),
        }
    }
}
