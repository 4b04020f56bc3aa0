//! `sifbuild pull`: an image from somewhere to a file on this host.

use super::arguments::BuildArguments;
use super::build::{Stop, finish};
use super::exchange::{RegistryArguments, oras_reference, parse_arch, source, with_registry};
use super::judge::Judge;
use super::progress::Terminal;
use super::trust::TrustArguments;
use super::{GlobalArguments, build, cache, exit, render_error, session};
use crate::agent::local::{Digests, recognise};
use crate::agent::{library, oras};
use crate::arch::Arch;
use crate::build::Connections;
use crate::definition::parse_spec_uri;
use crate::disk::{self, AtomicFile};
use crate::event::{Event, Observer};
use crate::fetch::download::{Expected, download};
use crate::fetch::error::shown;
use crate::fetch::http::parse_url;
use crate::oci::manifest::Target;
use crate::oci::reference::Reference;
use crate::sandbox;
use crate::store::{Limit, Store};
use clap::Args;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// No file is pulled of which only the address is known and that is larger.
const LARGEST: u64 = 256 << 30;

/// Pull an image to a file
#[derive(Args, Clone, Debug)]
pub struct PullArguments {
    /// The file, and where the image is: oras://, library://, http(s)://, docker://, …
    #[arg(required = true, num_args = 1..=2, value_names = ["FILE", "URI"])]
    pub places: Vec<String>,
    /// Directory for the file
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Name of the file
    #[arg(long, hide = true)]
    pub name: Option<String>,
    /// Replace an existing file
    #[arg(short = 'F', long)]
    pub force: bool,
    /// Architecture of the image
    #[arg(long)]
    pub arch: Option<String>,
    #[arg(long)]
    pub arch_variant: Option<String>,
    /// Write a sandbox directory instead of a SIF (docker:// and the like)
    #[arg(long)]
    pub sandbox: bool,
    /// Equal bytes on every run (docker:// and the like)
    #[arg(long)]
    pub reproducible: bool,
    /// Keep nothing between runs
    #[arg(long)]
    pub disable_cache: bool,
    /// Directory for what is kept between builds
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Directory for temporary files, with --disable-cache
    #[arg(long, value_name = "DIR")]
    pub tmpdir: Option<PathBuf>,
    #[arg(long, value_name = "URL", hide = true)]
    pub docker_host: Option<String>,
    /// Do not look at the signatures of what oras:// and library:// give
    #[arg(short = 'U', long, alias = "allow-unauthenticated", conflicts_with = "require_signed")]
    pub allow_unsigned: bool,
    #[command(flatten)]
    pub trust: TrustArguments,
    #[arg(long, hide = true)]
    pub no_cleanup: bool,
    #[command(flatten)]
    pub registry: RegistryArguments,
}

pub fn run(mut arguments: PullArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    arguments.fill(&|name| std::env::var(name).ok());
    let target = match arguments.target() {
        Ok(target) => target,
        Err(stop) => return finish(Err(stop)),
    };
    let uri = arguments.uri().to_owned();
    if parse_spec_uri(&uri).is_some_and(|(scheme, _)| matches!(scheme, "oras" | "library" | "http" | "https")) {
        // Without it, an interrupt would leave a part of the file behind. Builds see to it themselves.
        let _ =
            sandbox::install_interrupt(|signal| render_error(&format!("interrupted by {signal}; nothing was pulled")));
    }
    match parse_spec_uri(&uri).map(|(scheme, _)| scheme) {
        Some("oras") => finish(pull_oras(arguments, &target, &terminal)),
        Some("library") => finish(pull_library(arguments, &target, &terminal)),
        Some("http" | "https") => finish(pull_http(arguments, &target, &terminal)),
        Some("docker" | "docker-archive" | "docker-daemon" | "oci" | "oci-archive") => {
            build::run(arguments.into_build(target), global)
        }
        Some(scheme) => finish(Err(Stop::usage(format!("{uri}: images are not pulled from {scheme}")))),
        None => finish(Err(Stop::usage(format!(
            "{uri}: an address like oras://REGISTRY/REPOSITORY:TAG is needed; a file is copied with cp"
        )))),
    }
}

impl PullArguments {
    fn fill(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        use super::arguments::lookup;
        let text = |name: &str| lookup(name, variable).filter(|value| !value.is_empty());
        let path = |value: &mut Option<PathBuf>, names: &[&str]| {
            if value.is_none() {
                *value = names.iter().find_map(|name| text(name)).map(PathBuf::from);
            }
        };
        path(&mut self.dir, &["PULLDIR", "PULLFOLDER"]);
        path(&mut self.tmpdir, &["TMPDIR"]);
        for (value, name) in [
            (&mut self.arch, "PULL_ARCH"),
            (&mut self.arch_variant, "PULL_ARCH_VARIANT"),
            (&mut self.name, "PULL_NAME"),
        ] {
            if value.is_none() {
                *value = text(name);
            }
        }
        self.force |= text("FORCE").is_some_and(|value| value == "true" || value == "1");
        self.disable_cache |= text("DISABLE_CACHE").is_some_and(|value| value == "true" || value == "1");
    }

