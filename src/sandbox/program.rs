//! A program of the calling user in an image: this very process becomes it.
//!
//! Unlike a script of a build it lives with the host: its processes, devices, network, home and working directory are those of
//! the user. So there is nothing to supervise: signals, the terminal and the exit code are the program's own. All mounts are
//! below one memory file system in a mount namespace of this process; the kernel removes them with the last process in it.
//! Sources: user_namespaces(7), pivot_root(2).

use super::ids::become_user;
use super::mounts::{make_read_only, remount};
use super::request::{Bind, Failure, Root};
use super::targets::{Shape, Targets};
use super::{Error, root, sys};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{chdir, execve, fchdir, pivot_root};
use std::ffi::{CString, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Largest file of the image that is shown with something added.
const MAXIMUM_FILE: u64 = 16 << 20;
const SHELL: &str = "/bin/sh";
/// Directory of the place that is no part of the root.
const INNER: &str = "inner";

/// What to become, and where.
#[derive(Clone, Debug)]
pub struct Program {
    /// Directories, the topmost first; none of them is changed, unless [`Access::InPlace`].
    pub root: Vec<PathBuf>,
    pub access: Access,
    /// In this order. Places that are missing are made, in memory.
    pub shown: Vec<Shown>,
    /// Memory file systems of the program's own, before `shown`.
    pub private: Vec<PathBuf>,
    pub generated: Vec<Generated>,
    /// Directory of the host that is shown under its own path, where that is not the same directory already.
    pub caller_directory: Option<PathBuf>,
    /// The first of these that can be entered is where it starts.
    pub directories: Vec<PathBuf>,
    pub argv: Vec<OsString>,
    /// Read by the image's `/bin/sh`, with `argv` as its arguments, before the program; left out where the image has no shell.
    pub prologue: Vec<u8>,
    /// For the shell with the prologue.
    pub environment: Vec<(OsString, OsString)>,
    /// For a program without a shell before it.
    pub plain_environment: Vec<(OsString, OsString)>,
    /// User and group that the program has; `None` for root of the namespace.
    pub identity: Option<(u32, u32)>,
    /// An empty directory of the host; everything is mounted on it, in this process's own mount namespace.
    pub place: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    /// Changes are in memory, and gone with the program.
    Discarded,
    /// The one directory itself is changed.
    InPlace,
}

/// A bind. One that is not required and cannot be made is a warning.
#[derive(Clone, Debug)]
pub struct Shown {
    pub bind: Bind,
    pub required: bool,
}

/// A file that exists for this program only.
#[derive(Clone, Debug)]
pub struct Generated {
    pub path: PathBuf,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    /// The image's own, and this behind it, unless a line of it begins with this name.
    Append {
        unless: Vec<u8>,
        bytes: Vec<u8>,
    },
    Replace(Vec<u8>),
}

/// Makes the mounts and becomes the program; returns only when that fails. Only after [`enter`](super::enter) or
/// [`enter_for_program`](super::enter_for_program), as the only thread. `warn` hears of what is left out.
pub fn become_program(program: &Program, warn: &dyn Fn(&str)) -> Error {
    match perform(program, warn) {
        Ok(never) => match never {},
        Err(failure) => failure.into(),
    }
}

fn perform(program: &Program, warn: &dyn Fn(&str)) -> Result<std::convert::Infallible, Failure> {
    let root = mount_root(program)?;
    let mut targets = Targets::new(&root).map_err(|error| Failure::new(format!("open {}", root.display()), error))?;
    for path in &program.private {
        show_memory(&mut targets, path)?;
    }
    for shown in &program.shown {
        match show(&mut targets, &shown.bind) {
            Err(failure) if shown.required => return Err(failure),
            Err(failure) => warn(&format!(
                "{} is not shown in the container: {}",
                shown.bind.source.display(),
                Error::from(failure)
            )),
            Ok(()) => {}
        }
    }
    for generated in &program.generated {
        generate(&mut targets, generated, &program.place)?;
    }
    if let Some(directory) = &program.caller_directory
        && let Err(failure) = show_caller_directory(&mut targets, directory)
    {
        warn(&format!("the working directory is not shown in the container: {}", Error::from(failure)));
    }
    pivot(&targets, program.access).map_err(|error| Failure::new("make the container's root the root", error))?;
    if let Some((uid, gid)) = program.identity {
        become_user(uid, gid).map_err(|error| Failure::new("become the calling user in the container", error))?;
    }
    execute(program)
}

/// Mounts a memory file system of this process's own. Only after the namespaces were entered.
pub fn mount_memory(place: &Path) -> Result<(), Error> {
    Ok(mount_tmpfs(place)?)
}

fn mount_tmpfs(place: &Path) -> Result<(), Failure> {
    mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .map_err(|errno| Failure::new(format!("mount a memory file system at {}", place.display()), errno))
}

/// The root, mounted below the place.
fn mount_root(program: &Program) -> Result<PathBuf, Failure> {
    let place = &program.place;
    let fail = |operation: String| move |error: io::Error| Failure::new(operation, error);
    mount_tmpfs(place)?;
    // Else it would come along with a bind of a directory above it.
    mount(None::<&str>, place, None::<&str>, MsFlags::MS_UNBINDABLE, None::<&str>)
        .map_err(|errno| Failure::new(format!("hide {}", place.display()), errno))?;
    // A mount of its own, for what is bound and overlaid from it.
    let [root, inner] = ["root", INNER].map(|name| place.join(name));
    for path in [&root, &inner] {
        fs::create_dir(path).map_err(fail(format!("create {}", path.display())))?;
    }
    mount_tmpfs(&inner)?;
    let [links, upper, work, files] = ["lower", "upper", "work", "files"].map(|name| inner.join(name));
    for path in [&links, &upper, &work, &files] {
        fs::create_dir(path).map_err(fail(format!("create {}", path.display())))?;
    }
    let shape = match (program.access, program.root.as_slice()) {
        (Access::InPlace, [directory]) => Root::Directory(directory.clone()),
        _ => Root::Overlay { lower: program.root.clone(), upper, work },
    };
    match (root::mount_here(&shape, &root, &links), program.access, program.root.as_slice()) {
        // Where no overlay can be had the directory itself is shown; places to mount at that it lacks are made in it.
        (Err(failure), Access::ReadOnly, [directory]) => {
            root::mount_here(&Root::Directory(directory.clone()), &root, &links).map_err(|_| failure)?;
        }
        (mounted, ..) => mounted?,
    }
    let opened =
        rustix::fs::open(&root, rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty());
    let path = root.to_string_lossy().into_owned();
    opened
        .map_err(io::Error::from)
        .and_then(|opened| remount(&opened, &path, MsFlags::MS_NOSUID | MsFlags::MS_NODEV))
        .map_err(fail("take set-id bits and devices from the root".to_owned()))?;
    Ok(root)
}

fn show(targets: &mut Targets, bind: &Bind) -> Result<(), Failure> {
    let operation =
        || format!("mount (bind) {} at {} of the container", bind.source.display(), bind.destination.display());
    let metadata = fs::metadata(&bind.source).map_err(|error| Failure::new(operation(), error))?;
    let shape = if metadata.is_dir() { Shape::Directory } else { Shape::File };
    let target = find(targets, &bind.destination, shape)?;
    let at = format!("/proc/self/fd/{}", target.as_raw_fd());
    mount(Some(&bind.source), at.as_str(), None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| Failure::new(operation(), errno))?;
    if bind.read_only {
        let mounted = find(targets, &bind.destination, shape)?;
        make_read_only(&mounted).map_err(|error| Failure::new(format!("{} read-only", operation()), error))?;
    }
    Ok(())
}

fn show_memory(targets: &mut Targets, path: &Path) -> Result<(), Failure> {
    let target = find(targets, path, Shape::Directory)?;
    let at = format!("/proc/self/fd/{}", target.as_raw_fd());
    let options = if path.ends_with("tmp") { "mode=1777" } else { "mode=755" };
    mount(Some("tmpfs"), at.as_str(), Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
        .map_err(|errno| Failure::new(format!("mount a memory file system at {}", path.display()), errno))
}

fn generate(targets: &mut Targets, generated: &Generated, place: &Path) -> Result<(), Failure> {
    let fail = |error: io::Error| Failure::new(format!("make {} for the container", generated.path.display()), error);
    let target = find(targets, &generated.path, Shape::File)?;
    let at = format!("/proc/self/fd/{}", target.as_raw_fd());
    let bytes = match &generated.content {
        Content::Replace(bytes) => bytes.clone(),
        Content::Append { unless, bytes } => {
            let mut own = Vec::new();
            let opened = File::open(&at).map_err(fail)?;
            opened.take(MAXIMUM_FILE).read_to_end(&mut own).map_err(fail)?;
            if !own.split(|byte| *byte == b'\n').any(|line| line.starts_with(unless)) {
                if own.last().is_some_and(|last| *last != b'\n') {
                    own.push(b'\n');
                }
                own.extend_from_slice(bytes);
            }
            own
        }
    };
    let name = generated.path.as_os_str().as_bytes().iter().map(|byte| if *byte == b'/' { b'-' } else { *byte });
    let file = place.join(INNER).join("files").join(std::ffi::OsStr::from_bytes(&name.collect::<Vec<u8>>()));
    fs::write(&file, bytes).and_then(|()| fs::set_permissions(&file, Permissions::from_mode(0o644))).map_err(fail)?;
    mount(Some(&file), at.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| fail(errno.into()))
}

/// Directories of the system are the image's own, also when the user stands in the host's.
fn show_caller_directory(targets: &mut Targets, directory: &Path) -> Result<(), Failure> {
    const OF_THE_IMAGE: [&str; 13] =
        ["/", "/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/mnt", "/opt", "/root", "/sbin", "/usr", "/var"];
    if OF_THE_IMAGE.iter().any(|path| directory == Path::new(path)) {
        return Ok(());
    }
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let target = find(targets, directory, Shape::Directory)?;
    let at = PathBuf::from(format!("/proc/self/fd/{}", target.as_raw_fd()));
    let fail = |error: io::Error| Failure::new(format!("show {}", directory.display()), error);
    if identity(&at).map_err(fail)? == identity(directory).map_err(fail)? {
        return Ok(());
    }
    drop(target);
    show(targets, &Bind { source: directory.to_path_buf(), destination: directory.to_path_buf(), read_only: false })
}

fn find(targets: &mut Targets, at: &Path, shape: Shape) -> Result<std::os::fd::OwnedFd, Failure> {
    let target = targets.prepare(at, shape);
    target
        .map(|target| target.place)
        .map_err(|error| Failure::new(format!("make a mount point at {} of the container", at.display()), error))
}

fn pivot(targets: &Targets, access: Access) -> io::Result<()> {
    fchdir(targets.root())?;
    // Spec: pivot_root(2): stacks the old root over the new one, from where it is taken away.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    if access == Access::ReadOnly {
        remount(&targets.root().try_clone_to_owned()?, "/", MsFlags::MS_RDONLY)?;
    }
    Ok(())
}

fn execute(program: &Program) -> Result<std::convert::Infallible, Failure> {
    // What the first could not do is told when nothing can be entered.
    let mut refused = None;
    let entered = program
        .directories
        .iter()
        .any(|directory| chdir(directory).map_err(|errno| refused.get_or_insert((directory.clone(), errno)).1).is_ok());
    if let (false, Some((directory, errno))) = (entered, refused) {
        return Err(Failure::new(format!("enter the directory {} of the container", directory.display()), errno));
    }
    // Compat: as Apptainer does; a set-id program in a bound directory must not help out of the container.
    nix::sys::prctl::set_no_new_privs().map_err(|errno| Failure::new("give up new privileges", errno))?;
    // Rust ignores SIGPIPE.
    let _ = sys::default_signal(Signal::SIGPIPE);
    let _ = SigSet::empty().thread_set_mask();
    if Path::new(SHELL).exists() { execute_with_prologue(program) } else { execute_plainly(program) }
}

fn execute_with_prologue(program: &Program) -> Result<std::convert::Infallible, Failure> {
    let fail = |error: io::Error| Failure::new("prepare the program's environment", error);
    let memory = rustix::fs::memfd_create("sifbuild-environment", rustix::fs::MemfdFlags::empty());
    let mut file = File::from(memory.map_err(|error| fail(error.into()))?);
    file.write_all(&program.prologue).map_err(fail)?;
    // The shell opens it again by its number and closes this one.
    let script = format!("/proc/self/fd/{}", file.into_raw_fd());
    let mut argv: Vec<OsString> = vec![SHELL.into(), script.into()];
    argv.extend(program.argv.iter().cloned());
    let Err(errno) = execve(&c_string(SHELL.as_bytes())?, &strings(&argv)?, &variables(&program.environment)?);
    Err(Failure::Exec { program: SHELL.to_owned(), errno: errno as i32 })
}

fn execute_plainly(program: &Program) -> Result<std::convert::Infallible, Failure> {
    let name = program.argv.first().cloned().unwrap_or_default();
    let environment = &program.plain_environment;
    let path = environment.iter().find(|(variable, _)| variable == "PATH").map(|(_, value)| value.as_bytes().to_vec());
    let candidates: Vec<Vec<u8>> = match name.as_bytes().contains(&b'/') {
        true => vec![name.as_bytes().to_vec()],
        false => {
            let join = |directory: &[u8]| [directory, b"/", name.as_bytes()].concat();
            path.unwrap_or_default().split(|byte| *byte == b':').map(join).collect()
        }
    };
    let (arguments, environment) = (strings(&program.argv)?, variables(environment)?);
    let mut last = Errno::ENOENT;
    for candidate in candidates {
        let Err(errno) = execve(&c_string(&candidate)?, &arguments, &environment);
        // As execvp(3): a later directory of the path is tried, but the telling error is kept.
        if errno != Errno::ENOENT || last == Errno::ENOENT {
            last = errno;
        }
    }
    Err(Failure::Exec { program: name.to_string_lossy().into_owned(), errno: last as i32 })
}

fn strings(texts: &[OsString]) -> Result<Vec<CString>, Failure> {
    texts.iter().map(|text| c_string(text.as_bytes())).collect()
}

fn variables(variables: &[(OsString, OsString)]) -> Result<Vec<CString>, Failure> {
    variables.iter().map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat())).collect()
}

fn c_string(bytes: &[u8]) -> Result<CString, Failure> {
    CString::new(bytes).map_err(|_| Failure::new("pass an argument that contains a NUL byte", Errno::EINVAL))
}
