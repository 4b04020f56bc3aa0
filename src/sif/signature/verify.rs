//! Judging all signatures of an image.
//!
//! Strict: every signature that is found for a group must hold, by whatever key; the objects that it signs must be exactly those of
//! the group; and in a whole image nothing may be outside of a group, nor any signature be about something that is not there.

use super::Scope;
use super::digest::{Algorithm, Digests, of_descriptor, of_header};
use super::envelope::Envelope;
use super::key::PublicKey;
use super::legacy;
use super::metadata::Metadata;
use super::report::{Doubt, Fault, ImageFault, Report, SignatureReport, Signer, Task};
use crate::openpgp::{Cleartext, Issuer, Judge, Keyring, Policy, policy};
use crate::sif::format::{DESCRIPTOR_SIZE, DataType, Descriptor, Extra, HEADER_SIZE, Link};
use crate::sif::reader::{ReadError, Sif};
use std::collections::BTreeSet;
use std::io::{self, Read, Seek};

/// Bytes of one signature object that are read.
pub const MAXIMUM_SIGNATURE: u64 = 1 << 20;
/// Signature objects of one image that are judged. Tables have place for 48 objects.
pub const MAXIMUM_SIGNATURES: usize = 256;

/// What signatures are judged by. A kind of signature whose material is missing does not hold.
#[derive(Clone, Debug)]
pub struct Material<'a> {
    pub keyring: Option<&'a Keyring>,
    pub policy: Policy,
    pub keys: &'a [PublicKey],
    /// Legacy signatures instead of the others.
    pub legacy: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the image cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the image has {count} signature objects; no more than {MAXIMUM_SIGNATURES} are judged")]
    TooMany { count: usize },
    #[error("object group {0} not found")]
    GroupNotFound(u32),
    #[error("object {0} not found")]
    ObjectNotFound(u32),
    #[error("the image has no object group: nothing in it can be signed")]
    NoGroup,
    #[error("the image has no primary partition")]
    NoPrimaryPartition,
}

/// Judges the image. An error means that it could not be judged; [`Report::holds`] tells the verdict.
pub fn verify<F: Read + Seek>(sif: &mut Sif<F>, scope: Scope, material: &Material<'_>) -> Result<Report, VerifyError> {
    let tasks = tasks(sif, scope, material.legacy)?;
    let signatures = signatures(sif)?;
    let mut report = Report::default();
    if matches!(scope, Scope::Groups | Scope::EachObject) && !material.legacy {
        report.faults = whole_image_faults(sif, &signatures);
    }
    let mut digests = Digests::default();
    let mut pgp = material.keyring.map(|keyring| Judge::new(material.policy, keyring));
    for task in &tasks {
        let mut found = false;
        for (descriptor, is_legacy) in &signatures {
            if *is_legacy == material.legacy && is_about(sif, descriptor, *task, *is_legacy) {
                found = true;
                report.signatures.push(judge(sif, descriptor, *task, material, &mut pgp, &mut digests)?);
            }
        }
        if !found {
            report.faults.push(ImageFault::NotSigned(*task));
        }
    }
    let good = report.signatures.iter().filter(|signature| signature.fault.is_none());
    let covered: BTreeSet<u32> = good.flat_map(|signature| signature.covered.iter().copied()).collect();
    report.uncovered = sif
        .objects()
        .filter(|object| object.data_type != DataType::SIGNATURE && !covered.contains(&object.id))
        .map(|object| object.id)
        .collect();
    report.doubts = doubts(sif, &report, &signatures, material.legacy)?;
    Ok(report)
}

/// Whom the OpenPGP signatures that [`verify`] judges name, each once, so that their keys can be looked up. Those that cannot be read are
/// left out: it tells of them.
pub fn issuers<F: Read + Seek>(sif: &mut Sif<F>, scope: Scope, legacy: bool) -> Result<Vec<Issuer>, VerifyError> {
    let tasks = tasks(sif, scope, legacy)?;
    let mut named = BTreeSet::new();
    for (descriptor, is_legacy) in signatures(sif)? {
        let is_judged = is_legacy == legacy && tasks.iter().any(|task| is_about(sif, &descriptor, *task, is_legacy));
        if !is_judged || descriptor.size as u64 > MAXIMUM_SIGNATURE {
            continue;
        }
        if let Ok(message) = cleartext(&sif.contents(&descriptor, MAXIMUM_SIGNATURE)?) {
            named.extend(policy::issuers(message.signature.as_bytes()).unwrap_or_default());
        }
    }
    Ok(named.into_iter().collect())
}

