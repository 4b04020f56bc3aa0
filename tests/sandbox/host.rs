//! The outer side: users, one process a test, and the tests that need a process to be killed.

use super::battery::{self, TESTS};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const RANGE_USER: &str = "sifbuild-range";
const SINGLE_USER: &str = "sifbuild-single";

/// Tests from outside: what happens to a process that is killed, or that lacks something.
type Outer = (&'static str, fn(&Host, &str));

const OUTER: [Outer; 6] = [
    ("sigterm_ends_the_whole_tree_and_removes_everything", sigterm),
    ("after_sigkill_the_next_run_sweeps", sigkill),
    ("the_exit_code_comes_through", exit_code),
    ("the_sysctl_that_forbids_namespaces_is_named", sysctl),
    ("a_chroot_is_named_as_the_cause", chroot),
    ("a_missing_newuidmap_is_named", newuidmap),
];

pub struct Host {
    executable: PathBuf,
    directory: PathBuf,
    is_root: bool,
}

/// Gives the exit code; prints as libtest does.
pub fn perform_all(arguments: &[&str]) -> i32 {
    let filters: Vec<&&str> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let listing = arguments.contains(&"--list");
    let place = tempfile::tempdir().unwrap();
    let host = prepare(place.path());
    let (mut passed, mut failed) = (0, 0);
    let mut attempt = |mode: &str, name: &str, test: &dyn Fn() -> Result<(), String>| {
        let full = format!("{mode}::{name}");
        if !filters.is_empty() && !filters.iter().any(|filter| full.contains(**filter)) {
            return;
        }
        if listing {
            println!("{full}: test");
            return;
        }
        match test() {
            Ok(()) => {
                passed += 1;
                println!("test {full} ... ok");
            }
            Err(text) => {
                failed += 1;
                println!("test {full} ... FAILED\n{text}");
            }
        }
    };
    let modes: &[&str] = if host.is_root { &["root", "range", "single"] } else { &["auto", "single"] };
    for mode in modes {
        for (name, _) in TESTS {
            attempt(mode, name, &|| host.run(mode, name));
        }
        for (name, test) in OUTER {
            attempt(mode, name, &|| {
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&host, mode)));
                result.map_err(|_| "see above".to_string())
            });
        }
    }
    println!("\ntest result: {}. {passed} passed; {failed} failed", if failed == 0 { "ok" } else { "FAILED" });
    i32::from(failed > 0)
}

fn prepare(directory: &Path) -> Host {
    assert!(Path::new(battery::BUSYBOX).exists(), "{} is missing: apt-get install -y busybox-static", battery::BUSYBOX);
    for program in ["/usr/bin/newuidmap", "/usr/bin/newgidmap"] {
        assert!(Path::new(program).exists(), "{program} is missing: apt-get install -y uidmap");
    }
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        make_user(RANGE_USER, true);
        make_user(SINGLE_USER, false);
    }
    fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    // The target directory may be closed to other users.
    let executable = directory.join("sandbox-test");
    fs::copy("/proc/self/exe", &executable).unwrap();
    fs::set_permissions(&executable, Permissions::from_mode(0o755)).unwrap();
    Host { executable, directory: directory.to_path_buf(), is_root }
}

fn make_user(name: &str, with_range: bool) {
    if nix::unistd::User::from_name(name).unwrap().is_none() {
        let status = Command::new("useradd").args(["--create-home", name]).status();
        assert!(status.expect("useradd is missing: apt-get install -y passwd").success());
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut lines: Vec<String> =
            text.lines().filter(|line| !line.starts_with(&format!("{name}:"))).map(str::to_string).collect();
        if with_range {
            // Far from what useradd hands out.
            lines.push(format!("{name}:1700000000:65536"));
        }
        fs::write(file, lines.join("\n") + "\n").unwrap();
    }
}

impl Host {
    fn user(&self, mode: &str) -> Option<nix::unistd::User> {
        let name = match mode {
            "range" => RANGE_USER,
            "single" => SINGLE_USER,
            _ => return None,
        };
        self.is_root.then(|| nix::unistd::User::from_name(name).unwrap().unwrap())
    }

