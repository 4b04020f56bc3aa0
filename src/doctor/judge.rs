//! From observations to findings.

use super::{
    Attempt, Finding, Inside, Mode, Observations, Outer, Place, Refused, Report, Role, Single, State, namespaces,
    remedy,
};

/// Less than this, and most images do not fit.
const LITTLE_BYTES: u64 = 2 << 30;
const LITTLE_FILES: u64 = 50_000;
/// Below this, packages that make users of their own may find no id.
const USUAL_HIGHEST: u32 = 65_535;

pub fn judge(observations: &Observations) -> Report {
    let mut findings = vec![user_namespace(observations)];
    let mut executes = false;
    if let Some(inside) = &observations.inside {
        findings.push(ids(observations, inside));
        let own = sandbox(observations, inside);
        executes = own.iter().all(|finding| finding.state != State::Failed);
        findings.extend(own);
    }
    let places: Vec<Finding> = observations.places.iter().flat_map(|place| judge_place(observations, place)).collect();
    let stores = places.iter().all(|finding| finding.state != State::Failed);
    findings.extend(places);
    findings.push(fuse(observations));
    findings.extend(observations.registries.iter().map(|(host, reached)| registry(host, reached)));
    let mode = observations.inside.as_ref().map(|inside| inside.identity.mode);
    Report { mode, executes, stores, findings }
}

fn good(ability: &'static str, detail: impl Into<String>) -> Finding {
    Finding { ability, state: State::Good, detail: detail.into(), cause: None, remedy: None }
}

fn bad(
    ability: &'static str,
    state: State,
    detail: impl Into<String>,
    cause: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { ability, state, detail: detail.into(), cause: Some(cause.into()), remedy: Some(remedy.into()) }
}

fn user_namespace(observations: &Observations) -> Finding {
    const ABILITY: &str = "user-namespace";
    if observations.inside.as_ref().is_some_and(|inside| inside.identity.mode == Mode::Root) {
        return good(ABILITY, "not needed: this is real root");
    }
    match (&observations.single, &observations.inside) {
        (Single::Good, Some(_)) => good(ABILITY, "can be made"),
        (Single::Good, None) => bad(
            ABILITY,
            State::Failed,
            "can be made, but not entered as a build does",
            "the attempt of a build failed, that of a single id did not",
            "Run `sifbuild build` with --id-mode single",
        ),
        // Root of a container that made its namespaces for it needs none of its own.
        (Single::Refused { .. }, Some(_)) => good(ABILITY, "not needed: this is root of a namespace already"),
        (Single::Refused { stage, signs }, None) => {
            let refusal = namespaces::explain(signs, *stage);
            bad(ABILITY, State::Failed, "cannot be made: scripts cannot be executed", refusal.cause, refusal.remedy)
        }
    }
}

fn ids(observations: &Observations, inside: &Inside) -> Finding {
    const ABILITY: &str = "subordinate-ids";
    let identity = &inside.identity;
    match identity.mode {
        Mode::Root => good(ABILITY, "not needed: real root has all ids"),
        Mode::Range if identity.highest_id >= USUAL_HIGHEST => {
            good(ABILITY, format!("0 to {} of the container exist", identity.highest_id))
        }
        Mode::Range => bad(
            ABILITY,
            State::Note,
            format!("only 0 to {} of the container exist", identity.highest_id),
            "the subordinate range is short: files of higher owners cannot be unpacked",
            remedy::subordinate_range(
                observations.host.user.as_deref(),
                observations.host.uid,
                &observations.range.taken,
            ),
        ),
        Mode::Single => single_id(observations),
    }
}

/// Why there is one id only.
fn single_id(observations: &Observations) -> Finding {
    const ABILITY: &str = "subordinate-ids";
    const DETAIL: &str = "none can be used: builds have one id, and root is emulated";
    let host = &observations.host;
    match (&observations.range.own, &observations.range.entered) {
        (Err(reason), _) => {
            let line = remedy::subordinate_range(host.user.as_deref(), host.uid, &observations.range.taken);
            bad(ABILITY, State::Note, DETAIL, cause_of(reason), line)
        }
        (Ok(_), Err(reason)) if reason.contains("is not installed") => bad(
            ABILITY,
            State::Note,
            DETAIL,
            reason.clone(),
            "An administrator installs it: apt-get install -y uidmap (Debian), dnf install -y shadow-utils (Fedora)",
        ),
        (Ok(_), Err(reason)) => {
            let remedy = match host.outer {
                Some(Outer::Kubernetes | Outer::GitlabKubernetes) => {
                    "Set allowPrivilegeEscalation: true in the container's securityContext, and let the image keep newuidmap's file \
                     capabilities or set-id bit"
                }
                Some(_) => {
                    "Start the outer container without no-new-privileges, with the capabilities SETUID and SETGID, and with newuidmap set \
                     uid root in its image"
                }
                None => {
                    "An administrator repairs it: chmod 4755 /usr/bin/newuidmap /usr/bin/newgidmap, on a file system that is mounted \
                     without nosuid"
                }
            };
            bad(ABILITY, State::Note, DETAIL, reason.clone(), remedy)
        }
        (Ok(_), Ok(())) => bad(
            ABILITY,
            State::Note,
            DETAIL,
            "this is root of a namespace that has one id only",
            "Make that namespace with a range: unshare --map-auto, podman unshare, or an outer container with --userns",
        ),
    }
}

