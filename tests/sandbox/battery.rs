//! The inner side: one test, in a process that has entered its namespace.

use sifbuild::disk::{ScanOptions, copy_tree, remove_tree, scan};
use sifbuild::event::{Event, Recorder, Silent};
use sifbuild::sandbox::{
    Bind, Ending, Error, HostScript, IdMode, IdModeRequest, Outcome, Root, Run, Script, StandardInput, WorkDirectory,
    enter, host_script, install_interrupt, mount_root, run, sweep, try_overlay,
};
use sifbuild::tree::{Tree, text};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 30] = [
    "sh", "cat", "chown", "chmod", "cp", "echo", "env", "false", "hostname", "id", "kill", "ln", "ls", "mkdir",
    "mknod", "mount", "mv", "ps", "pwd", "readlink", "rm", "seq", "sleep", "stat", "touch", "true", "umask", "wc",
    "yes", "head",
];

type Test = (&'static str, fn(&Place));

pub const TESTS: &[Test] = &[
    ("a_script_s_changes_are_scanned_exactly", changes),
    ("a_script_that_does_nothing_leaves_nothing", nothing),
    ("nothing_is_left_in_a_plain_directory_either", plain_directory),
    ("exit_codes_and_signals_pass", exit_codes),
    ("standard_input_is_empty", standard_input),
    ("ten_thousand_lines_arrive_in_order_and_in_the_log", many_lines),
    ("a_failing_command_is_told", failing_command),
    ("the_environment_is_exactly_what_was_given", environment),
    ("umask_directory_and_groups_are_set", umask_and_groups),
    ("processes_hosts_and_descriptors_are_its_own", isolation),
    ("devices_are_there_and_work", devices),
    ("what_runs_in_the_background_is_killed_at_the_end", background),
    ("binds_appear_and_their_targets_vanish", binds),
    ("a_read_only_root_is_read_only_but_for_tmp", read_only_root),
    ("two_hundred_layers_with_long_paths", many_layers),
    ("a_missing_program_is_named", missing_program),
    ("a_missing_bind_source_is_named", missing_bind),
    ("a_root_without_loader_is_told_from_a_wrong_architecture", wrong_architecture),
    ("scripts_on_the_host_see_the_mounted_root", setup_script),
    ("a_daemon_of_a_host_script_holds_nothing_up", host_daemon),
    ("an_overlay_works_where_builds_are", overlay_probe),
    ("an_older_post_script_in_the_root_is_replaced", old_script),
    ("a_root_without_layers_is_empty", no_layers),
    ("a_full_disk_under_the_log_ends_the_run", full_log),
    ("runs_in_parallel_do_not_meet", parallel),
];

pub struct Place {
    pub mode: IdMode,
    pub directory: PathBuf,
}

/// Runs one test; a panic is the process's failure.
pub fn perform(mode: &str, name: &str, directory: &Path) {
    let request = match mode {
        "range" => IdModeRequest::Range,
        "single" => IdModeRequest::Single,
        _ => IdModeRequest::Auto,
    };
    match name {
        "refused" => return println!("{}", enter(IdModeRequest::Single).unwrap_err()),
        "refused_range" => return println!("{}", enter(IdModeRequest::Range).unwrap_err()),
        _ => {}
    }
    let entered = enter(request).unwrap();
    match mode {
        "root" => assert_eq!(entered.mode, IdMode::Root),
        "range" => assert_eq!((entered.mode, entered.highest_id), (IdMode::Range, 65536)),
        "single" => assert_eq!(entered.mode, IdMode::Single),
        _ => {}
    }
    let place = Place { mode: entered.mode, directory: directory.to_path_buf() };
    match name {
        "hang" => hang(&place),
        "sweep" => assert_eq!(sweep(&directory.join("work")).len(), 1),
        "exit_with_42" => std::process::exit(42),
        _ => {
            let test = TESTS.iter().find(|(found, _)| *found == name).expect("such a test");
            test.1(&place);
        }
    }
    // Files of subordinate owners are out of reach for the outer side of an unprivileged user.
    if !matches!(name, "sweep") {
        for entry in fs::read_dir(directory).unwrap() {
            remove_tree(&entry.unwrap().path()).unwrap();
        }
    }
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A root with a shell and nothing else: no `/proc`, `/dev`, `/tmp`.
    fn base(&self) -> PathBuf {
        let base = self.path("base");
        for directory in ["bin", "etc", "var/lib/old"] {
            fs::create_dir_all(base.join(directory)).unwrap();
        }
        fs::copy(BUSYBOX, base.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        fs::write(base.join("etc/motd"), "welcome\n").unwrap();
        fs::write(base.join("var/lib/old/file"), "old\n").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for directory in ["var/lib/old", "var/lib", "var", "etc", "bin", ""] {
            fs::set_permissions(base.join(directory), Permissions::from_mode(0o755)).unwrap();
            fs::File::open(base.join(directory)).unwrap().set_modified(old).unwrap();
        }
        base
    }

    fn overlay(&self) -> Run {
        let lower = vec![self.base()];
        for name in ["upper", "work", "temporary"] {
            fs::create_dir(self.path(name)).unwrap();
        }
        self.with_root(Root::Overlay { lower, upper: self.path("upper"), work: self.path("work") })
    }

    fn with_root(&self, root: Root) -> Run {
        Run {
            root,
            argv: ["/bin/sh", "-ex", "/.post.script"].map(OsString::from).to_vec(),
            environment: vec![("PATH".into(), "/bin".into()), ("HOME".into(), "/root".into())],
            working_directory: "/".into(),
            umask: 0o002,
            binds: Vec::new(),
            read_only_root: false,
            host_name_resolution: true,
            script: None,
            step: "post".to_string(),
            log: self.path("log"),
            standard_input: StandardInput::Null,
            interactive: false,
            fakeroot: None,
            temporary: self.path("temporary"),
        }
    }

    fn script(&self, text: &str) -> Run {
        with_script(self.overlay(), text)
    }

    fn changed(&self) -> Vec<String> {
        let layer = scan(&self.path("upper"), &ScanOptions { overlay: true }).unwrap();
        text::write(&layer).lines().map(str::to_string).collect()
    }

    fn assert_clean(&self) {
        assert_eq!(fs::read_dir(self.path("temporary")).unwrap().count(), 0, "the temporary directory is empty");
    }
}

fn with_script(mut run: Run, text: &str) -> Run {
    run.script = Some(Script { path_in_root: "/.post.script".into(), bytes: text.as_bytes().to_vec() });
    run
}

fn perform_run(request: &Run) -> (Outcome, Vec<String>) {
    let recorder = Recorder::default();
    let outcome = run(request, &recorder).unwrap();
    let told = |event: &Event| match event {
        Event::Output { step, line } => {
            assert_eq!(*step, request.step);
            line.clone()
        }
        other => panic!("{other:?}"),
    };
    let lines = recorder.events.lock().unwrap().iter().map(told).collect();
    (outcome, lines)
}

/// Output without what `-x` traced.
fn succeed(request: &Run) -> Vec<String> {
    let (outcome, lines) = perform_run(request);
    assert!(outcome.is_success(), "{outcome:?}");
    lines.into_iter().filter(|line| !line.starts_with('+')).collect()
}

fn changes(place: &Place) {
    let chown = if place.mode == IdMode::Single { "true" } else { "chown 33:42 /etc/new" };
    let script = format!(
        "echo hi > /etc/new\n{chown}\nrm /etc/motd\nmkdir -m 2755 /opt\nln /etc/new /opt/hard\nln -s /nowhere /opt/soft\n\
         rm -r /var/lib/old\nmkdir /var/lib/old\ntouch /tmp/private /var/tmp/private\n\
         touch -h -d @1000 /etc/new /opt/soft\ntouch -d @1000 /opt /etc /var/lib/old /var/lib\n"
    );
    let before = fs::read_to_string("/proc/self/mounts").unwrap();
    succeed(&place.script(&script));
    let owner = if place.mode == IdMode::Single { "0 0" } else { "33 42" };
    let expected = [
        "d 0755 0 0 1000000000 - /".to_string(),
        "d 0755 0 0 1000 - /etc".to_string(),
        "w /etc/motd".to_string(),
        format!("f 0664 {owner} 1000 3 /etc/new"),
        "d 2755 0 0 1000 - /opt".to_string(),
        "h /etc/new /opt/hard".to_string(),
        "l 0777 0 0 1000 \"/nowhere /opt/soft".to_string(),
        "d 0755 0 0 1000000000 - /var".to_string(),
        "d 0755 0 0 1000 - /var/lib".to_string(),
        "d 0775 0 0 1000 - /var/lib/old".to_string(),
        "o /var/lib/old".to_string(),
    ];
    let mut changed = place.changed();
    // The script made /opt, so the root directory's time is that of the run.
    changed[0] = expected[0].clone();
    assert_eq!(changed, expected);
    assert_eq!(fs::read_to_string("/proc/self/mounts").unwrap(), before);
    place.assert_clean();
}

fn merged(layers: &[&Path], overlay: bool) -> Vec<String> {
    let mut tree = Tree::new();
    for (number, layer) in layers.iter().enumerate() {
        let layer = scan(layer, &ScanOptions { overlay: overlay && number > 0 }).unwrap();
        tree.apply(&layer, number as u32).unwrap();
    }
    tree.walk().into_iter().map(|(path, id)| format!("{path} {:?}", tree.inode(id).metadata)).collect()
}

fn nothing(place: &Place) {
    let run = place.script("true");
    succeed(&run);
    assert_eq!(merged(&[&place.path("base"), &place.path("upper")], true), merged(&[&place.path("base")], false));
    place.assert_clean();
}

fn plain_directory(place: &Place) {
    let base = place.base();
    copy_tree(&base, &place.path("copy")).unwrap();
    fs::create_dir(place.path("temporary")).unwrap();
    let run =
        with_script(place.with_root(Root::Directory(place.path("copy"))), "test -e /proc/self/fd && test -c /dev/null");
    succeed(&run);
    assert_eq!(merged(&[&place.path("copy")], false), merged(&[&base], false));
    succeed(&with_script(run, "echo kept > /etc/kept"));
    assert_eq!(fs::read(place.path("copy/etc/kept")).unwrap(), b"kept\n");
    place.assert_clean();
}

fn exit_codes(place: &Place) {
    let run = place.script("exit 7");
    let (outcome, _) = perform_run(&run);
    assert_eq!((outcome.ending, outcome.code()), (Ending::Exited(7), 7));
    let (outcome, _) = perform_run(&with_script(run, "kill -9 $$"));
    assert_eq!((outcome.ending, outcome.code()), (Ending::Signaled(9), 137));
    place.assert_clean();
}

fn standard_input(place: &Place) {
    assert_eq!(succeed(&place.script("set +x\ncat | wc -c")), ["0"]);
}

fn many_lines(place: &Place) {
    let run = place.script("set +x\nfor i in $(seq 5000); do echo out $i; echo err $i >&2; done");
    let lines = succeed(&run);
    let expected: Vec<String> = (1..=5000).flat_map(|i| [format!("out {i}"), format!("err {i}")]).collect();
    assert_eq!(lines, expected);
    let log = fs::read_to_string(&run.log).unwrap();
    assert!(log.ends_with(&(expected.join("\n") + "\n")));
}

fn failing_command(place: &Place) {
    let (outcome, _) = perform_run(&place.script("echo before\ncat /missing\necho after"));
    assert_eq!(outcome.ending, Ending::Exited(1));
    assert_eq!(outcome.last_command.as_deref(), Some("cat /missing"));
    assert!(outcome.last_lines.last().unwrap().contains("can't open '/missing'"), "{outcome:?}");
    assert!(outcome.duration < Duration::from_secs(5));
}

fn environment(place: &Place) {
    let mut run = place.overlay();
    run.argv = vec!["env".into()];
    assert_eq!(succeed(&run), ["PATH=/bin", "HOME=/root"]);
}

fn umask_and_groups(place: &Place) {
    let mut run = place.script("umask; pwd; id -u; id -g; id -G; hostname x");
    run.working_directory = "/etc".into();
    let lines = succeed(&run);
    assert_eq!(lines[..4], ["0002", "/etc", "0", "0"]);
    if place.mode != IdMode::Single {
        assert_eq!(lines[4], "0");
    }
}

fn isolation(place: &Place) {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    // Left open on purpose, as a careless parent would.
    let leak = fs::File::open("/").unwrap();
    nix::fcntl::fcntl(&leak, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let lines = succeed(&place.script("set +x; hostname inside; echo $$; ls /proc/self/fd; ls /; ps | wc -l"));
    assert_eq!(lines[0], "2", "{lines:?}");
    // 3 is the listed directory itself.
    assert_eq!(lines[1..5], ["0", "1", "2", "3"], "{lines:?}");
    assert_eq!(lines[5..lines.len() - 1], ["bin", "dev", "etc", "proc", "sys", "tmp", "var"]);
    assert!(lines.last().unwrap().parse::<u32>().unwrap() < 8, "{lines:?}");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host);
}

fn devices(place: &Place) {
    let script = "set +x\necho x > /dev/null\nhead -c 4 /dev/zero | wc -c\nhead -c 4 /dev/urandom | wc -c\ntouch /dev/shm/x\n\
                  readlink /dev/stdin\nls /dev/pts/ptmx\nls /sys/kernel\n! touch /sys/kernel/x\necho hello > /dev/stdout";
    let lines = succeed(&place.script(script));
    assert_eq!(lines[..4], ["4", "4", "/proc/self/fd/0", "/dev/pts/ptmx"]);
    assert_eq!(lines.last().unwrap(), "hello");
}

fn background(place: &Place) {
    let started = Instant::now();
    succeed(&place.script("sleep 1000 &\n(sleep 1000; echo late) &\necho done"));
    assert!(started.elapsed() < Duration::from_secs(10));
    place.assert_clean();
}

fn binds(place: &Place) {
    let mut run =
        place.script("cat /data/sub/file /etc/one\necho more > /mnt/rw/new\n! touch /data/sub/x\n! echo x > /etc/one");
    fs::create_dir_all(place.path("shared/sub")).unwrap();
    fs::create_dir(place.path("rw")).unwrap();
    fs::write(place.path("shared/sub/file"), "shared\n").unwrap();
    let bind = |source: &str, destination: &str, read_only| Bind {
        source: place.path(source),
        destination: destination.into(),
        read_only,
    };
    run.binds =
        vec![bind("shared", "/data", true), bind("shared/sub/file", "/etc/one", true), bind("rw", "/mnt/rw", false)];
    let lines = succeed(&run);
    assert_eq!(lines[..2], ["shared", "shared"]);
    assert_eq!(fs::read(place.path("rw/new")).unwrap(), b"more\n");
    assert_eq!(merged(&[&place.path("base"), &place.path("upper")], true), merged(&[&place.path("base")], false));
}

fn read_only_root(place: &Place) {
    let mut run = place.script("touch /tmp/x\n! touch /etc/x\n! rm /etc/motd");
    run.read_only_root = true;
    let lines = succeed(&run);
    assert!(lines.iter().any(|line| line.contains("Read-only file system")), "{lines:?}");
    assert_eq!(merged(&[&place.path("base"), &place.path("upper")], true), merged(&[&place.path("base")], false));
    place.assert_clean();
}

fn many_layers(place: &Place) {
    let mut run = place.script("cat /layer-0 /layer-199 /top");
    let Root::Overlay { lower, .. } = &mut run.root else { panic!("an overlay") };
    for number in 0..200 {
        let layer = place.path(&format!("{}-{number},with:signs", "long".repeat(40)));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("layer-{number}")), format!("{number}\n")).unwrap();
        fs::write(layer.join("top"), format!("top {number}\n")).unwrap();
        lower.insert(number, layer);
    }
    assert_eq!(succeed(&run), ["0", "199", "top 0"]);
}

