//! Which packages are installed: those asked for, and what they need, as pacman chooses into an empty root.
//!
//! Compat: as libalpm's `resolvedep`: a package of that name from the first repository that has it, else the first that provides it, in
//! the order of repositories and names; one that is chosen or asked for already comes before all others.

use super::database::Package;
use super::relation::Relation;
use std::collections::{BTreeMap, BTreeSet};

/// A repository, the preferred first.
#[derive(Clone, Debug)]
pub struct Repository {
    pub name: String,
    /// By name.
    pub packages: Vec<Package>,
}

/// Places of a repository, and of a package in it.
pub type Id = (usize, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub id: Id,
    /// Not only needed by others.
    pub asked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("there is no package, provision or group {0:?} in the repositories")]
    Unknown(String),
    #[error("nothing provides {relation}, needed by {package}")]
    Missing { relation: String, package: String },
    #[error("{0} and {1} cannot be installed together: {0} conflicts with {2}")]
    Conflict(String, String, String),
}

/// What to install for `wanted` (names, relations, provisions, groups, each with `REPOSITORY/` before it or not); nothing named in `ignored`.
pub fn select(
    repositories: &[Repository],
    wanted: &[String],
    ignored: &BTreeSet<String>,
) -> Result<Vec<Choice>, SelectError> {
    let universe = Universe::new(repositories, ignored);
    let mut asked = Vec::new();
    for word in wanted {
        asked.extend(universe.targets(word).ok_or_else(|| SelectError::Unknown(word.clone()))?);
    }
    let asked_for: BTreeSet<Id> = asked.iter().copied().collect();
    let mut chosen = Chosen { universe: &universe, asked: &asked_for, order: Vec::new(), names: BTreeMap::new() };
    asked.into_iter().try_for_each(|id| chosen.add(id))?;
    let dropped = chosen.conflicts()?;
    let kept = chosen.order.iter().filter(|id| !dropped.contains(id));
    Ok(kept.map(|id| Choice { id: *id, asked: asked_for.contains(id) }).collect())
}

struct Universe<'a> {
    repositories: &'a [Repository],
    /// Packages of a name, in the order of repositories, then those that provide it.
    named: BTreeMap<&'a str, Vec<Id>>,
    groups: BTreeMap<&'a str, Vec<Id>>,
}

impl<'a> Universe<'a> {
    fn new(repositories: &'a [Repository], ignored: &BTreeSet<String>) -> Universe<'a> {
        let mut universe = Universe { repositories, named: BTreeMap::new(), groups: BTreeMap::new() };
        let all = repositories
            .iter()
            .enumerate()
            .flat_map(|(at, one)| (0..one.packages.len()).map(move |package| (at, package)));
        let all: Vec<Id> =
            all.filter(|(at, package)| !ignored.contains(&repositories[*at].packages[*package].name)).collect();
        let get = |(at, package): Id| &repositories[at].packages[package];
        for id in &all {
            universe.named.entry(&get(*id).name).or_default().push(*id);
        }
        for id in &all {
            let package = get(*id);
            let others = package.provides.iter().filter(|provided| provided.name != package.name);
            others.for_each(|provided| universe.named.entry(&provided.name).or_default().push(*id));
            package.groups.iter().for_each(|group| universe.groups.entry(group).or_default().push(*id));
        }
        universe
    }

    fn get(&self, (repository, package): Id) -> &'a Package {
        &self.repositories[repository].packages[package]
    }

    /// The packages that satisfy a relation, the preferred first.
    fn candidates(&self, relation: &'a Relation) -> impl Iterator<Item = Id> {
        let named = self.named.get(relation.name.as_str()).into_iter().flatten().copied();
        named.filter(move |id| self.satisfies(*id, relation))
    }

    fn satisfies(&self, id: Id, relation: &Relation) -> bool {
        let package = self.get(id);
        (package.name == relation.name && relation.holds_for(&package.version))
            || package.provides.iter().any(|provided| relation.holds_for_provided(provided))
    }

    fn targets(&self, word: &str) -> Option<Vec<Id>> {
        let (repository, name) =
            word.split_once('/').map_or((None, word), |(repository, name)| (Some(repository), name));
        let is_there = |id: &Id| repository.is_none_or(|wanted| self.repositories[id.0].name == wanted);
        let relation = Relation::parse(name)?;
        let named = self.named.get(relation.name.as_str()).into_iter().flatten().copied();
        if let Some(id) = named.filter(|id| self.satisfies(*id, &relation)).find(is_there) {
            return Some(vec![id]);
        }
        let mut names = BTreeSet::new();
        let group = self.groups.get(name)?.iter().copied().filter(is_there);
        let members: Vec<Id> = group.filter(|id| names.insert(&self.get(*id).name)).collect();
        (!members.is_empty()).then_some(members)
    }
}

struct Chosen<'u, 'a> {
    universe: &'u Universe<'a>,
    asked: &'u BTreeSet<Id>,
    order: Vec<Id>,
    names: BTreeMap<&'a str, Id>,
}

