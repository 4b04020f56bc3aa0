//! Performing a plan: what must run, runs; what is stored, is taken.

mod base;
mod results;
mod rpm;

use super::copy::{Copy, CopyOptions, StageFiles};
use super::early::Early;
use super::filesystem::{Filesystem, new_directory};
use super::output::{self, Finishing, Form, Output};
use super::script::{self, Job, Subject};
use super::{BuildError, Engine, Options, full};
use crate::definition::{Definition, FileEntry, Script, Stage};
use crate::event::Event;
use crate::oci::config::ImageConfig;
use crate::pins::BasePin;
use crate::plan::{Action, AppFile, Decision, HostFile, Plan, Step, Verdict};
use crate::sandbox::{self, WorkDirectory};
use crate::skeleton::{self, OciRuntime};
use crate::store::{Contents, Held, StoreError};
use crate::tree::{Layer, Node, TreePath};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// One stage in the making.
#[derive(Default)]
struct Work {
    filesystem: Filesystem,
    /// Of an OCI base.
    config: Option<ImageConfig>,
    /// `oci-config.json` of the image.
    config_object: Option<Vec<u8>>,
    /// By which flags checks of the base's own bases were turned off.
    unchecked: Option<String>,
}

impl Work {
    /// While the filesystem is the base alone: scripts may remove its labels.
    fn note_unchecked(&mut self) {
        let path = TreePath::parse(".singularity.d/labels.json").expect("a constant path");
        let in_config = self.config.as_ref().and_then(|config| config.labels.get(skeleton::UNCHECKED_LABEL).cloned());
        let in_files = || skeleton::unchecked_label(&self.filesystem.read(&path)?);
        self.unchecked = in_config.or_else(in_files);
    }
}

/// Performs the steps that `decisions` let run.
pub fn perform(
    definition: &Definition,
    plan: &Plan,
    decisions: &[Decision],
    engine: &Engine<'_>,
    options: &Options,
) -> Result<(), BuildError> {
    engine.bases.borrow_mut().clear();
    sandbox::sweep(&engine.store.work());
    let work = WorkDirectory::create(&engine.store.work()).map_err(|cause| BuildError::Sandbox {
        section: "the build".to_owned(),
        place: definition.source.name.clone(),
        cause,
    })?;
    let place = work.path().to_path_buf();
    let mut performer = Performer {
        definition,
        plan,
        decisions,
        engine,
        options,
        place,
        stages: plan.stages.iter().map(|_| Work::default()).collect(),
        root: None,
        output: None,
        early: None,
    };
    let done = performer.run();
    if matches!(&done, Err(BuildError::Script(failure)) if failure.kept.is_some()) {
        work.keep();
    }
    done
}

struct Performer<'a> {
    definition: &'a Definition,
    plan: &'a Plan,
    decisions: &'a [Decision],
    engine: &'a Engine<'a>,
    options: &'a Options,
    /// The work directory.
    place: PathBuf,
    stages: Vec<Work>,
    /// Where `%pre` and `%setup` see the root.
    root: Option<PathBuf>,
    /// The image, when its bodies stream from archives while the steps are performed.
    output: Option<Output<'a>>,
    /// Blocks in the making while a script of the last stage runs.
    early: Option<Early>,
}

