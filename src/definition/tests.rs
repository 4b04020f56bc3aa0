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
    assert_eq!(
        (post.arguments.as_str(), post.body.as_str(), post.lines.as_slice()),
        ("-c /bin/bash # x", "  a\n\n# b\n", &[4, 5, 6][..])
    );
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

#[test]
fn leaves_a_number_sign_of_other_values_to_the_comment() {
    let text = "Bootstrap: docker # agent\nFrom: debian:12#slim\n";
    assert_eq!(value(&stage(text), "from"), Some("debian:12"));
    assert_eq!(codes(text), ["SB028"]);
}

#[test]
fn accepts_every_header_key_and_numbered_urls() {
    for key in header::KEYS.iter().filter(|key| !matches!(**key, "bootstrap" | "from" | "otherurl" | "fingerprints")) {
        assert_eq!(errors(&format!("Bootstrap: localimage\nFrom: a.sif\n{key}: x\n")), [""; 0], "{key}");
    }
    assert_eq!(errors("Bootstrap: scratch\nOtherURL0: a\notherurl17: b\n"), [""; 0]);
    assert_eq!(errors("Bootstrap: scratch\nOtherURL: a\n"), ["SB005"]);
    assert_eq!(errors("Bootstrap: scratch\nFrom2: a\n"), ["SB005"]);
}

#[test]
fn lowers_each_agent_to_its_own_variant() {
    for agent in ["shub", "buildkit", "dockerfile"] {
        let stage = stage(&format!("Bootstrap: {agent}\nFrom: x\n"));
        assert!(matches!(&stage.bootstrap, Bootstrap::Absent(name) if name.value == agent), "{agent}");
    }
    for agent in ["yum", "dnf", "zypper"] {
        let text = format!(
            "Bootstrap: {agent}\nMirrorURL: http://h/%{{OSVERSION}}/\nOSVersion: 9\nInclude: a, b c\nModules: m:1, n:2\n\
             OtherURL0: epel=http://e/\nProductPGP: https://h/k file:///k\nSetopt: install_weak_deps=0\n"
        );
        let Bootstrap::Yum(base) = stage(&text).bootstrap else { panic!("{agent}") };
        let words = |list: &[Spanned<String>]| list.iter().map(|word| word.value.clone()).collect::<Vec<_>>();
        assert_eq!((base.agent.as_str(), base.os_version.as_deref()), (agent, Some("9")));
        assert_eq!(words(&base.include), ["a", "b", "c"]);
        assert_eq!(words(&base.modules), ["m:1", "n:2"]);
        assert_eq!(words(&base.other_urls), ["epel=http://e/"]);
        assert_eq!(words(&base.keys), ["https://h/k", "file:///k"]);
    }
    let text = "Bootstrap: zypper\nMirrorURL: http://h/\nProduct: SLES\nUser: u\nRegcode: r\n";
    assert!(matches!(stage(text).bootstrap, Bootstrap::Absent(_)), "{text}");
    let text = "Bootstrap: arch\nMirrorURL: http://h/$repo/os/$arch\nInclude: base, vim\nProductPGP: https://h/k\n";
    let Bootstrap::Arch(base) = stage(text).bootstrap else { panic!() };
    assert_eq!((base.include.len(), base.keys.len(), base.conf_url), (2, 1, None));
    assert_eq!(base.mirror_url.unwrap().value, "http://h/$repo/os/$arch");
    let Bootstrap::Docker(base) = stage("Bootstrap: docker\nFrom: a:1\nRegistry: ghcr.io\nNamespace: n\n").bootstrap
    else {
        panic!()
    };
    assert_eq!((base.registry.as_deref(), base.namespace.as_deref()), (Some("ghcr.io"), Some("n")));
    let text = "Bootstrap: localimage\nFrom: a b.sif\nFingerprints: 12045c8c0b1004d058de4beda20c27ee7ff7ba84 # me\n";
    let Bootstrap::Localimage(base) = stage(text).bootstrap else { panic!() };
    assert_eq!(
        (base.from.value.as_str(), base.fingerprints[0].as_str()),
        ("a b.sif", "12045C8C0B1004D058DE4BEDA20C27EE7FF7BA84")
    );
}

