//! What only a real terminal shows: `--on-fail shell`, and questions.

use super::place::{Place, RANGE_USER, has};
use super::server::{LOGIN, Registry, copy_image};
use super::walk::BASE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const SHELL: &[&str] = &["--on-fail", "shell"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A build at a terminal of its own.
struct Session {
    master: File,
    slave: OwnedFd,
    child: Child,
    seen: String,
    /// Of `seen`, what was expected already.
    read: usize,
}

impl Session {
    fn start(place: &Place, definition: &str, flags: &[&str]) -> Session {
        place.write("x.def", definition);
        let terminal = openpty(None, None).unwrap();
        // The user's own, as at a login.
        let owner = place.user().map(|user| user.uid.as_raw());
        fchown(&terminal.slave, owner, None).unwrap();
        let arguments = [&["build"], flags, &["x.sif", "x.def"]].concat();
        let mut command = place.command(&["setsid", "--ctty", "--wait"], &arguments);
        let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
        let child = command.env("TERM", "dumb").stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        Session { master: terminal.master.into(), slave: terminal.slave, child, seen: String::new(), read: 0 }
    }

    /// Reads until `text` appears behind what was expected before.
    fn expect(&mut self, text: &str) {
        let started = Instant::now();
        loop {
            if let Some(at) = self.seen[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{text:?} does not appear in {:?}", self.seen);
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::from(500u16)).unwrap() > 0 {
                let mut buffer = [0; 4096];
                let length = self.master.read(&mut buffer).unwrap();
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn settings(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }
}

/// Processes that run the program of `place`.
fn left_running(place: &Place) -> usize {
    let program = fs::canonicalize(place.file("../sifbuild")).unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|path| path == program)).count()
}

fn a_shell_after_a_failure(place: &Place) {
    let mut session = Session::start(place, &format!("{BASE}%post\n  echo state > /left\n  exit 42\n"), SHELL);
    let before = session.settings();
    session.expect("this is a shell in the state that it left");
    session.expect("# ");
    session.say("cat /left; echo user-$(id -u)\n");
    session.expect("state\r\nuser-0");
    session.say("sleep 300 & jobs\n");
    session.expect("sleep 300");
    session.expect("# ");
    // Ctrl-C ends what runs in the foreground, not the shell, not the build.
    session.say("echo wait-$((1 + 1)); sleep 300\n");
    session.expect("wait-2");
    std::thread::sleep(Duration::from_millis(300));
    session.say("\x03");
    session.expect("# ");
    session.say("echo still-$((40 + 2))\n");
    session.expect("still-42");
    // Settings that the shell's user leaves behind are no concern of the terminal's.
    let mut raw = session.settings();
    nix::sys::termios::cfmakeraw(&mut raw);
    tcsetattr(&session.slave, SetArg::TCSANOW, &raw).unwrap();
    session.say("exit 9\r\nexit 9\n");
    session.expect("exit status 42");
    let status = session.child.wait().unwrap();
    assert_eq!(status.code(), Some(3), "{}", session.seen);
    assert_eq!(session.settings(), before, "the terminal is as it was");
    assert!(!session.seen.contains("job control turned off"), "{}", session.seen);
    assert_nothing_is_left(place);
}

fn a_shell_that_is_killed(place: &Place) {
    let mut session = Session::start(place, &format!("{BASE}%post\n  exit 42\n"), SHELL);
    let before = session.settings();
    session.expect("# ");
    session.say("echo ready-$((1 + 1))\n");
    session.expect("ready-2");
    let mut raw = session.settings();
    nix::sys::termios::cfmakeraw(&mut raw);
    tcsetattr(&session.slave, SetArg::TCSANOW, &raw).unwrap();
    // `setsid` needs no other process here, so that its own is the build's.
    let pid = session.child.id() as i32;
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    session.expect("interrupted by SIGTERM");
    assert_eq!(session.child.wait().unwrap().code(), Some(128 + 15), "{}", session.seen);
    assert_eq!(session.settings(), before, "the terminal is as it was");
    assert_nothing_is_left(place);
}

fn assert_nothing_is_left(place: &Place) {
    assert!(!place.file("x.sif").exists());
    assert_eq!(fs::read_dir(place.store().join("1/work")).map_or(0, Iterator::count), 0, "no work is left");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(place.store().to_str().unwrap()), "{mounts}");
    let started = Instant::now();
    while left_running(place) > 0 {
        assert!(started.elapsed() < Duration::from_secs(5), "processes are left");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_shell_in_the_failed_state_works_at_a_terminal() {
    if !has("/usr/bin/setsid", "util-linux") {
        return;
    }
    let place = Place::new();
    a_shell_after_a_failure(&place);
    a_shell_that_is_killed(&place);
}

#[test]
fn a_shell_in_the_failed_state_works_for_a_user_with_a_range() {
    let Some(place) = Place::of_user(RANGE_USER) else { return };
    a_shell_after_a_failure(&place);
    a_shell_that_is_killed(&place);
}

#[test]
fn a_registrys_login_is_asked_for() {
    let place = Place::new();
    let registry = Registry::start(&place.file("registry"), true);
    let source = format!("oci:{}:t", place.file("layout").display());
    copy_image(&["--dest-creds", LOGIN], &source, &format!("docker://{}/org/app:1.0", registry.host));
    let definition = format!("Bootstrap: docker\nRegistry: {}\nFrom: org/app:1.0\n", registry.host);
    let (user, password) = LOGIN.split_once(':').unwrap();
    let mut session = Session::start(&place, &definition, &["--no-https", "--docker-login"]);
    let before = session.settings();
    session.expect("Enter Docker Username: ");
    session.say(&format!("{user}\n"));
    session.expect("Enter Docker Password: ");
    session.say(&format!("{password}x\x7f\n"));
    assert_eq!(session.child.wait().unwrap().code(), Some(0), "{}", session.seen);
    session.expect("Build complete");
    assert!(!session.seen.contains(password), "{}", session.seen);
    assert_eq!(session.settings(), before, "the terminal is as it was");

    // The target is there now.
    let mut session = Session::start(&place, &definition, &["--no-https", "--docker-login"]);
    session.expect("Do you want to overwrite it? [y/N] ");
    session.say("y\n");
    session.expect("Enter Docker Username: ");
    session.say(&format!("{user}\n"));
    session.expect("Enter Docker Password: ");
    session.say("s\x03");
    assert_eq!(session.child.wait().unwrap().code(), Some(130), "{}", session.seen);
    assert_eq!(session.settings(), before, "the terminal is as it was");
    let outcome = place.fail("y.sif", &definition, &["--no-https", "--docker-login"]);
    assert!(outcome.text.contains("SIFBUILD_DOCKER_USERNAME"), "{}", outcome.text);
}
