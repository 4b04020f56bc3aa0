//! The file of Docker's form: `auths`, `credHelpers`, `credsStore`.

use super::{AuthError, Credential, Secret};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// No credential file is larger.
pub(super) const LARGEST: u64 = 4 << 20;

/// Docker Hub's entry, as `docker login` writes it.
pub(super) const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Compat: files written by hand leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

// No `Debug`: the texts are secret.
#[derive(Clone, Default, Deserialize)]
pub struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl AuthFile {
    pub fn read(path: &Path) -> Result<AuthFile, AuthError> {
        let fault = |cause| AuthError::Read { path: path.to_owned(), cause };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(fault)?;
        if !file.metadata().map_err(fault)?.is_file() {
            return Err(fault(std::io::Error::other("it is not a regular file")));
        }
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(fault)?;
        if bytes.len() as u64 > LARGEST {
            return Err(AuthError::TooLarge { path: path.to_owned() });
        }
        AuthFile::parse(&bytes, path)
    }

    /// `path` is for messages. An empty file is one without entries.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<AuthFile, AuthError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(AuthFile::default());
        }
        // serde's own message may quote a value, which may be a password.
        serde_json::from_slice(bytes).map_err(|error| AuthError::Syntax {
            path: path.to_owned(),
            cause: format!("{:?} at line {}, column {}", error.classify(), error.line(), error.column()),
        })
    }

    /// The helper program's name and the server that it is to be asked for.
    pub fn helper(&self, registry: &str) -> Option<(String, String)> {
        let aliases = aliases(registry);
        let own = self.helpers.iter().find(|(key, _)| aliases.contains(&host_of(key)));
        let server = if aliases.len() > 1 { DOCKER_HUB.to_owned() } else { registry.to_owned() };
        let name = own.map(|(_, name)| name).or(self.store.as_ref()).filter(|name| !name.is_empty())?;
        Some((name.clone(), server))
    }

    /// Keys with who logs in by each; empty entries, which a helper leaves, are passed over.
    pub fn entries(&self) -> impl Iterator<Item = (&str, String)> {
        self.auths.iter().filter_map(|(key, entry)| match entry.credential() {
            Ok(credential) => Some((key.as_str(), super::describe(&credential?))),
            Err(cause) => Some((key.as_str(), format!("damaged: {cause}"))),
        })
    }

    /// Registries with a helper of their own, and its name; the one for all others under `*`.
    pub fn helpers(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.store.iter().filter(|name| !name.is_empty()).map(|name| ("*", name.as_str()));
        self.helpers.iter().map(|(key, name)| (key.as_str(), name.as_str())).chain(all)
    }

    /// The entry for the longest fitting key: `HOST/NAMESPACE/NAME`, then each shorter one, then the host.
    pub fn entry(
        &self,
        path: &Path,
        registry: &str,
        repository: &str,
    ) -> Result<Option<(String, Credential)>, AuthError> {
        let mut names: Vec<&str> = repository.match_indices('/').map(|(at, _)| &repository[..at]).collect();
        names.insert(0, "");
        names.push(repository);
        for name in names.iter().rev() {
            for alias in aliases(registry) {
                let wanted = if name.is_empty() { alias } else { format!("{alias}/{name}") };
                for (key, entry) in self
                    .auths
                    .iter()
                    .filter(|(key, _)| bare(key) == wanted || (name.is_empty() && host_of(key) == wanted))
                {
                    let fault = |cause| AuthError::Entry { path: path.to_owned(), key: key.clone(), cause };
                    if let Some(credential) = entry.credential().map_err(fault)? {
                        return Ok(Some((key.clone(), credential)));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(Secret::new(token))));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(Secret::new(token))));
        }
        let (user, password) = match given(&self.auth) {
            Some(auth) => {
                let bytes = BASE64.decode(auth.trim()).map_err(|_| "auth is not base64")?;
                let text = String::from_utf8(bytes).map_err(|_| "auth is not text")?;
                let (user, password) = text.split_once(':').ok_or("auth has no colon between user and password")?;
                // Compat: docker pads the text with zero bytes when it stores it.
                (user.to_owned(), password.trim_end_matches('\0').to_owned())
            }
            None => match (given(&self.username), given(&self.password)) {
                (Some(user), Some(password)) => (user, password),
                _ => return Ok(None),
            },
        };
        Ok(Some(Credential::Password { user, password: Secret::new(password) }))
    }
}

/// The names under which a registry is known; Docker Hub has several.
pub(super) fn aliases(registry: &str) -> Vec<String> {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            ["docker.io", "index.docker.io", "registry-1.docker.io"].map(str::to_owned).to_vec()
        }
        other => vec![other.to_owned()],
    }
}

/// A key without scheme and without the API's version at its end.
fn bare(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key).trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

/// The host of a key that was written as a URL, where no path but the API's version follows it.
pub(super) fn host_of(key: &str) -> String {
    let name = bare(key);
    if key.contains("://") { name.split('/').next().unwrap_or(name).to_owned() } else { name.to_owned() }
}
