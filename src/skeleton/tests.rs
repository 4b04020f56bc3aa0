use super::oci::put_runtime;
use super::*;
use crate::arch::Arch;
use crate::definition::{App, Bootstrap, HeaderEntry, Label, Script, Stage};
use crate::digest::Digest;
use crate::source::Span;
use crate::tree::{Change, Kind, Layer, Node, Tree, text};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn script(body: &str) -> Option<Script> {
    Some(Script { arguments: String::new(), body: body.to_owned(), span: Span::default(), lines: vec![1] })
}

fn with_arguments(arguments: &str, body: &str) -> Script {
    Script { arguments: arguments.to_owned(), ..script(body).unwrap() }
}

fn label(key: &str, value: &str) -> Label {
    Label { key: key.to_owned(), value: value.to_owned(), span: Span::default() }
}

fn stage() -> Stage {
    let span = Span::default();
    let header = vec![HeaderEntry { key: "bootstrap".into(), value: "scratch".into(), key_span: span, span }];
    Stage { header, ..Stage::new(Bootstrap::Scratch, span) }
}

fn inputs() -> MetadataInputs<'static> {
    MetadataInputs {
        raw: "bootstrap: scratch\n",
        created: Timestamp::utc(1_740_992_707),
        arch: Arch::Amd64,
        variant: None,
        version: "1.2.3",
        base: None,
        unchecked: None,
        force: false,
        mtime: 7,
    }
}

fn tree_of(layers: &[&str]) -> Tree {
    let mut tree = Tree::new();
    for (number, layer) in layers.iter().enumerate() {
        tree.apply(&text::parse(layer).unwrap(), number as u32).unwrap();
    }
    tree
}

fn nothing_stored(path: &TreePath) -> Option<Vec<u8>> {
    panic!("{path} is not inline");
}

/// The inline bytes of a file of a layer.
fn file(layer: &Layer, path: &str) -> String {
    let path = TreePath::parse(path).unwrap();
    let entry = layer.entries.iter().rev().find(|entry| entry.path == path);
    match entry.map(|entry| &entry.change) {
        Some(Change::Put(_, Kind::File { body: crate::tree::Body::Inline(bytes), .. })) => {
            String::from_utf8(bytes.to_vec()).unwrap()
        }
        other => panic!("{path}: {other:?}"),
    }
}

fn has(layer: &Layer, path: &str) -> bool {
    let path = TreePath::parse(path).unwrap();
    layer.entries.iter().any(|entry| entry.path == path)
}

/// The shells that the generated scripts are checked with: the host's own, and bash where the host has it.
fn shells() -> Vec<&'static str> {
    ["/bin/sh", "/bin/bash"].into_iter().filter(|shell| Path::new(shell).exists()).collect()
}

/// A program that shows its arguments, each in `<>`.
const SHOW: &str = "for a in \"$@\"; do printf '<%s>' \"$a\"; done; exit 0";

