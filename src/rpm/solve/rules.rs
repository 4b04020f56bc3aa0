//! Rules: clauses of which one literal must hold, made from what packages say of each other and from the wishes.

use super::architecture;
use super::clauses::{Blocks, Form, invert, is_complex, normalize};
use super::request::Wish;
use crate::rpm::pool::architecture::is_same_colour;
use crate::rpm::pool::providers::Providers;
use crate::rpm::pool::{Dependency, PackageId, Pool, Relation, Rich};
use std::cmp::Ordering;
use std::collections::VecDeque;

/// Names of packages of which several versions may be installed (dnf's `installonlypkgs`).
const SEVERAL_VERSIONS: [&str; 6] = [
    "kernel",
    "kernel-PAE",
    "installonlypkg(kernel)",
    "installonlypkg(kernel-module)",
    "installonlypkg(vm)",
    "multiversion(kernel)",
];

/// That a package is installed (positive) or not: its place plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Literal(pub i32);

impl Literal {
    /// Invariant: a pool has fewer than 2^20 packages.
    pub fn yes(package: PackageId) -> Literal {
        Literal(package as i32 + 1)
    }

    pub fn no(package: PackageId) -> Literal {
        Literal(-(package as i32) - 1)
    }

    pub fn negated(self) -> Literal {
        Literal(-self.0)
    }

    pub fn is_yes(self) -> bool {
        self.0 > 0
    }

    pub fn package(self) -> PackageId {
        self.0.unsigned_abs() as usize - 1
    }
}

/// What a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    NotInstallable(PackageId),
    Requires(PackageId, Dependency),
    Nothing(PackageId, Dependency),
    Conflicts(PackageId, Dependency),
    Obsoletes(PackageId, Dependency),
    SameName(PackageId, PackageId),
    InferiorArchitecture(PackageId),
    /// Number of the wish.
    Wish(usize),
    /// Place in the list of reasons.
    Learnt(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub literals: Box<[Literal]>,
    pub origin: Origin,
    /// The two watched literals; the second is none of an assertion.
    pub watched: [Option<Literal>; 2],
    /// The next rule in the chain of each watched literal.
    pub next: [Option<usize>; 2],
}

impl Rule {
    pub fn new(literals: Vec<Literal>, origin: Origin) -> Rule {
        let watched = [literals.first().copied(), literals.get(1).copied()];
        Rule { literals: literals.into(), origin, watched, next: [None, None] }
    }

    pub fn is_assertion(&self) -> bool {
        self.literals.len() == 1
    }
}

/// All rules but the learnt ones.
pub(super) struct Rules {
    pub list: Vec<Rule>,
    /// Where those of the wishes stand.
    pub wishes: std::ops::Range<usize>,
    /// Packages of which several versions may be installed.
    pub several: Vec<bool>,
}

pub(super) fn make(providers: &Providers<'_>, wishes: &[Wish]) -> Rules {
    let pool = providers.pool;
    let mut maker = Maker {
        pool,
        providers,
        rules: Vec::new(),
        visited: vec![false; pool.packages().len()],
        several: several_versions(pool),
    };
    for wish in wishes {
        for package in maker.candidates(wish) {
            maker.add_package(package);
        }
    }
    maker.add_weak();
    unify(&mut maker.rules);
    let start = maker.rules.len();
    for (number, wish) in wishes.iter().enumerate() {
        maker.add_wish(number, wish);
    }
    let end = maker.rules.len();
    maker.add_architectures(wishes);
    Rules { list: maker.rules, wishes: start..end, several: maker.several }
}

fn several_versions(pool: &Pool) -> Vec<bool> {
    let mut several = vec![false; pool.packages().len()];
    for name in SEVERAL_VERSIONS {
        if let Some(name) = pool.find(name) {
            let bound = crate::rpm::pool::Bound { name, sense: Default::default(), evr: name };
            pool.providers(bound).into_iter().for_each(|package| several[package] = true);
        }
    }
    several
}

pub(super) struct Maker<'a> {
    pub pool: &'a Pool,
    providers: &'a Providers<'a>,
    pub rules: Vec<Rule>,
    pub visited: Vec<bool>,
    several: Vec<bool>,
}

