//! A failed step that was kept for a person: what its root was made of, so that a program can be run in it later.

use super::Error;
use super::fakeroot::Fakeroot;
use super::request::{Root, Run};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// File in the kept directory.
const NAME: &str = "failed-step";

/// The directories of a failed step's root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailedStep {
    /// The store's name for the ids that the files are owned through.
    pub mode: String,
    /// The topmost first.
    pub directories: Vec<PathBuf>,
    /// Owners and devices that were imitated.
    pub fakeroot: Option<Fakeroot>,
}

impl FailedStep {
    /// Notes in the work directory what the root of `run` was, with what its fakeroot recorded.
    pub fn write(run: &Run, recorded: Option<&str>, mode: &str) -> Result<(), Error> {
        let Root::Overlay { lower, upper, .. } = &run.root else { return Ok(()) };
        let directories = std::iter::once(upper).chain(lower).cloned().collect();
        let fakeroot = run.fakeroot.as_ref().map(|before| match recorded.map(|recorded| before.after(recorded)) {
            Some(Ok(after)) => after,
            _ => before.clone(),
        });
        let step = FailedStep { mode: mode.to_owned(), directories, fakeroot };
        let written = serde_json::to_vec(&step).map_err(io::Error::other);
        written
            .and_then(|bytes| fs::write(run.temporary.join(NAME), bytes))
            .map_err(|cause| Error::Helper { action: "note the failed step of", cause })
    }

    /// The step that was kept in `directory`, if one was.
    pub fn read(directory: &Path) -> Option<FailedStep> {
        serde_json::from_slice(&fs::read(directory.join(NAME)).ok()?).ok()
    }
}
