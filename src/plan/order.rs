//! Puts the steps of all stages in their order (facts §1.6) and gives each its key.

use super::key::{Key, KeyDocument};
use super::step::{Action, AppFile, HostFile, Reuse, Step, StepId};
use super::{Plan, PlanOptions};
use crate::definition::{Bootstrap, Definition, FileEntry, FilesBlock, Script, Stage};
use crate::digest::Digest;
use crate::pins::{Pins, StagePins};
use crate::skeleton::{self, Origin};
use crate::source::Span;
use crate::tree::{Tree, text};
use std::collections::BTreeMap;

pub(super) fn order(definition: &Definition, pins: &Pins, options: &PlanOptions) -> Plan {
    let stages: Vec<Stage> = definition.stages.iter().map(|stage| options.sections.select(stage)).collect();
    let needed = needed_stages(&stages);
    let mut order =
        Order { definition, options, stages: &stages, steps: Vec::new(), cause: None, ends: BTreeMap::new() };
    for (number, pins) in pins.stages.iter().enumerate().filter(|(number, _)| needed[*number]) {
        order.add_stage(number, pins);
    }
    order.add_pack();
    let steps = order.steps;
    let unneeded = (0..stages.len()).filter(|number| !needed[*number]).collect();
    Plan { steps, stages, unneeded }
}

/// The last stage, all that it copies from, and all that run something on the host.
fn needed_stages(stages: &[Stage]) -> Vec<bool> {
    let mut needed: Vec<bool> = stages.iter().map(|stage| stage.pre.is_some() || stage.setup.is_some()).collect();
    if let Some(last) = needed.last_mut() {
        *last = true;
    }
    // A stage copies from earlier ones only, so one pass from the end finds all.
    for number in (0..stages.len()).rev() {
        if needed[number] {
            let sources = stages[number].files.iter().filter_map(|block| source_stage(stages, number, block));
            sources.for_each(|source| needed[source] = true);
        }
    }
    needed
}

/// Compat: the first stage of that name counts, wherever it stands; one that is not built yet has nothing to copy.
fn source_stage(stages: &[Stage], number: usize, block: &FilesBlock) -> Option<usize> {
    let wanted = &block.from.as_ref()?.value;
    let found = stages.iter().position(|stage| stage.name.as_ref().is_some_and(|name| name.value == *wanted));
    found.filter(|found| *found < number)
}

/// The last steps of a stage.
#[derive(Clone, Copy)]
struct End {
    /// After `%post` or whatever comes last before the metadata.
    state: StepId,
    metadata: StepId,
}

struct Order<'a> {
    definition: &'a Definition,
    options: &'a PlanOptions,
    stages: &'a [Stage],
    steps: Vec<Step>,
    /// Why nothing from here on is reused.
    cause: Option<Reuse>,
    ends: BTreeMap<usize, End>,
}

