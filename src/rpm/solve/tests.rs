use super::*;
use crate::rpm::pool::tests::pool;
use crate::rpm::pool::{Dependency, Relation, Rich};
use proptest::prelude::*;

fn install(universe: &str, wanted: &[&str]) -> Result<Vec<String>, String> {
    install_with(universe, wanted, false)
}

fn install_with(universe: &str, wanted: &[&str], no_weak: bool) -> Result<Vec<String>, String> {
    let mut pool = pool(universe);
    let texts: Vec<String> = wanted.iter().map(|text| text.to_string()).collect();
    let wishes = select(&mut pool, &[], &texts).map_err(|error| error.to_string())?;
    let solution =
        solve(&pool, &Request { wishes, no_weak, ..Request::default() }).map_err(|error| error.to_string())?;
    Ok(solution
        .install
        .into_iter()
        .map(|(package, reason)| format!("{} {}", pool.nevra(package), reason.name()))
        .collect())
}

fn names(universe: &str, wanted: &[&str]) -> Vec<String> {
    let found = install(universe, wanted).unwrap();
    found.iter().map(|text| text.split(' ').next().unwrap().trim_end_matches(".noarch").to_owned()).collect()
}

#[test]
fn takes_the_newest_version_and_says_why_each_is_there() {
    let universe = "a 1-1; Requires: b\na 2-1; Requires: b\nb 1-1\nc 1-1";
    assert_eq!(install(universe, &["a"]).unwrap(), ["a-2-1.noarch user", "b-1-1.noarch dependency"]);
}

#[test]
fn goes_back_when_the_newest_version_leads_nowhere() {
    assert_eq!(names("a 1-1\na 2-1; Requires: missing", &["a"]), ["a-1-1"]);
    assert_eq!(names("a 1-1; Requires: b\nb 1-1\nb 2-1; Requires: c\nc 1-1; Conflicts: a", &["a"]), ["a-1-1", "b-1-1"]);
}

#[test]
fn the_repository_with_the_better_priority_wins_over_a_newer_version() {
    assert_eq!(names("a 2-1\nrepository better 10\na 1-1", &["a"]), ["a-1-1"]);
}

#[test]
fn a_name_brings_what_replaces_it() {
    assert_eq!(names("old 1-1\nnew 2-1; Obsoletes: old < 2", &["old"]), ["new-2-1"]);
    assert_eq!(
        names("old 1-1\nnew 2-1; Obsoletes: old < 2\nuser 1-1; Requires: old", &["user", "old"]),
        ["old-1-1", "user-1-1"]
    );
}

#[test]
fn understands_every_rich_dependency() {
    let with = |dependency: &str| format!("p 1-1; Requires: {dependency}\na 1-1\nb 1-1\nc 1-1");
    assert_eq!(names(&with("(a and b)"), &["p"]), ["p-1-1", "a-1-1", "b-1-1"]);
    assert_eq!(names(&with("(a or b)"), &["p"]), ["p-1-1", "a-1-1"]);
    assert_eq!(names(&with("(a or b)"), &["p", "b"]), ["p-1-1", "b-1-1"]);
    assert_eq!(names(&with("(a if b)"), &["p"]), ["p-1-1"]);
    assert_eq!(names(&with("(a if b)"), &["p", "b"]), ["p-1-1", "a-1-1", "b-1-1"]);
    assert_eq!(names(&with("(a if c else b)"), &["p"]), ["p-1-1", "b-1-1"]);
    assert_eq!(names(&with("(a if (b or c))"), &["p", "c"]), ["p-1-1", "a-1-1", "c-1-1"]);
    assert_eq!(names(&with("(a unless b)"), &["p"]), ["p-1-1", "a-1-1"]);
    assert!(install(&with("(a unless b)"), &["p", "b"]).is_err());
}

