//! Which packages fulfil a request, as dnf would choose them.
//!
//! The packages' dependencies become rules over "is installed" and "is not" ([`rules`]); a search with learning fulfils them
//! ([`search`]); where several packages would do, [`policy`] says which is preferred, and [`weak`] adds what is recommended. The order
//! of rules and choices is that of libsolv 0.7, so that the choices are equal to its own, which `shared` data check. What comes
//! out is judged once more by [`verify`], which shares no code with the search.
//!
//! Sources: libsolv's documentation (`libsolv-bindings`, "policies"), Eén & Sörensson, "An Extensible SAT-solver" (2003).

mod architecture;
mod clauses;
mod explain;
mod policy;
mod propagate;
mod request;
mod rules;
mod search;
mod verify;
mod weak;

pub use explain::Unsolvable;
pub use request::{Group, Missing, RequestError, Wish, find, select};
pub use verify::{Fault, verify};

use super::pool::{PackageId, Pool};
use std::collections::BTreeSet;

/// What is wished for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub wishes: Vec<Wish>,
    /// Leave out what is only recommended.
    pub no_weak: bool,
    /// Chosen before any other that would do, whatever is newer.
    pub favoured: BTreeSet<PackageId>,
}

/// Why a package is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It was asked for.
    User,
    /// It belongs to a group that was asked for.
    Group,
    Dependency,
    /// It is recommended, or supplements what is installed.
    Weak,
}

impl Reason {
    /// dnf's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::User => "user",
            Reason::Group => "group",
            Reason::Dependency => "dependency",
            Reason::Weak => "weak",
        }
    }
}

/// Packages to install, in the pool's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    pub install: Vec<(PackageId, Reason)>,
}

/// Why there is no solution.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SolveError {
    #[error("{0}")]
    Unsolvable(Unsolvable),
    #[error("the dependencies are too entangled: no solution was found within {0} conflicts")]
    TooHard(usize),
}

/// Chooses packages that fulfil all wishes in an empty root.
///
/// Panics when the answer does not pass [`verify`]: that would be a fault of the search.
pub fn solve(pool: &Pool, request: &Request) -> Result<Solution, SolveError> {
    let solution = search::run(pool, request)?;
    let chosen: Vec<PackageId> = solution.install.iter().map(|(package, _)| *package).collect();
    let faults = verify(pool, request, &chosen);
    assert!(faults.is_empty(), "the solver chose what does not hold: {}", faults[0]);
    Ok(solution)
}

#[cfg(test)]
mod tests;
