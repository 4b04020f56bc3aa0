//! Pinning: everything that a build wants to know of the world, asked once, before anything is decided.

use super::copy::Host;
use super::glob::{self};
use super::{BuildError, Engine, Options, trust};
use crate::agent::packages::Kept;
use crate::agent::{ImageBase, arch, busybox, debian, docker, library, local, oci, oras, yum};
use crate::deb::pin::DebianPin;
use crate::definition::{Bootstrap, Definition, FileBase, FileEntry, Stage};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::fetch::library::LibraryReference;
use crate::oci::reference::Reference;
use crate::pins::{BasePin, LocalKind, Pins, StagePins, question};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Asks for all stages. `lock` answers what it can.
pub fn pin(definition: &Definition, lock: &Pins, engine: &Engine<'_>, options: &Options) -> Result<Pins, BuildError> {
    let mut pins = Pins::default();
    for stage in &definition.stages {
        let question = question(&stage.bootstrap, options.arch);
        trust::check_source(definition, stage, options)?;
        let mut fresh = false;
        let fault = |cause: String| BuildError::Base { place: definition.place(stage.span), cause };
        let moves = |base: &&BasePin| base.packages().iter().any(|(name, ..)| options.moving.contains(*name));
        let base = match pins.recall(&question).or_else(|| lock.recall(&question)) {
            Some(base) if pins.recall(&question).is_none() && moves(&base) => {
                engine.take(base, false).map_err(fault)?;
                pin_base(definition, stage, engine, &keeping(base, engine, options))?
            }
            Some(base) => base.clone(),
            None if options.locked_by.is_some() && !matches!(stage.bootstrap, Bootstrap::Scratch) => {
                let lock = options.locked_by.clone().unwrap_or_default();
                return Err(BuildError::NotLocked { place: definition.place(stage.span), lock });
            }
            None => match kept_answer(&question, engine, options) {
                Some(base) => base,
                None => {
                    let base = pin_base(definition, stage, engine, options)?;
                    engine.store.keep_answer(&question, &lock_of(&question, &base));
                    fresh = true;
                    base
                }
            },
        };
        engine.take(&base, true).map_err(fault)?;
        trust::check(definition, stage, &base, fresh, engine, options)?;
        if let BasePin::Local { path, kind: LocalKind::Sif, digest } = &base {
            local::check_opens(&options.directory.join(path), digest, &engine.digests, options.unlocking.as_ref())
                .map_err(|error| fault(error.to_string()))?;
        }
        let host: Vec<&FileEntry> =
            stage.files.iter().filter(|block| block.from.is_none()).flat_map(|block| &block.entries).collect();
        let app = stage.apps.iter().flat_map(|app| &app.files).map(|entry| {
            let source = entry.source.clone();
            (source.clone(), digest_host(&[options.directory.join(source)]))
        });
        let files: BTreeMap<String, Digest> =
            host.iter().filter_map(|entry| Some((entry.source.clone(), pin_file(entry, options)?))).collect();
        let app_files = app.filter_map(|(source, digest)| Some((source, digest?))).collect();
        pins.stages.push(StagePins { question, base, files, app_files });
    }
    Ok(pins)
}

/// Options under which the packages of a base stay as they are, except those that move.
fn keeping(base: &BasePin, engine: &Engine<'_>, options: &Options) -> Options {
    let packages = base.packages().into_iter().filter(|(name, ..)| !options.moving.contains(*name));
    let versions = packages.map(|(name, version, arch)| (name.to_owned(), version.to_owned(), arch.to_owned()));
    let lines = match base {
        BasePin::Debian { lines } | BasePin::Rpm { lines } | BasePin::Pacman { lines } => lines.clone(),
        _ => Vec::new(),
    };
    let (versions, moving, blobs) = (versions.collect(), options.moving.clone(), engine.store.blobs());
    let kept = Some(Kept { versions, moving, lines, blobs });
    let mut options = options.clone();
    (options.debian.kept, options.yum.kept) = (kept.clone(), kept);
    if let BasePin::Debian { lines } = base
        && let Ok(pin) = DebianPin::parse(lines)
    {
        (options.debian.variant, options.debian.components) = (pin.variant, pin.components);
    }
    options
}

/// Offline, the latest answer to the same question serves.
fn kept_answer(question: &str, engine: &Engine<'_>, options: &Options) -> Option<BasePin> {
    let text = options.offline.then(|| engine.store.answer(question)).flatten()?;
    Pins::parse(&text).ok()?.recall(question).cloned()
}

