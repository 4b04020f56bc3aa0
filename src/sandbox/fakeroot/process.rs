//! One waiting process: its memory, its paths, who it is.
//!
//! All that is read of it is taken once; whether it was its own is asked after (`is_valid`), before anything is done. The
//! working directory of a supervising thread is the outer `/proc`, which the container cannot see: a path of the process begins there
//! with its number, so that its own working directory, descriptors and root are what the kernel says they are.

use super::credentials::{Credentials, Ids};
use super::notify::{self, Notification};
use super::status::{self, Status};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Longest path with its NUL.
const PATH_MAX: usize = 4096;
/// No architecture has smaller ones.
const PAGE: u64 = 4096;

/// A process that waits for the answer to one call.
pub struct Process<'a> {
    pub listener: BorrowedFd<'a>,
    pub call: Notification,
    /// Root and `/proc` as this thread has them.
    pub outside: &'a Outside,
    /// Whether any process may have another root or mounts than this thread.
    pub views_differ: bool,
    /// Its identity for this call, where that is not the one which it has.
    pub acts_as: Cell<Option<usize>>,
}

/// Where a supervising thread stands.
pub struct Outside {
    pub root: OwnedFd,
    pub proc: OwnedFd,
    root_identity: (u64, u64, u64),
    /// Whether container root is the only id that there is.
    pub single: bool,
}

/// A file as a call names it, relative to a supervising thread's working directory.
#[derive(Debug)]
pub struct Place {
    path: CString,
    /// Named by a descriptor alone, which must be followed whatever the call says of links.
    descriptor: bool,
}

impl Place {
    pub fn as_c_str(&self) -> &CStr {
        &self.path
    }
}

impl Outside {
    /// Gives this thread a working directory, root and mask of its own, and goes to `proc`.
    pub fn enter(proc: OwnedFd, single: bool) -> io::Result<Outside> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::process::fchdir(&proc)?;
        // What is made for a process gets that process's mask alone.
        rustix::process::umask(Mode::empty());
        let root_identity = identity(c"/", single)?;
        Ok(Outside { root, proc, root_identity, single })
    }
}

/// Device, inode and mount.
fn identity(path: &CStr, single: bool) -> io::Result<(u64, u64, u64)> {
    let bytes = notify::statx(path, 0, status::MASK | libc::STATX_MNT_ID)?;
    let (device, inode) = Status::new(bytes, single).key();
    let mount = u64::from_ne_bytes(bytes[144..152].try_into().expect("eight bytes"));
    Ok((device, inode, mount))
}

