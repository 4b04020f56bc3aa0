//! Appending signatures to an image.

use super::Scope;
use super::digest::Digests;
use super::envelope::Envelope;
use super::key::{KeyError, PrivateKey};
use super::metadata::Metadata;
use super::verify::{group_objects, groups, lowest_id};
use crate::openpgp::{Fingerprint, SecretError, SigningKey};
use crate::sif::edit::{self, EditError};
use crate::sif::format::{DataType, Extra, HashType, Link};
use crate::sif::reader::{ReadError, Sif};
use crate::sif::writer::ObjectOptions;
use std::io::{self, Read, Seek, Write};

/// What signs.
#[derive(Debug)]
pub enum SignWith<'a> {
    Pgp(&'a SigningKey),
    Key(&'a PrivateKey),
}

/// A key that is ready to sign.
#[derive(Debug)]
pub enum Signatory {
    Pgp(Box<SigningKey>),
    Key(Box<PrivateKey>),
}

impl Signatory {
    pub fn with(&self) -> SignWith<'_> {
        match self {
            Signatory::Pgp(key) => SignWith::Pgp(key),
            Signatory::Key(key) => SignWith::Key(key),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the image cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error("no object group in the image: there is nothing to sign")]
    NoGroup,
    #[error("object group {0} not found")]
    GroupNotFound(u32),
    #[error("object {0} not found")]
    ObjectNotFound(u32),
    #[error("object {0} is in no group, and cannot be signed")]
    Ungrouped(u32),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("key {0} is of version 6; an image has place for fingerprints of version 4 only")]
    LongFingerprint(Fingerprint),
}

/// Signs in place, and gives the ids of the new signature objects. `signed_at` (Unix seconds) dates OpenPGP signatures, `now` the image,
/// unless it is a reproducible one. Equal images, keys and times give equal bytes, but with keys of curve P-521.
pub fn sign<F: Read + Write + Seek>(
    file: &mut F,
    scope: Scope,
    with: &SignWith<'_>,
    signed_at: i64,
    now: i64,
) -> Result<Vec<u32>, SignError> {
    let mut messages = Vec::new();
    {
        let mut sif = Sif::read(&mut *file)?;
        let mut digests = Digests::default();
        for (group, objects) in selected(&sif, scope)? {
            let lowest = lowest_id(&sif, group);
            let metadata = Metadata::of(&mut sif, &objects, lowest, &mut digests)?;
            messages.push((group, message(&metadata, with, signed_at)?));
        }
    }
    let mut ids = Vec::new();
    for (group, (entity, message)) in messages {
        let options = ObjectOptions {
            group: None,
            link: Link::Group(group),
            extra: Extra::Signature { hash_type: HashType::SHA256, entity },
            ..ObjectOptions::new(DataType::SIGNATURE)
        };
        ids.push(edit::add(file, &options, &mut message.as_bytes(), now)?);
    }
    Ok(ids)
}

type Selected = Vec<(u32, Vec<crate::sif::format::Descriptor>)>;

fn selected<F>(sif: &Sif<F>, scope: Scope) -> Result<Selected, SignError> {
    let numbers = groups(sif);
    match scope {
        Scope::Group(group) if numbers.contains(&group) => Ok(vec![(group, group_objects(sif, group))]),
        Scope::Group(group) => Err(SignError::GroupNotFound(group)),
        Scope::Object(id) => {
            let object = sif.object(id).ok_or(SignError::ObjectNotFound(id))?;
            let group = object.group().ok_or(SignError::Ungrouped(id))?;
            Ok(vec![(group, vec![object.clone()])])
        }
        Scope::Groups | Scope::EachObject if numbers.is_empty() => Err(SignError::NoGroup),
        Scope::Groups | Scope::EachObject => {
            Ok(numbers.into_iter().map(|group| (group, group_objects(sif, group))).collect())
        }
    }
}

fn message(metadata: &Metadata, with: &SignWith<'_>, signed_at: i64) -> Result<([u8; 20], String), SignError> {
    let json = metadata.to_json();
    match with {
        SignWith::Pgp(key) => {
            let fingerprint = key.fingerprint();
            let entity =
                fingerprint.as_bytes().try_into().map_err(|_| SignError::LongFingerprint(fingerprint.clone()))?;
            Ok((entity, key.sign_cleartext(&json, signed_at)?))
        }
        SignWith::Key(key) => Ok(([0; 20], Envelope::sign(json.as_bytes(), key)?.to_json())),
    }
}
