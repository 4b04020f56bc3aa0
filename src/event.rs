//! What a build tells whoever watches it.

use std::sync::Mutex;

/// Which long-running work a [`Event::Progress`] belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    Pull,
    Push,
    Unpack,
    Pack,
}

/// One thing that happened. Text is for people; the variants are for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A plain message (`INFO:` in Apptainer's terms).
    Info(String),
    /// Something that the author should know, but that stops nothing.
    Warning(String),
    /// Detail for `-v`.
    Detail(String),
    StepStarted {
        step: String,
    },
    StepFinished {
        step: String,
        reused: bool,
        milliseconds: u64,
    },
    /// A line of output of a script, without its line end.
    Output {
        step: String,
        line: String,
    },
    /// Progress of one subject (a digest, a file); units are bytes unless `total` is absent.
    Progress {
        task: Task,
        subject: String,
        done: u64,
        total: Option<u64>,
    },
    ProgressFinished {
        task: Task,
        subject: String,
    },
}

/// Receives events from any thread.
pub trait Observer: Send + Sync {
    fn observe(&self, event: Event);
}

/// Ignores everything.
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: Event) {}
}

/// Keeps everything, for tests.
#[derive(Default)]
pub struct Recorder {
    pub events: Mutex<Vec<Event>>,
}

impl Observer for Recorder {
    fn observe(&self, event: Event) {
        self.events.lock().unwrap_or_else(|poison| poison.into_inner()).push(event);
    }
}
