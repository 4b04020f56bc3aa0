//! Where the bytes of bases come from: the store, the vendor directory, the mirror, the vaults, in this order and always by checksum.

use super::pin::{self, bring};
use super::{BuildError, Engine, Options};
use crate::agent::docker::DockerPin;
use crate::agent::packages::Elsewhere;
use crate::agent::vendor::{Named, Place, named};
use crate::agent::{arch, busybox, debian, docker, yum};
use crate::deb::pin::DebianPin;
use crate::definition::{Bootstrap, Definition};
use crate::event::Event;
use crate::pacman::PacmanPin;
use crate::pins::{BasePin, Pins};
use crate::rpm::pin::RpmPin;

impl Engine<'_> {
    /// Puts what the vendor directory has of a base into the store; `documents`: only what says of what an image is made.
    pub fn take(&self, base: &BasePin, documents: bool) -> Result<(), String> {
        let Some(vendor) = &self.vendor else { return Ok(()) };
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let registry = match vendor.place {
            Place::Registry(_) => Some(self.registry().map_err(|error| told(&error))?),
            _ => None,
        };
        vendor
            .take(base, documents, &self.store.blobs(), registry.as_ref(), self.observer)
            .map_err(|error| told(&error))
    }

    /// What is said and asked of packages that are neither in the store nor at their mirror.
    pub fn elsewhere(&self, options: &Options) -> Elsewhere {
        Elsewhere {
            vaults: options.vaults.clone(),
            vendor: self.vendor.as_ref().map(|vendor| vendor.place.to_string()),
            locked_by: options.locked_by.clone(),
        }
    }
}

/// Brings all that the lock names of the definition's bases into the store, and says what that is.
pub fn collect(
    definition: &Definition,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<(Pins, Vec<Named>), BuildError> {
    let pins = pin::pin(definition, &options.lock, engine, options)?;
    let mut files = Vec::new();
    for (stage, pin) in definition.stages.iter().zip(&pins.stages) {
        let fault = |cause: String| BuildError::Base { place: definition.place(stage.span), cause };
        fetch(&pin.base, &stage.bootstrap, engine, options).map_err(fault)?;
        files.extend(named(&pin.base, &engine.store.blobs()).map_err(|error| fault(error.to_string()))?);
    }
    Ok((pins, files))
}

fn fetch(base: &BasePin, bootstrap: &Bootstrap, engine: &Engine<'_>, options: &Options) -> Result<(), String> {
    engine.take(base, false)?;
    let (blobs, observer) = (engine.store.blobs(), engine.observer);
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let network = || engine.fetch().map_err(|error| told(&error));
    match base {
        BasePin::Scratch => Ok(()),
        BasePin::OciLayout { source: path, .. } | BasePin::Local { path, .. } => {
            observer.observe(Event::Info(format!("{path} is on this host, and is not collected")));
            Ok(())
        }
        BasePin::Docker { reference, manifest } => {
            let pin = DockerPin::chosen(reference, manifest).map_err(|error| told(&error))?;
            let registry = engine.registry().map_err(|error| told(&error))?;
            docker::provide(&pin, &registry, &blobs, options.concurrency, observer)
                .map(drop)
                .map_err(|error| told(&error))
        }
        BasePin::Oras { .. } | BasePin::Library { .. } => bring(base, engine, options).map(drop),
        BasePin::Busybox { url, digest } => {
            busybox::bring(url, digest, &blobs, network()?, observer).map_err(|error| told(&error))
        }
        BasePin::Debian { lines } => {
            let pin = DebianPin::parse(lines).map_err(|error| told(&error))?;
            debian::bring(&pin, &blobs, &engine.elsewhere(options), network()?, observer).map_err(|error| told(&error))
        }
        BasePin::Rpm { lines } => {
            let pin = RpmPin::parse(lines).map_err(|error| told(&error))?;
            if let Bootstrap::Yum(header) = bootstrap {
                yum::present(header, &pin, network()?).map_err(|error| told(&error))?;
            }
            yum::bring(&pin, &blobs, &engine.elsewhere(options), network()?, observer)
                .map(drop)
                .map_err(|error| told(&error))
        }
        BasePin::Pacman { lines } => {
            let pin = PacmanPin::parse(lines).map_err(|error| told(&error))?;
            arch::bring(&pin, &blobs, &engine.elsewhere(options), network()?, observer).map_err(|error| told(&error))
        }
    }
}
