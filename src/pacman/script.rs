//! The script that installs all packages of a base into an empty root, by the distribution's own pacman, in one transaction.
//!
//! As [`crate::rpm::script`]: order, scriptlets, hooks, owners and the local database are pacman's own work. Its checks of signatures
//! are off, because every file was judged before; what was asked for and what came for others is marked as pacman itself would.
//!
//! # What is made equal, so that equal pins give equal roots
//! The install times in the local database are the date on which the newest package was built. pacman's log is not written, and no key
//! of pacman's keyring is made: it would be random, and every copy of the image would share it.

use super::pin::PacmanPin;
use crate::rpm::script::{FINAL_DIRECTORY, PACKAGES_DIRECTORY, framed};

/// What is unpacked for the script: packages, or what they provide.
pub const BOOTSTRAP: [&str; 5] = ["pacman", "sh", "coreutils", "findutils", "util-linux"];

/// The whole script, a pure function of the pin.
pub fn install_script(pin: &PacmanPin) -> String {
    let (date, architecture) = (pin.base.date, &pin.base.architecture);
    let files: String = pin
        .base
        .packages
        .iter()
        .filter(|one| one.reason.is_some())
        .map(|one| format!(" {PACKAGES_DIRECTORY}/{}", one.location))
        .collect();
    let needed: String = pin
        .base
        .packages
        .iter()
        .filter(|one| one.reason.as_deref() == Some("dependency"))
        .map(|one| format!(" {}", one.name))
        .collect();
    let mark = if needed.is_empty() { String::new() } else { format!("$pacman -D --asdeps{needed} >/dev/null\n") };
    let validation = if pin.base.checked { "pgp" } else { "sha256" };
    // Spec: the places that pacman, or a scriptlet before the package that brings them, expects; as pacstrap makes them.
    // Programs of systemd, which hooks run, do nothing without /proc.
    let work = format!(
        "mkdir -m 755 -p {FINAL_DIRECTORY}/var/cache/pacman/pkg {FINAL_DIRECTORY}/var/lib/pacman {FINAL_DIRECTORY}/var/log \
         {FINAL_DIRECTORY}/dev {FINAL_DIRECTORY}/run {FINAL_DIRECTORY}/etc/pacman.d\n\
         mkdir -m 1777 {FINAL_DIRECTORY}/tmp\nmkdir -m 555 {FINAL_DIRECTORY}/sys {FINAL_DIRECTORY}/proc\n\
         printf '[options]\\nArchitecture = {architecture}\\nSigLevel = Never\\nLocalFileSigLevel = Never\\n' >/tmp/pacman.conf\n\
         pacman='pacman --root {FINAL_DIRECTORY} --dbpath {FINAL_DIRECTORY}/var/lib/pacman --config /tmp/pacman.conf --cachedir /tmp/cache \
         --gpgdir /tmp/gnupg --logfile /dev/null --noconfirm'\n\
         mount --rbind /proc {FINAL_DIRECTORY}/proc\nln -s /proc/self/fd {FINAL_DIRECTORY}/dev/fd\n\
         $pacman -U --noprogressbar{files} </dev/null\n{mark}\
         rm {FINAL_DIRECTORY}/dev/fd\numount --recursive --lazy {FINAL_DIRECTORY}/proc\n"
    );
    let cleaning = format!(
        "for file in var/lib/pacman/local/*/desc; do\n  before=\n  while IFS= read -r line; do\n    \
         case $before in %INSTALLDATE%) line={date} ;; %VALIDATION%) line={validation} ;; esac\n    \
         printf '%s\\n' \"$line\"\n    before=$line\n  done <\"$file\" >/tmp/desc\n  cat /tmp/desc >\"$file\"\ndone\n\
         rm -f var/cache/ldconfig/aux-cache var/lib/pacman/db.lck\n"
    );
    framed(date, &work, &cleaning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pacman::pin::tests::sample;

    #[test]
    fn installs_everything_at_once_and_marks_what_came_for_others() {
        let mut pin = sample();
        let mut other = pin.base.packages[0].clone();
        (other.name, other.reason) = ("glibc".to_owned(), Some("dependency".to_owned()));
        pin.base.packages.push(other);
        let script = install_script(&pin);
        assert_eq!(
            script.matches("$pacman -U --noprogressbar /.packages/bash-2-3-x86_64.pkg.tar.zst").count(),
            1,
            "{script}"
        );
        assert!(script.contains("-D --asdeps glibc >"), "{script}");
        assert!(!script.contains("rpm-2-3"), "what is only unpacked is not installed: {script}");
        let status = std::process::Command::new("sh").arg("-n").arg("-c").arg(&script).status().unwrap();
        assert!(status.success());
    }
}
