//! Judges a choice of packages by what they say, without the search's rules and clauses.

use super::{Request, Wish};
use crate::rpm::pool::architecture::is_same_colour;
use crate::rpm::pool::{Bound, Dependency, PackageId, Pool, Relation, Rich};
use std::collections::BTreeSet;

/// What does not hold of a choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{0} is not among the packages")]
    Unfulfilled(String),
    #[error("{0} cannot be installed")]
    NotInstallable(String),
    #[error("{package} requires {dependency}")]
    Requires { package: String, dependency: String },
    #[error("{package} conflicts with {dependency}")]
    Conflicts { package: String, dependency: String },
    #[error("{package} obsoletes {other}")]
    Obsoletes { package: String, other: String },
    #[error("{package} and {other} have one name")]
    SameName { package: String, other: String },
}

/// All faults of a choice.
pub fn verify(pool: &Pool, request: &Request, chosen: &[PackageId]) -> Vec<Fault> {
    let chosen: BTreeSet<PackageId> = chosen.iter().copied().collect();
    let judge = Judge { pool, chosen: &chosen };
    let mut faults = Vec::new();
    for wish in &request.wishes {
        let is_fulfilled = match wish {
            Wish::OneOf { packages, .. } => packages.iter().any(|package| chosen.contains(package)),
            Wish::Provided { dependency, .. } => judge.holds(*dependency, None),
        };
        if !is_fulfilled {
            faults.push(Fault::Unfulfilled(wish.text().to_owned()));
        }
    }
    for package in &chosen {
        judge.judge(*package, &mut faults);
    }
    faults
}

struct Judge<'a> {
    pool: &'a Pool,
    chosen: &'a BTreeSet<PackageId>,
}

impl Judge<'_> {
    fn judge(&self, package: PackageId, faults: &mut Vec<Fault>) {
        let pool = self.pool;
        let nevra = pool.nevra(package);
        if !pool.is_installable(package) {
            faults.push(Fault::NotInstallable(nevra.clone()));
        }
        for dependency in pool.relation(package, Relation::Requires) {
            let text = pool.show(*dependency);
            if !text.starts_with("rpmlib(") && !self.holds(*dependency, None) {
                faults.push(Fault::Requires { package: nevra.clone(), dependency: text });
            }
        }
        for dependency in pool.relation(package, Relation::Conflicts) {
            if self.is_in_conflict(package, *dependency) {
                faults.push(Fault::Conflicts { package: nevra.clone(), dependency: pool.show(*dependency) });
            }
        }
        for dependency in pool.relation(package, Relation::Obsoletes) {
            let bound = pool.bound_of(*dependency);
            for other in self.chosen.iter().filter(|other| **other != package && pool.matches_name(**other, bound)) {
                faults.push(Fault::Obsoletes { package: nevra.clone(), other: pool.nevra(*other) });
            }
        }
        let own = &pool.packages()[package];
        for other in self.chosen.range(package + 1..) {
            let others = &pool.packages()[*other];
            let is_twin = own.evr == others.evr && own.arch == others.arch;
            if own.name == others.name
                && is_same_colour(pool.arch_of(package), pool.arch_of(*other))
                && (is_twin || !(self.has_several(package) || self.has_several(*other)))
            {
                faults.push(Fault::SameName { package: nevra.clone(), other: pool.nevra(*other) });
            }
        }
    }

    /// A package does not conflict with itself, but may be part of a combination that it forbids.
    fn is_in_conflict(&self, package: PackageId, dependency: Dependency) -> bool {
        let alone = BTreeSet::from([package]);
        let own = Judge { pool: self.pool, chosen: &alone };
        let is_rich = self.pool.rich(dependency).is_some();
        self.holds(dependency, Some(package)) || is_rich && self.holds(dependency, None) && !own.holds(dependency, None)
    }

    /// dnf's `installonlypkgs`: kernels and their like stand side by side.
    fn has_several(&self, package: PackageId) -> bool {
        self.pool.relation(package, Relation::Provides).iter().any(|provision| {
            let name = self.pool.text(self.pool.bound_of(*provision).name);
            matches!(name, "kernel" | "kernel-PAE")
                || name.starts_with("installonlypkg(")
                || name == "multiversion(kernel)"
        })
    }

    /// Whether the chosen packages fulfil a dependency, one of them left out.
    fn holds(&self, dependency: Dependency, without: Option<PackageId>) -> bool {
        match self.pool.rich(dependency) {
            Some(rich) => self.holds_rich(&rich, without),
            None => self.any(self.pool.bound_of(dependency), without),
        }
    }

    fn any(&self, bound: Bound, without: Option<PackageId>) -> bool {
        self.pool.providers(bound).into_iter().any(|package| Some(package) != without && self.chosen.contains(&package))
    }

    fn holds_rich(&self, rich: &Rich, without: Option<PackageId>) -> bool {
        let holds = |part: &Rich| self.holds_rich(part, without);
        match rich {
            Rich::One(dependency) => self.holds(*dependency, without),
            Rich::And(a, b) => holds(a) && holds(b),
            Rich::Or(a, b) => holds(a) || holds(b),
            Rich::If(a, b, None) => !holds(b) || holds(a),
            Rich::If(a, b, Some(c)) => {
                if holds(b) {
                    holds(a)
                } else {
                    holds(c)
                }
            }
            Rich::Unless(a, b, None) => !holds(b) && holds(a),
            Rich::Unless(a, b, Some(c)) => {
                if holds(b) {
                    holds(c)
                } else {
                    holds(a)
                }
            }
            Rich::With(..) | Rich::Without(..) => {
                self.chosen.iter().any(|package| Some(*package) != without && self.is(*package, rich))
            }
            Rich::Unreadable => false,
        }
    }

    /// Whether one package is what an expression asks for.
    fn is(&self, package: PackageId, rich: &Rich) -> bool {
        match rich {
            Rich::One(dependency) => match self.pool.rich(*dependency) {
                Some(rich) => self.is(package, &rich),
                None => self.pool.providers(self.pool.bound_of(*dependency)).contains(&package),
            },
            Rich::With(a, b) => self.is(package, a) && self.is(package, b),
            Rich::Without(a, b) => self.is(package, a) && !self.is(package, b),
            Rich::Or(a, b) => self.is(package, a) || self.is(package, b),
            _ => false,
        }
    }
}
