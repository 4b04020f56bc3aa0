//! Choice among alternatives under conflicts: which candidates satisfy all that is wanted.
//!
//! Knows nothing of package formats. The search selects what leaves no choice first, then takes each remaining requirement's
//! first candidate that fits, and goes back to the latest choice when nothing fits; equal input gives equal output.

use std::collections::BTreeMap;
use std::fmt;

/// Choices taken back before the search gives up with the first obstacle it met.
const MAXIMUM_RETREATS: usize = 20_000;
/// Selections, those that were taken back included, before it gives up: a retreat may cost as many as there are candidates.
const MAXIMUM_SELECTIONS: usize = 2_000_000;

/// Number of a candidate, below the universe's own count.
pub type Candidate = usize;

/// All candidates there are. Asked only for what the search reaches.
pub trait Universe {
    /// Name and version for people.
    fn label(&self, candidate: Candidate) -> String;
    fn requirements(&self, candidate: Candidate) -> Vec<Requirement>;
    /// Those that cannot stand beside this candidate; it need not be said from both sides.
    fn conflicts(&self, candidate: Candidate) -> Vec<Conflict>;
}

/// At least one of the candidates must be selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// As the author of the requirement wrote it.
    pub text: String,
    /// In order of preference.
    pub candidates: Vec<Candidate>,
    /// What else is to be said when there are no candidates (near names, other versions).
    pub hint: String,
}

/// None of the candidates may be selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As written, with the field's name: `Breaks: a (<< 2)`.
    pub text: String,
    pub candidates: Vec<Candidate>,
}

/// Selected candidates in the order of their selection, each with who asked first (`None`: the caller).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    pub selected: Vec<(Candidate, Option<Candidate>)>,
}

impl Solution {
    pub fn contains(&self, candidate: Candidate) -> bool {
        self.selected.iter().any(|(selected, _)| *selected == candidate)
    }
}

/// The first requirement that could not be met, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsatisfiable {
    pub requirement: String,
    /// Who needs it, nearest first.
    pub chain: Vec<String>,
    /// One sentence a candidate; or why there is none.
    pub obstacles: Vec<String>,
}

