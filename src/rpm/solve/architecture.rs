//! Rules about packages of several architectures.

use super::request::Wish;
use super::rules::{Literal, Maker, Origin, Rule};
use crate::rpm::pool::architecture::Score;
use crate::rpm::pool::{Name, PackageId, Pool};

impl Maker<'_> {
    /// A package of a lesser architecture comes only beside its twin of the best one, unless its name was wished for.
    pub fn add_architectures(&mut self, wishes: &[Wish]) {
        let pool = self.pool;
        let wished: std::collections::HashSet<Name> = wishes
            .iter()
            .filter_map(|wish| match wish {
                Wish::OneOf { packages, .. } => Some(packages.iter().map(|package| pool.packages()[*package].name)),
                Wish::Provided { .. } => None,
            })
            .flatten()
            .collect();
        for package in 0..pool.packages().len() {
            let name = pool.packages()[package].name;
            if !self.visited[package] || wished.contains(&name) {
                continue;
            }
            let named: Vec<PackageId> = pool.named(name).into_iter().filter(|other| self.visited[*other]).collect();
            if named.first() != Some(&package) {
                continue;
            }
            let class = |package: PackageId| match pool.architectures().score(pool.arch_of(package)) {
                Some(Score::Class(class)) => Some(class),
                _ => None,
            };
            let Some(best) = named.iter().filter_map(|package| class(*package)).min() else { continue };
            for lesser in named {
                if pool.arch_of(lesser) == "noarch" || class(lesser) == Some(best) {
                    continue;
                }
                let own = &pool.packages()[lesser];
                let twins: Vec<Literal> = pool
                    .named(name)
                    .into_iter()
                    .filter(|twin| {
                        let other = &pool.packages()[*twin];
                        other.evr == own.evr
                            && other.arch != own.arch
                            && (pool.arch_of(*twin) == "noarch" || class(*twin) == Some(best))
                    })
                    .map(Literal::yes)
                    .collect();
                let mut literals = vec![Literal::no(lesser)];
                literals.extend(twins);
                self.rules.push(Rule::new(literals, Origin::InferiorArchitecture(lesser)));
            }
        }
    }
}

/// Whether a package's architecture is preferred to the other's; neither is `noarch`.
pub(super) fn is_better(pool: &Pool, package: PackageId, other: PackageId) -> bool {
    match (pool.architectures().score(pool.arch_of(package)), pool.architectures().score(pool.arch_of(other))) {
        (Some(Score::Class(one)), Some(Score::Class(two))) => one < two,
        _ => false,
    }
}
