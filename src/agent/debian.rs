//! `Bootstrap: debootstrap` without `debootstrap`, `dpkg`, `apt` or root: the archive is asked and its signature checked here, the
//! packages are downloaded and their core unpacked here, and the image's own dpkg does the rest in the sandbox.
//!
//! Two functions, as every agent: [`pin`] asks which packages make up the base, [`provide`] brings them. The decisions are
//! in [`crate::deb`]. Source: facts §2.8.

mod host;
mod provide;

pub use provide::{DebianBase, Mount, ProvideError, provide};

use crate::arch::Arch;
use crate::archive::compress::detecting_decoder;
use crate::deb::base::is_merged;
use crate::deb::cleartext::{Cleartext, CleartextError};
use crate::deb::index::{self, IndexError, Package};
use crate::deb::pin::{DebianPin, PinError, Variant};
use crate::deb::release::{IndexFile, Release, ReleaseError};
use crate::deb::select::{Choice, SelectError, select};
use crate::deb::signature::{Keyring, SignatureError};
use crate::definition::DebianBase as Header;
use crate::digest::Digest;
use crate::event::{Event, Observer};
use crate::fetch::FetchError;
use crate::fetch::http::{Fetch, Request, parse_url};
use crate::fetch::retry;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of an `InRelease`, `Release` or `Release.gpg` file.
const MAXIMUM_RELEASE: u64 = 16 << 20;
/// Bytes of a package index as it is downloaded, and unpacked.
const MAXIMUM_INDEX: u64 = 256 << 20;
const MAXIMUM_UNPACKED_INDEX: u64 = 512 << 20;
/// Forms of a package index, the preferred first.
const INDEX_FORMS: [&str; 5] = [".xz", ".zst", ".gz", ".bz2", ""];

/// What the command line and the environment say about Debian bases.
#[derive(Clone, Debug)]
pub struct Options {
    pub variant: Variant,
    /// Used where the definition has no `MirrorURL`; `SIFBUILD_DEBIAN_MIRROR`.
    pub mirror: Option<String>,
    /// Instead of `main` (and Ubuntu's `universe`); `SIFBUILD_DEBIAN_COMPONENTS`.
    pub components: Vec<String>,
    /// Instead of the host's keyrings; `--keyring`.
    pub keyrings: Vec<PathBuf>,
    /// Accept an index that has expired; `--ignore-valid-until`.
    pub ignore_valid_until: bool,
    /// The host's root directory, where its apt configuration and keyrings are looked for.
    pub host_root: PathBuf,
    /// Where answers are kept: what a signed release answers to a question never changes.
    pub answers: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            variant: Variant::Minbase,
            mirror: None,
            components: Vec::new(),
            keyrings: Vec::new(),
            ignore_valid_until: false,
            host_root: PathBuf::from("/"),
            answers: None,
        }
    }
}

impl Options {
    /// With what `SIFBUILD_DEBIAN_MIRROR` and `SIFBUILD_DEBIAN_COMPONENTS` (words) say, looked up by `variable`.
    pub fn with_environment(mut self, variable: impl Fn(&str) -> Option<String>) -> Options {
        let read = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        self.mirror = read("SIFBUILD_DEBIAN_MIRROR").or(self.mirror);
        if let Some(components) = read("SIFBUILD_DEBIAN_COMPONENTS") {
            self.components = components.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        }
        self
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    #[error("OSVersion {0:?} is not the name of a release, like bookworm or stable")]
    BadSuite(String),
    #[error(
        "there is no mirror for {suite}: the header has no MirrorURL, SIFBUILD_DEBIAN_MIRROR is not set, and this host's apt \
         configuration names none; add a line like `MirrorURL: http://HOST/debian`"
    )]
    NoMirror { suite: String },
    #[error("the mirror has no release {suite}: {cause}")]
    NoRelease { suite: String, cause: FetchError },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{url} {cause}")]
    Cleartext { url: String, cause: CleartextError },
    #[error("{url} {cause}")]
    Release { url: String, cause: ReleaseError },
    #[error("{url}: it is not UTF-8 text")]
    NotText { url: String },
    #[error("cannot read the keyring {path}: {cause}; --keyring FILE names another", path = path.display())]
    Keyring { path: PathBuf, cause: String },
    #[error(
        "there is no keyring to check {url} with: install the distribution's archive keyring (debian-archive-keyring, ubuntu-keyring) \
         or name one with --keyring FILE"
    )]
    NoKeyring { url: String },
    #[error("{url} is not trusted: {cause}; keyrings: {keyrings}; name another with --keyring FILE")]
    Signature { url: String, cause: SignatureError, keyrings: String },
    #[error(
        "{url} has expired: it was valid until {date}; the mirror is out of date or is kept back, or this machine's clock is wrong; \
         --ignore-valid-until accepts it"
    )]
    Expired { url: String, date: String },
    #[error("{url} is the release {found}, but {suite} was asked for")]
    OtherSuite { url: String, suite: String, found: String },
    #[error("{suite} has no {what} {name}; it has {available}")]
    Absent { suite: String, what: &'static str, name: String, available: String },
    #[error(
        "{url} is not the file that the signed release lists: {what} {found}, but {wanted} was promised; the mirror is being updated or damaged"
    )]
    WrongIndex { url: String, what: &'static str, wanted: String, found: String },
    #[error("{url} cannot be unpacked: {cause}")]
    Unpack { url: String, cause: io::Error },
    #[error("{url}: {cause}")]
    Index { url: String, cause: IndexError },
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error("the kept answer {path} is damaged: {cause}; remove it", path = path.display())]
    Answer { path: PathBuf, cause: PinError },
}

