use super::*;
use crate::diagnostic::Severity;
use proptest::prelude::*;

fn parse_with(text: &str, pairs: &[&str]) -> Parsed {
    let mut arguments = Arguments::default();
    for pair in pairs {
        arguments.add(pair).unwrap();
    }
    parse(&SourceFile::new("test.def", text), &arguments)
}

/// The definition of a text without errors.
fn good(text: &str) -> Definition {
    let parsed = parse_with(text, &[]);
    match parsed.definition {
        Some(definition) => definition,
        None => panic!("{}", render::text(&parsed.diagnostics, false)),
    }
}

fn stage(text: &str) -> Stage {
    good(text).stages.remove(0)
}

/// Codes of all diagnostics, in order.
fn codes(text: &str) -> Vec<&'static str> {
    parse_with(text, &[]).diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

fn errors(text: &str) -> Vec<&'static str> {
    let parsed = parse_with(text, &[]);
    parsed.diagnostics.iter().filter(|found| found.severity == Severity::Error).map(|found| found.code).collect()
}

fn value<'a>(stage: &'a Stage, key: &str) -> Option<&'a str> {
    stage.header.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

fn body(script: &Option<Script>) -> &str {
    script.as_ref().map_or("", |script| &script.body)
}

const HEAD: &str = "Bootstrap: docker\nFrom: debian:12\n";

#[test]
fn splits_at_every_bootstrap_line_whatever_its_case() {
    let definition = good("BOOTSTRAP: scratch\nbootstrap:docker\nFrom: debian:12\n");
    assert_eq!(definition.stages.len(), 2);
    assert_eq!(definition.stages[0].bootstrap, Bootstrap::Scratch);
}

#[test]
fn drops_leading_comments_from_the_stored_text() {
    let text = format!("# about\n\n{HEAD}%post\n true");
    assert_eq!(good(&text).raw, format!("{HEAD}%post\n true"));
}

#[test]
fn reads_scripts_verbatim_with_a_newline_at_the_end() {
    let stage = stage(&format!("{HEAD}%post -c /bin/bash # x\n  a\n\n# b\n%runscript\r\n  c\r\n\tdone"));
    let post = stage.post.as_ref().unwrap();
    assert_eq!((post.arguments.as_str(), post.body.as_str(), post.line), ("-c /bin/bash # x", "  a\n\n# b\n", 4));
    assert_eq!(body(&stage.runscript), "  c\n\tdone\n");
}

#[test]
fn joins_repeated_sections_and_keeps_the_last_arguments() {
    let stage = stage(&format!("{HEAD}%post -x\na\n%help\nh\n%POST -y\nb\n%%post\nc\n"));
    let post = stage.post.as_ref().unwrap();
    assert_eq!((post.arguments.as_str(), post.body.as_str()), ("-y", "a\nb\nc\n"));
}

#[test]
fn reads_an_indented_header_of_a_single_stage() {
    let stage = stage("  Bootstrap : docker\n  From: debian:12\n%post\ntrue\n");
    assert_eq!(value(&stage, "from"), Some("debian:12"));
}

#[test]
fn joins_continued_values_without_a_blank() {
    let text = "Bootstrap: zypper\nProductPGP: -----BEGIN\\n\\\n  abc\\\ndef\\n\\\nEND # c\nInclude: a \\\n  b\n";
    let stage = stage(text);
    assert_eq!(value(&stage, "productpgp"), Some("-----BEGIN\nabcdef\nEND"));
    assert_eq!(value(&stage, "include"), Some("a b"));
}

#[test]
fn goes_on_with_a_continuation_behind_a_blank_or_comment_line() {
    let stage = stage("Bootstrap: debootstrap\nOSVersion: bookworm\nInclude: a \\\n\n# why\n  b\n");
    assert_eq!(value(&stage, "include"), Some("a b"));
    let text = "Bootstrap: debootstrap\nInclude: \\\n  a\nOSVersion: bookworm\n";
    let Bootstrap::Debootstrap(base) = self::stage(text).bootstrap else { panic!() };
    assert_eq!(base.include[0].value, "a");
}

#[test]
fn warns_of_a_key_that_a_continuation_swallows() {
    let text = "Bootstrap: debootstrap\nOSVersion: bookworm\nInclude: vim \\\nMirrorURL: http://host/\n";
    assert_eq!(value(&stage(text), "include"), Some("vim MirrorURL: http://host/"));
    assert_eq!(codes(text), ["SB036"]);
}

#[test]
fn drops_an_unfinished_continuation_unless_it_is_needed() {
    let stage = stage("Bootstrap: debootstrap\nOSVersion: bookworm\nInclude: vim \\\n%post\ntrue\n");
    assert_eq!(value(&stage, "include"), None);
    let stage = self::stage("Bootstrap: docker\nFrom: debian:12 \\\n%post\ntrue\n");
    assert_eq!(value(&stage, "from"), Some("debian:12"));
}

#[test]
fn keeps_a_number_sign_of_a_url_and_cuts_the_comment_behind_it() {
    let text = "Bootstrap: debootstrap\nOSVersion: bookworm\nMirrorURL: http://u:p#w@host/debian/#main # comment\n";
    let stage = stage(text);
    assert_eq!(value(&stage, "mirrorurl"), Some("http://u:p#w@host/debian/#main"));
    let Bootstrap::Debootstrap(base) = stage.bootstrap else { panic!() };
    assert_eq!(base.mirror_url.unwrap().value, "http://u:p%23w@host/debian/");
}
