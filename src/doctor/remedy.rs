//! Remedies that are more than a word: profiles, lines of files, flags of container runtimes.

use super::{Outer, Range};
use std::path::Path;

/// How many ids images need: 0 to 65535, `nogroup` included.
const USUAL: u32 = 65536;
/// Where useradd begins to hand out ranges.
const FIRST: u32 = 100_000;

/// What allows user namespaces to one program, where AppArmor keeps them from others (Ubuntu 23.10 and later).
pub fn apparmor_profile(program: &Path) -> String {
    let program = program.display();
    format!(
        "An administrator can allow them to this program: write these lines to /etc/apparmor.d/sifbuild, then run \
         `apparmor_parser -r /etc/apparmor.d/sifbuild`\n  abi <abi/4.0>,\n  include <tunables/global>\n  profile sifbuild {program} \
         flags=(unconfined) {{\n    userns,\n    include if exists <local/sifbuild>\n  }}"
    )
}

/// A line for `/etc/subuid` and `/etc/subgid` with a range that nobody has.
pub fn subordinate_range(user: Option<&str>, uid: u32, taken: &[Range]) -> String {
    let start = taken.iter().map(|range| range.start.saturating_add(range.count)).fold(FIRST, u32::max);
    // Beyond the end: the first gap that is large enough.
    let start = if start > u32::MAX - USUAL - 1 { gap(taken) } else { Some(start) };
    let name = user.map_or_else(|| uid.to_string(), str::to_owned);
    match start {
        Some(start) => {
            format!("An administrator gives a range: echo {name}:{start}:{USUAL} | tee -a /etc/subuid /etc/subgid")
        }
        None => format!("An administrator gives {name} a range of {USUAL} ids in /etc/subuid and /etc/subgid"),
    }
}

fn gap(taken: &[Range]) -> Option<u32> {
    let ends = taken.iter().map(|range| range.start.saturating_add(range.count)).chain([FIRST]);
    let is_free = |start: &u32| {
        let end = start.saturating_add(USUAL);
        end < u32::MAX
            && taken.iter().all(|range| range.start >= end || range.start.saturating_add(range.count) <= *start)
    };
    ends.filter(|start| *start >= FIRST).filter(is_free).min()
}

/// What lets a container make namespaces of its own.
pub fn outer(outer: Outer) -> String {
    match outer {
        Outer::Docker => "Start the container with: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
                          --security-opt systempaths=unconfined IMAGE"
            .to_owned(),
        Outer::Podman => "Start the container with: podman run --security-opt seccomp=unconfined --security-opt unmask=ALL \
                          --security-opt label=disable IMAGE"
            .to_owned(),
        Outer::Kubernetes => "Give the pod's container this securityContext:\n  securityContext:\n    seccompProfile: {type: Unconfined}\n    \
                              appArmorProfile: {type: Unconfined}\n    allowPrivilegeEscalation: true"
            .to_owned(),
        Outer::GitlabDocker => "Let the runner start jobs so, in its config.toml:\n  [runners.docker]\n    security_opt = [\"seccomp:unconfined\", \
                                \"apparmor:unconfined\", \"systempaths=unconfined\"]"
            .to_owned(),
        Outer::GitlabKubernetes => "Let the runner start jobs so, in its config.toml:\n  [[runners.kubernetes.pod_spec]]\n    name = \
                                    \"namespaces\"\n    patch_type = \"strategic\"\n    patch = '{\"containers\": [{\"name\": \"build\", \
                                    \"securityContext\": {\"seccompProfile\": {\"type\": \"Unconfined\"}}}]}'"
            .to_owned(),
        Outer::Apptainer => "Run sifbuild beside the container, not in it; or start it with a configuration that allows user namespaces \
                             to be nested"
            .to_owned(),
        Outer::Other => "Start the outer container with a profile that allows unshare and mount (docker: --security-opt \
                         seccomp=unconfined, and apparmor=unconfined where AppArmor is used)"
            .to_owned(),
    }
}

/// What shows all of `/proc` to a container.
pub fn proc(outer: Option<Outer>) -> &'static str {
    match outer {
        Some(Outer::Docker) => "Start the container with --security-opt systempaths=unconfined",
        Some(Outer::Podman) => "Start the container with --security-opt unmask=ALL",
        Some(Outer::Kubernetes | Outer::GitlabKubernetes) => {
            "Set procMount: Unmasked in the container's securityContext (with hostUsers: false)"
        }
        Some(Outer::GitlabDocker) => {
            "Add \"systempaths=unconfined\" to security_opt of [runners.docker] in the runner's config.toml"
        }
        _ => "Unmount what covers parts of /proc, or start the outer container without masked paths",
    }
}

/// How `/dev/fuse` comes into a container.
pub fn fuse(outer: Option<Outer>) -> &'static str {
    match outer {
        Some(Outer::Docker | Outer::Podman) => "Start the container with --device /dev/fuse, if other programs need it",
        Some(_) => "Give the container the device /dev/fuse, if other programs need it",
        None => "An administrator loads it, if other programs need it: modprobe fuse",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_range_lies_where_nobody_has_one() {
        let line = |taken: &[(u32, u32)]| {
            let taken: Vec<Range> = taken.iter().map(|(start, count)| Range { start: *start, count: *count }).collect();
            subordinate_range(Some("ann"), 1000, &taken)
        };
        assert!(line(&[]).contains("ann:100000:65536 |"));
        assert!(line(&[(100_000, 65536), (165_536, 65536)]).contains("ann:231072:65536 |"));
        assert!(line(&[(500, 10)]).contains("ann:100000:65536 |"));
        assert!(line(&[(100_000, 65536), (u32::MAX - 10, 10)]).contains("ann:165536:65536 |"));
        assert!(line(&[(1, u32::MAX - 1)]).contains("a range of 65536"));
        assert!(subordinate_range(None, 1234, &[]).contains("1234:100000:65536"));
    }
}