/// Asks a mirror which packages make up the base. Nothing is taken from it that its signature does not vouch for.
pub fn pin(
    header: &Header,
    options: &Options,
    arch: Arch,
    fetch: &dyn Fetch,
    observer: &dyn Observer,
) -> Result<DebianPin, DebianError> {
    let suite = header.os_version.value.trim().to_owned();
    if !is_suite(&suite) {
        return Err(DebianError::BadSuite(suite));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let asker = Asker { options, suite, architecture: arch.debian(), fetch, observer, now };
    let signed = asker.find_release(header.mirror_url.as_ref().map(|url| url.value.as_str()))?;
    let components = asker.components(&signed)?;
    let include: Vec<String> = header.include.iter().flat_map(|word| split_names(&word.value)).collect();
    let question = asker.question(&signed, &components, &include);
    if let Some(answer) = asker.recall(&question)? {
        return Ok(answer);
    }
    let mut texts = Vec::new();
    for component in &components {
        texts.push(asker.fetch_index(&signed, component)?);
    }
    let mut packages: Vec<Package<'_>> = Vec::new();
    for (url, text) in &texts {
        let found = index::parse(text).map_err(|cause| DebianError::Index { url: url.clone(), cause })?;
        packages.extend(found);
    }
    let codename = signed.codename(&asker.suite);
    let choice = Choice {
        variant: options.variant,
        architecture: asker.architecture,
        codename: &codename,
        include: &include,
        https: signed.mirror.starts_with("https:"),
    };
    let packages = select(&packages, &choice)?;
    let answer = DebianPin {
        mirror: signed.mirror.clone(),
        suite: asker.suite.clone(),
        merged_usr: is_merged(&codename),
        codename,
        origin: signed.release.origin.clone(),
        components,
        architecture: asker.architecture.to_owned(),
        variant: options.variant,
        release: signed.digest.clone(),
        date: signed.release.date,
        signers: signed.signers.clone(),
        packages,
    };
    asker.keep(&question, &answer);
    Ok(answer)
}

/// A release whose signature is good.
struct Signed {
    mirror: String,
    release: Release,
    digest: Digest,
    signers: Vec<String>,
}

impl Signed {
    fn codename(&self, suite: &str) -> String {
        if self.release.codename.is_empty() { suite.to_owned() } else { self.release.codename.clone() }
    }
}

struct Asker<'a> {
    options: &'a Options,
    suite: String,
    architecture: &'static str,
    fetch: &'a dyn Fetch,
    observer: &'a dyn Observer,
    now: i64,
}

