//! What the pin of a base answers.

use crate::arch::Arch;
use crate::definition::Bootstrap;
use crate::source::Spanned;

/// The question that a base pin answers: all that the header says of the base, and the architecture.
pub fn question(bootstrap: &Bootstrap, arch: Arch) -> String {
    let own: Vec<String>;
    let (agent, details): (&str, Vec<&str>) = match bootstrap {
        Bootstrap::Docker(base) => {
            let place = base.registry.as_deref().into_iter().chain(base.namespace.as_deref());
            ("docker", place.chain([base.from.value.as_str()]).collect())
        }
        Bootstrap::Oci(base) => ("oci", vec![&base.from.value]),
        Bootstrap::OciArchive(base) => ("oci-archive", vec![&base.from.value]),
        Bootstrap::DockerArchive(base) => ("docker-archive", vec![&base.from.value]),
        Bootstrap::DockerDaemon(base) => ("docker-daemon", vec![&base.from.value]),
        Bootstrap::Localimage(base) => ("localimage", vec![&base.from.value]),
        Bootstrap::Oras(base) => ("oras", vec![&base.from.value]),
        Bootstrap::Library(base) => {
            ("library", base.library.as_deref().into_iter().chain([base.from.value.as_str()]).collect())
        }
        Bootstrap::Scratch => ("scratch", Vec::new()),
        Bootstrap::Busybox { mirror_url } => ("busybox", vec![&mirror_url.value]),
        Bootstrap::Debootstrap(base) => {
            let mirror = base.mirror_url.as_ref().map_or("-", |url| &url.value);
            let include = base.include.iter().map(|package| package.value.as_str());
            ("debootstrap", [base.os_version.value.as_str(), mirror].into_iter().chain(include).collect())
        }
        Bootstrap::Yum(base) => {
            let text = |value: &'_ Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            let urls = base.update_url.iter().chain(&base.other_urls);
            let words =
                [&base.mirror_url].into_iter().chain(urls).chain(&base.modules).chain(&base.include).chain(&base.keys);
            own = [text(&base.os_version), text(&base.setopt), base.fingerprints.join(",")]
                .into_iter()
                .chain(words.map(|word| word.value.clone()))
                .collect();
            (&base.agent, own.iter().map(String::as_str).collect())
        }
        Bootstrap::Arch(base) => {
            let text =
                |value: &'_ Option<Spanned<String>>| value.as_ref().map_or("-".to_owned(), |word| word.value.clone());
            let words = base.include.iter().chain(&base.keys).map(|word| word.value.clone());
            own = [text(&base.conf_url), text(&base.mirror_url), base.fingerprints.join(",")]
                .into_iter()
                .chain(words)
                .collect();
            ("arch", own.iter().map(String::as_str).collect())
        }
        Bootstrap::Absent(name) => (&name.value, Vec::new()),
    };
    let mut text = format!("{agent} {arch}");
    for detail in details {
        text.push(' ');
        text.push_str(detail);
    }
    text
}
