//! The key of an encrypted partition, wrapped for the owner of an RSA key: what a `CryptoMessage` object holds (facts §5.5).
//!
//! RSA-OAEP with SHA-256 over pieces of the key, the results one after another in an ASN.1 OCTET STRING, that in a PEM block `MESSAGE`.
//!
//! Deviation: Apptainer takes keys in PKCS#1 alone (`RSA PUBLIC KEY`); what `openssl genpkey` and `openssl pkey -pubout` make is taken too, and
//! where a public key is asked for, a private one gives it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs1;
use rsa::pkcs8::{PrivateKeyInfo, SubjectPublicKeyInfoRef};
use rsa::rand_core::{CryptoRng, RngCore};
use rsa::sha2::Sha256;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, Oaep, RsaPrivateKey, RsaPublicKey};
use std::fmt;
use std::io;
use zeroize::Zeroizing;

/// Random bytes that a partition wrapped for a key is encrypted with.
pub const KEY_SIZE: usize = 64;
/// Largest message and largest PEM file that are looked at.
pub const MAXIMUM_SIZE: u64 = 64 << 10;

/// Bytes of a piece that the padding takes: two digests and two bytes.
const PADDING: usize = 66;
const SMALLEST_MODULUS: usize = 1024 / 8;
const LARGEST_MODULUS: usize = 16_384 / 8;
const PEM_LINE: usize = 64;

/// What opens an encrypted partition, or is to open it.
#[derive(Clone)]
pub enum ImageKey {
    Passphrase(Zeroizing<Vec<u8>>),
    /// The text of a PEM file, and what people call it.
    Pem {
        name: String,
        text: Zeroizing<String>,
    },
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageKey::Passphrase(_) => formatter.write_str("Passphrase(secret)"),
            ImageKey::Pem { name, .. } => write!(formatter, "Pem({name})"),
        }
    }
}

/// Why a key is not wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    #[error("{name} holds no PEM block")]
    NoPem { name: String },
    #[error("{name} holds `{label}`, and an RSA {wanted} key is needed; `openssl genrsa -traditional 4096` makes one")]
    Label { name: String, label: String, wanted: &'static str },
    #[error(
        "{name} is protected by a passphrase, which Apptainer cannot open when the image runs; `openssl rsa -traditional -in FILE` \
         writes it without"
    )]
    Protected { name: String },
    #[error("{name} is no valid RSA key: {cause}")]
    Key { name: String, cause: String },
    #[error("{name} has {bits} bits; keys from 1024 to 16384 bits are used")]
    Size { name: String, bits: usize },
    #[error("the image's wrapped key is damaged: {0}")]
    Message(&'static str),
    #[error("{name} does not open the image: its key was wrapped for another one")]
    OtherKey { name: String },
    #[error("the key cannot be wrapped: {0}")]
    Random(io::Error),
}

/// The text of a `CryptoMessage` object that gives `key` to the owner of the RSA key in `pem`. `name` is for errors.
pub fn wrap(
    name: &str,
    pem: &str,
    key: &[u8],
    random: &dyn Fn(&mut [u8]) -> io::Result<()>,
) -> Result<String, WrapError> {
    let public = public_key(name, pem)?;
    // Asked for beforehand, since the padding cannot say that there is no randomness.
    random(&mut [0]).map_err(WrapError::Random)?;
    let mut sealed = Vec::new();
    for piece in key.chunks(public.size() - PADDING) {
        let piece = public.encrypt(&mut Random(random), Oaep::new::<Sha256>(), piece);
        sealed.extend(piece.map_err(|error| WrapError::Key { name: name.to_owned(), cause: error.to_string() })?);
    }
    Ok(pem_text("MESSAGE", &octet_string(&sealed)))
}

