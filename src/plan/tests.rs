use super::*;
use crate::definition::{App, Bootstrap, FileEntry, FilesBlock, HeaderEntry, Label, RegistryBase, Script};
use crate::digest::Digest;
use crate::pins::{BasePin, StagePins};
use crate::source::{SourceFile, Span, Spanned};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A definition of lines `0`, `1`, …, so that a span is a line number.
fn definition(stages: Vec<Stage>) -> Definition {
    let text = "\n".repeat(200);
    Definition { source: SourceFile::new("app.def", text), stages, raw: String::new() }
}

/// The place of a line, from 1.
fn at(line: usize) -> Span {
    Span::new(line - 1, line)
}

fn script(line: usize, body: &str) -> Option<Script> {
    Some(Script { arguments: String::new(), body: body.to_owned(), span: at(line), lines: vec![line + 1] })
}

fn entry(source: &str, destination: &str, line: usize) -> FileEntry {
    FileEntry { source: source.to_owned(), destination: destination.to_owned(), span: at(line) }
}

fn stage(name: Option<&str>, line: usize) -> Stage {
    let from = Spanned::new("a:1".to_owned(), at(line + 1));
    let bootstrap = Bootstrap::Docker(RegistryBase { from, registry: None, namespace: None });
    let header =
        vec![HeaderEntry { key: "bootstrap".into(), value: "docker".into(), key_span: at(line), span: at(line) }];
    let name = name.map(|name| Spanned::new(name.to_owned(), at(line)));
    Stage { name, header, ..Stage::new(bootstrap, at(line)) }
}

/// A stage with a file of the host, a script, an environment and a test.
fn typical() -> Stage {
    let mut stage = stage(None, 1);
    stage.files = vec![FilesBlock { from: None, entries: vec![entry("./src", "/opt", 4)] }];
    stage.post = script(6, "# install\nmake\n");
    stage.environment = script(10, "export A=b\n");
    stage.test = script(13, "true\n");
    stage
}

fn two_stages() -> Vec<Stage> {
    let mut build = stage(Some("build"), 1);
    build.post = script(4, "make\n");
    let mut last = stage(None, 10);
    let from = Some(Spanned::new("build".to_owned(), at(13)));
    last.files = vec![FilesBlock { from, entries: vec![entry("/out", "", 14)] }];
    last.post = script(16, "ldconfig\n");
    vec![build, last]
}

fn pins(stages: usize) -> Pins {
    let mut pins = Pins::default();
    for _ in 0..stages {
        let base = BasePin::Docker { reference: "docker.io/library/a:1".into(), manifest: Digest::of(b"a") };
        let files = ["./src", "b"].map(|source| (source.to_owned(), Digest::of(source.as_bytes())));
        pins.stages.push(StagePins {
            question: "docker amd64 a:1".into(),
            base,
            files: files.clone().into(),
            app_files: files.into(),
        });
    }
    pins
}

fn options() -> PlanOptions {
    PlanOptions::new(Arch::Amd64, IdMode::Range)
}

fn planned(stages: Vec<Stage>) -> Plan {
    let count = stages.len();
    plan(&definition(stages), &pins(count), &options())
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.name.as_str()).collect()
}

fn find<'a>(plan: &'a Plan, name: &str) -> &'a Step {
    plan.steps.iter().find(|step| step.name == name).unwrap_or_else(|| panic!("no {name} in {:?}", names(plan)))
}

fn keys(plan: &Plan) -> BTreeSet<Key> {
    plan.steps.iter().filter_map(Step::key).cloned().collect()
}

/// Names of the steps that run when everything of `before` is stored.
fn reruns(before: &Plan, after: &Plan) -> Vec<String> {
    let stored = keys(before);
    let decisions = prune(after, &|key| stored.contains(key));
    let run = decisions.iter().filter(|decision| decision.verdict == Verdict::Run);
    run.map(|decision| after.step(decision.step).name.clone()).collect()
}

fn rerun_by(change: impl Fn(&mut Stage)) -> Vec<String> {
    let mut changed = typical();
    change(&mut changed);
    reruns(&planned(vec![typical()]), &planned(vec![changed]))
}

fn nothing(_: &Step) -> Option<KeyDocument> {
    None
}

#[test]
fn steps_of_one_stage_are_in_order() {
    let mut stage = typical();
    stage.pre = script(2, "true\n");
    stage.setup = script(3, "true\n");
    stage.apps = vec![App { name: "foo".into(), files: vec![entry("b", "", 20)], ..App::default() }];
    let plan = planned(vec![stage]);
    assert_eq!(names(&plan), ["pre", "base", "skeleton", "apps", "setup", "files", "post", "metadata", "test", "pack"]);
}