fn missing_program(place: &Place) {
    let mut request = place.overlay();
    request.argv = vec!["/bin/absent".into()];
    let error = run(&request, &Silent).unwrap_err();
    assert!(matches!(error, Error::Exec { .. }), "{error}");
    assert!(error.to_string().contains("/bin/absent") && error.to_string().contains("no such program"), "{error}");
    request.argv = vec!["absent".into()];
    assert!(matches!(run(&request, &Silent).unwrap_err(), Error::Exec { .. }));
    request.working_directory = "/nowhere".into();
    assert!(run(&request, &Silent).unwrap_err().to_string().contains("enter the directory /nowhere"));
    place.assert_clean();
}

fn missing_bind(place: &Place) {
    let mut request = place.script("true");
    request.binds = vec![Bind { source: "/nonexistent/data".into(), destination: "/data".into(), read_only: false }];
    let text = run(&request, &Silent).unwrap_err().to_string();
    assert!(text.contains("/nonexistent/data") && text.contains("No such file"), "{text}");
    place.assert_clean();
}

fn wrong_architecture(place: &Place) {
    let mut request = place.overlay();
    fs::write(place.path("base/bin/other"), b"\x7fELF nothing of use").unwrap();
    fs::set_permissions(place.path("base/bin/other"), Permissions::from_mode(0o755)).unwrap();
    request.argv = vec!["/bin/other".into()];
    let text = run(&request, &Silent).unwrap_err().to_string();
    assert!(text.contains("another architecture"), "{text}");
}

