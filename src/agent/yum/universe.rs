//! All repositories together: their packages in one pool, and the choice among them.

use super::YumError;
use super::repository::{Access, Repository, Source};
use crate::agent::packages::{self, Kept};
use crate::arch::Arch;
use crate::archive::compress::detecting_decoder;
use crate::event::Event;
use crate::rpm::metadata::modules::Modules;
use crate::rpm::metadata::{Data, MetadataError, compact, comps, filelists, primary};
use crate::rpm::package::Package;
use crate::rpm::pin::PackagePin;
use crate::rpm::pool::{self, Architectures, NewPackage, PackageId, Pool};
use crate::rpm::solve::{Group, Request, Solution, select, solve};
use std::collections::BTreeSet;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes that module documents may unpack to.
const MAXIMUM_MODULES: u64 = 256 << 20;

/// What is asked of the repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub sources: Vec<Source>,
    /// `MODULE:STREAM`.
    pub modules: Vec<String>,
    /// Names, patterns, provisions, files, `@groups`.
    pub packages: Vec<String>,
    /// Names or patterns of packages that are not to be chosen.
    pub excluded: Vec<String>,
    pub no_weak: bool,
    pub arch: Arch,
    /// Chosen rather than newer ones.
    pub kept: Option<Kept>,
    /// The packages that are kept, with their files, which need not be there.
    pub files: Vec<(PackagePin, PathBuf)>,
}

/// The answer: the packages of all repositories, and which of them.
pub struct Choice {
    pub pool: Pool,
    pub repositories: Vec<Repository>,
    pub solution: Solution,
    /// Those that were to be kept and are there.
    pub favoured: BTreeSet<PackageId>,
}

/// Reads the repositories and chooses. Where a mirror changed meanwhile, all are read once more from the start: states are never mixed.
pub fn choose(access: &Access<'_>, question: &Question) -> Result<Choice, YumError> {
    match choose_once(access, question) {
        Err(error) if error.is_change() => {
            access.observer.observe(Event::Warning(format!("{error}; all repositories are asked once more")));
            choose_once(access, question)
        }
        other => other,
    }
}

fn choose_once(access: &Access<'_>, question: &Question) -> Result<Choice, YumError> {
    let architectures = Architectures::of(question.arch.rpm()).ok_or(YumError::Architecture(question.arch.rpm()))?;
    let mut loader = Loader {
        access,
        pool: Pool::new(architectures),
        repositories: Vec::new(),
        ranges: Vec::new(),
        groups: Vec::new(),
        modules: Modules::default(),
        favoured: BTreeSet::new(),
        kept: &question.files,
        wants_groups: question.packages.iter().any(|text| text.starts_with('@')),
    };
    for source in &question.sources {
        loader.load(source)?;
    }
    let chosen = loader.modules.choose(&question.modules)?;
    loader.modules.filter(&mut loader.pool, &chosen);
    loader.exclude(&question.excluded);
    // Only files that are asked for and that the main metadata leaves out need the file lists, which are large.
    let asks_for_files = question.packages.iter().any(|text| text.starts_with('/') && !pool::is_in_primary(text));
    let solution = match asks_for_files {
        true => {
            loader.load_files(&question.packages)?;
            loader.solve(question)?
        }
        false => match loader.solve(question) {
            Ok(solution) if !loader.needs_files(&solution) => solution,
            // An answer, or that there is none, may change when it is known who has a file.
            _ if loader.load_files(&question.packages)? => loader.solve(question)?,
            other => other?,
        },
    };
    let Loader { pool, repositories, favoured, .. } = loader;
    Ok(Choice { pool, repositories, solution, favoured })
}

struct Loader<'a> {
    access: &'a Access<'a>,
    pool: Pool,
    repositories: Vec<Repository>,
    ranges: Vec<Range<PackageId>>,
    groups: Vec<Group>,
    modules: Modules,
    favoured: BTreeSet<PackageId>,
    kept: &'a [(PackagePin, PathBuf)],
    wants_groups: bool,
}

