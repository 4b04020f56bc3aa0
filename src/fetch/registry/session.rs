//! One place that an image comes from, with the authorization for it.

use super::challenge::{self, Challenge};
use super::{Endpoint, ManifestDocument, Registry, join};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::event::{Event, Observer};
use crate::fetch::auth::{Credential, Found, Lookup, Secret};
use crate::fetch::error::{FetchError, clean, shown};
use crate::fetch::http::{Fetch, FormValue, Method, Request, Response, Url, parse_url};
use crate::fetch::retry::{Patience, get, parse_retry_after, refusal};
use crate::oci::MAXIMUM_DOCUMENT;
use crate::oci::manifest::ACCEPTED;
use crate::oci::reference::Reference;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::sync::{Mutex, MutexGuard};

/// No token answer is larger.
const LARGEST_TOKEN: u64 = 1 << 20;

/// What a session is for: tokens are asked for with as much, and messages say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To see whether a login is good, and what the registry says then: no image is named.
    Login,
    Pull,
    Push,
    Delete,
}

pub(super) struct Session<'a> {
    registry: &'a Registry<'a>,
    access: Access,
    pub endpoint: Endpoint,
    base: Url,
    reference: Reference,
    observer: &'a dyn Observer,
    /// Another scope that a token should be good for.
    pub also: Option<String>,
    /// What was used to log in, for messages.
    tried: Mutex<Option<String>>,
}

