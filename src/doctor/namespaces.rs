//! Why the kernel refused a user namespace, told from what can be read without privileges.

use super::{Outer, Stage, remedy};
use std::io;
use std::path::PathBuf;

/// What was seen; a value, so that advice is tested without such hosts.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    pub errno: i32,
    /// `user.max_user_namespaces`.
    pub maximum: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    pub apparmor: bool,
    /// `kernel.unprivileged_userns_clone` is 0.
    pub clone_forbidden: bool,
    /// `/` is no mount point, so the caller lives in a chroot.
    pub chroot: bool,
    /// A seccomp filter is active, as in most containers.
    pub seccomp: bool,
    pub uid: u32,
    pub outer: Option<Outer>,
    /// Path of this program, for a profile.
    pub program: PathBuf,
}

/// The cause, as a sentence goes on after a colon, and the one remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub cause: String,
    pub remedy: String,
}

pub fn explain(signs: &Signs, stage: Stage) -> Refusal {
    let system = io::Error::from_raw_os_error(signs.errno);
    let refusal = |cause: String, remedy: String| Refusal { cause, remedy };
    if signs.maximum == Some(0) {
        return refusal(
            "they are switched off on this host (user.max_user_namespaces is 0)".to_owned(),
            "An administrator can switch them on: sysctl -w user.max_user_namespaces=15000".to_owned(),
        );
    }
    if signs.errno == libc::ENOSPC {
        return refusal(
            "the limit on user namespaces, or on their nesting, is reached (ENOSPC)".to_owned(),
            "An administrator can raise user.max_user_namespaces; or start the build outside of the nested container"
                .to_owned(),
        );
    }
    if signs.clone_forbidden && signs.uid != 0 {
        return refusal(
            "this host keeps them from users (kernel.unprivileged_userns_clone is 0)".to_owned(),
            "An administrator can allow them: sysctl -w kernel.unprivileged_userns_clone=1".to_owned(),
        );
    }
    if signs.apparmor && signs.uid != 0 && signs.outer.is_none() {
        return refusal(
            "AppArmor allows them only to programs with a profile (kernel.apparmor_restrict_unprivileged_userns is 1)"
                .to_owned(),
            remedy::apparmor_profile(&signs.program),
        );
    }
    if signs.chroot {
        return refusal(
            format!("this process runs in a chroot, where the kernel refuses them ({system})"),
            "Run the build outside of the chroot, or enter it with pivot_root (systemd-nspawn, bubblewrap, unshare)"
                .to_owned(),
        );
    }
    if signs.errno == libc::EINVAL {
        return refusal(
            "this kernel is built without them (CONFIG_USER_NS)".to_owned(),
            "Use another kernel, or run as root".to_owned(),
        );
    }
    if stage == Stage::Mount && signs.errno == libc::EACCES {
        return refusal(
            format!("a security module forbids mounts in them ({system}), as Docker's AppArmor profile does"),
            remedy::outer(signs.outer.unwrap_or(Outer::Other)),
        );
    }
    if let (Some(outer), true) = (signs.outer, signs.seccomp) {
        return refusal(
            format!("a seccomp filter of an outer container forbids them ({system})"),
            remedy::outer(outer),
        );
    }
    if signs.seccomp {
        return refusal(
            format!("a seccomp filter of an outer container forbids them ({system})"),
            remedy::outer(Outer::Other),
        );
    }
    refusal(format!("the kernel says: {system}"), "Run as root, or on a host that allows user namespaces".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_switch_that_forbids_namespaces() {
        let base = Signs { errno: libc::EPERM, maximum: Some(1000), uid: 1000, ..Signs::default() };
        let in_docker = Signs { seccomp: true, outer: Some(Outer::Docker), ..base.clone() };
        let cases = [
            (
                Signs { errno: libc::ENOSPC, maximum: Some(0), ..base.clone() },
                Stage::Unshare,
                "max_user_namespaces=15000",
            ),
            (Signs { errno: libc::ENOSPC, ..base.clone() }, Stage::Unshare, "nested"),
            (Signs { clone_forbidden: true, ..base.clone() }, Stage::Unshare, "unprivileged_userns_clone=1"),
            (
                Signs { apparmor: true, program: "/opt/sifbuild".into(), ..base.clone() },
                Stage::Map,
                "profile sifbuild /opt/sifbuild",
            ),
            (Signs { chroot: true, seccomp: true, ..base.clone() }, Stage::Unshare, "outside of the chroot"),
            (Signs { seccomp: true, ..base.clone() }, Stage::Unshare, "seccomp=unconfined"),
            (
                Signs { apparmor: true, ..in_docker.clone() },
                Stage::Unshare,
                "docker run --security-opt seccomp=unconfined",
            ),
            (Signs { errno: libc::EACCES, ..in_docker.clone() }, Stage::Mount, "apparmor=unconfined"),
            (Signs { outer: Some(Outer::Kubernetes), ..in_docker.clone() }, Stage::Unshare, "seccompProfile"),
            (Signs { outer: Some(Outer::GitlabDocker), ..in_docker }, Stage::Unshare, "[runners.docker]"),
            (Signs { errno: libc::EINVAL, ..base }, Stage::Unshare, "Use another kernel"),
        ];
        for (signs, stage, expected) in cases {
            let refusal = explain(&signs, stage);
            assert!(refusal.remedy.contains(expected), "{signs:?}: {refusal:?}");
        }
    }
}
