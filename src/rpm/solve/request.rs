//! What a person asks for: names, names with versions and architectures, patterns, provisions, files, groups.
//!
//! Compat: dnf's order of meanings: `name-epoch:version-release.arch`, `name.arch`, `name`, `name-version-release`, `name-version`, then what
//! packages provide, then their files. The first that some package fits is meant.

use super::explain::nearest;
use crate::rpm::dependency::Sense;
use crate::rpm::pool::{Bound, Dependency, PackageId, Pool, Relation};
use crate::rpm::version::{Evr, compare_segments};
use std::collections::{BTreeMap, BTreeSet};

/// A group of packages, as a repository defines it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    pub name: String,
    /// Those that it cannot be without, and those that usually belong to it.
    pub packages: Vec<String>,
    /// Package, and the one beside which only it is wanted.
    pub conditional: Vec<(String, String)>,
    /// An environment's groups.
    pub groups: Vec<String>,
}

/// One thing that the solution must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Any of these packages.
    OneOf { text: String, packages: Vec<PackageId>, group: Option<String> },
    /// What a dependency asks for.
    Provided { text: String, dependency: Dependency, group: Option<String> },
}

impl Wish {
    /// As the person wrote it.
    pub fn text(&self) -> &str {
        match self {
            Wish::OneOf { text, .. } | Wish::Provided { text, .. } => text,
        }
    }

    /// Whether it stands for a package of this name because of a group.
    pub fn is_group_member(&self, name: &str) -> bool {
        match self {
            Wish::OneOf { group, .. } | Wish::Provided { group, .. } => group.as_deref() == Some(name),
        }
    }
}

/// What nobody has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("no package is called, provides or contains {}", .0.iter().map(Missing::to_string).collect::<Vec<_>>().join("; or "))]
    Missing(Vec<Missing>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub text: String,
    pub near: Vec<String>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)?;
        match self.near.is_empty() {
            true => Ok(()),
            false => write!(formatter, " (near names: {})", self.near.join(", ")),
        }
    }
}

/// Turns what was asked for into wishes.
pub fn select(pool: &mut Pool, groups: &[Group], texts: &[String]) -> Result<Vec<Wish>, RequestError> {
    let mut wishes = Vec::new();
    let mut missing = Vec::new();
    for text in texts {
        let found = match text.strip_prefix('@') {
            Some(group) => select_group(pool, groups, group),
            None => Some(select_packages(pool, text)).filter(|found| !found.is_empty()),
        };
        // A group of which no package can be had is none the less there.
        if found.is_none() {
            let near = match text.strip_prefix('@') {
                Some(wanted) => near_groups(groups, wanted),
                None => nearest(pool, text),
            };
            missing.push(Missing { text: text.clone(), near });
        }
        wishes.extend(found.unwrap_or_default());
    }
    if missing.is_empty() { Ok(wishes) } else { Err(RequestError::Missing(missing)) }
}

fn near_groups(groups: &[Group], wanted: &str) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let fits = |group: &&Group| group.id.contains(&wanted) || group.name.to_lowercase().contains(&wanted);
    let mut near: Vec<String> = groups.iter().filter(fits).map(|group| format!("@{}", group.id)).collect();
    near.sort();
    near.dedup();
    near.truncate(5);
    near
}

fn select_packages(pool: &Pool, text: &str) -> Vec<Wish> {
    let (mut packages, is_name) = match find_by_name(pool, text) {
        Some(found) => found,
        None => (find_by_provision(pool, text), false),
    };
    if packages.is_empty() {
        packages = find_by_file(pool, text);
    }
    packages.retain(|package| is_candidate(pool, *package));
    if packages.is_empty() {
        return Vec::new();
    }
    if is_pattern(text) && !text.starts_with('/') {
        let mut by_name: BTreeMap<&str, Vec<PackageId>> = BTreeMap::new();
        packages.iter().for_each(|package| by_name.entry(pool.name_of(*package)).or_default().push(*package));
        return by_name
            .into_values()
            .map(|packages| Wish::OneOf { text: text.to_owned(), packages, group: None })
            .collect();
    }
    if is_name {
        add_obsoleters(pool, &mut packages);
    }
    vec![Wish::OneOf { text: text.to_owned(), packages, group: None }]
}