/// Spec: docker's token authentication: `access_token` is OAuth2's name for the same thing.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Spec: distribution-spec, "Error Codes".
#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl<'a> Session<'a> {
    pub fn new(
        registry: &'a Registry<'a>,
        access: Access,
        endpoint: Endpoint,
        base: Url,
        reference: &Reference,
        observer: &'a dyn Observer,
    ) -> Session<'a> {
        Session {
            registry,
            access,
            endpoint,
            base,
            reference: reference.clone(),
            observer,
            also: None,
            tried: Mutex::new(None),
        }
    }

    /// `kind` is `manifests`, `blobs` or `referrers`.
    pub fn url(&self, kind: &str, identifier: &str) -> Result<Url, FetchError> {
        join(&self.base, &format!("v2/{}/{kind}/{identifier}", self.endpoint.repository))
    }
    /// An address of the registry's API.
    pub fn api(&self, path: &str) -> Result<Url, FetchError> {
        join(&self.base, path)
    }

    /// Whether the registry asked for a login.
    pub fn has_logged_in(&self) -> bool {
        self.tried.lock().unwrap_or_else(|poison| poison.into_inner()).is_some()
    }

    /// Whether an address that the registry gave is on the same host, so that the login may go there.
    pub fn is_own_host(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    pub fn owns(&self, url: &Url) -> bool {
        url.origin() == self.base.origin() && url.path().starts_with(&format!("/v2/{}/", self.endpoint.repository))
    }

    /// A manifest or index by tag or digest, proven by its digest.
    pub fn manifest(&self, identifier: &str) -> Result<ManifestDocument, FetchError> {
        let request = Request::get(self.url("manifests", identifier)?).header("accept", ACCEPTED.join(", "));
        let document = get(self, &request, MAXIMUM_DOCUMENT as u64, self.observer)?;
        let promised = match identifier.parse::<Digest>() {
            Ok(digest) => Some(digest),
            Err(_) => document.header("docker-content-digest").and_then(|text| text.trim().parse().ok()),
        };
        let algorithm = promised.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&document.bytes);
        let digest = hasher.finish();
        if let Some(wanted) = promised.filter(|wanted| *wanted != digest) {
            return Err(FetchError::WrongDigest { url: document.url, wanted, found: digest });
        }
        let media_type = document.header("content-type").map(str::to_owned);
        Ok(ManifestDocument { digest, media_type, url: document.url, bytes: document.bytes })
    }

    /// Sends where no login of this registry may go.
    pub fn send_elsewhere(&self, request: &Request) -> Result<Response, FetchError> {
        let request = Request { insecure: self.endpoint.insecure, authorization: None, ..request.clone() };
        self.registry.fetch.send(&request)
    }

    /// The error for an answer that is not what was hoped for, in the registry's own words.
    pub fn refusal(response: Response) -> FetchError {
        let (url, status) = (shown(&response.url), response.status);
        let retry_after = response.header("retry-after").and_then(parse_retry_after);
        let detail = registry_detail(response);
        let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
        FetchError::Status { url, status, detail, retry_after }
    }

    fn authorizations(&self) -> MutexGuard<'a, std::collections::HashMap<String, Secret>> {
        self.registry.authorizations.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn key(&self) -> String {
        format!("{}{} {:?}", self.base, self.endpoint.repository, self.access)
    }

    /// Gets the authorization that the challenges ask for. `used` is the one that was refused: when another thread has renewed it since,
    /// the new one is taken.
    fn authorize(&self, challenges: &[Challenge], used: Option<&Secret>) -> Result<Secret, FetchError> {
        let mut authorizations = self.authorizations();
        if let Some(current) = authorizations.get(&self.key()).filter(|current| Some(*current) != used) {
            return Ok(current.clone());
        }
        authorizations.remove(&self.key());
        // Docker Hub's credentials are stored under its name, a mirror's under the mirror's.
        let host = &self.endpoint.host;
        let name = if host == "registry-1.docker.io" { "docker.io" } else { host };
        let lookup = self.registry.credentials.lookup(name, &self.endpoint.repository);
        for warning in &lookup.warnings {
            self.observer.observe(Event::Warning(warning.clone()));
        }
        *self.tried.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(describe(&lookup));
        let authorization = self.answer(challenges, lookup.found)?;
        authorizations.insert(self.key(), authorization.clone());
        Ok(authorization)
    }

    fn answer(&self, challenges: &[Challenge], found: Option<Found>) -> Result<Secret, FetchError> {
        if let Some(Found { credential: Credential::RegistryToken(token), .. }) = &found {
            return Ok(Secret::new(format!("Bearer {}", token.reveal())));
        }
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            return self.token(bearer, found);
        }
        let basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        match found {
            Some(Found { credential: Credential::Password { user, password }, .. }) if basic => {
                Ok(basic_value(&user, &password))
            }
            _ if basic => Err(self.refused(401, "it wants a user and a password")),
            _ => Err(FetchError::Protocol {
                url: shown(&self.base),
                cause: "it refuses access and names no way of logging in that is known here (Bearer, Basic)".to_owned(),
            }),
        }
    }

    /// Gets a token; when the credential is refused, an anonymous one: public images stay within reach of an expired login.
    fn token(&self, bearer: &Challenge, found: Option<Found>) -> Result<Secret, FetchError> {
        let Some(found) = found else { return self.ask_for_token(bearer, None) };
        match self.ask_for_token(bearer, Some(&found.credential)) {
            Err(error) if matches!(error.status(), Some(400 | 401 | 403)) && self.access != Access::Pull => {
                Err(self.explain(&error))
            }
            Err(error) if matches!(error.status(), Some(400 | 401 | 403)) => {
                let token = self.ask_for_token(bearer, None).map_err(|_| self.explain(&error))?;
                self.observer.observe(Event::Warning(format!(
                    "{} refused the login from {}; going on without a login",
                    self.endpoint.host, found.origin
                )));
                Ok(token)
            }
            other => other,
        }
    }

    fn ask_for_token(&self, bearer: &Challenge, credential: Option<&Credential>) -> Result<Secret, FetchError> {
        let request = self.token_request(bearer, credential)?;
        let document = get(self.registry.fetch, &request, LARGEST_TOKEN, self.observer)?;
        // serde's message could quote a token.
        let fault = |cause: &str| FetchError::Protocol { url: document.url.clone(), cause: cause.to_owned() };
        let answer: TokenAnswer =
            serde_json::from_slice(&document.bytes).map_err(|_| fault("a token in JSON was expected"))?;
        let given = |token: Option<String>| token.filter(|token| !token.is_empty());
        match given(answer.token).or(given(answer.access_token)) {
            Some(token) => Ok(Secret::new(format!("Bearer {token}"))),
            None => Err(fault("the answer holds no token")),
        }
    }

    fn token_request(&self, bearer: &Challenge, credential: Option<&Credential>) -> Result<Request, FetchError> {
        let protocol = |cause: String| FetchError::Protocol { url: shown(&self.base), cause };
        let realm =
            bearer.parameter("realm").ok_or_else(|| protocol("the Bearer challenge has no realm".to_owned()))?;
        let mut url = parse_url(realm).map_err(|error| protocol(format!("the Bearer realm: {error}")))?;
        let allowed = url.scheme() == "https" || (url.scheme() == "http" && self.base.scheme() == "http");
        if !allowed {
            return Err(protocol(format!("it wants the login sent to {}, which is not secure", shown(&url))));
        }
        let mut fields: Vec<(&str, String)> = self
            .scope(bearer.parameter("scope"))
            .into_iter()
            .chain(self.also.clone())
            .map(|scope| ("scope", scope))
            .collect();
        fields.extend(bearer.parameter("service").map(|service| ("service", service.to_owned())));
        if let Some(Credential::IdentityToken(token)) = credential {
            let mut form: Vec<(String, FormValue)> =
                fields.into_iter().map(|(name, value)| (name.to_owned(), FormValue::Plain(value))).collect();
            form.push(("grant_type".to_owned(), FormValue::Plain("refresh_token".to_owned())));
            form.push(("client_id".to_owned(), FormValue::Plain("sifbuild".to_owned())));
            form.push(("refresh_token".to_owned(), FormValue::Secret(token.clone())));
            let request = Request { method: Method::Post(form), ..Request::get(url) };
            return Ok(Request { insecure: self.endpoint.insecure, ..request });
        }
        for (name, value) in fields {
            url.query_pairs_mut().append_pair(name, &value);
        }
        let mut request = Request::get(url);
        request.insecure = self.endpoint.insecure;
        if let Some(Credential::Password { user, password }) = credential {
            request.url.query_pairs_mut().append_pair("account", user);
            request.authorization = Some(basic_value(user, password));
        }
        Ok(request)
    }

    /// What a token has to be good for. Of what is wanted here, all at once, so that one token serves a whole push.
    fn scope(&self, asked: Option<&str>) -> Option<String> {
        let own = |actions: &str| format!("repository:{}:{actions}", self.endpoint.repository);
        match self.access {
            Access::Login => asked.map(str::to_owned),
            Access::Pull => Some(asked.map_or_else(|| own("pull"), str::to_owned)),
            Access::Push => Some(own("pull,push")),
            Access::Delete => Some(own("delete,pull,push")),
        }
    }

    /// An error with a status, said in terms of the image.
    fn explain(&self, error: &FetchError) -> FetchError {
        match error {
            FetchError::Status { status, detail, .. } => self.refused(*status, detail.trim_matches([' ', '(', ')'])),
            other => FetchError::Refusal { status: other.status().unwrap_or(401), text: other.to_string() },
        }
    }

    fn refused(&self, status: u16, detail: &str) -> FetchError {
        let host = &self.endpoint.host;
        let reason = if detail.is_empty() { status.to_string() } else { format!("{status}: {detail}") };
        let tried = self.tried.lock().unwrap_or_else(|poison| poison.into_inner()).clone();
        let tried = tried.unwrap_or_else(|| "access without a login, as the registry did not ask for one".to_owned());
        let place = if self.endpoint.mirror { format!("the mirror {host}") } else { host.clone() };
        let reference = &self.reference;
        let login = format!(
            "log in (`sifbuild registry login docker://{host}`, `docker login {host}` or `podman login {host}`)"
        );
        let text = match (status, self.access) {
            (_, Access::Login) => format!(
                "{place} refused the login ({reason}). Tried: {tried}. Check the user and the password or token"
            ),
            (404, Access::Push) => format!(
                "{place} does not take {reference} ({reason}). Tried: {tried}. Check the name: some registries want the project or the \
                 repository to be made beforehand, and answer like this to a login that may not push"
            ),
            (404, _) => format!(
                "{place} has no {reference} ({reason}). Tried: {tried}. Check the name and the tag; some registries also hide what a login may not see"
            ),
            (_, Access::Pull) => format!(
                "{place} refused to give {reference} ({reason}). Tried: {tried}. Registries answer the same for an image that does not exist: check \
                 the name. If it is right, {login} with a user that may pull it, or name a credential file with --authfile"
            ),
            (_, Access::Push) => format!(
                "{place} refused to take {reference} ({reason}). Tried: {tried}. Check the name, and {login} with a user that may push there \
                 (a token needs the right to write packages), or name a credential file with --authfile"
            ),
            (_, Access::Delete) => format!(
                "{place} refused to delete {reference} ({reason}). Tried: {tried}. Check the name, and {login} with a user that may delete there"
            ),
        };
        FetchError::Refusal { status, text }
    }
}

