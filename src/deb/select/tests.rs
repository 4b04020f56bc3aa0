use super::*;
use crate::deb::index;

fn stanza(head: &str, fields: &str) -> String {
    let (name, version) = head.split_once(' ').unwrap();
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}_{version}.deb\nSize: 1\nSHA256: {}\n{fields}\n\n",
        "0".repeat(64)
    )
}

/// A small archive: each line `name version; Field: value; …`.
fn archive(lines: &[&str]) -> String {
    lines
        .iter()
        .map(|line| {
            let (head, fields) = line.split_once(';').unwrap_or((line, ""));
            stanza(head.trim(), fields.split(';').map(str::trim).collect::<Vec<_>>().join("\n").trim())
        })
        .collect()
}

fn choice<'a>(variant: Variant, include: &'a [String], kept: &'a BTreeSet<(String, String, String)>) -> Choice<'a> {
    Choice { variant, architecture: "amd64", codename: "bookworm", include, https: false, kept }
}

fn chosen(text: &str, include: &[&str], variant: Variant) -> Result<Vec<(String, u32)>, SelectError> {
    let packages = index::parse(text).unwrap();
    let include: Vec<String> = include.iter().map(|name| (*name).to_owned()).collect();
    let none = Default::default();
    Ok(select(&packages, &choice(variant, &include, &none))?
        .into_iter()
        .map(|pin| (format!("{} {}", pin.name, pin.version), pin.batch))
        .collect())
}

fn names(text: &str, include: &[&str]) -> Vec<String> {
    chosen(text, include, Variant::Minbase).unwrap().into_iter().map(|(name, _)| name).collect()
}

const BASE: [&str; 2] = ["dpkg 1; Priority: required; Pre-Depends: libc6", "libc6 2; Priority: optional"];

fn base_and(lines: &[&str]) -> String {
    archive(&[&BASE[..], &["apt 2; Priority: important; Depends: libapt (>= 2)", "libapt 2"], lines].concat())
}

#[test]
fn takes_required_packages_and_apt_with_all_that_they_need() {
    let text = base_and(&["nano 1; Priority: important", "vim 1"]);
    let all = chosen(&text, &[], Variant::Minbase).unwrap();
    let expected = [("dpkg 1", 0), ("libc6 2", 0), ("apt 2", 1), ("libapt 2", 1)];
    assert_eq!(all, expected.map(|(name, batch)| (name.to_owned(), batch)));
}

#[test]
fn adds_important_packages_or_the_compiler_by_variant() {
    let text = base_and(&["nano 1; Priority: important", "build-essential 1; Depends: gcc", "gcc 1"]);
    let has = |variant, name: &str| chosen(&text, &[], variant).unwrap().iter().any(|(label, _)| label == name);
    assert!(has(Variant::Standard, "nano 1") && !has(Variant::Standard, "gcc 1"));
    assert!(has(Variant::Buildd, "gcc 1") && !has(Variant::Buildd, "nano 1"));
}

#[test]
fn leaves_excluded_packages_out_unless_something_needs_them() {
    let lines = ["e2fsprogs 1; Priority: required", "openssl 1", "ca-certificates 1; Depends: openssl"];
    let text = base_and(&lines);
    assert!(!names(&text, &["openssl"]).contains(&"e2fsprogs 1".to_owned()));
    assert!(!names(&text, &["openssl"]).contains(&"openssl 1".to_owned()));
    assert!(names(&text, &["ca-certificates"]).contains(&"openssl 1".to_owned()));
}

#[test]
fn chooses_alternatives_versions_and_providers() {
    let text = base_and(&[
        "a 1; Depends: b (>= 2) | c, virtual, versioned (>= 3)",
        "b 1",
        "c 1",
        "z 1; Provides: virtual; Priority: standard",
        "y 1; Provides: virtual",
        "v 1; Provides: versioned (= 2)",
        "w 1; Provides: versioned (= 3)",
    ]);
    let all = names(&text, &["a"]);
    for name in ["c 1", "z 1", "w 1"] {
        assert!(all.contains(&name.to_owned()), "{name} in {all:?}");
    }
    for name in ["b 1", "y 1", "v 1"] {
        assert!(!all.contains(&name.to_owned()), "{name} in {all:?}");
    }
}

#[test]
fn takes_the_highest_version_that_fits() {
    let text = base_and(&["a 1; Depends: b (<< 3)", "b 2.1", "b 3", "b 2.10"]);
    let all = names(&text, &["a"]);
    assert!(all.contains(&"b 2.10".to_owned()), "{all:?}");
}

#[test]
fn unpacks_pre_dependencies_in_batches_of_their_own() {
    let text = base_and(&["a 1; Pre-Depends: b", "b 1; Depends: c", "c 1; Pre-Depends: d", "d 1"]);
    let all = chosen(&text, &["a"], Variant::Minbase).unwrap();
    let batch = |name: &str| all.iter().find(|(label, _)| label.starts_with(name)).unwrap().1;
    assert!(batch("d") < batch("c") && batch("c") == batch("b") && batch("b") < batch("a"), "{all:?}");
}

#[test]
fn survives_a_circle_of_pre_dependencies() {
    let text = base_and(&["a 1; Pre-Depends: b", "b 1; Pre-Depends: a"]);
    assert_eq!(names(&text, &["a"]).len(), 6);
}

#[test]
fn names_the_nearest_packages_for_one_that_is_unknown() {
    let text = base_and(&["python3 1", "python2 1", "perl 1"]);
    let error = chosen(&text, &["pyhton3"], Variant::Minbase).unwrap_err().to_string();
    assert_eq!(error, "there is no package \"pyhton3\" in bookworm for amd64; did you mean python3 or python2?");
}

#[test]
fn explains_a_dependency_that_cannot_be_met() {
    let text = base_and(&["a 1; Depends: b", "b 1; Depends: c (>= 2)", "c 1"]);
    let error = chosen(&text, &["a"], Variant::Minbase).unwrap_err().to_string();
    assert_eq!(error, "c (>= 2) cannot be had, needed by b 1, needed by a 1; the archive has c 1");
}

#[test]
fn explains_a_conflict() {
    let text = base_and(&["a 1; Conflicts: b (<< 2)", "b 1"]);
    let error = chosen(&text, &["a", "b"], Variant::Minbase).unwrap_err().to_string();
    assert!(error.contains("b 1 is ruled out by a 1 (Conflicts: b (<< 2))"), "{error}");
}

#[test]
fn refuses_an_index_without_required_packages() {
    assert_eq!(chosen(&archive(&["a 1"]), &[], Variant::Minbase), Err(SelectError::NothingRequired));
}

#[test]
fn a_name_that_very_many_packages_provide_is_no_trouble() {
    let provider = |number: usize| format!("p{number} 1; Provides: x");
    let providers: Vec<String> = (0..MAXIMUM_CANDIDATES + 5_000).map(provider).collect();
    let lines: Vec<&str> = providers.iter().map(String::as_str).chain(["needy 1; Depends: x, x | p7"]).collect();
    let text = base_and(&lines);
    let packages = index::parse(&text).unwrap();
    let none = Default::default();
    let archive = Archive::new(&packages, &choice(Variant::Minbase, &[], &none)).unwrap();
    let found = archive.candidates(&Relation::named("x"));
    assert_eq!(found.len(), MAXIMUM_CANDIDATES);
    assert!(names(&text, &["needy"]).contains(&"p0 1".to_owned()));
}
