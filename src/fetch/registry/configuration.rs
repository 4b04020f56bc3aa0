//! `registries.conf`: mirrors, other locations, blocked and insecure registries.
//!
//! Source: containers-registries.conf(5), version 2; registries.conf.d(5).
//! Compat: short names and their aliases are not read, because in a definition file `alpine` always means Docker Hub's.

use crate::oci::reference::Reference;
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// No configuration file is larger.
const LARGEST: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("cannot read {path}: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("{path} is not valid: {cause}")]
    Syntax { path: PathBuf, cause: String },
    #[error("{path} is not valid: {cause}")]
    Entry { path: PathBuf, cause: String },
    #[error(
        "{name} is blocked by the entry {prefix} of {path}: use another registry, or ask who administers this machine"
    )]
    Blocked { name: String, prefix: String, path: PathBuf },
}

/// All entries that apply on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    entries: Vec<Entry>,
    /// What was found and is not obeyed, each a sentence.
    pub warnings: Vec<String>,
}

/// A place that an image can be pulled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and optional port to connect to.
    pub host: String,
    /// The image's name there.
    pub repository: String,
    /// Certificates are not checked, and plain HTTP is good enough.
    pub insecure: bool,
    pub mirror: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
    path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mirror {
    location: String,
    insecure: bool,
    tags: bool,
    digests: bool,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    registry: Vec<RawRegistry>,
    registries: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

impl Configuration {
    /// The files of this machine and user: `$CONTAINERS_REGISTRIES_CONF` alone; or the user's file, or else the system's, and after it the
    /// files of both `registries.conf.d`, in which an entry replaces an earlier one for the same prefix.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Configuration, ConfigurationError> {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = get("CONTAINERS_REGISTRIES_CONF") {
            return Configuration::read(&[path]);
        }
        let user = get("XDG_CONFIG_HOME").or_else(|| get("HOME").map(|home| home.join(".config")));
        let user = user.map(|path| path.join("containers"));
        let system = PathBuf::from("/etc/containers");
        let own = user.as_ref().map(|path| path.join("registries.conf")).filter(|path| path.exists());
        let main = own.unwrap_or_else(|| system.join("registries.conf"));
        let mut paths: Vec<PathBuf> = Some(main).filter(|path| path.exists()).into_iter().collect();
        for directory in [Some(system), user].into_iter().flatten() {
            paths.extend(drop_ins(&directory.join("registries.conf.d")));
        }
        Configuration::read(&paths)
    }

    pub fn read(paths: &[PathBuf]) -> Result<Configuration, ConfigurationError> {
        let mut configuration = Configuration::default();
        for path in paths {
            let fault = |cause| ConfigurationError::Read { path: path.clone(), cause };
            let mut text = String::new();
            File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text)).map_err(fault)?;
            configuration.add(&text, path)?;
        }
        Ok(configuration)
    }

    /// Adds one file's entries.
    pub fn add(&mut self, text: &str, path: &Path) -> Result<(), ConfigurationError> {
        let document: Document = toml::from_str(text)
            .map_err(|error| ConfigurationError::Syntax { path: path.to_owned(), cause: error.message().to_owned() })?;
        if document.registries.is_some() {
            let text = "has the old form ([registries.search] and so on), which is not read; use [[registry]] entries";
            self.warnings.push(format!("{} {text}", path.display()));
        }
        for raw in document.registry {
            let entry = Entry::new(raw, path)?;
            self.entries.retain(|earlier| earlier.prefix != entry.prefix);
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Where to pull an image from, in order: mirrors, then the registry itself.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, ConfigurationError> {
        let name = reference.name();
        let entry = self
            .entries
            .iter()
            .filter_map(|entry| Some((entry.covers(&name)?, entry)))
            .max_by_key(|(length, entry)| (!entry.prefix.starts_with("*."), *length));
        let Some((length, entry)) = entry else { return Ok(vec![endpoint(&name, false, false)]) };
        if entry.blocked {
            let (prefix, path) = (entry.prefix.clone(), entry.path.clone());
            return Err(ConfigurationError::Blocked { name, prefix, path });
        }
        let rest = &name[length..];
        let suits = |mirror: &&Mirror| if reference.digest.is_some() { mirror.digests } else { mirror.tags };
        let mut endpoints: Vec<Endpoint> = entry
            .mirrors
            .iter()
            .filter(suits)
            .map(|mirror| endpoint(&format!("{}{rest}", mirror.location), mirror.insecure, true))
            .collect();
        let own = if entry.location.is_empty() { name.clone() } else { format!("{}{rest}", entry.location) };
        endpoints.push(endpoint(&own, entry.insecure, false));
        Ok(endpoints)
    }
}

fn drop_ins(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|name| name == "conf"))
        .collect();
    paths.sort();
    paths
}

