//! The text form of OpenPGP data. Source: RFC 9580 §6.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgp::armor::{Dearmor, DearmorOptions};
use std::io::Read as _;

const BEGIN: &[u8] = b"-----BEGIN PGP ";
const END: &[u8] = b"-----END PGP ";
const LINE: usize = 64;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    PublicKey,
    PrivateKey,
    Signature,
}

impl Block {
    fn title(self) -> &'static str {
        match self {
            Block::PublicKey => "PUBLIC KEY BLOCK",
            Block::PrivateKey => "PRIVATE KEY BLOCK",
            Block::Signature => "SIGNATURE",
        }
    }
}

/// Without a line end at the end.
///
/// # Why
/// RFC 9580 advises against the checksum line, and Apptainer writes none; but gpg before 2.4 does not find the end of data whose
/// length is a multiple of three without it.
pub fn encode(block: Block, bytes: &[u8]) -> String {
    let title = block.title();
    let mut text = format!("-----BEGIN PGP {title}-----\n\n");
    let encoded = STANDARD.encode(bytes);
    for line in encoded.as_bytes().chunks(LINE) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    let checksum = STANDARD.encode(&checksum(bytes).to_be_bytes()[1..]);
    text + &format!("={checksum}\n-----END PGP {title}-----")
}

/// CRC-24. Source: RFC 9580 §6.1.1.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xB7_04CE, |checksum, byte| {
        (0..8).fold(checksum ^ u32::from(*byte) << 16, |checksum, _| {
            if checksum & 0x80_0000 == 0 { checksum << 1 & 0xFF_FFFF } else { (checksum << 1 ^ 0x86_4CFB) & 0xFF_FFFF }
        })
    })
}

/// The binary data of every block of a text; binary input as it is. `Err` tells the first block that cannot be read.
///
/// The caller bounds the input; what comes out is no longer.
pub fn decode(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Ok(bytes.to_vec());
    }
    let blocks = blocks(bytes);
    if blocks.is_empty() {
        return Err("it is neither OpenPGP data nor an armored block");
    }
    let mut decoded = Vec::new();
    for block in blocks {
        let mut dearmor = Dearmor::with_options(block, DearmorOptions::new().set_limit(block.len().max(1024)));
        let mut part = Vec::new();
        dearmor.read_header().map_err(|_| "the first lines of a block are damaged")?;
        let read = dearmor.by_ref().take(block.len() as u64).read_to_end(&mut part);
        read.map_err(|_| "the text of a block is damaged")?;
        decoded.append(&mut part);
    }
    Ok(decoded)
}

/// Each block, without the text between it and the next.
fn blocks(bytes: &[u8]) -> Vec<&[u8]> {
    let starts = bytes.windows(BEGIN.len()).enumerate().filter(|(_, window)| *window == BEGIN).map(|(at, _)| at);
    // Compat: gpg puts a colon before the revocation that it keeps ready, so that it is not used by accident.
    let starts: Vec<usize> = starts.filter(|at| *at == 0 || bytes[at - 1] != b':').collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| up_to_its_end(&bytes[*start..end])).collect()
}

fn up_to_its_end(block: &[u8]) -> &[u8] {
    let find = |from: usize, wanted: &[u8]| {
        let found = block[from..].windows(wanted.len()).position(|window| window == wanted)?;
        Some(from + found + wanted.len())
    };
    find(0, END).and_then(|title| find(title, b"-----")).map_or(block, |end| &block[..end])
}
