//! Who calls, and what of this host a program in a container sees as Apptainer's default settings have it.

use super::Stop;
use crate::sandbox::{Bind, Content, Generated, Shown};
use nix::unistd::{Group, User, getegid, geteuid};
use std::fs;
use std::path::{Path, PathBuf};

/// The calling user, seen before any namespace is entered.
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    name: Option<String>,
    user_home: PathBuf,
    group: Option<String>,
    shell: String,
    /// Where the command was called.
    pub directory: Option<PathBuf>,
}

/// The home directory: of the host, and in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    pub source: PathBuf,
    pub destination: PathBuf,
}

impl Caller {
    pub fn look() -> Result<Caller, Stop> {
        let (uid, gid) = (geteuid(), getegid());
        let user = User::from_uid(uid).ok().flatten();
        let known = user.as_ref().map(|user| user.dir.clone()).filter(|path| path.is_absolute());
        let named = || std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        Ok(Caller {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            user_home: named().or(known).unwrap_or_else(|| PathBuf::from("/")),
            shell: user.as_ref().map_or_else(|| "/bin/sh".to_owned(), |user| user.shell.to_string_lossy().into_owned()),
            name: user.map(|user| user.name),
            group: Group::from_gid(gid).ok().flatten().map(|group| group.name),
            directory: logical_directory(),
        })
    }

    /// `spec` is SOURCE[:DESTINATION]. Root's home in a container is `/root`.
    pub fn home(&self, spec: Option<&str>, as_root: bool) -> Result<Home, Stop> {
        let own = if as_root { PathBuf::from("/root") } else { self.user_home.clone() };
        let Some(spec) = spec else { return Ok(Home { source: self.user_home.clone(), destination: own }) };
        let (source, destination) = spec.split_once(':').unwrap_or((spec, spec));
        let source = std::path::absolute(source).map_err(|error| Stop::usage(format!("--home {spec}: {error}")))?;
        let destination = if spec.contains(':') { PathBuf::from(destination) } else { source.clone() };
        match (source.is_dir(), destination.is_absolute()) {
            (false, _) => Err(Stop::usage(format!("--home {spec}: {} is no directory of this host", source.display()))),
            (_, false) => Err(Stop::usage(format!("--home {spec}: the destination must be an absolute path"))),
            _ => Ok(Home { source, destination }),
        }
    }

    /// Places of the host, in the order of their mounts. A step of a build gets no `/tmp` of the host: its script had none.
    pub fn shown(&self, contain: bool, is_step: bool) -> Vec<Shown> {
        let mut paths = vec!["/proc", "/sys", "/dev", "/etc/hosts", "/etc/localtime"];
        if !contain && !is_step {
            paths.extend(["/tmp", "/var/tmp"]);
        }
        let there = paths.into_iter().map(Path::new).filter(|path| path.exists());
        // Without /proc no program runs as the user; the rest can be missed.
        there.map(|path| shown(path, path, path == Path::new("/proc"))).collect()
    }

    /// Accounts that name the caller, and the host's name resolution.
    pub fn generated(&self, home: &Path, as_root: bool) -> Vec<Generated> {
        let mut generated = Vec::new();
        if let Ok(bytes) = fs::read("/etc/resolv.conf") {
            generated.push(Generated { path: PathBuf::from("/etc/resolv.conf"), content: Content::Replace(bytes) });
        }
        if as_root || self.uid == 0 {
            return generated;
        }
        let mut add = |path: &str, name: &str, line: String| {
            let content = Content::Append { unless: format!("{name}:").into_bytes(), bytes: line.into_bytes() };
            generated.push(Generated { path: PathBuf::from(path), content });
        };
        if let Some(name) = &self.name {
            let (uid, gid, home, shell) = (self.uid, self.gid, home.display(), &self.shell);
            add("/etc/passwd", name, format!("{name}:x:{uid}:{gid}::{home}:{shell}\n"));
        }
        if let Some(group) = &self.group {
            let member = self.name.clone().unwrap_or_default();
            add("/etc/group", group, format!("{group}:x:{}:{member}\n", self.gid));
        }
        generated
    }
}

impl Home {
    pub fn shown(&self) -> Shown {
        shown(&self.source, &self.destination, false)
    }
}

fn shown(source: &Path, destination: &Path, required: bool) -> Shown {
    let bind = Bind { source: source.to_path_buf(), destination: destination.to_path_buf(), read_only: false };
    Shown { bind, required }
}

/// The working directory as the caller's shell names it, when that is the same.
fn logical_directory() -> Option<PathBuf> {
    let real = std::env::current_dir().ok()?;
    let named = std::env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute());
    named.filter(|path| path.canonicalize().is_ok_and(|found| found == real)).or(Some(real))
}
