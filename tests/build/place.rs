//! Where a test builds, and as whom.

use super::base;
use nix::unistd::User;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use tempfile::TempDir;

/// Has subordinate ids.
pub const RANGE_USER: &str = "sifbuild-range";
/// Has none.
pub const SINGLE_USER: &str = "sifbuild-single";

/// A directory with a layout `layout`, the same as `base.tar`, a store, a home.
pub struct Place {
    directory: TempDir,
    user: Option<User>,
}

/// What a command did.
pub struct Outcome {
    pub code: Option<i32>,
    /// Standard output, then standard error.
    pub text: String,
}

impl Place {
    pub fn new() -> Place {
        Place::make(None)
    }

    /// `None`, said in one line, where this process cannot become `name`.
    pub fn of_user(name: &str) -> Option<Place> {
        if !is_root("a build as another user")
            || !has("/usr/bin/newuidmap", "uidmap")
            || !has("/usr/bin/setpriv", "util-linux")
        {
            return None;
        }
        make_user(name, name == RANGE_USER);
        Some(Place::make(Some(User::from_name(name).unwrap().unwrap())))
    }

    fn make(user: Option<User>) -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap(), user };
        fs::set_permissions(place.path(""), Permissions::from_mode(0o755)).unwrap();
        // The target directory may be closed to other users.
        fs::copy(env!("CARGO_BIN_EXE_sifbuild"), place.path("sifbuild")).unwrap();
        for name in ["home", "work", "scratch"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        base::layout(&place.file("layout"), &base::layers());
        base::layout_archive(&place.file("base.tar"), &place.file("layout"));
        if let Some(user) = &place.user {
            for name in ["home", "work", "scratch"] {
                chown(place.path(name), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            }
        }
        place
    }

    /// Whose builds these are, if not this process's.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// In the directory where builds are called.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path("work").join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("scratch/store")
    }

    /// Writes a file, its missing directories too.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `prefix` is a program that executes the rest of its arguments.
    pub fn command(&self, prefix: &[&str], arguments: &[&str]) -> Command {
        let mut words: Vec<String> = Vec::new();
        if let Some(user) = &self.user {
            words.extend(["setpriv".to_owned(), format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
            words.push("--init-groups".to_owned());
        }
        words.extend(prefix.iter().map(|word| (*word).to_owned()));
        words.push(self.path("sifbuild").to_str().unwrap().to_owned());
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).current_dir(self.path("work")).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.path("home")).env("TMPDIR", self.path("scratch"));
        command.env("SIFBUILD_CACHEDIR", self.store());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.outcome(self.command(&[], arguments))
    }

    pub fn outcome(&self, mut command: Command) -> Outcome {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Outcome { code: output.status.code(), text }
    }

    /// Makes programs of `%post` that are linked dynamically live `days` later, where the host has the library for it; it goes in front of them.
    pub fn shift_days(command: &mut Command, days: usize) -> bool {
        let library = format!("/usr/lib/{}-linux-gnu/faketime", std::env::consts::ARCH);
        let there = has(&format!("{library}/libfaketime.so.1"), "libfaketime");
        if there {
            command.env("SIFBUILD_BIND", format!("{library}:/shift:ro"));
            command.env("SIFBUILDENV_LD_PRELOAD", "/shift/libfaketime.so.1");
            command.env("SIFBUILDENV_FAKETIME", format!("+{days}d"));
        }
        there
    }

    /// Runs what must succeed; gives its output.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.text);
        outcome.text
    }

    /// Writes `x.def` and builds `target` from it.
    pub fn build(&self, target: &str, definition: &str, flags: &[&str]) -> String {
        self.write("x.def", definition);
        self.succeed(&[&["build"], flags, &[target, "x.def"]].concat())
    }

    /// As [`Place::build`], for what must fail.
    pub fn fail(&self, target: &str, definition: &str, flags: &[&str]) -> Outcome {
        self.write("x.def", definition);
        let outcome = self.run(&[&["build"], flags, &[target, "x.def"]].concat());
        assert_ne!(outcome.code, Some(0), "{}", outcome.text);
        outcome
    }

    /// The bytes of the image that `definition` gives under a fixed date.
    pub fn bytes(&self, target: &str, definition: &str, flags: &[&str]) -> Vec<u8> {
        self.write("x.def", definition);
        let mut command = self.command(&[], &[&["build"], flags, &[target, "x.def"]].concat());
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        let outcome = self.outcome(command);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        fs::read(self.file(target)).unwrap()
    }

    /// The text with this place's path as `PLACE`.
    pub fn normalised(&self, text: &str) -> String {
        text.replace(self.directory.path().to_str().unwrap(), "PLACE")
    }
}

/// Whether this process is root; otherwise says, in one line, what is not tested, and panics where a CI system runs.
pub fn is_root(what: &str) -> bool {
    nix::unistd::geteuid().is_root()
        || absent(&format!("{what} is tested as root only: sudo -E cargo test --test build"))
}

pub fn has(program: &str, package: &str) -> bool {
    Path::new(program).exists() || absent(&format!("{program} is missing: apt-get install -y {package}"))
}

fn absent(line: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{line}");
    eprintln!("{line}");
    false
}

/// As in tests/sandbox: the same names and the same range.
fn make_user(name: &str, with_range: bool) {
    static USERS: Mutex<()> = Mutex::new(());
    let _one = USERS.lock();
    if User::from_name(name).unwrap().is_none() {
        let status = Command::new("useradd").args(["--create-home", name]).status();
        assert!(status.expect("useradd is missing: apt-get install -y passwd").success());
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut lines: Vec<String> =
            text.lines().filter(|line| !line.starts_with(&format!("{name}:"))).map(str::to_owned).collect();
        if with_range {
            lines.push(format!("{name}:1700000000:65536"));
        }
        let wanted = lines.join("\n") + "\n";
        if wanted != text {
            fs::write(file, wanted).unwrap();
        }
    }
}
