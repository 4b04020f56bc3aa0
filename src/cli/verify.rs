//! `sifbuild verify`: the signatures of an image, in Apptainer's words and forms.

use super::arguments::lookup;
use super::build::{Stop, finish};
use super::key::{places, printable};
use super::keyserver::Asker;
use super::progress::Terminal;
use super::{GlobalArguments, exit, session};
use crate::event::{Event, Observer};
use crate::keyrings::{Found, Origin};
use crate::openpgp::{Policy, WeakSelfSignatures};
use crate::sif::format::{Descriptor, Link};
use crate::sif::reader::Sif;
use crate::sif::signature::report::{UNCOVERED_DESCRIPTOR_FIELDS, UNCOVERED_HEADER_FIELDS};
use crate::sif::signature::{
    Fault, MAXIMUM_KEY_FILE, Material, PublicKey, Report, Scope, SignatureReport, Signer, certificate, issuers, verify,
};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

/// Verify the signatures of an image
#[derive(clap::Args, Clone, Debug, Default)]
pub struct VerifyArguments {
    pub image: PathBuf,
    /// Verify the objects of this group
    #[arg(short, long, value_name = "ID", alias = "groupid", conflicts_with = "sif_id")]
    pub group_id: Option<u32>,
    /// Verify this object
    #[arg(short = 'i', long, value_name = "ID", alias = "id")]
    pub sif_id: Option<u32>,
    /// Verify all objects: the default, but for legacy signatures
    #[arg(short, long)]
    pub all: bool,
    /// Verify signatures of Singularity before 3.6, which say nothing but the digest of bytes
    #[arg(long)]
    pub legacy_insecure: bool,
    /// Public key that must have signed, a PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "certificate")]
    pub key: Option<PathBuf>,
    /// Certificate whose key must have signed, a PEM file
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Certificates between it and a root, a PEM file
    #[arg(long, value_name = "FILE")]
    pub certificate_intermediates: Option<PathBuf>,
    /// Root certificates, a PEM file [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub certificate_roots: Option<PathBuf>,
    /// Not supported: ask whether certificates were revoked
    #[arg(long, hide = true)]
    pub ocsp_verify: bool,
    /// Keyserver for keys that are in no keyring
    #[arg(short, long, value_name = "URL")]
    pub url: Option<String>,
    /// Ask no keyserver
    #[arg(short, long)]
    pub local: bool,
    /// Print the result as JSON
    #[arg(short, long)]
    pub json: bool,
    /// Refuse keys that vouch for themselves with SHA-1
    #[arg(long)]
    pub strict: bool,
    /// Directory of the user's keyrings
    #[arg(short = 'd', long, value_name = "DIR")]
    pub keysdir: Option<PathBuf>,
}

impl VerifyArguments {
    fn fill(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        let text = |name: &str| lookup(name, variable).filter(|value| !value.is_empty());
        let yes = |name: &str| {
            text(name).is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
        };
        if self.key.is_none() && self.certificate.is_none() {
            self.key = text("VERIFY_KEY").map(PathBuf::from);
            self.certificate = text("VERIFY_CERTIFICATE").map(PathBuf::from).filter(|_| self.key.is_none());
        }
        for (value, name) in [
            (&mut self.certificate_intermediates, "VERIFY_INTERMEDIATES"),
            (&mut self.certificate_roots, "VERIFY_ROOTS"),
        ] {
            if value.is_none() {
                *value = text(name).map(PathBuf::from);
            }
        }
        self.ocsp_verify |= yes("VERIFY_OCSP");
        self.local |= yes("LOCAL_VERIFY");
        self.json |= yes("JSON");
        if self.url.is_none() {
            self.url = text("URL");
        }
    }

    fn scope(&self) -> Scope {
        match (self.group_id, self.sif_id) {
            (Some(group), _) => Scope::Group(group),
            (_, Some(id)) => Scope::Object(id),
            _ if self.all => Scope::EachObject,
            _ => Scope::Groups,
        }
    }
}

pub fn run(mut arguments: VerifyArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    arguments.fill(&|name| std::env::var(name).ok());
    finish(check(&arguments, &terminal))
}

