//! Which keyservers are asked: `--url`, else what Apptainer's `remote.yaml` has, else the default one.

use super::arguments::lookup;
use super::build::Stop;
use super::exchange::client_options;
use super::exit;
use crate::event::{Event, Observer};
use crate::fetch::client::{Client, ClientOptions};
use crate::fetch::keyserver::remote::{MAXIMUM_SIZE, Remote};
use crate::fetch::keyserver::{Keyserver, KeyserverError, Keyservers};
use crate::keyrings::CONFIGURATIONS;
use crate::openpgp::{Issuer, PublicKey, Selector};
use std::cell::{OnceCell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE: &str = "remote.yaml";

impl From<KeyserverError> for Stop {
    fn from(error: KeyserverError) -> Stop {
        let code = match error {
            KeyserverError::Address { .. } | KeyserverError::NeedsFingerprint(_) => exit::USAGE,
            _ => exit::SOURCE,
        };
        Stop { text: error.to_string(), code }
    }
}

/// The servers, the first one first.
pub fn servers(url: Option<&str>, observer: &dyn Observer) -> Result<Vec<Keyserver>, Stop> {
    let remote = read()?;
    if let Some(url) = url {
        return Ok(vec![remote.named(url)?]);
    }
    if let Some(name) = remote.hides_a_keyserver() {
        let text = format!("the remote {name} may have a keyserver of its own, which is not looked up; --url names it");
        observer.observe(Event::Detail(text));
    }
    Ok(remote.servers()?)
}

/// A client that gives a server up soon: another one may have the key.
pub fn client() -> Result<Client, Stop> {
    let options = ClientOptions {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(10),
        ..client_options()
    };
    Client::new(options).map_err(|error| Stop { text: error.to_string(), code: exit::SOURCE })
}

/// Asks the servers for the keys that signatures name; what is configured is read when it is first needed.
pub struct Asker<'a> {
    url: Option<&'a str>,
    observer: &'a dyn Observer,
    /// The servers that have not failed.
    ready: OnceCell<(Client, RefCell<Vec<Keyserver>>)>,
}

impl<'a> Asker<'a> {
    pub fn new(url: Option<&'a str>, observer: &'a dyn Observer) -> Asker<'a> {
        Asker { url, observer, ready: OnceCell::new() }
    }

    pub fn ask(&self, issuer: &Issuer) -> Result<Vec<PublicKey>, String> {
        let wanted = match issuer {
            Issuer::Fingerprint(fingerprint) => Selector::Fingerprint(fingerprint.clone()),
            Issuer::KeyId(id) => Selector::KeyId(*id),
            Issuer::Unnamed => return Ok(Vec::new()),
        };
        if self.ready.get().is_none() {
            let servers = servers(self.url, self.observer).map_err(|stop| stop.text)?;
            if servers.is_empty() {
                return Err(KeyserverError::None.to_string());
            }
            let _ = self.ready.set((client().map_err(|stop| stop.text)?, RefCell::new(servers)));
        }
        let (fetch, servers) = self.ready.get().expect("was set just now");
        let mut keyservers = Keyservers { fetch, servers: servers.take() };
        let is_over = keyservers.servers.is_empty();
        let answer = keyservers.lookup(&wanted).map_err(|error| error.to_string());
        servers.replace(keyservers.servers);
        // Each one's failure was told when it failed.
        if is_over { Ok(Vec::new()) } else { answer }
    }
}

/// The user's file, else the administrator's.
fn read() -> Result<Remote, Stop> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let own = lookup("CONFIGDIR", &variable).map(PathBuf::from);
    let own = own.or_else(|| Some(Path::new(&variable("HOME")?).join(".apptainer")));
    let places = own.into_iter().chain(CONFIGURATIONS.map(PathBuf::from)).map(|directory| directory.join(FILE));
    for path in places {
        let fault = |cause: String| Stop { text: format!("{}: {cause}", path.display()), code: exit::SOURCE };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fault(error.to_string())),
        };
        let mut text = String::new();
        file.take(MAXIMUM_SIZE).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
        return Remote::parse(&text).map_err(|error| fault(error.to_string()));
    }
    Ok(Remote::default())
}
