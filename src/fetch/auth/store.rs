//! Logins kept in a credential file, or by the helper program that the file names.
//!
//! Invariant: members of the file that are not known here stay as they are; the file is for its owner only, and whole at every moment;
//! one that is damaged is not touched.
//!
//! Source: docker's documentation of `config.json`; facts §6.4.

use super::file::{AuthFile, DOCKER_HUB, LARGEST, aliases, host_of};
use super::{AuthError, Secret, program};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Who keeps a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    File,
    /// The program's name.
    Helper(String),
}

/// A login that a file tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub server: String,
    /// `user NAME`, or what else the login is.
    pub who: String,
}

/// Keeps a login for a registry in the file at `path`, which is made where it is absent, or with the helper that the file names.
pub fn log_in(path: &Path, registry: &str, user: &str, password: &Secret) -> Result<Keeper, AuthError> {
    let (mut members, helper) = open(path, registry)?;
    let key = key_of(registry);
    let entry = match &helper {
        Some((name, server)) => {
            program::store(name, server, user, password)?;
            json!({})
        }
        None => json!({"auth": STANDARD.encode(format!("{user}:{}", password.reveal()))}),
    };
    let auths = members.entry("auths").or_insert_with(|| json!({}));
    let Some(auths) = auths.as_object_mut() else { return Err(damaged(path)) };
    forget(auths, registry);
    auths.insert(key, entry);
    write(path, &members)?;
    Ok(helper.map_or(Keeper::File, |(name, _)| Keeper::Helper(name)))
}

/// Forgets the login for a registry; whether there was one. A file that is not there has none.
pub fn log_out(path: &Path, registry: &str) -> Result<bool, AuthError> {
    let (mut members, helper) = open(path, registry)?;
    let mut found = match &helper {
        Some((name, server)) => program::erase(name, server)?,
        None => false,
    };
    if let Some(auths) = members.get_mut("auths").and_then(Value::as_object_mut)
        && forget(auths, registry)
    {
        found = true;
        write(path, &members)?;
    }
    Ok(found)
}

/// The logins in a file, in its order; nothing of their secrets.
pub fn list(path: &Path) -> Result<Vec<Login>, AuthError> {
    let file = AuthFile::read(path)?;
    let mut logins: Vec<Login> = file.entries().map(|(server, who)| Login { server: server.to_owned(), who }).collect();
    logins.extend(
        file.helpers().map(|(server, name)| Login {
            server: server.to_owned(),
            who: format!("kept by docker-credential-{name}"),
        }),
    );
    Ok(logins)
}

type Members = Map<String, Value>;
/// A helper's name, and the name by which it knows the registry.
type Helper = (String, String);

/// The file's members, and the helper that keeps the registry's login.
fn open(path: &Path, registry: &str) -> Result<(Members, Option<Helper>), AuthError> {
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(cause) => return Err(AuthError::Read { path: path.to_owned(), cause }),
    };
    if bytes.len() as u64 > LARGEST {
        return Err(AuthError::TooLarge { path: path.to_owned() });
    }
    let helper = AuthFile::parse(&bytes, path)?.helper(registry);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok((Map::new(), helper));
    }
    let members = serde_json::from_slice(&bytes).map_err(|_| damaged(path))?;
    Ok((members, helper))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn damaged(path: &Path) -> AuthError {
    AuthError::Syntax { path: path.to_owned(), cause: "it has another form than a credential file".to_owned() }
}

fn key_of(registry: &str) -> String {
    if aliases(registry).len() > 1 { DOCKER_HUB.to_owned() } else { registry.to_owned() }
}

/// Removes the entries for a registry as a whole, under whatever name; those for parts of it stay.
fn forget(auths: &mut Members, registry: &str) -> bool {
    let names = aliases(registry);
    let before = auths.len();
    auths.retain(|key, _| !names.contains(&host_of(key)));
    auths.len() < before
}

fn write(path: &Path, members: &Members) -> Result<(), AuthError> {
    let fault = |cause| AuthError::Write { path: path.to_owned(), cause };
    // A link stays one.
    let target: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.exists() {
        make_private_directory(directory).map_err(fault)?;
    }
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(members, &mut serializer).map_err(|error| fault(error.into()))?;
    text.push(b'\n');
    let mut draft = tempfile::Builder::new()
        .prefix(".docker-config-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .map_err(fault)?;
    draft.write_all(&text).and_then(|()| draft.as_file().sync_all()).map_err(fault)?;
    draft.persist(&target).map_err(|error| fault(error.error))?;
    Ok(())
}

fn make_private_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::auth::{Credential, Credentials};

    fn found(path: &Path, registry: &str) -> Option<(String, String)> {
        let credentials = Credentials { files: vec![path.to_owned()], ..Credentials::default() };
        match credentials.lookup(registry, "a/b").found?.credential {
            Credential::Password { user, password } => Some((user, password.reveal().to_owned())),
            _ => None,
        }
    }

    #[test]
    fn a_login_is_kept_for_its_owner_only_and_beside_all_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/docker-config.json");
        assert_eq!(log_in(&path, "r.example", "bob", &Secret::new("p:w")).unwrap(), Keeper::File);
        assert_eq!(found(&path, "r.example"), Some(("bob".to_owned(), "p:w".to_owned())));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

        let text = r#"{"z":[1],"auths":{"r.example":{"auth":"b2xkOjE="},"r.example/part":{"auth":"cDox"},"https://r.example/v2/":{}},"a":{"b":null}}"#;
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        log_in(&path, "r.example", "bob", &Secret::new("new")).unwrap();
        let value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((&value["z"], &value["a"]), (&json!([1]), &json!({"b": null})));
        let keys: Vec<&String> = value["auths"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["r.example/part", "r.example"]);
        assert_eq!(mode(&path), 0o600);

        assert!(log_out(&path, "r.example").unwrap());
        assert!(!log_out(&path, "r.example").unwrap());
        assert_eq!(list(&path).unwrap(), [Login { server: "r.example/part".to_owned(), who: "user p".to_owned() }]);
        assert!(!log_out(&directory.path().join("absent"), "r.example").unwrap());
    }

    #[test]
    fn docker_hub_has_the_key_that_docker_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, r#"{"auths":{"docker.io":{"auth":"b2xkOjE="}}}"#).unwrap();
        log_in(&path, "docker.io", "bob", &Secret::new("p")).unwrap();
        assert_eq!(list(&path).unwrap(), [Login { server: DOCKER_HUB.to_owned(), who: "user bob".to_owned() }]);
    }

    #[test]
    fn a_damaged_file_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        for text in ["{\"auths\":", "[]", r#"{"auths":[]}"#, r#"{"auths":{"x":"hunter2"}}"#] {
            std::fs::write(&path, text).unwrap();
            let error = log_in(&path, "r.example", "bob", &Secret::new("p")).unwrap_err().to_string();
            assert!(error.contains("damaged") && !error.contains("hunter2"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_link_to_the_file_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (link, file) = (directory.path().join("link"), directory.path().join("file"));
        std::fs::write(&file, "{}").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        log_in(&link, "r.example", "bob", &Secret::new("p")).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(found(&file, "r.example"), Some(("bob".to_owned(), "p".to_owned())));
    }
}
