//! Which packages a base system consists of.
//!
//! Source: `debootstrap` with `--variant`, `--exclude`, `--include`, as Apptainer calls it (facts §2.8), with alternatives, versions,
//! virtual packages and conflicts, which `debootstrap` leaves to luck.

use super::index::Package;
use super::pin::{PackagePin, Variant};
use super::relation::{self, Relation, RelationError};
use super::version::compare;
use crate::solve::{self, Candidate, Conflict, Requirement, Universe, Unsatisfiable};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Packages that Apptainer keeps out although their priority asks for them; a dependency still brings them in.
pub const EXCLUDED: [&str; 4] = ["openssl", "udev", "debconf-i18n", "e2fsprogs"];

/// Packages that pre-depend on each other in a row.
const MAXIMUM_CHAIN: usize = 500;

/// Candidates for one relation, the best first; Debian's largest virtual package has some two thousand.
const MAXIMUM_CANDIDATES: usize = 10_000;

/// Near names offered for one that is unknown.
const MAXIMUM_HINTS: usize = 3;

/// What is wanted of an archive.
#[derive(Clone, Debug)]
pub struct Choice<'a> {
    pub variant: Variant,
    /// Debian name.
    pub architecture: &'a str,
    pub codename: &'a str,
    /// `Include`, one name each.
    pub include: &'a [String],
    /// Names, versions and architectures of packages that are preferred to newer ones.
    pub kept: &'a BTreeSet<(String, String, String)>,
    /// Whether the mirror is spoken to with TLS; then the image needs certificates for its own apt.
    pub https: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("there is no package {name:?} in {codename} for {architecture}{}", hint(.nearest))]
    UnknownPackage { name: String, codename: String, architecture: String, nearest: Vec<String> },
    #[error("package {package}: {cause}")]
    Relation { package: String, cause: RelationError },
    #[error(transparent)]
    Unsatisfiable(#[from] Unsatisfiable),
    #[error("the index holds no package of priority required; is this the right component?")]
    NothingRequired,
}

fn hint(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

/// Solves for the whole base and puts its packages into the order in which they are unpacked.
pub fn select(packages: &[Package<'_>], choice: &Choice<'_>) -> Result<Vec<PackagePin>, SelectError> {
    let archive = Archive::new(packages, choice)?;
    let (core, more) = wanted_names(&archive, choice)?;
    let wants: Vec<Requirement> =
        core.iter().chain(&more).map(|name| archive.requirement(&[Relation::named(name)])).collect();
    let solution = solve::solve(&archive, &wants)?;
    let selected: BTreeSet<Candidate> = solution.selected.iter().map(|(candidate, _)| *candidate).collect();
    let core_candidates = core.iter().flat_map(|name| {
        let wanted = archive.candidates(&Relation::named(name));
        wanted.into_iter().find(|candidate| selected.contains(candidate))
    });
    let core = archive.closure(core_candidates, &selected);
    let batches = archive.batches(&core, &selected);
    let mut pins: Vec<PackagePin> = Vec::with_capacity(selected.len());
    for (number, batch) in batches.iter().enumerate() {
        let mut batch: Vec<&Package<'_>> = batch.iter().map(|candidate| &packages[*candidate]).collect();
        batch.sort_by_key(|package| package.name);
        pins.extend(batch.into_iter().map(|package| PackagePin {
            name: package.name.to_owned(),
            version: package.version.to_owned(),
            architecture: package.architecture.to_owned(),
            filename: package.filename.to_owned(),
            size: package.size,
            installed_size: package.installed_size,
            digest: package.digest.clone(),
            batch: number as u32,
        }));
    }
    Ok(pins)
}

/// Names of the core, and of what is added to it.
fn wanted_names(archive: &Archive<'_>, choice: &Choice<'_>) -> Result<(Vec<String>, Vec<String>), SelectError> {
    let of_priority = |priority: &str| {
        let names: BTreeSet<String> = archive
            .packages
            .iter()
            .filter(|package| package.priority == priority && archive.is_native(package))
            .map(|package| package.name.to_owned())
            .collect();
        names.into_iter().filter(|name| !EXCLUDED.contains(&name.as_str())).collect::<Vec<_>>()
    };
    let mut core = of_priority("required");
    if core.is_empty() {
        return Err(SelectError::NothingRequired);
    }
    // Compat: as debootstrap does; the base is made merged, so that the package that converts a system is not needed.
    if choice.codename == "bookworm" && archive.by_name.contains_key("usr-is-merged") {
        core.push("usr-is-merged".into());
    }
    let mut more = match choice.variant {
        Variant::Minbase => Vec::new(),
        Variant::Buildd => vec!["build-essential".to_owned()],
        Variant::Standard => of_priority("important"),
    };
    more.push("apt".to_owned());
    if choice.https {
        more.push("ca-certificates".to_owned());
        // Compat: apt before 1.5 spoke TLS only with the help of another package.
        let apt = archive.by_name.get("apt").and_then(|found| found.first()).map(|at| archive.packages[*at].version);
        if apt.is_some_and(|version| compare(version, "1.5~").is_lt()) {
            more.push("apt-transport-https".to_owned());
        }
    }
    for name in choice.include {
        if archive.candidates(&Relation::named(name)).is_empty() {
            return Err(SelectError::UnknownPackage {
                name: name.clone(),
                codename: choice.codename.to_owned(),
                architecture: choice.architecture.to_owned(),
                nearest: archive.nearest(name),
            });
        }
        // Compat: debootstrap takes what is excluded out of the included ones too.
        if !EXCLUDED.contains(&name.as_str()) {
            more.push(name.clone());
        }
    }
    Ok((core, more))
}

struct Archive<'a> {
    packages: &'a [Package<'a>],
    architecture: &'a str,
    /// Those that are kept, then the highest version first.
    by_name: HashMap<&'a str, Vec<Candidate>>,
    /// Virtual names: who provides them, in which version.
    providers: HashMap<String, Vec<(Candidate, Option<String>)>>,
}

