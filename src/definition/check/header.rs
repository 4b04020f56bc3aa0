//! SB102: a base that is another one tomorrow. SB109: header keys that do nothing.

use super::Subject;
use crate::definition::Bootstrap;
use crate::definition::agents::keys;
use crate::definition::bootstrap::moving_tag;
use crate::definition::header::spelling;
use crate::definition::report::Report;

pub(super) fn check_moving_tag(report: &mut Report<'_>, subject: &Subject<'_>) {
    let from = match subject.bootstrap() {
        Some(Bootstrap::Docker(base)) => &base.from,
        Some(Bootstrap::Oras(base)) => &base.from,
        _ => return,
    };
    let name = &from.value;
    let Some(tag) = moving_tag(name) else { return };
    let message = if tag.is_empty() {
        format!("`{name}` has no tag, so that the base changes when its owner pushes another one")
    } else {
        format!("the tag `{tag}` moves: the base changes when its owner pushes another one")
    };
    let diagnostic = report
        .warning("SB102", from.span, message)
        .label(if tag.is_empty() { "means `latest`" } else { "a moving tag" })
        .help("name a version, or a digest: `name:version@sha256:…`");
    report.push(diagnostic);
}

pub(super) fn check_effect(report: &mut Report<'_>, subject: &Subject<'_>) {
    let header = &subject.lowered.header;
    let Some(agent) = header.iter().find(|entry| entry.key == "bootstrap") else { return };
    if subject.bootstrap().is_none() {
        return;
    }
    let read = keys(&agent.value).0;
    for entry in header {
        let key = entry.key.trim_end_matches(|character: char| character.is_ascii_digit());
        if matches!(key, "bootstrap" | "stage") || read.contains(&key) {
            continue;
        }
        let shown = spelling(key);
        let diagnostic = if key == "includecmd" {
            report.warning("SB109", entry.key_span, "`IncludeCmd` has no effect").label("not read by any agent")
        } else {
            let message = format!("`{shown}` has no effect with `Bootstrap: {}`", agent.value);
            report.warning("SB109", entry.key_span, message).label("not read by this agent")
        };
        report.push(diagnostic);
    }
}
