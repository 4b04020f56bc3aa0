//! Which credential belongs to a registry, and where it was found.
//!
//! Files, in this order, the first with a fitting entry wins: the one of `--authfile` (then no other is read),
//! `~/.apptainer/docker-config.json`, `$DOCKER_CONFIG/config.json`, `~/.docker/config.json`, `$REGISTRY_AUTH_FILE`,
//! `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`. All have Docker's form (see [`file`]).
//!
//! Sources: facts §6.4; containers-auth.json(5); docker's documentation of `config.json` and of credential helpers.
//! Compat: Apptainer reads only the first three (without `DOCKER_CONFIG`), and knows no keys for namespaces.

pub mod file;
pub mod program;
pub mod store;

use self::file::AuthFile;
use std::fmt;
use std::path::{Path, PathBuf};

/// Text that no message, log or `Debug` output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Password {
        user: String,
        password: Secret,
    },
    /// OAuth2 refresh token, to be changed into access tokens.
    IdentityToken(Secret),
    /// Bearer token, sent as it is.
    RegistryToken(Secret),
}

/// A credential and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub credential: Credential,
    /// For messages: `FILE entry KEY (user NAME)`.
    pub origin: String,
}

/// What a search for a credential gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Absent: anonymous.
    pub found: Option<Found>,
    /// Files that exist and have no fitting entry.
    pub searched: Vec<PathBuf>,
    /// Files and helpers that could not be used, each a sentence.
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("cannot read the credentials in {path}: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("the credential file {path} is too large to be one")]
    TooLarge { path: PathBuf },
    #[error("the credential file {path} is damaged: {cause}")]
    Syntax { path: PathBuf, cause: String },
    #[error("the entry {key} of the credential file {path} is damaged: {cause}")]
    Entry { path: PathBuf, key: String, cause: &'static str },
    #[error("cannot write the credential file {path}: {cause}")]
    Write { path: PathBuf, cause: std::io::Error },
    #[error("the credential helper {program} failed: {cause}")]
    Helper { program: String, cause: String },
}

/// Where credentials are looked for.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// `--docker-username`, `--docker-password`.
    pub explicit: Option<(String, Secret)>,
    /// `--authfile`: then no other file is read.
    pub authfile: Option<PathBuf>,
    /// Otherwise these, in order.
    pub files: Vec<PathBuf>,
}

impl Credentials {
    /// The usual places. `variable` looks up the environment; `SIFBUILD_X` precedes `APPTAINER_X` and `SINGULARITY_X`.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Credentials {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let own = |name: &str| {
            ["SIFBUILD", "APPTAINER", "SINGULARITY"].iter().find_map(|prefix| get(&format!("{prefix}_{name}")))
        };
        let explicit = own("DOCKER_USERNAME").zip(own("DOCKER_PASSWORD").map(Secret::new));
        let authfile =
            get("SIFBUILD_AUTH_FILE").or_else(|| own("AUTH_FILE")).or_else(|| get("AUTH_FILE")).map(PathBuf::from);
        let home = get("HOME").map(PathBuf::from);
        let mut files = Vec::new();
        let mut add = |directory: Option<PathBuf>, name: &str| files.extend(directory.map(|path| path.join(name)));
        // Compat: with a configuration directory of its own, Apptainer reads both names there.
        let configuration = get("APPTAINER_CONFIGDIR").map(PathBuf::from);
        add(configuration.clone(), "docker-config.json");
        add(configuration, "config.json");
        add(home.clone(), ".apptainer/docker-config.json");
        add(get("DOCKER_CONFIG").map(PathBuf::from), "config.json");
        add(home.clone(), ".docker/config.json");
        add(get("REGISTRY_AUTH_FILE").map(PathBuf::from), "");
        add(get("XDG_RUNTIME_DIR").map(PathBuf::from), "containers/auth.json");
        add(
            get("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| home.map(|home| home.join(".config"))),
            "containers/auth.json",
        );
        // Joining nothing to a file's path adds a slash, which would make it a directory's.
        let files = files.into_iter().map(|path: PathBuf| path.components().collect()).collect();
        Credentials { explicit, authfile, files }
    }

    /// Where a login is kept, so that Apptainer and docker find it, too: the file of `--authfile`, else Apptainer's own where it is there,
    /// else docker's.
    pub fn login_file(&self, variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if self.authfile.is_some() {
            return self.authfile.clone();
        }
        let home = get("HOME");
        let configuration = get("APPTAINER_CONFIGDIR");
        let directory = configuration.clone().or_else(|| home.as_ref().map(|home| home.join(".apptainer")));
        // Compat: Apptainer reads docker's file only where its own is absent: to make that one would hide all other logins from it.
        if let Some(own) = directory.map(|directory| directory.join("docker-config.json")).filter(|path| path.exists())
        {
            return Some(own);
        }
        let docker = configuration.or_else(|| get("DOCKER_CONFIG")).or_else(|| home.map(|home| home.join(".docker")));
        docker.map(|directory| directory.join("config.json"))
    }

    /// The credential for `registry/repository`. What is damaged is a warning only: the registry may well allow anonymous access.
    pub fn lookup(&self, registry: &str, repository: &str) -> Lookup {
        let mut lookup = Lookup::default();
        if let Some((user, password)) = &self.explicit {
            lookup.found = Some(Found {
                credential: Credential::Password { user: user.clone(), password: password.clone() },
                origin: format!("the user {user} given for this command"),
            });
            return lookup;
        }
        let files: &[PathBuf] = self.authfile.as_ref().map_or(&self.files, std::slice::from_ref);
        for path in files {
            match search(path, registry, repository, &mut lookup.warnings) {
                Ok(Some(found)) => {
                    lookup.found = Some(found);
                    return lookup;
                }
                Ok(None) => lookup.searched.push(path.clone()),
                Err(AuthError::Read { cause, .. })
                    if cause.kind() == std::io::ErrorKind::NotFound && self.authfile.is_none() => {}
                Err(error) => lookup.warnings.push(error.to_string()),
            }
        }
        lookup
    }
}

/// A helper that fails is a warning: the file itself may hold the credential, too.
fn search(
    path: &Path,
    registry: &str,
    repository: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<Found>, AuthError> {
    let file = AuthFile::read(path)?;
    if let Some((helper, server)) = file.helper(registry) {
        match program::get(&helper, &server) {
            Ok(Some(credential)) => {
                let origin =
                    format!("{} through docker-credential-{helper} ({})", path.display(), describe(&credential));
                return Ok(Some(Found { credential, origin }));
            }
            Ok(None) => {}
            Err(error) => warnings.push(format!("{error} (named in {})", path.display())),
        }
    }
    let Some((key, credential)) = file.entry(path, registry, repository)? else { return Ok(None) };
    let origin = format!("{} entry {key} ({})", path.display(), describe(&credential));
    Ok(Some(Found { credential, origin }))
}

fn describe(credential: &Credential) -> String {
    match credential {
        Credential::Password { user, .. } => format!("user {user}"),
        Credential::IdentityToken(_) => "an identity token".to_owned(),
        Credential::RegistryToken(_) => "a registry token".to_owned(),
    }
}

#[cfg(test)]
mod tests;