    fn uri(&self) -> &str {
        self.places.last().map_or("", String::as_str)
    }

    /// Where the image goes: what is named, else a name made of the address.
    fn target(&self) -> Result<PathBuf, Stop> {
        let name = match self.places.as_slice() {
            [name, _] => name.clone(),
            _ => self.name.clone().unwrap_or_else(|| file_name(self.uri())),
        };
        let target = match &self.dir {
            Some(directory) => directory.join(name),
            None => PathBuf::from(name),
        };
        if !self.force && std::fs::symlink_metadata(&target).is_ok() {
            let text = format!("{} already exists. Use --force if you want to overwrite it", target.display());
            return Err(Stop { text, code: exit::TARGET });
        }
        Ok(target)
    }

    fn platform(&self) -> Result<Target, Stop> {
        let arch = match &self.arch {
            Some(name) => parse_arch(name)?,
            None => Arch::host(),
        };
        Ok(Target::new(arch, build::platform_variant(self.arch.as_deref(), self.arch_variant.as_deref()).as_deref()))
    }

    fn into_build(self, target: PathBuf) -> BuildArguments {
        BuildArguments {
            target,
            spec: self.uri().to_owned(),
            force: self.force,
            arch: self.arch,
            arch_variant: self.arch_variant,
            sandbox: self.sandbox,
            reproducible: self.reproducible,
            disable_cache: self.disable_cache,
            cache_dir: self.cache_dir,
            tmpdir: self.tmpdir,
            docker_host: self.docker_host,
            registry: self.registry,
            trust: self.trust,
            debian_variant: "minbase".to_owned(),
            ..BuildArguments::default()
        }
    }
}

/// Facts §6.3: the last element of the path, `:` between name and tag as `_`.
fn file_name(uri: &str) -> String {
    let (scheme, rest) = parse_spec_uri(uri).unwrap_or(("", uri));
    let rest = rest.trim_end_matches('/');
    let rest = if matches!(scheme, "http" | "https") { rest.split(['?', '#']).next().unwrap_or(rest) } else { rest };
    let last = rest.rsplit('/').next().unwrap_or(rest);
    if matches!(scheme, "http" | "https") {
        return last.to_owned();
    }
    // Of several tags the first.
    let last = last.split(',').next().unwrap_or(last);
    match last.split_once(':') {
        Some((name, tag)) => format!("{name}_{tag}.sif"),
        None => format!("{last}_latest.sif"),
    }
}

fn pull_oras(mut arguments: PullArguments, target: &Path, terminal: &Terminal) -> Result<(), Stop> {
    let reference = oras_reference(arguments.uri())?;
    let platform = arguments.platform()?;
    let named = Reference { digest: None, ..reference.clone() };
    let judge = Judge::new(&arguments.trust, format!("oras://{named}"), reference.digest.is_some(), false, terminal)?;
    let cache = Cache::open(&arguments)?;
    with_registry(&mut arguments.registry, terminal, |registry| {
        let blobs = cache.store.blobs();
        let pin = oras::pin(&reference.to_string(), &platform, registry, &blobs, terminal).map_err(source)?;
        terminal.observe(Event::Info(format!("Pulling {reference} ({})", pin.manifest)));
        let path = oras::provide(&pin, registry, &blobs, &Digests::default(), terminal).map_err(source)?;
        judge.check(&path, &[&pin.digest, &pin.manifest])?;
        place(&path, target, arguments.force)?;
        terminal.observe(Event::Info(format!("Pull complete: {}", target.display())));
        Ok(())
    })?;
    cache.close(terminal);
    Ok(())
}

fn pull_library(mut arguments: PullArguments, target: &Path, terminal: &Terminal) -> Result<(), Stop> {
    let arch = arguments.platform()?.arch;
    let cache = Cache::open(&arguments)?;
    arguments.registry.complete()?;
    let Connections { fetch, library: settings, .. } = arguments.registry.connect().map_err(source)?;
    let (fetch, blobs, digests) = (fetch.as_ref(), cache.store.blobs(), Digests::default());
    let pin = library::pin(arguments.uri(), None, arch, &settings, fetch, terminal).map_err(source)?;
    terminal.observe(Event::Info(format!("Pulling {} from {} ({})", pin.reference, pin.url, pin.digest)));
    let host = pin.url.split("://").last().unwrap_or_default().trim_end_matches('/');
    let named = format!("library://{host}/{}", pin.reference);
    let judge = Judge::new(&arguments.trust, named, false, !arguments.allow_unsigned, terminal)?;
    let path = library::provide(&pin, arch, &settings, fetch, &blobs, &digests, terminal).map_err(source)?;
    judge.check(&path, &[&pin.digest])?;
    place(&path, target, arguments.force)?;
    terminal.observe(Event::Info(format!("Pull complete: {}", target.display())));
    cache.close(terminal);
    Ok(())
}

