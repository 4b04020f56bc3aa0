//! All packages of all repositories, and who provides what.
//!
//! Texts and dependencies are kept once and named by number: a distribution has ten thousand packages that say the same thousand
//! things of each other. Packages have the order of their repositories, and there that of the metadata; choices depend on it.

pub mod architecture;
pub mod providers;

pub use architecture::Architectures;

use super::dependency::{Expression, Sense, parse};
use super::metadata::Checksum;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Packages of one pool; what is more is refused.
pub const MAXIMUM_PACKAGES: usize = 1 << 20;

/// A text of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(u32);

/// A dependency of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dependency(u32);

/// A package of the pool: its place in [`Pool::packages`].
pub type PackageId = usize;

/// A source of packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub name: String,
    /// As dnf counts: lower is preferred; 99 where nothing is said.
    pub priority: i32,
}

#[derive(Clone, Debug)]
pub struct Package {
    pub name: Name,
    /// `[epoch:]version-release`, without an epoch of 0.
    pub evr: Name,
    pub arch: Name,
    pub repository: usize,
    /// File name of the source package, empty when unknown.
    pub source: Name,
    /// Path below the repository's base, or a URL.
    pub location: String,
    /// In place of the repository's base, from the metadata.
    pub location_base: Option<String>,
    pub checksum: Checksum,
    /// Bytes of the package file, and of its files when installed.
    pub size: u64,
    pub installed_size: u64,
    /// Seconds since the epoch.
    pub build_time: i64,
    /// By [`Relation`].
    dependencies: [Box<[Dependency]>; 8],
    /// Those files that the main metadata lists.
    files: Box<[Name]>,
}

/// The fields in which packages speak of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    Provides,
    Requires,
    Conflicts,
    Obsoletes,
    Recommends,
    Suggests,
    Supplements,
    Enhances,
}

impl Relation {
    pub const ALL: [Relation; 8] = [
        Relation::Provides,
        Relation::Requires,
        Relation::Conflicts,
        Relation::Obsoletes,
        Relation::Recommends,
        Relation::Suggests,
        Relation::Supplements,
        Relation::Enhances,
    ];
}

/// A package that is to be added.
#[derive(Clone, Debug)]
pub struct NewPackage {
    pub name: String,
    pub evr: String,
    pub arch: String,
    pub source: String,
    pub location: String,
    pub location_base: Option<String>,
    pub checksum: Checksum,
    pub size: u64,
    pub installed_size: u64,
    pub build_time: i64,
    pub dependencies: Vec<(Relation, Dependency)>,
    pub files: Vec<Name>,
}

/// A name with a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    pub name: Name,
    pub sense: Sense,
    pub evr: Name,
}

/// A rich dependency whose leaves are dependencies of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rich {
    One(Dependency),
    And(Box<Rich>, Box<Rich>),
    Or(Box<Rich>, Box<Rich>),
    If(Box<Rich>, Box<Rich>, Option<Box<Rich>>),
    Unless(Box<Rich>, Box<Rich>, Option<Box<Rich>>),
    With(Box<Rich>, Box<Rich>),
    Without(Box<Rich>, Box<Rich>),
    /// It could not be read: nothing fulfils it.
    Unreadable,
}

#[derive(Debug)]
pub struct Pool {
    architectures: Architectures,
    texts: Vec<Arc<str>>,
    by_text: HashMap<Arc<str>, Name>,
    bounds: Vec<Bound>,
    by_bound: HashMap<Bound, Dependency>,
    rich: HashMap<Dependency, Arc<Rich>>,
    repositories: Vec<Repository>,
    packages: Vec<Package>,
    excluded: Vec<bool>,
    index: providers::Index,
}

impl Package {
    /// Those that are known: of the main metadata, and those that [`Pool::add_file`] added.
    pub fn files(&self) -> &[Name] {
        &self.files
    }
}

impl Pool {
    pub fn new(architectures: Architectures) -> Pool {
        let mut pool = Pool {
            architectures,
            texts: Vec::new(),
            by_text: HashMap::new(),
            bounds: Vec::new(),
            by_bound: HashMap::new(),
            rich: HashMap::new(),
            repositories: Vec::new(),
            packages: Vec::new(),
            excluded: Vec::new(),
            index: providers::Index::default(),
        };
        pool.intern("");
        pool
    }

