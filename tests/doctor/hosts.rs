//! Hosts that lack something, and the remedy that `doctor` gives, tried.

use super::place::{RANGE_USER, SINGLE_USER};
use super::prepared::{Examined, Prepared, host_of, hosts};

/// Exit codes (README).
const GOOD: i32 = 0;
const NO_SANDBOX: i32 = 5;
const NO_STORE: i32 = 6;

fn mode(host: &Prepared) -> &'static str {
    match host.place.user().map(|user| user.name.as_str()) {
        None => "root",
        Some(RANGE_USER) => "range",
        Some(_) => "single",
    }
}

#[test]
fn a_good_host_is_good() {
    for host in hosts() {
        let found = host.examine("", &[]);
        assert_eq!((found.code, found.mode()), (GOOD, Some(mode(&host))), "{:#}", found.report);
        for ability in ["user-namespace", "namespaces", "root", "overlay", "proc", "seccomp-notification", "store"] {
            found.assert(GOOD, ability, "ok", "");
        }
        let text = host.perform("exec \"$@\"", &["doctor"], &[]).text;
        assert!(text.contains(&format!("mode: {}", mode(&host))) && text.contains("can be built here"), "{text}");
        // Nothing is left behind.
        assert!(!host.place.store().exists());
        assert_eq!(std::fs::read_dir(host.place.file("../scratch")).unwrap().count(), 0);
    }
}

#[test]
fn the_sysctl_that_forbids_namespaces_is_named_and_lifted() {
    for host in hosts() {
        // The limit is of this namespace; who loses all capabilities in it is a user.
        let script = |value: u32| {
            format!(
                "exec unshare --user --map-user=1000 --map-group=1000 --keep-caps sh -c 'echo {value} > /proc/sys/user/max_user_namespaces && \
                 exec setpriv --ambient-caps=-all --inh-caps=-all \"$0\" doctor --json' {}",
                host.program()
            )
        };
        let examine = |value: u32| {
            let user = host.user_words().join(" ");
            let script = script(value).replacen("exec unshare", &format!("exec {user} unshare"), 1);
            Examined::read(&host.perform(&script, &[], &[]))
        };
        let found = examine(0);
        found.assert(NO_SANDBOX, "user-namespace", "failed", "user.max_user_namespaces is 0");
        assert!(found.remedy("user-namespace").ends_with("sysctl -w user.max_user_namespaces=15000"));
        assert_eq!(examine(15000).code, GOOD);
    }
}

#[test]
fn a_missing_newuidmap_is_named_and_found_again() {
    let Some(host) = host_of(RANGE_USER) else { return };
    let hide = "mkdir $SCRATCH/bin && for p in sh env; do ln -s $(command -v $p) $SCRATCH/bin/; done";
    let script = format!(
        "{hide}\nset -- \"$(command -v setpriv)\" \"$2\" \"$3\" \"$4\" env PATH=$SCRATCH/bin \"$5\" \"$6\" \"$7\""
    );
    let found = host.examine(&script, &[]);
    found.assert(GOOD, "subordinate-ids", "note", "newuidmap is not installed");
    assert_eq!(found.mode(), Some("single"));
    assert!(found.remedy("subordinate-ids").contains("apt-get install -y uidmap"));
    let again = host.examine(
        &script.replace("in sh env", "in sh env newuidmap newgidmap").replace("$SCRATCH/bin", "$SCRATCH/other"),
        &[],
    );
    assert_eq!(again.mode(), Some("range"), "{:#}", again.report);
}

#[test]
fn a_newuidmap_without_its_set_id_bit_is_named_and_repaired() {
    let Some(host) = host_of(RANGE_USER) else { return };
    let bind = |mode: &str| {
        format!(
            "for p in newuidmap newgidmap; do cp /usr/bin/$p $SCRATCH/$p; chmod {mode} $SCRATCH/$p; mount --bind $SCRATCH/$p /usr/bin/$p; done"
        )
    };
    let found = host.examine(&bind("755"), &[]);
    found.assert(GOOD, "subordinate-ids", "note", "newuidmap failed");
    assert_eq!(found.mode(), Some("single"));
    assert!(found.remedy("subordinate-ids").contains("chmod 4755 /usr/bin/newuidmap"));
    assert_eq!(host.examine(&bind("4755"), &[]).mode(), Some("range"));
}