/// Nothing tells beforehand what the file should be: that it is an image is all that can be checked.
fn pull_http(mut arguments: PullArguments, target: &Path, terminal: &Terminal) -> Result<(), Stop> {
    let url = parse_url(arguments.uri()).map_err(|error| Stop::usage(error.to_string()))?;
    arguments.registry.complete()?;
    let fetch = arguments.registry.connect().map_err(source)?.fetch;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let work = tempfile::Builder::new().prefix(".sifbuild-pull-").tempdir_in(parent).map_err(|error| Stop {
        text: format!("cannot make a directory in {}: {}", parent.display(), disk::without_path(error)),
        code: exit::OUTPUT,
    })?;
    let registered = disk::register(work.path());
    let path = work.path().join("image");
    let expected = Expected { most: Some(LARGEST), ..Expected::default() };
    let label = target.file_name().unwrap_or_default().to_string_lossy();
    let judge = Judge::new(&arguments.trust, shown(&url), false, false, terminal)?;
    terminal.observe(Event::Info(format!("Pulling {}", shown(&url))));
    let done = download(fetch.as_ref(), &[url], &path, &expected, terminal, &label).map_err(source)?;
    if !matches!(recognise(&path), Ok(Some(_))) {
        return Err(source(format!("{} is no image: neither a SIF nor a squashfs", done.url)));
    }
    judge.check(&path, &[&done.digest])?;
    place(&path, target, arguments.force)?;
    drop(registered);
    terminal.observe(Event::Info(format!("Pull complete: {} ({})", target.display(), done.digest)));
    Ok(())
}

/// The store, or a temporary one beside the temporary files.
struct Cache {
    root: PathBuf,
    limit: Limit,
    began: SystemTime,
    store: Store,
    temporary: Option<tempfile::TempDir>,
}

impl Cache {
    fn open(arguments: &PullArguments) -> Result<Cache, Stop> {
        let output = |text: String| Stop { text, code: exit::OUTPUT };
        let temporary = match arguments.disable_cache {
            true => {
                let parent = arguments.tmpdir.clone().unwrap_or_else(std::env::temp_dir);
                let made = tempfile::Builder::new().prefix("sifbuild-").tempdir_in(&parent);
                Some(made.map_err(|error| {
                    output(format!("cannot make a directory in {}: {}", parent.display(), disk::without_path(error)))
                })?)
            }
            false => None,
        };
        let root = match &temporary {
            Some(directory) => directory.path().to_path_buf(),
            None => session::cache_directory(arguments.cache_dir.as_deref()),
        };
        let (limit, _) = cache::limit(&root).map_err(|error| Stop::usage(error.to_string()))?;
        let began = SystemTime::now();
        let store = Store::open(&root, &session::store_mode()).map_err(|error| output(error.to_string()))?;
        Ok(Cache { root, limit, began, store, temporary })
    }

    /// A pull fills the cache as a build does.
    fn close(self, terminal: &Terminal) {
        let grown = self.temporary.is_none() && self.store.has_grown();
        drop(self.store);
        if grown {
            cache::keep_within(self.limit, &self.root, &session::store_mode(), self.began, terminal);
        }
    }
}

/// Gives the image its name and mode; complete or not at all.
fn place(image: &Path, target: &Path, replace: bool) -> Result<(), Stop> {
    let output = |error: disk::Error| Stop {
        code: if matches!(error, disk::Error::Exists(_)) { exit::TARGET } else { exit::OUTPUT },
        text: error.to_string(),
    };
    let mut file = AtomicFile::create(target, 0o755).map_err(output)?;
    let copied = File::open(image).and_then(|mut from| disk::copy_file(&mut from, file.file_mut()));
    copied.map_err(|error| Stop { text: format!("cannot write {}: {error}", target.display()), code: exit::OUTPUT })?;
    file.commit(replace).map_err(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_apptainer_names_them() {
        for (uri, name) in [
            ("oras://r.example/a/alpine:3.20", "alpine_3.20.sif"),
            ("oras://r.example/a/alpine", "alpine_latest.sif"),
            ("oras://r.example/a/alpine@sha256:12", "alpine@sha256_12.sif"),
            ("docker://alpine", "alpine_latest.sif"),
            ("library://e/c/n:one,two", "n_one.sif"),
            ("https://h.example/d/image.sif?token=x", "image.sif"),
        ] {
            assert_eq!(file_name(uri), name, "{uri}");
        }
    }
}