#[test]
fn a_rich_conflict_forbids_the_combination() {
    let universe = "p 1-1; Conflicts: (a and b)\na 1-1\nb 1-1";
    assert_eq!(names(universe, &["p", "a"]), ["p-1-1", "a-1-1"]);
    let error = install(universe, &["p", "a", "b"]).unwrap_err();
    assert!(error.contains("p-1-1.noarch conflicts with (a and b)"), "{error}");
}

#[test]
fn recommended_packages_come_where_they_can() {
    let universe = "p 1-1; Recommends: r, broken, (x if y)\nr 1-1; Requires: s\ns 1-1\nbroken 1-1; Requires: none\nx 1-1\ny 1-1\n\
        t 1-1; Supplements: (p and r)";
    assert_eq!(
        install(universe, &["p"]).unwrap(),
        ["p-1-1.noarch user", "r-1-1.noarch weak", "s-1-1.noarch dependency", "t-1-1.noarch weak"]
    );
    assert_eq!(install_with(universe, &["p"], true).unwrap(), ["p-1-1.noarch user"]);
}

#[test]
fn other_architectures_come_only_where_they_are_asked_for() {
    let universe = "lib 1-1 x86_64\nlib 1-1 i686\np 1-1 i686; Requires: lib\nq 1-1 s390x";
    assert_eq!(install(universe, &["lib"]).unwrap(), ["lib-1-1.x86_64 user"]);
    assert_eq!(install(universe, &["lib.i686", "lib.x86_64"]).unwrap().len(), 2);
    assert!(install(universe, &["q"]).unwrap_err().contains("q"));
}

#[test]
fn reads_requests_as_dnf_does() {
    let universe =
        "a 1-1 x86_64\na 2-1 x86_64\na 2-1 i686\na-b 3-1; Provides: virtual = 7\nfile 1-1; Files: /usr/bin/tool";
    let one = |text: &str| install(universe, &[text]).unwrap()[0].split(' ').next().unwrap().to_owned();
    assert_eq!(one("a-1-1.x86_64"), "a-1-1.x86_64");
    assert_eq!(one("a-1"), "a-1-1.x86_64");
    assert_eq!(one("a-0:2-1"), "a-2-1.x86_64");
    assert_eq!(one("a.i686"), "a-2-1.i686");
    assert_eq!(one("a-b"), "a-b-3-1.noarch");
    assert_eq!(one("a-b-3"), "a-b-3-1.noarch");
    assert_eq!(one("virtual >= 7"), "a-b-3-1.noarch");
    assert_eq!(one("/usr/bin/tool"), "file-1-1.noarch");
    assert_eq!(install(universe, &["a*"]).unwrap().len(), 2);
    assert!(install(universe, &["virtual > 8"]).is_err());
}

#[test]
fn groups_bring_their_packages_and_those_of_their_parts() {
    let mut pool = pool("a 1-1\nb 1-1\nc 1-1; Requires: d\nd 1-1");
    let group = |id: &str, packages: &[&str], groups: &[&str]| Group {
        id: id.into(),
        name: format!("The {id}"),
        packages: packages.iter().map(|name| name.to_string()).collect(),
        conditional: vec![("b".into(), "d".into())],
        groups: groups.iter().map(|name| name.to_string()).collect(),
    };
    let groups = [group("core", &["a", "unknown"], &[]), group("all", &["c"], &["core", "all"])];
    let wishes = select(&mut pool, &groups, &["@The all".into()]).unwrap();
    let solution = solve(&pool, &Request { wishes, no_weak: false, ..Request::default() }).unwrap();
    let found: Vec<String> = solution
        .install
        .iter()
        .map(|(package, reason)| format!("{} {}", pool.name_of(*package), reason.name()))
        .collect();
    assert_eq!(found, ["a group", "b group", "c group", "d dependency"]);
    let error = select(&mut pool, &groups, &["@cor".into()]).unwrap_err().to_string();
    assert!(error.contains("@core"), "{error}");
}