/// The key in a `CryptoMessage` object, for the owner of the RSA private key in `pem`.
pub fn unwrap(name: &str, pem: &str, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, WrapError> {
    let private = private_key(name, pem)?;
    let text = std::str::from_utf8(message).map_err(|_| WrapError::Message("it is no text"))?;
    let (label, der) = pem_block("the image's wrapped key", text).map_err(|_| WrapError::Message("it is no PEM"))?;
    if label != "MESSAGE" {
        return Err(WrapError::Message("its PEM block is no MESSAGE"));
    }
    let sealed = octets(&der).ok_or(WrapError::Message("it is no ASN.1 octet string"))?;
    if sealed.is_empty() {
        return Err(WrapError::Message("it is empty"));
    }
    if sealed.len() % private.size() != 0 {
        return Err(WrapError::OtherKey { name: name.to_owned() });
    }
    let mut key = Zeroizing::new(Vec::new());
    for piece in sealed.chunks(private.size()) {
        let piece = private.decrypt(Oaep::new::<Sha256>(), piece);
        key.extend_from_slice(&Zeroizing::new(piece.map_err(|_| WrapError::OtherKey { name: name.to_owned() })?));
    }
    Ok(key)
}

/// Refuses a file that no key for encrypting is in.
pub fn check_public(name: &str, pem: &str) -> Result<(), WrapError> {
    public_key(name, pem).map(drop)
}

fn public_key(name: &str, pem: &str) -> Result<RsaPublicKey, WrapError> {
    let fault = |cause: String| WrapError::Key { name: name.to_owned(), cause };
    let (label, der) = pem_block(name, pem)?;
    let (modulus, exponent) = match label.as_str() {
        "RSA PUBLIC KEY" => numbers(&der),
        "PUBLIC KEY" => SubjectPublicKeyInfoRef::try_from(der.as_slice())
            .ok()
            .and_then(|info| numbers(info.subject_public_key.as_bytes()?)),
        _ => {
            let private = private_key_of(name, label, &der, "public")?;
            Some((private.n().clone(), private.e().clone()))
        }
    }
    .ok_or_else(|| fault("its numbers cannot be read".to_owned()))?;
    check_size(name, &modulus)?;
    RsaPublicKey::new_with_max_size(modulus, exponent, LARGEST_MODULUS * 8).map_err(|error| fault(error.to_string()))
}

fn numbers(der: &[u8]) -> Option<(BigUint, BigUint)> {
    let key = pkcs1::RsaPublicKey::try_from(der).ok()?;
    Some((BigUint::from_bytes_be(key.modulus.as_bytes()), BigUint::from_bytes_be(key.public_exponent.as_bytes())))
}

fn private_key(name: &str, pem: &str) -> Result<RsaPrivateKey, WrapError> {
    let (label, der) = pem_block(name, pem)?;
    private_key_of(name, label, &der, "private")
}

fn private_key_of(name: &str, label: String, der: &[u8], wanted: &'static str) -> Result<RsaPrivateKey, WrapError> {
    let fault = |cause: &dyn fmt::Display| WrapError::Key { name: name.to_owned(), cause: cause.to_string() };
    let inner = match label.as_str() {
        "RSA PRIVATE KEY" => der,
        "PRIVATE KEY" => PrivateKeyInfo::try_from(der).map_err(|error| fault(&error))?.private_key,
        _ => return Err(WrapError::Label { name: name.to_owned(), label: printable(&label), wanted }),
    };
    let key = pkcs1::RsaPrivateKey::try_from(inner).map_err(|error| fault(&error))?;
    let number = |part: pkcs1::UintRef<'_>| BigUint::from_bytes_be(part.as_bytes());
    check_size(name, &number(key.modulus))?;
    let primes = vec![number(key.prime1), number(key.prime2)];
    RsaPrivateKey::from_components(
        number(key.modulus),
        number(key.public_exponent),
        number(key.private_exponent),
        primes,
    )
    .map_err(|error| fault(&error))
}

fn check_size(name: &str, modulus: &BigUint) -> Result<(), WrapError> {
    let size = modulus.bits().div_ceil(8);
    if (SMALLEST_MODULUS..=LARGEST_MODULUS).contains(&size) {
        return Ok(());
    }
    Err(WrapError::Size { name: name.to_owned(), bits: modulus.bits() })
}

/// Label and content of the first block.
fn pem_block(name: &str, text: &str) -> Result<(String, Zeroizing<Vec<u8>>), WrapError> {
    let absent = || WrapError::NoPem { name: name.to_owned() };
    let mut lines = text.lines().map(str::trim_end).skip_while(|line| !line.starts_with("-----BEGIN "));
    let first = lines.next().and_then(|line| line.strip_prefix("-----BEGIN ")).ok_or_else(absent)?;
    let label = first.strip_suffix("-----").ok_or_else(absent)?;
    let end = format!("-----END {label}-----");
    let mut body = Zeroizing::new(String::new());
    let mut complete = false;
    for line in lines {
        if line == end {
            complete = true;
            break;
        }
        body.push_str(line.trim());
    }
    if label == "ENCRYPTED PRIVATE KEY" || body.starts_with("Proc-Type:") {
        return Err(WrapError::Protected { name: name.to_owned() });
    }
    let der = STANDARD.decode(body.as_bytes()).ok().filter(|_| complete).ok_or_else(absent)?;
    Ok((label.to_owned(), Zeroizing::new(der)))
}

fn pem_text(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(PEM_LINE) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

const OCTET_STRING: u8 = 0x04;

fn octet_string(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![OCTET_STRING];
    match bytes.len() {
        short @ 0..=127 => der.push(short as u8),
        _ => {
            der.push(0x80 | length.len() as u8);
            der.extend_from_slice(length);
        }
    }
    der.extend_from_slice(bytes);
    der
}

fn octets(der: &[u8]) -> Option<&[u8]> {
    let (head, rest) = der.split_first_chunk::<2>()?;
    let (length, content) = match head {
        [OCTET_STRING, short @ 0..=127] => (usize::from(*short), rest),
        [OCTET_STRING, long @ 0x81..=0x84] => {
            let (digits, content) = rest.split_at_checked(usize::from(long & 0x7F))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), content)
        }
        _ => return None,
    };
    Some(content).filter(|content| content.len() == length)
}

