//! Who provides what: an index over the provisions and files of a pool.

use super::{Bound, Dependency, Name, PackageId, Pool, Relation, Rich};
use crate::rpm::dependency::{Sense, overlaps};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::OnceLock;

/// By name; made at the first question, forgotten when a package is added.
#[derive(Debug, Default)]
pub(super) struct Index {
    made: OnceLock<Made>,
}

#[derive(Debug)]
struct Made {
    /// First place in `provisions` of each name, and the end.
    starts: Vec<u32>,
    /// Package and its provision, by name, then by package.
    provisions: Vec<(u32, Dependency)>,
    files: HashMap<Name, Vec<u32>>,
}

/// Answers of a pool, kept: the same dependency is asked for by many.
#[derive(Debug)]
pub struct Providers<'a> {
    pub pool: &'a Pool,
    known: RefCell<HashMap<Dependency, Rc<[PackageId]>>>,
}

impl<'a> Providers<'a> {
    pub fn new(pool: &'a Pool) -> Providers<'a> {
        Providers { pool, known: RefCell::default() }
    }

    /// Packages that fulfil a dependency alone, in the pool's order. Those of `and` and `if` are none: these are no sets of packages.
    pub fn of(&self, dependency: Dependency) -> Rc<[PackageId]> {
        if let Some(known) = self.known.borrow().get(&dependency) {
            return known.clone();
        }
        let found: Rc<[PackageId]> = match self.pool.rich(dependency) {
            Some(rich) => self.of_rich(&rich).into(),
            None => self.pool.providers(self.pool.bound_of(dependency)).into(),
        };
        self.known.borrow_mut().insert(dependency, found.clone());
        found
    }

    pub fn of_rich(&self, rich: &Rich) -> Vec<PackageId> {
        match rich {
            Rich::One(dependency) => self.of(*dependency).to_vec(),
            Rich::Or(a, b) => {
                let mut all = self.of_rich(a);
                all.extend(self.of_rich(b));
                all.sort_unstable();
                all.dedup();
                all
            }
            Rich::With(a, b) => {
                let other = self.of_rich(b);
                self.of_rich(a).into_iter().filter(|package| other.binary_search(package).is_ok()).collect()
            }
            Rich::Without(a, b) => {
                let other = self.of_rich(b);
                self.of_rich(a).into_iter().filter(|package| other.binary_search(package).is_err()).collect()
            }
            Rich::And(..) | Rich::If(..) | Rich::Unless(..) | Rich::Unreadable => Vec::new(),
        }
    }
}

impl Pool {
    fn made(&self) -> &Made {
        self.index.made.get_or_init(|| Made::of(self))
    }

    /// Packages with a provision or a file that fits, ascending.
    pub fn providers(&self, bound: Bound) -> Vec<PackageId> {
        let made = self.made();
        let wanted = (bound.sense, self.text(bound.evr));
        let mut found: Vec<PackageId> = Vec::new();
        for (package, provision) in made.provisions(bound.name) {
            let package = *package as usize;
            if found.last() == Some(&package) {
                continue;
            }
            let provided = self.bound_of(*provision);
            if overlaps((provided.sense, self.text(provided.evr)), wanted) {
                found.push(package);
            }
        }
        if bound.sense == Sense::ANY
            && let Some(files) = made.files.get(&bound.name)
        {
            found.extend(files.iter().map(|package| *package as usize));
            found.sort_unstable();
            found.dedup();
        }
        found
    }

    /// As [`Pool::providers`] by provisions alone, for a version that no package may name.
    pub fn provided_by_name(&self, name: Name, sense: Sense, evr: &str) -> Vec<PackageId> {
        let fits = |provision: Dependency| {
            let provided = self.bound_of(provision);
            overlaps((provided.sense, self.text(provided.evr)), (sense, evr))
        };
        let provisions = self.made().provisions(name).iter().filter(|(_, provision)| fits(*provision));
        let mut found: Vec<PackageId> = provisions.map(|(package, _)| *package as usize).collect();
        found.dedup();
        found
    }

    /// Paths of a package's files, as far as they are known.
    pub fn files(&self, package: PackageId) -> impl Iterator<Item = &str> {
        self.packages[package].files.iter().map(|file| self.text(*file))
    }

    /// Packages of a name, ascending.
    pub fn named(&self, name: Name) -> Vec<PackageId> {
        let mut found: Vec<PackageId> = Vec::new();
        for (package, _) in self.made().provisions(name) {
            let package = *package as usize;
            if self.packages[package].name == name && found.last() != Some(&package) {
                found.push(package);
            }
        }
        found
    }

    /// Whether a package's own name and version fit: obsoletes mean names, not provisions.
    pub fn matches_name(&self, package: PackageId, bound: Bound) -> bool {
        let package = &self.packages[package];
        package.name == bound.name
            && overlaps((Sense::EQUAL, self.text(package.evr)), (bound.sense, self.text(bound.evr)))
    }
}

impl Made {
    fn of(pool: &Pool) -> Made {
        let mut starts = vec![0u32; pool.texts.len() + 1];
        let provisions_of = |package: usize| pool.relation(package, Relation::Provides).iter().copied();
        for package in 0..pool.packages.len() {
            for provision in provisions_of(package) {
                starts[pool.bound_of(provision).name.0 as usize + 1] += 1;
            }
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let total = *starts.last().unwrap_or(&0) as usize;
        let mut provisions = vec![(0, Dependency(0)); total];
        let mut files: HashMap<Name, Vec<u32>> = HashMap::new();
        for (package, described) in pool.packages.iter().enumerate() {
            for provision in provisions_of(package) {
                let place = &mut next[pool.bound_of(provision).name.0 as usize];
                provisions[*place as usize] = (package as u32, provision);
                *place += 1;
            }
            for file in &described.files {
                files.entry(*file).or_default().push(package as u32);
            }
        }
        Made { starts, provisions, files }
    }

    fn provisions(&self, name: Name) -> &[(u32, Dependency)] {
        let at = name.0 as usize;
        // A text that came after the index was made is provided by nobody.
        match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(start), Some(end)) => &self.provisions[*start as usize..*end as usize],
            _ => &[],
        }
    }
}
