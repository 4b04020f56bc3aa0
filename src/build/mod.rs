//! The work: a definition becomes an image.
//!
//! [`build`] is the walk on one screen. Only *pin* asks the world, only *perform* and *pack* change it.
//!
//! # Why
//! The design has each script in a process that enters its namespaces by itself. Here the whole build lives in the user namespace
//! (entered by `cli` before any thread starts), because extraction, `chown`, packing and clean-up all need the namespace's
//! ids: files of a subordinate range can be neither read nor removed from outside.

mod copy;
mod early;
mod encryption;
mod epoch;
mod error;
mod filesystem;
mod full;
pub mod glob;
mod locate;
mod oci_layout;
mod output;
mod pack;
mod perform;
mod pin;
mod script;
mod space;
mod supply;
pub mod trust;

pub use error::{BuildError, Failure, ScriptFailure};
pub use output::{Form, check_target};
pub use supply::collect;

use crate::agent::local::{LocalError, Pinned};
use crate::agent::vendor::Vendor;
use crate::arch::Arch;
use crate::definition::{Bootstrap, Definition};
use crate::event::{Event, Observer};
use crate::fetch::auth::Credentials;
use crate::fetch::http::Fetch;
use crate::fetch::library;
use crate::fetch::registry::Registry;
use crate::fetch::registry::configuration::Configuration;
use crate::luks::Kdf;
use crate::oci::manifest::Target;
use crate::pins::Pins;
use crate::plan::{self, Decision, Plan, PlanOptions, Sections};
use crate::sandbox::{Bind, Fakeroot, Scope};
use crate::sif::signature::Signatory;
use crate::sif::wrapped_key::ImageKey;
use crate::skeleton::Timestamp;
use crate::source::Span;
use crate::squashfs::Compression;
use crate::store::{LayerBlob, Ownership, Store};
use crate::tree::Tree;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// What a build works with: effects, no decisions.
pub struct Engine<'a> {
    pub store: &'a Store,
    pub observer: &'a dyn Observer,
    pub id_mode: plan::IdMode,
    /// How far scripts are shown owners and devices that the user namespace does not have; `None`: not at all.
    pub fakeroot: Option<Scope>,
    /// Makes the network's client when it is first needed: it starts threads.
    pub connect: &'a dyn Fn() -> Result<Connections, BuildError>,
    pub connections: OnceCell<Connections>,
    pub digests: crate::agent::local::Digests,
    /// Layers of images on this host that were looked at, by their source.
    pub examined: RefCell<HashMap<String, Vec<LayerBlob>>>,
    /// Bytes of files elsewhere, by their digest, as far as pinning learned them.
    pub sizes: RefCell<HashMap<String, u64>>,
    /// The files that bases are read from while the build lasts.
    pub bases: RefCell<Vec<InUse>>,
    /// Asks keyservers for keys of signatures.
    pub ask: Option<trust::Ask<'a>>,
    /// Has files of the bases, by their checksums.
    pub vendor: Option<Vendor>,
}

/// A file that a stage's base is read from.
pub struct InUse {
    pub stage: usize,
    /// The stage's line, for messages.
    pub place: String,
    pub file: Pinned,
}

impl Engine<'_> {
    /// Invariant: called after bases were read, and before anything made of them is kept: their bytes are still the pinned ones.
    pub fn check_bases(&self) -> Result<(), BuildError> {
        let check = |base: &InUse| {
            let fault = |error: LocalError| BuildError::Base { place: base.place.clone(), cause: error.to_string() };
            base.file.check().map_err(fault)
        };
        self.bases.borrow().iter().try_for_each(check)
    }
}

/// The network, and who this user is there.
pub struct Connections {
    pub fetch: Box<dyn Fetch>,
    pub credentials: Credentials,
    pub configuration: Configuration,
    pub no_https: bool,
    pub library: library::Settings,
}

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    pub target: PathBuf,
    pub form: Form,
    pub force: bool,
    pub notest: bool,
    pub sections: Sections,
    pub arch: Arch,
    pub variant: Option<String>,
    pub binds: Vec<Bind>,
    pub on_fail: OnFail,
    pub keep_failed: bool,
    /// The store is a temporary directory.
    pub disable_cache: bool,
    pub reuse: bool,
    pub offline: bool,
    pub compression: Compression,
    pub block_size: u32,
    pub threads: usize,
    /// Whether blocks are made while scripts run.
    pub background: bool,
    /// The latest time in the image, in seconds since 1970: `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// Where `epoch` is not given, it is the time at which the base was made.
    pub reproducible: bool,
    pub now: Timestamp,
    /// Where `build` was called.
    pub directory: PathBuf,
    /// The caller's environment.
    pub environment: Vec<(OsString, OsString)>,
    pub docker_host: Option<String>,
    pub debian: crate::agent::debian::Options,
    pub yum: crate::agent::yum::Options,
    /// Layers downloaded at once.
    pub concurrency: usize,
    /// What is asked of bases.
    pub trust: trust::Trust,
    /// What opens encrypted bases.
    pub unlocking: Option<crate::agent::encrypted::Unlocking>,
    /// The image's root filesystem is encrypted.
    pub encryption: Option<Encryption>,
    /// What signs the image.
    pub signatory: Option<Arc<Signatory>>,
    /// Base pins of a lock file.
    pub lock: Pins,
    /// The lock file that must answer for all bases.
    pub locked_by: Option<PathBuf>,
    /// Packages of the lock's bases that are asked for anew, by name; all others stay where they can.
    pub moving: BTreeSet<String>,
    /// Archives of old packages, asked after the mirrors. With a slash at the end.
    pub vaults: Vec<String>,
}

