//! Why the kernel refused a user namespace, told from what can be read without privileges.

use super::Error;
use std::fs;
use std::io;

/// What was seen; a value, so that advice is tested without such hosts.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    pub errno: i32,
    /// `user.max_user_namespaces`.
    pub maximum: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`.
    pub apparmor: bool,
    /// `kernel.unprivileged_userns_clone` is 0.
    pub clone_forbidden: bool,
    /// `/` is no mount point, so the caller lives in a chroot.
    pub chroot: bool,
    /// A seccomp filter is active, as in most containers.
    pub seccomp: bool,
    pub uid: u32,
}

pub fn observe(errno: i32) -> Signs {
    let read = |path: &str| fs::read_to_string(path).ok();
    let number = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    let status = read("/proc/self/status").unwrap_or_default();
    Signs {
        errno,
        maximum: number("/proc/sys/user/max_user_namespaces"),
        apparmor: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1),
        clone_forbidden: number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0),
        chroot: !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/")),
        seccomp: status.lines().any(|line| line.starts_with("Seccomp:") && !line.ends_with('0')),
        uid: nix::unistd::geteuid().as_raw(),
    }
}

/// The cause and the one remedy.
pub fn explain(signs: &Signs) -> Error {
    let system = io::Error::from_raw_os_error(signs.errno);
    let (cause, remedy) = if signs.maximum == Some(0) {
        (
            "they are switched off on this host (user.max_user_namespaces is 0)".to_string(),
            "An administrator can switch them on: sysctl -w user.max_user_namespaces=15000",
        )
    } else if signs.errno == libc::ENOSPC {
        (
            "the limit on user namespaces, or on their nesting, is reached (ENOSPC)".to_string(),
            "An administrator can raise user.max_user_namespaces; or start the build outside of the nested container",
        )
    } else if signs.clone_forbidden && signs.uid != 0 {
        (
            "this host keeps them from users (kernel.unprivileged_userns_clone is 0)".to_string(),
            "An administrator can allow them: sysctl -w kernel.unprivileged_userns_clone=1",
        )
    } else if signs.apparmor && signs.uid != 0 {
        (
            "AppArmor allows them only to programs with a profile (kernel.apparmor_restrict_unprivileged_userns is 1)"
                .to_string(),
            "An administrator can install a profile that allows userns to this program, or set that sysctl to 0",
        )
    } else if signs.chroot {
        (
            format!("this process runs in a chroot, where the kernel refuses them ({system})"),
            "Run the build outside of the chroot, or enter it with pivot_root (systemd-nspawn, bubblewrap, unshare)",
        )
    } else if signs.errno == libc::EINVAL {
        ("this kernel is built without them (CONFIG_USER_NS)".to_string(), "Use another kernel, or run as root")
    } else if signs.seccomp {
        (
            format!("a seccomp filter of an outer container forbids them ({system})"),
            "Start that container with a profile that allows unshare and mount (docker: --security-opt seccomp=unconfined, \
             and apparmor=unconfined where AppArmor is used)",
        )
    } else {
        (format!("the kernel says: {system}"), "Run as root, or on a host that allows user namespaces")
    };
    Error::Namespace { cause, remedy: format!("{remedy}. A definition that executes nothing builds without one.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_switch_that_forbids_namespaces() {
        let base = Signs { errno: libc::EPERM, maximum: Some(1000), uid: 1000, ..Signs::default() };
        let cases = [
            (Signs { errno: libc::ENOSPC, maximum: Some(0), ..base.clone() }, "max_user_namespaces=15000"),
            (Signs { errno: libc::ENOSPC, ..base.clone() }, "nesting"),
            (Signs { clone_forbidden: true, ..base.clone() }, "unprivileged_userns_clone=1"),
            (Signs { apparmor: true, ..base.clone() }, "profile that allows userns"),
            (Signs { chroot: true, seccomp: true, ..base.clone() }, "outside of the chroot"),
            (Signs { seccomp: true, ..base.clone() }, "seccomp=unconfined"),
            (Signs { errno: libc::EINVAL, ..base.clone() }, "CONFIG_USER_NS"),
        ];
        for (signs, expected) in cases {
            let text = explain(&signs).to_string();
            assert!(text.contains(expected), "{signs:?}: {text}");
        }
    }
}
