//! From a passphrase to the volume key and back: stretching, the anti-forensic splitter, the area's encryption.

use super::cipher::{self, KEY_SIZE, Sectors};
use super::format::{AntiForensic, Area, Base64, KdfParameters, Keyslot, Number};
use super::reader::UnlockError;
use super::{Entropy, format};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rsa::sha2::{Digest, Sha256, Sha512};
use std::io;
use zeroize::Zeroizing;

/// Copies of the key that must all be there.
const STRIPES: u32 = 4000;
/// Bytes of the split key, and with the rounding to 4096 that cryptsetup makes.
const MATERIAL: usize = KEY_SIZE * STRIPES as usize;
pub(super) const AREA_SIZE: u64 = (MATERIAL as u64).next_multiple_of(4096);
const SALT_SIZE: usize = 32;
/// The material is enciphered in sectors of this size, whatever the payload has.
const SECTOR: usize = 512;

/// The key that the payload is encrypted with.
pub type VolumeKey = Zeroizing<[u8; KEY_SIZE]>;

/// How a new container's passphrase is stretched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kdf {
    /// `memory` in KiB.
    Argon2id { time: u32, memory: u32, cpus: u32 },
    /// With SHA-256.
    Pbkdf2 { iterations: u32 },
}

/// What unlocking may cost: a header from a stranger decides it otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// KiB that one Argon2 may take.
    pub memory: u32,
    /// KiB times passes of all Argon2 together.
    pub work: u64,
    /// Iterations of all PBKDF2 together.
    pub iterations: u64,
}

impl Default for Limits {
    /// The most that cryptsetup makes (4 GiB), about a minute of work.
    fn default() -> Limits {
        Limits { memory: 4 << 20, work: 64 << 20, iterations: 100_000_000 }
    }
}

/// A keyslot at `offset`, and the bytes of its area.
pub(super) fn seal(
    key: &VolumeKey,
    passphrase: &[u8],
    kdf: Kdf,
    offset: u64,
    random: Entropy<'_>,
) -> io::Result<(Keyslot, Vec<u8>)> {
    let mut salt = vec![0; SALT_SIZE];
    random(&mut salt)?;
    let salt = Base64(salt);
    let kdf = match kdf {
        Kdf::Argon2id { time, memory, cpus } => KdfParameters::Argon2id { time, memory, cpus, salt },
        Kdf::Pbkdf2 { iterations } => KdfParameters::Pbkdf2 { hash: "sha256".to_owned(), iterations, salt },
    };
    let area_key = stretch(passphrase, &kdf, &mut Limits::default()).map_err(io::Error::other)?;
    let mut area = split(key, random)?.to_vec();
    Sectors::new(&area_key, SECTOR).encrypt(&mut area, 0);
    area.resize(AREA_SIZE as usize, 0);
    let keyslot = Keyslot {
        kind: "luks2".to_owned(),
        key_size: KEY_SIZE as u32,
        af: Some(AntiForensic { kind: "luks1".to_owned(), stripes: STRIPES, hash: "sha256".to_owned() }),
        area: Area {
            kind: "raw".to_owned(),
            offset: Number(offset),
            size: Number(AREA_SIZE),
            encryption: cipher::NAME.to_owned(),
            key_size: KEY_SIZE as u32,
        },
        kdf: Some(kdf),
        priority: None,
    };
    Ok((keyslot, area))
}

/// The volume key, if the passphrase is this keyslot's; any other gives a wrong key. `material` are the first [`MATERIAL`] bytes of the area.
pub(super) fn open(
    keyslot: &Keyslot,
    material: &mut [u8],
    passphrase: &[u8],
    limits: &mut Limits,
) -> Result<VolumeKey, UnlockError> {
    let (kdf, af) = check(keyslot)?;
    let area_key = stretch(passphrase, kdf, limits)?;
    Sectors::new(&area_key, SECTOR).decrypt(material, 0);
    Ok(match af.hash.as_str() {
        "sha512" => merge::<Sha512>(material),
        _ => merge::<Sha256>(material),
    })
}

/// Bytes of a keyslot's area that its key is split into.
pub(super) fn material_size(keyslot: &Keyslot) -> Result<usize, UnlockError> {
    check(keyslot)?;
    if keyslot.area.size.0 < MATERIAL as u64 {
        return Err(UnlockError::Damaged("a keyslot's area is smaller than its key"));
    }
    Ok(MATERIAL)
}

fn check(keyslot: &Keyslot) -> Result<(&KdfParameters, &AntiForensic), UnlockError> {
    let unknown =
        |what: &str, found: &str| Err(UnlockError::Unknown { what: what.to_owned(), found: found.to_owned() });
    if keyslot.kind != "luks2" {
        return unknown("keyslot", &keyslot.kind);
    }
    let (Some(af), Some(kdf)) = (&keyslot.af, &keyslot.kdf) else {
        return Err(UnlockError::Damaged("a keyslot does not say how it is opened"));
    };
    if af.kind != "luks1" || af.stripes != STRIPES || !["sha256", "sha512"].contains(&af.hash.as_str()) {
        return unknown("anti-forensic splitter", &format!("{} {} {}", af.kind, af.stripes, af.hash));
    }
    let area = &keyslot.area;
    if area.kind != "raw"
        || area.encryption != cipher::NAME
        || [area.key_size, keyslot.key_size] != [KEY_SIZE as u32; 2]
    {
        let found = format!("{} {} with {} bytes", area.kind, area.encryption, area.key_size);
        return unknown("keyslot cipher", &found);
    }
    Ok((kdf, af))
}