#[test]
fn explains_the_chain_down_to_what_is_missing() {
    let error = install("a 1-1; Requires: b\nb 1-1; Requires: c > 2\nc 1-1", &["a"]).unwrap_err();
    assert_eq!(
        error,
        "a cannot be installed\n  - a-1-1.noarch requires b, but no provider of it can be installed\n  \
         - nothing provides c > 2, needed by b-1-1.noarch (there is c-1-1.noarch)"
    );
    let error = install("bash 1-1\nbash-doc 1-1", &["bsh"]).unwrap_err();
    assert_eq!(error, "no package is called, provides or contains bsh (near names: bash)");
    let error = install("a 1-1; Conflicts: b < 2\nb 1-1", &["a", "b"]).unwrap_err();
    assert!(
        error.starts_with("a and b cannot be installed together") && error.contains("conflicts with b < 2"),
        "{error}"
    );
}

#[test]
fn the_verifier_finds_each_fault() {
    let mut pool = pool(
        "a 1-1; Requires: b\nb 1-1\nb 2-1\nc 1-1; Conflicts: b\nd 1-1; Obsoletes: b\ne 1-1 s390x\nf 1-1; Requires: (b if c)",
    );
    let wishes = select(&mut pool, &[], &["a".into()]).unwrap();
    let request = Request { wishes, no_weak: true, ..Request::default() };
    let faults = |chosen: &[PackageId]| {
        verify(&pool, &request, chosen).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(faults(&[0, 1]), "");
    assert_eq!(faults(&[0]), "a-1-1.noarch requires b");
    assert_eq!(faults(&[1]), "a is not among the packages");
    assert_eq!(faults(&[0, 1, 2]), "b-1-1.noarch and b-2-1.noarch have one name");
    assert_eq!(faults(&[0, 1, 3]), "c-1-1.noarch conflicts with b");
    assert_eq!(faults(&[0, 1, 4]), "d-1-1.noarch obsoletes b-1-1.noarch");
    assert_eq!(faults(&[0, 1, 5]), "e-1-1.s390x cannot be installed");
    assert!(faults(&[0, 3, 6]).contains("f-1-1.noarch requires (b if c)"));
}

/// Whether some set of packages passes the verifier, by trying all.
fn is_possible(pool: &Pool, request: &Request) -> bool {
    let count = pool.packages().len();
    (0u32..1 << count).any(|set| {
        let chosen: Vec<PackageId> = (0..count).filter(|package| set >> package & 1 == 1).collect();
        verify(pool, request, &chosen).is_empty()
    })
}

fn arbitrary_dependency() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b", "c", "d", "v", "none"]);
    let bound = (name(), prop::sample::select(vec!["", " >= 2", " < 2", " = 1-1"]))
        .prop_map(|(name, bound)| format!("{name}{bound}"));
    prop_oneof![
        4 => bound,
        2 => (name(), prop::sample::select(vec!["or", "and", "if", "unless", "with", "without"]), name())
            .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
        1 => (name(), prop::sample::select(vec!["if", "unless"]), name(), name())
            .prop_map(|(a, operator, b, c)| format!("(({a} or {c}) {operator} {b} else {c})")),
    ]
}

