//! Inside of containers whose runtime gives no rights: what can work, works; the rest stops with its cause and remedy.
//!
//! The containers are made by hand: namespaces, a root of their own, masked parts of `/proc`, no `/dev/fuse`, Docker's
//! capabilities, and a filter of system calls like Docker's.

use super::filter;
use super::place::{Place, SINGLE_USER};
use super::prepared::{Done, Examined, Prepared, hosts};
use std::fs;

const NOTHING: &str = "Bootstrap: oci-archive\nFrom: base.tar:t\n%environment\n  export A=1\n%runscript\n  echo run\n";
const SCRIPT: &str = "Bootstrap: oci-archive\nFrom: base.tar:t\n%post\n  echo made > /made\n  cat /proc/self/comm\n  echo x > /dev/null\n";

/// A root over the host's, with processes of its own; at its end `"$@"` runs in it.
const ROOT: &str = r#"
mount --make-rprivate /
mkdir $SCRATCH/container
mount -t tmpfs none $SCRATCH/container
cd $SCRATCH/container
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root
mount --rbind $PLACE root$PLACE
mount -t proc none root/proc
for path in $MASKED; do
    if [ -d root$path ]; then mount -t tmpfs -o ro none root$path
    elif [ -e root$path ]; then mount --bind /dev/null root$path
    fi
done
for path in $READ_ONLY; do
    if [ -e root$path ]; then mount --bind root$path root$path; mount -o remount,bind,ro root$path; fi
done
mount -t sysfs -o ro none root/sys
mount -t tmpfs -o mode=755 none root/dev
for name in null zero full random urandom tty; do touch root/dev/$name; mount --bind /dev/$name root/dev/$name; done
mkdir root/dev/pts root/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 none root/dev/pts
mount -t tmpfs -o mode=1777 none root/dev/shm
touch root/.dockerenv root/etc/hostname hostname
mount --bind hostname root/etc/hostname
cd root
mkdir -p old
pivot_root . old
cd $PLACE/work
umount -l /old
exec "$@"
"#;
/// As Docker and Kubernetes have it.
const MASKED: &str = "/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list \
                      /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware";
const READ_ONLY: &str = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger";
const CAPABILITIES: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,\
                            +sys_chroot,+mknod,+audit_write,+setfcap";

/// Runs the program in a container, with or without the filter.
fn contained(host: &Prepared, filtered: bool, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
    let place = host.place.file("..").canonicalize().unwrap();
    let place = place.to_str().unwrap();
    let capabilities = ["setpriv", "--bounding-set", CAPABILITIES, "--inh-caps=-all"].map(str::to_owned);
    let mut words: Vec<String> = Vec::new();
    words.extend(capabilities);
    // What becomes the user must not undo it.
    words.extend(host.user_words().into_iter().skip_while(|word| word == "setpriv"));
    words.push(host.program());
    words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let words_in_lines = words.join("\n");
    let mut all = vec![("PLACE", place), ("MASKED", MASKED), ("READ_ONLY", READ_ONLY)];
    all.extend(variables);
    let last = if filtered {
        all.push((filter::VARIABLE, &words_in_lines));
        filter::runner()
    } else {
        words
    };
    let quoted: Vec<String> = last.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "rm -rf $SCRATCH/container\nexec unshare --mount --pid --fork --ipc --uts sh -ec '{}' sh {}",
        ROOT.replace('\'', "'\\''"),
        quoted.join(" ")
    );
    let mut done = host.perform(&script, &[], &all);
    let _ = fs::remove_dir(host.place.file("../scratch/container"));
    // The runner of the filter is a test program, which says so first.
    if let Some(at) = done.text.find("running 1 test\n") {
        done.text = done.text.split_off(at + "running 1 test\n".len());
    }
    done
}

#[test]
fn with_dockers_defaults_images_are_built_that_execute_nothing() {
    for host in hosts() {
        host.place.write("nothing.def", NOTHING);
        host.place.write("script.def", SCRIPT);
        let done = contained(&host, true, &["build", "nothing.sif", "nothing.def"], &[]);
        assert_eq!(done.code, Some(0), "{}{}", done.text, done.complaint);
        let done = contained(&host, true, &["inspect", "--environment", "nothing.sif"], &[]);
        assert!(done.code == Some(0) && done.text.contains("export A=1"), "{}{}", done.text, done.complaint);
        let done = contained(&host, true, &["build", "--sandbox", "box", "nothing.sif"], &[]);
        assert_eq!(done.code, Some(0), "{}{}", done.text, done.complaint);

        let done = contained(&host, true, &["build", "script.sif", "script.def"], &[]);
        assert_eq!(done.code, Some(5), "{}{}", done.text, done.complaint);
        for expected in ["a seccomp filter of an outer container", "docker run --security-opt seccomp=unconfined"] {
            assert!(done.complaint.contains(expected), "{}", done.complaint);
        }
        let done = contained(&host, true, &["exec", "nothing.sif", "true"], &[]);
        assert!(done.code == Some(255) && done.complaint.contains("seccomp=unconfined"), "{}", done.complaint);
    }
}

