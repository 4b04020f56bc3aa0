//! What `cryptsetup luksDump` prints of a container that Apptainer or we made.
//!
//! Deviation: control characters are escaped, since images come from strangers and the text goes to terminals.

use super::format::{BinaryHeader, KdfParameters, Keyslot, Metadata, Segment, VolumeKeyDigest};
use std::fmt::Write as _;

/// The whole text.
pub fn text(header: &BinaryHeader, metadata: &Metadata) -> String {
    let or = |text: &str, absent: &str| if text.is_empty() { absent.to_owned() } else { printable(text) };
    let mut text = format!(
        "LUKS header information\nVersion:       \t2\nEpoch:         \t{}\nMetadata area: \t{} [bytes]\nKeyslots area: \t{} [bytes]\n\
         UUID:          \t{}\nLabel:         \t{}\nSubsystem:     \t{}\nFlags:       \t(no flags)\n\nData segments:\n",
        header.seqid,
        header.hdr_size,
        metadata.config.keyslots_size.0,
        printable(&header.uuid),
        or(&header.label, "(no label)"),
        or(&header.subsystem, "(no subsystem)"),
    );
    metadata.segments.iter().for_each(|(number, segment)| push_segment(&mut text, number, segment));
    text.push_str("Keyslots:\n");
    for (number, keyslot) in &metadata.keyslots {
        let digest = metadata.digests.iter().find(|(_, digest)| digest.keyslots.contains(number));
        push_keyslot(&mut text, number, keyslot, digest.map(|(number, _)| number.as_str()));
    }
    text.push_str("Tokens:\nDigests:\n");
    metadata.digests.iter().for_each(|(number, digest)| push_digest(&mut text, number, digest));
    text
}

fn push_segment(text: &mut String, number: &str, segment: &Segment) {
    let length = match segment.size.as_str() {
        "dynamic" => "(whole device)".to_owned(),
        size => format!("{} [bytes]", printable(size)),
    };
    let _ = write!(
        text,
        "  {}: {}\n\toffset: {} [bytes]\n\tlength: {length}\n\tcipher: {}\n\tsector: {} [bytes]\n\n",
        printable(number),
        printable(&segment.kind),
        segment.offset.0,
        printable(&segment.encryption),
        segment.sector_size
    );
}

fn push_keyslot(text: &mut String, number: &str, keyslot: &Keyslot, digest: Option<&str>) {
    let priority = match keyslot.priority {
        None | Some(1) => "normal",
        Some(0) => "ignored",
        Some(_) => "preferred",
    };
    let _ = write!(
        text,
        "  {}: {}\n\tKey:        {} bits\n\tPriority:   {priority}\n\tCipher:     {}\n\tCipher key: {} bits\n",
        printable(number),
        printable(&keyslot.kind),
        u64::from(keyslot.key_size) * 8,
        printable(&keyslot.area.encryption),
        u64::from(keyslot.area.key_size) * 8
    );
    let (name, salt) = match &keyslot.kdf {
        Some(KdfParameters::Argon2i { time, memory, cpus, salt }) => (argon2("argon2i", *time, *memory, *cpus), salt),
        Some(KdfParameters::Argon2id { time, memory, cpus, salt }) => (argon2("argon2id", *time, *memory, *cpus), salt),
        Some(KdfParameters::Pbkdf2 { hash, iterations, salt }) => {
            (format!("pbkdf2\n\tHash:       {}\n\tIterations: {iterations}", printable(hash)), salt)
        }
        None => return,
    };
    let _ = write!(text, "\tPBKDF:      {name}\n\tSalt:       {}", hexadecimal(&salt.0));
    if let Some(af) = &keyslot.af {
        let _ = write!(text, "\tAF stripes: {}\n\tAF hash:    {}\n", af.stripes, printable(&af.hash));
    }
    let area = &keyslot.area;
    let _ = write!(text, "\tArea offset:{} [bytes]\n\tArea length:{} [bytes]\n", area.offset.0, area.size.0);
    if let Some(digest) = digest {
        let _ = writeln!(text, "\tDigest ID:  {}", printable(digest));
    }
}

fn argon2(name: &str, time: u32, memory: u32, cpus: u32) -> String {
    format!("{name}\n\tTime cost:  {time}\n\tMemory:     {memory}\n\tThreads:    {cpus}")
}

fn push_digest(text: &mut String, number: &str, digest: &VolumeKeyDigest) {
    let _ = write!(
        text,
        "  {}: {}\n\tHash:       {}\n\tIterations: {}\n\tSalt:       {}\tDigest:     {}",
        printable(number),
        printable(&digest.kind),
        printable(&digest.hash),
        digest.iterations,
        hexadecimal(&digest.salt.0),
        hexadecimal(&digest.digest.0)
    );
}

/// Sixteen bytes a line.
fn hexadecimal(bytes: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n\t            ") + "\n"
}

fn printable(text: &str) -> String {
    text.escape_debug().to_string()
}