impl Maker<'_> {
    fn candidates(&self, wish: &Wish) -> Vec<PackageId> {
        match wish {
            Wish::OneOf { packages, .. } => packages.clone(),
            Wish::Provided { dependency, .. } => match self.pool.rich(*dependency) {
                Some(rich) => positive(&rich, self.providers),
                None => self.providers.of(*dependency).to_vec(),
            },
        }
    }

    /// Adds a rule of two literals or more in the order that is libsolv's; one that always holds is left out.
    fn add(&mut self, first: Literal, rest: &[Literal], origin: Origin) {
        if rest.contains(&first.negated()) {
            return;
        }
        let mut literals = Vec::with_capacity(rest.len() + 1);
        literals.push(first);
        literals.extend_from_slice(rest);
        if let [a, b] = literals[..]
            && a > b
        {
            literals.swap(0, 1);
        }
        self.rules.push(Rule::new(literals, origin));
    }

    /// Rules of a package and of all that it may bring in.
    fn add_package(&mut self, package: PackageId) {
        let mut queue = VecDeque::from([package]);
        while let Some(package) = queue.pop_front() {
            if std::mem::replace(&mut self.visited[package], true) {
                continue;
            }
            if !self.pool.is_installable(package) {
                self.add(Literal::no(package), &[], Origin::NotInstallable(package));
            }
            self.add_requires(package, &mut queue);
            self.add_conflicts(package, &mut queue);
            self.add_obsoletes(package);
            self.add_same_name(package, &mut queue);
            for relation in [Relation::Recommends, Relation::Suggests] {
                for dependency in self.pool.relation(package, relation) {
                    let found = match self.pool.rich(*dependency).filter(|rich| is_complex(rich)) {
                        Some(rich) => positive(&rich, self.providers),
                        None => self.providers.of(*dependency).to_vec(),
                    };
                    queue.extend(found.into_iter().filter(|package| !self.visited[*package]));
                }
            }
        }
    }

    fn add_requires(&mut self, package: PackageId, queue: &mut VecDeque<PackageId>) {
        for dependency in self.pool.relation(package, Relation::Requires) {
            let dependency = *dependency;
            if is_promise_of_rpm(self.pool, dependency) {
                continue;
            }
            if let Some(rich) = self.pool.rich(dependency).filter(|rich| is_complex(rich)) {
                let blocks = normalize(&rich, self.providers, Form::Conjunctive);
                self.add_blocks(package, blocks, Origin::Requires(package, dependency), queue);
                continue;
            }
            let found = self.providers.of(dependency);
            if found.is_empty() {
                self.add(Literal::no(package), &[], Origin::Nothing(package, dependency));
            } else if !found.contains(&package) {
                let literals: Vec<Literal> = found.iter().map(|provider| Literal::yes(*provider)).collect();
                self.add(Literal::no(package), &literals, Origin::Requires(package, dependency));
                queue.extend(found.iter().filter(|provider| !self.visited[**provider]));
            }
        }
    }

    fn add_conflicts(&mut self, package: PackageId, queue: &mut VecDeque<PackageId>) {
        for dependency in self.pool.relation(package, Relation::Conflicts) {
            let dependency = *dependency;
            let origin = Origin::Conflicts(package, dependency);
            if let Some(rich) = self.pool.rich(dependency).filter(|rich| is_complex(rich)) {
                let blocks = invert(normalize(&rich, self.providers, Form::Disjunctive));
                self.add_blocks(package, blocks, origin, queue);
                continue;
            }
            for other in self.providers.of(dependency).iter().filter(|other| **other != package) {
                self.add(Literal::no(package), &[Literal::no(*other)], origin);
            }
        }
    }

    /// Rules of a package's rich dependency: for each block, either it is not installed or the block holds.
    fn add_blocks(&mut self, package: PackageId, blocks: Blocks, origin: Origin, queue: &mut VecDeque<PackageId>) {
        let own = Literal::no(package);
        let blocks = match blocks {
            Blocks::Always => return,
            Blocks::Never => {
                let origin = match origin {
                    Origin::Requires(package, dependency) => Origin::Nothing(package, dependency),
                    other => other,
                };
                return self.add(own, &[], origin);
            }
            Blocks::Some(blocks) => blocks,
        };
        for mut block in blocks {
            if block.contains(&own.negated()) {
                continue;
            }
            if block == [own] {
                // A package that conflicts with itself means others that provide the same.
                if matches!(origin, Origin::Requires(..)) {
                    self.add(own, &[], origin);
                }
                continue;
            }
            queue.extend(block.iter().filter(|literal| literal.is_yes()).map(|literal| literal.package()));
            if let Err(place) = block.binary_search(&own) {
                block.insert(place, own);
            }
            self.add(block[0], &block[1..], origin);
        }
    }

    fn add_obsoletes(&mut self, package: PackageId) {
        for dependency in self.pool.relation(package, Relation::Obsoletes) {
            let bound = self.pool.bound_of(*dependency);
            for other in self.pool.named(bound.name) {
                if other != package && self.pool.matches_name(other, bound) {
                    self.add(Literal::no(package), &[Literal::no(other)], Origin::Obsoletes(package, *dependency));
                }
            }
        }
    }

    fn add_same_name(&mut self, package: PackageId, queue: &mut VecDeque<PackageId>) {
        let pool = self.pool;
        let own = &pool.packages()[package];
        for other in pool.named(own.name) {
            if other == package {
                continue;
            }
            let others = &pool.packages()[other];
            // Packages of another word size come along in step; see `add_architectures`.
            if others.evr == own.evr && architecture::is_better(pool, other, package) && !self.visited[other] {
                queue.push_back(other);
            }
            let is_twin = others.evr == own.evr && others.arch == own.arch;
            if self.several[package] && !is_twin {
                continue;
            }
            if is_same_colour(pool.arch_of(package), pool.arch_of(other)) && !self.visited_both(other) {
                self.add(Literal::no(package), &[Literal::no(other)], Origin::SameName(package, other));
            }
        }
    }

    /// The rule was made already, from the other side.
    fn visited_both(&self, other: PackageId) -> bool {
        self.visited[other] && !self.several[other]
    }

    /// Packages that supplement or enhance what may be installed.
    fn add_weak(&mut self) {
        let mut found = true;
        while std::mem::take(&mut found) {
            for package in 0..self.pool.packages().len() {
                if self.visited[package] || !self.pool.is_installable(package) {
                    continue;
                }
                let is_possible = [Relation::Supplements, Relation::Enhances].into_iter().any(|relation| {
                    self.pool.relation(package, relation).iter().any(|dependency| self.is_possible(*dependency))
                });
                if is_possible {
                    self.add_package(package);
                    found = true;
                }
            }
        }
    }

    fn is_possible(&self, dependency: Dependency) -> bool {
        let any = |packages: &[PackageId]| packages.iter().any(|package| self.visited[*package]);
        match self.pool.rich(dependency) {
            Some(rich) => self.is_rich_possible(&rich),
            None => any(&self.providers.of(dependency)),
        }
    }

    fn is_rich_possible(&self, rich: &Rich) -> bool {
        match rich {
            Rich::And(a, b) => self.is_rich_possible(a) && self.is_rich_possible(b),
            Rich::Or(a, b) => self.is_rich_possible(a) || self.is_rich_possible(b),
            // Fulfilled where the condition is not.
            Rich::If(..) => true,
            Rich::Unless(a, _, None) => self.is_rich_possible(a),
            Rich::Unless(a, _, Some(c)) => self.is_rich_possible(a) || self.is_rich_possible(c),
            _ => self.providers.of_rich(rich).into_iter().any(|package| self.visited[package]),
        }
    }

    fn add_wish(&mut self, number: usize, wish: &Wish) {
        let origin = Origin::Wish(number);
        if let Wish::Provided { dependency, .. } = wish
            && let Some(rich) = self.pool.rich(*dependency).filter(|rich| is_complex(rich))
        {
            // A group's conditional package that nobody provides is not wished for.
            if let Blocks::Some(blocks) = normalize(&rich, self.providers, Form::Conjunctive) {
                self.rules.extend(blocks.into_iter().map(|block| Rule::new(block, origin)));
            }
        } else {
            let literals: Vec<Literal> = self.candidates(wish).into_iter().map(Literal::yes).collect();
            if !literals.is_empty() {
                self.rules.push(Rule::new(literals, origin));
            }
        }
    }
}

