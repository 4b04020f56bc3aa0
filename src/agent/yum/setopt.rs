//! The header `Setopt`: options of dnf, of which those that change which packages are chosen, and the certificates of mirrors, are known.

use super::YumError;
use crate::fetch::http::TlsFiles;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub no_weak: bool,
    pub excluded: Vec<String>,
    /// By the name of the repository; empty: of all.
    pub tls: BTreeMap<String, TlsFiles>,
    /// What changes nothing here.
    pub ignored: Vec<String>,
}

impl Settings {
    fn tls_for(&mut self, repository: &str) -> &mut TlsFiles {
        self.tls.entry(repository.to_owned()).or_default()
    }

    /// The files for the mirrors of a repository: each its own, else the one for all.
    pub fn tls_of(&self, repository: &str) -> Option<TlsFiles> {
        let (own, all) = (self.tls.get(repository), self.tls.get(""));
        let either = |field: fn(&TlsFiles) -> &Option<PathBuf>| {
            own.and_then(|files| field(files).clone()).or_else(|| field(all?).clone())
        };
        own.or(all)?;
        Some(TlsFiles {
            authority: either(|files| &files.authority),
            certificate: either(|files| &files.certificate),
            key: either(|files| &files.key),
        })
    }
}

/// `NAME=VALUE …`, `REPOSITORY.NAME=VALUE`; a list has commas.
pub fn read(text: &str) -> Result<Settings, YumError> {
    let mut settings = Settings::default();
    for word in text.split_whitespace() {
        let (name, value) = word.split_once('=').ok_or_else(|| YumError::BadSetopt(word.to_owned()))?;
        let value = value.trim_matches(['"', '\'']);
        let (repository, name) = name.rsplit_once('.').unwrap_or(("", name));
        match name {
            "sslcacert" => settings.tls_for(repository).authority = Some(value.into()),
            "sslclientcert" => settings.tls_for(repository).certificate = Some(value.into()),
            "sslclientkey" => settings.tls_for(repository).key = Some(value.into()),
            "install_weak_deps" => {
                settings.no_weak = is_false(value).ok_or_else(|| YumError::BadSetopt(word.to_owned()))?
            }
            "exclude" | "excludepkgs" => {
                let names = value.split(',').filter(|name| !name.is_empty());
                settings.excluded.extend(names.map(str::to_owned));
            }
            _ => settings.ignored.push(word.to_owned()),
        }
    }
    Ok(settings)
}

fn is_false(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "0" | "no" | "false" | "off" => Some(true),
        "1" | "yes" | "true" | "on" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_changes_the_choice() {
        let settings = read("install_weak_deps=False base.excludepkgs=a,b* fastestmirror=1").unwrap();
        assert!(settings.no_weak);
        assert_eq!(settings.excluded, ["a", "b*"]);
        assert_eq!(settings.ignored, ["fastestmirror=1"]);
        let settings = read("sslcacert=/ca.pem epel.sslclientcert=/a.pem epel.sslclientkey=/a.key").unwrap();
        assert_eq!(settings.tls_of("base").unwrap().authority, Some("/ca.pem".into()));
        let epel = settings.tls_of("epel").unwrap();
        assert_eq!((epel.authority, epel.key), (Some("/ca.pem".into()), Some("/a.key".into())));
        assert_eq!(read("").unwrap().tls_of("base"), None);
        assert!(read("install_weak_deps=maybe").is_err());
        assert!(read("word").is_err());
    }
}
