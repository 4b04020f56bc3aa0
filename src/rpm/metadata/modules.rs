//! Module streams: which packages belong together, which stream is chosen where nobody says, and what that hides.
//!
//! Source: the modulemd specification, versions 1 and 2, and modulemd-defaults; libdnf's filtering: a package that is not of a chosen
//! stream, but is called like one of it, is masked.

use super::MetadataError;
use super::yaml::{Node, documents};
use crate::rpm::dependency::Sense;
use crate::rpm::pool::{PackageId, Pool};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Streams and defaults of one file.
const MAXIMUM_DOCUMENTS: usize = 100_000;

/// One build of a stream of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub module: String,
    pub stream: String,
    pub version: u64,
    pub context: String,
    /// Sets of streams of other modules, one set of which must be chosen; a module with no streams means any of its.
    pub requires: Vec<BTreeMap<String, Vec<String>>>,
    /// `name-epoch:version-release.arch`.
    pub artifacts: Vec<String>,
}

/// What modules there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    pub streams: Vec<Stream>,
    /// Stream by module.
    pub defaults: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    #[error("there is no module {module}{}", near(.known))]
    NoModule { module: String, known: Vec<String> },
    #[error("the module {module} has no stream {stream}; it has {}", .known.join(", "))]
    NoStream { module: String, stream: String, known: Vec<String> },
    #[error("two streams of the module {module} are needed: {one} and {two}")]
    TwoStreams { module: String, one: String, two: String },
    #[error("{0:?} is not MODULE:STREAM")]
    Malformed(String),
}

fn near(known: &[String]) -> String {
    match known.is_empty() {
        true => "; the repositories have none".into(),
        false => format!("; there are {}", known.join(", ")),
    }
}

impl Modules {
    /// Adds what a file has.
    pub fn read(&mut self, text: &str) -> Result<(), MetadataError> {
        let mut count = 0;
        documents(text, |document| {
            count += 1;
            if count > MAXIMUM_DOCUMENTS {
                return Err(MetadataError::TooLarge("it has more than 100000 documents"));
            }
            self.add(&document);
            Ok(())
        })
    }

    /// A document of a kind that is not needed, or without what is needed, is passed over.
    fn add(&mut self, document: &Node) {
        let Some(data) = document.get("data") else { return };
        let field = |name: &str| data.get(name).and_then(Node::text).unwrap_or("").to_owned();
        match document.get("document").and_then(Node::text) {
            Some("modulemd") => {
                let module = field("name");
                if module.is_empty() {
                    return;
                }
                let artifacts = data.get("artifacts").and_then(|artifacts| artifacts.get("rpms"));
                self.streams.push(Stream {
                    module,
                    stream: field("stream"),
                    version: field("version").parse().unwrap_or(0),
                    context: field("context"),
                    requires: data.get("dependencies").map_or_else(Vec::new, read_requires),
                    artifacts: artifacts.map_or_else(Vec::new, Node::texts),
                });
            }
            Some("modulemd-defaults") => {
                let (module, stream) = (field("module"), field("stream"));
                if !module.is_empty() && !stream.is_empty() {
                    self.defaults.insert(module, stream);
                }
            }
            _ => {}
        }
    }

    /// The streams that count: those that were asked for (`module:stream`), what they require, and defaults of all other modules.
    pub fn choose(&self, wanted: &[String]) -> Result<BTreeMap<String, String>, ModuleError> {
        let mut chosen: BTreeMap<String, String> = BTreeMap::new();
        let mut pending: Vec<(String, String)> = Vec::new();
        for text in wanted {
            pending.push(self.parse_wanted(text)?);
        }
        while let Some((module, stream)) = pending.pop() {
            match chosen.get(&module) {
                Some(other) if *other == stream => continue,
                Some(other) => return Err(ModuleError::TwoStreams { module, one: other.clone(), two: stream }),
                None => {}
            }
            pending.extend(self.required_by(&module, &stream, &chosen));
            chosen.insert(module, stream);
        }
        for (module, stream) in &self.defaults {
            if !chosen.contains_key(module)
                && self.streams.iter().any(|one| one.module == *module && one.stream == *stream)
            {
                // A default whose requirements contradict what was asked for is not in force.
                let required = self.required_by(module, stream, &chosen);
                let contradicts =
                    required.iter().any(|(module, stream)| chosen.get(module).is_some_and(|other| other != stream));
                if !contradicts {
                    chosen.insert(module.clone(), stream.clone());
                }
            }
        }
        Ok(chosen)
    }

