//! `solve`: a solution has what is required and nothing that is ruled out; every search ends.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sifbuild::solve::{Candidate, Conflict, Requirement, Universe, solve};

#[derive(Arbitrary, Debug)]
struct World {
    packages: Vec<Package>,
    wants: Vec<Vec<u8>>,
}

#[derive(Arbitrary, Debug)]
struct Package {
    needs: Vec<Vec<u8>>,
    conflicts: Vec<u8>,
}

impl World {
    fn pick(&self, numbers: &[u8]) -> Vec<Candidate> {
        numbers.iter().map(|number| usize::from(*number)).filter(|at| *at < self.packages.len()).collect()
    }

    fn requirement(&self, numbers: &[u8]) -> Requirement {
        Requirement { text: format!("{numbers:?}"), candidates: self.pick(numbers), hint: String::new() }
    }
}

impl Universe for World {
    fn label(&self, candidate: Candidate) -> String {
        candidate.to_string()
    }

    fn requirements(&self, candidate: Candidate) -> Vec<Requirement> {
        self.packages[candidate].needs.iter().map(|numbers| self.requirement(numbers)).collect()
    }

    fn conflicts(&self, candidate: Candidate) -> Vec<Conflict> {
        vec![Conflict { text: "conflict".into(), candidates: self.pick(&self.packages[candidate].conflicts) }]
    }
}

fuzz_target!(|world: World| {
    let wants: Vec<Requirement> = world.wants.iter().map(|numbers| world.requirement(numbers)).collect();
    let solution = match solve(&world, &wants) {
        Ok(solution) => solution,
        Err(reason) => return drop(reason.to_string()),
    };
    let has = |requirement: &Requirement| requirement.candidates.iter().any(|one| solution.contains(*one));
    assert!(wants.iter().all(has), "a want is not met");
    for (selected, _) in &solution.selected {
        assert!(world.requirements(*selected).iter().all(has), "a requirement is not met");
        for conflict in world.conflicts(*selected) {
            assert!(!conflict.candidates.iter().any(|other| other != selected && solution.contains(*other)));
        }
    }
});
