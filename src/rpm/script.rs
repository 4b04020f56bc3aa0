//! The script that installs all packages of a base into an empty root, by the distribution's own rpm, in one transaction.
//!
//! It runs as root of the bootstrap root under `/bin/sh`; the root is made at [`FINAL_DIRECTORY`], the package files
//! lie in [`PACKAGES_DIRECTORY`]. Order, scriptlets, triggers, owners, capabilities and the database are rpm's own work.
//!
//! # What is left out of the root, so that equal pins give equal roots
//! Lock and region files of the database, logs and caches of dnf, yum and zypper, `ldconfig`'s auxiliary cache, a machine id. What was written
//! by scriptlets and not by packages gets the date on which the newest package was built; so do the install times in the database,
//! through `SOURCE_DATE_EPOCH`, where rpm knows it.

use super::pin::RpmPin;

/// Where the package files are bound, read only.
pub const PACKAGES_DIRECTORY: &str = "/.packages";
/// Where the root is made.
pub const FINAL_DIRECTORY: &str = "/.final";
/// Devices that scriptlets may need.
pub const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// How the names of the keys among the package files begin: those that signed packages, which the root's rpm shall know.
pub const KEY_PREFIX: &str = "key-";

/// What is unpacked for the script besides rpm: packages, or what they provide.
pub const BOOTSTRAP: [&str; 4] = ["rpm", "/bin/sh", "coreutils", "findutils"];

/// Plug-ins that speak with services of a running host.
const WITHOUT: [&str; 6] = ["systemd_inhibit", "audit", "syslog", "selinux", "ima", "fapolicyd"];

/// The whole script, a pure function of the pin.
pub fn install_script(pin: &RpmPin) -> String {
    let plugins: String = WITHOUT.iter().map(|name| format!(" --define '__transaction_{name} %{{nil}}'")).collect();
    let work = format!(
        "for key in {PACKAGES_DIRECTORY}/{KEY_PREFIX}*; do\n  \
         [ ! -f \"$key\" ] || rpmkeys --root {FINAL_DIRECTORY} --import \"$key\"\ndone\n\
         rpm --root {FINAL_DIRECTORY} --install --nosignature --nodigest --ignoresize{plugins} {PACKAGES_DIRECTORY}/*.rpm </dev/null\n"
    );
    framed(pin.date, &work, CLEANING)
}

/// A script that fills the root by `work` and cleans up in it: what was not dated by a package gets the date.
pub fn framed(date: i64, work: &str, cleaning: &str) -> String {
    format!(
        "set -eu\numask 022\ncd /\n\
         export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C\n\
         export SOURCE_DATE_EPOCH={date} PERL_HASH_SEED=0\n\
         unset TMPDIR LANG LANGUAGE\n\
         touch -d '2 seconds ago' /tmp/begin\n\
         mkdir -p {FINAL_DIRECTORY}\nchmod 755 {FINAL_DIRECTORY}\n\
         {work}cd {FINAL_DIRECTORY}\n{cleaning}{IDENTITIES}\
         find . -xdev -path ./dev -prune -o -newer /tmp/begin -exec touch -h -d '@{date}' {{}} +\n"
    )
}

const CLEANING: &str = r#"rm -f var/lib/rpm/__db.* var/lib/rpm/.rpm.lock var/lib/rpm/*-shm usr/lib/sysimage/rpm/.rpm.lock usr/lib/sysimage/rpm/*-shm
rm -f var/cache/ldconfig/aux-cache var/log/dnf*.log var/log/hawkey.log var/log/yum.log var/log/zypper.log
rm -rf var/cache/dnf/* var/cache/yum/* var/cache/zypp/* var/tmp/rpm-tmp.*
"#;

const IDENTITIES: &str = r#"for identity in etc/machine-id var/lib/dbus/machine-id; do
  if [ -f "$identity" ] && [ ! -L "$identity" ]; then : >"$identity"; fi
done
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpm::pin::tests::sample;

    #[test]
    fn installs_everything_at_once_behind_the_keys() {
        let script = install_script(&sample());
        let places: Vec<usize> = ["--import", "--install", "rm -f var/lib/rpm", "touch -h -d '@1700000000'"]
            .iter()
            .map(|text| script.find(text).unwrap_or_else(|| panic!("{text} in\n{script}")))
            .collect();
        assert!(places.is_sorted(), "{script}");
        assert_eq!(script.matches("--install").count(), 1);
    }

    #[test]
    fn is_a_shell_script_without_faults() {
        let status =
            std::process::Command::new("sh").arg("-n").arg("-c").arg(install_script(&sample())).status().unwrap();
        assert!(status.success());
    }
}