/// Spec: `rpmlib(…)` is what rpm itself can do; any rpm that can read the package has it.
pub(super) fn is_promise_of_rpm(pool: &Pool, dependency: Dependency) -> bool {
    pool.text(pool.bound_of(dependency).name).starts_with("rpmlib(")
}

/// Packages that an expression may bring in.
pub(super) fn positive(rich: &Rich, providers: &Providers<'_>) -> Vec<PackageId> {
    fn walk(rich: &Rich, negative: bool, providers: &Providers<'_>, found: &mut Vec<PackageId>) {
        match rich {
            Rich::And(a, b) | Rich::Or(a, b) => {
                walk(a, negative, providers, found);
                walk(b, negative, providers, found);
            }
            Rich::If(a, b, c) | Rich::Unless(a, b, c) => {
                walk(a, negative, providers, found);
                walk(b, !negative, providers, found);
                if let Some(c) = c {
                    walk(c, negative, providers, found);
                    walk(b, negative, providers, found);
                }
            }
            _ if negative => {}
            _ => found.extend(providers.of_rich(rich)),
        }
    }
    let mut found = Vec::new();
    walk(rich, false, providers, &mut found);
    found
}

/// Sorts rules and drops those that occur twice.
///
/// Compat: libsolv sorts by first literal, then by the others, ending each list with a zero; unresolved rules are decided in this order.
fn unify(rules: &mut Vec<Rule>) {
    rules.sort_by(|left, right| order(&left.literals, &right.literals));
    rules.dedup_by(|later, earlier| later.literals == earlier.literals);
}

fn order(left: &[Literal], right: &[Literal]) -> Ordering {
    let at = |literals: &[Literal], place: usize| literals.get(place).map_or(0, |literal| literal.0);
    (0..left.len().max(right.len()))
        .map(|place| at(left, place).cmp(&at(right, place)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}
