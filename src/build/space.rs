//! How much room a build needs, told before it begins.
//!
//! Known are: the sizes of blobs that are not in the store yet; of local images each file; of all else the compressed size, and of Debian packages what they say. From
//! that follow two numbers for each need. The *least* is what it takes at any rate: a build is refused when not even that is there.
//! What it takes *probably* is only told. The factors are these:
//!
//! | | least | probably |
//! |---|---|---|
//! | files of an OCI image, unpacked | nine tenths of its compressed layers, half of others | 2.5 times gzip, 3 times zstd, 4 times others |
//! | files of a SIF that is not here yet, or is encrypted | nine tenths of its size | 2.5 times its size |
//! | files of Debian packages, unpacked | `Installed-Size` of the index, else the package | the same, else 4 times the package |
//! | the image | half of the compressed layers or packages, a quarter of a SIF | their size |
//!
//! Why the least is so low: upper layers may hide what lower ones have, bases may be badly compressed, and what does not compress grows by it. What scripts write is not
//! known. Files and directories (inodes) are counted where a base's index is here: that of a SIF, a squashfs, a directory.

pub mod room;

use super::full::Role;
use super::output::Form;
use super::pin::oci_source;
use super::{BuildError, Engine, Options};
use crate::agent::docker::{self, DockerPin};
use crate::agent::{local, oras};
use crate::archive::compress::Compression;
use crate::deb::pin::DebianPin;
use crate::definition::{Bootstrap, Definition};
use crate::digest::Digest;
use crate::event::Event;
use crate::pins::{BasePin, LocalKind};
use crate::plan::{Action, Decision, Plan, Step, Verdict};
use crate::rpm::pin::RpmPin;
use crate::store::{Contents, Held, size_on_disk};
use crate::tree::{Kind, Node, Tree};
use std::collections::BTreeSet;
use std::path::Path;

/// Bytes of a file system's blocks, mostly.
const UNIT: u64 = 4096;
/// Files and directories that a Debian package has at any rate: its own directory, the copyright, dpkg's list and sums.
const INODES_OF_PACKAGE: u64 = 4;

/// Bytes, and files and directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub bytes: u64,
    pub inodes: u64,
}

/// What one part of the work needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub role: Role,
    /// As `the files of alpine, unpacked`.
    pub what: String,
    pub least: Amount,
    /// Bytes.
    pub likely: u64,
}

/// What is known of a base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Base {
    name: String,
    /// That have to be downloaded: exact.
    missing: Amount,
    /// Bytes of an archive that is written out as a whole, to be read.
    copied: u64,
    /// Its files, unpacked.
    least: Amount,
    likely: u64,
    /// Bytes of an image of it.
    least_packed: u64,
    packed: u64,
}

/// Refuses a build for which there is not enough room. Nothing has been fetched or unpacked by then.
pub fn check(
    definition: &Definition,
    plan: &Plan,
    decisions: &[Decision],
    engine: &Engine<'_>,
    options: &Options,
) -> Result<(), BuildError> {
    let needs = needs(definition, plan, decisions, engine, options)?;
    for need in &needs {
        engine.observer.observe(Event::Detail(format!("Room for {need}")));
    }
    match room::compare(&needs, engine, options) {
        room::Verdict::Enough => Ok(()),
        room::Verdict::Doubtful(text) => {
            engine.observer.observe(Event::Warning(text));
            Ok(())
        }
        room::Verdict::TooLittle(shortage) => Err(BuildError::NoRoom(Box::new(shortage))),
    }
}

