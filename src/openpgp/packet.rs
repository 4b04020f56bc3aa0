//! Where the packets of a stream begin and end, and which of them make up one key. Source: RFC 9580 §4.2, §10.1.

use std::ops::Range;

const SIGNATURE: u8 = 2;
pub const SECRET_KEY: u8 = 5;
pub const PUBLIC_KEY: u8 = 6;
/// Packets that say nothing: markers, a keyring's own trust notes, padding.
const SILENT: [u8; 3] = [10, 12, 21];
/// The type of a signature that revokes a primary key.
const KEY_REVOCATION: u8 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("byte {at} begins no OpenPGP packet")]
    NoPacket { at: usize },
    #[error("the packet at byte {at} goes beyond the end of the data")]
    Truncated { at: usize },
    #[error("the packet at byte {at} does not say how long it is")]
    NoLength { at: usize },
}

/// One packet: its type, and where it lies with its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub tag: u8,
    pub place: Range<usize>,
    /// Where its header ends.
    pub body: usize,
}

/// What a stream holds.
#[derive(Debug, Default)]
pub struct Stream {
    /// Each key's tag, and its packets.
    pub keys: Vec<(u8, Vec<u8>)>,
    /// Every revocation of a primary key, and the index of the key that it stands behind. It may be another's.
    pub revocations: Vec<(Option<usize>, Vec<u8>)>,
    /// What follows it is lost.
    pub fault: Option<PacketError>,
}

/// The packets of a stream, up to the first fault.
pub fn packets(bytes: &[u8]) -> impl Iterator<Item = Result<Packet, PacketError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        let packet = read(bytes, at);
        at = packet.as_ref().map_or(bytes.len(), |packet| packet.place.end);
        Some(packet)
    })
}

/// Splits a stream into keys, each with all packets up to the next key. Packets before the first key, and packets that say nothing,
/// are left out.
///
/// A revocation is put right behind the primary key. It belongs there (RFC 9580 §10.1.1), and the `pgp` crate takes it for something
/// else behind a user id or a subkey; but that is where it stands after `cat key revocation`.
pub fn transferable_keys(bytes: &[u8]) -> Stream {
    let mut stream = Stream::default();
    let mut keys: Vec<Places> = Vec::new();
    for packet in packets(bytes) {
        let packet = match packet {
            Ok(packet) => packet,
            Err(fault) => {
                stream.fault = Some(fault);
                break;
            }
        };
        let is_revocation = packet.tag == SIGNATURE && is_key_revocation(&bytes[packet.body..packet.place.end]);
        if is_revocation {
            stream.revocations.push((keys.len().checked_sub(1), bytes[packet.place.clone()].to_vec()));
        }
        match keys.last_mut() {
            _ if matches!(packet.tag, SECRET_KEY | PUBLIC_KEY) => {
                keys.push(Places { tag: packet.tag, head: vec![packet.place], rest: Vec::new() });
            }
            Some(key) if is_revocation => key.head.push(packet.place),
            Some(key) if !SILENT.contains(&packet.tag) => key.rest.push(packet.place),
            _ => {}
        }
    }
    let joined = |found: &Places| {
        let places = || found.head.iter().chain(&found.rest).cloned();
        // At once: what grows leaves copies of secrets behind.
        let mut key = Vec::with_capacity(places().map(|place| place.len()).sum());
        places().for_each(|place| key.extend_from_slice(&bytes[place]));
        key
    };
    stream.keys = keys.iter().map(|found| (found.tag, joined(found))).collect();
    stream
}

/// Where the packets of one key are: the primary key with its revocations, and all others.
struct Places {
    tag: u8,
    head: Vec<Range<usize>>,
    rest: Vec<Range<usize>>,
}

/// By the body of a signature packet: its version, then its type; in the old versions a length stands between.
fn is_key_revocation(body: &[u8]) -> bool {
    match body {
        [2 | 3, 5, kind, ..] | [4..=6, kind, ..] => *kind == KEY_REVOCATION,
        _ => false,
    }
}

fn read(bytes: &[u8], at: usize) -> Result<Packet, PacketError> {
    let truncated = PacketError::Truncated { at };
    let byte = |offset: usize| bytes.get(at + offset).copied().map(usize::from).ok_or(truncated);
    let first = byte(0)?;
    if first & 0x80 == 0 {
        return Err(PacketError::NoPacket { at });
    }
    let (tag, header, length) = if first & 0x40 != 0 {
        let (header, length) = match byte(1)? {
            short @ 0..=191 => (2, short),
            medium @ 192..=223 => (3, ((medium - 192) << 8) + byte(2)? + 192),
            // Partial lengths are for data, and no key holds data.
            224..=254 => return Err(PacketError::NoLength { at }),
            _ => (6, byte(2)? << 24 | byte(3)? << 16 | byte(4)? << 8 | byte(5)?),
        };
        (first & 0x3F, header, length)
    } else {
        let (header, length) = match first & 3 {
            0 => (2, byte(1)?),
            1 => (3, byte(1)? << 8 | byte(2)?),
            2 => (5, byte(1)? << 24 | byte(2)? << 16 | byte(3)? << 8 | byte(4)?),
            _ => return Err(PacketError::NoLength { at }),
        };
        (first >> 2 & 0x0F, header, length)
    };
    let end = at.checked_add(header + length).filter(|end| *end <= bytes.len()).ok_or(truncated)?;
    Ok(Packet { tag: tag as u8, place: at..end, body: at + header })
}