fn run(shell: &str, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script");
    fs::write(&path, script).unwrap();
    let output = Command::new(shell)
        .arg(&path)
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{shell}: {}\n{script}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const ODD: [&str; 9] =
    ["", "a b", "it's", "say \"x\"", "$HOME `id` $(id)", "back\\slash\\", "two\nlines", "-n", "*?[a]~#!&;|<>"];

fn shown(words: &[&str]) -> String {
    words.iter().map(|word| format!("<{word}>")).collect()
}

fn runscript_of(entrypoint: &[&str], cmd: &[&str]) -> String {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let config = OciRuntime { entrypoint: words(entrypoint), cmd: words(cmd), ..OciRuntime::default() };
    file(&oci_runtime(&Tree::new(), &config, 0), ".singularity.d/runscript")
}

#[test]
fn base_environment_of_an_empty_root() {
    insta::assert_snapshot!(text::write(&base_environment(&Tree::new(), true, 5)));
}

#[test]
fn keeps_files_of_the_base_unless_told_to_overwrite() {
    let tree = tree_of(&["i 0600 1 2 3 \"mine /.singularity.d/runscript\ni 0600 1 2 3 \"127.0.0.1 /etc/hosts\n"]);
    let kept = base_environment(&tree, false, 0);
    assert!(!has(&kept, ".singularity.d/runscript") && !has(&kept, "etc/hosts"));
    assert!(has(&kept, ".singularity.d/startscript") && has(&kept, "etc/resolv.conf"));
    let replaced = base_environment(&tree, true, 0);
    assert_eq!(file(&replaced, "etc/hosts"), "");
    assert!(file(&replaced, ".singularity.d/runscript").contains("no runscript"));
}

#[test]
fn leaves_directories_symlinks_and_foreign_names_at_the_root_alone() {
    let tree = tree_of(&[
        "d 1777 0 0 0 - /tmp\nd 0755 0 0 0 - /usr\nl 0777 0 0 0 \"usr/home /home\nd 0700 0 0 0 - /singularity\n\
         l 0777 0 0 0 \"elsewhere /.run\nl 0777 0 0 0 \".singularity.d/actions/exec /.exec\n",
    ]);
    let layer = base_environment(&tree, true, 0);
    for path in ["tmp", "home", "singularity", ".exec", "usr/home"] {
        assert!(!has(&layer, path), "{path}");
    }
    assert!(has(&layer, ".run") && has(&layer, ".test"));
}

#[test]
fn writes_through_symlinks_inside_the_image_and_replaces_dangling_ones() {
    let tree = tree_of(&[
        "d 0755 0 0 0 - /run\ni 0644 0 0 0 \"old /run/hosts\nd 0755 0 0 0 - /real\nl 0777 0 0 0 \"real /etc\n\
         l 0777 0 0 0 \"/run/hosts /real/hosts\nl 0777 0 0 0 \"../../run/stub /real/resolv.conf\n",
    ]);
    let layer = base_environment(&tree, true, 0);
    assert!(has(&layer, "run/hosts") && !has(&layer, "etc/hosts") && !has(&layer, "real/hosts"));
    assert_eq!(file(&layer, "real/resolv.conf"), "");
    let mut merged = tree.clone();
    merged.apply(&layer, 9).unwrap();
    let (_, found) = merged.resolve(b"/etc/resolv.conf", true).unwrap();
    assert!(matches!(merged.inode(found.unwrap()).node, Node::File { size: 0, .. }));
}

#[test]
fn makes_the_root_writable_for_its_owner() {
    let tree = tree_of(&["d 0555 3 4 9 - /\n"]);
    let layer = base_environment(&tree, true, 0);
    assert!(text::write(&layer).starts_with("d 0755 3 4 9 - /\n"));
}

#[test]
fn every_origin_has_its_runscript() {
    let tree = Tree::new();
    assert_eq!(file(&after_base(&tree, Origin::Shell, None, 0), ".singularity.d/runscript"), "#!/bin/sh\n");
    assert!(file(&after_base(&tree, Origin::Local, None, 0), ".singularity.d/runscript").contains("no runscript"));
    let busybox = after_base(&tree, Origin::Busybox, None, 0);
    assert!(file(&busybox, "etc/hosts").starts_with("127.0.0.1"));
    assert_eq!(file(&busybox, "etc/passwd"), "root:!:0:0:root:/root:/bin/sh");
    let oci = after_base(&tree, Origin::Oci, Some(&OciRuntime::default()), 0);
    assert!(file(&oci, ".singularity.d/runscript").contains("OCI_ENTRYPOINT=''"));
    assert_eq!(file(&oci, ".singularity.d/env/94-appsbase.sh"), "");
}

#[test]
fn every_script_parses_in_every_shell() {
    let layer = after_base(&Tree::new(), Origin::Local, None, 0);
    for entry in &layer.entries {
        let Change::Put(_, Kind::File { body: crate::tree::Body::Inline(bytes), .. }) = &entry.change else { continue };
        for shell in shells() {
            let script = String::from_utf8(bytes.to_vec()).unwrap();
            let parsed = Command::new(shell).args(["-n", "-c", &script]).status().unwrap();
            assert!(parsed.success(), "{shell} {}", entry.path);
        }
    }
}

#[test]
fn library_path_and_prompt_have_defaults_and_are_kept() {
    let layer = base_environment(&Tree::new(), true, 0);
    let script = file(&layer, ".singularity.d/env/99-base.sh") + "printf '%s|%s' \"$LD_LIBRARY_PATH\" \"$PS1\"\n";
    for shell in shells() {
        // A shell may have a prompt of its own at its start.
        let without_prompt = format!("unset PS1\n{script}");
        assert_eq!(run(shell, &without_prompt, &[], &[]), "/.singularity.d/libs|Apptainer> ");
        let variables = [("LD_LIBRARY_PATH", "/a"), ("PS1", "$ ")];
        assert!(run(shell, &script, &[], &variables).starts_with("/a:/.singularity.d/libs|"));
    }
}

#[test]
fn path_of_the_caller_is_prepended_appended_or_replaced() {
    let layer = base_environment(&Tree::new(), true, 0);
    let script = file(&layer, ".singularity.d/env/99-runtimevars.sh")
        + "printf '%s|%s' \"$PATH\" \"${SING_USER_DEFINED_PREPEND_PATH-unset}\"\n";
    let prepend = ("SING_USER_DEFINED_PREPEND_PATH", "/first");
    let append = ("SING_USER_DEFINED_APPEND_PATH", "/last");
    for shell in shells() {
        assert_eq!(run(shell, &script, &[], &[("PATH", "/bin"), prepend, append]), "/first:/bin:/last|unset");
        let replace = ("SING_USER_DEFINED_PATH", "/only");
        assert_eq!(run(shell, &script, &[], &[("PATH", "/bin"), prepend, replace]), "/only|unset");
    }
}

#[test]
fn runscript_has_the_line_that_the_runtime_looks_for() {
    let script = runscript_of(&["/bin/a"], &["b"]);
    assert!(script.lines().any(|line| line == "eval \"set ${SINGULARITY_OCI_RUN}\""));
    insta::assert_snapshot!(script);
}

#[test]
fn runscript_gives_odd_words_of_the_image_back_unchanged() {
    let entrypoint = [["/bin/sh", "-c", SHOW, "name"].as_slice(), &ODD].concat();
    for shell in shells() {
        for variables in [[].as_slice(), &[("SINGULARITY_NO_EVAL", "1")]] {
            let both = runscript_of(&entrypoint, &ODD);
            assert_eq!(run(shell, &both, &[], variables), shown(&[ODD, ODD].concat()), "{shell} {variables:?}");
            assert_eq!(run(shell, &both, &["x", "y z"], variables), shown(&ODD) + "<x><y z>");
            let entrypoint_only = runscript_of(&entrypoint, &[]);
            assert_eq!(run(shell, &entrypoint_only, &[], variables), shown(&ODD));
            assert_eq!(run(shell, &entrypoint_only, &["x"], variables), shown(&ODD) + "<x>");
            let cmd_only = runscript_of(&[], &entrypoint);
            assert_eq!(run(shell, &cmd_only, &[], variables), shown(&ODD));
            assert_eq!(run(shell, &cmd_only, &["/bin/echo", "a  b"], variables), "a  b\n");
        }
    }
}

#[test]
fn runscript_evaluates_words_of_the_user_unless_told_not_to() {
    let script = runscript_of(&["/bin/sh", "-c", SHOW, "name"], &["unused"]);
    for shell in shells() {
        assert_eq!(run(shell, &script, &["$X"], &[("X", "a b")]), "<a b>");
        let literal = [("X", "a b"), ("SINGULARITY_NO_EVAL", "1")];
        assert_eq!(run(shell, &script, &ODD, &literal), shown(&ODD));
    }
}

#[test]
fn image_environment_is_set_as_the_image_says_and_yields_to_the_caller() {
    let mut env: Vec<String> = ODD.iter().enumerate().map(|(number, value)| format!("V{number}={value}")).collect();
    env.extend(["BRACE=a}b{c", "PATH=/image:$x", "CALLER=image", "BARE", "1bad=x", "b-ad=x", "=x"].map(str::to_owned));
    let layer = oci_runtime(&Tree::new(), &OciRuntime { env, ..OciRuntime::default() }, 0);
    let mut script = file(&layer, ".singularity.d/env/10-docker2singularity.sh");
    assert!(!script.contains("bad") && !script.contains("b-ad"));
    let values: Vec<String> = (0..ODD.len()).map(|number| format!("\"$V{number}\"")).collect();
    script.push_str(&format!(
        "for a in {} \"$BRACE\" \"$PATH\" \"$CALLER\" \"$BARE\"; do printf '<%s>' \"$a\"; done\n",
        values.join(" ")
    ));
    for shell in shells() {
        let found = run(shell, &script, &[], &[("CALLER", "mine"), ("PATH", "/host")]);
        assert_eq!(found, shown(&ODD) + "<a}b{c></image:$x><mine><>");
    }
}

#[test]
fn labels_of_an_oci_image_are_written_as_go_writes_them() {
    let written = |labels| {
        let config = OciRuntime { labels, ..OciRuntime::default() };
        file(&oci_runtime(&Tree::new(), &config, 0), ".singularity.d/labels.json")
    };
    assert_eq!(written(None), "null");
    assert_eq!(written(Some(BTreeMap::new())), "{}");
    let labels = [("b", "<a href=\"x\">&\u{2028}\u{1}\u{8}\u{7f}é"), ("a", "1\n\t2\\")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(
        written(Some(BTreeMap::from(labels))),
        "{\n\t\"a\": \"1\\n\\t2\\\\\",\n\t\"b\": \"\\u003ca href=\\\"x\\\"\\u003e\\u0026\\u2028\\u0001\\b\u{7f}é\"\n}"
    );
}

#[test]
fn oci_files_replace_those_of_the_base_environment_in_one_layer() {
    let tree = Tree::new();
    let mut changes = super::changes::Changes::new(&tree, 0);
    put_runtime(&mut changes, &OciRuntime::default());
    let mut merged = Tree::new();
    merged.apply(&after_base(&tree, Origin::Oci, Some(&OciRuntime::default()), 0), 0).unwrap();
    let id = merged.get(&TreePath::parse(".singularity.d/runscript").unwrap()).unwrap();
    assert!(matches!(&merged.inode(id).node, Node::File { size, .. }
        if *size == file(&changes.layer, ".singularity.d/runscript").len() as u64));
}

#[test]
fn command_lines_of_scripts_follow_their_arguments() {
    let argv =
        |arguments: &str| script_argv(&with_arguments(arguments, ""), "/.post.script").map(|argv| argv.join("|"));
    assert_eq!(argv("").unwrap(), "/bin/sh|-ex|/.post.script");
    assert_eq!(argv("-u  -o pipefail # why").unwrap(), "/bin/sh|-ex|-u|-o|pipefail|/.post.script");
    assert_eq!(argv("-c /bin/bash -x").unwrap(), "/bin/sh|-ex|-c|/bin/bash -x /.post.script");
    assert_eq!(argv("-u -c python3 -c").unwrap(), "/bin/sh|-ex|-u|-c|python3 -c /.post.script");
    assert!(argv("-c").unwrap_err().to_string().contains("'-c'"));
    assert!(argv("-c # x").is_err());
}

#[test]
fn files_of_scripts_keep_their_own_interpreter() {
    let written = |arguments: &str, body: &str| file_script(&with_arguments(arguments, body));
    assert_eq!(written("", "echo a\n"), "#!/bin/sh\n\necho a\n\n");
    assert_eq!(written("", "#!/bin/bash\necho a\n"), "#!/bin/bash\n\necho a\n\n");
    assert_eq!(written("", "\n  #!/bin/bash \n echo a\n"), "#!/bin/bash\n\n echo a\n\n");
    assert_eq!(written("", "#!/bin/true"), "#!/bin/true\n\n\n");
    assert_eq!(written("-e", "echo a\n"), "#!/bin/sh -e\n\necho a\n\n");
    assert_eq!(written("-e # c", "echo a\n"), "#!/bin/sh -e \n\necho a\n\n");
}

fn app(name: &str) -> App {
    App { name: name.to_owned(), ..App::default() }
}

#[test]
fn post_ends_with_the_installation_of_every_app() {
    let mut stage = stage();
    assert_eq!(post_script(&stage), None);
    stage.apps = vec![app("bar"), app("it's"), app("../out"), app("")];
    stage.apps[0].install = script("make\n");
    stage.post = script("echo a\n");
    insta::assert_snapshot!(post_script(&stage).unwrap().body);
    stage.post = None;
    assert!(post_script(&stage).unwrap().body.starts_with("\ncd /\n. /scif/apps/bar/scif/env/01-base.sh\n"));
}

#[test]
fn apps_are_laid_out_and_those_without_a_place_are_told() {
    let mut stage = stage();
    stage.apps = vec![app("foo-1"), app("../../etc")];
    let foo = &mut stage.apps[0];
    foo.run = script("echo run\n");
    foo.environment = script("export A=b\n");
    foo.help = script("help\n");
    foo.labels = vec![label("k", "v")];
    let (layer, warnings) = apps(&stage, &Tree::new(), 3);
    insta::assert_snapshot!(text::write(&layer));
    assert_eq!(warnings, ["App \"../../etc\" is left out: its name is not a path below /scif/apps"]);
}

#[test]
fn exports_of_apps_can_be_sourced_and_lead_to_their_real_place() {
    let mut stage = stage();
    stage.apps = vec![app("foo-1"), app("it's $x")];
    let (layer, _) = apps(&stage, &Tree::new(), 0);
    let exports = file(&layer, ".singularity.d/env/94-appsbase.sh");
    let base = file(&layer, "scif/apps/it's $x/scif/env/01-base.sh");
    let script =
        format!("set -e\n{exports}\n{base}\necho \"$SCIF_APPROOT_foo_1 $SCIF_APPBIN_it_s__x $SCIF_APPINPUT\"\n");
    for shell in shells() {
        assert_eq!(run(shell, &script, &[], &[]), "/scif/apps/foo-1 /scif/apps/it's $x/bin /scif/data/it's $x/input\n");
    }
}

fn full_stage() -> Stage {
    let mut stage = stage();
    stage.help = script("  Help me\n");
    stage.environment = script("export A=b\n");
    stage.runscript = script("exec echo run\n");
    stage.startscript = script("exec echo start\n");
    stage.test = script("#!/bin/bash\ntrue\n");
    stage.labels = vec![label("Author", "me"), label("org.label-schema.build-arch", "z80"), label("Author", "you")];
    stage
}

#[test]
fn metadata_above_a_base_environment() {
    let mut tree = Tree::new();
    tree.apply(&after_base(&tree, Origin::Shell, None, 1), 0).unwrap();
    let (layer, warnings) = definition_metadata(&full_stage(), &tree, &inputs(), &nothing_stored);
    insta::assert_snapshot!(text::write(&layer));
    assert_eq!(
        warnings,
        ["Label: org.label-schema.build-arch already exists and force option is false, not overwriting"]
    );
    assert_eq!(
        file(&layer, ".singularity.d/env/90-environment.sh"),
        "#!/bin/sh\n# Custom environment shell code should follow\n\n\nexport A=b\n\n"
    );
}

#[test]
fn metadata_on_nothing_make_their_directories() {
    let (layer, _) = definition_metadata(&full_stage(), &Tree::new(), &inputs(), &nothing_stored);
    Tree::new().apply(&layer, 0).unwrap();
    assert!(text::write(&layer).starts_with("d 0755 0 0 7 - /.singularity.d\n"));
    assert_eq!(file(&layer, ".singularity.d/env/90-environment.sh"), "#!/bin/sh\n\nexport A=b\n\n");
}

#[test]
fn labels_of_post_win_over_the_base_and_their_file_goes() {
    let tree = tree_of(&[
        "i 0644 0 0 0 \"{\"base\":\"1\",\"both\":\"base\",\"Author\":\"base\",\"n\":1} /.singularity.d/labels.json\n\
         f 0664 0 0 0 40 /.build.labels\n",
    ]);
    let read =
        |path: &TreePath| (path.as_bytes() == b".build.labels").then(|| b"both post value \n# no\n\nalone\n".to_vec());
    let mut stage = stage();
    stage.labels = vec![label("Author", "me"), label("new", "x")];
    let (layer, warnings) = definition_metadata(&stage, &tree, &inputs(), &read);
    let labels: BTreeMap<String, String> = serde_json::from_str(&file(&layer, ".singularity.d/labels.json")).unwrap();
    let value = |key: &str| labels.get(key).map(String::as_str);
    assert_eq!([value("base"), value("both"), value("alone")], [Some("1"), Some("post value"), Some("")]);
    assert_eq!([value("Author"), value("new"), value("n")], [Some("base"), Some("x"), None]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(text::write(&layer).contains("w /.build.labels\n"));

    let forced = MetadataInputs { force: true, ..inputs() };
    let (layer, _) = definition_metadata(&stage, &tree, &forced, &read);
    assert!(file(&layer, ".singularity.d/labels.json").contains("\"Author\": \"me\""));
}

#[test]
fn no_label_hides_that_checks_were_turned_off() {
    let tree = tree_of(&["i 0644 0 0 0 \"{\"org.sifbuild.unchecked\":\"x\"} /.singularity.d/labels.json\n"]);
    let mut stage = stage();
    stage.labels = vec![label("org.sifbuild.unchecked", "nothing")];
    for force in [false, true] {
        let inputs = MetadataInputs { force, unchecked: Some("--no-check-signatures"), ..inputs() };
        let (layer, _) = definition_metadata(&stage, &tree, &inputs, &nothing_stored);
        let labels = file(&layer, ".singularity.d/labels.json");
        assert_eq!(unchecked_label(labels.as_bytes()).as_deref(), Some("--no-check-signatures"));
    }
}

#[test]
fn labels_of_the_build_name_the_base_and_the_header() {
    let inputs = MetadataInputs {
        variant: Some("v7"),
        base: Some(BaseImage { name: "docker.io/library/a:1".to_owned(), digest: Digest::of(b"a") }),
        ..inputs()
    };
    let (layer, _) = definition_metadata(&full_stage(), &Tree::new(), &inputs, &nothing_stored);
    insta::assert_snapshot!(file(&layer, ".singularity.d/labels.json"));
}

#[test]
fn a_null_or_broken_labels_file_of_the_base_is_no_error() {
    for (content, expected) in [("null", 0), ("[1]", 1), ("", 1), ("{\"a\":", 1)] {
        let tree = tree_of(&[&format!("i 0644 0 0 0 \"{content} /.singularity.d/labels.json\n")]);
        let (layer, warnings) = definition_metadata(&stage(), &tree, &inputs(), &nothing_stored);
        assert_eq!(warnings.len(), expected, "{content}: {warnings:?}");
        assert!(file(&layer, ".singularity.d/labels.json").contains("build-arch"));
    }
}

#[test]
fn the_definition_of_the_base_moves_to_the_history() {
    let tree = tree_of(&["i 0644 0 0 0 \"first /.singularity.d/bootstrap_history/Apptainer0\n\
         i 0644 0 0 0 \"second /.singularity.d/Singularity\n"]);
    let (layer, _) = definition_metadata(&stage(), &tree, &inputs(), &nothing_stored);
    assert_eq!(file(&layer, ".singularity.d/bootstrap_history/Apptainer1"), "second");
    assert_eq!(file(&layer, ".singularity.d/Singularity"), "bootstrap: scratch\n");
    assert!(!has(&layer, ".singularity.d/bootstrap_history"));
}

#[test]
fn help_of_the_base_is_kept_unless_forced() {
    let tree = tree_of(&["i 0600 0 0 0 \"old /.singularity.d/runscript.help\n"]);
    let mut stage = stage();
    stage.help = script("new\n");
    let (layer, warnings) = definition_metadata(&stage, &tree, &inputs(), &nothing_stored);
    assert!(!has(&layer, ".singularity.d/runscript.help"));
    assert_eq!(warnings, ["Help message already exists and force option is false, not overwriting"]);
    let forced = MetadataInputs { force: true, ..inputs() };
    let (layer, _) = definition_metadata(&stage, &tree, &forced, &nothing_stored);
    assert_eq!(file(&layer, ".singularity.d/runscript.help"), "new\n\n");
    assert!(text::write(&layer).contains("i 0600 0 0 7 \"new\\x0a\\x0a /.singularity.d/runscript.help"));
}

#[test]
fn moments_are_told_in_their_zone() {
    let berlin = Timestamp { seconds: 1_740_992_707, offset: 3600, zone: "CET".to_owned() };
    assert_eq!(berlin.rfc3339(), "2025-03-03T10:05:07+01:00");
    assert_eq!(berlin.build_date(), "Monday_3_March_2025_10:5:7_CET");
    let west = Timestamp { seconds: 951_782_400, offset: -12_600, zone: "X".to_owned() };
    assert_eq!(west.rfc3339(), "2000-02-28T20:30:00-03:30");
    assert_eq!(Timestamp::utc(951_782_400).build_date(), "Tuesday_29_February_2000_0:0:0_UTC");
    assert_eq!(Timestamp::utc(0).rfc3339(), "1970-01-01T00:00:00Z");
    assert_eq!(Timestamp::utc(-1).rfc3339(), "1969-12-31T23:59:59Z");
    let _ = (Timestamp::utc(i64::MAX).build_date(), Timestamp::utc(i64::MIN).build_date());
}
