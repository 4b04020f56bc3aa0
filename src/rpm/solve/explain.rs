//! Why there is no solution, in sentences.

use super::Wish;
use super::rules::Origin;
use super::search::{Cause, Search};
use crate::rpm::pool::{Dependency, PackageId, Pool};
use std::collections::BTreeSet;
use std::fmt;

/// Sentences of one explanation; the rest is counted.
const MAXIMUM_SENTENCES: usize = 24;
/// Near names that are told.
const MAXIMUM_HINTS: usize = 5;

/// What contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsolvable {
    /// What was wished for, as written, and could not be had together.
    pub wishes: Vec<String>,
    /// From the wish down to what is missing or in conflict.
    pub reasons: Vec<String>,
    wish_numbers: Vec<usize>,
}

impl Unsolvable {
    /// Fills in what the wishes are called.
    pub(super) fn with_wishes(mut self, wishes: &[Wish]) -> Unsolvable {
        self.wishes = self.wish_numbers.iter().map(|number| wishes[*number].text().to_owned()).collect();
        self.wishes.dedup();
        self
    }
}

impl fmt::Display for Unsolvable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wishes[..] {
            [] => write!(formatter, "the request cannot be fulfilled")?,
            [one] => write!(formatter, "{one} cannot be installed")?,
            many => write!(formatter, "{} cannot be installed together", many.join(" and "))?,
        }
        for reason in self.reasons.iter().take(MAXIMUM_SENTENCES) {
            write!(formatter, "\n  - {reason}")?;
        }
        match self.reasons.len().saturating_sub(MAXIMUM_SENTENCES) {
            0 => Ok(()),
            more => write!(formatter, "\n  - and {more} more reasons of this kind"),
        }
    }
}

/// The rules of packages and wishes that a conflict with what is certain comes from; learnt ones are traced back.
pub(super) fn involved(search: &Search<'_>, conflict: usize) -> Vec<usize> {
    let mut found = BTreeSet::new();
    collect(search, conflict, &mut found);
    let mut wanted = vec![false; search.decided.len()];
    let want = |wanted: &mut Vec<bool>, rule: usize| {
        search.rules[rule].literals.iter().for_each(|literal| wanted[literal.package()] = true);
    };
    want(&mut wanted, conflict);
    for (literal, cause) in search.queue.iter().zip(&search.causes).rev() {
        if let Cause::Rule(rule) = cause
            && wanted[literal.package()]
        {
            collect(search, *rule, &mut found);
            want(&mut wanted, *rule);
        }
    }
    found.into_iter().collect()
}

fn collect(search: &Search<'_>, rule: usize, found: &mut BTreeSet<usize>) {
    let mut stack = vec![rule];
    let mut seen = BTreeSet::new();
    while let Some(rule) = stack.pop() {
        match search.rules[rule].origin {
            Origin::Learnt(number) if seen.insert(number) => stack.extend(&search.learnt_reasons[number]),
            Origin::Learnt(_) => {}
            _ => {
                found.insert(rule);
            }
        }
    }
}

pub(super) fn explain(search: &Search<'_>, rules: &[usize]) -> Unsolvable {
    let pool = search.pool;
    let origins: Vec<Origin> = rules.iter().map(|rule| search.rules[*rule].origin).collect();
    let wish_numbers: Vec<usize> = origins
        .iter()
        .filter_map(|origin| if let Origin::Wish(number) = origin { Some(*number) } else { None })
        .collect();
    let mut told: Vec<(u8, String)> = origins.iter().filter_map(|origin| sentence(pool, *origin)).collect();
    told.sort();
    told.dedup();
    Unsolvable { wishes: Vec::new(), reasons: told.into_iter().map(|(_, text)| text).collect(), wish_numbers }
}

/// Its rank, chains before their ends, and the sentence.
fn sentence(pool: &Pool, origin: Origin) -> Option<(u8, String)> {
    let nevra = |package: PackageId| pool.nevra(package);
    Some(match origin {
        Origin::Requires(package, dependency) => (
            0,
            format!("{} requires {}, but no provider of it can be installed", nevra(package), pool.show(dependency)),
        ),
        Origin::Nothing(package, dependency) => (
            2,
            format!(
                "nothing provides {}, needed by {}{}",
                pool.show(dependency),
                nevra(package),
                hint(pool, dependency)
            ),
        ),
        Origin::Conflicts(package, dependency) => {
            (1, format!("{} conflicts with {}", nevra(package), pool.show(dependency)))
        }
        Origin::Obsoletes(package, dependency) => {
            (1, format!("{} obsoletes {}", nevra(package), pool.show(dependency)))
        }
        Origin::SameName(one, two) => {
            (1, format!("{} and {} cannot be installed side by side", nevra(one), nevra(two)))
        }
        Origin::NotInstallable(package) if pool.is_excluded(package) => (
            1,
            format!(
                "{} is filtered out: it belongs to a module stream that is not chosen, or is masked by one that is",
                nevra(package)
            ),
        ),
        Origin::NotInstallable(package) => (1, format!("{} is of another architecture", nevra(package))),
        Origin::InferiorArchitecture(package) => (1, format!("{} is of an inferior architecture", nevra(package))),
        Origin::Wish(_) | Origin::Learnt(_) => return None,
    })
}

fn hint(pool: &Pool, dependency: Dependency) -> String {
    let bound = pool.bound_of(dependency);
    let others: Vec<String> =
        pool.named(bound.name).into_iter().take(MAXIMUM_HINTS).map(|package| pool.nevra(package)).collect();
    if !others.is_empty() {
        return format!(" (there is {})", others.join(", "));
    }
    match nearest(pool, pool.text(bound.name)) {
        near if near.is_empty() => String::new(),
        near => format!(" (near names: {})", near.join(", ")),
    }
}

/// Names of packages that a person may have meant, nearest first.
pub(super) fn nearest(pool: &Pool, name: &str) -> Vec<String> {
    if name.len() > 64 || name.starts_with('(') {
        return Vec::new();
    }
    let limit = (name.len() / 3).clamp(1, 3);
    let known: BTreeSet<&str> = (0..pool.packages().len()).map(|package| pool.name_of(package)).collect();
    let lower = name.to_lowercase();
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|known| {
            if name.len() >= 4 && known.to_lowercase().contains(&lower) {
                return Some((limit + known.len() - name.len(), known));
            }
            let is_close = known.len().abs_diff(name.len()) <= limit;
            let distance = if is_close { strsim::osa_distance(name, known) } else { usize::MAX };
            (distance <= limit).then_some((distance, known))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(MAXIMUM_HINTS).map(|(_, known)| known.to_owned()).collect()
}
