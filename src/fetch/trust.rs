//! Which certificates are believed for which host: the system's, extra authorities, and `certs.d` directories.
//!
//! Source: containers-certs.d(5): `HOST[:PORT]/` holds `*.crt` (authorities) and pairs of `*.cert` and `*.key` (the client's own).

use super::client::ClientOptions;
use super::error::FetchError;
use super::http::TlsFiles;
use reqwest::{Certificate, Identity, Url};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// No PEM file is larger.
const LARGEST_PEM: u64 = 4 << 20;

/// One client for each host that has its own trust: `HOST:PORT`, the files that were presented, insecure, a connection for each request.
type ClientKey = (String, Option<TlsFiles>, bool, bool);

pub(crate) struct Trust {
    options: ClientOptions,
    authorities: Vec<Certificate>,
    /// By `HOST:PORT` and path.
    presented: Mutex<BTreeMap<(String, String), TlsFiles>>,
    clients: Mutex<HashMap<ClientKey, reqwest::Client>>,
}

impl Trust {
    pub fn new(options: &ClientOptions) -> Result<Trust, FetchError> {
        let mut authorities = Vec::new();
        for path in &options.authorities {
            authorities.extend(read_authorities(path)?);
        }
        Ok(Trust { options: options.clone(), authorities, presented: Mutex::default(), clients: Mutex::default() })
    }

    pub fn present(&self, url: &Url, files: &TlsFiles) {
        let mut presented = self.presented.lock().unwrap_or_else(|poison| poison.into_inner());
        presented.insert((address_of(url), url.path().to_owned()), files.clone());
    }

    /// Of the nearest address that something was presented at.
    fn presented(&self, url: &Url) -> Option<TlsFiles> {
        let presented = self.presented.lock().unwrap_or_else(|poison| poison.into_inner());
        let address = address_of(url);
        let there = presented.iter().filter(|((host, _), _)| *host == address);
        let nearest = there.max_by_key(|((_, path), _)| if url.path().starts_with(path) { path.len() } else { 0 });
        nearest.map(|(_, files)| files.clone())
    }