#[test]
fn oras_and_library_bases_name_an_image_elsewhere() {
    let Bootstrap::Oras(base) = stage("Bootstrap: oras\nFrom: oras://ghcr.io/o/a:1\n").bootstrap else { panic!() };
    assert_eq!(base.from.value, "ghcr.io/o/a:1");
    assert_eq!(errors("Bootstrap: oras\nFrom: ghcr.io/o/A:1\n"), ["SB016"]);
    assert_eq!(errors("Bootstrap: oras\nFrom: docker://ghcr.io/o/a:1\n"), ["SB107"]);
    let text = "Bootstrap: library\nFrom: e/c/n:1\nLibrary: https://library.example\n";
    let Bootstrap::Library(base) = stage(text).bootstrap else { panic!() };
    assert_eq!((base.from.value.as_str(), base.library.as_deref()), ("e/c/n:1", Some("https://library.example")));
}

fn entries(line: &str) -> Vec<(String, String)> {
    let stage = stage(&format!("{HEAD}%files\n{line}\n"));
    stage.files[0].entries.iter().map(|entry| (entry.source.clone(), entry.destination.clone())).collect()
}

#[test]
fn reads_paths_of_files_with_quotes_and_globs() {
    let pair = |source: &str, destination: &str| vec![(source.to_owned(), destination.to_owned())];
    assert_eq!(entries("  a  "), pair("a", ""));
    assert_eq!(entries("a\t/b c"), pair("a", "/b"));
    assert_eq!(entries("\"a b\" \"/c d/\""), pair("a b", "/c d/"));
    assert_eq!(entries("'a b' '/c d'"), pair("a b", "/c d"));
    assert_eq!(entries("it's.txt /x"), pair("it's.txt", "/x"));
    assert_eq!(entries("dir/@(a|b)*[0-9]? /x"), pair("dir/@(a|b)*[0-9]?", "/x"));
    assert_eq!(entries("dir/\"a b\" /x"), pair("dir/", "a b"));
    assert_eq!(entries("\"a b /x"), pair("a", "b"));
    assert_eq!(entries("# c\n\n#d"), []);
}

#[test]
fn joins_files_of_one_argument_string_and_keeps_others_apart() {
    let text = format!(
        "Bootstrap: scratch\nStage: one\n{HEAD}%files\na\n%files from one\nb\n%files # x\nc\n%files\nd\n%files one\ne\n"
    );
    let stage = good(&text).stages.remove(1);
    let shown: Vec<(Option<&str>, usize)> = stage
        .files
        .iter()
        .map(|block| (block.from.as_ref().map(|from| from.value.as_str()), block.entries.len()))
        .collect();
    assert_eq!(shown, [(None, 2), (Some("one"), 1), (None, 1)]);
    assert_eq!(stage.written.files.len(), 4);
}

#[test]
fn reads_labels_parted_by_the_first_space() {
    let stage = stage(&format!("{HEAD}%labels\n  A  x y\n# c\nB\n%labels\nA \"z\"\n"));
    let shown: Vec<(&str, &str)> =
        stage.labels.iter().map(|label| (label.key.as_str(), label.value.as_str())).collect();
    assert_eq!(shown, [("A", "\"z\""), ("B", "")]);
}

