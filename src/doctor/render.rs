//! A report as text for people, and as JSON for programs.

use super::{Mode, Observations, Report, State};
use serde_json::{Value, json};

/// Lines for a terminal or a log; remedies that are good news are left out.
pub fn text(report: &Report, observations: &Observations) -> String {
    let host = &observations.host;
    let user = host.user.clone().unwrap_or_else(|| host.uid.to_string());
    let mut lines = vec![format!("Linux {}, user {user} ({})", host.kernel, host.uid)];
    lines.push(match report.mode {
        Some(Mode::Root) => "mode: root: scripts have all ids".to_owned(),
        Some(Mode::Range) => "mode: range: container root is the user, other ids are its subordinate ones".to_owned(),
        Some(Mode::Single) => "mode: single: container root is the user, and there are no other ids".to_owned(),
        None => "mode: none: nothing can be executed".to_owned(),
    });
    for finding in &report.findings {
        lines.push(format!("{:<7} {}: {}", finding.state.name(), finding.ability, finding.detail));
        for (name, text) in [("cause", &finding.cause), ("remedy", &finding.remedy)] {
            let Some(text) = text else { continue };
            for (number, line) in text.lines().enumerate() {
                let label = if number == 0 { format!("{name}:") } else { String::new() };
                lines.push(format!("        {label:<8}{line}"));
            }
        }
    }
    lines.push(conclusion(report));
    lines.join("\n") + "\n"
}

fn conclusion(report: &Report) -> String {
    match (report.executes, report.stores) {
        (true, true) => "Definitions with scripts can be built here.",
        (false, true) => {
            "Definitions with scripts cannot be built here; those that execute nothing can, and images can be converted."
        }
        (_, false) => "Nothing can be built here before the places above can be written.",
    }
    .to_owned()
}

/// One object; `ability` and `state` are stable.
pub fn json(report: &Report, observations: &Observations) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "ability": finding.ability,
                "state": finding.state.name(),
                "detail": finding.detail,
                "cause": finding.cause,
                "remedy": finding.remedy,
            })
        })
        .collect();
    json!({
        "version": 1,
        "kernel": observations.host.kernel,
        "uid": observations.host.uid,
        "mode": report.mode.map(Mode::name),
        "executes": report.executes,
        "stores": report.stores,
        "good": report.findings.iter().all(|finding| finding.state == State::Good),
        "findings": findings,
    })
}