/// How an image is encrypted.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// A PEM key is one that [`crate::sif::wrapped_key::check_public`] took.
    pub key: ImageKey,
    /// How a passphrase is stretched. A wrapped key needs that not.
    pub kdf: Kdf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFail {
    Clean,
    Shell,
}

/// Builds `definition`.
pub fn build(definition: &Definition, engine: &Engine<'_>, options: &Options) -> Result<(), BuildError> {
    walk(definition, engine, options).map_err(|error| full::explain(error, None, engine, options))
}

fn walk(definition: &Definition, engine: &Engine<'_>, options: &Options) -> Result<(), BuildError> {
    output::check_target(&options.target, options.form, options.force)?;
    engine.observer.observe(Event::Info("Starting build...".to_owned()));
    let (plan, decisions, epoch) = prepare(definition, engine, options)?;
    let options = &Options { epoch, ..options.clone() };
    space::check(definition, &plan, &decisions, engine, options)?;
    perform::perform(definition, &plan, &decisions, engine, options)
}

/// The plan of `definition` and what would become of each step.
pub fn decide(
    definition: &Definition,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<(Plan, Vec<Decision>), BuildError> {
    prepare(definition, engine, options).map(|(plan, decisions, _)| (plan, decisions))
}

/// The exact bases: what a lock file holds.
pub fn lock(definition: &Definition, engine: &Engine<'_>, options: &Options) -> Result<Pins, BuildError> {
    pin::pin(definition, &options.lock, engine, options)
}

/// Pins, plans, and settles what time the image is of.
fn prepare(
    definition: &Definition,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<(Plan, Vec<Decision>, Option<i64>), BuildError> {
    let pins = pin::pin(definition, &options.lock, engine, options)?;
    let epoch = match options.epoch {
        None if options.reproducible => Some(epoch::of_base(definition, &pins, engine, options)?),
        epoch => epoch,
    };
    let options = &Options { epoch, ..options.clone() };
    let plan = plan::plan(definition, &pins, &options.plan(engine.id_mode, engine.fakeroot));
    let decisions = prune(definition, &plan, engine, options);
    Ok((plan, decisions, epoch))
}

/// Where nothing is executed, archives stream again: that is faster than to keep them unpacked, and gives the same bytes each time.
fn prune(definition: &Definition, plan: &Plan, engine: &Engine<'_>, options: &Options) -> Vec<Decision> {
    let reuse = options.reuse && executes(definition, options.notest);
    plan::prune(plan, &|key| reuse && engine.store.recalls(&key.0))
}

/// Whether a build of `definition` executes anything, so that it needs a sandbox.
pub fn executes(definition: &Definition, notest: bool) -> bool {
    definition.stages.iter().any(|stage| {
        let scripts = [&stage.pre, &stage.setup, &stage.post];
        let base = matches!(
            stage.bootstrap,
            Bootstrap::Debootstrap(_) | Bootstrap::Yum(_) | Bootstrap::Arch(_) | Bootstrap::Busybox { .. }
        );
        base || !stage.apps.is_empty()
            || scripts.iter().any(|script| script.is_some())
            || (stage.test.is_some() && !notest)
    })
}

impl Engine<'_> {
    fn connections(&self) -> Result<&Connections, BuildError> {
        if self.connections.get().is_none() {
            let made = (self.connect)()?;
            let _ = self.connections.set(made);
        }
        Ok(self.connections.get().expect("was set just now"))
    }

    pub fn fetch(&self) -> Result<&dyn Fetch, BuildError> {
        Ok(self.connections()?.fetch.as_ref())
    }

    /// Which library is meant where a base names none.
    pub fn library(&self) -> Result<&library::Settings, BuildError> {
        Ok(&self.connections()?.library)
    }

    pub fn registry(&self) -> Result<Registry<'_>, BuildError> {
        let Connections { fetch, credentials, configuration, no_https, .. } = self.connections()?;
        Ok(Registry::new(fetch.as_ref(), credentials.clone(), configuration.clone(), *no_https))
    }

    /// What scripts on `tree` are told of owners that the user namespace does not have.
    pub fn fakeroot(&self, tree: &Tree) -> Option<Fakeroot> {
        self.fakeroot.map(|scope| Fakeroot::new(scope, tree))
    }

    pub fn ownership(&self) -> Ownership {
        match self.id_mode {
            plan::IdMode::Root | plan::IdMode::Range => Ownership::Real,
            plan::IdMode::Single => Ownership::IndexOnly,
        }
    }
}

impl Options {
    pub fn target(&self) -> Target {
        Target::new(self.arch, self.variant.as_deref())
    }

    fn plan(&self, id_mode: plan::IdMode, fakeroot: Option<Scope>) -> PlanOptions {
        let mut options = PlanOptions::new(self.arch, id_mode);
        options.fakeroot = fakeroot.map(Scope::name);
        options.sections = self.sections.clone();
        options.notest = self.notest;
        options.binds = self
            .binds
            .iter()
            .map(|bind| format!("{}:{}:{}", bind.source.display(), bind.destination.display(), bind.read_only))
            .collect();
        let text = |value: OsString| value.to_string_lossy().into_owned();
        // Compat: proxies and the terminal decide no content.
        options.environment = script::passed(&self.environment)
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .filter(|(name, _)| name != "TERM" && !name.to_ascii_lowercase().ends_with("_proxy"))
            .chain(self.epoch.map(|epoch| (script::EPOCH.to_owned(), epoch.to_string())))
            .collect();
        options.test_environment = Some(script::digest_for_test(&self.environment));
        options
    }
}

impl Definition {
    /// `app.def:12`, for messages.
    pub fn place(&self, span: Span) -> String {
        format!("{}:{}", self.source.name, self.source.position(span.start).0)
    }
}
