//! `Bootstrap: debootstrap` without `debootstrap`, `dpkg`, `apt` or root: the archive is asked and its signature checked here, the
//! packages are downloaded and their core unpacked here, and the image's own dpkg does the rest in the sandbox.
//!
//! Two functions, as every agent: [`pin`] asks which packages make up the base, [`provide`] brings them. The decisions are
//! in [`crate::deb`]. Source: facts §2.8.

mod error;
mod host;
mod provide;
mod release;

pub use error::DebianError;
pub use provide::{DebianBase, Mount, ProvideError, bring, provide};

use super::packages::{self, Kept};
use crate::arch::Arch;
use crate::archive::compress::detecting_decoder;
use crate::deb::base::is_merged;
use crate::deb::index::{self, Package};
use crate::deb::package;
use crate::deb::pin::{DebianPin, PackagePin, Variant};
use crate::deb::release::IndexFile;
use crate::deb::select::{Choice, select};
use crate::definition::DebianBase as Header;
use crate::digest::Digest;
use crate::event::{Event, Observer};
use crate::fetch::FetchError;
use crate::fetch::http::{Fetch, Request, parse_url};
use crate::fetch::retry;
use crate::rpm::metadata::Checksum;
use release::Signed;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

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
    /// What stays as a lock has it.
    pub kept: Option<Kept>,
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
            kept: None,
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
    if options.kept.is_none()
        && let Some(answer) = asker.recall(&question)?
    {
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
    let left = match &options.kept {
        Some(kept) => asker.read_left(kept, &packages)?,
        None => String::new(),
    };
    packages.extend(index::parse(&left).map_err(|cause| DebianError::Index { url: "kept packages".into(), cause })?);
    let codename = signed.codename(&asker.suite);
    let choice = Choice {
        variant: options.variant,
        architecture: asker.architecture,
        codename: &codename,
        include: &include,
        https: signed.mirror.starts_with("https:"),
        kept: &BTreeSet::new(),
    };
    let free = select(&packages, &choice)?;
    let packages = match &options.kept {
        None => free,
        Some(kept) => {
            // Those that move go where they would if nothing were kept: what is kept must give way, or they would not move.
            let moved: BTreeMap<&str, &str> =
                free.iter().map(|one| (one.name.as_str(), one.version.as_str())).collect();
            packages.retain(|one| {
                !kept.moving.contains(one.name) || moved.get(one.name).is_none_or(|version| *version == one.version)
            });
            select(&packages, &Choice { kept: &kept.versions, ..choice })?
        }
    };
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
    if options.kept.is_none() {
        asker.keep(&question, &answer);
    }
    Ok(answer)
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

    /// The stanzas of what is to be kept and has left the archive, from the package files.
    fn read_left(&self, kept: &Kept, packages: &[Package<'_>]) -> Result<String, DebianError> {
        let pin = DebianPin::parse(&kept.lines)?;
        let there: HashSet<(&str, &str)> = packages.iter().map(|one| (one.name, one.version)).collect();
        let mut text = String::new();
        for one in pin.packages.iter().filter(|one| !kept.moving.contains(&one.name)) {
            if there.contains(&(one.name.as_str(), one.version.as_str())) {
                continue;
            }
            match read_stanza(one, &provide::blob(&kept.blobs, one)) {
                Ok(stanza) => text.push_str(&stanza),
                Err(cause) => {
                    let what = format!("{} {} left the archive and cannot stay: {cause}", one.name, one.version);
                    self.observer.observe(Event::Warning(what));
                }
            }
        }
        Ok(text)
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

/// As in an index: the control file, and where the package lies.
fn read_stanza(one: &PackagePin, path: &Path) -> Result<String, String> {
    let file = packages::open_kept(path, &Checksum::from(&one.digest))?;
    let control = package::control(file).map_err(|error| error.to_string())?;
    let (filename, size, digest) = (&one.filename, one.size, one.digest.hex());
    Ok(format!("{}\nFilename: {filename}\nSize: {size}\nSHA256: {digest}\n\n", control.trim_end()))
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