fn check(arguments: &VerifyArguments, terminal: &Terminal) -> Result<(), Stop> {
    let path = &arguments.image;
    if arguments.ocsp_verify {
        return Err(Stop::usage(
            "--ocsp-verify: certificates' revocation cannot be asked for; verify without it, or with Apptainer",
        ));
    }
    let unreadable = |cause: String| Stop {
        text: format!("Failed to verify container: {}: {cause}", path.display()),
        code: exit::SOURCE,
    };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut sif = Sif::read(file).map_err(|error| unreadable(error.to_string()))?;
    let keys = keys(arguments, terminal)?;
    let mut found = Found::default();
    if keys.is_empty() {
        terminal.observe(Event::Info("Verifying image with PGP key material".to_owned()));
        let named = issuers(&mut sif, arguments.scope(), arguments.legacy_insecure);
        let named = named.map_err(|error| unreadable(error.to_string()))?;
        found = gather(arguments, &named, terminal)?;
        for fault in &found.faults {
            terminal.observe(Event::Warning(fault.clone()));
        }
    }
    let mut policy = Policy::at(session::now().seconds);
    if arguments.strict {
        policy.weak_self_signatures = WeakSelfSignatures::Refuse;
    }
    let keyring = keys.is_empty().then_some(&found.keyring);
    let material = Material { keyring, policy, keys: &keys, legacy: arguments.legacy_insecure };
    let report = verify(&mut sif, arguments.scope(), &material).map_err(|error| unreadable(error.to_string()))?;
    let output = if arguments.json { json(&report, &sif, &found) } else { text(&report, &sif, &found) };
    let _ = std::io::stdout().lock().write_all(output.as_bytes());
    tell(&report, &sif, terminal);
    match report.complaint() {
        None => {
            terminal.observe(Event::Info(format!("Verified signature(s) from image '{}'", path.display())));
            Ok(())
        }
        Some(complaint) => {
            Err(Stop { text: format!("Failed to verify container: {complaint}"), code: exit::SIGNATURE })
        }
    }
}

/// The keyrings' keys, and those of keyservers unless that is not wanted.
fn gather(arguments: &VerifyArguments, named: &[crate::openpgp::Issuer], terminal: &Terminal) -> Result<Found, Stop> {
    let places = places(arguments.keysdir.as_deref());
    if arguments.local {
        return Ok(places.gather(named, None)?);
    }
    let asker = Asker::new(arguments.url.as_deref(), terminal);
    Ok(places.gather(named, Some(&|issuer| asker.ask(issuer)))?)
}