    /// Packages that are added later belong to it.
    pub fn add_repository(&mut self, repository: Repository) -> usize {
        self.repositories.push(repository);
        self.repositories.len() - 1
    }

    /// Adds a package to the latest repository; `None` when the pool is full.
    pub fn add(&mut self, new: NewPackage) -> Option<PackageId> {
        if self.packages.len() >= MAXIMUM_PACKAGES {
            return None;
        }
        let (name, evr, arch) = (self.intern(&new.name), self.intern(&new.evr), self.intern(&new.arch));
        let mut sorted: [Vec<Dependency>; 8] = Default::default();
        for (relation, dependency) in new.dependencies {
            sorted[relation as usize].push(dependency);
        }
        let own = self.bound(Bound { name, sense: Sense::EQUAL, evr });
        let provides = &mut sorted[Relation::Provides as usize];
        if !provides.contains(&own) {
            provides.push(own);
        }
        let package = Package {
            name,
            evr,
            arch,
            repository: self.repositories.len().saturating_sub(1),
            source: self.intern(&new.source),
            location: new.location,
            location_base: new.location_base,
            checksum: new.checksum,
            size: new.size,
            installed_size: new.installed_size,
            build_time: new.build_time,
            dependencies: sorted.map(Vec::into_boxed_slice),
            files: new.files.into_boxed_slice(),
        };
        self.packages.push(package);
        self.excluded.push(false);
        self.index = providers::Index::default();
        Some(self.packages.len() - 1)
    }