#[test]
fn needs_point_backwards_only_and_names_are_unique() {
    let mut stages = two_stages();
    stages[0].name = None;
    let again = stages[1].files[0].clone();
    stages[1].files.push(again);
    stages.push(typical());
    stages[2].pre = script(30, "true\n");
    let plan = planned(stages);
    for step in &plan.steps {
        assert!(step.needs.iter().all(|need| *need < step.id), "{}", step.name);
    }
    let unique: BTreeSet<&str> = names(&plan).into_iter().collect();
    assert_eq!(unique.len(), plan.steps.len());
}

#[test]
fn a_plan_and_its_key_documents() {
    let plan = planned(vec![typical()]);
    let documents: Vec<String> =
        plan.steps.iter().filter_map(|step| Some(format!("[{}]\n{}", step.name, step.document()?.write()))).collect();
    // The scripts of the skeleton have a snapshot of their own; their digest is no news here.
    let version = crate::skeleton::version().to_string();
    let text = documents.join("\n").replace(&version, "SCRIPTS");
    let keys = plan.steps.iter().filter_map(Step::key);
    let text = keys.fold(text, |text, key| text.replace(&key.to_string(), "KEY"));
    insta::assert_snapshot!(text);
}

#[test]
fn second_build_executes_nothing() {
    let plan = planned(vec![typical()]);
    assert_eq!(reruns(&plan, &plan), ["metadata", "pack"]);
}

#[test]
fn reuses_post_when_the_environment_changes() {
    assert_eq!(rerun_by(|stage| stage.environment = script(10, "export A=c\n")), ["metadata", "test", "pack"]);
}

#[test]
fn reuses_everything_when_sections_move_to_other_lines() {
    let moved = |stage: &mut Stage| {
        stage.span = at(50);
        for script in [&mut stage.post, &mut stage.test, &mut stage.environment].into_iter().flatten() {
            script.span = at(60);
            script.lines = vec![61];
        }
        stage.files[0].entries[0].span = at(70);
    };
    assert_eq!(rerun_by(moved), ["metadata", "pack"]);
}

#[test]
fn runs_post_when_a_comment_in_it_changes() {
    assert_eq!(rerun_by(|stage| stage.post = script(6, "# Install\nmake\n")), ["post", "metadata", "test", "pack"]);
}

#[test]
fn runs_post_when_its_arguments_change_but_not_for_a_comment_behind_them() {
    let arguments = |text: &'static str| {
        move |stage: &mut Stage| stage.post.iter_mut().for_each(|post| post.arguments = text.to_owned())
    };
    assert_eq!(rerun_by(arguments("-u")), ["post", "metadata", "test", "pack"]);
    assert_eq!(rerun_by(arguments("# why")), ["metadata", "pack"]);
}

#[test]
fn runs_from_the_copy_on_when_a_file_of_the_host_changes() {
    let before = planned(vec![typical()]);
    let mut pins = pins(1);
    pins.stages[0].files.insert("./src".into(), Digest::of(b"edited"));
    let after = plan(&definition(vec![typical()]), &pins, &options());
    assert_eq!(reruns(&before, &after), ["files", "post", "metadata", "test", "pack"]);
}

#[test]
fn another_tag_of_the_same_manifest_is_the_same_base() {
    let before = planned(vec![typical()]);
    let mut pins = pins(1);
    pins.stages[0].base = BasePin::Docker { reference: "docker.io/library/a:2".into(), manifest: Digest::of(b"a") };
    let after = plan(&definition(vec![typical()]), &pins, &options());
    assert_eq!(keys(&before), keys(&after));
}

#[test]
fn what_a_script_sees_is_in_its_key() {
    let post_key = |change: &dyn Fn(&mut PlanOptions)| {
        let mut options = options();
        change(&mut options);
        find(&plan(&definition(vec![typical()]), &pins(1), &options), "post").key().unwrap().clone()
    };
    let keys = [
        post_key(&|_| {}),
        post_key(&|options| options.arch = Arch::Arm64),
        post_key(&|options| options.id_mode = IdMode::Single),
        post_key(&|options| options.network = Network::None),
        post_key(&|options| options.binds.push("/a:/b".into())),
        post_key(&|options| drop(options.environment.insert("A".into(), "b".into()))),
    ];
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    assert_eq!(keys[0], post_key(&|options| options.notest = true));
}