/// The bare key that was given, or a certificate's.
fn keys(arguments: &VerifyArguments, terminal: &Terminal) -> Result<Vec<PublicKey>, Stop> {
    if let Some(path) = &arguments.key {
        terminal.observe(Event::Info(format!("Verifying image with key material from '{}'", path.display())));
        let text = String::from_utf8_lossy(&read(path, MAXIMUM_KEY_FILE)?).into_owned();
        let key = PublicKey::from_pem(&text)
            .map_err(|error| Stop::usage(format!("the public key {} cannot be used: {error}", path.display())))?;
        return Ok(vec![key]);
    }
    let Some(path) = &arguments.certificate else { return Ok(Vec::new()) };
    terminal.observe(Event::Info(format!("Verifying image with key material from certificate '{}'", path.display())));
    let certificates = |what, path: &Path| {
        certificate::read(what, &read(path, certificate::MAXIMUM_CERTIFICATES)?)
            .map_err(|error| Stop::usage(format!("{}: {error}", path.display())))
    };
    let leaf = certificates("certificate", path)?;
    let intermediates = match &arguments.certificate_intermediates {
        Some(path) => certificates("intermediate certificates", path)?,
        None => Vec::new(),
    };
    let roots = match &arguments.certificate_roots {
        Some(path) => certificates("root certificates", path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let key = certificate::key(&leaf, &intermediates, &roots, session::now().seconds).map_err(|error| Stop {
        text: format!("Failed to verify container: {}: {error}", path.display()),
        code: exit::SIGNATURE,
    })?;
    Ok(vec![key])
}

/// A file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Stop> {
    let fault = |cause: String| Stop::usage(format!("cannot read {}: {cause}", path.display()));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| fault(error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(fault(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// What Apptainer prints of each signature.
fn text(report: &Report, sif: &Sif<File>, found: &Found) -> String {
    let mut text = String::new();
    for signature in &report.signatures {
        match &signature.signer {
            Some(Signer::Pgp(verified)) => {
                let prefix = match found.origins.get(&verified.fingerprint) {
                    Some(Origin::Global) => "[GLOBAL]",
                    Some(Origin::Local) => "[LOCAL]",
                    _ => "[REMOTE]",
                };
                let name = verified.user_ids.first().map_or_else(|| "unknown".to_owned(), |name| printable(name));
                let _ = writeln!(text, "{prefix:<18} Signing entity: {name}");
                let _ = writeln!(text, "{prefix:<18} Fingerprint: {}", verified.fingerprint);
            }
            // The key is the one that was given.
            Some(Signer::Keys(_)) | None => {}
        }
        if !signature.covered.is_empty() {
            text.push_str("Objects verified:\nID  |GROUP   |LINK    |TYPE\n");
            let _ = writeln!(text, "{}", "-".repeat(48));
            for object in signature.covered.iter().filter_map(|id| sif.object(*id)) {
                text.push_str(&row(object));
            }
        }
        if let Some(fault) = &signature.fault {
            let _ = writeln!(text, "\nError encountered during signature verification: {fault}");
        }
    }
    text
}

fn row(object: &Descriptor) -> String {
    let group = object.group().map_or("NONE".to_owned(), |group| group.to_string());
    let link = match object.link() {
        Link::None => "NONE".to_owned(),
        Link::Object(id) => id.to_string(),
        Link::Group(group) => format!("{group} (G)"),
    };
    format!("{:<4}|{group:<8}|{link:<8}|{}\n", object.id, object.data_type.text())
}

/// What Apptainer does not tell: what is not covered, and what is odd.
fn tell(report: &Report, sif: &Sif<File>, terminal: &Terminal) {
    for fault in report.faults.iter().skip(1) {
        terminal.observe(Event::Warning(fault.to_string()));
    }
    for doubt in &report.doubts {
        terminal.observe(Event::Warning(doubt.to_string()));
    }
    for object in report.uncovered.iter().filter_map(|id| sif.object(*id)) {
        let name = printable(&object.name());
        let name = if name.is_empty() { String::new() } else { format!(" {name}") };
        terminal.observe(Event::Warning(format!(
            "object {} ({}{name}) is covered by no verified signature",
            object.id,
            object.data_type.text()
        )));
    }
    terminal.observe(Event::Detail(format!(
        "no signature covers the header's {}, nor a descriptor's {}",
        UNCOVERED_HEADER_FIELDS.join(", "),
        UNCOVERED_DESCRIPTOR_FIELDS.join(", ")
    )));
}

/// Apptainer's document; the last two members are there when there is something to say.
#[derive(Serialize)]
struct Document {
    #[serde(rename = "Signatures")]
    signatures: usize,
    #[serde(rename = "SignerKeys")]
    signer_keys: Option<Vec<SignerKey>>,
    #[serde(rename = "NotCovered", skip_serializing_if = "Vec::is_empty")]
    not_covered: Vec<u32>,
    #[serde(rename = "Notes", skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Serialize)]
struct SignerKey {
    #[serde(rename = "Signer")]
    signer: SignerDocument,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SignerDocument {
    partition: String,
    name: String,
    fingerprint: String,
    key_local: bool,
    key_check: bool,
    data_check: bool,
}

fn json(report: &Report, sif: &Sif<File>, found: &Found) -> String {
    let mut keys = Vec::new();
    for signature in &report.signatures {
        let mut push = |id: u32, data_check: bool| {
            if let Some(object) = sif.object(id) {
                keys.push(SignerKey { signer: signer(signature, object, found, data_check) });
            }
        };
        signature.covered.iter().for_each(|id| push(*id, true));
        if let Some(Fault::Object { id }) = signature.fault {
            push(id, false);
        }
    }
    let document = Document {
        signatures: report.signatures.len(),
        signer_keys: (!keys.is_empty()).then_some(keys),
        not_covered: report.uncovered.clone(),
        notes: report.doubts.iter().map(ToString::to_string).collect(),
    };
    // Compat: Go writes these characters of a text as escapes.
    let text = serde_json::to_string_pretty(&document).expect("text and numbers have a JSON form");
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026") + "\n"
}

fn signer(signature: &SignatureReport, object: &Descriptor, found: &Found, data_check: bool) -> SignerDocument {
    let mut document = SignerDocument {
        partition: object.data_type.text().to_owned(),
        name: "unknown".to_owned(),
        fingerprint: String::new(),
        key_local: false,
        key_check: false,
        data_check,
    };
    if let Some(Signer::Pgp(verified)) = &signature.signer {
        if let Some(name) = verified.user_ids.first() {
            document.name.clone_from(name);
        }
        document.fingerprint = verified.fingerprint.to_string().to_lowercase();
        document.key_local = matches!(found.origins.get(&verified.fingerprint), Some(Origin::Local | Origin::Global));
        document.key_check = true;
    }
    document
}
