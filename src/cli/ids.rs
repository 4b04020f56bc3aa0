//! Whose ids a build runs with, and what is imitated of the others.

use super::arguments::{BuildArguments, FakerootStat, IdModeChoice};
use super::build::Stop;
use super::{exit, render_error};
use crate::event::{Event, Observer};
use crate::plan;
use crate::sandbox::{self, IdMode, IdModeRequest, Scope};

/// Where nothing is executed, no namespace is needed; one is taken where it can be had, so that a sandbox gets its owners.
pub fn enter(
    arguments: &BuildArguments,
    executes: bool,
    terminal: &dyn Observer,
) -> Result<(plan::IdMode, Option<Scope>), Stop> {
    let request = match arguments.id_mode {
        IdModeChoice::Auto if arguments.accepted.ignore_subuid => IdModeRequest::Single,
        IdModeChoice::Auto => IdModeRequest::Auto,
        IdModeChoice::Root => IdModeRequest::Root,
        IdModeChoice::Range => IdModeRequest::Range,
        IdModeChoice::Single => IdModeRequest::Single,
    };
    let entered = match sandbox::enter(request) {
        Ok(entered) => entered,
        Err(error) if executes || request != IdModeRequest::Auto => {
            return Err(Stop { text: error.to_string(), code: exit::SANDBOX });
        }
        Err(_) => return Ok((plan::IdMode::Single, None)),
    };
    entered.notes.iter().for_each(|note| terminal.observe(Event::Detail(note.clone())));
    let id_mode = match entered.mode {
        IdMode::Root => plan::IdMode::Root,
        IdMode::Range => plan::IdMode::Range,
        IdMode::Single | IdMode::None => plan::IdMode::Single,
    };
    // Invariant: tried in a child process, so before the thread that waits for signals starts.
    let fakeroot = if executes { fakeroot(id_mode, arguments.fakeroot_stat, terminal) } else { None };
    sandbox::install_interrupt(|signal| render_error(&format!("interrupted by {signal}; nothing is left behind")))
        .map_err(|error| Stop { text: format!("signals cannot be handled: {error}"), code: exit::SANDBOX })?;
    Ok((id_mode, fakeroot))
}

/// What the kernel's own ids leave to be imitated, if it lets anybody do so.
fn fakeroot(id_mode: plan::IdMode, shown: FakerootStat, terminal: &dyn Observer) -> Option<Scope> {
    let (scope, text) = match (id_mode, shown) {
        (plan::IdMode::Root, _) => {
            terminal.observe(Event::Detail("ids: real root, all of them".to_owned()));
            return None;
        }
        (plan::IdMode::Range, FakerootStat::On) => (
            Scope::RemainderWithStatus,
            "ids: a subordinate range; devices and what no range can do are recorded and shown",
        ),
        (plan::IdMode::Range, _) => (
            Scope::Remainder,
            "ids: a subordinate range; devices and what no range can do are recorded (--fakeroot-stat on shows them to scripts)",
        ),
        (plan::IdMode::Single, FakerootStat::Off) => {
            terminal.observe(Event::Warning(
                "--fakeroot-stat off: scripts do not see the owners that they set, so that files which they copy or rewrite may get wrong ones"
                    .to_owned(),
            ));
            (Scope::WithoutStatus, "ids: one, all others are imitated but not shown")
        }
        (plan::IdMode::Single, _) => (Scope::Everything, "ids: one, all others are imitated (fakeroot)"),
    };
    match sandbox::try_fakeroot(scope) {
        Ok(()) => {
            terminal.observe(Event::Detail(text.to_owned()));
            Some(scope)
        }
        Err(error) => {
            let loss = match id_mode {
                plan::IdMode::Single => "scripts cannot change owners or users",
                _ => "scripts cannot make device nodes",
            };
            terminal.observe(Event::Warning(format!(
                "{loss}: this kernel refuses the notifications of system calls ({error}); Linux 5.5 or later has them, where no outer container forbids them"
            )));
            None
        }
    }
}