impl fmt::Display for Unsatisfiable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} cannot be had", self.requirement)?;
        for label in &self.chain {
            write!(formatter, ", needed by {label}")?;
        }
        for obstacle in &self.obstacles {
            write!(formatter, "; {obstacle}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unsatisfiable {}

/// Satisfies all wants, or explains the first obstacle.
pub fn solve(universe: &dyn Universe, wants: &[Requirement]) -> Result<Solution, Unsatisfiable> {
    let queue = wants.iter().map(|want| (want.clone(), None)).collect();
    Search {
        universe,
        queue,
        position: 0,
        deferred: Vec::new(),
        deferred_position: 0,
        selected: Vec::new(),
        parents: BTreeMap::new(),
        forbidden: Vec::new(),
        choices: Vec::new(),
        selections: 0,
    }
    .run()
}

struct Search<'a> {
    universe: &'a dyn Universe,
    /// Requirements with who has them, in order of discovery.
    queue: Vec<(Requirement, Option<Candidate>)>,
    position: usize,
    /// Indexes into `queue` of requirements that leave a choice.
    deferred: Vec<usize>,
    deferred_position: usize,
    selected: Vec<Candidate>,
    parents: BTreeMap<Candidate, Option<Candidate>>,
    /// Who may not be selected, because of whom, and in whose words.
    forbidden: Vec<(Candidate, Candidate, String)>,
    choices: Vec<Choice>,
    /// All that were ever made.
    selections: usize,
}

/// The state before a choice, as lengths to cut back to.
struct Choice {
    requirement: usize,
    untried: Vec<Candidate>,
    queue: usize,
    position: usize,
    deferred: usize,
    deferred_position: usize,
    selected: usize,
    forbidden: usize,
}

impl Search<'_> {
    fn run(mut self) -> Result<Solution, Unsatisfiable> {
        let mut first: Option<Unsatisfiable> = None;
        let mut retreats = 0;
        while let Some(requirement) = self.next_requirement() {
            let (asked, parent) = self.queue[requirement].clone();
            let mut viable: Vec<Candidate> = Vec::new();
            for candidate in asked.candidates.iter().copied() {
                if self.obstacle(candidate).is_none() {
                    viable.push(candidate);
                }
            }
            if viable.is_empty() {
                first.get_or_insert_with(|| self.explain(&asked, parent));
                retreats += 1;
                if retreats > MAXIMUM_RETREATS || self.selections > MAXIMUM_SELECTIONS || !self.retreat() {
                    break;
                }
                continue;
            }
            let chosen = viable.remove(0);
            if !viable.is_empty() {
                self.choices.push(Choice {
                    requirement,
                    untried: viable,
                    queue: self.queue.len(),
                    position: self.position,
                    deferred: self.deferred.len(),
                    deferred_position: self.deferred_position,
                    selected: self.selected.len(),
                    forbidden: self.forbidden.len(),
                });
            }
            self.select(chosen, parent);
        }
        match first {
            Some(reason) if !self.is_complete() => Err(reason),
            _ => Ok(Solution {
                selected: self.selected.iter().map(|candidate| (*candidate, self.parents[candidate])).collect(),
            }),
        }
    }

    fn is_complete(&self) -> bool {
        self.queue.iter().all(|(requirement, _)| self.is_satisfied(requirement))
    }

    fn is_satisfied(&self, requirement: &Requirement) -> bool {
        requirement.candidates.iter().any(|candidate| self.parents.contains_key(candidate))
    }

    /// The next requirement that is not satisfied yet: without a choice first, in order of discovery.
    fn next_requirement(&mut self) -> Option<usize> {
        while self.position < self.queue.len() {
            let at = self.position;
            self.position += 1;
            match self.queue[at].0.candidates.len() {
                0 | 1 if !self.is_satisfied(&self.queue[at].0) => return Some(at),
                0 | 1 => {}
                _ => self.deferred.push(at),
            }
        }
        while self.deferred_position < self.deferred.len() {
            let at = self.deferred[self.deferred_position];
            self.deferred_position += 1;
            if !self.is_satisfied(&self.queue[at].0) {
                return Some(at);
            }
        }
        None
    }

    fn select(&mut self, candidate: Candidate, parent: Option<Candidate>) {
        self.selections += 1;
        self.selected.push(candidate);
        self.parents.insert(candidate, parent);
        for conflict in self.universe.conflicts(candidate) {
            for other in conflict.candidates {
                if other != candidate {
                    self.forbidden.push((other, candidate, conflict.text.clone()));
                }
            }
        }
        for requirement in self.universe.requirements(candidate) {
            self.queue.push((requirement, Some(candidate)));
        }
    }

    /// Why a candidate cannot be selected now.
    fn obstacle(&self, candidate: Candidate) -> Option<String> {
        let label = |candidate| self.universe.label(candidate);
        if let Some((_, by, text)) = self.forbidden.iter().find(|(forbidden, ..)| *forbidden == candidate) {
            return Some(format!("{} is ruled out by {} ({text})", label(candidate), label(*by)));
        }
        for conflict in self.universe.conflicts(candidate) {
            if let Some(other) =
                conflict.candidates.iter().find(|other| **other != candidate && self.parents.contains_key(other))
            {
                return Some(format!("{} rules out {} ({})", label(candidate), label(*other), conflict.text));
            }
        }
        None
    }

    fn explain(&self, asked: &Requirement, parent: Option<Candidate>) -> Unsatisfiable {
        let mut chain = Vec::new();
        let mut at = parent;
        while let Some(candidate) = at {
            chain.push(self.universe.label(candidate));
            at = self.parents.get(&candidate).copied().flatten();
        }
        let mut obstacles: Vec<String> =
            asked.candidates.iter().filter_map(|candidate| self.obstacle(*candidate)).collect();
        if asked.candidates.is_empty() && !asked.hint.is_empty() {
            obstacles.push(asked.hint.clone());
        }
        Unsatisfiable { requirement: asked.text.clone(), chain, obstacles }
    }

    /// Goes back to the latest choice that has an untried candidate, and takes that.
    fn retreat(&mut self) -> bool {
        let Some(choice) = self.choices.last_mut() else { return false };
        for candidate in self.selected.drain(choice.selected..) {
            self.parents.remove(&candidate);
        }
        self.queue.truncate(choice.queue);
        self.deferred.truncate(choice.deferred);
        self.forbidden.truncate(choice.forbidden);
        (self.position, self.deferred_position) = (choice.position, choice.deferred_position);
        let (requirement, next) = (choice.requirement, choice.untried.remove(0));
        if choice.untried.is_empty() {
            self.choices.pop();
        }
        let parent = self.queue[requirement].1;
        self.select(next, parent);
        true
    }
}

#[cfg(test)]
mod tests;