impl<'a> Chosen<'_, 'a> {
    /// Adds a package and, depth first, all that it needs.
    fn add(&mut self, id: Id) -> Result<(), SelectError> {
        let mut pending: Vec<(&'a Package, usize)> = self.enter(id).into_iter().collect();
        while let Some((package, next)) = pending.pop() {
            let Some(relation) = package.depends.get(next) else { continue };
            pending.push((package, next + 1));
            let candidates: Vec<Id> = self.universe.candidates(relation).collect();
            if candidates.iter().any(|id| self.is_chosen(*id)) {
                continue;
            }
            let free = |id: &&Id| !self.names.contains_key(self.universe.get(**id).name.as_str());
            let preferred = candidates.iter().find(|id| self.asked.contains(id) && free(id));
            let id = preferred
                .or_else(|| candidates.iter().find(free))
                .ok_or_else(|| SelectError::Missing { relation: relation.to_string(), package: named(package) })?;
            pending.extend(self.enter(*id));
        }
        Ok(())
    }

    fn is_chosen(&self, id: Id) -> bool {
        self.names.get(self.universe.get(id).name.as_str()) == Some(&id)
    }

    /// The package with the number of its next dependency; none when one of its name is there.
    fn enter(&mut self, id: Id) -> Option<(&'a Package, usize)> {
        let package = self.universe.get(id);
        if self.names.contains_key(package.name.as_str()) {
            return None;
        }
        self.names.insert(&package.name, id);
        self.order.push(id);
        Some((package, 0))
    }

    /// Compat: where one of two packages in conflict provides the other, the other stays away.
    fn conflicts(&self) -> Result<BTreeSet<Id>, SelectError> {
        let mut dropped = BTreeSet::new();
        for id in &self.order {
            let package = self.universe.get(*id);
            for relation in &package.conflicts {
                let others: Vec<Id> =
                    self.universe.candidates(relation).filter(|other| self.is_chosen(*other)).collect();
                for other in others.into_iter().filter(|other| other != id) {
                    if dropped.contains(id) || dropped.contains(&other) {
                        continue;
                    }
                    let stands_for = |one: Id, name: &str| {
                        Relation::parse(name).is_some_and(|relation| self.universe.satisfies(one, &relation))
                    };
                    let second = self.universe.get(other);
                    if stands_for(*id, &second.name) {
                        dropped.insert(other);
                    } else if stands_for(other, &package.name) {
                        dropped.insert(*id);
                    } else {
                        return Err(SelectError::Conflict(named(package), named(second), relation.to_string()));
                    }
                }
            }
        }
        Ok(dropped)
    }
}

fn named(package: &Package) -> String {
    format!("{}-{}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pacman::database::parse;
    use crate::pacman::database::tests::description;

    /// `NAME FIELD:VALUE,VALUE …` of each package.
    fn repository(name: &str, packages: &[&str]) -> Repository {
        let read = |line: &&str| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let fields = words.map(|word| word.split_once(':').unwrap());
            let more: String =
                fields.map(|(field, list)| format!("%{field}%\n{}\n\n", list.replace(',', "\n"))).collect();
            parse(&description(name, &more), name).unwrap()
        };
        Repository { name: name.to_owned(), packages: packages.iter().map(read).collect() }
    }

    /// Names, those asked for with a star.
    fn chosen(repositories: &[Repository], wanted: &[&str]) -> Result<Vec<String>, String> {
        let wanted: Vec<String> = wanted.iter().map(|word| (*word).to_owned()).collect();
        let choices = select(repositories, &wanted, &BTreeSet::from(["ignored".to_owned()]));
        let name = |choice: Choice| {
            let (repository, package) = (&repositories[choice.id.0], choice.id.1);
            let star = if choice.asked { "*" } else { "" };
            format!("{}/{}{star}", repository.name, repository.packages[package].name)
        };
        choices.map(|all| all.into_iter().map(name).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_come_before_provisions_and_earlier_repositories_before_later_ones() {
        let core = repository("core", &["a DEPENDS:b,sh", "p1 PROVIDES:b,sh", "p2 PROVIDES:sh"]);
        let extra = repository("extra", &["a", "b", "ignored PROVIDES:sh"]);
        let both = [core, extra];
        assert_eq!(chosen(&both, &["a"]).unwrap(), ["core/a*", "extra/b", "core/p1"]);
        assert_eq!(chosen(&both, &["extra/a"]).unwrap(), ["extra/a*"]);
        assert_eq!(
            chosen(&both, &["a", "p2"]).unwrap(),
            ["core/a*", "extra/b", "core/p2*"],
            "what is asked for is preferred"
        );
        assert_eq!(chosen(&both, &["p2", "a"]).unwrap(), ["core/p2*", "core/a*", "extra/b"]);
        assert!(chosen(&both, &["ignored"]).is_err());
    }

    #[test]
    fn versions_of_provisions_count_and_circles_end() {
        let one = repository(
            "core",
            &["a DEPENDS:v>=2,c", "c DEPENDS:a", "old PROVIDES:v=1", "plain PROVIDES:v", "young PROVIDES:v=2"],
        );
        assert_eq!(chosen(&[one], &["a"]).unwrap(), ["core/a*", "core/young", "core/c"]);
    }

    #[test]
    fn groups_are_their_members() {
        let both = [repository("core", &["a GROUPS:g", "b"]), repository("extra", &["a GROUPS:g", "c GROUPS:g"])];
        assert_eq!(chosen(&both, &["g"]).unwrap(), ["core/a*", "extra/c*"]);
    }

    #[test]
    fn what_is_missing_or_in_conflict_is_named() {
        let one = repository("core", &["a DEPENDS:no>=3", "b CONFLICTS:c", "c", "d CONFLICTS:c PROVIDES:c"]);
        let one = [one];
        assert_eq!(chosen(&one, &["a"]).unwrap_err(), "nothing provides no>=3, needed by a-1-1");
        assert!(chosen(&one, &["x"]).unwrap_err().contains("\"x\""));
        assert!(chosen(&one, &["b", "c"]).unwrap_err().starts_with("b-1-1 and c-1-1 cannot be installed together"));
        assert_eq!(chosen(&one, &["c", "d"]).unwrap(), ["core/d*"]);
    }
}
