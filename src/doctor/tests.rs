use super::namespaces::Signs;
use super::*;

fn refused(errno: i32) -> Attempt {
    Err(Refused { action: "do it".to_owned(), errno })
}

fn place(role: Role) -> Place {
    Place {
        role,
        path: "/home/ann/.cache".into(),
        written: Ok(()),
        attributes: Ok(()),
        free_bytes: 100 << 30,
        free_files: 1_000_000,
        is_noexec: false,
        is_nosuid: false,
        is_nodev: false,
    }
}

fn inside(mode: Mode, highest_id: u32) -> Inside {
    Inside {
        identity: Identity { mode, highest_id, notes: Vec::new() },
        namespaces: Ok(()),
        memory_file_system: Ok(()),
        terminals: Ok(()),
        root: Ok(()),
        proc: Ok(()),
        overlay: Ok(()),
        owners: Ok(()),
        listener: Listener { obtained: Ok(()), wait_killable: true, sync_wake_up: true, add_and_send: true },
    }
}

/// A user with a range on a host where everything works.
fn good() -> Observations {
    let range = Range { start: 100_000, count: 65536 };
    Observations {
        host: HostObservations {
            kernel: "6.8.0-45-generic".to_owned(),
            uid: 1000,
            user: Some("ann".to_owned()),
            program: "/usr/bin/sifbuild".into(),
            outer: None,
            apparmor: false,
        },
        range: RangeObservations { own: Ok((range, range)), taken: vec![range], entered: Ok(()) },
        single: Single::Good,
        inside: Some(inside(Mode::Range, 65536)),
        places: vec![place(Role::Store), place(Role::Temporary), place(Role::Target)],
        fuse: Ok(()),
        registries: Vec::new(),
    }
}

fn without_range() -> Observations {
    let mut observations = good();
    observations.inside = Some(inside(Mode::Single, 0));
    observations.range = RangeObservations {
        own: Err("/etc/subuid has no range for ann; an administrator gives one".to_owned()),
        taken: Vec::new(),
        entered: Err("no".to_owned()),
    };
    observations
}

fn without_namespaces(signs: Signs, stage: Stage) -> Observations {
    let mut observations = without_range();
    observations.inside = None;
    observations.host.outer = signs.outer;
    observations.single = Single::Refused { stage, signs };
    observations
}

/// The finding of an ability that is not good.
fn found(observations: &Observations, ability: &str) -> (bool, bool, State, String) {
    let report = judge(observations);
    let finding = report.findings.iter().rfind(|finding| finding.ability == ability).unwrap();
    let text =
        [&Some(finding.detail.clone()), &finding.cause, &finding.remedy].map(|text| text.clone().unwrap_or_default());
    (report.executes, report.stores, finding.state, text.join(" / "))
}

#[test]
fn everything_good_is_said_so() {
    let report = judge(&good());
    assert!(report.executes && report.stores && report.mode == Some(Mode::Range));
    assert!(
        report.findings.iter().all(|finding| finding.state == State::Good && finding.remedy.is_none()),
        "{report:#?}"
    );
    insta::assert_snapshot!(text(&report, &good()));
}

#[test]
fn a_user_of_ubuntu_gets_the_profile() {
    let signs = Signs {
        errno: libc::EPERM,
        apparmor: true,
        uid: 1000,
        program: "/usr/bin/sifbuild".into(),
        ..Signs::default()
    };
    let observations = without_namespaces(signs, Stage::Map);
    let report = judge(&observations);
    assert!(!report.executes && report.stores && report.mode.is_none());
    insta::assert_snapshot!(text(&report, &observations));
}

#[test]
fn a_pod_without_rights_gets_its_security_context() {
    let signs = Signs { errno: libc::EPERM, seccomp: true, outer: Some(Outer::Kubernetes), ..Signs::default() };
    let observations = without_namespaces(signs, Stage::Unshare);
    insta::assert_snapshot!(text(&judge(&observations), &observations));
    let value = json(&judge(&observations), &observations);
    assert_eq!((&value["mode"], &value["executes"]), (&serde_json::Value::Null, &serde_json::Value::Bool(false)));
    assert_eq!(value["findings"][0]["state"], "failed");
}