#[test]
fn a_user_without_a_range_is_given_the_line_that_gives_one() {
    let Some(host) = host_of(SINGLE_USER) else { return };
    let found = host.examine("", &[]);
    found.assert(GOOD, "subordinate-ids", "note", "/etc/subuid has no range for sifbuild-single");
    let remedy = found.remedy("subordinate-ids");
    let command = remedy.split_once(": ").unwrap().1;
    let script = format!(
        "for f in subuid subgid; do cp /etc/$f $SCRATCH/$f; mount --bind $SCRATCH/$f /etc/$f; done\n{command} > /dev/null"
    );
    let again = host.examine(&script, &[]);
    assert_eq!(again.mode(), Some("range"), "{:#}", again.report);
    again.assert(GOOD, "subordinate-ids", "ok", "0 to 65536");
}

#[test]
fn a_short_range_is_told() {
    let Some(host) = host_of(SINGLE_USER) else { return };
    let script = "for f in subuid subgid; do cp /etc/$f $SCRATCH/$f; mount --bind $SCRATCH/$f /etc/$f; echo sifbuild-single:1900000000:1000 >> /etc/$f; done";
    let found = host.examine(script, &[]);
    found.assert(GOOD, "subordinate-ids", "note", "only 0 to 1000");
    assert!(found.remedy("subordinate-ids").contains("sifbuild-single:1900001000:65536"));
}

#[test]
fn a_chroot_is_named_and_left() {
    const FILL: &str = "mkdir $SCRATCH/c; cd $SCRATCH/c; for d in usr bin sbin lib lib64 etc proc dev tmp home srv root run; do \
                        if [ -e /$d ]; then mkdir -p $d; mount --rbind /$d $d; fi; done";
    for host in hosts() {
        let found = host.examine(&format!("{FILL}\nset -- chroot . \"$@\""), &[]);
        found.assert(NO_SANDBOX, "user-namespace", "failed", "runs in a chroot");
        assert!(found.remedy("user-namespace").contains("pivot_root"), "{:#}", found.report);
        let pivot = format!(
            "mkdir $SCRATCH/p; mount --bind $SCRATCH/p $SCRATCH/p; {}; mkdir old; pivot_root . old; cd /; umount -l old",
            FILL.replace("mkdir $SCRATCH/c; cd $SCRATCH/c", "cd $SCRATCH/p")
        );
        let again = host.examine(&pivot, &[]);
        assert_eq!((again.code, again.mode()), (GOOD, Some(mode(&host))), "{:#}", again.report);
    }
}

#[test]
fn a_store_whose_programs_cannot_be_executed_is_told_and_moved() {
    for host in hosts() {
        let script = "mount -t tmpfs -o mode=777,noexec,nosuid,nodev none $SCRATCH";
        let found = host.examine(script, &[]);
        found.assert(GOOD, "execution-in-store", "note", "noexec");
        assert!(found.remedy("execution-in-store").contains("SIFBUILD_CACHEDIR"));
        let elsewhere = host.place.file("elsewhere");
        let again = host.examine(script, &[("SIFBUILD_CACHEDIR", elsewhere.to_str().unwrap())]);
        assert!(!again.report.to_string().contains("execution-in-store"), "{:#}", again.report);
    }
}

#[test]
fn a_store_without_attributes_is_told_and_moved() {
    for host in hosts() {
        let script = "mount -t ramfs -o mode=777 none $SCRATCH; chmod 777 $SCRATCH";
        let found = host.examine(script, &[]);
        found.assert(found.code, "attributes-in-store", "note", "set an extended attribute");
        let (overlay, _) = found.finding("overlay");
        // Whether such a store carries an overlay is the kernel's business; what it says is what builds get.
        assert_eq!(found.code == GOOD, overlay == "ok", "{:#}", found.report);
        let elsewhere = host.place.file("elsewhere");
        let again = host.examine(script, &[("SIFBUILD_CACHEDIR", elsewhere.to_str().unwrap())]);
        again.assert(GOOD, "overlay", "ok", "");
        assert!(!again.report.to_string().contains("attributes-in-store"), "{:#}", again.report);
    }
}

