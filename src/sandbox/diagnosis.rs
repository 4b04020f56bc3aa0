//! What can be read, without privileges, of why the kernel refused a user namespace.

use super::Error;
use crate::doctor::namespaces::{Signs, explain as explain_signs};
use crate::doctor::{Outer, Stage};
use std::fs;
use std::path::Path;

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
        outer: outer(),
        program: std::env::current_exe().unwrap_or_default(),
    }
}

/// The container around this process, by the marks that runtimes leave.
pub fn outer() -> Option<Outer> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let exists = |path: &str| Path::new(path).exists();
    let (kubernetes, gitlab) = (is_set("KUBERNETES_SERVICE_HOST"), is_set("GITLAB_CI"));
    // An image that was made a host's root has the marks, too; a container has files of its runtime mounted besides.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_mounted = |path: &str| mounts.lines().any(|line| line.split(' ').nth(4) == Some(path));
    let inside = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].iter().any(|path| is_mounted(path));
    let podman = inside && exists("/run/.containerenv");
    let docker = inside && exists("/.dockerenv");
    match () {
        () if kubernetes && gitlab => Some(Outer::GitlabKubernetes),
        () if kubernetes => Some(Outer::Kubernetes),
        () if docker && gitlab => Some(Outer::GitlabDocker),
        () if podman => Some(Outer::Podman),
        () if docker => Some(Outer::Docker),
        () if is_set("APPTAINER_CONTAINER") || is_set("SINGULARITY_CONTAINER") => Some(Outer::Apptainer),
        () => None,
    }
}

/// The cause and the one remedy.
pub fn explain(signs: &Signs) -> Error {
    explain_at(signs, Stage::Unshare)
}

pub fn explain_at(signs: &Signs, stage: Stage) -> Error {
    const REST: &str = "A definition that executes nothing builds without one.";
    let refusal = explain_signs(signs, stage);
    let end = if refusal.remedy.contains('\n') { "\n" } else { ". " };
    Error::Namespace { cause: refusal.cause, remedy: format!("{}{end}{REST}", refusal.remedy) }
}
