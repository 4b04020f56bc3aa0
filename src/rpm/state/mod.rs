//! What the package managers of an image know of it, besides rpm's database: which packages were asked for, and which came for others.
//!
//! `dnf autoremove`, `dnf history` and zypper's `--clean-deps` go by it. Nothing here is executed: a base has the files before any
//! program of it ran for itself.
//!
//! Sources: the files that dnf 4.14 (libdnf 0.69, schema 1.2) made; dnf5's `system/state.cpp`; libzypp's `SolvIdentFile`.

mod history;
mod log;

pub use history::{HistoryError, MAXIMUM, cookie, first, settle};

use super::pin::{PackagePin, RpmPin};
use std::collections::BTreeSet;
use std::fmt::Write;

/// dnf's history up to version 4, and of what is built on libdnf.
pub const HISTORY: &str = "var/lib/dnf/history.sqlite";
/// What zypper installed for others.
pub const AUTO_INSTALLED: &str = "var/lib/zypp/AutoInstalled";
const DNF5: &str = "usr/lib/sysimage/libdnf5";

/// The files for those package managers that are in the root, each with its path. `cookie` is that of [`cookie`].
pub fn files(pin: &RpmPin, is_there: impl Fn(&str) -> bool, cookie: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let dnf5 = is_there("usr/bin/dnf5");
    if is_there("usr/bin/dnf-3") || is_there("usr/bin/microdnf") && !dnf5 {
        files.push((HISTORY.to_owned(), first(pin, cookie)));
    }
    if dnf5 {
        let tables = [("packages", packages(pin)), ("nevras", origins(pin)), ("system", system(cookie))];
        let file = |(name, text): (&str, String)| {
            (format!("{DNF5}/{name}.toml"), format!("version = \"1.0\"\n[{name}]\n{text}").into_bytes())
        };
        files.extend(tables.map(file));
    }
    if is_there("usr/bin/zypper") {
        let names =
            installed(pin).filter(|(_, reason)| is_for_others(reason)).map(|(package, _)| package.name.as_str());
        files.push((AUTO_INSTALLED.to_owned(), auto_installed(names).into_bytes()));
    }
    files
}

/// zypper's list without the date in its head, sorted; every run of zypper writes it in another order.
pub fn settle_auto_installed(text: &str) -> String {
    auto_installed(text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')))
}

fn auto_installed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: BTreeSet<&str> = names.collect();
    names.into_iter().fold("# AutoInstalled\n".to_owned(), |text, name| text + name + "\n")
}

/// The packages of the root, with their reasons.
fn installed(pin: &RpmPin) -> impl Iterator<Item = (&PackagePin, &str)> {
    pin.packages.iter().filter_map(|package| Some((package, package.reason.as_deref()?)))
}

fn is_for_others(reason: &str) -> bool {
    matches!(reason, "dependency" | "weak")
}

/// Compat: a group's packages are the user's where no group is recorded, as dnf5 has it when it takes over dnf's history.
fn packages(pin: &RpmPin) -> String {
    let mut text = String::new();
    for (package, reason) in installed(pin) {
        let reason = match reason {
            "dependency" => "Dependency",
            "weak" => "Weak Dependency",
            _ => "User",
        };
        let _ = writeln!(text, "\"{}.{}\" = {{reason=\"{reason}\"}}", package.name, package.arch);
    }
    text
}

fn origins(pin: &RpmPin) -> String {
    installed(pin).fold(String::new(), |mut text, (package, _)| {
        let evr = package.evr.strip_prefix("0:").unwrap_or(&package.evr);
        let (name, arch, repository) = (&package.name, &package.arch, &package.repository);
        let _ = writeln!(text, "\"{name}-{evr}.{arch}\" = {{from_repo=\"{repository}\"}}");
        text
    })
}

fn system(cookie: &str) -> String {
    format!("rpmdb_cookie = \"{cookie}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpm::pin::tests::sample;

    fn text(program: &str, file: &str) -> String {
        let mut pin = sample();
        let mut library = pin.packages[0].clone();
        (library.name, library.reason) = ("libc".to_owned(), Some("dependency".to_owned()));
        pin.packages.push(library);
        let files = files(&pin, |path| path == program, "c0");
        let (_, bytes) = files.into_iter().find(|(path, _)| path.ends_with(file)).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_package_managers_that_are_there_have_state() {
        assert_eq!(files(&sample(), |_| false, ""), []);
        let names = |there: &[&str]| -> Vec<String> {
            files(&sample(), |path| there.contains(&path), "").into_iter().map(|(path, _)| path).collect()
        };
        assert_eq!(names(&["usr/bin/dnf-3"]), [HISTORY]);
        assert_eq!(names(&["usr/bin/microdnf"]), [HISTORY]);
        assert_eq!(names(&["usr/bin/microdnf", "usr/bin/dnf5"]).len(), 3);
        assert_eq!(names(&["usr/bin/zypper"]), [AUTO_INSTALLED]);
    }

    #[test]
    fn dnf5_is_told_reasons_and_repositories() {
        let packages = text("usr/bin/dnf5", "packages.toml");
        assert_eq!(
            packages,
            "version = \"1.0\"\n[packages]\n\"bash.x86_64\" = {reason=\"User\"}\n\"libc.x86_64\" = {reason=\"Dependency\"}\n"
        );
        assert!(packages.parse::<toml::Table>().is_ok());
        assert!(text("usr/bin/dnf5", "nevras.toml").contains("\"bash-1:2.0-3.x86_64\" = {from_repo=\"base\"}"));
        assert!(text("usr/bin/dnf5", "system.toml").ends_with("[system]\nrpmdb_cookie = \"c0\"\n"));
    }

    #[test]
    fn zypper_is_told_what_came_for_others_and_no_date() {
        let list = text("usr/bin/zypper", "AutoInstalled");
        assert_eq!(list, "# AutoInstalled\nlibc\n");
        assert_eq!(settle_auto_installed("# AutoInstalled generated Mon\n#\nz\n a \n#\n"), "# AutoInstalled\na\nz\n");
        assert_eq!(settle_auto_installed(&list), list);
    }
}