/// Packages that a text means by name, version and architecture; patterns are known.
pub fn find(pool: &Pool, text: &str) -> Vec<PackageId> {
    find_by_name(pool, text).map_or_else(Vec::new, |(packages, _)| packages)
}

fn is_candidate(pool: &Pool, package: PackageId) -> bool {
    pool.is_installable(package)
}

/// What replaces a package under another name may be installed in its place.
fn add_obsoleters(pool: &Pool, packages: &mut Vec<PackageId>) {
    let own = packages.clone();
    let replaces = |package: PackageId| {
        let obsoletes = pool.relation(package, Relation::Obsoletes);
        obsoletes.iter().any(|dependency| own.iter().any(|other| pool.matches_name(*other, pool.bound_of(*dependency))))
    };
    packages.extend((0..pool.packages().len()).filter(|package| is_candidate(pool, *package) && replaces(*package)));
    packages.sort_unstable();
    packages.dedup();
}

/// Packages whose own name, version and architecture fit; and whether it was the name alone.
fn find_by_name(pool: &Pool, text: &str) -> Option<(Vec<PackageId>, bool)> {
    for form in forms(text, pool) {
        let name_only = form.version.is_none() && form.arch.is_none();
        let candidates: Vec<PackageId> = match is_pattern(form.name) {
            true => (0..pool.packages().len()).filter(|package| matches(form.name, pool.name_of(*package))).collect(),
            false => pool.find(form.name).map_or_else(Vec::new, |name| pool.named(name)),
        };
        let fits = |package: &PackageId| is_candidate(pool, *package) && form.fits(pool, *package);
        let found: Vec<PackageId> = candidates.into_iter().filter(fits).collect();
        if !found.is_empty() {
            return Some((found, name_only));
        }
    }
    None
}

/// One way to read a text.
struct Form<'a> {
    name: &'a str,
    epoch: Option<&'a str>,
    version: Option<&'a str>,
    release: Option<&'a str>,
    arch: Option<&'a str>,
}

impl Form<'_> {
    fn fits(&self, pool: &Pool, package: PackageId) -> bool {
        let evr = Evr::parse(pool.evr_of(package));
        let same = |wanted: Option<&str>, has: &str| match wanted {
            None => true,
            Some(wanted) if is_pattern(wanted) => matches(wanted, has),
            Some(wanted) => compare_segments(wanted, has).is_eq(),
        };
        let arch = self.arch.is_none_or(|arch| matches(arch, pool.arch_of(package)));
        arch && same(self.epoch, evr.epoch)
            && same(self.version, evr.version)
            && same(self.release, evr.release.unwrap_or(""))
    }
}

fn forms<'a>(text: &'a str, pool: &Pool) -> Vec<Form<'a>> {
    let mut forms = Vec::new();
    let with_arch = text.rsplit_once('.').filter(|(_, arch)| pool.architectures().knows(arch) || is_pattern(arch));
    let versioned = |text: &'a str, arch: Option<&'a str>| {
        let (rest, release) = text.rsplit_once('-')?;
        let (name, version) = rest.rsplit_once('-')?;
        let (epoch, version) = split_epoch(version);
        Some(Form { name, epoch, version: Some(version), release: Some(release), arch })
    };
    if let Some((rest, arch)) = with_arch {
        forms.extend(versioned(rest, Some(arch)));
        forms.push(Form { name: rest, epoch: None, version: None, release: None, arch: Some(arch) });
    }
    forms.push(Form { name: text, epoch: None, version: None, release: None, arch: None });
    forms.extend(versioned(text, None));
    if let Some((name, version)) = text.rsplit_once('-') {
        let (epoch, version) = split_epoch(version);
        forms.push(Form { name, epoch, version: Some(version), release: None, arch: None });
    }
    forms
}

