//! The definition language from outside: bad definitions with what is said about each, and real ones.

use sifbuild::arch::Arch;
use sifbuild::definition::{Arguments, Bootstrap, parse, render};
use sifbuild::diagnostic::Severity;
use sifbuild::pins::{self, BasePin, Pins, StagePins};
use sifbuild::plan::{IdMode, PlanOptions, plan};
use sifbuild::source::SourceFile;
use std::path::{Path, PathBuf};

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Build arguments of a bad definition stand in its first line: `# arguments: KEY=VALUE …`.
fn arguments_of(text: &str) -> Arguments {
    let mut arguments = Arguments::default();
    let first = text.lines().next().unwrap_or_default();
    for pair in first.strip_prefix("# arguments:").unwrap_or_default().split_whitespace() {
        arguments.add(pair).unwrap();
    }
    arguments
}

#[test]
fn says_of_each_bad_definition_what_the_snapshot_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad-definitions");
    let mut count = 0;
    let mut unseen: Vec<&str> = sifbuild::definition::CODES.iter().map(|(code, _)| *code).collect();
    for path in files_of(&directory).iter().filter(|path| path.extension().is_some_and(|end| end == "def")) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
        let parsed = parse(&SourceFile::new(format!("{name}.def"), text.clone()), &arguments_of(&text));
        assert!(!parsed.diagnostics.is_empty(), "{name} is a good definition");
        unseen.retain(|code| !parsed.diagnostics.iter().any(|found| found.code == *code));
        insta::with_settings!({ snapshot_path => "bad-definitions/snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, render::text(&parsed.diagnostics, false));
        });
        count += 1;
    }
    assert!(count >= 45, "only {count} bad definitions");
    // These need bytes or sizes that no text file should have.
    assert_eq!(unseen, ["SB042", "SB043"]);
}

#[test]
fn fixes_leave_nothing_to_fix_and_never_add_an_error() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad-definitions");
    for path in files_of(&directory).iter().filter(|path| path.extension().is_some_and(|end| end == "def")) {
        let mut text = std::fs::read_to_string(path).unwrap();
        let arguments = arguments_of(&text);
        let mut errors = usize::MAX;
        for _ in 0..5 {
            let found = parse(&SourceFile::new("bad.def", text.clone()), &arguments).diagnostics;
            let now = found.iter().filter(|found| found.severity == Severity::Error).count();
            assert!(now <= errors, "{}: fixes add errors:\n{text}", path.display());
            errors = now;
            text = render::apply_fixes(&text, &found);
        }
        let left = parse(&SourceFile::new("bad.def", text.clone()), &arguments).diagnostics;
        let left: Vec<_> = left.iter().filter(|found| found.fix.is_some()).collect();
        assert!(left.is_empty(), "{}: {left:?}\n{text}", path.display());
    }
}

/// Definition files from public repositories lie beside the project on some machines; they are not copied into it.
#[test]
fn reads_the_real_definitions_that_lie_beside_the_project() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/defs");
    if !directory.exists() {
        println!("0 real definitions: {} is not there", directory.display());
        return;
    }
    let (mut good, mut bad) = (0, 0);
    for path in files_of(&directory).iter().filter(|path| path.extension().is_none_or(|end| end != "md")) {
        let text = std::fs::read_to_string(path).unwrap();
        let parsed = parse(&SourceFile::new(path.display().to_string(), text), &Arguments::default());
        match parsed.definition {
            Some(_) => good += 1,
            None => bad += 1,
        }
        let error = parsed.diagnostics.iter().any(|found| found.severity == Severity::Error);
        assert_eq!(parsed.definition.is_none(), error, "{}", path.display());
    }
    println!("{good} real definitions are read, {bad} are refused");
    assert!(good > 40 && bad < 5);
}

/// What stands in `defs` is what people start from: nothing to say about it, each base is asked for by a question of its own.
#[test]
fn definitions_to_start_from_are_read_and_planned() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("defs");
    let mut questions = std::collections::BTreeSet::new();
    let paths: Vec<PathBuf> =
        files_of(&directory).into_iter().filter(|path| path.extension().is_some_and(|end| end == "def")).collect();
    let list = std::fs::read_to_string(directory.join("README.md")).unwrap();
    for path in &paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let parsed = parse(&SourceFile::new(path.display().to_string(), text.clone()), &Arguments::default());
        assert!(parsed.diagnostics.is_empty(), "{}", render::text(&parsed.diagnostics, false));
        let definition = parsed.definition.unwrap();
        let question = pins::question(&definition.stages[0].bootstrap, Arch::Amd64);
        let base = BasePin::Debian { lines: vec!["package".into()] };
        let stage =
            StagePins { question: question.clone(), base, files: Default::default(), app_files: Default::default() };
        let plan = plan(&definition, &Pins { stages: vec![stage] }, &PlanOptions::new(Arch::Amd64, IdMode::Single));
        let post = plan.steps.iter().any(|step| step.name.contains("post"));
        assert_eq!(post, text.contains("%post"), "{name}");
        let family = name.trim_end_matches("-compilers").trim_end_matches(|letter: char| !letter.is_alphabetic());
        assert!(list.contains(family), "defs/README.md does not name {name}");
        if !name.ends_with("-compilers") && !text.contains("MPI") {
            assert!(questions.insert(question), "{name} is another one's base");
        }
        if let Bootstrap::Yum(base) = &definition.stages[0].bootstrap {
            assert!(!base.fingerprints.is_empty(), "{name} names no key");
        }
    }
    assert!(paths.len() >= 25, "{} definitions", paths.len());
}