/// Each once, in the order of their first appearance.
fn distinct(candidates: impl Iterator<Item = Candidate>) -> Vec<Candidate> {
    let mut seen = HashSet::new();
    candidates.filter(|candidate| seen.insert(*candidate)).take(MAXIMUM_CANDIDATES).collect()
}

impl<'a> Archive<'a> {
    fn new(packages: &'a [Package<'a>], choice: &Choice<'a>) -> Result<Archive<'a>, SelectError> {
        let architecture = choice.architecture;
        let mut archive = Archive { packages, architecture, by_name: HashMap::new(), providers: HashMap::new() };
        for (at, package) in packages.iter().enumerate() {
            // Compat: `usrmerge` would convert a system that is made merged; debootstrap strikes it out likewise.
            if !archive.is_native(package) || package.name == "usrmerge" {
                continue;
            }
            archive.by_name.entry(package.name).or_default().push(at);
            if package.provides.is_empty() {
                continue;
            }
            for provided in archive.parse(package, package.provides)?.into_iter().flatten() {
                let version = provided.constraint.map(|(_, version)| version.as_str().to_owned());
                archive.providers.entry(provided.name).or_default().push((at, version));
            }
        }
        for found in archive.by_name.values_mut() {
            let is_newer = |at: &usize| {
                let Package { name, version, architecture, .. } = packages[*at];
                !choice.kept.contains(&(name.to_owned(), version.to_owned(), architecture.to_owned()))
            };
            found.sort_by(|left, right| {
                let newest = compare(packages[*right].version, packages[*left].version);
                is_newer(left).cmp(&is_newer(right)).then(newest)
            });
        }
        for found in archive.providers.values_mut() {
            found.sort_by_key(|(at, _)| (rank(packages[*at].priority), packages[*at].name, *at));
        }
        Ok(archive)
    }

    fn is_native(&self, package: &Package<'_>) -> bool {
        package.architecture == self.architecture || package.architecture == "all"
    }

    fn parse(&self, package: &Package<'_>, field: &str) -> Result<Vec<relation::Alternatives>, SelectError> {
        relation::parse(field).map_err(|cause| SelectError::Relation { package: package.name.to_owned(), cause })
    }

    /// Real packages of the name, highest version first, then those that provide it.
    fn candidates(&self, relation: &Relation) -> Vec<Candidate> {
        let foreign = relation
            .qualifier
            .as_deref()
            .is_some_and(|wanted| wanted != "any" && wanted != "native" && wanted != self.architecture);
        if foreign || !relation.applies(self.architecture, &[]) {
            return Vec::new();
        }
        let real = self.by_name.get(relation.name.as_str()).into_iter().flatten().copied();
        let real = real.filter(|at| relation.accepts(self.packages[*at].version));
        let provided = self.providers.get(&relation.name).into_iter().flatten();
        let provided = provided.filter(|(_, version)| relation.accepts_provided(version.as_deref())).map(|(at, _)| *at);
        distinct(real.chain(provided))
    }

    fn requirement(&self, alternatives: &[Relation]) -> Requirement {
        let candidates = distinct(alternatives.iter().flat_map(|alternative| self.candidates(alternative)));
        let text = alternatives.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
        let hint = if candidates.is_empty() { self.why_none(&alternatives[0]) } else { String::new() };
        Requirement { text, candidates, hint }
    }

    fn why_none(&self, relation: &Relation) -> String {
        match self.by_name.get(relation.name.as_str()) {
            Some(found) => {
                let versions: Vec<&str> = found.iter().map(|at| self.packages[*at].version).collect();
                format!("the archive has {} {}", relation.name, versions.join(", "))
            }
            None => format!("the archive has no {}{}", relation.name, hint(&self.nearest(&relation.name))),
        }
    }