impl Process<'_> {
    pub fn argument(&self, index: usize) -> u64 {
        self.call.arguments[index]
    }

    /// A C `int`.
    pub fn int(&self, index: usize) -> i32 {
        self.call.arguments[index] as i32
    }

    /// An id, a mode.
    pub fn word(&self, index: usize) -> u32 {
        self.call.arguments[index] as u32
    }

    /// Still the same call of the same process.
    pub fn is_valid(&self) -> bool {
        notify::is_valid(self.listener, self.call.id)
    }

    /// At most `length` bytes from its memory; less where its memory ends.
    pub fn read(&self, address: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        let got = self.read_into(address, &mut buffer)?;
        buffer.truncate(got);
        Ok(buffer)
    }

    /// Exactly `N` bytes.
    pub fn read_array<const N: usize>(&self, address: u64) -> io::Result<[u8; N]> {
        let mut buffer = [0; N];
        match self.read_into(address, &mut buffer)? {
            got if got == N => Ok(buffer),
            _ => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        }
    }

    fn read_into(&self, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let base = usize::try_from(address).map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))?;
        let remote = [RemoteIoVec { base, len: buffer.len() }];
        let mut local = [IoSliceMut::new(buffer)];
        Ok(process_vm_readv(Pid::from_raw(self.call.thread as i32), &mut local, &remote)?)
    }

    /// A string that ends with NUL: `ENAMETOOLONG` beyond `PATH_MAX`.
    pub fn read_string(&self, address: u64) -> io::Result<CString> {
        let mut string = Vec::new();
        let mut buffer = [0; 256];
        while string.len() < PATH_MAX {
            let at = address.wrapping_add(string.len() as u64);
            // Memory may end with the page.
            let until_page_end = (PAGE - at % PAGE) as usize;
            let want = buffer.len().min(until_page_end).min(PATH_MAX - string.len());
            let got = self.read_into(at, &mut buffer[..want])?;
            if got == 0 {
                return Err(io::Error::from_raw_os_error(libc::EFAULT));
            }
            if let Some(end) = buffer[..got].iter().position(|byte| *byte == 0) {
                string.extend(&buffer[..end]);
                return CString::new(string).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
            }
            string.extend(&buffer[..got]);
        }
        Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
    }

    /// Writes to its memory, if the call still waits: what is opened first cannot become another process's.
    pub fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let path = format!("{}/mem", self.call.thread);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let memory = std::fs::File::from(rustix::fs::openat(&self.outside.proc, path, flags, Mode::empty())?);
        if !self.is_valid() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        memory.write_all_at(bytes, address).map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))
    }

    /// Which identity it has: kept by the kernel in a limit that nothing uses, so that fork and exec hand it on.
    pub fn identity(&self) -> usize {
        if let Some(number) = self.acts_as.get() {
            return number;
        }
        match notify::lock_limit(self.call.thread) {
            Ok(number) => usize::try_from(number).ok().filter(|_| number != libc::RLIM64_INFINITY).unwrap_or(0),
            Err(_) => 0,
        }
    }

    pub fn set_identity(&self, number: usize) -> io::Result<()> {
        notify::set_lock_limit(self.call.thread, if number == 0 { libc::RLIM64_INFINITY } else { number as u64 })
    }

    /// Its process, of which it is a thread.
    pub fn group(&self) -> io::Result<u32> {
        self.status_line("Tgid")?.parse().map_err(io::Error::other)
    }

    /// Whether there still is such a process.
    pub fn lives(&self, process: u32) -> bool {
        rustix::fs::statat(&self.outside.proc, process.to_string(), rustix::fs::AtFlags::empty()).is_ok()
    }

    /// Whether another thread is in exec, or runs, so that nobody can say. Spec: proc_pid_syscall(5).
    pub fn may_execute(&self, thread: u32) -> bool {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.outside.proc, format!("{thread}/syscall"), flags, Mode::empty());
        let text = file.map_err(io::Error::from).and_then(|file| io::read_to_string(std::fs::File::from(file)));
        let Ok(text) = text else { return false };
        // Numbers of exec on x86-64, i386 and aarch64.
        matches!(text.split_whitespace().next(), Some("running" | "59" | "322" | "11" | "358" | "221" | "281"))
    }

    /// Which program runs in it: another value after each exec that succeeded. Its file, and where its arguments lie (proc_pid_stat(5), field 48).
    pub fn program(&self) -> io::Result<(u64, u64, u64)> {
        let path = format!("{}/exe", self.call.thread);
        let file = rustix::fs::statat(&self.outside.proc, path, rustix::fs::AtFlags::empty())?;
        let path = format!("{}/stat", self.call.thread);
        let text = rustix::fs::openat(&self.outside.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let text = io::read_to_string(std::fs::File::from(text))?;
        // The second field is the program's own word.
        let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let arguments = fields.split(' ').nth(48 - 3).and_then(|field| field.parse().ok()).unwrap_or(0);
        Ok((file.st_dev, file.st_ino, arguments))
    }

    fn status_text(&self) -> io::Result<String> {
        let path = format!("{}/status", self.call.thread);
        let file = rustix::fs::openat(&self.outside.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        io::read_to_string(std::fs::File::from(file))
    }

    /// A line of its `status` file.
    pub fn status_line(&self, name: &str) -> io::Result<String> {
        line(&self.status_text()?, name).map(str::to_owned)
    }

    /// What the kernel itself knows of it. Spec: proc_pid_status(5); ids are those of this thread's user namespace, which is the container's.
    ///
    /// Capabilities over a user namespace of its own are none here: an error then, so that the kernel judges.
    pub fn real_credentials(&self) -> io::Result<Credentials> {
        let namespace = |who: &str| -> io::Result<(u64, u64)> {
            let path = CString::new(format!("{who}/ns/user")).expect("no NUL");
            Ok(Status::new(notify::statx(&path, 0, status::MASK)?, false).key())
        };
        if namespace(&self.call.thread.to_string())? != namespace("self")? {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let text = self.status_text()?;
        let numbers = |name: &str| -> io::Result<Vec<u32>> {
            Ok(line(&text, name)?.split_whitespace().filter_map(|word| word.parse().ok()).collect())
        };
        let ids = |name: &str| match numbers(name)?[..] {
            [real, effective, saved, files] => Ok(Ids { real, effective, saved, files }),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        let set = |name: &str| {
            u64::from_str_radix(line(&text, name)?, 16).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
        };
        let mut groups = numbers("Groups")?;
        groups.sort_unstable();
        Ok(Credentials {
            user: ids("Uid")?,
            group: ids("Gid")?,
            groups,
            permitted: set("CapPrm")?,
            effective: set("CapEff")?,
            ..Credentials::root()
        })
    }

    pub fn umask(&self) -> io::Result<u32> {
        let text = self.status_line("Umask")?;
        u32::from_str_radix(&text, 8).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
    }

    /// A copy of one of its descriptors, with the same place in the file.
    pub fn copy_descriptor(&self, number: i32) -> io::Result<OwnedFd> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let process =
            self.status_line("Tgid")?.parse().ok().and_then(rustix::process::Pid::from_raw).ok_or_else(gone)?;
        let handle = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?;
        Ok(rustix::process::pidfd_getfd(&handle, number, rustix::process::PidfdGetfdFlags::empty())?)
    }

    /// The file that `path`, relative to its descriptor `directory`, names. With an empty path: the descriptor itself.
    pub fn place(&self, directory: i32, path: &CStr) -> Place {
        let bytes = path.to_bytes();
        let thread = self.call.thread;
        let own = |rest: &[u8]| [thread.to_string().as_bytes(), b"/", rest].concat();
        let full = if let Some(rest) = own_process(bytes) {
            own(&rest)
        } else if bytes.starts_with(b"/") {
            bytes.to_vec()
        } else {
            let start = match directory {
                libc::AT_FDCWD => own(b"cwd"),
                number => own(format!("fd/{number}").as_bytes()),
            };
            if bytes.is_empty() { start } else { [&start[..], b"/", bytes].concat() }
        };
        Place { path: CString::new(full).unwrap_or_default(), descriptor: bytes.is_empty() }
    }

    pub fn descriptor(&self, number: i32) -> Place {
        self.place(number, c"")
    }

    /// The directory in which `path` has or would get its last name; and that name.
    pub fn parent(&self, directory: i32, path: &CStr) -> Option<(Place, CString)> {
        let bytes = path.to_bytes();
        let trimmed = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == b'/').count();
        let bytes = &bytes[..trimmed];
        let (parent, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
            Some(0) => (&b"/"[..], &bytes[1..]),
            Some(slash) => (&bytes[..slash], &bytes[slash + 1..]),
            None => (&b"."[..], bytes),
        };
        if name.is_empty() || name == b"." || name == b".." {
            return None;
        }
        Some((self.place(directory, &CString::new(parent).ok()?), CString::new(name).ok()?))
    }

    /// Does something in the root that the process sees.
    pub fn within<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if !self.views_differ {
            return work();
        }
        let root = CString::new(format!("{}/root", self.call.thread)).expect("no NUL");
        if identity(&root, self.outside.single)? == self.outside.root_identity {
            return work();
        }
        let enter = || -> io::Result<()> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let place = rustix::fs::openat(&self.outside.proc, root.as_c_str(), flags, Mode::empty())?;
            rustix::process::fchdir(&place)?;
            rustix::process::chroot(".")?;
            Ok(rustix::process::fchdir(&self.outside.proc)?)
        };
        let result = enter().and_then(|()| work());
        let leave = || -> io::Result<()> {
            rustix::process::fchdir(&self.outside.root)?;
            rustix::process::chroot(".")?;
            Ok(rustix::process::fchdir(&self.outside.proc)?)
        };
        // Invariant: a thread that stays in another root would answer for the wrong files.
        leave().expect("a supervising thread can return to its root");
        result
    }

    /// Does something from the directory in which the process is; relative names then mean what they mean to it.
    pub fn in_its_directory<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let place = self.hold(&self.place(libc::AT_FDCWD, c""), true)?;
        rustix::process::fchdir(&place)?;
        let result = work();
        rustix::process::fchdir(&self.outside.proc).expect("a supervising thread can return to where it stands");
        Ok(result)
    }

    pub fn status(&self, place: &Place, follow: bool) -> io::Result<Status> {
        let flags = if follow || place.descriptor { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        Ok(Status::new(notify::statx(&place.path, flags, status::MASK)?, self.outside.single))
    }

    /// The same with what the call itself asks for.
    pub fn status_with(&self, place: &Place, follow: bool, flags: i32, mask: u32) -> io::Result<Status> {
        let flags = flags | if follow || place.descriptor { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        Ok(Status::new(notify::statx(&place.path, flags, mask | status::MASK)?, self.outside.single))
    }

    /// Of a name in a directory that this thread holds.
    pub fn status_below(&self, held: &CStr, name: &[u8]) -> io::Result<Status> {
        let path = CString::new([held.to_bytes(), b"/", name].concat())?;
        Ok(Status::new(notify::statx(&path, libc::AT_SYMLINK_NOFOLLOW, status::MASK)?, self.outside.single))
    }

    pub fn status_of(&self, file: BorrowedFd<'_>) -> io::Result<Status> {
        Ok(Status::new(notify::statx_of(file)?, self.outside.single))
    }

    /// A handle that stays on this file whatever its names do meanwhile.
    pub fn hold(&self, place: &Place, follow: bool) -> io::Result<OwnedFd> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if !follow && !place.descriptor {
            flags |= OFlags::NOFOLLOW;
        }
        Ok(rustix::fs::openat(rustix::fs::CWD, place.path.as_c_str(), flags, Mode::empty())?)
    }

    /// The path by which this thread reaches a file that it holds.
    pub fn held(&self, file: BorrowedFd<'_>) -> CString {
        CString::new(format!("self/fd/{}", file.as_raw_fd())).expect("no NUL")
    }
}