fn needs(
    definition: &Definition,
    plan: &Plan,
    decisions: &[Decision],
    engine: &Engine<'_>,
    options: &Options,
) -> Result<Vec<Need>, BuildError> {
    let executes = super::executes(definition, options.notest);
    let mut needs = Vec::new();
    for (step, decision) in plan.steps.iter().zip(decisions) {
        let Action::Base { pin } = &step.action else { continue };
        let (runs, last) = (decision.verdict == Verdict::Run, step.stage + 1 == plan.stages.len());
        if !runs && !last {
            continue;
        }
        let is_archive = matches!(pin, BasePin::Docker { .. } | BasePin::OciLayout { .. } | BasePin::Debian { .. });
        let streams = !executes && plan.stages.len() == 1 && options.form == Form::Sif;
        let unpacked = runs && (executes || (is_archive && !streams));
        let unpacked_as_target = last && options.form == Form::Sandbox;
        let indexed = unpacked || unpacked_as_target;
        let examined = Examination { definition, step, engine, options, runs, indexed };
        let Some(base) = examined.base(pin, &plan.stages[step.stage].bootstrap)? else { continue };
        needs.extend(base.needs(runs, unpacked, last, options));
    }
    needs.retain(|need| need.least != Amount::default() || need.likely > 0);
    Ok(needs)
}

impl Base {
    fn needs(&self, runs: bool, unpacked: bool, last: bool, options: &Options) -> Vec<Need> {
        let name = &self.name;
        let store = if options.disable_cache { Role::Temporary } else { Role::Cache };
        let exact = |what: String, least: Amount| Need { role: store, what, least, likely: least.bytes };
        let files = |role| {
            let what = format!("the files of {name}, unpacked");
            Need { role, what, least: self.least, likely: self.likely.max(self.least.bytes) }
        };
        let mut needs = Vec::new();
        if runs {
            needs.push(exact(format!("the download of {name}"), self.missing));
            needs.push(exact(format!("a copy of {name}"), Amount { bytes: self.copied, inodes: 0 }));
        }
        if unpacked {
            needs.push(files(store));
        }
        match options.form {
            Form::Sandbox if last => needs.push(files(Role::Target)),
            _ if last => {
                let least = Amount { bytes: self.least_packed, inodes: 0 };
                let what = format!("the image on {name}");
                needs.push(Need { role: Role::Target, what, least, likely: self.packed });
            }
            _ => {}
        }
        needs
    }

    /// From its layers: bytes, and how they are compressed.
    fn of_layers(name: String, layers: &[(u64, Compression)]) -> Base {
        let mut base = Base { name, ..Base::default() };
        for (bytes, compression) in layers {
            // Tenths of the bytes: least and likely unpacked, least and likely in an image.
            let tenths = match compression {
                Compression::None => [5, 10, 0, 4],
                Compression::Gzip => [9, 25, 5, 10],
                Compression::Zstd => [9, 30, 5, 10],
                Compression::Xz | Compression::Bzip2 | Compression::Lzma => [9, 40, 5, 12],
            };
            let [least, likely, least_packed, packed] = tenths.map(|count| (bytes / 10).saturating_mul(count));
            base.least.bytes = base.least.bytes.saturating_add(least);
            base.likely = base.likely.saturating_add(likely);
            base.least_packed = base.least_packed.saturating_add(least_packed);
            base.packed = base.packed.saturating_add(packed);
        }
        base
    }

    /// From the size of a SIF or squashfs.
    fn of_squashfs(name: String, size: u64) -> Base {
        Base {
            name,
            least: Amount { bytes: size / 10 * 9, inodes: 0 },
            likely: size.saturating_mul(5) / 2,
            least_packed: size / 4,
            packed: size,
            ..Base::default()
        }
    }
}

/// What a base is looked at for.
struct Examination<'a> {
    definition: &'a Definition,
    step: &'a Step,
    engine: &'a Engine<'a>,
    options: &'a Options,
    /// Its step runs. Of one that is reused is told what is at hand.
    runs: bool,
    /// The number and size of its files matters.
    indexed: bool,
}

