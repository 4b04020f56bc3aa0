//! What all supervising threads know, and who of this module answers which call.

use super::calls::{Call, Scope};
use super::credentials::{Credentials, Identities};
use super::filter;
use super::identity::AllExecuting;
use super::notify::{self, Notification, Reply};
use super::process::{Outside, Process};
use super::record::Records;
use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// What a process is told, or given.
pub enum Answer {
    Reply(Reply),
    /// The answer is a descriptor, which it now has.
    Descriptor {
        file: OwnedFd,
        close_on_exec: bool,
    },
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer::Reply(reply)
    }
}

/// What all supervising threads know.
pub struct Supervisor {
    pub scope: Scope,
    /// No signal repeats a call that is being answered.
    pub patient: bool,
    table: HashMap<(u32, i32), Call>,
    state: Mutex<State>,
    pub(super) executing: AllExecuting,
    /// Set by the first call that gives a process another root or other mounts: none passes unseen, in no scope.
    views_differ: AtomicBool,
}

#[derive(Default)]
pub struct State {
    pub records: Records,
    pub identities: Identities,
}

impl Supervisor {
    pub fn new(scope: Scope, records: Records, patient: bool) -> Supervisor {
        let mut table = HashMap::new();
        for architecture in [filter::X86_64, filter::I386, filter::AARCH64] {
            for row in scope.rows() {
                table.insert((architecture, filter::number(row, architecture)), row.call);
            }
        }
        let state = Mutex::new(State { records, identities: Identities::default() });
        let (executing, views_differ) = (AllExecuting::default(), AtomicBool::new(false));
        Supervisor { scope, patient, table, state, executing, views_differ }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the state in its hands")
    }

    /// Whom the caller acts as: with a range of ids the kernel knows, with one this module.
    pub(super) fn credentials(&self, process: &Process<'_>) -> io::Result<Credentials> {
        match self.scope.is_remainder() {
            true => process.real_credentials(),
            false => Ok(self.credentials_of(process.identity())),
        }
    }

    pub(super) fn credentials_of(&self, number: usize) -> Credentials {
        self.state().identities.get(number).clone()
    }

    /// Answers one call.
    pub fn serve(&self, listener: BorrowedFd<'_>, call: Notification, outside: &Outside) {
        let (views_differ, acts_as) = (self.views_differ.load(Ordering::SeqCst), Cell::new(None));
        let process = Process { listener, call, outside, views_differ, acts_as };
        // What cannot be looked at is the kernel's to refuse: it has the right errno for a bad path or address.
        let answer = self.answer(&process).unwrap_or(Answer::Reply(Reply::Continue));
        let sent = match answer {
            Answer::Reply(reply) => notify::send(listener, call.id, reply),
            Answer::Descriptor { file, close_on_exec } => {
                notify::send_descriptor(listener, call.id, file.as_fd(), close_on_exec).or_else(|error| {
                    let errno = error.raw_os_error().unwrap_or(libc::EMFILE);
                    notify::send(listener, call.id, Reply::Errno(errno))
                })
            }
        };
        // Killed meanwhile, or its call was interrupted: nobody waits.
        let _ = sent;
    }

    fn answer(&self, process: &Process<'_>) -> io::Result<Answer> {
        let Some(call) = self.table.get(&(process.call.arch, process.call.number)).copied() else {
            return Ok(Reply::Errno(libc::ENOSYS).into());
        };
        self.settle(process);
        match call {
            Call::Stat | Call::LinkStat | Call::FileStat | Call::StatAt => self.stat(process, call),
            Call::StatX => self.statx(process),
            Call::ListDirectory => self.list_directory(process),
            Call::Access | Call::AccessAt | Call::AccessAt2 => self.access(process, call),
            Call::Open | Call::OpenAt | Call::OpenAt2 | Call::Create => self.open(process, call),
            Call::MakeDirectory | Call::MakeDirectoryAt => self.make_directory(process, call),
            Call::MakeLink | Call::MakeLinkAt => self.make_link(process, call),
            Call::HardLink | Call::HardLinkAt => self.hard_link(process, call),
            Call::Remove | Call::RemoveAt | Call::RemoveDirectory | Call::Rename | Call::RenameAt => {
                self.remove(process, call)
            }
            Call::MakeNode | Call::MakeNodeAt => self.make_node(process, call),
            Call::Chown
            | Call::LinkChown
            | Call::FileChown
            | Call::ChownAt
            | Call::ShortChown
            | Call::ShortLinkChown
            | Call::ShortFileChown => self.chown(process, call),
            Call::Chmod | Call::FileChmod | Call::ChmodAt | Call::ChmodAt2 => self.chmod(process, call),
            Call::SetAttribute(reach) => self.set_attribute(process, reach),
            Call::GetAttribute(reach) => self.get_attribute(process, reach),
            Call::ListAttributes(reach) => self.list_attributes(process, reach),
            Call::RemoveAttribute(reach) => self.remove_attribute(process, reach),
            Call::GetUser
            | Call::GetEffectiveUser
            | Call::GetGroup
            | Call::GetEffectiveGroup
            | Call::GetUsers { .. }
            | Call::GetGroupsIds { .. }
            | Call::GetGroups { .. } => self.get_identity(process, call),
            Call::SetUser { .. }
            | Call::SetGroup { .. }
            | Call::SetUsers2 { .. }
            | Call::SetGroups2 { .. }
            | Call::SetUsers3 { .. }
            | Call::SetGroups3 { .. }
            | Call::SetFileUser { .. }
            | Call::SetFileGroup { .. }
            | Call::SetGroups { .. } => self.set_identity(process, call),
            Call::GetCapabilities => self.get_capabilities(process),
            Call::SetCapabilities => self.set_capabilities(process),
            Call::ProcessControl => self.process_control(process),
            Call::Execute | Call::ExecuteAt => self.execute(process, call),
            Call::GetLimit | Call::SetLimit | Call::ProcessLimit => self.limit(process, call),
            Call::Bind | Call::AnySocket => self.bind(process, call),
            Call::ChangeRoot => self.change_root(process),
            Call::ChangeView => {
                self.views_differ.store(true, Ordering::SeqCst);
                Ok(Reply::Continue.into())
            }
            Call::Refused => Ok(Reply::Continue.into()),
        }
    }

    fn change_root(&self, process: &Process<'_>) -> io::Result<Answer> {
        match self.credentials(process)?.may(super::credentials::SYS_CHROOT) {
            true => {
                self.views_differ.store(true, Ordering::SeqCst);
                Ok(Reply::Continue.into())
            }
            false => Ok(Reply::Errno(libc::EPERM).into()),
        }
    }
}
