//! Whether a base may be built from: what `Fingerprints:`, `--require-signed` and the policy files ask of it, checked when it is pinned,
//! before anything of it is used.

use super::pin::{bring, oci_source};
use super::{BuildError, Engine, Options};
use crate::agent::docker::reference_of;
use crate::agent::local;
use crate::deb::DebianPin;
use crate::definition::{Bootstrap, Definition, FileBase, LibraryBase, Stage};
use crate::digest::Digest;
use crate::event::Event;
use crate::fetch::http::Url;
use crate::fetch::library::LibraryReference;
use crate::keyrings::{Found, Origin, Places};
use crate::oci::reference::{DEFAULT_REGISTRY, Reference, canonical_registry};
use crate::openpgp::{Fingerprint, Issuer, Policy as KeyPolicy, PublicKey};
use crate::pins::{BasePin, LocalKind};
use crate::rpm::pin::RpmPin;
use crate::sif::reader::Sif;
use crate::sif::signature::{Material, Scope, Signer, issuers, verify};
use crate::trust::{Demands, Policy};
use std::fs;
use std::path::Path;

/// What a build asks of its bases.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Every base must be signed by a key of the keyrings.
    pub require_signed: bool,
    /// All of them apply.
    pub policies: Vec<Policy>,
    pub places: Places,
}

/// Asks keyservers for the keys that a signature names.
pub type Ask<'a> = &'a dyn Fn(&Issuer) -> Result<Vec<PublicKey>, String>;

/// One list of keys that must all have signed, and who asks for it.
struct Wanted {
    keys: Vec<Fingerprint>,
    by: String,
}

/// Who signed everything, with the names that are shown.
struct Signers {
    keys: Vec<Fingerprint>,
    /// Of a key in a keyring, not of one that a keyserver gave.
    known: bool,
    shown: String,
}