    fn parse_wanted(&self, text: &str) -> Result<(String, String), ModuleError> {
        let malformed = || ModuleError::Malformed(text.to_owned());
        let (module, stream) = match text.split_once(':') {
            Some((module, stream)) => (module, Some(stream.split(['/', ':']).next().unwrap_or(""))),
            None => (text, None),
        };
        if module.is_empty() || stream == Some("") {
            return Err(malformed());
        }
        let known: BTreeSet<String> =
            self.streams.iter().filter(|one| one.module == module).map(|one| one.stream.clone()).collect();
        if known.is_empty() {
            let modules: BTreeSet<String> = self.streams.iter().map(|one| one.module.clone()).collect();
            return Err(ModuleError::NoModule { module: module.into(), known: modules.into_iter().collect() });
        }
        let stream = stream.or_else(|| self.defaults.get(module).map(String::as_str)).ok_or_else(malformed)?;
        match known.contains(stream) {
            true => Ok((module.to_owned(), stream.to_owned())),
            false => Err(ModuleError::NoStream {
                module: module.into(),
                stream: stream.into(),
                known: known.into_iter().collect(),
            }),
        }
    }

    /// Streams of other modules that a stream needs; where it leaves a choice, the one chosen already, else the default, else the first.
    fn required_by(&self, module: &str, stream: &str, chosen: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let newest = self.newest(module, stream).into_iter().next();
        let Some(requires) = newest.and_then(|stream| stream.requires.first()) else { return Vec::new() };
        let mut found = Vec::new();
        for (other, streams) in requires {
            let known: Vec<&str> =
                self.streams.iter().filter(|one| one.module == *other).map(|one| one.stream.as_str()).collect();
            let fits = |stream: &&str| {
                let denied = streams.iter().any(|listed| listed.strip_prefix('-') == Some(stream));
                let listed: Vec<&String> = streams.iter().filter(|listed| !listed.starts_with('-')).collect();
                !denied && (listed.is_empty() || listed.iter().any(|listed| listed == stream))
            };
            let fitting: Vec<&str> = known.into_iter().filter(fits).collect();
            let preferred = [chosen.get(other), self.defaults.get(other)].into_iter().flatten();
            let stream =
                preferred.map(String::as_str).find(|stream| fitting.contains(stream)).or(fitting.first().copied());
            // What no repository has as a module is the platform.
            found.extend(stream.map(|stream| (other.clone(), stream.to_owned())));
        }
        found
    }

    /// The newest build of a stream in each context.
    fn newest(&self, module: &str, stream: &str) -> Vec<&Stream> {
        let mut newest: BTreeMap<&str, &Stream> = BTreeMap::new();
        for one in self.streams.iter().filter(|one| one.module == module && one.stream == stream) {
            let kept = newest.entry(&one.context).or_insert(one);
            if one.version > kept.version {
                *kept = one;
            }
        }
        let highest = newest.values().map(|one| one.version).max();
        newest.into_values().filter(|one| Some(one.version) == highest).collect()
    }

    /// Takes packages out of the pool that the chosen streams hide: those of other streams, and those of none that have a
    /// name, or provide one, of a chosen stream's package.
    pub fn filter(&self, pool: &mut Pool, chosen: &BTreeMap<String, String>) {
        let active: HashSet<*const Stream> =
            chosen.iter().flat_map(|(module, stream)| self.newest(module, stream)).map(std::ptr::from_ref).collect();
        let (mut included, mut excluded, mut names) = (HashSet::new(), HashSet::new(), BTreeSet::new());
        for stream in &self.streams {
            let is_active = active.contains(&std::ptr::from_ref(stream));
            for artifact in &stream.artifacts {
                let Some((nevra, name, arch)) = split_nevra(artifact) else { continue };
                if is_active {
                    if !matches!(arch, "src" | "nosrc") {
                        names.insert(name.to_owned());
                    }
                    included.insert(nevra);
                } else {
                    excluded.insert(nevra);
                }
            }
        }
        let mut masked: HashSet<PackageId> = HashSet::new();
        for name in names.iter().filter_map(|name| pool.find(name)) {
            masked.extend(pool.named(name));
            masked.extend(pool.provided_by_name(name, Sense::ANY, ""));
        }
        for package in 0..pool.packages().len() {
            let nevra = pool.nevra(package);
            if !included.contains(&nevra) && (excluded.contains(&nevra) || masked.contains(&package)) {
                pool.exclude(package);
            }
        }
    }
}