#[test]
fn a_store_that_is_read_only_or_full_is_told_and_moved() {
    for host in hosts() {
        for (script, cause) in [
            ("mount -t tmpfs -o mode=777,ro none $SCRATCH", "Read-only file system"),
            ("mount -t tmpfs -o mode=777,size=128k none $SCRATCH", "No space left"),
        ] {
            let found = host.examine(script, &[]);
            found.assert(NO_STORE, "store", "failed", cause);
            found.assert(NO_STORE, "temporary-directory", "note", cause);
            let elsewhere = host.place.file("").to_str().unwrap().to_owned();
            let again = host.examine(script, &[("SIFBUILD_CACHEDIR", &elsewhere), ("TMPDIR", &elsewhere)]);
            again.assert(GOOD, "store", "ok", "free");
        }
        let found = host.examine("mount -t tmpfs -o mode=777,size=20m none $SCRATCH", &[]);
        found.assert(GOOD, "store", "note", "large images do not fit");
    }
}

#[test]
fn a_masked_proc_is_told_and_unmasked() {
    for host in hosts().into_iter().filter(|host| mode(host) != "root") {
        let mask = "mount --bind /dev/null /proc/interrupts; mount -t tmpfs -o ro none /proc/irq";
        let found = host.examine(mask, &[]);
        found.assert(GOOD, "proc", "note", "no part of the old is covered");
        assert!(found.remedy("proc").contains("Unmount what covers parts of /proc"), "{}", found.remedy("proc"));
        let again = host.examine(&format!("{mask}; umount /proc/interrupts /proc/irq"), &[]);
        again.assert(GOOD, "proc", "ok", "");
    }
}

#[test]
fn a_missing_fuse_device_is_a_note() {
    for host in hosts() {
        let cover = "mount --bind /dev/null /dev/fuse";
        let found = host.examine(cover, &[]);
        found.assert(GOOD, "fuse", "note", "sifbuild does without");
        host.examine(&format!("{cover}; umount /dev/fuse"), &[]).assert(GOOD, "fuse", "ok", "");
    }
}

#[test]
fn a_registry_that_does_not_answer_is_a_note() {
    let Some(host) = host_of(SINGLE_USER) else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed = format!("docker://localhost:{port}");
    let done = host.perform("exec \"$@\"", &["doctor", "--json", "--no-https", &closed], &[]);
    Examined::read(&done).assert(GOOD, "registry", "note", "refused");
    let done = host.perform("exec \"$@\"", &["doctor", "no://host at all"], &[]);
    assert_eq!(done.code, Some(1), "{}", done.complaint);
}

#[test]
fn a_store_that_carries_no_overlay_is_told_and_images_run_all_the_same() {
    // The kernel stacks two overlays, not three.
    let script = "cd $SCRATCH; for n in 1 2; do mkdir l$n u$n; mount -t tmpfs none u$n; mkdir u$n/u u$n/w; done; mkdir stacked; \
                  mount -t overlay -o lowerdir=l1,upperdir=u1/u,workdir=u1/w none l2; \
                  mount -t overlay -o lowerdir=l2,upperdir=u2/u,workdir=u2/w none stacked; chmod 777 stacked";
    for host in hosts() {
        host.place.write("x.def", "Bootstrap: oci-archive\nFrom: base.tar:t\n");
        host.place.succeed(&["build", "x.sif", "x.def"]);
        let store = host.place.file("../scratch/stacked");
        let variables = [("SIFBUILD_CACHEDIR", store.to_str().unwrap())];
        let found = host.examine(script, &variables);
        found.assert(NO_SANDBOX, "overlay", "failed", "another overlay do not carry one");
        assert!(found.remedy("overlay").contains("SIFBUILD_CACHEDIR"));
        let again = format!("rm -rf $SCRATCH/*; {script}; cd $SCRATCH/../work; exec \"$@\"");
        let done =
            host.perform(&again, &["exec", "x.sif", "sh", "-c", "cat /opt/above; id -u; touch /new"], &variables);
        let uid = host.place.user().map_or(0, |user| user.uid.as_raw());
        assert!(
            done.text == format!("above{uid}\n") && done.complaint.contains("Read-only"),
            "{}{}",
            done.text,
            done.complaint
        );
    }
}
