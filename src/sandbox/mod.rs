//! Where scripts run: user, mount, pid, ipc and uts namespaces around one root, and nothing of the host in it.
//!
//! `enter` puts the whole process into a user namespace; `run` starts a fresh single-threaded process (this
//! executable again, told by `argv[0]`) that makes the mounts and an init, and hears one typed answer from it.
//! Sources: namespaces(7), pid_namespaces(7), pivot_root(2), the kernel's overlayfs document.

mod diagnosis;
mod error;
mod ids;
mod ranges;
mod supervise;
mod sys;

pub use error::Error;
pub use ids::{Entered, IdMode, IdModeRequest, enter, probe};