fn line<'a>(text: &'a str, name: &str) -> io::Result<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.map(str::trim).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

/// `/proc/self` and its like: the rest below the process's own directory. There is no process of ours in the container's `/proc`.
fn own_process(path: &[u8]) -> Option<Vec<u8>> {
    for prefix in [&b"/proc/self/"[..], b"/proc/thread-self/"] {
        if let Some(rest) = path.strip_prefix(prefix) {
            return Some(rest.to_vec());
        }
    }
    if let Some(rest) = path.strip_prefix(b"/dev/fd/") {
        return Some([b"fd/", rest].concat());
    }
    let number = match path {
        b"/dev/stdin" => b'0',
        b"/dev/stdout" => b'1',
        b"/dev/stderr" => b'2',
        _ => return None,
    };
    Some(vec![b'f', b'd', b'/', number])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_s_own_directory_is_found_from_outside() {
        let found = |path: &str| own_process(path.as_bytes()).map(|rest| String::from_utf8(rest).unwrap());
        assert_eq!(found("/proc/self/fd/3").as_deref(), Some("fd/3"));
        assert_eq!(found("/proc/thread-self/exe").as_deref(), Some("exe"));
        assert_eq!(found("/dev/fd/7").as_deref(), Some("fd/7"));
        assert_eq!(found("/dev/stderr").as_deref(), Some("fd/2"));
        for path in ["/proc/selfish", "/proc/1/fd/3", "/dev/stdinx", "proc/self/fd/1", "/"] {
            assert_eq!(found(path), None, "{path}");
        }
    }
}