    pub fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.by_text.get(text) {
            return *name;
        }
        let (name, text) = (Name(self.texts.len() as u32), Arc::<str>::from(text));
        self.texts.push(text.clone());
        self.by_text.insert(text, name);
        name
    }

    /// The number of a text that some package uses.
    pub fn find(&self, text: &str) -> Option<Name> {
        self.by_text.get(text).copied()
    }

    pub fn text(&self, name: Name) -> &str {
        &self.texts[name.0 as usize]
    }

    /// A dependency from its parts; a name that begins with a parenthesis is a rich one.
    pub fn dependency(&mut self, name: &str, sense: Sense, evr: &str) -> Dependency {
        let bound = Bound { name: self.intern(name), sense, evr: self.intern(evr) };
        let dependency = self.bound(bound);
        if name.starts_with('(') && !self.rich.contains_key(&dependency) {
            let rich = parse(name).map_or(Rich::Unreadable, |expression| self.rich_of(expression));
            self.rich.insert(dependency, Arc::new(rich));
        }
        dependency
    }

    fn bound(&mut self, bound: Bound) -> Dependency {
        let next = Dependency(self.bounds.len() as u32);
        let dependency = *self.by_bound.entry(bound).or_insert(next);
        if dependency == next {
            self.bounds.push(bound);
        }
        dependency
    }

    /// Invariant: the depth is that of a parsed expression, which is bounded.
    fn rich_of(&mut self, expression: Expression) -> Rich {
        let mut next = |part: Box<Expression>| Box::new(self.rich_of(*part));
        match expression {
            Expression::And(a, b) => Rich::And(next(a), next(b)),
            Expression::Or(a, b) => Rich::Or(next(a), next(b)),
            Expression::With(a, b) => Rich::With(next(a), next(b)),
            Expression::Without(a, b) => Rich::Without(next(a), next(b)),
            Expression::If(a, b, c) => Rich::If(next(a), next(b), c.map(next)),
            Expression::Unless(a, b, c) => Rich::Unless(next(a), next(b), c.map(next)),
            Expression::One { name, sense, evr } => Rich::One(self.dependency(&name, sense, &evr)),
        }
    }

    pub fn bound_of(&self, dependency: Dependency) -> Bound {
        self.bounds[dependency.0 as usize]
    }

    /// What a dependency that begins with a parenthesis means.
    pub fn rich(&self, dependency: Dependency) -> Option<Arc<Rich>> {
        self.rich.get(&dependency).cloned()
    }

    /// As a package's author wrote it.
    pub fn show(&self, dependency: Dependency) -> String {
        let Bound { name, sense, evr } = self.bound_of(dependency);
        match sense {
            Sense::ANY => self.text(name).to_owned(),
            _ => format!("{} {} {}", self.text(name), sense.operator(), self.text(evr)),
        }
    }

    pub fn architectures(&self) -> &Architectures {
        &self.architectures
    }

    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    pub fn repositories(&self) -> &[Repository] {
        &self.repositories
    }

    pub fn repository_of(&self, package: PackageId) -> &Repository {
        &self.repositories[self.packages[package].repository]
    }

    pub fn relation(&self, package: PackageId, relation: Relation) -> &[Dependency] {
        &self.packages[package].dependencies[relation as usize]
    }

    /// `name-[epoch:]version-release.arch`.
    pub fn nevra(&self, package: PackageId) -> String {
        let package = &self.packages[package];
        format!("{}-{}.{}", self.text(package.name), self.text(package.evr), self.text(package.arch))
    }

    pub fn name_of(&self, package: PackageId) -> &str {
        self.text(self.packages[package].name)
    }

    pub fn evr_of(&self, package: PackageId) -> &str {
        self.text(self.packages[package].evr)
    }

    pub fn arch_of(&self, package: PackageId) -> &str {
        self.text(self.packages[package].arch)
    }

    /// Takes a package out of the choice.
    pub fn exclude(&mut self, package: PackageId) {
        self.excluded[package] = true;
    }

    pub fn is_excluded(&self, package: PackageId) -> bool {
        self.excluded[package]
    }

    /// Whether it may be installed at all: not excluded, and of an architecture of the image.
    pub fn is_installable(&self, package: PackageId) -> bool {
        !self.excluded[package] && self.architectures.score(self.arch_of(package)).is_some()
    }

    /// Paths that dependencies ask for and that only the file lists can answer.
    pub fn wanted_files(&self) -> BTreeSet<String> {
        let is_asked = |text: &str| text.starts_with('/') && !is_in_primary(text);
        let mut asked = vec![false; self.bounds.len()];
        for package in &self.packages {
            for (at, list) in package.dependencies.iter().enumerate() {
                if at != Relation::Provides as usize {
                    list.iter().for_each(|dependency| asked[dependency.0 as usize] = true);
                }
            }
        }
        let plain = self.bounds.iter().zip(&asked).filter(|(_, asked)| **asked).map(|(bound, _)| bound.name);
        let mut wanted: BTreeSet<String> =
            plain.map(|name| self.text(name)).filter(|text| is_asked(text)).map(str::to_owned).collect();
        for rich in self.rich.values() {
            collect_leaves(rich, &mut |leaf| {
                let text = self.text(self.bounds[leaf.0 as usize].name);
                if is_asked(text) {
                    wanted.insert(text.to_owned());
                }
            });
        }
        wanted
    }

    /// Whether a package's dependencies name one of these files.
    pub fn asks_for(&self, package: PackageId, files: &BTreeSet<String>) -> bool {
        let is_one = |dependency: Dependency| files.contains(self.text(self.bound_of(dependency).name));
        Relation::ALL.iter().filter(|relation| **relation != Relation::Provides).any(|relation| {
            self.relation(package, *relation).iter().any(|dependency| match self.rich(*dependency) {
                Some(rich) => {
                    let mut found = false;
                    collect_leaves(&rich, &mut |leaf| found |= is_one(leaf));
                    found
                }
                None => is_one(*dependency),
            })
        })
    }

    /// Says that a package has a file, from its repository's file list.
    pub fn add_file(&mut self, package: PackageId, path: &str) {
        let name = self.intern(path);
        let files = &mut self.packages[package].files;
        if !files.contains(&name) {
            let mut all = std::mem::take(files).into_vec();
            all.push(name);
            *files = all.into_boxed_slice();
            self.index = providers::Index::default();
        }
    }
}

fn collect_leaves(rich: &Rich, note: &mut impl FnMut(Dependency)) {
    match rich {
        Rich::One(dependency) => note(*dependency),
        Rich::And(a, b) | Rich::Or(a, b) | Rich::With(a, b) | Rich::Without(a, b) => {
            collect_leaves(a, note);
            collect_leaves(b, note);
        }
        Rich::If(a, b, c) | Rich::Unless(a, b, c) => {
            collect_leaves(a, note);
            collect_leaves(b, note);
            if let Some(c) = c {
                collect_leaves(c, note);
            }
        }
        Rich::Unreadable => {}
    }
}

/// Spec: createrepo_c lists these files in the main metadata; only others need the file lists.
pub fn is_in_primary(path: &str) -> bool {
    path.starts_with("/etc/") || path.contains("bin/") || path == "/usr/lib/sendmail"
}

#[cfg(test)]
pub(crate) mod tests;
