//! Makes a [`Bootstrap`] of a stage's header: one place where header keys are looked up by name.
//!
//! Sources: facts 2.1 to 2.13.

use super::agents::{AGENTS, report_missing_bootstrap, report_needed, report_unknown_agent};
use super::arguments::placeholders;
use super::grammar::{self, Reference};
use super::header::value;
use super::report::Report;
use super::{ArchBase, Bootstrap, DebianBase, FileBase, HeaderEntry, LibraryBase, RegistryBase, YumBase};
use crate::source::{Span, Spanned};
use std::ops::Range;

/// The base that a header names; `opens` is false for the text before the first `Bootstrap:`. Without `first_line`, where a
/// missing key is reported, the header has faults that may hide the key, and missing keys are not reported.
pub(super) fn lower(
    report: &mut Report<'_>,
    header: &[HeaderEntry],
    first_line: Option<Range<usize>>,
    opens: bool,
) -> Option<Bootstrap> {
    let Some(agent) = header.iter().find(|entry| entry.key == "bootstrap" && !entry.value.is_empty()) else {
        report_missing_bootstrap(report, header, first_line?, opens);
        return None;
    };
    if !AGENTS.contains(&agent.value.as_str()) {
        report_unknown_agent(report, agent);
        return None;
    }
    report_needed(report, header, agent, first_line.is_some())?;
    let from = || value(header, "from").unwrap_or_else(|| Spanned::new(String::new(), agent.span));
    Some(match agent.value.as_str() {
        "docker" => Bootstrap::Docker(registry_base(report, header, from())?),
        "oci" => Bootstrap::Oci(file_base(report, header, from())),
        "oci-archive" => Bootstrap::OciArchive(file_base(report, header, from())),
        "docker-archive" => Bootstrap::DockerArchive(file_base(report, header, from())),
        "docker-daemon" => Bootstrap::DockerDaemon(file_base(report, header, from())),
        "localimage" => Bootstrap::Localimage(file_base(report, header, from())),
        "oras" => Bootstrap::Oras(oras_base(report, header, from())?),
        "library" => Bootstrap::Library(library_base(report, header, from())?),
        "scratch" => Bootstrap::Scratch,
        "busybox" => Bootstrap::Busybox { mirror_url: mirror_url(value(header, "mirrorurl")?) },
        "debootstrap" => Bootstrap::Debootstrap(DebianBase {
            mirror_url: value(header, "mirrorurl").map(mirror_url),
            os_version: value(header, "osversion")?,
            include: include(report, header),
        }),
        "yum" | "dnf" => Bootstrap::Yum(yum_base(report, header, &agent.value)?),
        "arch" => Bootstrap::Arch(ArchBase {
            conf_url: value(header, "confurl"),
            mirror_url: value(header, "mirrorurl").map(mirror_url),
            include: include(report, header),
            keys: list(header, "productpgp").collect(),
            fingerprints: fingerprints(report, header),
        }),
        // What needs a registration with the vendor is not known here.
        "zypper"
            if value(header, "mirrorurl").is_some()
                && ["product", "user", "regcode"].iter().all(|key| value(header, key).is_none()) =>
        {
            Bootstrap::Yum(yum_base(report, header, &agent.value)?)
        }
        name => Bootstrap::Absent(Spanned::new(name.to_owned(), agent.span)),
    })
}

fn yum_base(report: &mut Report<'_>, header: &[HeaderEntry], agent: &str) -> Option<YumBase> {
    let others = header.iter().filter(|entry| entry.key.starts_with("otherurl") && !entry.value.is_empty());
    Some(YumBase {
        agent: agent.to_owned(),
        mirror_url: mirror_url(value(header, "mirrorurl")?),
        update_url: value(header, "updateurl").map(mirror_url),
        os_version: value(header, "osversion").map(|version| version.value),
        include: include(report, header),
        setopt: value(header, "setopt").map(|setopt| setopt.value),
        modules: list(header, "modules").collect(),
        other_urls: others.map(|entry| mirror_url(Spanned::new(entry.value.clone(), entry.span))).collect(),
        keys: list(header, "productpgp").collect(),
        fingerprints: fingerprints(report, header),
    })
}

/// Words of a key's value parted by blanks or commas.
fn list(header: &[HeaderEntry], key: &str) -> impl Iterator<Item = Spanned<String>> {
    value(header, key).into_iter().flat_map(|list| {
        let words = list.value.split([',', ' ', '\t']).filter(|word| !word.is_empty()).map(str::to_owned);
        words.map(|word| Spanned::new(word, list.span)).collect::<Vec<_>>()
    })
}