impl Examination<'_> {
    /// `None` where nothing can be known; what is wrong with the base is told when it is used.
    fn base(&self, pin: &BasePin, bootstrap: &Bootstrap) -> Result<Option<Base>, BuildError> {
        match (pin, bootstrap) {
            (BasePin::Docker { reference, manifest }, _) => self.registry_image(reference, manifest),
            (
                BasePin::OciLayout { .. },
                Bootstrap::Oci(base)
                | Bootstrap::OciArchive(base)
                | Bootstrap::DockerArchive(base)
                | Bootstrap::DockerDaemon(base),
            ) => Ok(self.local_layers(oci_source(bootstrap, base))),
            (BasePin::Local { path, kind, digest }, _) => {
                let place = self.options.directory.join(path);
                Ok(self.local_image(path.clone(), &place, *kind, digest))
            }
            (BasePin::Oras { reference, manifest, digest }, _) => {
                let size = oras::kept_size(&self.engine.store.blobs(), manifest, digest);
                Ok(self.remote_sif(reference, digest, size))
            }
            (BasePin::Library { reference, digest, .. }, _) => {
                let size = self.engine.sizes.borrow().get(&digest.to_string()).copied();
                Ok(self.remote_sif(reference, digest, size))
            }
            (BasePin::Debian { lines }, _) => Ok(DebianPin::parse(lines).ok().map(|pin| self.packages(&pin))),
            (BasePin::Rpm { lines } | BasePin::Pacman { lines }, _) => {
                Ok(RpmPin::parse(lines).ok().map(|pin| self.rpm_packages(&pin)))
            }
            _ => Ok(None),
        }
    }

    fn registry_image(&self, reference: &str, manifest: &Digest) -> Result<Option<Base>, BuildError> {
        let blobs = self.engine.store.blobs();
        let fault = |cause: String| BuildError::Base {
            place: format!("{}:{}", self.definition.source.name, self.step.line),
            cause,
        };
        let image = match docker::kept_manifest(&blobs, manifest) {
            Some(image) => image,
            None if !self.runs => return Ok(None),
            // A lock file's answer: the registry was not asked for it in this build.
            None => {
                let pin = DockerPin::chosen(reference, manifest).map_err(|error| fault(error.to_string()))?;
                docker::manifest(&pin, &self.engine.registry()?, &blobs, self.engine.observer)
                    .map_err(|error| fault(error.to_string()))?
            }
        };
        let Ok(layers) = image.filesystem_layers() else { return Ok(None) };
        let sizes: Vec<_> = layers.iter().map(|(layer, compression)| (layer.size, *compression)).collect();
        let mut base = Base::of_layers(reference.to_owned(), &sizes);
        let wanted = layers.iter().map(|(layer, _)| (&layer.digest, layer.size));
        base.missing = missing(&blobs, wanted);
        Ok(Some(base))
    }

    /// What was seen when the base was pinned: some archives have to be written out to be looked at.
    fn local_layers(&self, source: crate::agent::oci::Source) -> Option<Base> {
        let examined = self.engine.examined.borrow();
        let layers = examined.get(&source.to_string())?;
        let sizes: Vec<_> = layers.iter().map(|layer| (layer.length, layer.compression)).collect();
        let mut base = Base::of_layers(source.to_string(), &sizes);
        let elsewhere = layers.iter().filter(|layer| layer.file.starts_with(self.engine.store.root()));
        base.copied = elsewhere.map(|layer| layer.length).fold(0, u64::saturating_add);
        Some(base)
    }

    fn local_image(&self, name: String, place: &Path, kind: LocalKind, digest: &Digest) -> Option<Base> {
        let size = std::fs::metadata(place).ok()?.len();
        let mut base = match kind {
            LocalKind::Sandbox => Base { name, ..Base::default() },
            LocalKind::Sif | LocalKind::Squashfs => Base::of_squashfs(name, size),
        };
        if self.indexed
            // Why no key: to open an encrypted image takes seconds; its size has to do.
            && let Ok(found) = local::provide(place, kind, digest, &self.engine.digests, None)
        {
            let files = measure(&found.held, place);
            (base.least, base.likely) = (files, files.bytes);
        }
        Some(base)
    }

    fn remote_sif(&self, reference: &str, digest: &Digest, size: Option<u64>) -> Option<Base> {
        let blobs = self.engine.store.blobs();
        let place = docker::blob_path(&blobs, digest);
        let size = size.or_else(|| std::fs::metadata(&place).ok().map(|found| found.len()))?;
        let missing = missing(&blobs, [(digest, size)].into_iter());
        let name = reference.to_owned();
        match missing == Amount::default() {
            true => self.local_image(name, &place, LocalKind::Sif, digest),
            false => Some(Base { missing, ..Base::of_squashfs(name, size) }),
        }
    }

    fn packages(&self, pin: &DebianPin) -> Base {
        let total = pin.packages.iter().map(|package| package.size).fold(0, u64::saturating_add);
        let unpacked = |batches: u32, factor: u64| {
            let packages = pin.packages.iter().filter(|package| package.batch < batches);
            let bytes = packages.map(|package| match package.installed_size {
                Some(size) => size.saturating_mul(1024),
                None => package.size.saturating_mul(factor),
            });
            bytes.fold(0, u64::saturating_add)
        };
        let wanted = pin.packages.iter().map(|package| (&package.digest, package.size));
        Base {
            name: format!("Debian's {}", pin.codename),
            missing: missing(&self.engine.store.blobs(), wanted),
            // The core is written as one archive first.
            copied: unpacked(1, 1),
            least: Amount {
                bytes: unpacked(u32::MAX, 1),
                inodes: INODES_OF_PACKAGE.saturating_mul(pin.packages.len() as u64),
            },
            likely: unpacked(u32::MAX, 4),
            least_packed: total / 2,
            packed: total,
        }
    }
}

