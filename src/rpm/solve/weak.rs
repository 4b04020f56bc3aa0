//! What is recommended by the chosen packages, or supplements them.

use super::clauses::{Blocks, Form, is_complex, normalize};
use super::search::{Search, Step, Stop};
use crate::rpm::pool::{Dependency, PackageId, Relation};

impl Search<'_> {
    /// Adds recommended packages, each on a level of its own. Gives the level, and whether something was done.
    pub fn add_weak(&mut self, mut level: usize) -> Result<(usize, bool), Stop> {
        let mut recommended = Vec::new();
        let mut supplements = Vec::new();
        for package in 0..self.pool.packages().len() {
            if self.is_installed(package) {
                for dependency in self.pool.relation(package, Relation::Recommends) {
                    for candidate in self.candidates(*dependency) {
                        push_unique(&mut recommended, candidate);
                    }
                }
            } else if self.is_undecided(package)
                && self.pool.is_installable(package)
                && self.is_supplementing(package, Relation::Supplements)
                && !self.has_other_version(package)
            {
                supplements.push(package);
            }
        }
        supplements.iter().for_each(|package| push_unique(&mut recommended, *package));
        match recommended[..] {
            [] => return Ok((level, false)),
            [only] => return Ok((self.set(level, only, None, Step::Weak)?, true)),
            _ => self.keep_best(&mut recommended),
        }
        supplements.retain(|package| recommended.contains(package));
        if supplements.len() > 1 {
            self.reorder(&mut supplements);
        }
        let decisions = self.queue.len();
        for package in supplements {
            if self.is_undecided(package) {
                let before = level;
                level = self.set(level, package, None, Step::Weak)?;
                if level <= before {
                    return Ok((level, true));
                }
            }
        }
        if self.queue.len() < decisions {
            return Ok((level, true));
        }
        for at in 0..decisions {
            let literal = self.queue[at];
            if !literal.is_yes() {
                continue;
            }
            for dependency in self.pool.relation(literal.package(), Relation::Recommends).to_vec() {
                let mut open = self.candidates(dependency);
                open.retain(|package| recommended.contains(package));
                if open.is_empty() {
                    continue;
                }
                if open.len() > 1 {
                    self.prefer(&mut open, true);
                }
                self.branch(level, &open);
                let before = level;
                level = self.set(level, open[0], None, Step::Weak)?;
                if level <= before || self.queue.len() < decisions {
                    return Ok((level, true));
                }
            }
        }
        Ok((level, true))
    }

    /// Undecided packages that would fulfil a recommendation; none when it is fulfilled.
    fn candidates(&self, dependency: Dependency) -> Vec<PackageId> {
        if let Some(rich) = self.pool.rich(dependency).filter(|rich| is_complex(rich)) {
            let Blocks::Some(blocks) = normalize(&rich, self.providers, Form::Conjunctive) else { return Vec::new() };
            let mut found = Vec::new();
            for block in blocks {
                let is_meant = block.iter().all(|literal| match literal.is_yes() {
                    true => !self.is_installed(literal.package()),
                    false => self.is_installed(literal.package()),
                });
                if is_meant {
                    let open = block.iter().filter(|literal| literal.is_yes() && self.is_undecided(literal.package()));
                    open.for_each(|literal| push_unique(&mut found, literal.package()));
                }
            }
            return found;
        }
        let providers = self.providers.of(dependency);
        if providers.iter().any(|package| self.is_installed(*package)) {
            return Vec::new();
        }
        providers.iter().copied().filter(|package| self.is_undecided(*package)).collect()
    }

    /// A supplement beside another version or architecture of itself is not wanted.
    fn has_other_version(&self, package: PackageId) -> bool {
        let pool = self.pool;
        let own = &pool.packages()[package];
        pool.named(own.name)
            .into_iter()
            .any(|other| self.is_installed(other) && (self.several[package] || pool.packages()[other].arch != own.arch))
    }
}

fn push_unique(list: &mut Vec<PackageId>, package: PackageId) {
    if !list.contains(&package) {
        list.push(package);
    }
}