/// Words of a text parted by blanks, each with its place when the text stands at `start`.
pub(super) fn words(text: &str, start: usize) -> Vec<(&str, Range<usize>)> {
    let mut words = Vec::new();
    let mut at = 0;
    for word in text.split(char::is_whitespace) {
        if !word.is_empty() {
            words.push((word, start + at..start + at + word.len()));
        }
        // The separator is one character, whose length the text itself gives.
        at += word.len();
        at += text[at..].chars().next().map_or(0, char::len_utf8);
    }
    words
}

fn registry_base(report: &mut Report<'_>, header: &[HeaderEntry], mut from: Spanned<String>) -> Option<RegistryBase> {
    let text = |key| value(header, key).map(|value| value.value);
    strip_scheme(report, &mut from, &["docker"])?;
    let (registry, namespace) = (text("registry"), text("namespace"));
    let prefix: String = [&registry, &namespace].into_iter().flatten().map(|part| format!("{part}/")).collect();
    let whole = format!("{prefix}{}", from.value);
    if !placeholders(&whole).is_empty() {
        // That the argument has no value is said already.
        return None;
    }
    if let Err(at) = grammar::reference(&whole) {
        report_bad_reference(report, &whole, &from, at.saturating_sub(prefix.len()));
        return None;
    }
    Some(RegistryBase { from, registry, namespace })
}

fn file_base(report: &mut Report<'_>, header: &[HeaderEntry], mut from: Spanned<String>) -> FileBase {
    let agent = value(header, "bootstrap").map(|value| value.value).unwrap_or_default();
    if agent == "localimage" {
        let _ = strip_scheme(report, &mut from, &["localimage", "file"]);
    } else {
        let _ = strip_scheme(report, &mut from, &[agent.as_str()]);
        let prefix: String = ["registry", "namespace"]
            .iter()
            .filter_map(|key| value(header, key))
            .map(|part| part.value + "/")
            .collect();
        from.value.insert_str(0, &prefix);
    }
    FileBase { from, fingerprints: fingerprints(report, header) }
}

fn oras_base(report: &mut Report<'_>, header: &[HeaderEntry], mut from: Spanned<String>) -> Option<FileBase> {
    strip_scheme(report, &mut from, &["oras"])?;
    if !placeholders(&from.value).is_empty() {
        // That the argument has no value is said already.
        return None;
    }
    if let Err(at) = grammar::reference(&from.value) {
        report_bad_reference(report, &from.value, &from, at);
        return None;
    }
    Some(FileBase { from, fingerprints: fingerprints(report, header) })
}

fn library_base(report: &mut Report<'_>, header: &[HeaderEntry], mut from: Spanned<String>) -> Option<LibraryBase> {
    strip_scheme(report, &mut from, &["library"])?;
    let library = value(header, "library").map(|library| library.value);
    Some(LibraryBase { from, library, fingerprints: fingerprints(report, header) })
}

/// Drops a URI scheme in front of a value, which the agents do not take; says so. Nothing when it is another agent's.
fn strip_scheme(report: &mut Report<'_>, from: &mut Spanned<String>, schemes: &[&str]) -> Option<()> {
    let Some((scheme, rest)) = from.value.split_once("://") else {
        if let Some(rest) = from.value.strip_prefix("//") {
            from.value = rest.to_owned();
        }
        return Some(());
    };
    if rest.is_empty() {
        return Some(());
    }
    if schemes.contains(&scheme) {
        let place = Span::new(from.span.start, (from.span.start + scheme.len() + 3).min(from.span.end));
        let written = report.source.text.get(place.range()).is_some_and(|text| text == format!("{scheme}://"));
        let mut diagnostic = report
            .warning("SB107", from.span, format!("`From` takes no `{scheme}://`: the agent is named by `Bootstrap`"))
            .label("URI scheme")
            .note("Apptainer takes it for a part of the name and cannot build this file");
        if written {
            diagnostic = diagnostic.fix(place, "", "remove the scheme");
        }
        report.push(diagnostic);
        from.value = rest.to_owned();
    } else if AGENTS.contains(&scheme) {
        let message = format!("`From` names the agent `{scheme}`, but `Bootstrap` another one");
        report.push(
            report
                .error("SB107", from.span, message)
                .label("URI scheme")
                .help(format!("write `Bootstrap: {scheme}` and `From: {rest}`")),
        );
        return None;
    }
    Some(())
}