fn endpoint(name: &str, insecure: bool, mirror: bool) -> Endpoint {
    let (host, repository) = name.split_once('/').unwrap_or((name, ""));
    // Docker Hub's API is not where its name says.
    let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
    Endpoint { host: host.to_owned(), repository: repository.to_owned(), insecure, mirror }
}

impl Entry {
    fn new(raw: RawRegistry, path: &Path) -> Result<Entry, ConfigurationError> {
        let fault = |cause: String| ConfigurationError::Entry { path: path.to_owned(), cause };
        let prefix = tidy(if raw.prefix.is_empty() { &raw.location } else { &raw.prefix });
        if prefix.is_empty() {
            return Err(fault("a [[registry]] has neither prefix nor location".to_owned()));
        }
        let mut location = tidy(&raw.location);
        if location.is_empty() && !prefix.starts_with("*.") {
            location = prefix.clone();
        }
        let mut mirrors = Vec::new();
        for mirror in raw.mirror {
            let (tags, digests) = match mirror.pull_from_mirror.as_str() {
                "" | "all" => (!raw.mirror_by_digest_only, true),
                "digest-only" => (false, true),
                "tag-only" => (true, false),
                other => return Err(fault(format!("pull-from-mirror of {prefix} is {other:?}"))),
            };
            let location = tidy(&mirror.location);
            if location.is_empty() {
                return Err(fault(format!("a mirror of {prefix} has no location")));
            }
            mirrors.push(Mirror { location, insecure: mirror.insecure, tags, digests });
        }
        if let Some(place) = [&location]
            .into_iter()
            .chain(mirrors.iter().map(|mirror| &mirror.location))
            .find(|place| place.contains("://"))
        {
            return Err(fault(format!("the location {place} must be without a scheme")));
        }
        Ok(Entry { prefix, location, insecure: raw.insecure, blocked: raw.blocked, mirrors, path: path.to_owned() })
    }

    /// How many bytes of `name` the prefix stands for.
    fn covers(&self, name: &str) -> Option<usize> {
        if let Some(domain) = self.prefix.strip_prefix('*').filter(|domain| domain.starts_with('.')) {
            let host = name.split('/').next().unwrap_or(name);
            return (host.split(':').next().unwrap_or(host).ends_with(domain)).then_some(host.len());
        }
        let rest = name.strip_prefix(self.prefix.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(self.prefix.len())
    }
}

fn tidy(text: &str) -> String {
    text.trim().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn configuration(text: &str) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.add(text, Path::new("registries.conf")).unwrap();
        configuration
    }

    fn places(configuration: &Configuration, image: &str) -> Vec<String> {
        let endpoints = configuration.endpoints(&Reference::parse(image).unwrap()).unwrap();
        let mark = |endpoint: &Endpoint| match (endpoint.mirror, endpoint.insecure) {
            (true, true) => " mirror insecure",
            (true, false) => " mirror",
            (false, true) => " insecure",
            (false, false) => "",
        };
        endpoints
            .iter()
            .map(|endpoint| format!("{}/{}{}", endpoint.host, endpoint.repository, mark(endpoint)))
            .collect()
    }