impl Asker<'_> {
    /// Tries the one mirror that was named, or those of the host in turn until one has the suite.
    fn find_release(&self, mirror_url: Option<&str>) -> Result<Signed, DebianError> {
        let named = mirror_url
            .or(self.options.mirror.as_deref())
            .map(|url| host::Mirror { url: url.trim().trim_end_matches('/').to_owned(), keyrings: Vec::new() });
        let mirrors = match named {
            Some(mirror) => vec![mirror],
            None => host::mirrors(&self.options.host_root, &self.suite),
        };
        let mut last = None;
        for mirror in &mirrors {
            match self.fetch_release(mirror) {
                Ok(signed) => return Ok(signed),
                Err(error @ (DebianError::NoRelease { .. } | DebianError::Fetch(_))) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| DebianError::NoMirror { suite: self.suite.clone() }))
    }

    fn fetch_release(&self, mirror: &host::Mirror) -> Result<Signed, DebianError> {
        let folder = format!("{}/dists/{}", mirror.url, self.suite);
        let url = format!("{folder}/InRelease");
        let (url, text, signed, signature) = match self.get(&url, MAXIMUM_RELEASE) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| DebianError::NotText { url: url.clone() })?;
                let split =
                    Cleartext::split(&text).map_err(|cause| DebianError::Cleartext { url: url.clone(), cause })?;
                let signed = split.signed_bytes();
                (url, split.text, signed, split.signature.into_bytes())
            }
            Err(error) if is_absent(&error) => {
                let url = format!("{folder}/Release");
                let bytes = self
                    .get(&url, MAXIMUM_RELEASE)
                    .map_err(|cause| DebianError::NoRelease { suite: self.suite.clone(), cause })?;
                let signature = self.get(&format!("{url}.gpg"), MAXIMUM_RELEASE)?;
                let text = String::from_utf8(bytes).map_err(|_| DebianError::NotText { url: url.clone() })?;
                (url, text.clone(), text.into_bytes(), signature)
            }
            Err(error) => return Err(error.into()),
        };
        let signers = self.verify(&url, mirror, &signed, &signature)?;
        let release = Release::parse(&text).map_err(|cause| DebianError::Release { url: url.clone(), cause })?;
        self.check(&url, &release)?;
        Ok(Signed { mirror: mirror.url.clone(), release, digest: Digest::of(text.as_bytes()), signers })
    }

    fn verify(
        &self,
        url: &str,
        mirror: &host::Mirror,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<Vec<String>, DebianError> {
        let named = if self.options.keyrings.is_empty() { &mirror.keyrings } else { &self.options.keyrings };
        let paths = if named.is_empty() { host::keyrings(&self.options.host_root) } else { named.clone() };
        let mut keyring = Keyring::new();
        let mut fault = None;
        for path in &paths {
            let added = std::fs::read(path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| keyring.add(&bytes).map_err(|error| error.to_string()));
            if let Err(cause) = added {
                if !named.is_empty() {
                    return Err(DebianError::Keyring { path: path.clone(), cause });
                }
                fault = Some(DebianError::Keyring { path: path.clone(), cause });
            }
        }
        if keyring.is_empty() {
            return Err(fault.unwrap_or_else(|| DebianError::NoKeyring { url: url.to_owned() }));
        }
        keyring.verify(signed, signature, self.now).map_err(|cause| {
            let keyrings = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            DebianError::Signature { url: url.to_owned(), cause, keyrings }
        })
    }

    fn check(&self, url: &str, release: &Release) -> Result<(), DebianError> {
        match &release.valid_until {
            Some((until, date)) if *until < self.now && !self.options.ignore_valid_until => {
                return Err(DebianError::Expired { url: url.to_owned(), date: date.clone() });
            }
            Some((until, date)) if *until < self.now => {
                self.observer.observe(Event::Warning(format!("{url} has expired on {date}; accepted as asked")));
            }
            _ => {}
        }
        // A signed release of another suite, put in this one's place, would take the base back in time.
        let names = [release.suite.as_str(), release.codename.as_str()];
        if names.iter().any(|name| !name.is_empty()) && !names.contains(&self.suite.as_str()) {
            let found = names.iter().filter(|name| !name.is_empty()).copied().collect::<Vec<_>>().join(" or ");
            return Err(DebianError::OtherSuite { url: url.to_owned(), suite: self.suite.clone(), found });
        }
        if !release.architectures.is_empty() && !release.architectures.iter().any(|name| name == self.architecture) {
            return Err(self.absent("architecture", self.architecture, &release.architectures));
        }
        Ok(())
    }

    fn absent(&self, what: &'static str, name: &str, available: &[String]) -> DebianError {
        DebianError::Absent { suite: self.suite.clone(), what, name: name.to_owned(), available: available.join(", ") }
    }

    fn components(&self, signed: &Signed) -> Result<Vec<String>, DebianError> {
        if self.options.components.is_empty() {
            let universe =
                signed.release.origin == "Ubuntu" && signed.release.components.iter().any(|name| name == "universe");
            return Ok(["main"].into_iter().chain(universe.then_some("universe")).map(str::to_owned).collect());
        }
        for component in &self.options.components {
            if !signed.release.components.contains(component) {
                return Err(self.absent("component", component, &signed.release.components));
            }
        }
        Ok(self.options.components.clone())
    }

    /// URL and text of a component's package index.
    fn fetch_index(&self, signed: &Signed, component: &str) -> Result<(String, String), DebianError> {
        let plain = format!("{component}/binary-{}/Packages", self.architecture);
        let listed = INDEX_FORMS.iter().map(|form| format!("{plain}{form}"));
        let (path, file) = listed
            .filter_map(|path| Some((path.clone(), signed.release.files.get(&path)?)))
            .next()
            .ok_or_else(|| self.absent("package index", &plain, &signed.release.components))?;
        let folder = format!("{}/dists/{}", signed.mirror, self.suite);
        let mut urls = vec![format!("{folder}/{path}")];
        if signed.release.acquire_by_hash
            && let Some((parent, _)) = path.rsplit_once('/')
        {
            urls.insert(0, format!("{folder}/{parent}/by-hash/SHA256/{}", file.digest.hex()));
        }
        let last = urls.len() - 1;
        for (at, url) in urls.into_iter().enumerate() {
            match self.get(&url, file.size.min(MAXIMUM_INDEX)) {
                Ok(bytes) => return unpack_index(url, file, &bytes),
                Err(error) if is_absent(&error) && at < last => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(self.absent("package index", &plain, &signed.release.components))
    }

    fn get(&self, url: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        let request = Request::get(parse_url(url)?);
        Ok(retry::get(self.fetch, &request, limit, self.observer)?.bytes)
    }

    /// All that the answer depends on, as a digest.
    fn question(&self, signed: &Signed, components: &[String], include: &[String]) -> Digest {
        let text = format!(
            "{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n",
            env!("CARGO_PKG_VERSION"),
            signed.digest,
            signed.mirror,
            self.suite,
            self.architecture,
            self.options.variant.name(),
            components.join(" "),
            include.join(" "),
        );
        Digest::of(text.as_bytes())
    }

    fn recall(&self, question: &Digest) -> Result<Option<DebianPin>, DebianError> {
        let Some(folder) = &self.options.answers else { return Ok(None) };
        let path = folder.join(question.hex());
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        DebianPin::parse(&lines).map(Some).map_err(|cause| DebianError::Answer { path, cause })
    }

    /// A failure costs only the time to ask again.
    fn keep(&self, question: &Digest, answer: &DebianPin) {
        let Some(folder) = &self.options.answers else { return };
        let kept = std::fs::create_dir_all(folder).and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            io::Write::write_all(&mut file, (answer.lines().join("\n") + "\n").as_bytes())?;
            file.persist(folder.join(question.hex())).map_err(|error| error.error)
        });
        if let Err(error) = kept {
            self.observer.observe(Event::Detail(format!("cannot keep the answer in {}: {error}", folder.display())));
        }
    }
}

