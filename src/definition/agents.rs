//! The agents, the keys that each reads, and what is said where an agent or a key is missing.
//!
//! Sources: facts 2.1 to 2.13.

use super::HeaderEntry;
use super::header::{self, value};
use super::hint::nearest;
use super::report::Report;
use crate::diagnostic::Diagnostic;
use std::ops::Range;

/// Values of `Bootstrap:`.
pub(super) const AGENTS: &[&str] = &[
    "library",
    "oras",
    "shub",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "busybox",
    "debootstrap",
    "arch",
    "localimage",
    "yum",
    "dnf",
    "zypper",
    "scratch",
    "buildkit",
    "dockerfile",
];

/// The keys that an agent reads, of which the first `needed` must be there.
pub(super) fn keys(agent: &str) -> (&'static [&'static str], usize) {
    match agent {
        "docker" | "docker-archive" | "docker-daemon" | "oci" | "oci-archive" => {
            (&["from", "registry", "namespace"], 1)
        }
        "library" => (&["from", "library", "fingerprints"], 1),
        "localimage" | "oras" | "shub" => (&["from", "fingerprints"], 1),
        "busybox" => (&["mirrorurl"], 1),
        "debootstrap" => (&["osversion", "mirrorurl", "include"], 1),
        "yum" | "dnf" => (
            &[
                "mirrorurl",
                "updateurl",
                "osversion",
                "include",
                "setopt",
                "modules",
                "otherurl",
                "productpgp",
                "fingerprints",
            ],
            1,
        ),
        "arch" => (&["confurl", "mirrorurl", "include", "productpgp", "fingerprints"], 0),
        "buildkit" | "dockerfile" => (&["from", "target", "frontend", "filename", "buildargs"], 1),
        "zypper" => (
            &[
                "mirrorurl",
                "updateurl",
                "osversion",
                "include",
                "product",
                "user",
                "regcode",
                "productpgp",
                "registerurl",
                "modules",
                "otherurl",
                "fingerprints",
            ],
            0,
        ),
        _ => (&[], 0),
    }
}

pub(super) fn report_missing_bootstrap(
    report: &mut Report<'_>,
    header: &[HeaderEntry],
    first_line: Range<usize>,
    opens: bool,
) {
    let span = report.span(first_line);
    let empty = header.iter().find(|entry| entry.key == "bootstrap");
    let diagnostic = match empty {
        Some(entry) => report.error("SB006", entry.key_span, "`Bootstrap` has no value").label("names no agent"),
        None if opens => report.error("SB006", span, "this stage has no `Bootstrap`").label("needed here"),
        None => report
            .error("SB002", span, "this stands before the first `Bootstrap:` and belongs to no stage")
            .label("no stage has begun here"),
    };
    report.push(diagnostic.help("a stage begins with a line like `Bootstrap: docker`, at the very start of the line"));
}

pub(super) fn report_unknown_agent(report: &mut Report<'_>, agent: &HeaderEntry) {
    let shown = agent.value.escape_debug();
    let mut diagnostic: Diagnostic =
        report.error("SB007", agent.span, format!("there is no bootstrap agent `{shown}`")).label("unknown agent");
    let lower = agent.value.to_lowercase();
    let synonym = match lower.trim_end_matches(':') {
        "ubuntu" | "debian" => Some("debootstrap"),
        "podman" | "dockerhub" | "docker-hub" | "quay" | "ghcr" => Some("docker"),
        "local" | "sif" | "image" | "sandbox" => Some("localimage"),
        "rpm" | "centos" | "fedora" => Some("dnf"),
        "none" | "empty" => Some("scratch"),
        other => nearest(other, AGENTS),
    };
    diagnostic = match synonym {
        Some(name) if name == lower => {
            diagnostic.help("agents are written in lower case").fix(agent.span, name, format!("write `{name}`"))
        }
        Some(name) => {
            diagnostic.help(format!("did you mean `{name}`?")).fix(agent.span, name, format!("write `{name}`"))
        }
        None => diagnostic.note(format!("the agents are {}", AGENTS.join(", "))),
    };
    report.push(diagnostic);
}

/// Nothing when a key is missing without which the agent cannot work.
pub(super) fn report_needed(
    report: &mut Report<'_>,
    header: &[HeaderEntry],
    agent: &HeaderEntry,
    tell: bool,
) -> Option<()> {
    let (keys, needed) = keys(&agent.value);
    let mut complete = Some(());
    for key in &keys[..needed] {
        if value(header, key).is_none() {
            complete = None;
            if !tell {
                continue;
            }
            let empty = header.iter().find(|entry| entry.key == *key);
            let span = empty.map_or(agent.span, |entry| entry.key_span);
            let shown = header::spelling(key);
            let mut diagnostic = report
                .error("SB008", span, format!("the agent `{}` needs `{shown}`", agent.value))
                .label(if empty.is_some() { "has no value" } else { "this agent" })
                .help(format!("add a line `{shown}: {}`", example(&agent.value, key)));
            if empty.is_none()
                && let Some(other) = header.iter().find(|entry| *key == "from" && entry.key == "mirrorurl")
            {
                diagnostic = diagnostic.note(format!("`MirrorURL: {}` is not read by this agent", other.value));
            }
            report.push(diagnostic);
        }
    }
    complete
}

fn example(agent: &str, key: &str) -> &'static str {
    match (agent, key) {
        ("docker" | "docker-daemon", _) => "debian:12",
        ("library", _) => "library/default/debian:12",
        ("oras", _) => "ghcr.io/owner/image:1.0",
        ("shub", _) => "owner/image:1.0",
        ("localimage", _) => "base.sif",
        ("oci", _) => "layout-directory",
        ("docker-archive" | "oci-archive", _) => "image.tar",
        ("buildkit" | "dockerfile", _) => ".",
        ("debootstrap", _) => "bookworm",
        ("busybox", _) => "https://HOST/busybox",
        _ => "https://HOST/PATH",
    }
}