    #[test]
    fn without_entries_an_image_comes_from_its_own_registry() {
        assert_eq!(places(&Configuration::default(), "alpine"), ["registry-1.docker.io/library/alpine"]);
        assert_eq!(places(&Configuration::default(), "quay.io/a/b:1"), ["quay.io/a/b"]);
    }

    #[test]
    fn tries_mirrors_first_and_rewrites_prefixes() {
        let configuration = configuration(
            r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.local:5000/hub/"
            insecure = true
            [[registry]]
            prefix = "quay.io/org"
            location = "inside.example/copy"
            [[registry]]
            prefix = "*.corp.example"
            insecure = true
            "#,
        );
        assert_eq!(
            places(&configuration, "alpine"),
            ["mirror.local:5000/hub/library/alpine mirror insecure", "registry-1.docker.io/library/alpine"]
        );
        assert_eq!(places(&configuration, "quay.io/org/app"), ["inside.example/copy/app"]);
        assert_eq!(places(&configuration, "quay.io/organisation/app"), ["quay.io/organisation/app"]);
        assert_eq!(places(&configuration, "a.b.corp.example:8443/x"), ["a.b.corp.example:8443/x insecure"]);
    }

    #[test]
    fn keeps_mirrors_for_digests_or_tags_apart() {
        let configuration = configuration(
            r#"
            [[registry]]
            location = "a.example"
            [[registry.mirror]]
            location = "digests.example"
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "tags.example"
            pull-from-mirror = "tag-only"
            "#,
        );
        assert_eq!(places(&configuration, "a.example/x:1"), ["tags.example/x mirror", "a.example/x"]);
        let pinned = format!("a.example/x@sha256:{}", "0".repeat(64));
        assert_eq!(places(&configuration, &pinned), ["digests.example/x mirror", "a.example/x"]);
    }

    #[test]
    fn the_longest_prefix_wins_and_later_files_replace_entries() {
        let mut configuration =
            configuration("[[registry]]\nprefix = \"a.b\"\nblocked = true\n[[registry]]\nprefix = \"a.b/free\"\n");
        assert_eq!(places(&configuration, "a.b/free/x"), ["a.b/free/x"]);
        let blocked = configuration.endpoints(&Reference::parse("a.b/x").unwrap()).unwrap_err().to_string();
        assert!(blocked.contains("a.b/x is blocked by the entry a.b of registries.conf"), "{blocked}");
        configuration.add("[[registry]]\nprefix = \"a.b\"\n", Path::new("later.conf")).unwrap();
        assert_eq!(places(&configuration, "a.b/x"), ["a.b/x"]);
    }

    #[test]
    fn names_the_file_of_a_fault() {
        let fault = |text: &str| Configuration::default().add(text, Path::new("r.conf")).unwrap_err().to_string();
        assert!(fault("[[registry]").starts_with("r.conf is not valid: "));
        assert!(fault("[[registry]]\n").contains("neither prefix nor location"));
        assert!(fault("[[registry]]\nlocation=\"https://x.y\"\n").contains("without a scheme"));
        let old = configuration("[registries.search]\nregistries=['docker.io']\n");
        assert!(old.warnings[0].contains("old form"));
    }

    proptest! {
        #[test]
        fn never_panics_on_any_text(text in ".{0,120}") {
            let _ = Configuration::default().add(&text, Path::new("x"));
        }

        #[test]
        fn never_panics_on_any_entry(prefix in "[*.a-z/:]{0,12}", location in "[.a-z/:]{0,12}", image in "[a-z./]{1,12}") {
            let text = format!("[[registry]]\nprefix=\"{prefix}\"\nlocation=\"{location}\"\n[[registry.mirror]]\nlocation=\"m.x\"\n");
            let mut configuration = Configuration::default();
            if configuration.add(&text, Path::new("x")).is_ok()
                && let Ok(reference) = Reference::parse(&image)
            {
                let _ = configuration.endpoints(&reference);
            }
        }
    }
}
