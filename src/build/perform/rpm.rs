//! An RPM base: the distribution's own rpm, in a root of its own, installs all packages into the root that is made.

use super::Performer;
use crate::agent::yum;
use crate::archive::layer::Dialect;
use crate::build::BuildError;
use crate::build::filesystem::{Filesystem, new_directory};
use crate::build::script::{self, Job, Subject};
use crate::disk::{self, ScanOptions};
use crate::plan::{IdMode, Step};
use crate::rpm::pin::RpmPin;
use crate::rpm::script::{DEVICES, FINAL_DIRECTORY, PACKAGES_DIRECTORY};
use crate::sandbox::Bind;
use crate::store::{Contents, Held};
use std::path::Path;

/// Where the script lies while it runs.
const INSTALL: &str = "/.sifbuild-install";

impl Performer<'_> {
    pub(super) fn rpm(&mut self, step: &Step, lines: &[String]) -> Result<(), BuildError> {
        let fault = |cause: String| BuildError::Base { place: self.place(step), cause };
        if self.engine.id_mode == IdMode::Single {
            let cause = "an RPM base needs more than one user id, because its packages give files to several users; have an administrator run \
                `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER` (package uidmap), or begin from an OCI image of the \
                distribution";
            return Err(fault(cause.to_owned()));
        }
        let pin = RpmPin::parse(lines).map_err(|error| fault(error.to_string()))?;
        let blobs = self.engine.store.blobs();
        let base = yum::provide(&pin, &blobs, &self.place, self.engine.fetch()?, self.engine.observer)
            .map_err(|error| fault(error.to_string()))?;
        let count = pin.packages.iter().filter(|package| package.reason.is_some()).count();
        self.info(format!("Installing {count} packages with the distribution's rpm"));
        let root = new_directory(&self.place, "root")?;
        let bind = |source: &Path, destination: &str, read_only| Bind {
            source: source.to_path_buf(),
            destination: destination.into(),
            read_only,
        };
        let mut binds = vec![bind(&root, FINAL_DIRECTORY, false), bind(&base.packages, PACKAGES_DIRECTORY, true)];
        for name in DEVICES {
            let device = format!("/dev/{name}");
            binds.push(bind(Path::new(&device), &format!("{FINAL_DIRECTORY}{device}"), false));
        }
        let job = Job {
            subject: Subject { section: "the installation of the RPM packages", place: self.place(step), script: None },
            argv: vec!["/bin/sh".to_owned(), INSTALL.to_owned()],
            script: Some((INSTALL, base.script.into_bytes())),
            environment: script::post_environment(&[]),
            binds,
            read_only: false,
            host_name_resolution: false,
        };
        let mut bootstrap = Filesystem::default();
        bootstrap.layers.push(Held::archive(base.layer, Dialect::Plain));
        script::run(job, &mut bootstrap, &self.place, self.engine, self.options)?;
        let layer = disk::scan(&root, &ScanOptions { overlay: false })?;
        let held = Held { layer, contents: Contents::Directory(root.clone()) };
        self.remember(step, held, &root, None)
    }
}
