//! The time of an image that is to be the same on every run: that at which its base was made.

use super::pin::{bring, examine_oci};
use super::{BuildError, Engine, Options};
use crate::agent::docker::{self, DockerPin};
use crate::agent::local;
use crate::deb::DebianPin;
use crate::definition::{Bootstrap, Definition};
use crate::pins::{BasePin, LocalKind, Pins};
use crate::rpm::pin::RpmPin;

/// Of the last stage's base, in seconds since 1970; 0 where the base does not say.
///
/// An OCI image says it in its config (`created`), a Debian release in its `Date`, RPM packages when they were built, a SIF in its header, a squashfs in its superblock.
pub fn of_base(
    definition: &Definition,
    pins: &Pins,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<i64, BuildError> {
    let (Some(stage), Some(pin)) = (definition.stages.last(), pins.stages.last()) else { return Ok(0) };
    let fault = |cause: String| BuildError::Base { place: definition.place(stage.span), cause };
    let found = match (&pin.base, &stage.bootstrap) {
        (BasePin::Docker { reference, manifest }, _) => {
            let pin = DockerPin::chosen(reference, manifest).map_err(|error| fault(error.to_string()))?;
            docker::created(&pin, &engine.registry()?, &engine.store.blobs(), engine.observer)
                .map_err(|error| fault(error.to_string()))?
        }
        (
            BasePin::OciLayout { .. },
            Bootstrap::Oci(base)
            | Bootstrap::OciArchive(base)
            | Bootstrap::DockerArchive(base)
            | Bootstrap::DockerDaemon(base),
        ) => examine_oci(&stage.bootstrap, base, engine, options).map_err(fault)?.config.created_at(),
        (BasePin::Local { path, kind, .. }, _) => {
            local::created(&options.directory.join(path), *kind).map_err(|error| fault(error.to_string()))?
        }
        (base @ (BasePin::Oras { .. } | BasePin::Library { .. }), _) => {
            let (path, _) = bring(base, engine, options).map_err(fault)?;
            local::created(&path, LocalKind::Sif).map_err(|error| fault(error.to_string()))?
        }
        (BasePin::Debian { lines }, _) => Some(DebianPin::parse(lines).map_err(|error| fault(error.to_string()))?.date),
        (BasePin::Rpm { lines } | BasePin::Pacman { lines }, _) => {
            Some(RpmPin::parse(lines).map_err(|error| fault(error.to_string()))?.date)
        }
        _ => None,
    };
    Ok(found.unwrap_or(0))
}