impl Order<'_> {
    fn add_stage(&mut self, number: usize, pins: &StagePins) {
        let stage = &self.stages[number];
        let mut before = stage.pre.as_ref().map(|script| self.add_host_script(number, "pre", script, None));
        before = Some(self.add_base(number, pins, before));
        before = Some(self.add_skeleton(number, before));
        if !stage.apps.is_empty() {
            before = Some(self.add_apps(number, pins, before));
        }
        for block in stage.files.iter().filter(|block| block.from.is_some()) {
            before = Some(self.add_copy_from_stage(number, block, before));
        }
        if let Some(script) = &stage.setup {
            before = Some(self.add_host_script(number, "setup", script, before));
        }
        for block in stage.files.iter().filter(|block| block.from.is_none() && !block.entries.is_empty()) {
            before = Some(self.add_copy_from_host(number, pins, block, before));
        }
        if let Some(script) = skeleton::post_script(stage) {
            before = Some(self.add_post(number, script, before));
        }
        let state = before.unwrap_or(StepId(0));
        let metadata = self.add(number, "metadata", stage.span, vec![state], Action::Metadata, Reuse::Anew);
        self.ends.insert(number, End { state, metadata });
        if let Some(script) = stage.test.as_ref().filter(|_| !self.options.notest) {
            self.add_test(number, script, state, metadata);
        }
    }

    /// `%pre` or `%setup`: from here on anything may be different each time.
    fn add_host_script(&mut self, number: usize, name: &str, script: &Script, before: Option<StepId>) -> StepId {
        if self.cause.is_none() {
            let because = format!("%{name} runs on the host and may change anything");
            self.cause = Some(Reuse::Never { because, line: self.line(script.span) });
        }
        let reuse = self.cause.clone().unwrap_or(Reuse::Anew);
        let script = script.clone();
        let span = script.span;
        let action = if name == "pre" { Action::Pre { script } } else { Action::Setup { script } };
        self.add(number, name, span, Vec::from_iter(before), action, reuse)
    }

    fn add_base(&mut self, number: usize, pins: &StagePins, before: Option<StepId>) -> StepId {
        let mut document = KeyDocument::new("base");
        document.set("arch", self.options.arch.oci());
        for (name, value) in pins.base.identity() {
            document.set(format!("pin.{name}"), value);
        }
        let action = Action::Base { pin: pins.base.clone() };
        let reuse = self.reuse(document);
        self.add(number, "base", self.stages[number].span, Vec::from_iter(before), action, reuse)
    }

    fn add_skeleton(&mut self, number: usize, before: Option<StepId>) -> StepId {
        let stage = &self.stages[number];
        let origin = origin(&stage.bootstrap);
        let mut document = self.continued("skeleton", before);
        document.set("origin", origin.name());
        document.set("scripts", skeleton::version().to_string());
        let reuse = self.reuse(document);
        self.add(number, "skeleton", stage.span, Vec::from_iter(before), Action::Skeleton { origin }, reuse)
    }

    fn add_apps(&mut self, number: usize, pins: &StagePins, before: Option<StepId>) -> StepId {
        let stage = &self.stages[number];
        let mut document = self.continued("apps", before);
        document.set("layer", text::write(&skeleton::apps(stage, &Tree::new(), 0).0));
        let mut files = Vec::new();
        for app in &stage.apps {
            for entry in &app.files {
                let content = pins.app_files.get(&entry.source).cloned();
                files.push(AppFile { app: app.name.clone(), file: HostFile { entry: entry.clone(), content } });
            }
        }
        document.set_list("app", files.iter().map(|file| file.app.as_str()));
        let reuse = self.reuse_with_files(document, files.iter().map(|file| &file.file));
        let scripts = stage.apps.iter().flat_map(|app| [&app.install, &app.run, &app.environment, &app.help]);
        let span = scripts.flatten().map(|script| script.span).min().unwrap_or(stage.span);
        self.add(number, "apps", span, Vec::from_iter(before), Action::Apps { files }, reuse)
    }

    fn add_copy_from_stage(&mut self, number: usize, block: &FilesBlock, before: Option<StepId>) -> StepId {
        let from = block.from.as_ref();
        let name = from.map_or_else(String::new, |from| from.value.clone());
        let span = from.map_or(self.stages[number].span, |from| from.span);
        let source = source_stage(self.stages, number, block);
        let mut document = self.continued("files-from-stage", before);
        set_entries(&mut document, block.entries.iter());
        let mut needs = Vec::from_iter(before);
        if let Some((source, end)) = source.and_then(|source| Some((source, *self.ends.get(&source)?))) {
            if block.entries.iter().any(|entry| reaches_metadata(&entry.source)) {
                needs.push(end.metadata);
                self.set_metadata(&mut document, source);
            } else {
                needs.push(end.state);
            }
            self.set_key_of(&mut document, "source", end.state);
        }
        let reuse = self.reuse(document);
        let action = Action::CopyFromStage { name: name.clone(), source, entries: block.entries.clone() };
        self.add(number, &format!("files-from-{name}"), span, needs, action, reuse)
    }

    fn add_copy_from_host(
        &mut self,
        number: usize,
        pins: &StagePins,
        block: &FilesBlock,
        before: Option<StepId>,
    ) -> StepId {
        let pinned =
            |entry: &FileEntry| HostFile { entry: entry.clone(), content: pins.files.get(&entry.source).cloned() };
        let files: Vec<HostFile> = block.entries.iter().map(pinned).collect();
        let document = self.continued("files", before);
        let reuse = self.reuse_with_files(document, files.iter());
        let span = block.entries.first().map_or(self.stages[number].span, |entry| entry.span);
        self.add(number, "files", span, Vec::from_iter(before), Action::CopyFromHost { files }, reuse)
    }

    fn add_post(&mut self, number: usize, script: Script, before: Option<StepId>) -> StepId {
        let mut document = self.continued("post", before);
        self.set_script(&mut document, &script);
        self.set_surroundings(&mut document);
        let reuse = self.reuse(document);
        let span = script.span;
        self.add(number, "post", span, Vec::from_iter(before), Action::Post { script }, reuse)
    }

    fn add_test(&mut self, number: usize, script: &Script, state: StepId, metadata: StepId) -> StepId {
        let mut document = self.continued("test", Some(state));
        self.set_metadata(&mut document, number);
        self.set_surroundings(&mut document);
        if let Some(digest) = &self.options.test_environment {
            document.set("test-environment", digest.to_string());
        }
        let reuse = self.reuse(document);
        self.add(number, "test", script.span, vec![metadata], Action::Test { script: script.clone() }, reuse)
    }

    fn add_pack(&mut self) {
        if let Some((number, end)) = self.ends.last_key_value().map(|(number, end)| (*number, *end)) {
            self.add(number, "pack", self.stages[number].span, vec![end.metadata], Action::Pack, Reuse::Anew);
        }
    }

    fn add(
        &mut self,
        number: usize,
        name: &str,
        origin: Span,
        needs: Vec<StepId>,
        action: Action,
        reuse: Reuse,
    ) -> StepId {
        let id = StepId(self.steps.len());
        let name = self.unused_name(number, name);
        let line = self.line(origin);
        self.steps.push(Step { id, name, stage: number, origin, line, needs, action, reuse });
        id
    }

    /// Names tell the stage when there is more than one; a second of the same name gets a number.
    fn unused_name(&self, number: usize, name: &str) -> String {
        let name = match (&self.stages[number].name, self.stages.len()) {
            (_, 1) => name.to_owned(),
            (_, _) if name == "pack" => name.to_owned(),
            (Some(stage), _) => format!("{}/{name}", stage.value.replace(char::is_whitespace, "_")),
            (None, _) => format!("{}/{name}", number + 1),
        };
        let taken = |name: &str| self.steps.iter().any(|step| step.name == name);
        let numbered = (2..).map(|count| format!("{name}-{count}"));
        std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(name)
    }

    fn line(&self, span: Span) -> usize {
        self.definition.source.position(span.start).0
    }

    /// A document that begins with the key of the step whose filesystem is continued.
    fn continued(&self, action: &str, before: Option<StepId>) -> KeyDocument {
        let mut document = KeyDocument::new(action);
        if let Some(before) = before {
            self.set_key_of(&mut document, "parent", before);
        }
        document
    }

    fn set_key_of(&self, document: &mut KeyDocument, name: &str, step: StepId) {
        if let Some(key) = self.steps[step.0].key() {
            document.set(name, key.to_string());
        }
    }

    /// The text of a script that runs in the sandbox, and its command line.
    fn set_script(&self, document: &mut KeyDocument, script: &Script) {
        document.set("script", &script.body);
        match skeleton::script_argv(script, "SCRIPT") {
            Ok(argv) => document.set_list("argv", argv.iter().map(String::as_str)),
            // Performing the step says what is wrong; no result is ever stored under this.
            Err(error) => document.set("argv", error.to_string()),
        }
    }

    /// What a script sees besides the filesystem.
    fn set_surroundings(&self, document: &mut KeyDocument) {
        document.set("arch", self.options.arch.oci());
        document.set("ids", self.options.id_mode.name());
        if let Some(fakeroot) = self.options.fakeroot {
            document.set("fakeroot", fakeroot);
        }
        document.set("network", self.options.network.name());
        document.set_list("bind", self.options.binds.iter().map(String::as_str));
        let variables: Vec<String> =
            self.options.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        document.set_list("environment", variables.iter().map(String::as_str));
    }

    /// The metadata of a stage, without what tells the time of a build or where its definition lies.
    fn set_metadata(&self, document: &mut KeyDocument, number: usize) {
        let stage = &self.stages[number];
        let sections = [("runscript", &stage.runscript), ("startscript", &stage.startscript), ("test", &stage.test)];
        for (name, script) in sections {
            if let Some(script) = script {
                document.set(format!("metadata.{name}"), skeleton::file_script(script));
            }
        }
        for (name, script) in [("environment", &stage.environment), ("help", &stage.help)] {
            if let Some(script) = script {
                document.set(format!("metadata.{name}"), &script.body);
            }
        }
        let labels: Vec<String> = stage.labels.iter().map(|label| format!("{} {}", label.key, label.value)).collect();
        document.set_list("metadata.label", labels.iter().map(String::as_str));
    }

    fn reuse(&self, document: KeyDocument) -> Reuse {
        self.cause.clone().unwrap_or_else(|| Reuse::Keyed { key: Key::of(&document), document })
    }

    /// As [`Order::reuse`], for a step that copies files of the host; one that was not pinned forbids reuse, here
    /// and from here on.
    fn reuse_with_files<'f>(
        &mut self,
        mut document: KeyDocument,
        files: impl Iterator<Item = &'f HostFile> + Clone,
    ) -> Reuse {
        set_entries(&mut document, files.clone().map(|file| &file.entry));
        if let Some(file) = files.clone().find(|file| file.content.is_none())
            && self.cause.is_none()
        {
            let because = format!("{} could not be read when the build was planned", file.entry.source);
            self.cause = Some(Reuse::Never { because, line: self.line(file.entry.span) });
        }
        let contents: Vec<String> = files.filter_map(|file| file.content.as_ref()).map(Digest::to_string).collect();
        document.set_list("content", contents.iter().map(String::as_str));
        self.reuse(document)
    }
}