/// A mirror's address: the agents append paths to it, so that a fragment cannot belong to it.
fn mirror_url(mut url: Spanned<String>) -> Spanned<String> {
    let authority = url.value.find("://").map_or(0, |at| at + 3);
    let end = url.value[authority..].find(['/', '?']).map_or(url.value.len(), |at| authority + at);
    // A password may hold a number sign; what follows the last `@` of the authority is the host.
    let host = url.value[authority..end].rfind('@').map_or(authority, |at| authority + at);
    if let Some(fragment) = url.value[host..].find('#') {
        url.value.truncate(host + fragment);
    }
    if url.value[..host].contains('#') {
        url.value = url.value[..host].replace('#', "%23") + &url.value[host..];
    }
    url
}

fn include(report: &Report<'_>, header: &[HeaderEntry]) -> Vec<Spanned<String>> {
    let Some(list) = value(header, "include") else { return Vec::new() };
    let verbatim = report.source.text.get(list.span.range()) == Some(list.value.as_str());
    let mut found = Vec::new();
    for (word, place) in words(&list.value, list.span.start) {
        let mut at = place.start;
        for package in word.split(',') {
            let span = if verbatim { Span::new(at, at + package.len()) } else { list.span };
            at += package.len() + 1;
            if !package.is_empty() {
                found.push(Spanned::new(package.to_owned(), span));
            }
        }
    }
    found
}

fn fingerprints(report: &mut Report<'_>, header: &[HeaderEntry]) -> Vec<String> {
    let Some(entry) = header.iter().find(|entry| entry.key == "fingerprints") else { return Vec::new() };
    let list = Spanned::new(entry.value.clone(), entry.span);
    let mut found = Vec::new();
    // Why an error: whoever writes the header, or gives it an argument's value, wants a check, and this would be none.
    if list.value.split(',').all(|fingerprint| fingerprint.trim().is_empty()) {
        report.push(
            report
                .error("SB017", entry.key_span, "`Fingerprints` names no key")
                .label("has no fingerprint")
                .help("name the keys that must have signed the base, or remove the line"),
        );
    }
    for fingerprint in list.value.split(',').map(str::trim).filter(|fingerprint| !fingerprint.is_empty()) {
        let bare: String = fingerprint.chars().filter(|character| !character.is_whitespace()).collect();
        if ![40, 64].contains(&bare.len()) || !bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let message = format!("`{fingerprint}` is not a key's fingerprint");
            report.push(
                report
                    .error("SB017", list.span, message)
                    .label("needs 40 hexadecimal digits each, parted by commas")
                    .help("`gpg --fingerprint` prints the fingerprints of the keys in a keyring"),
            );
        } else {
            found.push(bare.to_ascii_uppercase());
        }
    }
    found
}

fn report_bad_reference(report: &mut Report<'_>, whole: &str, from: &Spanned<String>, at: usize) {
    let verbatim = report.source.text.get(from.span.range()) == Some(from.value.as_str());
    let span = if verbatim && at < from.value.len() {
        let length = from.value[at..].chars().next().map_or(0, char::len_utf8);
        Span::new(from.span.start + at, from.span.start + at + length)
    } else {
        from.span
    };
    let mut diagnostic =
        report.error("SB016", span, format!("`{whole}` is not a registry reference")).label("not allowed here");
    let name = whole.split('@').next().unwrap_or_default();
    if name.contains(char::is_whitespace) {
        diagnostic = diagnostic.help("a reference holds no blanks: one image a stage");
    } else if whole.contains('$') {
        diagnostic = diagnostic.help("a header knows no shell variables; build arguments are written `{{ NAME }}`");
    } else if whole.contains('<') {
        diagnostic = diagnostic.help("put the real name in the place of the placeholder");
    } else if name.chars().any(|character| character.is_ascii_uppercase())
        && grammar::reference(&whole.to_lowercase()).is_ok()
    {
        diagnostic = diagnostic.help(format!("repository names are lower case: `{}`", whole.to_lowercase()));
    } else {
        diagnostic = diagnostic.help("write `[registry/]repository[:tag][@sha256:digest]`");
    }
    report.push(diagnostic);
}

/// Whether a reference names no fixed image, and the tag that it names.
pub(super) fn moving_tag(from: &str) -> Option<&str> {
    match grammar::reference(from) {
        Ok(Reference { digest: Some(_), .. }) | Err(_) => None,
        Ok(Reference { tag, .. }) => match tag {
            None => Some(""),
            Some("latest") => Some("latest"),
            Some(_) => None,
        },
    }
}
