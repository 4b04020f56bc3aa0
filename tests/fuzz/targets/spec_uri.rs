//! Build specs that are no files: `docker://…` and its kin.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::agent::docker::reference_of;
use sifbuild::agent::oci::{Source, Transport};
use sifbuild::arch::Arch;
use sifbuild::definition::{Bootstrap, Definition, parse_spec_uri, print_json};
use sifbuild::pins::question;

fuzz_target!(|text: &str| {
    Definition::from_image(text);
    for transport in [Transport::Oci, Transport::OciArchive, Transport::DockerArchive, Transport::DockerDaemon] {
        let source = Source::parse(transport, text);
        assert!(source.to_string().starts_with(transport.name()));
    }
    let Some((scheme, rest)) = parse_spec_uri(text) else { return };
    let parsed = Definition::from_uri(scheme, rest);
    if let Some(diagnostic) = parsed.diagnostics.first() {
        sifbuild_fuzz::print(&diagnostic.source.clone(), &parsed.diagnostics);
    }
    let Some(definition) = parsed.definition else { return };
    print_json(&definition);
    let bootstrap = &definition.stages[0].bootstrap;
    question(bootstrap, Arch::Amd64);
    if let Bootstrap::Docker(base) = bootstrap {
        let _ = reference_of(base);
    }
});
