//! A base of RPM's or pacman's packages: the distribution's own program, in a root of its own, installs them into the root that is made.

use super::Performer;
use crate::agent::arch;
use crate::agent::yum::{self, RpmBase};
use crate::archive::layer::Dialect;
use crate::build::BuildError;
use crate::build::filesystem::Filesystem;
use crate::build::script::{self, Job, Subject};
use crate::definition::Bootstrap;
use crate::disk;
use crate::pacman::PacmanPin;
use crate::plan::{IdMode, Step};
use crate::rpm::pin::RpmPin;
use crate::rpm::script::{DEVICES, FINAL_DIRECTORY, PACKAGES_DIRECTORY};
use crate::rpm::state;
use crate::sandbox::Bind;
use crate::store::{Contents, Held};
use crate::tree::{Body, Change, Entry, Kind, Layer, Metadata, PathError, TreePath};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Where rpm keeps its database.
const DATABASES: [&str; 2] = ["usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite"];
/// Where the script lies while it runs.
const INSTALL: &str = "/.sifbuild-install";

impl Performer<'_> {
    pub(super) fn rpm(&mut self, step: &Step, lines: &[String]) -> Result<(), BuildError> {
        let fault = |cause: String| BuildError::Base { place: self.place(step), cause };
        self.check_ids(step, "an RPM base")?;
        let pin = RpmPin::parse(lines).map_err(|error| fault(error.to_string()))?;
        let blobs = self.engine.store.blobs();
        if let Bootstrap::Yum(header) = &self.stage(step).bootstrap {
            yum::present(header, &pin, self.engine.fetch()?).map_err(|error| fault(error.to_string()))?;
        }
        let (elsewhere, fetch) = (self.engine.elsewhere(self.options), self.engine.fetch()?);
        let base = yum::provide(&pin, &blobs, &self.place, &elsewhere, fetch, self.engine.observer)
            .map_err(|error| fault(error.to_string()))?;
        let (root, mut layer) = self.install(step, &pin, base, "rpm")?;
        self.tell_package_managers(&pin, &root, &mut layer).map_err(|cause| fault(cause.to_string()))?;
        self.remember(step, Held { layer, contents: Contents::Directory(root.clone()) }, &root, None)
    }

    pub(super) fn pacman(&mut self, step: &Step, lines: &[String]) -> Result<(), BuildError> {
        let fault = |cause: String| BuildError::Base { place: self.place(step), cause };
        self.check_ids(step, "an Arch base")?;
        let pin = PacmanPin::parse(lines).map_err(|error| fault(error.to_string()))?;
        let blobs = self.engine.store.blobs();
        let (elsewhere, fetch) = (self.engine.elsewhere(self.options), self.engine.fetch()?);
        let base = arch::provide(&pin, &blobs, &self.place, &elsewhere, fetch, self.engine.observer)
            .map_err(|error| fault(error.to_string()))?;
        let (root, layer) = self.install(step, &pin.base, base, "pacman")?;
        self.remember(step, Held { layer, contents: Contents::Directory(root.clone()) }, &root, None)
    }

    fn check_ids(&self, step: &Step, what: &str) -> Result<(), BuildError> {
        if self.engine.id_mode != IdMode::Single || self.engine.fakeroot.is_some() {
            return Ok(());
        }
        let cause = format!(
            "{what} needs more than one user id, because its packages give files to several users; have an administrator run \
             `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER` (package uidmap), or begin from an OCI image of the \
             distribution"
        );
        Err(BuildError::Base { place: self.place(step), cause })
    }

    /// Runs the distribution's `program` over the packages; gives the root that it made, and what is in it.
    fn install(&self, step: &Step, pin: &RpmPin, base: RpmBase, program: &str) -> Result<(PathBuf, Layer), BuildError> {
        let count = pin.packages.iter().filter(|package| package.reason.is_some()).count();
        self.info(format!("Installing {count} packages with the distribution's {program}"));
        let mut binds = vec![Bind { source: base.packages, destination: PACKAGES_DIRECTORY.into(), read_only: true }];
        binds.extend(DEVICES.iter().map(|name| Bind {
            source: Path::new("/dev").join(name),
            destination: format!("{FINAL_DIRECTORY}/dev/{name}").into(),
            read_only: false,
        }));
        let job = Job {
            subject: Subject { section: "the installation of the packages", place: self.place(step), script: None },
            argv: vec!["/bin/sh".to_owned(), INSTALL.to_owned()],
            script: Some((INSTALL, base.script.into_bytes())),
            environment: script::post_environment(&[]),
            binds,
            read_only: false,
            host_name_resolution: false,
        };
        let mut bootstrap = Filesystem::default();
        bootstrap.layers.push(Held::archive(base.layer, Dialect::Plain));
        let made = script::run(job, &mut bootstrap, &self.place, self.engine, self.options)?;
        let (held, upper) = made.expect("the root can be written");
        let root = upper.join(FINAL_DIRECTORY.trim_start_matches('/'));
        let layer = below(held.layer, FINAL_DIRECTORY)
            .map_err(|cause| BuildError::Base { place: self.place(step), cause: cause.to_string() })?;
        Ok((root, layer))
    }

    /// Adds what the root's package managers know of it.
    fn tell_package_managers(&self, pin: &RpmPin, root: &Path, layer: &mut Layer) -> std::io::Result<()> {
        let there: BTreeSet<TreePath> = layer.entries.iter().map(|entry| entry.path.clone()).collect();
        let is_there = |path: &str| TreePath::parse(path).is_ok_and(|path| there.contains(&path));
        let directory = File::open(root)?;
        // Databases of another kind have no name for their state, and dnf says then that rpm was used without it.
        let cookie = DATABASES.iter().find_map(|path| {
            let file = disk::open_body(directory.as_fd(), &TreePath::parse(path).ok()?).ok()?;
            let mut bytes = Vec::new();
            file.take(state::MAXIMUM as u64 + 1).read_to_end(&mut bytes).ok()?;
            state::cookie(bytes).ok()
        });
        let date = UNIX_EPOCH + Duration::from_secs(pin.date.max(0).unsigned_abs());
        for (name, bytes) in state::files(pin, is_there, &cookie.unwrap_or_default()) {
            let path = TreePath::parse(&name).expect("a constant path");
            let size = bytes.len() as u64;
            match disk::write_beneath(directory.as_fd(), &path, &bytes, date) {
                Ok(made) => {
                    made.into_iter().for_each(|path| layer.put(path, Metadata::new(0o755, pin.date), Kind::Directory));
                    layer.put(path, Metadata::new(0o644, pin.date), Kind::File { size, body: Body::Stored });
                }
                Err(cause) => self.warn(vec![format!("{name} cannot be written into the root: {cause}")]),
            }
        }
        Ok(())
    }
}

/// What a layer has below a directory, as a layer of its own.
fn below(layer: Layer, directory: &str) -> Result<Layer, PathError> {
    let directory = TreePath::parse(directory)?;
    let inside = |path: &TreePath| match path.is_within(&directory) {
        true => {
            let rest = &path.as_bytes()[directory.as_bytes().len()..];
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            if rest.is_empty() { Ok(Some(TreePath::root())) } else { TreePath::parse(rest).map(Some) }
        }
        false => Ok(None),
    };
    let mut entries = Vec::new();
    for entry in layer.entries {
        let Some(path) = inside(&entry.path)? else { continue };
        let change = match entry.change {
            // Invariant: rpm makes hard links inside its root only.
            Change::Link(target) => match inside(&target)? {
                Some(target) => Change::Link(target),
                None => continue,
            },
            other => other,
        };
        entries.push(Entry { path, change });
    }
    Ok(Layer { entries })
}
