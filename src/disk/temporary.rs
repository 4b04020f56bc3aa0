//! What must not outlive this process, so that an interrupt can remove it from whatever state.

use super::remove_tree;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

static REGISTERED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Keeps a path on the list; dropped, it takes the path off and removes nothing.
#[derive(Debug)]
pub struct Registered(PathBuf);

/// Puts `path` (a file or a directory) on the list of what [`remove_registered`] removes.
pub fn register(path: &Path) -> Registered {
    list().insert(path.to_path_buf());
    Registered(path.to_path_buf())
}

/// Removes everything registered, as far as it can be; for the moment before the process ends.
pub fn remove_registered() {
    remove_these(&registered());
}

/// Innermost first.
pub(super) fn registered() -> Vec<PathBuf> {
    list().iter().rev().cloned().collect()
}

pub(super) fn remove_these(paths: &[PathBuf]) {
    for path in paths {
        // Other threads may still write there: a few attempts. What stays is swept by the next run.
        for _ in 0..3 {
            if remove_tree(path).is_ok() {
                break;
            }
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        list().remove(&self.0);
    }
}

fn list() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    REGISTERED.lock().unwrap_or_else(|poison| poison.into_inner())
}
