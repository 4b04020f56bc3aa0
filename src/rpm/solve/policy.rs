//! Which of several packages is preferred.
//!
//! Compat: the steps are libsolv's: the repository with the best priority, the best architecture, the newest version of each name, what does
//! not come obsoleted, what is recommended; then an order: old versions last, those that provide newer things first, what is
//! suggested first.

use super::clauses::{Blocks, Form, is_complex, normalize};
use super::rules::Literal;
use super::search::Search;
use crate::rpm::dependency::Sense;
use crate::rpm::pool::architecture::Score;
use crate::rpm::pool::{Dependency, Name, PackageId, Relation, Rich};
use crate::rpm::version::{Match, compare, compare_open};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// What the installed packages recommend and suggest, as far as they were looked at.
pub(super) struct Preferences {
    /// Decisions that were looked at.
    seen: usize,
    recommended: Vec<bool>,
    suggested: Vec<bool>,
    /// Rich ones, whose meaning changes with what is installed.
    rich_recommended: Vec<Dependency>,
    rich_suggested: Vec<Dependency>,
}

impl Preferences {
    pub fn new(packages: usize) -> Preferences {
        Preferences {
            seen: 0,
            recommended: vec![false; packages],
            suggested: vec![false; packages],
            rich_recommended: Vec::new(),
            rich_suggested: Vec::new(),
        }
    }

    /// Only so many decisions are left.
    pub fn forget(&mut self, decisions: usize) {
        if self.seen > decisions {
            *self = Preferences::new(self.recommended.len());
        }
    }
}