#[test]
fn nothing_is_reused_after_setup_and_the_line_is_told() {
    let mut stage = typical();
    stage.setup = script(8, "true\n");
    let plan = planned(vec![stage]);
    assert_eq!(reruns(&plan, &plan), ["setup", "files", "post", "metadata", "test", "pack"]);
    let Reuse::Never { because, line } = &find(&plan, "post").reuse else { panic!("post may be reused") };
    assert_eq!((because.as_str(), *line), ("%setup runs on the host and may change anything", 8));
}

#[test]
fn nothing_is_reused_after_pre_not_even_in_later_stages() {
    let mut stages = two_stages();
    stages[0].pre = script(2, "true\n");
    let plan = planned(stages);
    assert!(keys(&plan).is_empty());
    assert_eq!(reruns(&plan, &plan).len(), plan.steps.len() - 1, "only the metadata of the first stage is not needed");
}

#[test]
fn a_file_that_was_not_pinned_forbids_reuse_from_there_on() {
    let mut stage = typical();
    stage.files[0].entries.push(entry("./made later", "", 5));
    let plan = planned(vec![stage]);
    assert_eq!(reruns(&plan, &plan), ["files", "post", "metadata", "test", "pack"]);
    let Reuse::Never { line, .. } = &find(&plan, "files").reuse else { panic!("files may be reused") };
    assert_eq!(*line, 5);
}

#[test]
fn stages_that_nothing_is_taken_from_are_left_out_unless_they_touch_the_host() {
    let mut stages = two_stages();
    stages.insert(1, stage(Some("unused"), 6));
    let plan = planned(stages.clone());
    assert_eq!(plan.unneeded, [1]);
    assert!(!names(&plan).contains(&"unused/base"));
    stages[1].setup = script(7, "true\n");
    assert!(planned(stages).unneeded.is_empty());
}

#[test]
fn a_changed_script_of_an_earlier_stage_reruns_the_copy_from_it() {
    let before = planned(two_stages());
    let mut stages = two_stages();
    stages[0].post = script(4, "make all\n");
    let run = ["build/post", "2/files-from-build", "2/post", "2/metadata", "pack"];
    assert_eq!(reruns(&before, &planned(stages)), run);
}

#[test]
fn a_changed_environment_of_an_earlier_stage_matters_only_if_it_is_copied() {
    let changed = |source: &str| {
        let mut stages = two_stages();
        stages[1].files[0].entries[0].source = source.to_owned();
        let before = planned(stages.clone());
        stages[0].environment = script(5, "export A=b\n");
        reruns(&before, &planned(stages)).contains(&"2/post".to_owned())
    };
    for source in ["/out", "out/*", "/opt/.singularity.d"] {
        assert!(!changed(source), "{source}");
    }
    for source in ["/", "/.singularity.d/env", "*", "/opt/../.singularity.d", "environment", ""] {
        assert!(changed(source), "{source}");
    }
}

#[test]
fn a_copy_from_a_stage_that_is_not_before_has_no_source() {
    for name in ["nobody", "me"] {
        let mut stages = two_stages();
        stages[1].name = Some(Spanned::new("me".into(), at(10)));
        stages[1].files[0].from = Some(Spanned::new(name.into(), at(13)));
        let plan = planned(stages);
        let copy = find(&plan, &format!("me/files-from-{name}"));
        assert!(matches!(&copy.action, Action::CopyFromStage { source: None, .. }));
    }
}

#[test]
fn an_app_makes_post_run_and_its_files_count() {
    let mut stage = stage(None, 1);
    stage.apps = vec![App { name: "foo".into(), files: vec![entry("b", "", 20)], ..App::default() }];
    let before = planned(vec![stage.clone()]);
    assert_eq!(names(&before), ["base", "skeleton", "apps", "post", "metadata", "pack"]);
    stage.apps[0].run = script(30, "echo\n");
    assert_eq!(reruns(&before, &planned(vec![stage.clone()])), ["apps", "post", "metadata", "pack"]);
    stage.apps[0].files[0].source = "unknown".into();
    assert!(matches!(find(&planned(vec![stage]), "post").reuse, Reuse::Never { .. }));
}

#[test]
fn a_test_that_passed_is_not_run_again_and_notest_leaves_it_out() {
    let plan = planned(vec![typical()]);
    let stored = keys(&plan);
    let decisions = prune(&plan, &|key| stored.contains(key));
    assert_eq!(decisions[find(&plan, "test").id.0].verdict, Verdict::Reuse);
    let options = PlanOptions { notest: true, ..options() };
    let plan = super::plan(&definition(vec![typical()]), &pins(1), &options);
    assert!(!names(&plan).contains(&"test"));
    assert!(plan.stages[0].test.is_some(), "the file is still written");
}

