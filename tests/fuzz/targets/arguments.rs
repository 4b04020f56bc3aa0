//! `definition::Arguments`: `--build-arg` texts, and files of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::definition::{Arguments, parse};
use sifbuild::source::SourceFile;

fuzz_target!(|text: &str| {
    let mut arguments = Arguments::default();
    let added = arguments.add(text);
    assert_eq!(added.is_ok(), text.find('=').is_some_and(|at| at > 0), "{added:?}");
    let file = SourceFile::new("arguments", text);
    let diagnostics = arguments.add_file(&file);
    sifbuild_fuzz::print(&file, &diagnostics);
    let source = SourceFile::new("fuzz.def", "Bootstrap: docker\nFrom: {{A}}:{{ B }}\n\n%post\n  {{A}}{{B}}{{A}}\n");
    let parsed = parse(&source, &arguments);
    sifbuild_fuzz::print(&source, &parsed.diagnostics);
});