fn set_entries<'a>(document: &mut KeyDocument, entries: impl Iterator<Item = &'a FileEntry>) {
    for (number, entry) in entries.enumerate() {
        document.set(format!("source.{number:04}"), &entry.source);
        document.set(format!("destination.{number:04}"), &entry.destination);
    }
}

fn origin(bootstrap: &Bootstrap) -> Origin {
    match bootstrap {
        Bootstrap::Docker(_)
        | Bootstrap::Oci(_)
        | Bootstrap::OciArchive(_)
        | Bootstrap::DockerArchive(_)
        | Bootstrap::DockerDaemon(_) => Origin::Oci,
        Bootstrap::Localimage(_) | Bootstrap::Oras(_) | Bootstrap::Library(_) => Origin::Local,
        Bootstrap::Busybox { .. } => Origin::Busybox,
        Bootstrap::Scratch
        | Bootstrap::Debootstrap(_)
        | Bootstrap::Yum(_)
        | Bootstrap::Arch(_)
        | Bootstrap::Absent(_) => Origin::Shell,
    }
}

/// Whether a source of `%files from` may name what the metadata step writes: through the root itself, a pattern in
/// its first component, `..`, or one of the names that lie there. A symlink of the image's own that leads there is
/// not seen.
fn reaches_metadata(source: &str) -> bool {
    const NAMES: [&str; 7] = [".singularity.d", "singularity", "environment", ".run", ".exec", ".shell", ".test"];
    let mut components = source.split('/').filter(|component| !component.is_empty() && *component != ".");
    let Some(first) = components.next() else { return true };
    first.contains(['*', '?', '[', '(', '$', '{'])
        || NAMES.contains(&first)
        || first == ".."
        || components.any(|component| component == "..")
}
