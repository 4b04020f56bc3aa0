//! A squashfs image mounted through FUSE, served by a process of this program: no helper, no set-id program.
//!
//! The mount lies in the mount namespace of the program that runs in the image; the server lives in one of its own, so that it
//! holds nothing: when the last process in the image is gone, so is the mount, and the kernel tells the server.
//! Source: the kernel's `include/uapi/linux/fuse.h`.

mod protocol;
mod server;

use super::{Error, supervise, sys};
use crate::squashfs::{Image, ReadAt};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, setsid};
use server::Server;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Longest request in bytes: names and attributes; nothing is written.
const LONGEST_REQUEST: usize = 256 << 10;

/// Whose the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// As the image says.
    OfTheImage,
    /// All are root's: the one id that there is.
    Root,
}

/// Mounts `image` at `at`, read-only, and leaves a process behind that serves it. Only after the namespaces were entered, as the
/// only thread.
pub fn mount_image<S: ReadAt>(image: &Image<S>, owners: Owners, at: &Path) -> Result<(), Error> {
    let fail = |action: &'static str| move |cause| Error::Helper { action, cause };
    if !sys::is_single_threaded() {
        return Err(Error::Threads { mode: super::IdMode::None });
    }
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let device =
        device.map_err(|cause| Error::Operation { operation: "open /dev/fuse".to_owned(), cause, hint: "" })?;
    let (mut ours, theirs) = UnixStream::pair().map_err(fail("prepare"))?;
    // Two forks: a child that never ends would surprise a program that waits for all of its own.
    match sys::fork().map_err(|errno| fail("fork")(errno.into()))? {
        ForkResult::Child => {
            if let Ok(ForkResult::Child) = sys::fork() {
                drop(ours);
                let _ = serve(image, owners, &device, theirs);
            }
            supervise::exit(0)
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            supervise::wait_for(child);
        }
    }
    ours.read_exact(&mut [0]).map_err(fail("start"))?;
    let options =
        format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", device.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_RDONLY;
    mount(Some("sifbuild"), at, Some("fuse"), flags, Some(options.as_str())).map_err(|errno| {
        let operation = format!("mount (FUSE) the image at {}", at.display());
        Error::Operation { operation, cause: errno.into(), hint: "" }
    })?;
    ours.write_all(&[1]).map_err(fail("talk to"))
}

/// The server's whole life.
fn serve<S: ReadAt>(image: &Image<S>, owners: Owners, device: &File, mut mounting: UnixStream) -> io::Result<()> {
    // Not of the terminal's foreground group: Ctrl-C is for the program.
    setsid()?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    std::env::set_current_dir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    let mut server = Server::new(image, owners);
    mounting.write_all(&[1])?;
    // Before the mount is there, nothing can be read.
    mounting.read_exact(&mut [0])?;
    drop(mounting);
    let mut request = vec![0; LONGEST_REQUEST];
    let mut device = device;
    loop {
        let length = match device.read(&mut request) {
            Ok(length) => length,
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                // A request was taken back before it was read.
                Some(Errno::EINTR | Errno::ENOENT | Errno::EAGAIN) => continue,
                // ENODEV: unmounted.
                _ => return Ok(()),
            },
        };
        if let Some(answer) = server.answer(&request[..length]) {
            match device.write(&answer).map_err(|error| error.raw_os_error().map(Errno::from_raw)) {
                // Who asked was interrupted, and hears no answer.
                Ok(_) | Err(Some(Errno::ENOENT)) => {}
                Err(_) => return Ok(()),
            }
        }
    }
}