    /// A directory that belongs to the mode's user.
    fn directory(&self, mode: &str, name: &str) -> PathBuf {
        let directory = self.directory.join(format!("{mode}-{name}"));
        fs::create_dir(&directory).unwrap();
        if let Some(user) = self.user(mode) {
            chown(&directory, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        directory
    }

    /// `prefix` is a program that executes the rest of its arguments.
    fn command(&self, mode: &str, name: &str, directory: &Path, prefix: &[&str]) -> Command {
        let mut words: Vec<std::ffi::OsString> = Vec::new();
        if let Some(user) = self.user(mode) {
            let ids = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid)];
            words.push("setpriv".into());
            words.extend(ids.map(Into::into));
            words.push("--init-groups".into());
        }
        words.extend(prefix.iter().map(Into::into));
        words.push(self.executable.clone().into());
        words.extend(["--inner", mode, name].map(Into::into));
        words.push(directory.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).current_dir("/").env("HOME", "/").env_remove("CARGO");
        command
    }

    fn run(&self, mode: &str, name: &str) -> Result<(), String> {
        let directory = self.directory(mode, name);
        let output = self.command(mode, name, &directory, &[]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(text(&output)) }
    }

    /// Starts a test that hangs in its script, and waits until it does.
    fn start_hanging(&self, mode: &str, directory: &Path) -> Child {
        let child = self.command(mode, "hang", directory, &[]).stdout(Stdio::inherit()).spawn().unwrap();
        wait_until("the script runs", || directory.join("bound/ready").exists());
        child
    }
}

fn text(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose command line has `word`.
fn processes(word: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|number| {
            let words = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).any(|found| found == word.as_bytes())
        })
        .collect()
}

fn kill(id: i32, signal: nix::sys::signal::Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal);
}

fn sigterm(host: &Host, mode: &str) {
    let directory = host.directory(mode, "sigterm");
    let mut child = host.start_hanging(mode, &directory);
    let seconds = fs::read_to_string(directory.join("seconds")).unwrap();
    // The script has written its file before its second child has become a sleep.
    wait_until("two sleeps run", || processes(&seconds).len() == 2);
    kill(child.id() as i32, nix::sys::signal::Signal::SIGTERM);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(143), "{status}");
    wait_until("the script's processes are gone", || processes(&seconds).is_empty());
    assert_eq!(names(&directory.join("work")), Vec::<String>::new());
}

fn sigkill(host: &Host, mode: &str) {
    let directory = host.directory(mode, "sigkill");
    let mut child = host.start_hanging(mode, &directory);
    let seconds = fs::read_to_string(directory.join("seconds")).unwrap();
    // The outer process and the inner one, at the same time, so that none can clean up after the other.
    let own = processes(directory.to_str().unwrap());
    for id in &own {
        kill(*id, nix::sys::signal::Signal::SIGSTOP);
    }
    for id in &own {
        kill(*id, nix::sys::signal::Signal::SIGKILL);
    }
    child.wait().unwrap();
    wait_until("the script's processes are gone", || processes(&seconds).is_empty());
    assert_eq!(names(&directory.join("work")).len(), 2, "the directory and its lock are left");
    let output = host.command(mode, "sweep", &directory, &[]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(names(&directory.join("work")), Vec::<String>::new());
}

fn exit_code(host: &Host, mode: &str) {
    let directory = host.directory(mode, "exit");
    let output = host.command(mode, "exit_with_42", &directory, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(42), "{}", text(&output));
}

fn sysctl(host: &Host, mode: &str) {
    let directory = host.directory(mode, "sysctl");
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let prefix = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"];
    let output = host.command(mode, "refused", &directory, &prefix).output().unwrap();
    assert!(text(&output).contains("user.max_user_namespaces is 0"), "{}", text(&output));
    assert!(text(&output).contains("sysctl -w"), "{}", text(&output));
}

fn chroot(host: &Host, mode: &str) {
    let directory = host.directory(mode, "chroot");
    // A chroot whose root is no mount point: a directory with what a program needs, bound below it.
    let script = "cd \"$0\"; for d in usr bin sbin lib lib64 proc dev tmp; do if [ -e /$d ]; then mkdir -p c/$d; \
                  mount --rbind /$d c/$d; fi; done; PATH=$PATH:/usr/sbin:/sbin exec chroot c \"$@\"";
    let prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, directory.to_str().unwrap()];
    let output = host.command(mode, "refused", &directory, &prefix).output().unwrap();
    assert!(text(&output).contains("in a chroot"), "{}", text(&output));
}

fn newuidmap(host: &Host, mode: &str) {
    let directory = host.directory(mode, "newuidmap");
    let output = host.command(mode, "refused_range", &directory, &["env", "PATH=/nonexistent"]).output().unwrap();
    let told = |expected: &str| text(&output).contains(expected);
    let good = match mode {
        "range" => told("newuidmap is not installed"),
        "single" if host.is_root => told("has no range for"),
        // This process's own user may have a range or not.
        _ => told("newuidmap is not installed") || told("has no range for"),
    };
    assert!(good, "{}", text(&output));
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
