//! Where scripts run: user, mount, pid, ipc and uts namespaces around one root, and nothing of the host in it.
//!
//! `enter` puts the whole process into a user namespace; `run` starts a fresh single-threaded process (this
//! executable again, told by `argv[0]`) that makes the mounts and an init, and hears one typed answer from it.
//! Sources: namespaces(7), pid_namespaces(7), pivot_root(2), the kernel's overlayfs document.

mod abilities;
mod diagnosis;
mod error;
mod fakeroot;
mod fuse;
mod host;
mod ids;
mod init;
mod interrupt;
mod kept;
mod listener;
mod mounts;
mod output;
mod program;
mod ranges;
mod request;
mod role;
mod root;
mod run;
mod supervise;
mod sys;
mod targets;
mod work_directory;

pub use abilities::{
    observe_fuse, observe_host, observe_inside, observe_place, observe_range, observe_single, try_overlay,
};
pub use error::Error;
pub use fakeroot::{Fakeroot, Scope, correct, try_fakeroot};
pub use fuse::{Owners, mount_image};
pub use host::{HostScript, host_script, rename_host};
pub use ids::{Entered, IdMode, IdModeRequest, enter, enter_for_program};
pub use interrupt::{install as install_interrupt, run_informed};
pub use kept::FailedStep;
pub use program::{Access, Content, Generated, Program, Shown, become_program, mount_memory};
pub use request::{Bind, Ending, Outcome, Root, Run, Script, StandardInput};
pub use role::role;
pub use root::{Mounted, mount_root};
pub use run::run;
pub use work_directory::{WorkDirectory, owned, sweep};

/// From here on the process ends when nobody reads its output any more, as other programs in a pipe do.
pub fn end_with_reader() {
    // Rust ignores SIGPIPE. It can be given its default action always.
    let _ = sys::default_signal(nix::sys::signal::Signal::SIGPIPE);
}
