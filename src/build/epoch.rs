//! The time of an image that is to be the same on every run: that at which its base was made.

use super::pin::oci_source;
use super::{BuildError, Engine, Options};
use crate::agent::docker::{self, DockerPin};
use crate::agent::{local, oci};
use crate::deb::DebianPin;
use crate::definition::{Bootstrap, Definition};
use crate::oci::reference::Reference;
use crate::pins::{BasePin, Pins};

/// Of the last stage's base, in seconds since 1970; 0 where the base does not say.
///
/// An OCI image says it in its config (`created`), a Debian release in its `Date`, a SIF in its header, a squashfs in its superblock.
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
            let pin = DockerPin {
                reference: Reference::parse(reference).map_err(|error| fault(error.to_string()))?,
                manifest_digest: manifest.clone(),
                platform_digest: manifest.clone(),
            };
            docker::created(&pin, &engine.registry()?, &engine.store.blobs(), engine.observer)
                .map_err(|error| fault(error.to_string()))?
        }
        (
            BasePin::OciLayout { .. },
            Bootstrap::Oci(base)
            | Bootstrap::OciArchive(base)
            | Bootstrap::DockerArchive(base)
            | Bootstrap::DockerDaemon(base),
        ) => {
            let work = tempfile::Builder::new()
                .prefix("oci-")
                .tempdir_in(engine.store.work())
                .map_err(|error| fault(error.to_string()))?;
            let (target, source) = (options.target(), oci_source(&stage.bootstrap, base));
            let context =
                oci::Context { target: &target, work: work.path(), docker_host: options.docker_host.as_deref() };
            oci::open(&source, context).map_err(|error| fault(error.to_string()))?.config.created_at()
        }
        (BasePin::Local { path, kind, .. }, _) => {
            local::created(&options.directory.join(path), *kind).map_err(|error| fault(error.to_string()))?
        }
        (BasePin::Debian { lines }, _) => Some(DebianPin::parse(lines).map_err(|error| fault(error.to_string()))?.date),
        _ => None,
    };
    Ok(found.unwrap_or(0))
}
