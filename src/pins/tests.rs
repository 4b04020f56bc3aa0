use super::*;
use proptest::prelude::*;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn stage(question: &str, base: BasePin) -> StagePins {
    StagePins { question: question.to_owned(), base, files: BTreeMap::new(), app_files: BTreeMap::new() }
}

fn every_kind() -> Pins {
    let mut pins = Pins {
        stages: vec![
            stage("scratch", BasePin::Scratch),
            stage(
                "docker amd64 a",
                BasePin::Docker { reference: "docker.io/library/a:1".into(), manifest: digest("a") },
            ),
            stage("oci b amd64", BasePin::OciLayout { source: "b".into(), manifest: digest("b") }),
            stage(
                "localimage c amd64",
                BasePin::Local { path: "c \\ d\n".into(), kind: LocalKind::Sif, digest: digest("c") },
            ),
            stage(
                "oras amd64 f",
                BasePin::Oras { reference: "r.example/f:1".into(), manifest: digest("f"), digest: digest("g") },
            ),
            stage(
                "library amd64 h",
                BasePin::Library { reference: "e/c/h:1".into(), url: "https://l.example/".into(), digest: digest("h") },
            ),
            stage("busybox d amd64", BasePin::Busybox { url: "https://d.example/".into(), digest: digest("d") }),
            stage("debootstrap amd64 e", BasePin::Debian { lines: vec!["x 1".into(), "a 2".into()] }),
        ],
    };
    pins.stages[0].files = BTreeMap::from([("a b*".to_owned(), digest("1")), ("/c".to_owned(), digest("2"))]);
    pins.stages[0].app_files = BTreeMap::from([("a b*".to_owned(), digest("3"))]);
    pins
}

#[test]
fn text_is_read_back_as_written_and_sorted() {
    let text = every_kind().write();
    assert_eq!(Pins::parse(&text).unwrap(), every_kind());
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort();
    assert_eq!(lines.join("\n") + "\n", text);
    insta::assert_snapshot!(text);
}

#[test]
fn lock_has_bases_and_no_host_files() {
    let mut expected = every_kind();
    expected.stages[0].files.clear();
    expected.stages[0].app_files.clear();
    assert_eq!(Pins::parse(&every_kind().lock()).unwrap(), expected);
}

#[test]
fn recalls_an_answer_by_its_question_only() {
    let pins = every_kind();
    assert_eq!(pins.recall("docker amd64 a").map(BasePin::agent), Some("docker"));
    assert_eq!(pins.recall("docker amd64 a:2"), None);
}

#[test]
fn the_same_manifest_by_another_name_is_the_same_base() {
    let by_tag = BasePin::Docker { reference: "x/a:1".into(), manifest: digest("m") };
    let by_file = BasePin::OciLayout { source: "./a".into(), manifest: digest("m") };
    assert_eq!(by_tag.identity(), by_file.identity());
    assert_ne!(by_tag.lines(), by_file.lines());
}

#[test]
fn faults_of_a_lock_file_name_their_place() {
    let cases = [
        "stage.000.question",
        "stagf.000.question x",
        "stage.1000.question x",
        "stage.000.colour red",
        "stage.000.question a\nstage.000.question b",
        "stage.001.question a\nstage.001.base.agent scratch",
        "stage.000.question a",
        "stage.000.question a\nstage.000.base.agent nobody",
        "stage.000.question a\nstage.000.base.agent docker\nstage.000.base.reference r\nstage.000.base.manifest md5:1",
        "stage.000.file sha256:1 x",
        "stage.000.question a\\x",
    ];
    let messages: Vec<String> = cases.iter().map(|text| Pins::parse(text).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn the_same_sif_from_anywhere_is_the_same_base() {
    let kind = LocalKind::Sif;
    let local = BasePin::Local { path: "a.sif".into(), kind, digest: digest("s") };
    let oras = BasePin::Oras { reference: "x/a:1".into(), manifest: digest("m"), digest: digest("s") };
    let library = BasePin::Library { reference: "e/c/n:1".into(), url: "https://x/".into(), digest: digest("s") };
    assert_eq!(local.identity(), oras.identity());
    assert_eq!(local.identity(), library.identity());
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "(stage\\.[0-9]{1,4}\\.(base\\.)?[a-z.]{0,12} ?[a-z0-9:\\\\]*\n|.*\n){0,12}") {
        let _ = Pins::parse(&text);
    }

    #[test]
    fn any_values_survive(question in ".*", source in "[^ ]{1,20}.*", lines in proptest::collection::vec("(?s).*", 0..5)) {
        let mut pins = Pins { stages: vec![stage(&question, BasePin::Debian { lines })] };
        pins.stages[0].files.insert(source, digest("x"));
        prop_assert_eq!(Pins::parse(&pins.write()).unwrap(), pins);
    }
}
