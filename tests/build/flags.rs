//! The README's table of flags, held against the program.

use super::place::Place;

const README: &str = include_str!("../../README.md");

/// Flags in the first column of the row whose second says `what`.
fn flags(what: &str) -> Vec<String> {
    let row = README.lines().find(|line| line.starts_with("| `--") && line.contains(what));
    let cell = row.unwrap_or_else(|| panic!("no row says {what:?}")).split('|').nth(1).unwrap();
    quoted(cell)
}

fn quoted(text: &str) -> Vec<String> {
    let words = text.split('`').skip(1).step_by(2).flat_map(|word| word.split_whitespace().next().map(str::to_owned));
    words
        .flat_map(|word| match word.as_str() {
            "--ignore-*" => {
                ["subuid", "fakeroot-command", "proot", "userns"].map(|name| format!("--ignore-{name}")).into()
            }
            _ => vec![word],
        })
        .collect()
}

fn with_value(flag: &str) -> Vec<&str> {
    match flag {
        "--library" | "--mksquashfs-args" | "--buildkit-host" => vec![flag, "value"],
        _ => vec![flag],
    }
}

#[test]
fn refused_flags_are_refused_with_their_name_and_a_reason() {
    let place = Place::new();
    let refused = flags("refused with the reason");
    assert!(refused.len() > 5, "{refused:?}");
    for flag in &refused {
        let outcome = place.fail("x.sif", "Bootstrap: scratch\n", &with_value(flag));
        assert_eq!(outcome.code, Some(1), "{flag}: {}", outcome.text);
        assert!(outcome.text.contains(flag) && outcome.text.len() > flag.len() + 20, "{flag}: {}", outcome.text);
    }
}

#[test]
fn accepted_flags_are_accepted_and_idle_ones_say_so() {
    let place = Place::new();
    for flag in flags("accepted; always so") {
        place.build("x.sif", "Bootstrap: scratch\n", &["--force", &flag]);
    }
    for flag in flags("says why nothing changes") {
        let arguments = [&["--force"][..], &with_value(&flag)].concat();
        let text = place.build("x.sif", "Bootstrap: scratch\n", &arguments);
        assert!(text.contains(&format!("{flag} has no effect: ")), "{flag}: {text}");
    }
}

#[test]
fn new_flags_and_commands_are_in_the_help() {
    let place = Place::new();
    let help = place.succeed(&["build", "--help"]);
    let row = README.lines().find(|line| line.starts_with("| new |")).expect("a row of new flags");
    let new = quoted(row);
    assert!(new.len() > 10, "{new:?}");
    for flag in new {
        assert!(help.contains(&flag), "{flag}");
    }
    for command in ["build", "check", "plan", "inspect", "sif", "cache", "completions", "man"] {
        assert!(README.contains(&format!("`{command}")) && place.succeed(&["help"]).contains(command), "{command}");
    }
}

#[test]
fn a_sandbox_is_not_updated_in_place() {
    let place = Place::new();
    place.build("box", "Bootstrap: scratch\n", &["--sandbox"]);
    let outcome = place.fail("box", "Bootstrap: scratch\n", &["--sandbox", "--update"]);
    assert!(outcome.text.contains("Bootstrap: localimage"), "what to do instead: {}", outcome.text);
}

#[test]
fn printing_to_nobody_ends_a_command_without_a_word() {
    use std::os::unix::process::ExitStatusExt;
    let place = Place::new();
    let mut command = place.command(&[], &["completions", "bash"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // More than a pipe holds is still to come.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.signal(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(libc::SIGPIPE), ""));
}
