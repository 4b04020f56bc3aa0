//! SB104: what only bash understands, in a script that `/bin/sh` runs.

use super::interpreter::chosen_interpreter;
use super::shell::{Shell, is_name};
use super::{BUILD_SECTIONS, Part, Subject};
use crate::definition::header::trim;
use crate::definition::report::Report;
use crate::definition::{Bootstrap, Stage};
use std::ops::Range;

/// Words in the names of bases whose `/bin/sh` is bash.
const BASH_BASES: &[&str] = &[
    "centos",
    "rocky",
    "alma",
    "fedora",
    "redhat",
    "rhel",
    "ubi7",
    "ubi8",
    "ubi9",
    "ubi10",
    "oraclelinux",
    "amazonlinux",
    "opensuse",
    "suse",
    "sles",
    "archlinux",
    "-el7",
    "-el8",
    "-el9",
];

struct Finding {
    range: Range<usize>,
    what: &'static str,
    help: &'static str,
    replacement: Option<&'static str>,
}

pub(super) fn check(report: &mut Report<'_>, subject: &Subject<'_>, part: &Part<'_>) {
    let Some(shell) = &part.shell else { return };
    if !is_run_by_sh(report, subject, part) || subject.lowered.stage.as_ref().is_some_and(has_bash_as_sh) {
        return;
    }
    let mut told: Vec<&'static str> = Vec::new();
    let findings = find(&report.expanded.text, shell);
    for finding in &findings {
        if told.contains(&finding.what) {
            continue;
        }
        told.push(finding.what);
        let more = findings.iter().filter(|other| other.what == finding.what).count() - 1;
        let span = report.span(finding.range.clone());
        let mut diagnostic = report
            .warning("SB104", span, format!("{} only bash understands, but /bin/sh runs this script", finding.what))
            .label("fails in dash and busybox")
            .help(finding.help);
        if more > 0 {
            diagnostic = diagnostic.note(format!("{more} more in this section"));
        }
        if let Some(replacement) = finding.replacement.filter(|_| report.expanded.is_verbatim(&finding.range)) {
            diagnostic = diagnostic.fix(span, replacement, format!("write `{replacement}`"));
        }
        report.push(diagnostic);
    }
}

/// Whether `/bin/sh` runs a section. `%environment` is read by the runtime, which knows bash's syntax.
fn is_run_by_sh(report: &Report<'_>, subject: &Subject<'_>, part: &Part<'_>) -> bool {
    let text = report.expanded.text.as_str();
    if BUILD_SECTIONS.contains(&part.name.as_str()) {
        return chosen_interpreter(text, part).is_none();
    }
    match part.name.as_str() {
        "runscript" | "startscript" | "test" => {
            let lines = subject.body(part.section).iter().map(|line| trim(text, line.content.clone()).0);
            let first = lines.into_iter().find(|line| !line.is_empty()).unwrap_or_default();
            !first.starts_with("#!") || first.trim_start_matches("#!").trim().starts_with("/bin/sh")
        }
        "apprun" | "appstart" | "apptest" => true,
        _ => false,
    }
}

fn has_bash_as_sh(stage: &Stage) -> bool {
    let name = match &stage.bootstrap {
        Bootstrap::Docker(base) => base.from.value.to_lowercase(),
        Bootstrap::Yum(_) | Bootstrap::Arch(_) => return true,
        Bootstrap::Absent(agent) if agent.value == "zypper" => return true,
        Bootstrap::Absent(_) | Bootstrap::Localimage(_) | Bootstrap::Oras(_) | Bootstrap::Library(_) => stage
            .header
            .iter()
            .find(|entry| entry.key == "from")
            .map(|entry| entry.value.to_lowercase())
            .unwrap_or_default(),
        _ => return false,
    };
    BASH_BASES.iter().any(|base| name.contains(base))
}

fn find(text: &str, shell: &Shell) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |range, what, help, replacement| found.push(Finding { range, what, help, replacement });
    for command in &shell.commands {
        let word = |at: usize| command.words.get(at).map_or("", |range| &text[range.clone()]);
        let range = command.words[0].clone();
        match word(0) {
            "source" if !word(1).is_empty() => add(range, "`source`", "write `.`", Some(".")),
            "[[" => add(range, "`[[ … ]]`", "write `[ … ]`, with `=` for `==`, or `case` for patterns", None),
            "function" if !word(1).is_empty() => add(range, "`function`", "write `name() { …; }`", None),
            "pushd" | "popd" => add(range, "`pushd` and `popd`", "write `(cd DIRECTORY && …)`", None),
            "declare" | "typeset" => add(range, "`declare`", "assign plainly, or run the script with bash", None),
            "shopt" => add(range, "`shopt`", "run the script with bash: `%post -c /bin/bash -ex`", None),
            "mapfile" | "readarray" => add(range, "`mapfile`", "read lines in a `while read` loop", None),
            "set" if (1..command.words.len()).any(|at| word(at) == "pipefail") => {
                add(
                    range,
                    "`set -o pipefail`",
                    "remove it, or run the script with bash: `%post -c /bin/bash -ex`",
                    None,
                );
            }
            "echo" if word(1) == "-e" => {
                add(command.words[1].clone(), "`echo -e`", "write `printf '%b\\n' …`; dash prints the `-e`", None);
            }
            _ => {}
        }
    }
    for (pattern, what, help) in [
        ("&>", "`&>`", "write `> FILE 2>&1`"),
        ("<<<", "`<<<`", "write `printf '%s\\n' … | COMMAND`"),
        ("<(", "`<(…)`", "write a temporary file, or a pipe"),
        ("=(", "an array", "use `set -- …` and \"$@\", or run the script with bash: `%post -c /bin/bash -ex`"),
    ] {
        for range in shell.find(pattern) {
            if pattern != "=(" || is_array(shell, &range) {
                add(range, what, help, None);
            }
        }
    }
    found
}

/// Whether `NAME` stands before `=(`, at the start of a word.
fn is_array(shell: &Shell, range: &Range<usize>) -> bool {
    let before = &shell.masked[..range.start - shell.start];
    let name =
        before.rsplit(|character: char| character.is_whitespace() || character == ';').next().unwrap_or_default();
    is_name(name.trim_end_matches('+'))
}