fn split_epoch(version: &str) -> (Option<&str>, &str) {
    match version.split_once(':') {
        Some((epoch, version)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => (Some(epoch), version),
        _ => (None, version),
    }
}

/// Packages that provide `name` or `name >= version`.
fn find_by_provision(pool: &Pool, text: &str) -> Vec<PackageId> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (name, sense, evr) = match words[..] {
        [name] => (name, Sense::ANY, ""),
        [name, operator, evr] => match Sense::from_operator(operator) {
            Some(sense) => (name, sense, evr),
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    // Without files: those come last.
    pool.find(name).map_or_else(Vec::new, |name| pool.provided_by_name(name, sense, evr))
}

fn find_by_file(pool: &Pool, text: &str) -> Vec<PackageId> {
    match text.starts_with('/') {
        true if is_pattern(text) => {
            (0..pool.packages().len()).filter(|package| pool.files(*package).any(|file| matches(text, file))).collect()
        }
        true => {
            pool.find(text).map_or_else(Vec::new, |name| pool.providers(Bound { name, sense: Sense::ANY, evr: name }))
        }
        false => Vec::new(),
    }
}

/// None: there is no such group.
fn select_group(pool: &mut Pool, groups: &[Group], wanted: &str) -> Option<Vec<Wish>> {
    let wanted = wanted.trim_matches('"').trim_start_matches('^');
    let find = |wanted: &str| {
        let exact: Vec<&Group> = groups.iter().filter(|group| group.id == wanted).collect();
        match exact.is_empty() {
            false => exact,
            true => groups.iter().filter(|group| group.name.eq_ignore_ascii_case(wanted)).collect(),
        }
    };
    let mut pending: Vec<&Group> = find(wanted);
    if pending.is_empty() {
        return None;
    }
    let mut seen = BTreeSet::new();
    let (mut packages, mut conditional) = (BTreeSet::new(), BTreeSet::new());
    while let Some(group) = pending.pop() {
        if !seen.insert(std::ptr::from_ref(group)) {
            continue;
        }
        packages.extend(&group.packages);
        conditional.extend(&group.conditional);
        group.groups.iter().for_each(|id| pending.extend(find(id)));
    }
    let text = format!("@{wanted}");
    let mut wishes = Vec::new();
    for name in packages {
        let found: Vec<PackageId> = pool
            .find(name)
            .map_or_else(Vec::new, |name| pool.named(name))
            .into_iter()
            .filter(|package| is_candidate(pool, *package))
            .collect();
        if !found.is_empty() {
            wishes.push(Wish::OneOf { text: text.clone(), packages: found, group: Some(name.clone()) });
        }
    }
    for (name, beside) in conditional {
        if pool.find(name).is_some_and(|name| !pool.named(name).is_empty()) {
            let dependency = pool.dependency(&format!("({name} if {beside})"), Sense::ANY, "");
            wishes.push(Wish::Provided { text: text.clone(), dependency, group: Some(name.clone()) });
        }
    }
    Some(wishes)
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Shell patterns: `*`, `?`, `[a-z]`, `[!a]`.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            _ if t == text.len() => return pattern[p.min(pattern.len())..].iter().all(|c| *c == '*'),
            Some('?') => Some(p + 1),
            Some('[') => class(&pattern, p, text[t]),
            Some(c) if *c == text[t] => Some(p + 1),
            _ => None,
        };
        match (step, star) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
}

/// The place behind a bracket expression that the character fits.
fn class(pattern: &[char], at: usize, character: char) -> Option<usize> {
    let Some(length) = pattern[at + 1..].iter().skip(1).position(|c| *c == ']') else {
        return (character == '[').then_some(at + 1);
    };
    let inner = &pattern[at + 1..at + 2 + length];
    let (negated, inner) = match inner {
        ['!' | '^', rest @ ..] if !rest.is_empty() => (true, rest),
        all => (false, all),
    };
    let mut found = false;
    let mut i = 0;
    while i < inner.len() {
        if i + 2 < inner.len() && inner[i + 1] == '-' {
            found |= inner[i] <= character && character <= inner[i + 2];
            i += 3;
        } else {
            found |= inner[i] == character;
            i += 1;
        }
    }
    (found != negated).then_some(at + 3 + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_are_those_of_the_shell() {
        for (pattern, text) in
            [("*", ""), ("a*c", "abbc"), ("a?c", "abc"), ("a[b-d]*", "acx"), ("[!x]y", "ay"), ("*-devel", "a-devel")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("?", ""), ("[!x]y", "xy"), ("a*b", "ac"), ("*a", "b")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_patterns_never_panic(pattern in "[a*?!\\[\\]^-]{0,12}", text in "[ab-]{0,12}") {
            let _ = matches(&pattern, &text);
        }
    }
}