fn printable(text: &str) -> String {
    text.escape_debug().to_string()
}

/// Randomness in the form that the `rsa` crate takes.
struct Random<'a>(&'a dyn Fn(&mut [u8]) -> io::Result<()>);

impl RngCore for Random<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        (self.0)(bytes).expect("randomness that was there a moment ago is there now");
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Random<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    use std::sync::LazyLock;

    fn openssl(arguments: &[&str], input: &str) -> String {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is needed: apt-get install -y openssl");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{arguments:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// Private and public, PKCS#1.
    static KEY: LazyLock<(String, String)> = LazyLock::new(|| {
        let private = openssl(&["genrsa", "-traditional", "2048"], "");
        let public = openssl(&["rsa", "-RSAPublicKey_out"], &private);
        (private, public)
    });

    fn random(bytes: &mut [u8]) -> io::Result<()> {
        io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, bytes)
    }

    #[test]
    fn gives_back_what_was_wrapped_in_every_form_of_the_key() {
        let (private, public) = &*KEY;
        let private_8 = openssl(&["pkcs8", "-topk8", "-nocrypt"], private);
        let public_8 = openssl(&["rsa", "-pubout"], private);
        let key: Vec<u8> = (0..500).map(|number| number as u8).collect();
        for public in [public, &public_8, private, &private_8] {
            for length in [KEY_SIZE, 190, 191, 500] {
                let message = wrap("key.pem", public, &key[..length], &random).unwrap();
                assert!(message.starts_with("-----BEGIN MESSAGE-----\n") && message.len() < MAXIMUM_SIZE as usize);
                for private in [private, &private_8] {
                    assert_eq!(*unwrap("key.pem", private, message.as_bytes()).unwrap(), key[..length]);
                }
            }
        }
    }

    #[test]
    fn openssl_opens_the_message() {
        let (private, public) = &*KEY;
        let message = wrap("key.pem", public, &[b'k'; KEY_SIZE], &random).unwrap();
        let (_, der) = pem_block("message", &message).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (sealed, pem) = (directory.path().join("sealed"), directory.path().join("key.pem"));
        std::fs::write(&sealed, octets(&der).unwrap()).unwrap();
        std::fs::write(&pem, private).unwrap();
        let options = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256"].map(|option| ["-pkeyopt", option]).concat();
        let (sealed, pem) = (sealed.to_str().unwrap(), pem.to_str().unwrap());
        let arguments = [&["pkeyutl", "-decrypt", "-inkey", pem, "-in", sealed], options.as_slice()].concat();
        assert_eq!(openssl(&arguments, "").as_bytes(), [b'k'; KEY_SIZE]);
    }

    #[test]
    fn refuses_keys_with_the_reason() {
        let (private, public) = &*KEY;
        let told = |pem: &str| wrap("key.pem", pem, &[1], &random).unwrap_err().to_string();
        let old = openssl(&["rsa", "-traditional", "-aes128", "-passout", "pass:secret"], private);
        let new = openssl(&["pkcs8", "-topk8", "-passout", "pass:secret"], private);
        for protected in [&old, &new] {
            assert!(told(protected).contains("protected by a passphrase"), "{}", told(protected));
        }
        assert!(told("no key").contains("no PEM block"));
        let curve = openssl(&["ecparam", "-genkey", "-noout", "-name", "prime256v1"], "");
        assert!(told(&curve).contains("`EC PRIVATE KEY`"));
        assert!(told(&openssl(&["pkcs8", "-topk8", "-nocrypt"], &curve)).contains("no valid RSA key"));
        assert!(told(&openssl(&["genrsa", "512"], "")).contains("512 bits"));
        let cannot = unwrap("key.pem", public, b"").unwrap_err().to_string();
        assert!(cannot.contains("private key is needed"), "{cannot}");
        let message = wrap("key.pem", public, &[1; 64], &random).unwrap();
        let other = openssl(&["genrsa", "-traditional", "2048"], "");
        let told = unwrap("other.pem", &other, message.as_bytes()).unwrap_err();
        assert!(matches!(told, WrapError::OtherKey { .. }), "{told}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0..500_usize) {
            let (private, public) = &*KEY;
            let _ = unwrap("key.pem", private, &bytes);
            let _ = unwrap("key.pem", private, pem_text("MESSAGE", &bytes).as_bytes());
            let _ = unwrap("key.pem", private, pem_text("MESSAGE", &octet_string(&bytes)).as_bytes());
            for label in ["RSA PRIVATE KEY", "PRIVATE KEY", "RSA PUBLIC KEY", "PUBLIC KEY"] {
                let _ = public_key("key.pem", &pem_text(label, &bytes));
            }
            for (label, pem) in [("RSA PRIVATE KEY", private), ("RSA PUBLIC KEY", public)] {
                let (_, mut der) = pem_block("key.pem", pem).unwrap();
                let at = at % der.len();
                der[at] ^= bytes.first().copied().unwrap_or(1);
                let _ = public_key("key.pem", &pem_text(label, &der));
            }
        }
    }
}