impl Fetch for Session<'_> {
    fn send(&self, request: &Request) -> Result<Response, FetchError> {
        let mut request = request.clone();
        request.insecure |= self.endpoint.insecure;
        request.authorization = self.authorizations().get(&self.key()).cloned();
        let mut renewed = false;
        loop {
            let response = self.registry.fetch.send(&request)?;
            let own = response.url.origin() == request.url.origin();
            match response.status {
                401 if own && !renewed => {
                    let challenges: Vec<Challenge> = response
                        .headers
                        .iter()
                        .filter(|(name, _)| name == "www-authenticate")
                        .flat_map(|(_, value)| challenge::parse(value))
                        .collect();
                    let authorization = self.authorize(&challenges, request.authorization.as_ref())?;
                    request.authorization = Some(authorization);
                    renewed = true;
                }
                // A place that blobs are kept in may not know HEAD; that the registry leads there says enough.
                403 | 404 if !own && request.method == Method::Head => return Ok(response),
                401 | 403 | 404 => return Err(self.refused(response.status, &registry_detail(response))),
                _ => return Ok(response),
            }
        }
    }

    fn patience(&self) -> Patience {
        self.registry.fetch.patience()
    }
}

/// What the body of a refusal says, in the protocol's form or in any other.
fn registry_detail(response: Response) -> String {
    let status = response.status;
    let Response { url, headers, body, .. } = response;
    let bytes =
        Response { url: url.clone(), status, headers: headers.clone(), body }.read_start(16 << 10).unwrap_or_default();
    if let Ok(Errors { errors }) = serde_json::from_slice::<Errors>(&bytes)
        && let Some(first) = errors.first()
    {
        let code = first.code.to_lowercase().replace('_', " ");
        let text = if first.message.is_empty() || first.message.to_lowercase() == code {
            code
        } else {
            format!("{code}: {}", first.message)
        };
        return clean(&text, 200);
    }
    match refusal(Response { url, status, headers, body: Box::new(std::io::Cursor::new(bytes)) }) {
        FetchError::Status { detail, .. } => detail.trim_matches([' ', '(', ')']).to_owned(),
        _ => String::new(),
    }
}

fn describe(lookup: &Lookup) -> String {
    match &lookup.found {
        Some(found) => found.origin.clone(),
        None if lookup.searched.is_empty() => "no login, as there is no credential file".to_owned(),
        None => {
            let files: Vec<String> = lookup.searched.iter().map(|path| path.display().to_string()).collect();
            format!("no login, as none fits in {}", files.join(", "))
        }
    }
}

fn basic_value(user: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal()))))
}
