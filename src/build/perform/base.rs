//! The first step of a stage: its base.

use super::Performer;
use crate::agent::docker::DockerPin;
use crate::agent::local::LocalBase;
use crate::agent::{ImageBase, busybox, debian, docker, local, oci};
use crate::arch::Arch;
use crate::archive::layer::Dialect;
use crate::build::filesystem::{Filesystem, new_directory};
use crate::build::output::{Form, Output};
use crate::build::pin::{bring, oci_source};
use crate::build::{BuildError, InUse};
use crate::deb::pin::DebianPin;
use crate::definition::Bootstrap;
use crate::event::{Event, Task};
use crate::pins::{BasePin, LocalKind};
use crate::plan::Step;
use crate::sandbox;
use crate::store::{Contents, Held};

/// Where the script that configures a Debian base lies while it runs.
const CONFIGURE: &str = "/.sifbuild-configure";

impl Performer<'_> {
    pub(super) fn base(&mut self, step: &Step, pin: &BasePin) -> Result<(), BuildError> {
        let fault = |cause: String| BuildError::Base { place: self.place(step), cause };
        let blobs = self.engine.store.blobs();
        let bootstrap = &self.stage(step).bootstrap;
        self.engine.take(pin, false).map_err(fault)?;
        match (pin, bootstrap) {
            (BasePin::Docker { reference, manifest }, _) => {
                let pin = DockerPin::chosen(reference, manifest).map_err(|error| fault(error.to_string()))?;
                let registry = self.engine.registry()?;
                let image = docker::provide(&pin, &registry, &blobs, self.options.concurrency, self.engine.observer)
                    .map_err(|error| fault(error.to_string()))?;
                self.oci_base(step, image)
            }
            (
                BasePin::OciLayout { manifest, .. },
                Bootstrap::Oci(base)
                | Bootstrap::OciArchive(base)
                | Bootstrap::DockerArchive(base)
                | Bootstrap::DockerDaemon(base),
            ) => {
                let (target, source) = (self.options.target(), oci_source(bootstrap, base));
                let context = oci::Context {
                    target: &target,
                    work: &self.place,
                    docker_host: self.options.docker_host.as_deref(),
                };
                let image = oci::open(&source, context).map_err(|error| fault(error.to_string()))?;
                if image.manifest_digest != *manifest {
                    return Err(fault(format!("{} changed while it was built from; build again", image.name)));
                }
                self.oci_base(step, image)
            }
            (BasePin::Local { path, kind, digest }, _) => {
                let (path, unlocking) = (self.options.directory.join(path), self.options.unlocking.as_ref());
                let base = local::provide(&path, *kind, digest, &self.engine.digests, unlocking)
                    .map_err(|error| fault(error.to_string()))?;
                self.local_base(step, base)
            }
            (BasePin::Oras { .. } | BasePin::Library { .. }, _) => {
                let (path, digest) = bring(pin, self.engine, self.options).map_err(fault)?;
                let unlocking = self.options.unlocking.as_ref();
                let base = local::provide(&path, LocalKind::Sif, &digest, &self.engine.digests, unlocking)
                    .map_err(|error| fault(error.to_string()))?;
                self.local_base(step, base)
            }
            (BasePin::Busybox { url, digest }, _) => {
                busybox::bring(url, digest, &blobs, self.engine.fetch()?, self.engine.observer)
                    .map_err(|error| fault(error.to_string()))?;
                let layer =
                    busybox::provide(url, digest, &blobs, self.time()).map_err(|error| fault(error.to_string()))?;
                self.push(step, Held::inline(layer))?;
                let argv = busybox::INSTALL.map(str::to_owned).to_vec();
                self.run_in_sandbox(step, "the installation of busybox", argv, None, Vec::new())
            }
            (BasePin::Debian { lines }, _) => self.debian(step, lines),
            (BasePin::Rpm { lines }, _) => return self.rpm(step, lines),
            (BasePin::Pacman { lines }, _) => return self.pacman(step, lines),
            (BasePin::Scratch, _) => Ok(()),
            (pin, _) => Err(fault(format!("the lock file answers with a base of the kind {}", pin.agent()))),
        }?;
        let executes = crate::build::executes(self.definition, self.options.notest);
        let is_archive = |held: &Held| matches!(held.contents, Contents::Archive(..));
        let archives = self.stages[step.stage].filesystem.layers.iter().any(is_archive);
        match pin {
            BasePin::Scratch => Ok(()),
            _ if archives && !executes && self.plan.stages.len() == 1 && self.options.form == Form::Sif => {
                self.stream_base(step)
            }
            _ if archives || executes => self.keep_base(step),
            _ => Ok(()),
        }
    }

    /// Nothing is executed: the base's files go from their archives into the image, once, and touch no disk between.
    fn stream_base(&mut self, step: &Step) -> Result<(), BuildError> {
        let work = &mut self.stages[step.stage];
        let offset = Output::roomy_offset(self.definition, work.config_object.as_ref().map_or(0, Vec::len));
        let mut output = Output::begin(self.options, offset, self.engine.store)?;
        output.stream(&mut work.filesystem, self.engine)?;
        self.output = Some(output);
        Ok(())
    }

    fn local_base(&mut self, step: &Step, base: LocalBase) -> Result<(), BuildError> {
        let in_use = |file| InUse { stage: step.stage, place: self.place(step), file };
        self.engine.bases.borrow_mut().extend(base.pinned.map(in_use));
        self.stages[step.stage].config_object = base.oci_config;
        self.push(step, base.held)
    }

    fn oci_base(&mut self, step: &Step, image: ImageBase) -> Result<(), BuildError> {
        let (named, wanted) = (&image.config.architecture, self.options.arch);
        if !named.is_empty() && Arch::parse(named) != Some(wanted) {
            let cause =
                format!("{} is an image for {named}, but {wanted} is built; --arch {named} takes it", image.name);
            return Err(BuildError::Base { place: self.place(step), cause });
        }
        let work = &mut self.stages[step.stage];
        work.config_object = Some(image.config.marshal().into_bytes());
        work.config = Some(image.config);
        for blob in image.layers {
            work.filesystem.layers.push(Held::archive(blob, Dialect::Oci));
        }
        Ok(())
    }

    /// Writes the base out once, as one directory, for all builds on it.
    fn keep_base(&mut self, step: &Step) -> Result<(), BuildError> {
        let root = new_directory(&self.place, "base")?;
        let observer = self.engine.observer;
        let mut done = 0;
        let mut progress = |size| {
            done += size;
            observer.observe(Event::Progress { task: Task::Unpack, subject: "base".to_owned(), done, total: None });
        };
        let work = &mut self.stages[step.stage];
        let mut layers = std::mem::take(&mut work.filesystem.layers);
        let index =
            crate::store::check_out(&mut layers, &root, self.engine.ownership(), self.options.threads, &mut progress)?;
        crate::store::stand_in_for_devices(&index, &root)?;
        observer.observe(Event::ProgressFinished { task: Task::Unpack, subject: "base".to_owned() });
        // From here on nothing is read from this base's file: it may be replaced while scripts run.
        self.engine.check_bases()?;
        self.engine.bases.borrow_mut().retain(|base| base.stage != step.stage);
        work.filesystem = Filesystem::default();
        let config = work.config_object.clone();
        let held = Held { layer: index, contents: Contents::Directory(root.clone()) };
        self.remember(step, held, &root, config.as_deref())
    }

    fn debian(&mut self, step: &Step, lines: &[String]) -> Result<(), BuildError> {
        let fault = |cause: String| BuildError::Base { place: self.place(step), cause };
        if self.engine.id_mode == crate::plan::IdMode::Single && self.engine.fakeroot.is_none() {
            let cause = "a Debian base needs more than one user id, because its packages give files to several users, and this kernel lets nobody imitate them; have an administrator run \
                `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER` (package uidmap), or begin from an OCI image of Debian";
            return Err(fault(cause.to_owned()));
        }
        let pin = DebianPin::parse(lines).map_err(|error| fault(error.to_string()))?;
        let blobs = self.engine.store.blobs();
        let (elsewhere, fetch) = (self.engine.elsewhere(self.options), self.engine.fetch()?);
        let base = debian::provide(&pin, &blobs, &self.place, &elsewhere, fetch, self.engine.observer)
            .map_err(|error| fault(error.to_string()))?;
        self.info(format!("Configuring {} packages of Debian's {}", pin.packages.len(), pin.codename));
        self.stages[step.stage].filesystem.layers.push(Held::archive(base.layer, Dialect::Plain));
        let binds = base.mounts.into_iter().map(|mount| sandbox::Bind {
            source: mount.host,
            destination: mount.target.into(),
            read_only: true,
        });
        let argv = vec!["/bin/sh".to_owned(), CONFIGURE.to_owned()];
        let script = Some((CONFIGURE, base.script.into_bytes()));
        self.run_in_sandbox(step, "the configuration of the Debian packages", argv, script, binds.collect())
    }
}