impl Examination<'_> {
    fn rpm_packages(&self, pin: &RpmPin) -> Base {
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        let installed = || pin.packages.iter().filter(|package| package.reason.is_some());
        let total = sum(&mut installed().map(|package| package.size));
        let unpacked = sum(&mut installed().map(|package| package.installed_size));
        let digests: Vec<(Digest, u64)> =
            pin.packages.iter().filter_map(|package| Some((package.checksum.digest()?, package.size))).collect();
        Base {
            name: "the packages".to_owned(),
            missing: missing(&self.engine.store.blobs(), digests.iter().map(|(digest, size)| (digest, *size))),
            // The bootstrap root is written as an archive, and unpacked.
            copied: sum(&mut pin
                .packages
                .iter()
                .filter(|package| package.bootstrap)
                .map(|package| package.installed_size))
            .saturating_mul(2),
            least: Amount { bytes: unpacked, inodes: INODES_OF_PACKAGE.saturating_mul(installed().count() as u64) },
            likely: unpacked,
            least_packed: total / 2,
            packed: total,
        }
    }
}

/// Blobs that are not in the store; each counts once.
fn missing<'a>(blobs: &Path, wanted: impl Iterator<Item = (&'a Digest, u64)>) -> Amount {
    let mut amount = Amount::default();
    let mut seen = BTreeSet::new();
    for (digest, size) in wanted {
        let here = std::fs::metadata(docker::blob_path(blobs, digest)).is_ok_and(|found| found.len() == size);
        if !here && seen.insert(digest.to_string()) {
            amount.bytes = amount.bytes.saturating_add(size);
            amount.inodes += 1;
        }
    }
    amount
}

/// What the files of a local image take when they are written out.
fn measure(held: &Held, place: &Path) -> Amount {
    match &held.contents {
        Contents::Squashfs(image) => {
            let mut amount = of_tree(&image.tree);
            amount.bytes = amount.bytes.saturating_sub(image.holes());
            amount
        }
        _ => {
            let inode = |entry: &&crate::tree::Entry| matches!(entry.change, crate::tree::Change::Put(..));
            let inodes = held.layer.entries.iter().filter(inode).count() as u64;
            Amount { bytes: size_on_disk(&held.layer, place), inodes }
        }
    }
}

/// Each file in whole blocks, each directory one.
fn of_tree(tree: &Tree) -> Amount {
    let mut files: Vec<_> = tree.walk().into_iter().map(|(_, id)| id).collect();
    files.sort_unstable();
    files.dedup();
    let mut amount = Amount { bytes: 0, inodes: files.len() as u64 };
    for id in files {
        let node = &tree.inode(id).node;
        amount.bytes = amount.bytes.saturating_add(match node {
            Node::File { size, .. } => size.next_multiple_of(UNIT),
            _ if node.kind() == Kind::Directory => UNIT,
            _ => 0,
        });
    }
    amount
}

#[cfg(test)]
mod tests;