/// `dependencies` is a list of alternatives (version 2) or one mapping (version 1).
fn read_requires(node: &Node) -> Vec<BTreeMap<String, Vec<String>>> {
    let alternatives: Vec<&Node> = match node {
        Node::List(items) => items.iter().collect(),
        other => vec![other],
    };
    let read = |alternative: &&Node| {
        let requires = alternative.get("requires")?;
        let streams = |value: &Node| match value {
            Node::Scalar(stream) => vec![stream.clone()],
            list => list.items().iter().filter_map(Node::text).map(str::to_owned).collect(),
        };
        Some(
            requires
                .entries()
                .iter()
                .filter_map(|(name, value)| Some((name.text()?.to_owned(), streams(value))))
                .collect(),
        )
    };
    alternatives.iter().filter_map(read).collect()
}

/// The package as [`Pool::nevra`] writes it, its name and its architecture.
fn split_nevra(artifact: &str) -> Option<(String, &str, &str)> {
    let (rest, arch) = artifact.rsplit_once('.')?;
    let (rest, release) = rest.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    let version = version.strip_prefix("0:").unwrap_or(version);
    Some((format!("{name}-{version}-{release}.{arch}"), name, arch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "---\ndocument: modulemd\nversion: 2\ndata:\n  name: perl\n  stream: \"5.30\"\n  version: 2\n  context: a\n\
        \x20 dependencies:\n  - requires:\n      platform: [el8]\n  artifacts:\n    rpms:\n    - perl-4:5.30-1.x86_64\n...\n\
        ---\ndocument: modulemd\nversion: 2\ndata:\n  name: swig\n  stream: 4.0\n  version: 1\n  context: b\n\
        \x20 description: >-\n    Text: with a colon.\n  dependencies:\n  - requires:\n      perl: [\"5.30\"]\n      platform: [el8]\n\
        \x20 artifacts:\n    rpms: [swig-0:4.0-1.noarch]\n...\n\
        ---\ndocument: modulemd-defaults\nversion: 1\ndata:\n  module: perl\n  stream: \"5.30\"\n...\n";

    fn sample() -> Modules {
        let mut modules = Modules::default();
        modules.read(SAMPLE).unwrap();
        modules
    }

    #[test]
    fn reads_streams_and_defaults() {
        let modules = sample();
        assert_eq!(modules.streams.len(), 2);
        assert_eq!(modules.streams[1].stream, "4.0");
        assert_eq!(modules.streams[1].requires[0]["perl"], ["5.30"]);
        assert_eq!(modules.defaults["perl"], "5.30");
        assert_eq!(split_nevra("swig-0:4.0-1.noarch").unwrap().0, "swig-4.0-1.noarch");
        assert_eq!(split_nevra("perl-4:5.30-1.x86_64").unwrap().0, "perl-4:5.30-1.x86_64");
    }

    #[test]
    fn a_stream_brings_those_that_it_requires() {
        let chosen = sample().choose(&["swig:4.0".into()]).unwrap();
        assert_eq!(
            chosen.into_iter().collect::<Vec<_>>(),
            [("perl".to_owned(), "5.30".to_owned()), ("swig".to_owned(), "4.0".to_owned())]
        );
        assert!(!sample().choose(&[]).unwrap().contains_key("swig"));
    }

    #[test]
    fn says_what_streams_there_are() {
        let error = |text: &str| sample().choose(&[text.to_owned()]).unwrap_err().to_string();
        assert!(error("perl:6").contains("it has 5.30"));
        assert!(error("ruby:3").contains("there are perl, swig"));
        assert!(error("swig").contains("MODULE:STREAM"));
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(at in 0usize..900, junk in "[-\\[\\]{}:&*|>\"'a \n]{0,4}") {
            let mut text = SAMPLE.to_owned();
            let at = at.min(text.len());
            text.insert_str(at, &junk);
            let _ = Modules::default().read(&text);
        }
    }
}
