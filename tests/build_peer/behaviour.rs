//! What Apptainer does with two images, and what both programs say of them.

use super::scratch::Scratch;
use std::path::Path;

/// Commands whose output and status must be the same on both images; `IMAGE` is its path.
pub const COMMANDS: &[&[&str]] = &[
    &["exec", "--cleanenv", "IMAGE", "/bin/env"],
    &["exec", "--cleanenv", "--env", "GREETING=given", "IMAGE", "/bin/env"],
    &["exec", "IMAGE", "/bin/sh", "-c", "echo $0 \"$@\"", "zero", "a b", "$c"],
    &["run", "IMAGE"],
    &["run", "IMAGE", "one", "two three"],
    &["run", "--app", "one", "IMAGE", "x"],
    &["run", "--app", "two", "IMAGE"],
    &["run", "--app", "absent", "IMAGE"],
    &["exec", "--cleanenv", "--app", "one", "IMAGE", "/bin/env"],
    &["test", "IMAGE"],
    &["test", "--app", "one", "IMAGE"],
    &["exec", "IMAGE", "/.singularity.d/actions/run", "three"],
    &["exec", "IMAGE", "/.singularity.d/actions/exec", "/bin/echo", "four"],
    &["exec", "IMAGE", "/.singularity.d/actions/test"],
    &["inspect", "-d", "IMAGE"],
    &["inspect", "-H", "IMAGE"],
    &["inspect", "-t", "IMAGE"],
    &["inspect", "--list-apps", "IMAGE"],
];

pub const INSPECT_FLAGS: &[&[&str]] =
    &[&[], &["-l"], &["-d"], &["-r"], &["-s"], &["-t"], &["-e"], &["-H"], &["-j"], &["--list-apps"], &["--all"]];
/// Output without what names the image, sorted where it lists variables.
pub fn comparable(output: &str, image: &str, arguments: &[&str]) -> String {
    let name = Path::new(image).file_name().unwrap().to_str().unwrap();
    let output = output.replace(image, "IMAGE").replace(name, "IMAGE");
    let mut lines: Vec<&str> = output.lines().collect();
    if arguments.contains(&"/bin/env") {
        lines.sort_unstable();
    }
    // Apptainer leaves an empty element in an app's LD_LIBRARY_PATH, which is the working directory to the loader.
    let text = lines.join("\n").replace("/lib::/", "/lib:/");
    // A shell names the line of our runscript or of theirs.
    match text.split_once("runscript: exec: line ") {
        Some((before, after)) => format!("{before}{}", after.trim_start_matches(|digit: char| digit.is_ascii_digit())),
        None => text,
    }
}

pub fn check_behaviour(scratch: &Scratch, name: &str, ours: &str, theirs: &str, faults: &mut Vec<String>) {
    for command in COMMANDS {
        let run = |image: &str| {
            let arguments: Vec<&str> = command.iter().map(|word| if *word == "IMAGE" { image } else { word }).collect();
            let ((output, status), complaint) = scratch.apptainer(&arguments);
            // Our scripts complain on standard error; some of Apptainer's on standard output.
            let output = if status == Some(0) { output } else { format!("{output}{complaint}") };
            (comparable(&output, image, command), status)
        };
        let (our, their) = (run(ours), run(theirs));
        if our != their {
            faults.push(format!("{name}: apptainer {command:?}\nours: {our:#?}\ntheirs: {their:#?}"));
        }
    }
    for (flags, image) in INSPECT_FLAGS.iter().flat_map(|flags| [(flags, ours), (flags, theirs)]) {
        let arguments = [&["inspect"], *flags, &[image]].concat();
        let (our, complaint) = scratch.sifbuild(&arguments);
        let (their, _) = scratch.apptainer(&arguments);
        if our != their {
            faults.push(format!("{name}: inspect {flags:?} {image}\nours: {our:?}{complaint}\ntheirs: {their:?}"));
        }
    }
}