impl Performer<'_> {
    fn run(&mut self) -> Result<(), BuildError> {
        for (step, decision) in self.plan.steps.iter().zip(self.decisions) {
            let started = Instant::now();
            match decision.verdict {
                Verdict::Skip => continue,
                Verdict::Reuse => self.recall(step)?,
                Verdict::Run => {
                    self.engine.observer.observe(Event::StepStarted { step: step.name.clone() });
                    self.act(step)?;
                }
            }
            let (step, reused) = (step.name.clone(), decision.verdict == Verdict::Reuse);
            let milliseconds = started.elapsed().as_millis() as u64;
            self.engine.observer.observe(Event::StepFinished { step, reused, milliseconds });
        }
        Ok(())
    }

    fn act(&mut self, step: &Step) -> Result<(), BuildError> {
        match &step.action {
            Action::Pre { script } => self.run_on_host(step, "%pre", script),
            Action::Base { pin } => self
                .base(step, pin)
                .map_err(|error| match error {
                    BuildError::Store(error @ StoreError::Layer { .. }) => {
                        BuildError::Base { place: self.place(step), cause: error.to_string() }
                    }
                    error => error,
                })
                .map(|()| self.stages[step.stage].note_unchecked()),
            Action::Skeleton { origin } => {
                let work = &self.stages[step.stage];
                let runtime = work.config.as_ref().map(runtime);
                let layer = skeleton::after_base(&work.filesystem.tree, *origin, runtime.as_ref(), self.time());
                self.push(step, Held::inline(layer))
            }
            Action::Apps { files } => self.apps(step, files),
            Action::CopyFromStage { name, source, entries } => self.copy_from_stage(step, name, *source, entries),
            Action::Setup { script } => self.run_on_host(step, "%setup", script),
            Action::CopyFromHost { files } => self.copy_from_host(step, files),
            Action::Post { script } => self.post(step, script),
            Action::Metadata => self.metadata(step),
            Action::Test { script } => self.test(step, script),
            Action::Pack => self.pack(step),
        }
    }

    fn stage(&self, step: &Step) -> &Stage {
        &self.plan.stages[step.stage]
    }

    fn place(&self, step: &Step) -> String {
        format!("{}:{}", self.definition.source.name, step.line)
    }

    fn time(&self) -> i64 {
        self.options.epoch.unwrap_or(self.options.now.seconds)
    }

    /// Adds a layer that is cheap to make again; it reaches the store only together with a script that ran on it.
    fn push(&mut self, step: &Step, held: Held) -> Result<(), BuildError> {
        self.stages[step.stage].filesystem.push(held)
    }

    fn run_in_sandbox(
        &mut self,
        step: &Step,
        section: &str,
        argv: Vec<String>,
        script: Option<(&'static str, Vec<u8>)>,
        binds: Vec<sandbox::Bind>,
    ) -> Result<(), BuildError> {
        let job = Job {
            subject: Subject { section, place: self.place(step), script: None },
            argv,
            script,
            environment: script::post_environment(&[]),
            binds,
            read_only: false,
            host_name_resolution: true,
        };
        let filesystem = &mut self.stages[step.stage].filesystem;
        if let Some((held, _)) = script::run(job, filesystem, &self.place, self.engine, self.options)? {
            filesystem.push(held)?;
        }
        Ok(())
    }

    fn apps(&mut self, step: &Step, files: &[AppFile]) -> Result<(), BuildError> {
        let (layer, warnings) = skeleton::apps(self.stage(step), &self.stages[step.stage].filesystem.tree, self.time());
        self.warn(warnings);
        self.push(step, Held::inline(layer))?;
        let options = self.copy_options();
        let mut copy = Copy::new(self.stages[step.stage].filesystem.tree.clone(), options);
        for file in files {
            let mut entry = file.file.entry.clone();
            let destination =
                if entry.destination.is_empty() { entry.source.clone() } else { entry.destination.clone() };
            entry.destination = format!("/scif/apps/{}/{}", file.app, destination.trim_start_matches('/'));
            copy.add_host(&entry)?;
        }
        self.add_copy(step, copy)
    }

    fn copy_options(&self) -> CopyOptions {
        CopyOptions {
            directory: self.options.directory.clone(),
            modification_time: self.time(),
            source: Arc::clone(&self.definition.source),
        }
    }

    fn add_copy(&mut self, step: &Step, copy: Copy) -> Result<(), BuildError> {
        self.warn(copy.warnings.clone());
        self.push(step, copy.finish())
    }

    fn copy_from_host(&mut self, step: &Step, files: &[HostFile]) -> Result<(), BuildError> {
        let mut copy = Copy::new(self.stages[step.stage].filesystem.tree.clone(), self.copy_options());
        files.iter().try_for_each(|file| copy.add_host(&file.entry))?;
        self.add_copy(step, copy)
    }

    fn copy_from_stage(
        &mut self,
        step: &Step,
        name: &str,
        source: Option<usize>,
        entries: &[FileEntry],
    ) -> Result<(), BuildError> {
        let source = source.ok_or_else(|| BuildError::Base {
            place: self.place(step),
            cause: format!("there is no stage {name} before this one to copy from"),
        })?;
        let ownership = self.engine.ownership();
        // An archive cannot be opened file by file; the stage is written out first.
        if self.stages[source].filesystem.layers.iter().any(|held| matches!(held.contents, Contents::Archive(..))) {
            let root = new_directory(&self.place, "stage")?;
            let filesystem = &mut self.stages[source].filesystem;
            let index =
                crate::store::check_out(&mut filesystem.layers, &root, ownership, self.options.threads, &mut |_| {})?;
            *filesystem = Filesystem::default();
            filesystem.push(Held { layer: index, contents: Contents::Directory(root) })?;
        }
        let from = &self.stages[source].filesystem;
        let files = StageFiles {
            name: name.to_owned(),
            tree: from.tree.clone(),
            layers: from.layers.iter().cloned().map(Arc::new).collect(),
        };
        let mut copy = Copy::new(self.stages[step.stage].filesystem.tree.clone(), self.copy_options());
        entries.iter().try_for_each(|entry| copy.add_stage(entry, &files))?;
        self.add_copy(step, copy)
    }

    fn run_on_host(&mut self, step: &Step, section: &'static str, script: &Script) -> Result<(), BuildError> {
        let subject = Subject { section, place: self.place(step), script: Some(script) };
        self.info(format!("Running {} scriptlet", section.trim_start_matches('%')));
        let rootfs = match &self.root {
            Some(root) => root.clone(),
            None => new_directory(&self.place, "rootfs")?,
        };
        self.root = Some(rootfs.clone());
        if section == "%pre" {
            return script::run_on_host(script, subject, &rootfs, &self.place, self.engine, self.options);
        }
        let held = script::setup(
            script,
            subject,
            &rootfs,
            &mut self.stages[step.stage].filesystem,
            &self.place,
            self.engine,
            self.options,
        )?;
        self.push(step, held)
    }

    fn post(&mut self, step: &Step, script: &Script) -> Result<(), BuildError> {
        self.info("Running post scriptlet".to_owned());
        let argv = skeleton::script_argv(script, "/.post.script")
            .map_err(|error| BuildError::Header { place: self.place(step), cause: error.to_string() })?;
        let mut environment = script::post_environment(&self.options.environment);
        environment.extend(self.options.epoch.map(|epoch| (script::EPOCH.into(), epoch.to_string().into())));
        let job = Job {
            subject: Subject { section: "%post", place: self.place(step), script: Some(script) },
            argv,
            script: Some(("/.post.script", script.body.clone().into_bytes())),
            environment,
            binds: self.options.binds.clone(),
            read_only: false,
            host_name_resolution: true,
        };
        let last = step.stage + 1 == self.plan.stages.len();
        let filesystem = &mut self.stages[step.stage].filesystem;
        if last && self.options.background && self.options.form == Form::Sif {
            self.early = Early::begin(filesystem, self.engine.store, output::squashfs_options(self.options));
        }
        match script::run(job, filesystem, &self.place, self.engine, self.options)? {
            Some((held, root)) => self.remember(step, held, &root, None),
            None => Ok(()),
        }
    }

    fn metadata(&mut self, step: &Step) -> Result<(), BuildError> {
        let work = &self.stages[step.stage];
        let finishing = self.finishing(step.stage);
        let (layer, warnings) = finishing.metadata(&work.filesystem.tree, &|path| work.filesystem.read(path));
        self.warn(warnings);
        self.push(step, Held::inline(layer))
    }

    fn test(&mut self, step: &Step, script: &Script) -> Result<(), BuildError> {
        self.info("Running testscript".to_owned());
        let environment = script::test_environment(&self.options.environment);
        let job = Job {
            subject: Subject { section: "%test", place: self.place(step), script: Some(script) },
            argv: vec!["/.singularity.d/test".to_owned()],
            script: None,
            environment,
            binds: self.options.binds.clone(),
            read_only: true,
            host_name_resolution: true,
        };
        let mut filesystem = self.stages[step.stage].filesystem.clone();
        script::run(job, &mut filesystem, &self.place, self.engine, self.options)?;
        let (Some(key), Some(document)) = (step.key(), step.document()) else { return Ok(()) };
        let empty = new_directory(&self.place, "passed")?;
        self.engine.store.remember(&key.0, &document.write(), &Layer::default(), &empty, &[], &[])?;
        Ok(())
    }

    fn pack(&mut self, step: &Step) -> Result<(), BuildError> {
        let mut work = std::mem::take(&mut self.stages[step.stage]);
        if let Some(epoch) = self.options.epoch.filter(|_| super::executes(self.definition, self.options.notest)) {
            self.settle(&mut work.filesystem, epoch)?;
        }
        if let Some(early) = self.early.take() {
            early.settle(self.engine.observer);
        }
        let output = self.output.take();
        let need = size_of_files(&work.filesystem);
        output::write(work.filesystem, work.config_object, output, &self.finishing(step.stage), self.engine)
            .map_err(|error| full::explain(error, Some(need), self.engine, self.options))
    }

    /// Takes out what scripts leave behind that is another on every run.
    fn settle(&self, filesystem: &mut Filesystem, epoch: i64) -> Result<(), BuildError> {
        let (layer, left_out) = skeleton::reproducible(&filesystem.tree, epoch, &|path| filesystem.read(path));
        for (path, why) in left_out {
            let text = match why {
                skeleton::Why::Unknown => format!("{path} is left out: it is not of the form that is known"),
                _ => format!("{path} is left out: it would be another on every run"),
            };
            self.engine.observer.observe(match why {
                skeleton::Why::Key | skeleton::Why::Unknown => Event::Warning(text),
                _ => Event::Detail(text),
            });
        }
        filesystem.push(Held::inline(layer))
    }

    fn finishing(&self, stage: usize) -> Finishing<'_> {
        let base = self.plan.steps.iter().find_map(|step| match &step.action {
            Action::Base { pin: BasePin::Docker { reference, manifest } } if step.stage == stage => {
                Some((reference.clone(), manifest.clone()))
            }
            _ => None,
        });
        let is_unchecked = |step: &Step| matches!(&step.action, Action::Base { pin } if pin.is_unchecked());
        let own = self.plan.steps.iter().any(is_unchecked).then(|| "--no-check-signatures".to_owned());
        Finishing {
            definition: self.definition,
            stage: &self.plan.stages[stage],
            base,
            unchecked: own.or_else(|| self.stages[stage].unchecked.clone()),
            options: self.options,
        }
    }

    fn info(&self, text: String) {
        self.engine.observer.observe(Event::Info(text));
    }

    fn warn(&self, warnings: Vec<String>) {
        warnings.into_iter().for_each(|text| self.engine.observer.observe(Event::Warning(text)));
    }
}

/// Bytes of all files, before compression.
fn size_of_files(filesystem: &Filesystem) -> u64 {
    let tree = &filesystem.tree;
    let mut files: Vec<_> = tree.walk().into_iter().map(|(_, id)| id).collect();
    files.sort_unstable();
    files.dedup();
    let size = |id| match &tree.inode(id).node {
        Node::File { size, .. } => *size,
        _ => 0,
    };
    files.into_iter().map(size).fold(0, u64::saturating_add)
}

fn runtime(config: &ImageConfig) -> OciRuntime {
    OciRuntime {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
    }
}