/// Numbers of the groups, in order.
pub(super) fn groups<F>(sif: &Sif<F>) -> BTreeSet<u32> {
    sif.objects().filter_map(Descriptor::group).collect()
}

pub(super) fn group_objects<F>(sif: &Sif<F>, group: u32) -> Vec<Descriptor> {
    sif.objects().filter(|object| object.group() == Some(group)).cloned().collect()
}

/// What the ids in a signature are relative to.
pub(super) fn lowest_id<F>(sif: &Sif<F>, group: u32) -> u32 {
    sif.objects().filter(|object| object.group() == Some(group)).map(|object| object.id).min().unwrap_or(0)
}

fn tasks<F>(sif: &Sif<F>, scope: Scope, legacy: bool) -> Result<Vec<Task>, VerifyError> {
    Ok(match scope {
        Scope::Group(group) if groups(sif).contains(&group) => vec![Task::Group(group)],
        Scope::Group(group) => return Err(VerifyError::GroupNotFound(group)),
        Scope::Object(id) if sif.object(id).is_some() => vec![Task::Object(id)],
        Scope::Object(id) => return Err(VerifyError::ObjectNotFound(id)),
        Scope::Groups if legacy => {
            let (partition, _) = sif.primary_partition().ok_or(VerifyError::NoPrimaryPartition)?;
            vec![Task::Object(partition.id)]
        }
        Scope::EachObject if legacy => {
            let objects = sif.objects().filter(|object| object.data_type != DataType::SIGNATURE);
            objects.map(|object| Task::Object(object.id)).collect()
        }
        Scope::Groups | Scope::EachObject => {
            let groups = groups(sif);
            if groups.is_empty() {
                return Err(VerifyError::NoGroup);
            }
            groups.into_iter().map(Task::Group).collect()
        }
    })
}

/// Every signature object, and whether it is a legacy one.
fn signatures<F: Read + Seek>(sif: &mut Sif<F>) -> Result<Vec<(Descriptor, bool)>, VerifyError> {
    let found: Vec<Descriptor> =
        sif.objects().filter(|object| object.data_type == DataType::SIGNATURE).cloned().collect();
    if found.len() > MAXIMUM_SIGNATURES {
        return Err(VerifyError::TooMany { count: found.len() });
    }
    let mut signatures = Vec::new();
    for descriptor in found {
        let is_read = descriptor.size as u64 <= MAXIMUM_SIGNATURE;
        let bytes = if is_read { sif.contents(&descriptor, MAXIMUM_SIGNATURE)? } else { Vec::new() };
        let is_legacy = cleartext(&bytes).is_ok_and(|message| legacy::is_legacy(&message.text));
        signatures.push((descriptor, is_legacy));
    }
    Ok(signatures)
}

fn cleartext(bytes: &[u8]) -> Result<Cleartext, crate::openpgp::CleartextError> {
    Cleartext::split(std::str::from_utf8(bytes).unwrap_or_default())
}

fn is_about<F>(sif: &Sif<F>, signature: &Descriptor, task: Task, is_legacy: bool) -> bool {
    match (task, signature.link()) {
        (Task::Group(group), Link::Group(linked)) => group == linked,
        (Task::Object(id), Link::Object(linked)) if is_legacy => id == linked,
        (Task::Object(id), Link::Group(linked)) if !is_legacy => {
            sif.object(id).is_some_and(|object| object.group() == Some(linked))
        }
        _ => false,
    }
}

fn whole_image_faults<F>(sif: &Sif<F>, signatures: &[(Descriptor, bool)]) -> Vec<ImageFault> {
    let groups = groups(sif);
    let is_legacy = |id: u32| signatures.iter().any(|(signature, is_legacy)| signature.id == id && *is_legacy);
    let fault = |object: &Descriptor| match object.data_type {
        DataType::SIGNATURE => {
            let (id, covers_nothing) = (object.id, ImageFault::CoversNothing { id: object.id });
            match object.link() {
                Link::Group(group) => (!groups.contains(&group)).then_some(covers_nothing),
                // Only those of old are of one object: any other one is judged with no group, and so never.
                Link::Object(linked) if is_legacy(id) => sif.object(linked).is_none().then_some(covers_nothing),
                Link::Object(_) => Some(ImageFault::WithoutGroup { id }),
                Link::None => Some(covers_nothing),
            }
        }
        _ => object.group().is_none().then_some(ImageFault::Ungrouped { id: object.id }),
    };
    sif.objects().filter_map(fault).collect()
}

