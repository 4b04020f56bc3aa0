//! The machine-readable index of a search: `pub:` and `uid:` lines.

/// Results of one page that are read.
const MAXIMUM_RESULTS: usize = 4096;
const MAXIMUM_USER_IDS: usize = 64;

/// A key as a server lists it; nothing of it is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Or a key id, from old servers. Upper-case hexadecimal.
    pub fingerprint: String,
    pub algorithm: &'static str,
    pub bits: u32,
    /// Unix seconds.
    pub created: Option<i64>,
    pub expires: Option<i64>,
    pub revoked: bool,
    pub disabled: bool,
    pub expired: bool,
    pub user_ids: Vec<String>,
}

impl Listed {
    pub fn status(&self) -> &'static str {
        match self {
            Listed { revoked: true, .. } => "[revoked]",
            Listed { disabled: true, .. } => "[disabled]",
            Listed { expired: true, .. } => "[expired]",
            _ => "[enabled]",
        }
    }
}

/// Lines of other kinds, and those that are damaged, are passed over.
pub fn parse(text: &str) -> Vec<Listed> {
    let mut found: Vec<Listed> = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim_end().split(':');
        match fields.next() {
            Some("pub") if found.len() < MAXIMUM_RESULTS => found.extend(key(fields)),
            Some("uid") => {
                if let (Some(user_id), Some(key)) = (fields.next(), found.last_mut())
                    && key.user_ids.len() < MAXIMUM_USER_IDS
                {
                    key.user_ids.push(decoded(user_id));
                }
            }
            _ => {}
        }
    }
    found
}

fn key<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<Listed> {
    let mut next = || fields.next().unwrap_or_default();
    let fingerprint = next();
    let is_number = (8..=64).contains(&fingerprint.len()) && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (algorithm, bits, created, expires, flags) = (next(), next(), next(), next(), next());
    Some(Listed {
        fingerprint: fingerprint.to_ascii_uppercase(),
        algorithm: name(algorithm),
        bits: bits.parse().unwrap_or(0),
        created: time(created),
        expires: time(expires),
        revoked: flags.contains('r'),
        disabled: flags.contains('d'),
        expired: flags.contains('e'),
        user_ids: Vec::new(),
    })
    .filter(|_| is_number)
}

/// Times of OpenPGP have 32 bits.
fn time(text: &str) -> Option<i64> {
    text.parse::<u32>().ok().map(i64::from)
}

/// RFC 9580 §9.1.
fn name(algorithm: &str) -> &'static str {
    match algorithm {
        "1" | "2" | "3" => "RSA",
        "16" => "ElGamal",
        "17" => "DSA",
        "18" => "ECDH",
        "19" => "ECDSA",
        "22" | "27" => "Ed25519",
        "28" => "Ed448",
        _ => "unknown",
    }
}

/// Percent signs undone, control characters made visible: it goes to a terminal.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8);
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    let shown = |letter: char| if letter.is_control() { '\u{FFFD}' } else { letter };
    String::from_utf8_lossy(&out).chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_keys_with_their_user_ids() {
        let text = "info:1:2\r\npub:12045C8C0B1004D058DE4BEDA20C27EE7FF7BA84:1:4096:1500000000::r\n\
                    uid:J%C3%BCrgen%20%3Cj%40example.org%3E:1500000000::\nuid:100%:::\nuat::::\n\
                    pub:a20c27ee7ff7ba84:22:256:1600000000:1700000000:\npub:nonsense:1:1:1:1:\n";
        let found = parse(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].user_ids, ["Jürgen <j@example.org>", "100%"]);
        assert_eq!((found[0].status(), found[0].bits, found[0].algorithm), ("[revoked]", 4096, "RSA"));
        assert_eq!((found[1].status(), found[1].expires), ("[enabled]", Some(1_700_000_000)));
        assert_eq!(found[1].fingerprint, "A20C27EE7FF7BA84");
    }

    #[test]
    fn a_user_id_cannot_speak_to_the_terminal() {
        let found = parse("pub:A20C27EE7FF7BA84:1:1:1::\nuid:%1b[31mred%0a:1::\n");
        assert!(!found[0].user_ids[0].contains(['\u{1b}', '\n']));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(pub|uid|info|x)[:%0-9A-Fa-z\\n]{0,200}", other in "\\PC{0,100}") {
            parse(&text);
            parse(&other);
        }
    }
}