/// Refuses a base that is not what is asked. `fresh`: the outside world was asked just now, so that the reference's own digest was checked.
pub fn check(
    definition: &Definition,
    stage: &Stage,
    pin: &BasePin,
    fresh: bool,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<(), BuildError> {
    let trust = &options.trust;
    let place = definition.place(stage.span);
    let untrusted = |cause: String| BuildError::Untrusted { place: place.clone(), cause };
    let source = source_of(&stage.bootstrap, Some(pin), &options.directory);
    let mut wanted = Vec::new();
    if let Some(list) = fingerprints(&stage.bootstrap).filter(|list| !list.is_empty()) {
        let parse = |text: &String| {
            Fingerprint::parse(text).ok_or_else(|| untrusted(format!("{text:?} is not a key's fingerprint")))
        };
        let keys = list.iter().map(parse).collect::<Result<_, _>>()?;
        wanted.push(Wanted { keys, by: "Fingerprints".to_owned() });
    }
    let mut policy_names_keys = false;
    for policy in &trust.policies {
        let (demands, by) = policy.demands(&source);
        check_demands(&demands, &stage.bootstrap, pin, fresh)
            .map_err(|cause| untrusted(format!("{source} is refused by {by}: {cause}")))?;
        if !demands.signed_by.is_empty() {
            policy_names_keys = true;
            wanted.push(Wanted { keys: demands.signed_by, by });
        }
    }
    if wanted.is_empty() && !trust.require_signed {
        return Ok(());
    }
    let signers = signers(pin, &source, &place, engine, options)?;
    for Wanted { keys, by } in &wanted {
        let missing: Vec<String> =
            keys.iter().filter(|key| !signers.keys.contains(key)).map(ToString::to_string).collect();
        if !missing.is_empty() {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            return Err(untrusted(format!(
                "{source} is not signed by all that {by} names\n  wanted: {}\n  missing: {}\n  found: {}",
                keys.join(", "),
                missing.join(", "),
                signers.shown
            )));
        }
    }
    // The header does not count: who wrote the definition would vouch for its base.
    if trust.require_signed && !policy_names_keys && !signers.known {
        return Err(untrusted(format!(
            "{source} is not signed by a key in your keyrings, and --require-signed asks for one\n  found: {}\n  \
             `sifbuild key import` or `key pull` makes a key one that you trust",
            signers.shown
        )));
    }
    engine.observer.observe(Event::Info(format!("{source} is signed by {}", signers.shown)));
    Ok(())
}

/// Refuses what the definition alone shows to be refused, before anybody is asked, or told who asks.
pub fn check_source(definition: &Definition, stage: &Stage, options: &Options) -> Result<(), BuildError> {
    if is_library_unknown(&stage.bootstrap) {
        return Ok(());
    }
    let source = source_of(&stage.bootstrap, None, &options.directory);
    for policy in &options.trust.policies {
        let (demands, by) = policy.demands(&source);
        check_source_demands(&demands, &stage.bootstrap).map_err(|cause| BuildError::Untrusted {
            place: definition.place(stage.span),
            cause: format!("{source} is refused by {by}: {cause}"),
        })?;
    }
    Ok(())
}

/// Whether only the configuration says which library is meant: then what it is called is known when it was pinned.
fn is_library_unknown(bootstrap: &Bootstrap) -> bool {
    match bootstrap {
        Bootstrap::Library(base) => library_of(base).is_none(),
        _ => false,
    }
}

fn check_source_demands(demands: &Demands, bootstrap: &Bootstrap) -> Result<(), String> {
    if let Some(reason) = &demands.refused {
        return Err(reason.clone());
    }
    if demands.by_digest && named_digest(bootstrap).is_none() {
        return Err("the definition must name it by its digest (…@sha256:…), and not by a tag".to_owned());
    }
    Ok(())
}

fn check_demands(demands: &Demands, bootstrap: &Bootstrap, pin: &BasePin, fresh: bool) -> Result<(), String> {
    check_source_demands(demands, bootstrap)?;
    let named = named_digest(bootstrap);
    if demands.digests.is_empty() {
        return Ok(());
    }
    let mut found: Vec<Digest> = match pin {
        BasePin::Docker { manifest, .. } | BasePin::OciLayout { manifest, .. } => vec![manifest.clone()],
        BasePin::Oras { manifest, digest, .. } => vec![digest.clone(), manifest.clone()],
        BasePin::Local { digest, .. } | BasePin::Library { digest, .. } | BasePin::Busybox { digest, .. } => {
            vec![digest.clone()]
        }
        BasePin::Scratch => return Ok(()),
        BasePin::Debian { .. } | BasePin::Rpm { .. } | BasePin::Pacman { .. } => Vec::new(),
    };
    found.extend(named.filter(|_| fresh));
    if found.iter().any(|digest| demands.digests.contains(digest)) {
        return Ok(());
    }
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    let wanted: Vec<String> = demands.digests.iter().map(ToString::to_string).collect();
    Err(match found.as_slice() {
        [] => "it has no digest that could be one of the listed ones".to_owned(),
        found => format!(
            "its digest is none of the listed ones\n  wanted: {}\n  found: {}",
            wanted.join(", "),
            found.join(", ")
        ),
    })
}

/// What a base is called in policy files: the agent, and what it reads in a form that has no second spelling.
fn source_of(bootstrap: &Bootstrap, pin: Option<&BasePin>, directory: &Path) -> String {
    let file = |agent: &str, path: &Path| {
        let path = directory.join(path);
        format!("{agent}:{}", fs::canonicalize(&path).unwrap_or(path).display())
    };
    let registry = |agent: &str, reference: Option<Reference>, from: &str| match reference {
        Some(reference) => {
            let registry = canonical_host(&reference.registry);
            let repository = match reference.repository.contains('/') || registry != DEFAULT_REGISTRY {
                true => reference.repository.clone(),
                false => format!("library/{}", reference.repository),
            };
            // The tag beside a digest decides nothing: anything may be written there.
            let tag = reference.tag.clone().filter(|_| reference.digest.is_none());
            format!("{agent}://{}", Reference { registry, repository, tag, digest: reference.digest })
        }
        None => format!("{agent}://{from}"),
    };
    // Of an archive or a layout, only the path: what stands behind it is a tag in it.
    let image = |agent: &str, base: &FileBase| file(agent, &oci_source(bootstrap, base).place);
    match bootstrap {
        Bootstrap::Docker(base) => registry("docker", reference_of(base).ok(), &base.from.value),
        Bootstrap::Oras(base) => {
            registry("oras", Reference::parse(base.from.value.trim()).ok(), base.from.value.trim())
        }
        Bootstrap::Library(base) => match pin {
            Some(BasePin::Library { reference, url, .. }) => library_name(url, reference),
            _ => library_of(base).unwrap_or_else(|| format!("library://{}", base.from.value.trim())),
        },
        Bootstrap::Localimage(base) => file("localimage", Path::new(&base.from.value)),
        Bootstrap::Oci(base) => image("oci", base),
        Bootstrap::OciArchive(base) => image("oci-archive", base),
        Bootstrap::DockerArchive(base) => image("docker-archive", base),
        Bootstrap::DockerDaemon(base) => format!("docker-daemon:{}", base.from.value.trim()),
        Bootstrap::Scratch => "scratch:".to_owned(),
        Bootstrap::Busybox { mirror_url } => format!("busybox:{}", mirror_url.value),
        Bootstrap::Debootstrap(base) => {
            let mirror = base.mirror_url.as_ref().map_or("host", |url| url.value.trim_end_matches('/'));
            format!("debootstrap:{mirror}/{}", base.os_version.value)
        }
        Bootstrap::Yum(base) => format!("{}:{}", base.agent, base.mirror_url.value.trim_end_matches('/')),
        Bootstrap::Arch(base) => {
            let mirror = base.mirror_url.as_ref().map_or("distribution", |url| url.value.trim_end_matches('/'));
            let conf = base.conf_url.as_ref().map(|url| format!(" {}", url.value)).unwrap_or_default();
            format!("arch:{mirror}{conf}")
        }
        Bootstrap::Absent(agent) => format!("{}:", agent.value),
    }
}

/// Also addresses of numbers that are written in other ways.
fn canonical_host(registry: &str) -> String {
    let parsed = Url::parse(&format!("https://{registry}/")).ok();
    let host = parsed.as_ref().and_then(|url| {
        let host = url.host_str()?;
        Some(url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")))
    });
    canonical_registry(host.as_deref().unwrap_or(registry))
}

/// The image in the library at `url`, whose host, port and path count.
fn library_name(url: &str, reference: &str) -> String {
    let Ok(parsed) = Url::parse(url) else { return format!("library://{url}/{reference}") };
    let host = parsed.host_str().unwrap_or_default();
    let host = parsed.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
    let path = parsed.path().trim_end_matches('/');
    format!("library://{}{path}/{reference}", canonical_registry(&host))
}

/// The same of a definition that names the library.
fn library_of(base: &LibraryBase) -> Option<String> {
    let reference = LibraryReference::parse(base.from.value.trim()).ok()?;
    let address = base.library.as_deref().or(reference.host.as_deref())?;
    let url = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    Some(library_name(&url, &reference.to_string()))
}

/// The digest in the definition's own reference.
fn named_digest(bootstrap: &Bootstrap) -> Option<Digest> {
    match bootstrap {
        Bootstrap::Docker(base) => reference_of(base).ok()?.digest,
        Bootstrap::Oras(base) => Reference::parse(base.from.value.trim()).ok()?.digest,
        _ => None,
    }
}

fn fingerprints(bootstrap: &Bootstrap) -> Option<&[String]> {
    match bootstrap {
        Bootstrap::Localimage(base) | Bootstrap::Oras(base) => Some(&base.fingerprints),
        Bootstrap::Library(base) => Some(&base.fingerprints),
        _ => None,
    }
}

/// Who signed all of the base. What carries no signature has no signers, and says why.
fn signers(
    pin: &BasePin,
    source: &str,
    place: &str,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<Signers, BuildError> {
    let none = |shown: &str| Ok(Signers { keys: Vec::new(), known: false, shown: shown.to_owned() });
    let base = |cause: String| BuildError::Base { place: place.to_owned(), cause };
    match pin {
        BasePin::Scratch => Ok(Signers { keys: Vec::new(), known: true, shown: "nobody, for it is empty".to_owned() }),
        BasePin::Local { kind: LocalKind::Sif, digest, path } => {
            of_sif(&options.directory.join(path), digest, source, place, engine, options)
        }
        BasePin::Oras { .. } | BasePin::Library { .. } => {
            let (path, digest) = bring(pin, engine, options).map_err(base)?;
            of_sif(&path, &digest, source, place, engine, options)
        }
        BasePin::Debian { lines } => {
            let pin = DebianPin::parse(lines).map_err(|error| base(error.to_string()))?;
            let keys: Vec<Fingerprint> = pin.signers.iter().filter_map(|text| Fingerprint::parse(text)).collect();
            let shown = format!("{} (the distribution's release)", pin.signers.join(", "));
            Ok(Signers { known: !keys.is_empty(), keys, shown })
        }
        BasePin::Rpm { lines } | BasePin::Pacman { lines } => {
            let pin = RpmPin::parse(lines).map_err(|error| base(error.to_string()))?;
            let every: Vec<&Vec<String>> = pin.repositories.iter().map(|one| &one.signers).collect();
            // A key counts when it signed every repository; packages are checked one by one when they come.
            let first = every.first().map_or(&[][..], |signers| signers.as_slice());
            let common = first.iter().filter(|key| every.iter().all(|signers| signers.contains(key)));
            let keys: Vec<Fingerprint> = common.filter_map(|text| Fingerprint::parse(text)).collect();
            let shown = match keys.is_empty() {
                true => "nobody: its repositories are not signed, their packages are".to_owned(),
                false => format!(
                    "{} (the repositories)",
                    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ),
            };
            Ok(Signers { known: !keys.is_empty(), keys, shown })
        }
        BasePin::Local { kind: LocalKind::Sandbox, .. } => none("no signature: a directory has none"),
        BasePin::Local { kind: LocalKind::Squashfs, .. } => none("no signature: a bare squashfs has none"),
        BasePin::Docker { .. } | BasePin::OciLayout { .. } => {
            none("no signature: images of this kind have none that is read here; a policy can ask for their digests")
        }
        BasePin::Busybox { .. } => none("no signature: a bare program has none"),
    }
}

fn of_sif(
    path: &Path,
    digest: &Digest,
    source: &str,
    place: &str,
    engine: &Engine<'_>,
    options: &Options,
) -> Result<Signers, BuildError> {
    let fault = |cause: String| BuildError::Base { place: place.to_owned(), cause };
    let untrusted = |cause: String| BuildError::Untrusted { place: place.to_owned(), cause };
    // The file that is judged is the one whose digest was pinned; `local::provide` reads none that has another, and is checked to the end.
    let pinned: local::Pinned = engine.digests.open(path, digest).map_err(|error| fault(error.to_string()))?;
    let file = pinned.file.try_clone().map_err(|error| fault(error.to_string()))?;
    let mut sif = Sif::read(file).map_err(|error| fault(format!("{source}: {error}")))?;
    let named = issuers(&mut sif, Scope::Groups, false).map_err(|error| fault(format!("{source}: {error}")))?;
    let ask = engine.ask.filter(|_| !options.offline);
    let found = options.trust.places.gather(&named, ask).map_err(|error| fault(error.to_string()))?;
    let material = Material {
        keyring: Some(&found.keyring),
        policy: KeyPolicy::at(options.now.seconds),
        keys: &[],
        legacy: false,
    };
    let report = verify(&mut sif, Scope::Groups, &material).map_err(|error| fault(format!("{source}: {error}")))?;
    pinned.check().map_err(|error| fault(error.to_string()))?;
    for warning in &report.doubts {
        engine.observer.observe(Event::Warning(format!("{source}: {warning}")));
    }
    if let Some(complaint) = report.complaint() {
        let faults: String = found.faults.iter().map(|fault| format!("\n  keyserver: {fault}")).collect();
        return Err(untrusted(format!("{source} is not verified: {complaint}{faults}")));
    }
    let keys = report.signers_of_everything();
    let name = |key: &Fingerprint| {
        let verified = report.signatures.iter().find_map(|signature| match &signature.signer {
            Some(Signer::Pgp(verified)) if verified.fingerprint == *key => verified.user_ids.first(),
            _ => None,
        });
        format!(
            "{key}{}{}",
            verified.map(|name| format!(" ({})", name.escape_debug())).unwrap_or_default(),
            origin(&found, key)
        )
    };
    let shown = match keys.as_slice() {
        [] => "no key that signed everything".to_owned(),
        keys => keys.iter().map(name).collect::<Vec<_>>().join(", "),
    };
    let known = keys.iter().any(|key| matches!(found.origins.get(key), Some(Origin::Local | Origin::Global)));
    Ok(Signers { keys, known, shown })
}

fn origin(found: &Found, key: &Fingerprint) -> &'static str {
    match found.origins.get(key) {
        Some(Origin::Remote) => ", a key from a keyserver",
        _ => "",
    }
}
