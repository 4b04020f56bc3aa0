//! What changed from one lock file to another, for a person to review.

use super::{BasePin, Pins};
use std::collections::{BTreeMap, BTreeSet};

/// One change: a package, or a base as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    Changed { name: String, from: String, to: String },
    Added { name: String, version: String },
    Removed { name: String, version: String },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Difference::Changed { name, from, to } => write!(formatter, "~ {name} {from} -> {to}"),
            Difference::Added { name, version } => write!(formatter, "+ {name} {version}"),
            Difference::Removed { name, version } => write!(formatter, "- {name} {version}"),
        }
    }
}

/// All changes, sorted: what changed, what was added, what was removed.
pub fn difference(old: &Pins, new: &Pins) -> Vec<Difference> {
    let (old, new) = (parts(old), parts(new));
    let mut found = BTreeSet::new();
    for (name, versions) in &old {
        match new.get(name) {
            None => found.extend(
                versions.iter().map(|version| Difference::Removed { name: name.clone(), version: version.clone() }),
            ),
            Some(others) if others != versions => {
                found.insert(Difference::Changed { name: name.clone(), from: joined(versions), to: joined(others) });
            }
            Some(_) => {}
        }
    }
    for (name, versions) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        found.insert(Difference::Added { name: name.clone(), version: joined(versions) });
    }
    found.into_iter().collect()
}

fn joined(versions: &BTreeSet<String>) -> String {
    versions.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// Versions by `name.architecture` of packages, digests by name of other bases.
fn parts(pins: &Pins) -> BTreeMap<String, BTreeSet<String>> {
    let mut parts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |name: String, version: &str| {
        parts.entry(name).or_default().insert(version.to_owned());
    };
    for (number, stage) in pins.stages.iter().enumerate() {
        match &stage.base {
            base @ (BasePin::Debian { .. } | BasePin::Rpm { .. } | BasePin::Pacman { .. }) => {
                base.packages().into_iter().for_each(|(name, version, arch)| add(format!("{name}.{arch}"), version));
            }
            base => {
                for (name, value) in base.identity() {
                    add(format!("stage {} {name}", number + 1), &value);
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::StagePins;

    fn pins(lines: &[&str]) -> Pins {
        let base = BasePin::Rpm { lines: lines.iter().map(|line| (*line).to_owned()).collect() };
        let stage = StagePins { question: "q".into(), base, files: Default::default(), app_files: Default::default() };
        Pins { stages: vec![stage] }
    }

    #[test]
    fn tells_what_was_upgraded_added_and_removed() {
        let old =
            pins(&["agent dnf", "package a 1-1 x86_64 user", "package b 1-1 noarch user", "package c 1-1 noarch -"]);
        let new =
            pins(&["agent yum", "package a 1-2 x86_64 user", "package c 1-1 noarch user", "package d 3-1 noarch -"]);
        let text: Vec<String> = difference(&old, &new).iter().map(ToString::to_string).collect();
        assert_eq!(text, ["~ a.x86_64 1-1 -> 1-2", "+ d.noarch 3-1", "- b.noarch 1-1"]);
        assert!(difference(&old, &old).is_empty());
    }
}