fn arbitrary_package() -> impl Strategy<Value = String> {
    let list = |most: usize| prop::collection::vec(arbitrary_dependency(), 0..=most);
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    let evr = prop::sample::select(vec!["1-1", "2-1"]);
    let provides = prop::sample::select(vec!["", "; Provides: v", "; Provides: v = 2"]);
    let obsoletes = prop::sample::select(vec!["", "", "; Obsoletes: a < 2", "; Obsoletes: c"]);
    (name, evr, provides, obsoletes, list(2), list(1), list(1), list(1)).prop_map(
        |(name, evr, provides, obsoletes, requires, mut conflicts, recommends, supplements)| {
            // A rich conflict of a package with itself has no agreed meaning.
            let means_itself = |text: &str| text.starts_with('(') && text.contains([name.chars().next().unwrap(), 'v']);
            conflicts
                .retain(|text| !means_itself(&text.replace("and", "&").replace("unless", "!").replace("without", "-")));
            let field = |name: &str, list: Vec<String>| match list.is_empty() {
                true => String::new(),
                false => format!("; {name}: {}", list.join(", ")),
            };
            format!(
                "{name} {evr}{provides}{obsoletes}{}{}{}{}",
                field("Requires", requires),
                field("Conflicts", conflicts),
                field("Recommends", recommends),
                field("Supplements", supplements)
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn finds_a_solution_exactly_when_there_is_one(
        packages in prop::collection::vec(arbitrary_package(), 1..8),
        wanted in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d", "v"]), 1..3),
    ) {
        let mut pool = pool(&packages.join("\n"));
        let wanted: Vec<String> = wanted.iter().map(|text| text.to_string()).collect();
        let Ok(wishes) = select(&mut pool, &[], &wanted) else { return Ok(()) };
        let request = Request { wishes, no_weak: false, ..Request::default() };
        // The solver checks its own answer.
        match solve(&pool, &request) {
            Ok(_) => {}
            Err(SolveError::TooHard(_)) => prop_assert!(false),
            Err(SolveError::Unsolvable(_)) => prop_assert!(!is_possible(&pool, &request), "{}", packages.join("\n")),
        }
    }
}

/// Clauses against the meaning of the expression, for all sets of packages.
fn holds(rich: &Rich, pool: &Pool, set: u32) -> bool {
    let one = |dependency: Dependency| {
        let found = pool.providers(pool.bound_of(dependency));
        found.into_iter().any(|package| set >> package & 1 == 1)
    };
    match rich {
        Rich::One(dependency) => one(*dependency),
        Rich::And(a, b) => holds(a, pool, set) && holds(b, pool, set),
        Rich::Or(a, b) => holds(a, pool, set) || holds(b, pool, set),
        Rich::If(a, b, None) => holds(a, pool, set) || !holds(b, pool, set),
        Rich::Unless(a, b, None) => holds(a, pool, set) && !holds(b, pool, set),
        Rich::If(a, b, Some(c)) => {
            if holds(b, pool, set) {
                holds(a, pool, set)
            } else {
                holds(c, pool, set)
            }
        }
        Rich::Unless(a, b, Some(c)) => {
            if holds(b, pool, set) {
                holds(c, pool, set)
            } else {
                holds(a, pool, set)
            }
        }
        other => panic!("{other:?}"),
    }
}

fn arbitrary_expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec!["a", "b", "c", "none"]).prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 3, |inner| {
        (inner.clone(), prop::sample::select(vec!["and", "or", "if", "unless", "else"]), inner.clone(), inner).prop_map(
            |(a, operator, b, c)| match operator {
                "else" => format!("({a} if {b} else {c})"),
                operator => format!("({a} {operator} {b})"),
            },
        )
    })
}

proptest! {
    #[test]
    fn clauses_mean_what_the_expression_means(text in arbitrary_expression().prop_filter("rich", |text| text.starts_with('('))) {
        use super::clauses::{Blocks, Form, normalize};
        let mut pool = pool("a 1-1\nb 1-1\nc 1-1");
        let dependency = crate::rpm::pool::tests::dependency(&mut pool, &text);
        let rich = pool.rich(dependency).unwrap();
        let providers = crate::rpm::pool::providers::Providers::new(&pool);
        for set in 0u32..8 {
            let literal = |literal: &rules::Literal| (set >> literal.package() & 1 == 1) == literal.is_yes();
            let meant = holds(&rich, &pool, set);
            for form in [Form::Conjunctive, Form::Disjunctive] {
                let found = match normalize(&rich, &providers, form) {
                    Blocks::Always => true,
                    Blocks::Never => false,
                    Blocks::Some(blocks) if form == Form::Conjunctive => blocks.iter().all(|block| block.iter().any(literal)),
                    Blocks::Some(blocks) => blocks.iter().any(|block| block.iter().all(literal)),
                };
                prop_assert_eq!(found, meant, "{:?} of {} with {:03b}", form, text, set);
            }
        }
        let _ = pool.relation(0, Relation::Provides);
    }
}