/// The sentence without the remedy behind its semicolon.
fn cause_of(reason: &str) -> String {
    reason.split(';').next().unwrap_or(reason).to_owned()
}

/// What a script needs, beyond the namespace.
fn sandbox(observations: &Observations, inside: &Inside) -> Vec<Finding> {
    let outer = observations.host.outer;
    let around = match outer {
        Some(outer) => remedy::outer(outer),
        None if observations.host.apparmor => remedy::apparmor_profile(&observations.host.program),
        None => "Ask an administrator which security module forbids it (journalctl -k tells)".to_owned(),
    };
    let mount = |ability: &'static str, what: &str, attempt: &Attempt| match attempt {
        Ok(()) => good(ability, format!("{what} can be made")),
        Err(refused) => bad(ability, State::Failed, format!("{what} cannot be made"), said(refused), around.clone()),
    };
    let mut findings = vec![
        mount("namespaces", "namespaces for processes, mounts, messages and the host name", &inside.namespaces),
        mount("memory-file-system", "a file system in memory for /dev", &inside.memory_file_system),
        mount("terminals", "terminals for /dev/pts", &inside.terminals),
        root(&inside.root, &around),
        overlay(observations, inside),
    ];
    findings.push(match &inside.proc {
        Ok(()) => good("proc", "/proc of the container's own processes can be mounted"),
        Err(refused) => bad(
            "proc",
            State::Note,
            "scripts see the /proc that is here, with the processes of the host or outer container",
            format!("{}; the kernel allows a new one only where no part of the old is covered", said(refused)),
            remedy::proc(outer),
        ),
    });
    if let Err(refused) = &inside.owners {
        findings.push(bad(
            "owners",
            State::Failed,
            "files in the store cannot be given to other ids",
            format!("{}; network file systems do not know subordinate ids", said(refused)),
            "Keep the store on a local disk (--cache-dir DIRECTORY, or SIFBUILD_CACHEDIR), or build with --id-mode single",
        ));
    }
    findings.push(listener(inside));
    findings
}

fn root(attempt: &Attempt, around: &str) -> Finding {
    const ABILITY: &str = "root";
    match attempt {
        Ok(()) => good(ABILITY, "the root can be changed (pivot_root)"),
        Err(refused) if refused.errno == libc::EINVAL => bad(
            ABILITY,
            State::Failed,
            "the root cannot be changed",
            format!("{}: the root here is no mount point, as in a chroot and on an initial memory disk", said(refused)),
            "Run the build outside of the chroot, or enter it with pivot_root (systemd-nspawn, bubblewrap, unshare)",
        ),
        Err(refused) => bad(ABILITY, State::Failed, "the root cannot be changed", said(refused), around),
    }
}

fn overlay(observations: &Observations, inside: &Inside) -> Finding {
    let store = observations.places.iter().find(|place| place.role == Role::Store);
    let path = store.map_or_else(String::new, |place| format!(" in {}", place.path.display()));
    let Err(refused) = &inside.overlay else {
        return good("overlay", format!("works{path}"));
    };
    let elsewhere = "Keep the store on a local disk: --cache-dir DIRECTORY, or SIFBUILD_CACHEDIR";
    let (cause, remedy) = match refused.errno {
        libc::ENODEV => (
            "this kernel has no overlay file system".to_owned(),
            "An administrator loads it: modprobe overlay".to_owned(),
        ),
        libc::EPERM if !at_least(&observations.host.kernel, 5, 11) && inside.identity.mode != Mode::Root => (
            format!("Linux {} has no overlay for users; 5.11 has", observations.host.kernel),
            "Use a newer kernel, or run as root".to_owned(),
        ),
        libc::EACCES | libc::EPERM if observations.host.outer.is_some() => {
            (said(refused), remedy::outer(observations.host.outer.unwrap_or(Outer::Other)))
        }
        libc::ENOSPC | libc::EDQUOT | libc::EROFS => (said(refused), elsewhere.to_owned()),
        _ => (
            format!("{}; NFS, Lustre, memory without attributes and another overlay do not carry one", said(refused)),
            elsewhere.to_owned(),
        ),
    };
    bad("overlay", State::Failed, format!("does not work{path}"), cause, remedy)
}

/// Whether a release like `6.18.44-x` is not older than a version.
fn at_least(release: &str, major: u32, minor: u32) -> bool {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(second))) => (first, second) >= (major, minor),
        _ => true,
    }
}