fn unpack_index(url: String, file: &IndexFile, bytes: &[u8]) -> Result<(String, String), DebianError> {
    let wrong = |what, wanted: String, found: String| DebianError::WrongIndex { url: url.clone(), what, wanted, found };
    if bytes.len() as u64 != file.size {
        return Err(wrong("size", file.size.to_string(), bytes.len().to_string()));
    }
    let found = Digest::of(bytes);
    if found != file.digest {
        return Err(wrong("digest", file.digest.to_string(), found.to_string()));
    }
    let unpack = |cause| DebianError::Unpack { url: url.clone(), cause };
    let (_, decoder) = detecting_decoder(bytes).map_err(unpack)?;
    let mut text = Vec::new();
    decoder.take(MAXIMUM_UNPACKED_INDEX + 1).read_to_end(&mut text).map_err(unpack)?;
    if text.len() as u64 > MAXIMUM_UNPACKED_INDEX {
        return Err(unpack(io::Error::other("it is larger than 512 MiB")));
    }
    Ok((url.clone(), String::from_utf8_lossy(&text).into_owned()))
}

/// Compat: Apptainer takes names separated by blanks, and passes commas on to debootstrap, which splits there.
fn split_names(text: &str) -> Vec<String> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Compat: suites such as `stable/updates` have a slash; a leading or doubled one, or `..`, would lead out of `dists`.
fn is_suite(name: &str) -> bool {
    name.split('/').all(|part| {
        part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+~".contains(&byte))
    })
}

fn is_absent(error: &FetchError) -> bool {
    matches!(error.status(), Some(403 | 404 | 410))
}
