//! What all commands that speak with registries share: how they are reached, who this user is there, and what an address means.

use super::arguments::lookup;
use super::build::Stop;
use super::{exit, login};
use crate::arch::Arch;
use crate::build::Connections;
use crate::event::{Event, Observer};
use crate::fetch::auth::{Credentials, Secret};
use crate::fetch::client::{Client, ClientOptions};
use crate::fetch::library;
use crate::fetch::registry::{Configuration, Registry};
use crate::oci::reference::Reference;
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Args, Clone, Debug, Default)]
pub struct RegistryArguments {
    /// Talk plain HTTP to registries
    #[arg(long, alias = "nohttps")]
    pub no_https: bool,
    /// User for the registry
    #[arg(long, value_name = "USER")]
    pub docker_username: Option<String>,
    #[arg(long, value_name = "PASSWORD", hide = true)]
    pub docker_password: Option<String>,
    /// Ask at the terminal for the registry's user and password
    #[arg(long)]
    pub docker_login: bool,
    /// File with registry credentials, in Docker's format
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Address of the library service, for library://
    #[arg(long, value_name = "URL")]
    pub library: Option<String>,
}

impl RegistryArguments {
    /// Fills what the command line left open from the environment.
    pub fn fill(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        let yes = |name: &str| {
            lookup(name, variable)
                .is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
        };
        self.no_https |= yes("NO_HTTPS") || yes("NOHTTPS");
        self.docker_login |= yes("DOCKER_LOGIN");
        for (value, name) in
            [(&mut self.docker_username, "DOCKER_USERNAME"), (&mut self.docker_password, "DOCKER_PASSWORD")]
        {
            if value.is_none() {
                *value = lookup(name, variable).or_else(|| variable(name)).filter(|value| !value.is_empty());
            }
        }
        if self.library.is_none() {
            self.library = lookup("LIBRARY", variable).filter(|value| !value.is_empty());
        }
        if self.authfile.is_none() {
            self.authfile = lookup("AUTH_FILE", variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        }
    }

    /// As [`RegistryArguments::fill`] from this process's environment, and asks at the terminal where that is wanted.
    pub fn complete(&mut self) -> Result<(), Stop> {
        self.fill(&|name| std::env::var(name).ok());
        if self.docker_login {
            login::ask(&mut self.docker_username, &mut self.docker_password)?;
        }
        Ok(())
    }

    pub fn credentials(&self) -> Credentials {
        let mut credentials = Credentials::from_environment(&|name| std::env::var(name).ok());
        if let Some(file) = &self.authfile {
            credentials.authfile = Some(file.clone());
        }
        if let (Some(user), Some(password)) = (&self.docker_username, &self.docker_password) {
            credentials.explicit = Some((user.clone(), Secret::new(password)));
        }
        credentials
    }

    /// Makes the network's client, which starts threads.
    pub fn connect(&self) -> Result<Connections, String> {
        self.connect_unless(false)
    }

    /// `offline`: the client serves files of this host only.
    pub fn connect_unless(&self, offline: bool) -> Result<Connections, String> {
        let options = ClientOptions { offline, ..client_options() };
        Ok(Connections {
            fetch: Box::new(Client::new(options).map_err(|error| error.to_string())?),
            credentials: self.credentials(),
            configuration: Configuration::from_environment(&|name| std::env::var(name).ok())
                .map_err(|error| error.to_string())?,
            no_https: self.no_https,
            library: library::Settings::from_environment(self.library.clone(), self.no_https, &|name| {
                std::env::var(name).ok()
            }),
        })
    }
}

/// Where certificates are looked for; the rest is as usual.
pub fn client_options() -> ClientOptions {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    ClientOptions {
        certificate_directories: ClientOptions::usual_certificate_directories(home.as_deref()),
        ..ClientOptions::default()
    }
}

/// What is done with registries, once everything is in place.
pub fn with_registry<T>(
    arguments: &mut RegistryArguments,
    observer: &dyn Observer,
    work: impl FnOnce(&Registry<'_>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    arguments.complete()?;
    let Connections { fetch, credentials, configuration, no_https, .. } = arguments.connect().map_err(source)?;
    for warning in &configuration.warnings {
        observer.observe(Event::Warning(warning.clone()));
    }
    work(&Registry::new(fetch.as_ref(), credentials, configuration, no_https))
}

/// A reference in an address of any kind that registries have: `oras://`, `docker://`, or without either.
pub fn registry_reference(uri: &str) -> Result<Reference, Stop> {
    let rest = uri.strip_prefix("oras://").unwrap_or(uri);
    Reference::parse(rest).map_err(|error| Stop::usage(error.to_string()))
}

/// The host in `docker://HOST`, `oras://HOST`, `https://HOST/…` or `HOST`.
pub fn registry_host(uri: &str) -> Result<String, Stop> {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
    // A reference checks its host.
    match Reference::parse(&format!("{host}/x")) {
        Ok(reference) if reference.registry == host => Ok(host.to_owned()),
        _ => Err(Stop::usage(format!("{uri}: the address of a registry like docker://HOST[:PORT] is needed"))),
    }
}

/// `--annotation KEY=VALUE`, several times.
pub fn annotations(texts: &[String]) -> Result<BTreeMap<String, String>, Stop> {
    let mut annotations = BTreeMap::new();
    for text in texts {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => annotations.insert(key.to_owned(), value.to_owned()),
            _ => return Err(Stop::usage(format!("--annotation {text}: it is KEY=VALUE"))),
        };
    }
    Ok(annotations)
}

/// `--arch NAME`.
pub fn parse_arch(name: &str) -> Result<Arch, Stop> {
    Arch::parse(name).ok_or_else(|| Stop::usage(format!("--arch {name}: unknown architecture")))
}

/// What the network could not give or take.
pub fn source(error: impl std::fmt::Display) -> Stop {
    Stop { text: error.to_string(), code: exit::SOURCE }
}

/// The reference in `oras://REFERENCE`.
pub fn oras_reference(uri: &str) -> Result<Reference, Stop> {
    let Some(rest) = uri.strip_prefix("oras://") else {
        return Err(Stop::usage(format!("{uri}: an address like oras://REGISTRY/REPOSITORY:TAG is needed")));
    };
    Reference::parse(rest).map_err(|error| Stop::usage(error.to_string()))
}