fn judge<F: Read + Seek>(
    sif: &mut Sif<F>,
    descriptor: &Descriptor,
    task: Task,
    material: &Material<'_>,
    pgp: &mut Option<Judge<'_>>,
    digests: &mut Digests,
) -> Result<SignatureReport, VerifyError> {
    let mut report = SignatureReport { id: descriptor.id, task, signer: None, covered: Vec::new(), fault: None };
    let size = descriptor.size as u64;
    if size > MAXIMUM_SIGNATURE {
        report.fault = Some(Fault::TooLarge { size });
        return Ok(report);
    }
    let bytes = sif.contents(descriptor, MAXIMUM_SIGNATURE)?;
    match authenticate(&bytes, descriptor, material, pgp) {
        Ok((text, signer)) => {
            report.signer = Some(signer);
            let covered = &mut report.covered;
            report.fault = match material.legacy {
                true => check_legacy(sif, &text, descriptor, task, digests, covered)?,
                false => check(sif, &text, task, digests, covered)?,
            };
        }
        Err(fault) => report.fault = Some(fault),
    }
    Ok(report)
}

/// The text of a signature that is good, and who made it.
fn authenticate(
    bytes: &[u8],
    descriptor: &Descriptor,
    material: &Material<'_>,
    pgp: &mut Option<Judge<'_>>,
) -> Result<(Vec<u8>, Signer), Fault> {
    let Extra::Signature { hash_type, entity } = descriptor.extra() else { return Err(Fault::HashType) };
    let hash = Algorithm::of_descriptor(hash_type).ok_or(Fault::HashType)?;
    if let Some(envelope) = Envelope::parse(bytes) {
        if material.keys.is_empty() {
            return Err(Fault::NoKeys);
        }
        let (payload, signers) = envelope.verify(material.keys, hash)?;
        return Ok((payload, Signer::Keys(signers.into_iter().map(|key| key.id().to_owned()).collect())));
    }
    let message = cleartext(bytes).map_err(Fault::Format)?;
    let pgp = pgp.as_mut().ok_or(Fault::NoKeyring)?;
    let judged = pgp.judge(&message.signed_bytes(), message.signature.as_bytes())?;
    let mut signer = None;
    for verified in judged {
        let verified = verified?;
        if verified.fingerprint.as_bytes() != entity {
            return Err(Fault::OtherEntity { made_by: verified.fingerprint });
        }
        signer = Some(verified);
    }
    let signer = signer.ok_or(policy::BlockError::None)?;
    Ok((message.text.into_bytes(), Signer::Pgp(signer)))
}

/// What is not true of what a signature says of the image; `covered` gets the ids of the objects of which it is true.
fn check<F: Read + Seek>(
    sif: &mut Sif<F>,
    text: &[u8],
    task: Task,
    digests: &mut Digests,
    covered: &mut Vec<u32>,
) -> Result<Option<Fault>, VerifyError> {
    let metadata = match Metadata::parse(text) {
        Ok(metadata) => metadata,
        Err(error) => return Ok(Some(error.into())),
    };
    let (group, objects) = match task {
        Task::Group(group) => (group, group_objects(sif, group)),
        Task::Object(id) => match sif.object(id).cloned() {
            Some(object) => (object.group().unwrap_or(0), vec![object]),
            None => return Ok(Some(Fault::NotFound { id: u64::from(id) })),
        },
    };
    let lowest = lowest_id(sif, group);
    if let Task::Group(_) = task {
        let ids: BTreeSet<u64> = objects.iter().map(|object| u64::from(object.id)).collect();
        let mut signed = metadata.objects.iter().map(|signed| u64::from(lowest) + u64::from(signed.relative_id));
        if let Some(id) = signed.find(|id| !ids.contains(id)) {
            return Ok(Some(Fault::NotFound { id }));
        }
    }
    let mut pairs = Vec::new();
    for object in objects {
        let relative_id = object.id.wrapping_sub(lowest);
        match metadata.objects.binary_search_by_key(&relative_id, |signed| signed.relative_id) {
            Ok(position) => pairs.push((object, &metadata.objects[position])),
            Err(_) => return Ok(Some(Fault::NotSigned { id: object.id })),
        }
    }
    if of_header(sif.header(), metadata.header.algorithm) != metadata.header {
        return Ok(Some(Fault::Header));
    }
    for (object, signed) in pairs {
        if of_descriptor(&object, lowest, signed.descriptor.algorithm) != signed.descriptor {
            return Ok(Some(Fault::Descriptor { id: object.id }));
        }
        if digests.of_object(sif, &object, signed.object.algorithm)? != signed.object {
            return Ok(Some(Fault::Object { id: object.id }));
        }
        covered.push(object.id);
    }
    Ok(None)
}