impl Loader<'_> {
    fn load(&mut self, source: &Source) -> Result<(), YumError> {
        let repository = self.access.open(source)?;
        self.pool.add_repository(pool::Repository { name: source.name.clone(), priority: source.priority });
        let start = self.pool.packages().len();
        let file = |kinds: &[&str]| kinds.iter().find_map(|kind| repository.repomd.data.get(*kind).cloned());
        if let Some(data) = file(&["primary"]) {
            self.load_packages(&repository, &data)?;
        }
        self.add_kept(source, start);
        if self.wants_groups {
            self.load_groups(&repository)?;
        }
        if let Some(data) = file(&["modules"]) {
            let modules = &mut self.modules;
            self.access.parse(&repository, &data, |reader| {
                let mut text = String::new();
                reader.take(MAXIMUM_MODULES).read_to_string(&mut text)?;
                modules.read(&text)
            })?;
        }
        let count = self.pool.packages().len() - start;
        self.access.observer.observe(Event::Detail(format!("{}: {count} packages", source.name)));
        self.ranges.push(start..start + count);
        self.repositories.push(repository);
        Ok(())
    }

    /// Adds what is to be kept and has left the repository, from the package files, whose headers say the same as metadata.
    fn add_kept(&mut self, source: &Source, start: PackageId) {
        let (pool, observer) = (&mut self.pool, self.access.observer);
        let mut own = self.kept.iter().filter(|(pin, _)| pin.repository == source.name).peekable();
        if own.peek().is_none() {
            return;
        }
        let there: BTreeSet<String> = (start..pool.packages().len()).map(|package| pool.nevra(package)).collect();
        for (pin, path) in own.filter(|(pin, _)| !there.contains(&pin.nevra())) {
            let added = read_kept(pin, path, pool).map(|new| pool.add(new));
            if let Err(cause) = added {
                let text = format!("{} left the repository {} and cannot stay: {cause}", pin.nevra(), source.name);
                observer.observe(Event::Warning(text));
            }
        }
    }

    /// From the compact form that was kept of the file, else from the file.
    fn load_packages(&mut self, repository: &Repository, data: &Data) -> Result<(), YumError> {
        let access = self.access;
        access.check_strength(repository, data)?;
        let start = self.pool.packages().len();
        let kept = access.recall_compact(data);
        if kept.and_then(|bytes| compact::read(&bytes, &mut self.pool)).is_some() {
            return Ok(());
        }
        let pool = &mut self.pool;
        let count = access.parse(repository, data, |reader| primary::read(reader, pool))?;
        access.keep_compact(data, || compact::write(pool, start..start + count));
        Ok(())
    }

    /// The same groups may be listed in several compressions; the first that can be had is read.
    fn load_groups(&mut self, repository: &Repository) -> Result<(), YumError> {
        let mut failure = None;
        for data in
            ["group_gz", "group_zst", "group_xz", "group"].iter().filter_map(|kind| repository.repomd.data.get(*kind))
        {
            match self.access.parse(repository, data, |reader| comps::read(reader)) {
                Ok(groups) => {
                    self.groups.extend(groups);
                    return Ok(());
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn exclude(&mut self, patterns: &[String]) {
        for pattern in patterns {
            for package in crate::rpm::solve::find(&self.pool, pattern) {
                self.pool.exclude(package);
            }
        }
    }

    fn solve(&mut self, question: &Question) -> Result<Solution, YumError> {
        let ask = |loader: &mut Self| -> Result<Solution, YumError> {
            let wishes = select(&mut loader.pool, &loader.groups, &question.packages)?;
            let favoured = loader.favoured.clone();
            Ok(solve(&loader.pool, &Request { wishes, no_weak: question.no_weak, favoured })?)
        };
        let Some(kept) = &question.kept else { return ask(self) };
        // Those that move go where they would if nothing were kept: what is kept must give way, or they would not move.
        self.favoured.clear();
        let free = ask(self)?;
        let chosen: BTreeSet<PackageId> = free.install.iter().map(|(package, _)| *package).collect();
        let names: BTreeSet<String> = chosen.iter().map(|package| self.pool.name_of(*package).to_owned()).collect();
        for package in 0..self.pool.packages().len() {
            let (name, evr, arch) = (self.pool.name_of(package), self.pool.evr_of(package), self.pool.arch_of(package));
            if kept.has(name, evr, arch) {
                self.favoured.insert(package);
            }
            if kept.moving.contains(name) && names.contains(name) && !chosen.contains(&package) {
                self.pool.exclude(package);
            }
        }
        ask(self)
    }

    /// Whether a chosen package speaks of a file that the main metadata does not list.
    fn needs_files(&self, solution: &Solution) -> bool {
        let wanted = self.pool.wanted_files();
        !wanted.is_empty() && solution.install.iter().any(|(package, _)| self.pool.asks_for(*package, &wanted))
    }

    /// Reads the file lists for all files that are asked for. Tells whether any was found.
    fn load_files(&mut self, packages: &[String]) -> Result<bool, YumError> {
        let mut wanted = self.pool.wanted_files();
        wanted.extend(packages.iter().filter(|text| text.starts_with('/')).cloned());
        if wanted.is_empty() {
            return Ok(false);
        }
        let mut found = 0;
        for (repository, range) in self.repositories.iter().zip(&self.ranges) {
            let Some(data) = repository.repomd.data.get("filelists") else { continue };
            let pool = &mut self.pool;
            let count =
                self.access.parse(repository, data, |reader| filelists::read(reader, pool, range.clone(), &wanted))?;
            found += count;
        }
        Ok(found > 0)
    }
}

/// A package from its file.
fn read_kept(pin: &PackagePin, path: &Path, pool: &mut Pool) -> Result<NewPackage, String> {
    let file = packages::open_kept(path, &pin.checksum)?;
    let package = Package::read(&mut BufReader::new(file));
    package.and_then(|package| package.describe(pin, pool)).map_err(|error| error.to_string())
}

impl Access<'_> {
    /// Reads a metadata file, unpacked as its first bytes say.
    fn parse<T>(
        &self,
        repository: &Repository,
        data: &Data,
        read: impl FnOnce(&mut dyn std::io::BufRead) -> Result<T, MetadataError>,
    ) -> Result<T, YumError> {
        let bytes = self.metadata(repository, data)?;
        let fault = |cause| YumError::Metadata { url: format!("{}{}", repository.bases[0], data.location), cause };
        let (_, decoder) = detecting_decoder(&bytes[..]).map_err(|error| fault(error.into()))?;
        read(&mut BufReader::with_capacity(256 << 10, decoder)).map_err(fault)
    }
}