impl Search<'_> {
    /// Leaves the preferred packages of a list that has at least one; `reorder` also puts the most preferred first.
    pub fn prefer(&mut self, packages: &mut Vec<PackageId>, reorder: bool) {
        self.keep_best(packages);
        if packages.iter().any(|package| self.favoured.contains(package)) {
            packages.retain(|package| self.favoured.contains(package));
        }
        if packages.len() < 2 {
            return;
        }
        self.update_preferences();
        let recommended: Vec<PackageId> =
            packages.iter().copied().filter(|package| self.is_recommended(*package)).collect();
        if !recommended.is_empty() {
            *packages = recommended;
        }
        if packages.len() > 1 && reorder {
            self.reorder(packages);
        }
    }

    /// The best repository, architecture and version of each name; those that are favoured in place of others of their names.
    pub fn keep_best(&self, packages: &mut Vec<PackageId>) {
        let pool = self.pool;
        let favoured = packages.iter().filter(|package| self.favoured.contains(package));
        let names: BTreeSet<Name> = favoured.map(|package| pool.packages()[*package].name).collect();
        packages.retain(|package| self.favoured.contains(package) || !names.contains(&pool.packages()[*package].name));
        if packages.len() > 1 {
            let priority = |package: &PackageId| pool.repository_of(*package).priority;
            let best = packages.iter().map(priority).min();
            packages.retain(|package| Some(priority(package)) == best);
        }
        if packages.len() > 1 {
            self.keep_best_architecture(packages);
        }
        if packages.len() > 1 {
            self.keep_best_versions(packages);
        }
    }

    fn class(&self, package: PackageId) -> Option<usize> {
        match self.pool.architectures().score(self.pool.arch_of(package)) {
            Some(Score::Class(class)) => Some(class),
            _ => None,
        }
    }

    fn keep_best_architecture(&self, packages: &mut Vec<PackageId>) {
        let Some(best) = packages.iter().filter_map(|package| self.class(*package)).min() else { return };
        let fits = |package: &PackageId| self.pool.arch_of(*package) == "noarch" || self.class(*package) == Some(best);
        if packages.iter().any(fits) {
            packages.retain(fits);
        }
    }

    fn keep_best_versions(&self, packages: &mut Vec<PackageId>) {
        let pool = self.pool;
        packages.sort_by(|left, right| pool.name_of(*left).cmp(pool.name_of(*right)).then(left.cmp(right)));
        let mut best: Vec<PackageId> = Vec::new();
        for package in packages.drain(..) {
            match best.last_mut() {
                Some(last) if pool.packages()[*last].name == pool.packages()[package].name => {
                    if compare(pool.evr_of(*last), pool.evr_of(package)) == Ordering::Less {
                        *last = package;
                    }
                }
                _ => best.push(package),
            }
        }
        *packages = best;
        if packages.len() > 1 {
            self.drop_obsoleted(packages);
        }
    }

    /// Drops those that others of the list, with another name, obsolete, unless it is mutual.
    fn drop_obsoleted(&self, packages: &mut Vec<PackageId>) {
        let pool = self.pool;
        let count = packages.len();
        let mut edges: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (from, package) in packages.iter().enumerate() {
            for dependency in pool.relation(*package, Relation::Obsoletes) {
                let bound = pool.bound_of(*dependency);
                let hit = |other: &PackageId| pool.matches_name(*other, bound);
                let same = pool.packages()[*package].name == bound.name;
                let targets = packages.iter().enumerate().filter(|(to, other)| *to != from && !same && hit(other));
                edges[from].extend(targets.map(|(to, _)| to));
            }
        }
        if edges.iter().all(Vec::is_empty) {
            return;
        }
        let reach: Vec<Vec<bool>> = (0..count).map(|from| reachable(&edges, from)).collect();
        let mut place = 0;
        packages.retain(|_| {
            let own = place;
            place += 1;
            (0..count).all(|other| !reach[other][own] || reach[own][other] || other == own)
        });
    }

    /// Puts the most preferred first, drops none.
    pub fn reorder(&mut self, packages: &mut Vec<PackageId>) {
        let (good, old): (Vec<PackageId>, Vec<PackageId>) =
            packages.iter().copied().partition(|package| !self.has_newer(*package));
        *packages = [good, old].concat();
        self.sort_by_provisions(packages);
        self.update_preferences();
        let (good, rest): (Vec<PackageId>, Vec<PackageId>) =
            packages.iter().copied().partition(|package| self.is_suggested(*package));
        *packages = [good, rest].concat();
    }

    /// Whether the same package can be had newer, or from a better repository.
    fn has_newer(&self, package: PackageId) -> bool {
        let pool = self.pool;
        let own = &pool.packages()[package];
        let priority = pool.repository_of(package).priority;
        pool.named(own.name).into_iter().any(|other| {
            let others = pool.repository_of(other).priority;
            other != package
                && pool.packages()[other].arch == own.arch
                && match others.cmp(&priority) {
                    Ordering::Equal => compare(pool.evr_of(other), pool.evr_of(package)) == Ordering::Greater,
                    better => better == Ordering::Less,
                }
        })
    }

    /// Packages that provide the same things in older versions than others of the list go behind.
    fn sort_by_provisions(&self, packages: &mut [PackageId]) {
        let pool = self.pool;
        let mut provisions: BTreeMap<Name, Vec<(usize, bool, Name)>> = BTreeMap::new();
        for (place, package) in packages.iter().enumerate() {
            for dependency in pool.relation(*package, Relation::Provides) {
                let bound = pool.bound_of(*dependency);
                let below = bound.sense == Sense::LESS;
                let at_most = bound.sense.0 == Sense::LESS.0 | Sense::EQUAL.0;
                let exact = bound.sense == Sense::EQUAL && !is_hash(pool.text(bound.evr));
                if below || at_most || exact {
                    provisions.entry(bound.name).or_default().push((place, below, bound.evr));
                }
            }
        }
        let mut badness = vec![0usize; packages.len()];
        for mut list in provisions.into_values() {
            // The newest first; what is only below a version goes behind what is that version.
            let order = |one: &(usize, bool, Name), two: &(usize, bool, Name)| {
                if (one.1, one.2) == (two.1, two.2) {
                    return Grade::Equal;
                }
                match compare_open(pool.text(two.2), pool.text(one.2)) {
                    Match::Ordered(Ordering::Less) => Grade::Newer,
                    Match::Ordered(Ordering::Greater) => Grade::Older,
                    Match::LeftOpen => Grade::OpenNewer,
                    Match::RightOpen => Grade::OpenOlder,
                    Match::Ordered(Ordering::Equal) => match (one.1, two.1) {
                        (true, false) => Grade::Older,
                        (false, true) => Grade::Newer,
                        _ => Grade::Equal,
                    },
                }
            };
            list.sort_by(|one, two| order(one, two).ordering());
            let mut bad = 0;
            for at in 0..list.len() {
                if at > 0 && list[at].0 != list[at - 1].0 && order(&list[at - 1], &list[at]) == Grade::Newer {
                    bad += 1;
                }
                badness[list[at].0] += bad;
            }
        }
        let mut order: Vec<usize> = (0..packages.len()).collect();
        order.sort_by_key(|place| badness[*place]);
        let sorted: Vec<PackageId> = order.into_iter().map(|place| packages[place]).collect();
        packages.copy_from_slice(&sorted);
    }

    /// Looks at the packages that were installed since the last time.
    pub fn update_preferences(&mut self) {
        while self.preferences.seen < self.queue.len() {
            let literal = self.queue[self.preferences.seen];
            self.preferences.seen += 1;
            if !literal.is_yes() {
                continue;
            }
            for relation in [Relation::Recommends, Relation::Suggests] {
                for dependency in self.pool.relation(literal.package(), relation) {
                    let preferences = &mut self.preferences;
                    let (flags, rich) = match relation {
                        Relation::Recommends => (&mut preferences.recommended, &mut preferences.rich_recommended),
                        _ => (&mut preferences.suggested, &mut preferences.rich_suggested),
                    };
                    match self.pool.rich(*dependency) {
                        Some(expression) if is_complex(&expression) => rich.push(*dependency),
                        _ => self.providers.of(*dependency).iter().for_each(|package| flags[*package] = true),
                    }
                }
            }
        }
    }

    /// Recommended by what is installed, or supplementing it.
    pub fn is_recommended(&self, package: PackageId) -> bool {
        self.preferences.recommended[package]
            || self.is_meant(&self.preferences.rich_recommended, package)
            || self.is_supplementing(package, Relation::Supplements)
    }

    fn is_suggested(&self, package: PackageId) -> bool {
        self.preferences.suggested[package]
            || self.is_meant(&self.preferences.rich_suggested, package)
            || self.is_supplementing(package, Relation::Enhances)
    }

    /// Whether a rich dependency asks for the package now: all that its block excludes is installed.
    fn is_meant(&self, dependencies: &[Dependency], package: PackageId) -> bool {
        let own = Literal::yes(package);
        dependencies.iter().filter_map(|dependency| self.pool.rich(*dependency)).any(|rich| {
            match normalize(&rich, self.providers, Form::Conjunctive) {
                Blocks::Some(blocks) => blocks.iter().any(|block| {
                    block.contains(&own)
                        && block.iter().all(|literal| literal.is_yes() || self.is_installed(literal.package()))
                }),
                _ => false,
            }
        })
    }

    pub fn is_supplementing(&self, package: PackageId, relation: Relation) -> bool {
        self.pool.relation(package, relation).iter().any(|dependency| self.is_fulfilled(*dependency))
    }

    fn is_fulfilled(&self, dependency: Dependency) -> bool {
        match self.pool.rich(dependency) {
            Some(rich) => self.is_rich_fulfilled(&rich),
            None => self.providers.of(dependency).iter().any(|package| self.is_installed(*package)),
        }
    }

    fn is_rich_fulfilled(&self, rich: &Rich) -> bool {
        let holds = |part: &Rich| self.is_rich_fulfilled(part);
        match rich {
            Rich::And(a, b) => holds(a) && holds(b),
            Rich::Or(a, b) => holds(a) || holds(b),
            Rich::If(a, b, None) => holds(a) || !holds(b),
            Rich::If(a, b, Some(c)) => {
                if holds(b) {
                    holds(a)
                } else {
                    holds(c)
                }
            }
            Rich::Unless(a, b, None) => holds(a) && !holds(b),
            Rich::Unless(a, b, Some(c)) => {
                if holds(b) {
                    holds(c)
                } else {
                    holds(a)
                }
            }
            _ => self.providers.of_rich(rich).into_iter().any(|package| self.is_installed(package)),
        }
    }
}

/// How one provision stands to the next: libsolv tells apart where a release is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Newer,
    OpenNewer,
    Equal,
    OpenOlder,
    Older,
}

impl Grade {
    fn ordering(self) -> Ordering {
        match self {
            Grade::Newer | Grade::OpenNewer => Ordering::Less,
            Grade::Equal => Ordering::Equal,
            Grade::OpenOlder | Grade::Older => Ordering::Greater,
        }
    }
}

/// Digests as versions say nothing of age.
fn is_hash(text: &str) -> bool {
    text.len() >= 4 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn reachable(edges: &[Vec<usize>], from: usize) -> Vec<bool> {
    let mut found = vec![false; edges.len()];
    let mut stack = edges[from].clone();
    while let Some(next) = stack.pop() {
        if !std::mem::replace(&mut found[next], true) {
            stack.extend(&edges[next]);
        }
    }
    found
}