fn host_run(place: &Place, text: &str) -> (Outcome, Vec<String>) {
    fs::write(place.path("setup"), text).unwrap();
    let script = HostScript {
        argv: vec!["/bin/sh".into(), "-ex".into(), place.path("setup").into()],
        environment: vec![("APPTAINER_ROOTFS".into(), place.path("rootfs").into())],
        working_directory: place.directory.clone(),
        step: "setup".to_string(),
        log: place.path("log"),
        standard_input: StandardInput::Null,
    };
    let recorder = Recorder::default();
    let outcome = host_script(&script, &recorder).unwrap();
    let lines = recorder.events.lock().unwrap().iter().map(|event| format!("{event:?}")).collect();
    (outcome, lines)
}

fn setup_script(place: &Place) {
    let request = place.overlay();
    fs::create_dir(place.path("rootfs")).unwrap();
    let mounted = mount_root(&request.root, &place.path("rootfs")).unwrap();
    let (outcome, lines) =
        host_run(place, "pwd\ncat $APPTAINER_ROOTFS/etc/motd\necho made > $APPTAINER_ROOTFS/etc/made\nfalse");
    assert_eq!(outcome.ending, Ending::Exited(1));
    assert_eq!(outcome.last_command.as_deref(), Some("false"));
    assert!(lines.iter().any(|line| line.contains("welcome")), "{lines:?}");
    drop(mounted);
    assert_eq!(fs::read_dir(place.path("rootfs")).unwrap().count(), 0);
    // What it did is there for the next step on the same upper directory.
    assert_eq!(succeed(&with_script(request, "cat /etc/made")), ["made"]);
}

