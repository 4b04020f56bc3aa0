//! The search: decide, propagate, learn from conflicts, and at last do without what is not needed.

use super::explain::{self, Unsolvable};
use super::policy::Preferences;
use super::rules::{self, Literal, Rule};
use super::{Reason, Request, Solution, SolveError, Wish};
use crate::rpm::pool::providers::Providers;
use crate::rpm::pool::{PackageId, Pool};
use std::collections::BTreeSet;

/// Conflicts after which the search is given up; real requests meet a few dozen.
const MAXIMUM_CONFLICTS: usize = 100_000;

/// Why a level was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Start,
    Wish,
    Resolve,
    Weak,
}

/// Why a literal was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A rule left no other choice.
    Rule(usize),
    /// Chosen, for a rule where there was one.
    Choice(Option<usize>),
}

/// Several packages would have done.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    /// Candidates in order of preference; those tried already are marked.
    pub candidates: Vec<(PackageId, bool)>,
    /// The level before the choice.
    pub level: usize,
}

/// The outcome of setting a literal.
pub(super) enum Stop {
    Unsolvable(Unsolvable),
    TooHard,
}

pub(super) struct Search<'a> {
    pub pool: &'a Pool,
    pub providers: &'a Providers<'a>,
    pub rules: Vec<Rule>,
    pub wishes: std::ops::Range<usize>,
    pub several: Vec<bool>,
    /// Rules that each learnt one was learnt from.
    pub learnt_reasons: Vec<Vec<usize>>,
    /// First watching rule of each literal.
    pub watches: Vec<Option<usize>>,
    /// Positive: installed since that level; negative: not installed.
    pub decided: Vec<i32>,
    pub queue: Vec<Literal>,
    pub causes: Vec<Cause>,
    pub propagated: usize,
    pub steps: Vec<Step>,
    pub branches: Vec<Branch>,
    pub preferences: Preferences,
    pub favoured: &'a BTreeSet<PackageId>,
    pub conflicts: usize,
}

pub(super) fn run(pool: &Pool, request: &Request) -> Result<Solution, SolveError> {
    let providers = Providers::new(pool);
    let made = rules::make(&providers, &request.wishes);
    let packages = pool.packages().len();
    let mut search = Search {
        pool,
        providers: &providers,
        rules: made.list,
        wishes: made.wishes,
        several: made.several,
        learnt_reasons: Vec::new(),
        watches: vec![None; 2 * packages + 1],
        decided: vec![0; packages],
        queue: Vec::new(),
        causes: Vec::new(),
        propagated: 0,
        steps: vec![Step::Start; 2],
        branches: Vec::new(),
        preferences: Preferences::new(packages),
        favoured: &request.favoured,
        conflicts: 0,
    };
    match search.run(!request.no_weak) {
        Ok(()) => Ok(search.solution(&request.wishes)),
        Err(Stop::TooHard) => Err(SolveError::TooHard(MAXIMUM_CONFLICTS)),
        Err(Stop::Unsolvable(reason)) => Err(SolveError::Unsolvable(reason.with_wishes(&request.wishes))),
    }
}