fn lock_of(question: &str, base: &BasePin) -> String {
    let (files, app_files) = (BTreeMap::new(), BTreeMap::new());
    Pins { stages: vec![StagePins { question: question.to_owned(), base: base.clone(), files, app_files }] }.lock()
}

fn pin_base(
    definition: &Definition,
    stage: &Stage,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<BasePin, BuildError> {
    let place = definition.place(stage.span);
    let fault = |cause: String| BuildError::Base { place: place.clone(), cause };
    let offline = |subject: &str| match options.offline {
        true => Err(BuildError::Offline { place: place.clone(), subject: subject.to_owned() }),
        false => Ok(()),
    };
    match &stage.bootstrap {
        Bootstrap::Scratch => Ok(BasePin::Scratch),
        Bootstrap::Docker(base) => {
            offline(&base.from.value)?;
            let pin = docker::pin(base, &options.target(), &engine.registry()?, &engine.store.blobs(), engine.observer)
                .map_err(|error| fault(error.to_string()))?;
            Ok(BasePin::Docker { reference: pin.reference.to_string(), manifest: pin.platform_digest })
        }
        Bootstrap::Oci(base)
        | Bootstrap::OciArchive(base)
        | Bootstrap::DockerArchive(base)
        | Bootstrap::DockerDaemon(base) => {
            let image = examine_oci(&stage.bootstrap, base, engine, options).map_err(fault)?;
            Ok(BasePin::OciLayout { source: base.from.value.clone(), manifest: image.manifest_digest })
        }
        Bootstrap::Localimage(base) => {
            let path = options.directory.join(&base.from.value);
            let (kind, digest) = local::pin(&path, &engine.digests).map_err(|error| fault(error.to_string()))?;
            Ok(BasePin::Local { path: base.from.value.clone(), kind, digest })
        }
        Bootstrap::Oras(base) => {
            offline(&base.from.value)?;
            let (registry, blobs) = (engine.registry()?, engine.store.blobs());
            let pin = oras::pin(&base.from.value, &options.target(), &registry, &blobs, engine.observer)
                .map_err(|error| fault(error.to_string()))?;
            Ok(BasePin::Oras { reference: pin.reference.to_string(), manifest: pin.manifest, digest: pin.digest })
        }
        Bootstrap::Library(base) => {
            offline(&base.from.value)?;
            let (header, settings) = (base.library.as_deref(), engine.library()?);
            let pin = library::pin(&base.from.value, header, options.arch, settings, engine.fetch()?, engine.observer)
                .map_err(|error| fault(error.to_string()))?;
            engine.sizes.borrow_mut().extend(pin.size.map(|size| (pin.digest.to_string(), size)));
            Ok(BasePin::Library { reference: pin.reference.to_string(), url: pin.url, digest: pin.digest })
        }
        Bootstrap::Busybox { mirror_url } => {
            offline(&mirror_url.value)?;
            let digest = busybox::pin(&mirror_url.value, &engine.store.blobs(), engine.fetch()?, engine.observer)
                .map_err(|error| fault(error.to_string()))?;
            Ok(BasePin::Busybox { url: mirror_url.value.clone(), digest })
        }
        Bootstrap::Debootstrap(base) => {
            offline(&base.os_version.value)?;
            let pin = debian::pin(base, &options.debian, options.arch, engine.fetch()?, engine.observer)
                .map_err(|error| fault(error.to_string()))?;
            Ok(BasePin::Debian { lines: pin.lines() })
        }
        Bootstrap::Yum(base) => {
            offline(&base.mirror_url.value)?;
            let pin = yum::pin(base, &options.yum, options.arch, engine.fetch()?, engine.observer)
                .map_err(|error| fault(error.to_string()))?;
            Ok(BasePin::Rpm { lines: pin.lines() })
        }
        Bootstrap::Arch(base) => {
            offline("the repositories of Arch")?;
            let pin = arch::pin(base, &options.yum, options.arch, engine.fetch()?, engine.observer)
                .map_err(|error| fault(error.to_string()))?;
            Ok(BasePin::Pacman { lines: pin.lines() })
        }
        Bootstrap::Absent(agent) => Err(BuildError::AgentAbsent {
            place: definition.place(agent.span),
            agent: agent.value.clone(),
            remedy: remedy(&agent.value),
        }),
    }
}

/// The file, on this host, of a base that is a SIF elsewhere; and its digest.
pub fn bring(base: &BasePin, engine: &Engine<'_>, options: &Options) -> Result<(PathBuf, Digest), String> {
    engine.take(base, false)?;
    let blobs = engine.store.blobs();
    let told = |error: &dyn std::fmt::Display| error.to_string();
    match base {
        BasePin::Oras { reference, manifest, digest } => {
            let reference = Reference::parse(reference).map_err(|error| told(&error))?;
            let pin = oras::OrasPin { reference, manifest: manifest.clone(), digest: digest.clone() };
            let registry = engine.registry().map_err(|error| told(&error))?;
            let path = oras::provide(&pin, &registry, &blobs, &engine.digests, engine.observer)
                .map_err(|error| told(&error))?;
            Ok((path, pin.digest))
        }
        BasePin::Library { reference, url, digest } => {
            let reference = LibraryReference::parse(reference).map_err(|error| told(&error))?;
            let pin = library::LibraryPin { reference, url: url.clone(), digest: digest.clone(), size: None };
            let settings = engine.library().map_err(|error| told(&error))?;
            let fetch = engine.fetch().map_err(|error| told(&error))?;
            let path = library::provide(&pin, options.arch, settings, fetch, &blobs, &engine.digests, engine.observer)
                .map_err(|error| told(&error))?;
            Ok((path, pin.digest))
        }
        other => Err(format!("a base of the kind {} is no SIF elsewhere", other.agent())),
    }
}

/// The local source that an OCI agent's header names; relative paths start where `build` was called.
pub fn oci_source(bootstrap: &Bootstrap, base: &FileBase) -> oci::Source {
    let transport = match bootstrap {
        Bootstrap::Oci(_) => oci::Transport::Oci,
        Bootstrap::OciArchive(_) => oci::Transport::OciArchive,
        Bootstrap::DockerArchive(_) => oci::Transport::DockerArchive,
        _ => oci::Transport::DockerDaemon,
    };
    oci::Source::parse(transport, base.from.value.trim())
}

/// Manifest and config of the image that an OCI agent's header names. Its layers may be gone: what had to be unpacked was removed again.
pub fn examine_oci(
    bootstrap: &Bootstrap,
    base: &FileBase,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<ImageBase, String> {
    let work = tempfile::Builder::new().prefix("oci-").tempdir_in(engine.store.work());
    let work = work.map_err(|error| error.to_string())?;
    let (target, source) = (options.target(), oci_source(bootstrap, base));
    let context = oci::Context { target: &target, work: work.path(), docker_host: options.docker_host.as_deref() };
    let image = oci::open(&source, context).map_err(|error| error.to_string())?;
    engine.examined.borrow_mut().insert(source.to_string(), image.layers.clone());
    Ok(image)
}

fn remedy(agent: &str) -> &'static str {
    match agent {
        "zypper" => "begin from an image of that distribution with `Bootstrap: docker`",
        "shub" => "pull the image with another tool and use `Bootstrap: localimage`",
        _ => "build that image with its own tool, save it as an OCI archive and use `Bootstrap: oci-archive`",
    }
}

/// Digest of all that a host entry stands for now; `None` when something cannot be read, which the copy will tell.
fn pin_file(entry: &FileEntry, options: &Options) -> Option<Digest> {
    let host = Host { directory: &options.directory };
    let pattern = glob::expand_variables(&entry.source).ok()?;
    let paths: Vec<_> = glob::expand(&pattern, &host).iter().map(|path| host.place(path)).collect();
    digest_host(&paths)
}

fn digest_host(paths: &[std::path::PathBuf]) -> Option<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for path in paths {
        hash_path(path, &mut hasher, 0).ok()?;
    }
    Some(hasher.finish())
}

fn hash_path(path: &Path, hasher: &mut Hasher, depth: usize) -> io::Result<()> {
    if depth > 256 {
        return Err(io::Error::other("symbolic links that contain each other"));
    }
    let metadata = fs::metadata(path)?;
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name);
    hasher.update(&metadata.mode().to_le_bytes());
    if metadata.is_dir() {
        let mut children: Vec<_> =
            fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?.iter().map(fs::DirEntry::path).collect();
        children.sort();
        hasher.update(&(children.len() as u64).to_le_bytes());
        for child in children {
            hash_path(&child, hasher, depth + 1)?;
        }
    } else if metadata.is_file() {
        hasher.update(&metadata.len().to_le_bytes());
        let mut file = fs::File::open(path)?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match io::Read::read(&mut file, &mut buffer)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
    }
    Ok(())
}