fn host_daemon(place: &Place) {
    let started = Instant::now();
    let (outcome, lines) = host_run(place, "sleep 30 &\necho $! > pid\necho end");
    assert!(outcome.is_success() && started.elapsed() < Duration::from_secs(10));
    // The trace of the background command may come at any time.
    assert!(lines.iter().any(|line| line.contains("\"end\"")), "{lines:?}");
    let id = fs::read_to_string(place.path("pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn overlay_probe(place: &Place) {
    try_overlay(&place.directory).unwrap();
    assert_eq!(fs::read_dir(&place.directory).unwrap().count(), 0);
}

fn old_script(place: &Place) {
    let run = place.script("echo new");
    fs::write(place.path("base/.post.script"), "echo old").unwrap();
    assert_eq!(succeed(&run), ["new"]);
    assert!(place.changed().contains(&"w /.post.script".to_string()), "{:?}", place.changed());
}

fn no_layers(place: &Place) {
    let mut request = place.overlay();
    request.root = Root::Overlay { lower: Vec::new(), upper: place.path("upper"), work: place.path("work") };
    request.binds = vec![Bind { source: place.path("base/bin"), destination: "/bin".into(), read_only: true }];
    assert_eq!(succeed(&with_script(request, "ls /")), ["bin", "dev", "etc", "proc", "sys", "tmp", "var"]);
    assert_eq!(fs::read_dir(place.path("upper")).unwrap().count(), 0);
}

fn full_log(place: &Place) {
    let mut request = place.script("yes");
    request.log = "/dev/full".into();
    let error = run(&request, &Silent).unwrap_err();
    assert!(matches!(error, Error::Log { .. }) && error.to_string().contains("No space left"), "{error}");
    place.assert_clean();
}

fn parallel(place: &Place) {
    let request = place.overlay();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let mut request = with_script(
                request.clone(),
                "test ! -e /tmp/x; touch /tmp/x; sleep 1; echo $PATH > /etc/own; cat /etc/own",
            );
            let [upper, work] = ["upper", "work"].map(|name| place.path(&format!("{name}{number}")));
            fs::create_dir(&upper).unwrap();
            fs::create_dir(&work).unwrap();
            request.root = Root::Overlay { lower: vec![place.path("base")], upper, work };
            request.environment[0].1 = format!("/bin:/{number}").into();
            scope.spawn(move || assert_eq!(succeed(&request), [format!("/bin:/{number}")]));
        }
    });
    place.assert_clean();
}

/// Hangs in a script until it is killed; `bound/ready` tells that it does.
fn hang(place: &Place) {
    install_interrupt(|signal| eprintln!("interrupted by {signal}")).unwrap();
    let parent = place.path("work");
    fs::create_dir(&parent).unwrap();
    fs::create_dir(place.path("bound")).unwrap();
    let seconds = format!("{}", 100_000 + std::process::id());
    fs::write(place.path("seconds"), &seconds).unwrap();
    let work = WorkDirectory::create(&parent).unwrap();
    let inner = Place { mode: place.mode, directory: work.path().to_path_buf() };
    let chown = if place.mode == IdMode::Single { "true" } else { "chown 33:42 /etc /tmp/x" };
    let script = format!("touch /tmp/x\n{chown}\nsleep {seconds} &\ntouch /bound/ready\nsleep {seconds}");
    let mut request = inner.script(&script);
    request.binds = vec![Bind { source: place.path("bound"), destination: "/bound".into(), read_only: false }];
    run(&request, &Silent).unwrap();
    unreachable!("the script ends only when it is killed");
}
