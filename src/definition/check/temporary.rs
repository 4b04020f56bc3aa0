//! SB106: `/tmp`, which is the host's while scripts run, and not the image's.

use super::{Part, Subject};
use crate::definition::report::Report;

const PLACES: &[&str] = &["/tmp", "/var/tmp"];

pub(super) fn check(report: &mut Report<'_>, subject: &Subject<'_>, part: &Part<'_>) {
    match part.name.as_str() {
        "files" => check_files(report, subject),
        "post" | "appinstall" => check_leftovers(report, part),
        _ => {}
    }
}

fn is_temporary(path: &str) -> bool {
    PLACES.iter().any(|place| path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn check_files(report: &mut Report<'_>, subject: &Subject<'_>) {
    let Some(stage) = &subject.lowered.stage else { return };
    for entry in stage.files.iter().flat_map(|block| &block.entries) {
        let shown = if entry.destination.is_empty() { &entry.source } else { &entry.destination };
        if is_temporary(shown) {
            let diagnostic = report
                .warning("SB106", entry.span, format!("`{shown}` is hidden in %post and when the container runs"))
                .label("under /tmp")
                .note("Apptainer mounts the host's /tmp and /var/tmp over the image's")
                .help("copy to another place, for example /opt, and remove it in %post if it is not needed later");
            report.push(diagnostic);
        }
    }
}

/// The first file under `/tmp` of a script that removes none.
fn check_leftovers(report: &mut Report<'_>, part: &Part<'_>) {
    let Some(shell) = &part.shell else { return };
    let text = report.expanded.text.as_str();
    let words = |word: &std::ops::Range<usize>| text[word.clone()].trim_matches(['"', '\'']);
    let removes = shell.commands.iter().any(|command| {
        matches!(words(&command.words[0]), "rm" | "trap" | "find" | "mktemp")
            && (words(&command.words[0]) == "mktemp"
                || command.words[1..].iter().any(|word| words(word).contains("/tmp")))
    });
    if removes {
        return;
    }
    let enters = shell.commands.iter().any(|command| {
        words(&command.words[0]) == "cd" && command.words.get(1).is_some_and(|word| is_temporary(words(word)))
    });
    let removes_relative = shell.commands.iter().any(|command| words(&command.words[0]) == "rm");
    let found = shell.commands.iter().flat_map(|command| &command.words).find(|word| {
        let path = words(word);
        let path = path.split_once('=').map_or(path, |(_, value)| value).trim_start_matches('>');
        is_temporary(path) && (path.trim_end_matches('/').len() > "/var/tmp".len() || enters)
    });
    let Some(word) = found.filter(|_| !(enters && removes_relative)) else { return };
    let span = report.span(word.clone());
    let diagnostic = report
        .warning("SB106", span, format!("what %{} leaves under /tmp is not in the image", part.name))
        .label("nothing removes it")
        .note("Apptainer mounts the host's /tmp over the image's: the files stay on the host")
        .help("remove the files at the end of the script, or work in another place");
    report.push(diagnostic);
}