    pub fn client_for(&self, url: &Url, insecure: bool, own_connection: bool) -> Result<reqwest::Client, FetchError> {
        let (host, address) = (url.host_str().unwrap_or_default().to_owned(), address_of(url));
        let listed = |name: &String| *name == host || *name == address;
        let insecure = insecure || self.options.insecure_hosts.iter().any(listed);
        let presented = self.presented(url).filter(|_| url.scheme() == "https");
        let own = url.scheme() == "https" && (self.directories(url).next().is_some() || presented.is_some());
        let key = (if own { address } else { String::new() }, presented, insecure, own_connection);
        let mut clients = self.clients.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(url, key.1.as_ref(), insecure, own_connection)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn directories(&self, url: &Url) -> impl Iterator<Item = PathBuf> {
        directories_of(&self.options, url)
    }

    fn build(
        &self,
        url: &Url,
        presented: Option<&TlsFiles>,
        insecure: bool,
        own_connection: bool,
    ) -> Result<reqwest::Client, FetchError> {
        let mut authorities = self.authorities.clone();
        let mut identity = None;
        if url.scheme() == "https" {
            if let Some(TlsFiles { authority, certificate, key }) = presented {
                authority.iter().try_for_each(|path| read_authorities(path).map(|found| authorities.extend(found)))?;
                identity = match certificate {
                    Some(path) => Some(read_identity(path, key.as_deref().unwrap_or(path))?),
                    None => None,
                };
            }
            for directory in self.directories(url) {
                read_directory(&directory, &mut authorities, &mut identity)?;
            }
        }
        let start = |merge: bool| {
            let mut builder = reqwest::Client::builder()
                .user_agent(self.options.user_agent.clone())
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(self.options.connect_timeout)
                .pool_idle_timeout(Duration::from_secs(30))
                .tls_danger_accept_invalid_certs(insecure);
            if own_connection {
                builder = builder.http1_only().pool_max_idle_per_host(0);
            }
            if !self.options.environment_proxies {
                builder = builder.no_proxy();
            }
            if let Some(identity) = identity.clone() {
                builder = builder.identity(identity);
            }
            builder = if merge {
                builder.tls_certs_merge(authorities.clone())
            } else {
                builder.tls_certs_only(authorities.clone())
            };
            builder.build()
        };
        // A machine without any CA certificates still reaches plain HTTP and its own authorities; for the rest the TLS error says why.
        start(true).or_else(|_| start(false)).map_err(|error| FetchError::Start { cause: format!("{error:?}") })
    }
}

/// `HOST:PORT`.
fn address_of(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

/// The `certs.d` directories that exist for a host. A directory without a port serves the default port.
fn directories_of(options: &ClientOptions, url: &Url) -> impl Iterator<Item = PathBuf> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let name = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    let names = if name == host { vec![host.clone(), format!("{host}:443")] } else { vec![name] };
    let roots = options.certificate_directories.clone();
    roots
        .into_iter()
        .flat_map(move |root| names.clone().into_iter().map(move |name| root.join(name)))
        .filter(|path| path.is_dir())
}

/// The files beside the system's that decide whether `url` is believed: authorities, and the client's own certificate.
pub fn files_for(options: &ClientOptions, url: &Url) -> Vec<PathBuf> {
    let mut files = options.authorities.clone();
    for directory in directories_of(options, url) {
        let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let wanted = |path: &PathBuf| path.extension().is_some_and(|end| end == "crt" || end == "cert");
        let mut found: Vec<PathBuf> = entries.filter(wanted).collect();
        found.sort();
        files.extend(found);
    }
    files
}

fn read_directory(
    directory: &Path,
    authorities: &mut Vec<Certificate>,
    identity: &mut Option<Identity>,
) -> Result<(), FetchError> {
    let fault = |cause: String| FetchError::Certificate { path: directory.to_owned(), cause };
    let entries = std::fs::read_dir(directory).map_err(|error| fault(error.to_string()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in &paths {
        match path.extension().and_then(|name| name.to_str()) {
            Some("crt") => authorities.extend(read_authorities(path)?),
            Some("cert") if identity.is_none() => {
                *identity = Some(read_identity(path, &path.with_extension("key"))?);
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_authorities(path: &Path) -> Result<Vec<Certificate>, FetchError> {
    Certificate::from_pem_bundle(&read_pem(path)?)
        .map_err(|error| FetchError::Certificate { path: path.to_owned(), cause: error.to_string() })
}

fn read_identity(certificate: &Path, key: &Path) -> Result<Identity, FetchError> {
    let mut pem = read_pem(key)?;
    pem.push(b'\n');
    pem.extend(read_pem(certificate)?);
    Identity::from_pem(&pem)
        .map_err(|error| FetchError::Certificate { path: certificate.to_owned(), cause: error.to_string() })
}

fn read_pem(path: &Path) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_PEM).read_to_end(&mut bytes))
        .map_err(|error| FetchError::Certificate { path: path.to_owned(), cause: error.to_string() })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_of_one_host_are_shown_their_own_certificates() {
        let trust = Trust::new(&ClientOptions::default()).unwrap();
        let url = |text: &str| Url::parse(text).unwrap();
        let files = |name: &str| TlsFiles { certificate: Some(name.into()), ..TlsFiles::default() };
        trust.present(&url("https://h/one/"), &files("one"));
        trust.present(&url("https://h:443/two/"), &files("two"));
        let shown = |text: &str| trust.presented(&url(text)).and_then(|files| files.certificate);
        assert_eq!(shown("https://h/one/repodata/repomd.xml"), Some("one".into()));
        assert_eq!(shown("https://h/two/repodata/repomd.xml"), Some("two".into()));
        assert!(shown("https://h/key").is_some());
        assert_eq!(shown("https://other/one/"), None);
        // A client that is kept was made with other certificates.
        trust.present(&url("https://h/one/"), &TlsFiles::default());
        assert!(trust.client_for(&url("https://h/one/"), false, false).is_ok());
        let refused = trust.client_for(&url("https://h/two/"), false, false);
        assert!(matches!(refused, Err(FetchError::Certificate { path, .. }) if path == Path::new("two")));
    }
}