#[test]
fn reads_apps_in_order_of_first_appearance() {
    let text =
        format!("{HEAD}%apprun b\n1\n%appinstall a\n2\n%apprun b\n3\n%applabels a\nK v\n%appfiles a\nx y # z\nw\n");
    let stage = stage(&text);
    assert_eq!(stage.apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(body(&stage.apps[0].run), "1\n3\n");
    assert_eq!(stage.apps[1].labels[0].value, "v");
    let files: Vec<(&str, &str)> =
        stage.apps[1].files.iter().map(|entry| (entry.source.as_str(), entry.destination.as_str())).collect();
    assert_eq!(files, [("x", "y"), ("w", "")]);
    assert_eq!(stage.written.apps["apprun b"], "1\n3\n");
}

#[test]
fn puts_arguments_in_by_precedence_and_one_level_deep() {
    let text =
        "Bootstrap: docker\nFrom: debian:{{ V }}\n%arguments\nV = {{W}}\nW={{X}}\nX=1\n%post {{X}}\necho {{\nX}}\n";
    let parsed = parse_with(text, &["W=12", "X=2", "X=3"]);
    let definition = match parsed.definition {
        Some(definition) => definition,
        None => panic!("{}", render::text(&parsed.diagnostics, false)),
    };
    let stage = &definition.stages[0];
    assert_eq!(value(stage, "from"), Some("debian:12"));
    assert_eq!(stage.post.as_ref().unwrap().arguments, "3");
    assert_eq!(body(&stage.post), "echo 3\n");
    assert!(definition.raw.starts_with("Bootstrap: docker\nFrom: debian:12\n%arguments\nV = 12\nW=3\nX=1\n"));
}

#[test]
fn leaves_commented_placeholders_alone() {
    let text = format!("{HEAD}%post\n# {{{{ NO }}}}\n#!/bin/{{{{ A }}}}\n#{{{{ A }}}}\necho $#x {{{{ NO }}}}\n");
    let parsed = parse_with(&text, &["A=sh"]);
    assert_eq!(body(&parsed.definition.unwrap().stages[0].post), "# {{ NO }}\n#!/bin/sh\n#sh\necho $#x {{ NO }}\n");
}

#[test]
fn keeps_arguments_of_one_stage_from_another() {
    let text = format!("{HEAD}%arguments\nA=1\n%post\necho {{{{ A }}}}\n{HEAD}%post\necho {{{{ A }}}}\n");
    assert_eq!(errors(&text), ["SB013"]);
}

#[test]
fn refuses_unused_arguments_or_warns_of_them() {
    let mut arguments = Arguments::default();
    arguments.add("A=1").unwrap();
    let source = SourceFile::new("test.def", HEAD);
    assert!(parse(&source, &arguments).definition.is_none());
    arguments.warn_unused = true;
    assert!(parse(&source, &arguments).definition.is_some());
    assert!(arguments.add("A").is_err() && arguments.add("=1").is_err());
}

#[test]
fn keeps_a_here_document_that_apptainer_cannot_cut() {
    let text =
        format!("{HEAD}%post\ncat > x.def <<-'EOF'\nBootstrap: docker\n%post\n echo\n\tEOF\n echo end\n%test\ntrue\n");
    let definition = good(&text);
    assert_eq!(definition.stages.len(), 1);
    assert!(body(&definition.stages[0].post).ends_with("\tEOF\n echo end\n"));
    let text = format!("{HEAD}%runscript\npython3 <<A <<\"B\"\n%magic\nA\n  %more\nB\n");
    assert!(body(&stage(&text).runscript).ends_with("B\n"));
}

#[test]
fn cuts_a_here_document_where_apptainer_builds_the_halves() {
    let text = format!("{HEAD}%runscript\ncat <<EOF\n%environment\nexport A=1\nEOF\n");
    assert_eq!(body(&stage(&text).environment), "export A=1\nEOF\n");
    assert_eq!(codes(&text), ["SB029"]);
    let text = format!("{HEAD}%post\necho $((1 << 2))\n%magic\n");
    assert_eq!(errors(&text), ["SB003"]);
}

#[test]
fn reads_sections_larger_than_64_kib() {
    let long = "echo 0123456789\n".repeat(20_000);
    assert_eq!(body(&stage(&format!("{HEAD}%post\n{long}")).post).len(), long.len());
}

#[test]
fn refuses_arguments_that_grow_without_bound() {
    let mut text = format!("{HEAD}%arguments\nA={}\n", "x".repeat(1 << 16));
    text += &format!("B={}\n%post\n{}\n", "{{A}}".repeat(1 << 12), "{{B}}".repeat(4));
    assert_eq!(errors(&text), ["SB043"]);
}

#[test]
fn prints_the_json_form_of_apptainer() {
    let text = format!("{HEAD}%help\nh\n%files\na /b\n%apprun x\ny\n%post -x\ntrue\n");
    let json: serde_json::Value = serde_json::from_str(&print_json(&good(&text))).unwrap();
    let stage = &json[0];
    assert_eq!(stage["header"], serde_json::json!({"bootstrap": "docker", "from": "debian:12"}));
    assert_eq!(stage["imageData"]["imageScripts"]["help"], serde_json::json!({"args": "", "script": "h\n"}));
    assert_eq!(stage["buildData"]["files"][0]["files"][0]["destination"], "/b");
    assert_eq!(stage["buildData"]["buildScripts"]["post"], serde_json::json!({"args": "-x", "script": "true\n"}));
    assert_eq!(stage["customData"], serde_json::json!({"apprun x": "y\n"}));
    assert_eq!(stage["appOrder"], serde_json::json!(["x"]));
    assert_eq!(stage["raw"], stage["fullraw"]);
}

#[test]
fn makes_the_definition_of_a_uri() {
    assert_eq!(parse_spec_uri("docker://alpine:3.20"), Some(("docker", "alpine:3.20")));
    assert_eq!(parse_spec_uri("docker-archive:/a.tar"), Some(("docker-archive", "/a.tar")));
    assert_eq!(parse_spec_uri("app.def"), None);
    assert_eq!(parse_spec_uri("C:file"), None);
    let definition = Definition::from_uri("docker", "alpine:3.20").definition.unwrap();
    assert_eq!(definition.raw, "bootstrap: docker\nfrom: alpine:3.20\n\n");
    assert!(Definition::from_uri("http", "h/x.sif").definition.is_none());
    let Bootstrap::Localimage(base) = Definition::from_image("a#b.sif").stages.remove(0).bootstrap else { panic!() };
    assert_eq!(base.from.value, "a#b.sif");
}

#[test]
fn names_the_place_behind_an_argument() {
    let text = format!("{HEAD}%arguments\nA=a much longer value\n%post\necho {{{{ A }}}}\n%psot\n");
    let parsed = parse_with(&text, &[]);
    assert_eq!(parsed.diagnostics[0].span.start, text.find("%psot").unwrap());
    assert!(read_text("x", vec![b'a', 0xff]).is_err());
}

/// Text made of the pieces that the language has rules for.
fn language() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("Bootstrap: docker\n"),
        Just("From: a\n"),
        Just("%post"),
        Just("%files"),
        Just("\n"),
        Just(" "),
        Just("\t"),
        Just("<<EOF\n"),
        Just("EOF\n"),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("#"),
        Just("{{ A }}"),
        Just("{{"),
        Just("%arguments\nA=1\n"),
        Just("$A ${A}"),
        Just("\u{feff}"),
        Just("\u{a0}"),
        Just("é"),
        Just("\r\n"),
        Just("Include: x \\\n"),
        Just("apt-get install x"),
        Just("%apprun x\n"),
        Just("%"),
        Just(":"),
        Just("from x"),
        Just("MirrorURL: http://a:b#c@d/#e\n"),
        Just("=("),
        Just("/tmp/x"),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn never_panics_and_gives_a_definition_exactly_when_there_is_no_error(text in prop_oneof!["\\PC*", "(?s).{0,200}", language()]) {
        let parsed = parse_with(&text, &["A=v"]);
        let error = parsed.diagnostics.iter().any(|found| found.severity == Severity::Error);
        prop_assert_eq!(parsed.definition.is_none(), error);
        for found in &parsed.diagnostics {
            prop_assert!(text.get(found.span.range()).is_some(), "{:?}", found);
        }
        let _ = render::text(&parsed.diagnostics, false);
        let _ = render::sarif(&parsed.diagnostics);
        let _ = render::github(&parsed.diagnostics);
        let _ = render::apply_fixes(&text, &parsed.diagnostics);
        if let Some(definition) = &parsed.definition {
            let _ = print_json(definition);
        }
    }
}
