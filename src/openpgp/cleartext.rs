//! Text with its signature below it: splitting the two, and putting them together.
//!
//! Source: RFC 9580 §7 (cleartext signature framework). Strict on purpose: whatever is not covered by the signature
//! is refused rather than skipped, so that no reader can take unsigned text for signed.

const BEGIN_MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";

/// Both halves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleartext {
    /// Dash escapes undone, trailing blanks removed, lines ended by a line feed except the last: what readers parse.
    pub text: String,
    /// The armored signature block.
    pub signature: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CleartextError {
    #[error("does not begin with {BEGIN_MESSAGE:?}")]
    NotSigned,
    #[error("has a header other than Hash before the signed text")]
    UnexpectedHeader,
    #[error("has a line that begins with a dash and is not escaped")]
    Unescaped,
    #[error("has no signature after the text")]
    NoSignature,
    #[error("has no end of the signature")]
    Unterminated,
    #[error("goes on after the signature")]
    TrailingText,
}

impl Cleartext {
    pub fn split(input: &str) -> Result<Cleartext, CleartextError> {
        let mut lines = input.split('\n').map(|line| line.trim_end_matches([' ', '\t', '\r']));
        if lines.next() != Some(BEGIN_MESSAGE) {
            return Err(CleartextError::NotSigned);
        }
        loop {
            match lines.next() {
                Some("") => break,
                Some(line) if line.starts_with("Hash:") => {}
                Some(_) => return Err(CleartextError::UnexpectedHeader),
                None => return Err(CleartextError::NoSignature),
            }
        }
        let mut text = Vec::new();
        loop {
            match lines.next() {
                Some(BEGIN_SIGNATURE) => break,
                Some(line) => match line.strip_prefix("- ") {
                    Some(escaped) => text.push(escaped),
                    None if line.starts_with('-') => return Err(CleartextError::Unescaped),
                    None => text.push(line),
                },
                None => return Err(CleartextError::NoSignature),
            }
        }
        let mut signature = format!("{BEGIN_SIGNATURE}\n");
        loop {
            let line = lines.next().ok_or(CleartextError::Unterminated)?;
            signature.push_str(line);
            signature.push('\n');
            if line == END_SIGNATURE {
                break;
            }
        }
        if lines.any(|line| !line.is_empty()) {
            return Err(CleartextError::TrailingText);
        }
        Ok(Cleartext { text: text.join("\n"), signature })
    }

    /// The bytes that the signature covers: line ends as CR LF, none after the last line.
    pub fn signed_bytes(&self) -> Vec<u8> {
        signed_bytes(&self.text)
    }
}

/// What is signed of a text: line ends as CR LF, without blanks before them.
pub fn signed_bytes(text: &str) -> Vec<u8> {
    lines(text).collect::<Vec<_>>().join("\r\n").into_bytes()
}

/// The message of a text without a line end at its end, the name of the hash, and an armored signature over [`signed_bytes`].
pub fn compose(text: &str, hash: &str, signature: &str) -> String {
    let mut message = format!("{BEGIN_MESSAGE}\nHash: {hash}\n\n");
    for line in lines(text) {
        if line.starts_with('-') {
            message.push_str("- ");
        }
        message.push_str(line);
        message.push('\n');
    }
    message + signature
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').map(|line| line.trim_end_matches([' ', '\t', '\r']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: &str = "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n";

    #[test]
    fn separates_text_and_signature() {
        let input = format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nA: 1  \r\n- -dash\n\n{BLOCK}");
        let split = Cleartext::split(&input).unwrap();
        assert_eq!(split.text, "A: 1\n-dash\n");
        assert_eq!(split.signed_bytes(), b"A: 1\r\n-dash\r\n");
        assert_eq!(split.signature, BLOCK);
    }

    #[test]
    fn refuses_text_outside_the_signature() {
        let begin = "-----BEGIN PGP SIGNED MESSAGE-----";
        for (input, error) in [
            (format!("X: 1\n{begin}\n\nA\n{BLOCK}"), CleartextError::NotSigned),
            (format!("{begin}\nComment: x\n\nA\n{BLOCK}"), CleartextError::UnexpectedHeader),
            (format!("{begin}\n\nA\n-B\n{BLOCK}"), CleartextError::Unescaped),
            (format!("{begin}\n\nA\n"), CleartextError::NoSignature),
            (format!("{begin}\n\nA\n-----BEGIN PGP SIGNATURE-----\nabc\n"), CleartextError::Unterminated),
            (format!("{begin}\n\nA\n{BLOCK}B: 2\n"), CleartextError::TrailingText),
        ] {
            assert_eq!(Cleartext::split(&input), Err(error), "{input}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(tail in "[A \n\r-]{0,100}") {
            let _ = Cleartext::split(&tail);
            let _ = Cleartext::split(&format!("-----BEGIN PGP SIGNED MESSAGE-----\n{tail}{BLOCK}"));
        }
    }
}
