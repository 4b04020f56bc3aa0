//! A plan and its decisions for people and for programs (`sifbuild plan`).

use super::prune::{Decision, Verdict, explain};
use super::step::Step;
use super::{KeyDocument, Plan};
use serde_json::{Value, json};
use std::fmt::Write;

/// Lines of difference shown for one step.
const MAXIMUM_DIFFERENCES: usize = 20;

/// The document that a step had in an earlier build, if it is known.
pub type Previous<'a> = &'a dyn Fn(&Step) -> Option<KeyDocument>;

/// One line a step: verdict, name, line of the definition, what is done, why; below a step that runs again, what
/// changed.
pub fn text(plan: &Plan, decisions: &[Decision], previous: Previous<'_>) -> String {
    let width = plan.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
    let lines_width = plan.steps.iter().map(|step| step.line.to_string().len()).max().unwrap_or(0);
    let mut text = String::new();
    for number in &plan.unneeded {
        let name = plan.stages[*number].name.as_ref().map_or_else(String::new, |name| format!(" ({})", name.value));
        let _ = writeln!(text, "stage {}{name} is left out: nothing is taken from it", number + 1);
    }
    for decision in decisions {
        let step = plan.step(decision.step);
        let _ = writeln!(
            text,
            "{:5}  {:width$}  line {:lines_width$}  {}: {}",
            decision.verdict.name(),
            step.name,
            step.line,
            step.action.describe(),
            decision.why
        );
        let changes = changes(step, decision, previous);
        let lines: Vec<&str> = changes.lines().collect();
        for line in lines.iter().take(MAXIMUM_DIFFERENCES) {
            let _ = writeln!(text, "       {line}");
        }
        if lines.len() > MAXIMUM_DIFFERENCES {
            let _ = writeln!(text, "       … {} more lines differ", lines.len() - MAXIMUM_DIFFERENCES);
        }
    }
    text
}

/// As [`text`], as one JSON object.
pub fn json(plan: &Plan, decisions: &[Decision], previous: Previous<'_>) -> Value {
    let steps: Vec<Value> = decisions
        .iter()
        .map(|decision| {
            let step = plan.step(decision.step);
            let needs: Vec<&str> = step.needs.iter().map(|need| plan.step(*need).name.as_str()).collect();
            json!({
                "name": step.name,
                "stage": step.stage,
                "line": step.line,
                "action": step.action.describe(),
                "needs": needs,
                "decision": decision.verdict.name(),
                "why": decision.why.to_string(),
                "key": step.key().map(ToString::to_string),
                "changes": changes(step, decision, previous).lines().collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "steps": steps, "unneededStages": plan.unneeded })
}

fn changes(step: &Step, decision: &Decision, previous: Previous<'_>) -> String {
    if decision.verdict != Verdict::Run {
        return String::new();
    }
    let differences = previous(step).map(|document| explain(step, &document)).unwrap_or_default();
    differences.iter().map(|difference| format!("{difference}\n")).collect()
}