fn check_legacy<F: Read + Seek>(
    sif: &mut Sif<F>,
    text: &[u8],
    descriptor: &Descriptor,
    task: Task,
    digests: &mut Digests,
    covered: &mut Vec<u32>,
) -> Result<Option<Fault>, VerifyError> {
    let Extra::Signature { hash_type, .. } = descriptor.extra() else { return Ok(Some(Fault::HashType)) };
    let Some(hash) = Algorithm::of_descriptor(hash_type) else { return Ok(Some(Fault::HashType)) };
    let Some(signed) = std::str::from_utf8(text).ok().and_then(|text| legacy::parse(text, hash)) else {
        return Ok(Some(Fault::Legacy));
    };
    let (objects, fault) = match task {
        Task::Group(group) => (group_objects(sif, group), Fault::Objects),
        Task::Object(id) => (sif.object(id).cloned().into_iter().collect(), Fault::Object { id }),
    };
    if digests.of_objects(sif, &objects, hash)? != signed {
        return Ok(Some(fault));
    }
    covered.extend(objects.into_iter().map(|object| object.id));
    Ok(None)
}

fn doubts<F: Read + Seek>(
    sif: &mut Sif<F>,
    report: &Report,
    signatures: &[(Descriptor, bool)],
    legacy: bool,
) -> Result<Vec<Doubt>, VerifyError> {
    let mut doubts: Vec<Doubt> = Vec::new();
    for signature in &report.signatures {
        if let Some(Signer::Pgp(verified)) = &signature.signer {
            doubts.extend(verified.warnings.iter().cloned().map(Doubt::Key));
        }
    }
    doubts.dedup();
    if let Some((_, partition)) = sif.primary_partition() {
        let text = |code: &[u8; 3], arch: Option<crate::arch::Arch>| {
            arch.map_or_else(
                || String::from_utf8_lossy(code).escape_default().to_string(),
                |arch| arch.oci().to_owned(),
            )
        };
        if sif.header().arch != partition.arch {
            let (header, partition) =
                (text(&sif.header().arch, sif.header().arch()), text(&partition.arch, partition.arch()));
            doubts.push(Doubt::Architecture { header, partition });
        }
    }
    let count = hidden_bytes(sif)?;
    doubts.extend((count > 0).then_some(Doubt::HiddenBytes { count }));
    match legacy {
        true => doubts.push(Doubt::LegacyCover),
        false => doubts.extend(
            signatures.iter().filter(|(_, is_legacy)| *is_legacy).map(|(object, _)| Doubt::Legacy { id: object.id }),
        ),
    }
    Ok(doubts)
}

/// Bytes that are neither header nor table nor object, and not zero: what was deleted, or put there.
fn hidden_bytes<F: Read + Seek>(sif: &mut Sif<F>) -> io::Result<u64> {
    let header = sif.header();
    let table = header.descriptors_offset as u64;
    let table_end = table + header.descriptors_total as u64 * DESCRIPTOR_SIZE as u64;
    let objects = sif.objects().map(|object| (object.offset as u64, object.end() as u64));
    let mut places: Vec<(u64, u64)> = objects.chain([(0, HEADER_SIZE as u64), (table, table_end)]).collect();
    places.sort_unstable();
    let size = sif.size()?;
    places.push((size, size));
    let (mut count, mut end) = (0, 0);
    for (start, next_end) in places {
        if start > end {
            count += nonzero(&mut sif.window(end, start - end))?;
        }
        end = end.max(next_end);
    }
    Ok(count)
}

fn nonzero(reader: &mut impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut count = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(count),
            length => count += buffer[..length].iter().filter(|byte| **byte != 0).count() as u64,
        }
    }
}