#[test]
fn each_fault_has_its_cause_and_remedy() {
    type Change = fn(&mut Observations);
    let change = |change: Change| {
        let mut observations = good();
        change(&mut observations);
        observations
    };
    let cases: Vec<(Observations, &str, State, bool, bool, &str)> = vec![
        (without_range(), "subordinate-ids", State::Note, true, true, "ann:100000:65536"),
        (
            change(|host| {
                host.inside = Some(inside(Mode::Single, 0));
                host.range.entered = Err("there is a subordinate range, but newuidmap is not installed".to_owned());
            }),
            "subordinate-ids",
            State::Note,
            true,
            true,
            "apt-get install -y uidmap",
        ),
        (
            change(|host| {
                host.inside = Some(inside(Mode::Single, 0));
                host.range.entered = Err("newuidmap failed: Operation not permitted".to_owned());
                host.host.outer = Some(Outer::Kubernetes);
            }),
            "subordinate-ids",
            State::Note,
            true,
            true,
            "allowPrivilegeEscalation: true",
        ),
        (
            change(|host| host.inside = Some(inside(Mode::Range, 999))),
            "subordinate-ids",
            State::Note,
            true,
            true,
            "only 0 to 999",
        ),
        (
            change(|host| host.inside.as_mut().unwrap().overlay = refused(libc::EINVAL)),
            "overlay",
            State::Failed,
            false,
            true,
            "NFS, Lustre",
        ),
        (
            change(|host| {
                host.inside.as_mut().unwrap().overlay = refused(libc::EPERM);
                host.host.kernel = "4.18.0-553.el8".to_owned();
            }),
            "overlay",
            State::Failed,
            false,
            true,
            "Linux 4.18.0-553.el8 has no overlay for users",
        ),
        (
            change(|host| host.inside.as_mut().unwrap().overlay = refused(libc::ENODEV)),
            "overlay",
            State::Failed,
            false,
            true,
            "modprobe overlay",
        ),
        (
            change(|host| host.inside.as_mut().unwrap().owners = refused(libc::EPERM)),
            "owners",
            State::Failed,
            false,
            true,
            "--id-mode single",
        ),
        (
            change(|host| {
                host.inside.as_mut().unwrap().proc = refused(libc::EPERM);
                host.host.outer = Some(Outer::Docker);
            }),
            "proc",
            State::Note,
            true,
            true,
            "systempaths=unconfined",
        ),
        (
            change(|host| {
                host.inside.as_mut().unwrap().memory_file_system = refused(libc::EACCES);
                host.host.apparmor = true;
            }),
            "memory-file-system",
            State::Failed,
            false,
            true,
            "profile sifbuild /usr/bin/sifbuild",
        ),
        (
            change(|host| host.inside.as_mut().unwrap().root = refused(libc::EINVAL)),
            "root",
            State::Failed,
            false,
            true,
            "as in a chroot",
        ),
        (
            change(|host| host.inside.as_mut().unwrap().listener.obtained = refused(libc::EBUSY)),
            "seccomp-notification",
            State::Note,
            true,
            true,
            "a build within a build",
        ),
        (
            change(|host| host.inside.as_mut().unwrap().listener.sync_wake_up = false),
            "seccomp-notification",
            State::Note,
            true,
            true,
            "lacks SYNC_WAKE_UP (6.6)",
        ),
        (
            change(|host| host.places[0].written = refused(libc::ENOSPC)),
            "store",
            State::Failed,
            true,
            false,
            "sifbuild cache clean",
        ),
        (
            change(|host| host.places[1].written = refused(libc::EROFS)),
            "temporary-directory",
            State::Note,
            true,
            true,
            "TMPDIR",
        ),
        (change(|host| host.places[0].free_files = 10), "store", State::Note, true, true, "10 files free"),
        (change(|host| host.places[0].is_noexec = true), "execution-in-store", State::Note, true, true, "noexec"),
        (
            change(|host| host.places[0].attributes = refused(libc::EOPNOTSUPP)),
            "attributes-in-store",
            State::Note,
            true,
            true,
            "SIFBUILD_CACHEDIR",
        ),
        (change(|host| host.fuse = refused(libc::ENOENT)), "fuse", State::Note, true, true, "modprobe fuse"),
        (
            change(|host| host.registries = vec![("reg.example".to_owned(), Err("no route".to_owned()))]),
            "registry",
            State::Note,
            true,
            true,
            "HTTPS_PROXY",
        ),
    ];
    for (observations, ability, state, executes, stores, expected) in cases {
        let (runs, writes, found, said) = found(&observations, ability);
        assert_eq!((runs, writes, found), (executes, stores, state), "{ability}: {said}");
        assert!(said.contains(expected), "{ability}: {said}");
    }
}

#[test]
fn what_is_not_good_always_says_why_and_what_to_do() {
    let mut observations = without_range();
    observations.inside.as_mut().unwrap().proc = refused(libc::EPERM);
    observations.places[0].written = refused(libc::EACCES);
    observations.fuse = refused(libc::EACCES);
    for finding in judge(&observations).findings.iter().filter(|finding| finding.state != State::Good) {
        assert!(finding.cause.is_some() && finding.remedy.is_some(), "{finding:?}");
    }
}
