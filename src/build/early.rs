//! Blocks of the layers below a script, made while it runs: processors that wait for a network or a configure script make what the pack then copies.
//!
//! The image's bytes are the same without: [`Kept`] blocks change none.

use super::filesystem::Filesystem;
use super::pack::stored_bodies;
use crate::event::{Event, Observer};
use crate::squashfs::{Kept, Options, SegmentBody, Window, WriteError, Writer};
use crate::store::{Contents, Held, Store, Supplement};
use crate::tree::TreePath;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Layers with fewer bytes are packed as fast as they are looked after here.
const WORTHWHILE: u64 = 4 << 20;
/// The lowest priority of ordinary threads.
const IDLE: i32 = 19;
/// How often a pack that waits looks at what it waits for.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes between two looks that show that the work goes on, if the medium is what it waits for.
const STEP: u64 = 256 << 10;
/// Looks in a row, without a tenth of one processor in use or a step done, after which others need the machine.
const STARVED: usize = 20;

/// The work in the background. Dropped, it stops and leaves nothing.
pub struct Early {
    stop: Arc<AtomicBool>,
    /// Bytes that were read.
    done: Arc<AtomicU64>,
    thread: Option<JoinHandle<Vec<String>>>,
}

/// One layer whose blocks are to be made.
struct Job {
    held: Held,
    draft: Supplement,
}

impl Early {
    /// Begins with those layers of `filesystem` that the store has and whose blocks it has not. `None`: there is nothing to do.
    pub fn begin(filesystem: &Filesystem, store: &Store, options: Options) -> Option<Early> {
        let jobs: Vec<Job> = filesystem
            .layers
            .iter()
            .zip(&filesystem.chain)
            .filter_map(|(held, key)| {
                let Contents::Directory(_) = held.contents else { return None };
                let bodies: Vec<SegmentBody> =
                    stored_bodies(&held.layer).map(|(_, size)| SegmentBody { size, visible: true }).collect();
                let name = Kept::name(&options);
                let made = store.supplement(key, &name).is_some_and(|file| is_whole(file, &options, &bodies));
                let size: u64 = bodies.iter().map(|body| body.size).fold(0, u64::saturating_add);
                if made || size < WORTHWHILE {
                    return None;
                }
                Some(Job { held: held.clone(), draft: store.begin_supplement(key, &name).ok()? })
            })
            .collect();
        if jobs.is_empty() {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::Builder::new().name("early".to_owned()).spawn(move || {
            // Threads that this one starts inherit its priority.
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), IDLE);
            jobs.into_iter().filter_map(|job| make(job, options, &stopped, &counted).err()).collect()
        });
        Some(Early { stop, done, thread: Some(thread.ok()?) })
    }

    /// Waits for the end, for as long as other people's work leaves it a processor.
    pub fn settle(mut self, observer: &dyn Observer) {
        let Some(thread) = self.thread.take() else { return };
        let state = || (used(), self.done.load(Ordering::Relaxed));
        let (mut before, mut starved) = (state(), 0);
        while !thread.is_finished() && starved < STARVED {
            std::thread::sleep(LOOK);
            let now = state();
            let idle = now.0.saturating_sub(before.0) < LOOK / 10 && now.1 - before.1 < STEP;
            starved = if idle { starved + 1 } else { 0 };
            before = now;
        }
        self.stop.store(true, Ordering::Relaxed);
        for cause in thread.join().unwrap_or_default() {
            observer.observe(Event::Detail(format!("blocks made while the script ran: {cause}")));
        }
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn is_whole(file: File, options: &Options, bodies: &[SegmentBody]) -> bool {
    let Ok(window) = Window::whole(file) else { return false };
    Kept::open(Box::new(window), options, bodies.len())
        .is_ok_and(|kept| kept.is_some_and(|kept| kept.covers(bodies, options)))
}

/// Processor time of this process.
fn used() -> Duration {
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| {
        let micros = (usage.user_time() + usage.system_time()).num_microseconds();
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    })
}

fn make(job: Job, options: Options, stop: &AtomicBool, done: &AtomicU64) -> Result<(), String> {
    let Job { held, draft } = job;
    let stored: Vec<(&TreePath, u64)> = stored_bodies(&held.layer).collect();
    let bodies: Vec<SegmentBody> = stored.iter().map(|(_, size)| SegmentBody { size: *size, visible: true }).collect();
    let opener = held.opener().map_err(|error| error.to_string())?.ok_or("the layer cannot be opened by path")?;
    let open = |body: usize, offset: u64| match stop.load(Ordering::Relaxed) {
        true => Err(io::Error::other("there was no processor for it")),
        false => opener(stored[body].0, offset),
    };
    let told = |error: WriteError| error.to_string();
    let out = draft.file().try_clone().map_err(|error| error.to_string())?;
    let mut writer = Writer::new(out, options).map_err(told)?;
    let mut each = |size| {
        done.fetch_add(size, Ordering::Relaxed);
    };
    writer.segment(&bodies, &open, None, true, &mut each).map_err(|error| error.to_string())?;
    let (mut out, end, segments) = writer.into_blocks().map_err(told)?;
    let segment = segments.first().ok_or("no segment was recorded")?;
    segment.seal(&options, end, &mut out).map_err(|error| error.to_string())?;
    let length = io::Seek::stream_position(&mut out).map_err(|error| error.to_string())?;
    out.set_len(length).map_err(|error| error.to_string())?;
    draft.keep().map_err(|error| error.to_string())
}