    /// Requirements of the given fields; a malformed field counts as one that nothing satisfies.
    fn required(&self, candidate: Candidate, fields: &[&str]) -> Vec<Requirement> {
        let mut all = Vec::new();
        for field in fields {
            match relation::parse(field) {
                Ok(parsed) => {
                    // Restrictions to other architectures take an alternative, or the whole part, away.
                    let applicable = parsed.into_iter().filter_map(|alternatives| {
                        let here: Vec<Relation> =
                            alternatives.into_iter().filter(|one| one.applies(self.architecture, &[])).collect();
                        (!here.is_empty()).then_some(here)
                    });
                    all.extend(applicable.map(|alternatives| self.requirement(&alternatives)));
                }
                Err(error) => all.push(Requirement {
                    text: format!("a relation of {}", self.packages[candidate].name),
                    candidates: Vec::new(),
                    hint: error.to_string(),
                }),
            }
        }
        all
    }

    /// All that the given candidates need, among the selected ones.
    fn closure(
        &self,
        from: impl IntoIterator<Item = Candidate>,
        selected: &BTreeSet<Candidate>,
    ) -> BTreeSet<Candidate> {
        let mut found = BTreeSet::new();
        let mut pending: Vec<Candidate> = from.into_iter().collect();
        while let Some(candidate) = pending.pop() {
            if found.insert(candidate) {
                pending.extend(self.satisfiers(&self.requirements(candidate), selected));
            }
        }
        found
    }

    fn satisfiers(&self, requirements: &[Requirement], selected: &BTreeSet<Candidate>) -> Vec<Candidate> {
        let first = |requirement: &Requirement| requirement.candidates.iter().copied().find(|at| selected.contains(at));
        requirements.iter().filter_map(first).collect()
    }

    /// The core first; then, before each package, what it pre-depends on, configured with all that it needs.
    fn batches(&self, core: &BTreeSet<Candidate>, selected: &BTreeSet<Candidate>) -> Vec<Vec<Candidate>> {
        let mut batches = vec![core.iter().copied().collect::<Vec<_>>()];
        let mut done = core.clone();
        self.install(selected, selected, &mut done, &mut batches, &mut BTreeSet::new());
        batches
    }

    fn install(
        &self,
        group: &BTreeSet<Candidate>,
        selected: &BTreeSet<Candidate>,
        done: &mut BTreeSet<Candidate>,
        batches: &mut Vec<Vec<Candidate>>,
        entered: &mut BTreeSet<Candidate>,
    ) {
        let by_name: BTreeMap<&str, Candidate> = group.iter().map(|at| (self.packages[*at].name, *at)).collect();
        for candidate in by_name.into_values() {
            if done.contains(&candidate) {
                continue;
            }
            let needs = self.required(candidate, &[self.packages[candidate].pre_depends]);
            for before in self.satisfiers(&needs, selected) {
                // A circle of pre-dependencies has no order, and a very long chain is no real one: both are left to dpkg.
                if !done.contains(&before) && entered.len() < MAXIMUM_CHAIN && entered.insert(before) {
                    let group = self.closure([before], selected);
                    self.install(&group, selected, done, batches, entered);
                }
            }
        }
        let rest: Vec<Candidate> = group.difference(done).copied().collect();
        if !rest.is_empty() {
            done.extend(&rest);
            batches.push(rest);
        }
    }

    /// Names that a person may have meant, nearest first.
    fn nearest(&self, name: &str) -> Vec<String> {
        let limit = (name.len() / 3).clamp(1, 3);
        let mut near: Vec<(usize, &str)> = self
            .by_name
            .keys()
            .filter(|known| known.len().abs_diff(name.len()) <= limit)
            .map(|known| (strsim::osa_distance(name, known), *known))
            .filter(|(distance, _)| *distance <= limit)
            .collect();
        near.sort_unstable();
        near.into_iter().take(MAXIMUM_HINTS).map(|(_, known)| known.to_owned()).collect()
    }
}

impl Universe for Archive<'_> {
    fn label(&self, candidate: Candidate) -> String {
        format!("{} {}", self.packages[candidate].name, self.packages[candidate].version)
    }

    fn requirements(&self, candidate: Candidate) -> Vec<Requirement> {
        let package = &self.packages[candidate];
        self.required(candidate, &[package.pre_depends, package.depends])
    }

    fn conflicts(&self, candidate: Candidate) -> Vec<Conflict> {
        let package = &self.packages[candidate];
        let mut all = Vec::new();
        let same = self.by_name.get(package.name).into_iter().flatten().copied();
        let others: Vec<Candidate> = same.filter(|other| *other != candidate).collect();
        if !others.is_empty() {
            all.push(Conflict { text: "another version of it".into(), candidates: others });
        }
        for (name, field) in [("Conflicts", package.conflicts), ("Breaks", package.breaks)] {
            for relation in relation::parse(field).into_iter().flatten().flatten() {
                let mut candidates = self.candidates(&relation);
                candidates.retain(|other| *other != candidate);
                if !candidates.is_empty() {
                    all.push(Conflict { text: format!("{name}: {relation}"), candidates });
                }
            }
        }
        all
    }
}

fn rank(priority: &str) -> u8 {
    match priority {
        "required" => 0,
        "important" => 1,
        "standard" => 2,
        "extra" => 4,
        _ => 3,
    }
}

#[cfg(test)]
mod tests;
