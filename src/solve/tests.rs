use super::*;
use proptest::prelude::*;

/// Candidates by number: what each requires (lists of alternatives) and excludes.
struct Table(Vec<(Vec<Vec<usize>>, Vec<usize>)>);

impl Universe for Table {
    fn label(&self, candidate: usize) -> String {
        format!("p{candidate}")
    }

    fn requirements(&self, candidate: usize) -> Vec<Requirement> {
        self.0[candidate].0.iter().map(|alternatives| want(alternatives)).collect()
    }

    fn conflicts(&self, candidate: usize) -> Vec<Conflict> {
        vec![Conflict { text: "Conflicts: x".into(), candidates: self.0[candidate].1.clone() }]
    }
}

fn want(candidates: &[usize]) -> Requirement {
    let text = candidates.iter().map(|candidate| format!("p{candidate}")).collect::<Vec<_>>().join(" | ");
    Requirement { text, candidates: candidates.to_vec(), hint: "nothing is called that".into() }
}

fn selected(table: &Table, wants: &[&[usize]]) -> Result<Vec<usize>, Unsatisfiable> {
    let wants: Vec<_> = wants.iter().map(|candidates| want(candidates)).collect();
    solve(table, &wants).map(|solution| solution.selected.into_iter().map(|(candidate, _)| candidate).collect())
}

#[test]
fn takes_the_first_alternative() {
    let table = Table(vec![(vec![vec![1, 2]], vec![]), (vec![], vec![]), (vec![], vec![])]);
    assert_eq!(selected(&table, &[&[0]]), Ok(vec![0, 1]));
}

#[test]
fn prefers_an_alternative_that_is_needed_anyway() {
    let table = Table(vec![(vec![vec![1, 2]], vec![]), (vec![], vec![]), (vec![], vec![]), (vec![vec![2]], vec![])]);
    assert_eq!(selected(&table, &[&[0], &[3]]), Ok(vec![0, 3, 2]));
}

#[test]
fn goes_back_when_the_first_alternative_leads_nowhere() {
    // p1 needs p3, which excludes p0.
    let table = Table(vec![(vec![vec![1, 2]], vec![]), (vec![vec![3]], vec![]), (vec![], vec![]), (vec![], vec![0])]);
    assert_eq!(selected(&table, &[&[0]]), Ok(vec![0, 2]));
}

#[test]
fn explains_a_conflict_with_the_chain_that_leads_to_it() {
    let table = Table(vec![(vec![vec![1]], vec![]), (vec![vec![2]], vec![]), (vec![], vec![0])]);
    let reason = selected(&table, &[&[0]]).unwrap_err().to_string();
    assert_eq!(reason, "p2 cannot be had, needed by p1, needed by p0; p2 rules out p0 (Conflicts: x)");
}

#[test]
fn explains_what_is_missing() {
    let table = Table(vec![(vec![vec![]], vec![])]);
    let reason = selected(&table, &[&[0]]).unwrap_err();
    assert_eq!(reason.chain, ["p0"]);
    assert_eq!(reason.obstacles, ["nothing is called that"]);
}

/// Is there any selection at all? Tried exhaustively.
fn possible(table: &Table, wants: &[Vec<usize>]) -> bool {
    (0u32..1 << table.0.len()).any(|set| is_valid(table, wants, |candidate| set >> candidate & 1 == 1))
}

fn is_valid(table: &Table, wants: &[Vec<usize>], has: impl Fn(usize) -> bool) -> bool {
    let met = |alternatives: &Vec<usize>| alternatives.iter().any(|candidate| has(*candidate));
    wants.iter().all(met)
        && table.0.iter().enumerate().filter(|(at, _)| has(*at)).all(|(at, (requires, excludes))| {
            requires.iter().all(met) && !excludes.iter().any(|other| *other != at && has(*other))
        })
}

proptest! {
    #[test]
    fn finds_a_valid_selection_exactly_when_there_is_one(
        rows in prop::collection::vec(
            (prop::collection::vec(prop::collection::vec(0usize..6, 1..3), 0..3), prop::collection::vec(0usize..6, 0..2)), 6),
        wants in prop::collection::vec(prop::collection::vec(0usize..6, 1..3), 1..3),
    ) {
        let table = Table(rows);
        let asked: Vec<_> = wants.iter().map(|candidates| want(candidates)).collect();
        match solve(&table, &asked) {
            Ok(solution) => prop_assert!(is_valid(&table, &wants, |candidate| solution.contains(candidate))),
            Err(_) => prop_assert!(!possible(&table, &wants)),
        }
    }
}

/// A tree of choices, below each of which a long row of requirements ends in one that nothing meets.
struct Rows {
    choices: usize,
    length: usize,
    asked: std::cell::Cell<usize>,
}

impl Universe for Rows {
    fn label(&self, candidate: usize) -> String {
        format!("p{candidate}")
    }

    fn requirements(&self, candidate: usize) -> Vec<Requirement> {
        self.asked.set(self.asked.get() + 1);
        let row = 2 * self.choices;
        match candidate {
            _ if candidate < row - 2 => vec![want(&[candidate / 2 * 2 + 2, candidate / 2 * 2 + 3])],
            _ if candidate < row => vec![want(&[row])],
            _ if candidate < row + self.length => vec![want(&[candidate + 1])],
            _ => vec![want(&[])],
        }
    }

    fn conflicts(&self, _: usize) -> Vec<Conflict> {
        Vec::new()
    }
}

#[test]
fn gives_up_when_each_way_is_long() {
    let rows = Rows { choices: 14, length: 2_000, asked: Default::default() };
    let reason = solve(&rows, &[want(&[0, 1])]).unwrap_err();
    assert_eq!(reason.obstacles, ["nothing is called that"]);
    assert!(rows.asked.get() < MAXIMUM_SELECTIONS + 3_000, "{}", rows.asked.get());
}