fn stretch(
    passphrase: &[u8],
    kdf: &KdfParameters,
    limits: &mut Limits,
) -> Result<Zeroizing<[u8; KEY_SIZE]>, UnlockError> {
    let mut key = Zeroizing::new([0; KEY_SIZE]);
    match kdf {
        KdfParameters::Argon2i { time, memory, cpus, salt } => {
            argon2(Algorithm::Argon2i, [*time, *memory, *cpus], passphrase, salt, limits, &mut *key)?;
        }
        KdfParameters::Argon2id { time, memory, cpus, salt } => {
            argon2(Algorithm::Argon2id, [*time, *memory, *cpus], passphrase, salt, limits, &mut *key)?;
        }
        KdfParameters::Pbkdf2 { hash, iterations, salt } => {
            pbkdf2(hash, *iterations, passphrase, salt, limits, &mut *key)?;
        }
    }
    Ok(key)
}

fn argon2(
    algorithm: Algorithm,
    [time, memory, cpus]: [u32; 3],
    passphrase: &[u8],
    salt: &Base64,
    limits: &mut Limits,
    key: &mut [u8],
) -> Result<(), UnlockError> {
    let work = u64::from(time) * u64::from(memory);
    if memory > limits.memory || work > limits.work {
        return Err(UnlockError::Cost { found: format!("Argon2 with {memory} KiB and {time} passes") });
    }
    limits.work -= work;
    let fault = |_| UnlockError::Damaged("its Argon2 parameters are not valid");
    let parameters = Params::new(memory, time, cpus, Some(key.len())).map_err(fault)?;
    let count = parameters.block_count();
    let mut blocks: Vec<Block> = Vec::new();
    blocks.try_reserve_exact(count).map_err(|_| UnlockError::Memory { kib: memory })?;
    blocks.resize(count, Block::default());
    Argon2::new(algorithm, Version::V0x13, parameters)
        .hash_password_into_with_memory(passphrase, &salt.0, key, &mut blocks)
        .map_err(fault)
}

/// Also what digests of volume keys are made with.
pub(super) fn pbkdf2(
    hash: &str,
    iterations: u32,
    passphrase: &[u8],
    salt: &Base64,
    limits: &mut Limits,
    key: &mut [u8],
) -> Result<(), UnlockError> {
    let work = u64::from(iterations);
    if work > limits.iterations || iterations == 0 {
        return Err(UnlockError::Cost { found: format!("PBKDF2 with {iterations} iterations") });
    }
    limits.iterations -= work;
    match hash {
        "sha256" => pbkdf2::pbkdf2_hmac::<Sha256>(passphrase, &salt.0, iterations, key),
        "sha512" => pbkdf2::pbkdf2_hmac::<Sha512>(passphrase, &salt.0, iterations, key),
        _ => return Err(UnlockError::Unknown { what: "hash".to_owned(), found: hash.to_owned() }),
    }
    Ok(())
}

/// Spreads a key over its stripes: one lost stripe loses it.
fn split(key: &VolumeKey, random: Entropy<'_>) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut material = Zeroizing::new(vec![0; MATERIAL]);
    let (stripes, last) = material.split_at_mut(MATERIAL - KEY_SIZE);
    random(stripes)?;
    let sum = chained::<Sha256>(stripes);
    for ((place, key), sum) in last.iter_mut().zip(key.iter()).zip(sum.iter()) {
        *place = key ^ sum;
    }
    Ok(material)
}

fn merge<H: Digest>(material: &[u8]) -> VolumeKey {
    let (stripes, last) = material.split_at(MATERIAL - KEY_SIZE);
    let mut key = chained::<H>(stripes);
    key.iter_mut().zip(last).for_each(|(place, byte)| *place ^= byte);
    key
}

/// All stripes added up, spread out after each.
fn chained<H: Digest>(stripes: &[u8]) -> VolumeKey {
    let mut sum = Zeroizing::new([0; KEY_SIZE]);
    for stripe in stripes.chunks_exact(KEY_SIZE) {
        sum.iter_mut().zip(stripe).for_each(|(place, byte)| *place ^= byte);
        let size = <H as Digest>::output_size();
        for (number, part) in sum.chunks_mut(size).enumerate() {
            let mut hasher = H::new();
            hasher.update((number as u32).to_be_bytes());
            hasher.update(&*part);
            part.copy_from_slice(&hasher.finalize()[..part.len()]);
        }
    }
    sum
}

/// What says that a volume key is the right one.
pub(super) fn digest_of(key: &VolumeKey, random: Entropy<'_>) -> io::Result<format::VolumeKeyDigest> {
    let mut salt = vec![0; SALT_SIZE];
    random(&mut salt)?;
    let (salt, mut digest) = (Base64(salt), vec![0; 32]);
    pbkdf2("sha256", DIGEST_ITERATIONS, &key[..], &salt, &mut Limits::default(), &mut digest)
        .map_err(io::Error::other)?;
    Ok(format::VolumeKeyDigest {
        kind: "pbkdf2".to_owned(),
        keyslots: vec!["0".to_owned()],
        segments: vec!["0".to_owned()],
        hash: "sha256".to_owned(),
        iterations: DIGEST_ITERATIONS,
        salt,
        digest: Base64(digest),
    })
}

/// A volume key has 512 random bits: nobody guesses it, however cheap a guess is. As much as cryptsetup takes on a usual computer.
const DIGEST_ITERATIONS: u32 = 100_000;