#[test]
fn labels_run_the_test_again_but_not_post() {
    let label = Label { key: "a".into(), value: "b".into(), span: at(1) };
    assert_eq!(rerun_by(|stage| stage.labels = vec![label.clone()]), ["metadata", "test", "pack"]);
}

#[test]
fn steps_below_a_reused_one_are_skipped() {
    let plan = planned(vec![typical()]);
    let stored = keys(&plan);
    let decisions = prune(&plan, &|key| stored.contains(key));
    insta::assert_snapshot!(render::text(&plan, &decisions, &nothing));
}

#[test]
fn a_plan_tells_what_changed() {
    let mut stages = two_stages();
    let before = planned(stages.clone());
    stages[0].post = script(4, "make all\n");
    stages.insert(1, stage(Some("unused"), 6));
    let after = planned(stages);
    let stored = keys(&before);
    let decisions = prune(&after, &|key| stored.contains(key));
    let previous = |step: &Step| {
        let name = step.name.replace('3', "2");
        before.steps.iter().find(|step| step.name == name).and_then(|step| step.document().cloned())
    };
    let mut text = render::text(&after, &decisions, &previous);
    let json = serde_json::to_string_pretty(&render::json(&after, &decisions, &nothing)).unwrap();
    text = format!("{text}\n{json}");
    for (number, key) in keys(&before).union(&keys(&after)).enumerate() {
        assert!(number < 100);
        text = text.replace(&key.to_string(), "KEY");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn sections_are_chosen_by_name() {
    let mut stage = typical();
    stage.setup = script(3, "true\n");
    stage.labels = vec![Label { key: "a".into(), value: "b".into(), span: at(1) }];
    let planned = |words: &[&str]| {
        let options = PlanOptions { sections: Sections::parse(words.iter().copied()).unwrap(), ..options() };
        plan(&definition(vec![stage.clone()]), &pins(1), &options)
    };
    let all = ["base", "skeleton", "setup", "files", "post", "metadata", "test", "pack"];
    assert_eq!(names(&planned(&[])), all);
    assert_eq!(names(&planned(&["all"])), all);
    let none = planned(&["none"]);
    assert_eq!(names(&none), ["base", "skeleton", "post", "metadata", "pack"]);
    assert!(none.stages[0].labels.is_empty() && none.stages[0].environment.is_none());
    assert_eq!(names(&planned(&["setup", "post"])), ["base", "skeleton", "setup", "post", "metadata", "pack"]);
    assert_eq!(Sections::parse(["post", "all"]).unwrap_err().to_string(), "'all' cannot be mixed with other sections");
    assert!(matches!(Sections::parse(["runscipt"]), Err(SectionsError::Unknown { .. })));
}

#[test]
fn bad_section_arguments_are_left_to_the_step() {
    let mut stage = typical();
    stage.post.iter_mut().for_each(|post| post.arguments = "-c".to_owned());
    let plan = planned(vec![stage]);
    assert!(find(&plan, "post").document().unwrap().write().contains("argv the section arguments"));
}

#[test]
fn differences_are_the_changed_lines_only() {
    let document = |script: &str, more: &[(&str, &str)]| {
        let mut document = KeyDocument::new("post");
        document.set("script", script);
        more.iter().for_each(|(name, value)| document.set(*name, value));
        document
    };
    let old = document("a\nb\nc\n", &[("gone", "x")]);
    let new = document("a\nB\nb2\nc\n", &[("new", "")]);
    let shown: Vec<String> = old.differences(&new).iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["- gone x", "+ new ", "- script b\n+ script B\n+ script b2"]);
    assert!(old.differences(&old).is_empty());
    let repeated = document("a\na\n", &[]).differences(&document("a\n", &[]));
    assert_eq!(repeated.last().map(|difference| difference.removed.len()), Some(1));
}

#[test]
fn values_that_differ_make_documents_that_differ() {
    let of = |value: &str| {
        let mut document = KeyDocument::new("x");
        document.set("v", value);
        Key::of(&document)
    };
    let values = ["", "\n", "a", "a\n", "a\nv b", "a\nb", "a\r\n", " a"];
    assert_eq!(values.map(of).into_iter().collect::<BTreeSet<_>>().len(), values.len());
}

proptest! {
    #[test]
    fn key_documents_are_read_back(values in proptest::collection::btree_map("[a-z.]{1,8}", "(?s).{0,30}", 0..6)) {
        let mut document = KeyDocument::default();
        for (name, value) in &values {
            document.set(name.as_str(), value);
        }
        prop_assert_eq!(KeyDocument::parse(&document.write()).unwrap(), document);
    }

    #[test]
    fn arbitrary_text_is_never_a_panic(text in "(?s).{0,200}") {
        let _ = KeyDocument::parse(&text);
    }
}