impl Search<'_> {
    pub fn is_true(&self, literal: Literal) -> bool {
        let level = self.decided[literal.package()];
        if literal.is_yes() { level > 0 } else { level < 0 }
    }

    pub fn is_false(&self, literal: Literal) -> bool {
        self.is_true(literal.negated())
    }

    pub fn is_undecided(&self, package: PackageId) -> bool {
        self.decided[package] == 0
    }

    pub fn is_installed(&self, package: PackageId) -> bool {
        self.decided[package] > 0
    }

    fn run(&mut self, weak: bool) -> Result<(), Stop> {
        for rule in (0..self.rules.len()).rev() {
            self.watch(rule);
        }
        self.start()?;
        let mut level = 1;
        // Below this level wishes may have been taken back.
        let mut wished = 2;
        loop {
            let before = level;
            if level < wished {
                level = self.resolve_wishes(level)?;
                if level < before {
                    continue;
                }
                wished = level;
            }
            let before = level;
            level = self.resolve(level)?;
            if level < before {
                continue;
            }
            if weak {
                let (next, again) = self.add_weak(level)?;
                level = next;
                if again {
                    continue;
                }
            }
            match self.improve()? {
                Some(next) => level = next,
                None => return Ok(()),
            }
        }
    }

    /// Decides what rules of one literal demand, and what follows.
    fn start(&mut self) -> Result<(), Stop> {
        for at in 0..self.rules.len() {
            let rule = &self.rules[at];
            if !rule.is_assertion() {
                continue;
            }
            let literal = rule.literals[0];
            if self.is_false(literal) {
                return Err(self.unsolvable(at));
            }
            if !self.is_true(literal) {
                self.decide(literal, 1, Cause::Rule(at));
            }
        }
        match self.propagate(1) {
            None => Ok(()),
            Some(rule) => Err(self.unsolvable(rule)),
        }
    }

    /// Fulfils the wishes one after the other.
    fn resolve_wishes(&mut self, mut level: usize) -> Result<usize, Stop> {
        let first = level;
        let mut at = self.wishes.start;
        while at < self.wishes.end {
            let Some(open) = self.open_literals(at) else {
                at += 1;
                continue;
            };
            let before = level;
            level = self.choose(level, open, Some(at), Step::Wish)?;
            if level < first {
                return Ok(level);
            }
            if level < before {
                at = self.wishes.start;
            } else if level > before {
                at += 1;
            }
        }
        Ok(level)
    }

    /// Undecided packages of a rule that is not fulfilled and leaves a choice.
    fn open_literals(&self, rule: usize) -> Option<Vec<PackageId>> {
        let mut open = Vec::new();
        for literal in &self.rules[rule].literals {
            let package = literal.package();
            match (literal.is_yes(), self.decided[package]) {
                (false, level) if level <= 0 => return None,
                (true, level) if level > 0 => return None,
                (true, 0) => open.push(package),
                _ => {}
            }
        }
        (!open.is_empty()).then_some(open)
    }

    /// Decides all rules that leave a choice. Those where preferences leave one package come first.
    fn resolve(&mut self, mut level: usize) -> Result<usize, Stop> {
        let first = level;
        let mut postponed: Option<usize> = None;
        let mut may_postpone = true;
        let (mut at, mut seen) = (0, 0);
        loop {
            if seen >= self.rules.len() {
                match postponed.take() {
                    Some(place) if may_postpone => {
                        at = place;
                        may_postpone = false;
                        seen = 0;
                    }
                    _ => return Ok(level),
                }
            }
            if at >= self.rules.len() {
                at = 0;
            }
            let rule = at;
            at += 1;
            seen += 1;
            let Some(mut open) = self.unresolved(rule) else { continue };
            if open.len() > 1 && may_postpone {
                self.prefer(&mut open, false);
                if open.len() > 1 {
                    postponed.get_or_insert(rule);
                    continue;
                }
            }
            level = self.choose(level, open, Some(rule), Step::Resolve)?;
            if level < first {
                return Ok(level);
            }
            // Something changed: all rules are looked at again, from this one on.
            seen = 0;
        }
    }

    /// As [`Search::open_literals`], for rules of packages that are installed.
    fn unresolved(&self, rule: usize) -> Option<Vec<PackageId>> {
        let literals = &self.rules[rule].literals;
        let first = literals[0];
        if !first.is_yes() && (literals.len() <= 2 || self.decided[first.package()] <= 0) {
            return None;
        }
        if literals.len() == 1 {
            return None;
        }
        self.open_literals(rule).filter(|open| open.len() > 1)
    }

    /// Installs the preferred one of several packages. Gives the new level; a lower one after a conflict.
    pub fn choose(
        &mut self,
        level: usize,
        mut packages: Vec<PackageId>,
        rule: Option<usize>,
        step: Step,
    ) -> Result<usize, Stop> {
        if packages.len() > 1 {
            self.prefer(&mut packages, true);
        }
        self.branch(level, &packages);
        self.set(level, packages[0], rule, step)
    }

    /// Remembers that others would have done.
    pub fn branch(&mut self, level: usize, packages: &[PackageId]) {
        if packages.len() > 1 {
            let candidates = packages.iter().enumerate().map(|(at, package)| (*package, at == 0)).collect();
            self.branches.push(Branch { candidates, level });
        }
    }

    /// Installs a package on a level of its own, and decides all that follows. A conflict is learnt from and resolved.
    pub fn set(
        &mut self,
        mut level: usize,
        package: PackageId,
        rule: Option<usize>,
        step: Step,
    ) -> Result<usize, Stop> {
        level += 1;
        self.decide(Literal::yes(package), level as i32, Cause::Choice(rule));
        self.steps.push(step);
        while let Some(conflict) = self.propagate(level) {
            self.conflicts += 1;
            if self.conflicts > MAXIMUM_CONFLICTS {
                return Err(Stop::TooHard);
            }
            if level == 1 {
                return Err(self.unsolvable(conflict));
            }
            level = self.learn(level, conflict);
        }
        Ok(level)
    }

    /// All that is certain contradicts itself: there is no solution.
    fn unsolvable(&self, conflict: usize) -> Stop {
        Stop::Unsolvable(explain::explain(self, &explain::involved(self, conflict)))
    }

    /// Goes back to a choice whose other candidate was installed later for another reason, or is recommended while the
    /// chosen one is not. None: nothing is to be improved.
    fn improve(&mut self) -> Result<Option<usize>, Stop> {
        if self.branches.is_empty() {
            return Ok(None);
        }
        self.update_preferences();
        let mut better: Option<(usize, usize)> = None;
        for number in (0..self.branches.len()).rev() {
            let branch = &self.branches[number];
            let mut recommended: Option<usize> = None;
            for (place, (package, tried)) in branch.candidates.iter().enumerate() {
                if *tried {
                    continue;
                }
                if self.decided[*package] > branch.level as i32 {
                    better = Some((number, place));
                    recommended = None;
                    break;
                }
                if recommended.is_none() && self.is_recommended(*package) {
                    recommended = Some(place);
                }
            }
            if let Some(place) = recommended {
                let chosen = branch.candidates.iter().find(|(package, tried)| {
                    *tried && self.decided[*package] == branch.level as i32 + 1 && !self.is_recommended(*package)
                });
                if chosen.is_some() {
                    better = Some((number, place));
                }
            }
        }
        let Some((number, place)) = better else { return Ok(None) };
        self.branches.truncate(number + 1);
        let mut branch = self.branches.remove(number);
        let level = branch.level;
        branch.candidates[place].1 = true;
        let package = branch.candidates[place].0;
        // The choice stands where the queue is cut; its cause and step are taken over.
        let first =
            self.queue.iter().position(|literal| self.decided[literal.package()].unsigned_abs() as usize > level);
        let rule = first.and_then(|at| match self.causes[at] {
            Cause::Choice(rule) => rule,
            Cause::Rule(_) => None,
        });
        let step = self.steps.get(level + 1).copied().unwrap_or(Step::Resolve);
        self.revert(level);
        self.branches.push(branch);
        self.set(level, package, rule, step).map(Some)
    }

    fn solution(&self, wishes: &[Wish]) -> Solution {
        let mut install: Vec<(PackageId, Reason)> = Vec::new();
        for (literal, cause) in self.queue.iter().zip(&self.causes) {
            if literal.is_yes() {
                install.push((literal.package(), self.reason(literal.package(), *cause, wishes)));
            }
        }
        install.sort_unstable();
        Solution { install }
    }

    /// Compat: as dnf tells it: a package that some other package needed before it was wished for is a dependency.
    fn reason(&self, package: PackageId, cause: Cause, wishes: &[Wish]) -> Reason {
        let step = self.steps[self.decided[package].unsigned_abs() as usize];
        let rule = match cause {
            Cause::Rule(rule) => Some(rule),
            Cause::Choice(_) if step == Step::Weak => return Reason::Weak,
            Cause::Choice(rule) => rule,
        };
        let is_wish = rule.is_some_and(|rule| self.wishes.contains(&rule));
        if !is_wish {
            return Reason::Dependency;
        }
        let name = self.pool.name_of(package);
        match wishes.iter().any(|wish| wish.is_group_member(name)) {
            true => Reason::Group,
            false => Reason::User,
        }
    }
}