fn listener(inside: &Inside) -> Finding {
    const ABILITY: &str = "seccomp-notification";
    let listener = &inside.listener;
    if let Err(refused) = &listener.obtained {
        let (cause, remedy) = match refused.errno {
            libc::EBUSY => (
                "an outer program answers system calls already (another fakeroot, or a build within a build)"
                    .to_owned(),
                "Run this build outside of the other",
            ),
            libc::EINVAL | libc::ENOSYS => {
                ("this kernel has none, or its seccomp is off; Linux 5.0 has".to_owned(), "Use a newer kernel")
            }
            _ => (said(refused), "Start the outer container with a seccomp profile that allows the call `seccomp`"),
        };
        return bad(
            ABILITY,
            State::Note,
            "root cannot be emulated with one id: chown and the like fail in scripts",
            cause,
            remedy,
        );
    }
    let missing: Vec<&str> = [
        (listener.wait_killable, "WAIT_KILLABLE_RECV (Linux 5.19)"),
        (listener.sync_wake_up, "SYNC_WAKE_UP (6.6)"),
        (listener.add_and_send, "ADDFD_SEND (5.14)"),
    ]
    .into_iter()
    .filter_map(|(there, name)| (!there).then_some(name))
    .collect();
    match missing.as_slice() {
        [] => good(ABILITY, "can be had, with WAIT_KILLABLE_RECV, SYNC_WAKE_UP and ADDFD_SEND"),
        missing => bad(
            ABILITY,
            State::Note,
            "can be had; emulating root is slower, or interrupts more calls",
            format!("this kernel lacks {}", missing.join(", ")),
            "Use a newer kernel where many scripts run with one id",
        ),
    }
}

fn judge_place(observations: &Observations, place: &Place) -> Vec<Finding> {
    let (ability, flag) = match place.role {
        Role::Store => ("store", "--cache-dir DIRECTORY, or SIFBUILD_CACHEDIR"),
        Role::Temporary => ("temporary-directory", "--tmpdir DIRECTORY, or TMPDIR"),
        Role::Target => ("target-directory", "another --target-dir"),
        Role::Current => ("target-directory", "give images another path"),
    };
    let name = format!("{} {}", place.role.name(), place.path.display());
    if let Err(refused) = &place.written {
        let remedy = match refused.errno {
            libc::ENOSPC | libc::EDQUOT if place.role == Role::Store => {
                format!("Make room (sifbuild cache clean), or choose another place: {flag}")
            }
            libc::ENOSPC | libc::EDQUOT => format!("Make room there, or choose another place: {flag}"),
            _ => format!("Choose another place: {flag}"),
        };
        // Builds that keep nothing use the temporary directory, and nobody said that images go here.
        let state = match place.role {
            Role::Store | Role::Target => State::Failed,
            Role::Temporary | Role::Current => State::Note,
        };
        return vec![bad(ability, state, format!("the {name} cannot be written"), said(refused), remedy)];
    }
    let space = format!("{} and {} files free", human(place.free_bytes), place.free_files);
    let is_little = place.free_bytes < LITTLE_BYTES || place.free_files < LITTLE_FILES && place.free_files > 0;
    let mut findings = vec![match is_little {
        false => good(ability, format!("the {name}: {space}")),
        true => bad(
            ability,
            State::Note,
            format!("the {name}: {space}"),
            "large images do not fit",
            format!("Choose another place for large images: {flag}"),
        ),
    }];
    let executes = place.role == Role::Store && observations.inside.is_some();
    if place.is_noexec && executes {
        findings.push(bad(
            "execution-in-store",
            State::Note,
            "programs that scripts put into /tmp cannot be executed",
            format!("{} is mounted noexec, and /tmp of scripts lies there", place.path.display()),
            format!("Choose another place for the store: {flag}"),
        ));
    }
    if let (Err(refused), Role::Store) = (&place.attributes, place.role)
        && executes
    {
        findings.push(bad(
            "attributes-in-store",
            State::Note,
            "extended attributes cannot be kept: directories that scripts replace, and capabilities, are lost or refused",
            format!("{} in {}", said(refused), place.path.display()),
            format!("Choose another place for the store: {flag}"),
        ));
    }
    findings
}

fn fuse(observations: &Observations) -> Finding {
    match &observations.fuse {
        Ok(()) => good("fuse", "/dev/fuse can be opened: images are mounted to be run"),
        Err(refused) => bad(
            "fuse",
            State::Note,
            "/dev/fuse cannot be opened; sifbuild does without: images are unpacked once to be run",
            said(refused),
            remedy::fuse(observations.host.outer),
        ),
    }
}

fn registry(host: &str, reached: &Result<(), String>) -> Finding {
    match reached {
        Ok(()) => good("registry", format!("{host} answers")),
        Err(reason) => bad(
            "registry",
            State::Note,
            format!("{host} cannot be reached"),
            reason.clone(),
            "Check the name, the proxy (HTTPS_PROXY, NO_PROXY) and the certificates (sifbuild registry explain); --offline builds from \
             what is kept",
        ),
    }
}

fn said(refused: &Refused) -> String {
    format!("cannot {}: {}", refused.action, refused.system())
}

fn human(bytes: u64) -> String {
    match bytes >> 20 {
        mebibytes @ 0..1024 => format!("{mebibytes} MiB"),
        mebibytes => format!("{} GiB", mebibytes >> 10),
    }
}
