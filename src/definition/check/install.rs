//! SB105: package managers that ask, and get no answer in a build.

use super::{BUILD_SECTIONS, Part};
use crate::definition::report::Report;

/// Managers, what of theirs asks, and their words for yes.
const MANAGERS: &[(&[&str], &[&str], &[&str])] = &[
    (
        &["apt-get", "apt", "aptitude"],
        &[
            "install",
            "reinstall",
            "upgrade",
            "dist-upgrade",
            "full-upgrade",
            "remove",
            "purge",
            "autoremove",
            "build-dep",
        ],
        &["--yes", "--assume-yes", "--force-yes"],
    ),
    (
        &["dnf", "yum", "microdnf", "tdnf"],
        &["install", "reinstall", "upgrade", "update", "groupinstall", "localinstall", "remove", "erase"],
        &["--assumeyes"],
    ),
    (&["conda", "mamba"], &["install", "create", "update", "remove"], &["--yes"]),
];

pub(super) fn check(report: &mut Report<'_>, part: &Part<'_>) {
    let (Some(shell), true) = (&part.shell, BUILD_SECTIONS.contains(&part.name.as_str())) else { return };
    let text = report.expanded.text.as_str();
    let section = &text[shell.start..shell.start + shell.masked.len()];
    if section.contains("APT::Get::Assume-Yes") || section.contains("assumeyes") || section.contains("always_yes") {
        return;
    }
    for command in &shell.commands {
        let words: Vec<&str> = command.words.iter().map(|range| &text[range.clone()]).collect();
        let program = words[0].rsplit('/').next().unwrap_or_default();
        let Some((_, verbs, yes)) = MANAGERS.iter().find(|(programs, ..)| programs.contains(&program)) else {
            continue;
        };
        let Some(verb) = (1..words.len()).find(|at| verbs.contains(&words[*at])) else { continue };
        let answered = words.iter().any(|word| yes.contains(word) || is_short_yes(program, word));
        let printed_only =
            words.iter().any(|word| matches!(*word, "--help" | "-h" | "-s" | "--dry-run" | "--simulate"));
        if answered || printed_only || command.piped {
            continue;
        }
        let range = command.words[0].start..command.words[verb].end;
        let message = format!("`{program} {}` asks before it begins, and nobody answers", words[verb]);
        let span = report.span(range);
        let end = report.span(command.words[verb].clone()).end;
        let mut diagnostic = report.warning("SB105", span, message).label("no `-y`");
        if report.expanded.is_verbatim(&command.words[verb]) {
            diagnostic = diagnostic.fix(crate::source::Span::new(end, end), " -y", "add `-y`");
        }
        report.push(diagnostic);
    }
}

/// `-y` alone or among other letters; `-qq` of apt-get means it, too.
fn is_short_yes(program: &str, word: &str) -> bool {
    let letters = word.strip_prefix('-').filter(|letters| !letters.starts_with('-'));
    letters.is_some_and(|letters| {
        letters.bytes().all(|byte| byte.is_ascii_alphabetic())
            && (letters.contains('y') || program.starts_with("apt") && letters.contains("qq"))
    })
}
