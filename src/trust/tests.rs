use super::pattern::Pattern;
use super::*;
use proptest::prelude::*;

const KEY: &str = "12045C8C0B1004D058DE4BEDA20C27EE7FF7BA84";
const SUM: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

fn matches(pattern: &str, source: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(source)
}

#[test]
fn one_star_stays_within_a_part_and_two_do_not() {
    assert!(matches("docker://docker.io/library/*", "docker://docker.io/library/debian:12"));
    assert!(!matches("docker://docker.io/*", "docker://docker.io/library/debian:12"));
    assert!(matches("docker://docker.io/**", "docker://docker.io/library/debian:12"));
    assert!(matches("**", "localimage:/a/b.sif") && matches("*:**", "scratch:") && !matches("*", "localimage:/a"));
    assert!(matches("localimage:/srv/*.sif", "localimage:/srv/a.sif"));
    assert!(!matches("localimage:/srv/*.sif", "localimage:/srv/x/a.sif"));
    assert!(!matches("localimage:/srv/*.sif", "localimage:/srv/a.sif2"));
    assert!(!matches("oras://host/a", "oras://host/ab") && !matches("oras://host/ab", "oras://host/a"));
}

#[test]
fn a_rule_may_spell_a_registry_in_another_way() {
    assert!(matches("docker://GHCR.io:443/org/**", "docker://ghcr.io/org/app:1"));
    assert!(matches("oras://LOCALHOST:05000/*", "oras://localhost:5000/app"));
    assert!(matches("docker://registry-1.docker.io/**", "docker://docker.io/library/debian:12"));
    assert!(!matches("localimage:/A/B", "localimage:/a/b"));
}

#[test]
fn the_first_rule_that_names_a_source_decides() {
    let text = format!(
        "default = \"refuse\"\n\n[[rule]]\nsource = [\"oras://host/open/**\", \"scratch:\"]\n\n\
         [[rule]]\nsource = \"oras://host/**\"\nsigned-by = [\"{}\"]\nby-digest = true\n\n\
         [[rule]]\nsource = \"docker://**\"\ndigests = [\"{SUM}\"]\n\n[[rule]]\nsource = \"library://**\"\nrefuse = \"not here\"\n",
        KEY.to_lowercase()
    );
    let policy = Policy::parse("site.policy", &text).unwrap();
    assert_eq!(policy.demands("oras://host/open/x"), (Demands::default(), "site.policy:3".to_owned()));
    assert_eq!(policy.demands("scratch:").0, Demands::default());
    let (demands, place) = policy.demands("oras://host/x");
    assert_eq!(
        (demands.signed_by[0].to_string(), demands.by_digest, place.as_str()),
        (KEY.to_owned(), true, "site.policy:6")
    );
    assert_eq!(policy.demands("docker://a/b").0.digests[0].to_string(), SUM);
    assert_eq!(policy.demands("library://x").0.refused.as_deref(), Some("not here"));
    let (demands, place) = policy.demands("localimage:/a");
    assert!(demands.refused.unwrap().contains("no rule names this source") && place == "site.policy");
    let open = Policy::parse("open", "").unwrap();
    assert_eq!(open.demands("localimage:/a").0, Demands::default());
}

#[test]
fn a_fault_names_file_and_line() {
    for (text, line, told) in [
        ("default = \"maybe\"\n", 1, "\"accept\" or \"refuse\""),
        ("\n[[rule]]\nsource = \"docker://**\"\nsigned-bye = []\n", 4, "signed-bye"),
        ("[[rule]]\nsigned-by = [\"x\"]\n", 1, "source"),
        ("[[rule]]\nsource = \"**\"\nsigned-by = [\n  \"0xABC\",\n]\n", 4, "no fingerprint"),
        ("[[rule]]\nsource = \"**\"\nsigned-by = []\n", 3, "is empty"),
        ("[[rule]]\nsource = \"**\"\ndigests = [\"md5:1\"]\n", 3, "md5"),
        ("[[rule]]\nsource = \"podman://x\"\n", 2, "begins with no agent"),
        ("[[rule]]\nsource = []\n", 2, "names nothing"),
        ("[[rule]\n", 1, ""),
    ] {
        let error = Policy::parse("site.policy", text).unwrap_err();
        assert_eq!(error.place, format!("site.policy:{line}"), "{text}: {error}");
        assert!(error.cause.contains(told), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}", rule in "(\\[\\[rule\\]\\]\\n)?(source|signed-by|default|digests) = [\"'\\[\\]a-z:*/]{0,20}\\n") {
        let _ = Policy::parse("x", &text);
        let _ = Policy::parse("x", &rule);
    }

    /// Against the plain definition.
    #[test]
    fn a_pattern_is_what_it_says(pattern in "[a/*]{1,6}", text in "[a/]{0,6}") {
        fn slow(pattern: &[u8], text: &[u8]) -> bool {
            match pattern {
                [] => text.is_empty(),
                [b'*', b'*', rest @ ..] => (0..=text.len()).any(|at| slow(rest, &text[at..])),
                [b'*', rest @ ..] => (0..=text.len()).take_while(|at| !text[..*at].contains(&b'/')).any(|at| slow(rest, &text[at..])),
                [byte, rest @ ..] => text.first() == Some(byte) && slow(rest, &text[1..]),
            }
        }
        let parsed = Pattern::parse(&format!("oci:{pattern}")).unwrap();
        let (pattern, whole) = (pattern.replace("***", "**").replace("***", "**").replace("***", "**"), format!("oci:{text}"));
        prop_assert_eq!(parsed.matches(&whole), slow(pattern.as_bytes(), text.as_bytes()));
    }
}