#[test]
fn doctor_names_the_runtime_that_forbids_namespaces() {
    for host in hosts() {
        let examine =
            |variables: &[(&str, &str)]| Examined::read(&contained(&host, true, &["doctor", "--json"], variables));
        for (variables, expected) in [
            (&[][..], "docker run --security-opt seccomp=unconfined"),
            (&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")], "seccompProfile: {type: Unconfined}"),
            (&[("GITLAB_CI", "true")], "[runners.docker]"),
            (&[("GITLAB_CI", "true"), ("KUBERNETES_SERVICE_HOST", "10.0.0.1")], "[[runners.kubernetes.pod_spec]]"),
        ] {
            let found = examine(variables);
            found.assert(5, "user-namespace", "failed", "a seccomp filter of an outer container");
            assert_eq!(found.mode(), None);
            assert!(found.remedy("user-namespace").contains(expected), "{}", found.remedy("user-namespace"));
            found.assert(5, "fuse", "note", "sifbuild does without");
        }
    }
}

#[test]
fn with_the_remedy_scripts_run_although_proc_is_masked() {
    for host in hosts() {
        host.place.write("script.def", SCRIPT);
        let found = Examined::read(&contained(&host, false, &["doctor", "--json"], &[]));
        assert_eq!(found.code, 0, "{:#}", found.report);
        found.assert(0, "proc", "note", "no part of the old is covered");
        assert!(found.remedy("proc").contains("systempaths=unconfined"), "{}", found.remedy("proc"));
        let done = contained(&host, false, &["build", "script.sif", "script.def"], &[]);
        assert_eq!(done.code, Some(0), "{}{}", done.text, done.complaint);
        let done = contained(&host, false, &["exec", "script.sif", "cat", "/made"], &[]);
        assert_eq!((done.code, done.text.as_str()), (Some(0), "made\n"), "{}", done.complaint);
    }
}

/// A container as podman and bubblewrap make it for a user: root is the user, processes of its own.
fn nest(times: usize) -> String {
    let one = "unshare --user --map-root-user --mount --pid --fork --mount-proc ";
    format!("exec {}\"$@\"", one.repeat(times))
}

#[test]
fn nested_once_and_twice_everything_works() {
    for host in hosts() {
        host.place.write("nothing.def", NOTHING);
        host.place.write("script.def", SCRIPT);
        for times in [1, 2] {
            // The user's words stand in "$@", which then has one id only: they come first.
            let user = host.user_words().join(" ");
            let own = host.user_words().len();
            let script = format!("shift {own}\n{}", nest(times).replacen("exec", &format!("exec {user}"), 1));
            let perform = |arguments: &[&str]| host.perform(&script, arguments, &[]);
            let found = Examined::read(&perform(&["doctor", "--json"]));
            assert_eq!((found.code, found.mode()), (0, Some("single")), "{:#}", found.report);
            for name in ["nothing", "script"] {
                let done = perform(&["build", "--force", &format!("{name}.sif"), &format!("{name}.def")]);
                assert_eq!(done.code, Some(0), "{times}: {}{}", done.text, done.complaint);
            }
            let done = perform(&["exec", "script.sif", "cat", "/made"]);
            assert_eq!((done.code, done.text.as_str()), (Some(0), "made\n"), "{}", done.complaint);
        }
    }
}

#[test]
fn a_build_runs_within_a_build() {
    let places = std::iter::once(Place::new()).chain(Place::of_user(SINGLE_USER));
    for place in places {
        place.write("inner.def", "Bootstrap: oci-archive\nFrom: /bound/base.tar:t\n%post\n  echo inner > /inner\n");
        let outer = "Bootstrap: oci-archive\nFrom: base.tar:t\n%post\n  export SIFBUILD_CACHEDIR=/tmp/cache\n  \
                     /bound/sifbuild build /tmp/inner.sif /bound/inner.def\n  /bound/sifbuild exec /tmp/inner.sif cat /inner > /result\n";
        fs::copy(place.file("../sifbuild"), place.file("sifbuild")).unwrap();
        let bind = format!("{}:/bound:ro", place.file("").to_str().unwrap());
        // The program is no static one: the host's libraries come along.
        let libraries = ["/lib64", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu"];
        let there = libraries.iter().filter(|path| std::path::Path::new(path).exists());
        let binds: Vec<String> = there.map(|path| format!("{path}:{path}:ro")).chain([bind]).collect();
        place.build("outer.sif", outer, &["--bind", &binds.join(",")]);
        assert_eq!(place.succeed(&["exec", "outer.sif", "cat", "/result"]).lines().next(), Some("inner"));
    }
}
