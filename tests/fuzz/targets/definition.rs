//! `definition` and `plan`: every text has a report; what has no error can be planned, and fixing it does no harm.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::arch::Arch;
use sifbuild::definition::{Arguments, parse, print_json, read_text, render};
use sifbuild::pins::{BasePin, Pins, StagePins, question};
use sifbuild::plan::{IdMode, PlanOptions, plan, prune, render as show};
use sifbuild::source::SourceFile;
use std::collections::BTreeMap;

fuzz_target!(|data: &[u8]| {
    let source = match read_text("fuzz.def", data.to_vec()) {
        Ok(source) => source,
        Err(diagnostic) => return drop(render::text(&[*diagnostic], false)),
    };
    let mut arguments = Arguments::default();
    arguments.warn_unused = true;
    arguments.add("VERSION=12\n%post").expect("a pair");
    let parsed = parse(&source, &arguments);
    sifbuild_fuzz::print(&source, &parsed.diagnostics);
    let fixed = render::apply_fixes(&source.text, &parsed.diagnostics);
    let again = parse(&SourceFile::new("fixed.def", fixed), &arguments);
    let Some(definition) = parsed.definition else { return };
    assert!(again.definition.is_some(), "fixing a good file made it a bad one: {:?}", again.diagnostics);
    serde_json::from_str::<serde_json::Value>(&print_json(&definition)).expect("our own JSON");
    let stages = definition.stages.iter().map(|stage| StagePins {
        question: question(&stage.bootstrap, Arch::Amd64),
        base: BasePin::Scratch,
        files: BTreeMap::new(),
        app_files: BTreeMap::new(),
    });
    let pins = Pins { stages: stages.collect() };
    let made = plan(&definition, &pins, &PlanOptions::new(Arch::Amd64, IdMode::Single));
    let decisions = prune(&made, &|_| false);
    assert_eq!(decisions.len(), made.steps.len());
    show::text(&made, &decisions, &|_| None);
    show::json(&made, &decisions, &|_| None);
});
