//! Lints: what builds, but probably not into what its author wants.
//!
//! One function a lint. Each looks at one stage's text, so that places are exact even behind build arguments.

mod bashism;
mod characters;
mod header;
mod install;
mod interpreter;
mod secret;
mod shell;
mod temporary;
mod variable;

pub(super) use characters::is_invisible;

use super::Bootstrap;
use super::arguments::{Arguments, Placeholder};
use super::grammar::{Line, Section};
use super::lower::Lowered;
use super::report::Report;
use shell::Shell;
use std::collections::BTreeMap;
use std::ops::Range;

/// What the lints of one stage look at.
pub(super) struct Subject<'a> {
    pub lowered: &'a Lowered,
    pub arguments: &'a Arguments,
    /// `%arguments` of this stage.
    pub defaults: &'a BTreeMap<String, String>,
    /// Placeholders that got a value.
    pub used: &'a [Placeholder],
}

impl Subject<'_> {
    fn bootstrap(&self) -> Option<&Bootstrap> {
        self.lowered.stage.as_ref().map(|stage| &stage.bootstrap)
    }

    fn body(&self, section: &Section) -> &[Line] {
        &self.lowered.lines[section.lines.clone()]
    }
}

/// A section with its name and, where it is shell, its commands.
struct Part<'a> {
    section: &'a Section,
    name: String,
    shell: Option<Shell>,
}

const SHELL_SECTIONS: &[&str] = &[
    "pre",
    "setup",
    "post",
    "environment",
    "runscript",
    "startscript",
    "test",
    "appinstall",
    "appenv",
    "apprun",
    "appstart",
    "apptest",
];

/// Sections that the build itself runs with `/bin/sh -ex`.
const BUILD_SECTIONS: &[&str] = &["pre", "setup", "post", "appinstall"];

/// All lints of one stage.
pub(super) fn check(report: &mut Report<'_>, subject: &Subject<'_>) {
    let text = report.expanded.text.as_str();
    let parts: Vec<Part<'_>> = subject
        .lowered
        .sections
        .iter()
        .map(|section| {
            let name = section.name(text);
            let is_shell = SHELL_SECTIONS.contains(&name.as_str());
            let shell = is_shell.then(|| Shell::read(text, body_range(section, subject.body(section))));
            Part { section, name, shell }
        })
        .collect();
    header::check_moving_tag(report, subject);
    header::check_effect(report, subject);
    secret::check(report, subject, &parts);
    variable::check(report, subject, &parts);
    for part in &parts {
        interpreter::check(report, subject, part);
        bashism::check(report, subject, part);
        install::check(report, part);
        temporary::check(report, subject, part);
    }
}

/// Lints of the whole file before arguments are put in.
pub(super) fn check_characters(report: &mut Report<'_>, lines: &[Line]) {
    characters::check(report, lines);
}

/// The range of a section's body in the stage's text.
fn body_range(section: &Section, body: &[Line]) -> Range<usize> {
    let start = body.first().map_or(section.head.end, |line| line.content.start);
    let end = body.last().map_or(start, |line| line.next);
    start..end
}
