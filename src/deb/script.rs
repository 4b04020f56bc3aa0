//! The script that turns the unpacked core into an installed system, by the image's own dpkg.
//!
//! Source: the second stage of `debootstrap`. It runs as root of the image under `/bin/sh`, with the package files of the pin, under
//! their [`super::PackagePin::file_name`]s, in [`PACKAGES_DIRECTORY`].
//!
//! # What is left out of the image, so that equal pins give equal images
//! Logs (`dpkg.log`, `alternatives.log`, `bootstrap.log`, `apt/*`), `ldconfig`'s auxiliary cache, debconf's and dpkg's backup files (`*-old`),
//! a machine id, the host's `hostname` and `resolv.conf` (debootstrap copies them). What the scripts wrote later than the
//! release's date gets that date; so does the last password change in `/etc/shadow`, through `SOURCE_DATE_EPOCH`.

use super::pin::DebianPin;
use std::fmt::Write;

/// Where the package files are bound, read only, while the script runs.
pub const PACKAGES_DIRECTORY: &str = "/.packages";

/// Installed one by one before all others, since everybody's scripts need them.
const CORE: [&str; 5] = ["base-passwd", "base-files", "dpkg", "libc6", "perl-base"];

/// The whole script, a pure function of the pin.
pub fn configure_script(pin: &DebianPin) -> String {
    let mut script = String::new();
    script.push_str(&prologue(pin));
    for name in CORE {
        if let Some(file) = file_of(pin, name) {
            let _ = writeln!(script, "core {file}");
        }
        if name == "dpkg" {
            script.push_str("[ -e /etc/localtime ] || ln -s /usr/share/zoneinfo/UTC /etc/localtime\n");
        }
    }
    if let Some(file) = file_of(pin, "mawk") {
        let _ = writeln!(script, "rm -f /usr/bin/awk\ncore {file}");
    }
    let last = pin.packages.iter().map(|package| package.batch).max().unwrap_or(0);
    for batch in 0..=last {
        let files: Vec<String> =
            pin.packages.iter().filter(|package| package.batch == batch).map(|package| package.file_name()).collect();
        if files.is_empty() {
            continue;
        }
        let files = files.join(" \\\n  ");
        if batch == 0 {
            let _ = writeln!(script, "unpack --force-depends -- \\\n  {files}\n{DISABLE_SERVICES}");
            script.push_str("configure --force-configure-any --force-depends --pending\n");
        } else {
            let _ = writeln!(script, "unpack --force-overwrite --skip-same-version -- \\\n  {files}");
            script.push_str("configure -a\n");
        }
    }
    script.push_str(EPILOGUE);
    script
}

fn file_of(pin: &DebianPin, name: &str) -> Option<String> {
    pin.packages.iter().find(|package| package.batch == 0 && package.name == name).map(|package| package.file_name())
}

fn prologue(pin: &DebianPin) -> String {
    let awk = if file_of(pin, "mawk").is_some() { "ln -sf mawk /usr/bin/awk\n" } else { "" };
    // Packages of the time before dpkg 1.15 do not matter here; --force-unsafe-io spares a flush to disk for every file.
    format!(
        "set -eu\numask 022\ncd {PACKAGES_DIRECTORY}\n\
         export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C\n\
         export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true\n\
         export SOURCE_DATE_EPOCH={} PERL_HASH_SEED=0\n\
         unset TMPDIR LANG LANGUAGE\n\
         core() {{ dpkg --force-unsafe-io --force-confold --force-depends --install \"$@\" </dev/null; }}\n\
         unpack() {{ dpkg --force-unsafe-io --force-confold --unpack \"$@\" </dev/null; }}\n\
         configure() {{ dpkg --force-unsafe-io --force-confold --configure \"$@\" </dev/null; }}\n\
         /sbin/ldconfig\n{awk}",
        pin.date
    )
}

/// No service may start in an image that is being made.
const DISABLE_SERVICES: &str = "\
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
mv /sbin/start-stop-daemon /sbin/start-stop-daemon.REAL
printf '#!/bin/sh\\nexit 0\\n' >/sbin/start-stop-daemon
chmod 755 /sbin/start-stop-daemon";

const EPILOGUE: &str = r#"mv /sbin/start-stop-daemon.REAL /sbin/start-stop-daemon
rm -f /usr/sbin/policy-rc.d
cd /
faults=$(dpkg --audit)
if [ -n "$faults" ]; then
  printf '%s\n' "$faults" >&2
  exit 1
fi
rm -f /var/log/dpkg.log /var/log/alternatives.log /var/log/bootstrap.log /var/log/apt/*.log /var/log/apt/eipp.log.xz
rm -f /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /var/lib/dpkg/*-old
rm -f /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
for identity in /etc/machine-id /var/lib/dbus/machine-id; do
  if [ -s "$identity" ]; then : >"$identity"; fi
done
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /.packages \) -prune \
  -o -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::pin::{PackagePin, Variant};
    use crate::digest::Digest;

    fn pin(packages: &[(&str, u32)]) -> DebianPin {
        let package = |(name, batch): &(&str, u32)| PackagePin {
            name: (*name).to_owned(),
            version: "1:2".into(),
            architecture: "amd64".into(),
            filename: format!("pool/{name}.deb"),
            size: 1,
            installed_size: None,
            digest: Digest::of(name.as_bytes()),
            batch: *batch,
        };
        DebianPin {
            mirror: "http://user:secret@mirror.test/debian".into(),
            suite: "stable".into(),
            codename: "bookworm".into(),
            origin: "Debian".into(),
            components: vec!["main".into()],
            architecture: "amd64".into(),
            variant: Variant::Minbase,
            release: Digest::of(b""),
            date: 1_700_000_000,
            signers: Vec::new(),
            merged_usr: true,
            packages: packages.iter().map(package).collect(),
        }
    }

    #[test]
    fn installs_the_core_first_and_each_batch_after_the_one_before() {
        let script = configure_script(&pin(&[
            ("base-files", 0),
            ("base-passwd", 0),
            ("dpkg", 0),
            ("mawk", 0),
            ("a", 1),
            ("b", 2),
        ]));
        let places: Vec<usize> = [
            "core base-passwd_1%3a2_amd64.deb",
            "core base-files_",
            "core dpkg_",
            "rm -f /usr/bin/awk\ncore mawk_",
            "unpack --force-depends -- \\\n  base-files_1%3a2_amd64.deb \\\n",
            "configure --force-configure-any",
            "a_1%3a2_amd64.deb\nconfigure -a",
            "b_1%3a2_amd64.deb\nconfigure -a",
            "dpkg --audit",
        ]
        .iter()
        .map(|text| script.find(text).unwrap_or_else(|| panic!("{text} in\n{script}")))
        .collect();
        assert!(places.is_sorted(), "{script}");
        assert!(script.contains("SOURCE_DATE_EPOCH=1700000000"));
    }

    #[test]
    fn is_a_shell_script_without_faults() {
        let script = configure_script(&pin(&[("dpkg", 0), ("a", 1)]));
        let status = std::process::Command::new("sh").arg("-n").arg("-c").arg(&script).status().unwrap();
        assert!(status.success(), "{script}");
    }

    #[test]
    fn leaves_no_login_in_the_image() {
        assert_eq!(super::super::base::sources_list(&pin(&[])), "deb http://mirror.test/debian stable main\n");
    }
}
