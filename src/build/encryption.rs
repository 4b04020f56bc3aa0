//! Where the squashfs is written: straight into the file, or through a LUKS2 container around it.

use super::Encryption;
use crate::luks::writer::{Container, PAYLOAD_OFFSET};
use crate::luks::{Entropy, Kdf};
use crate::sif::wrapped_key::{self, ImageKey};
use crate::squashfs::{ReadAt, Window};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use zeroize::Zeroizing;

/// What a squashfs is written to.
pub trait Sink: Write + Seek {}

impl<W: Write + Seek> Sink for W {}

/// An encrypted partition in the making.
pub struct Sealed {
    container: Container,
    /// The wrapped key, which becomes an object of its own.
    pub message: Option<String>,
}

/// 512 random bits are not found by trying, so that stretching them protects nothing.
const FOR_RANDOM_KEYS: Kdf = Kdf::Argon2id { time: 4, memory: 32 << 10, cpus: 1 };

impl Sealed {
    /// Bytes of the partition before the squashfs.
    pub const OVERHEAD: u64 = PAYLOAD_OFFSET;

    /// Chooses the keys.
    pub fn begin(encryption: &Encryption) -> io::Result<Sealed> {
        let random: Entropy<'_> = &random;
        let (passphrase, kdf, message) = match &encryption.key {
            ImageKey::Passphrase(passphrase) => (passphrase.clone(), encryption.kdf, None),
            ImageKey::Pem { name, text } => {
                let mut key = Zeroizing::new(vec![0; wrapped_key::KEY_SIZE]);
                random(&mut key)?;
                let message = wrapped_key::wrap(name, text, &key, random).map_err(io::Error::other)?;
                (key, FOR_RANDOM_KEYS, Some(message))
            }
        };
        Ok(Sealed { container: Container::new(&passphrase, kdf, random)?, message })
    }

    /// Writes what precedes the squashfs at `offset`; the squashfs goes to what is returned.
    pub fn sink(&self, mut out: impl Read + Write + Seek + 'static, offset: u64) -> io::Result<Box<dyn Sink>> {
        out.seek(SeekFrom::Start(offset))?;
        out.write_all(&self.container.header)?;
        Ok(Box::new(self.container.payload(out, offset + PAYLOAD_OFFSET)))
    }

    /// The squashfs in the clear, from the partition that was written.
    pub fn opened(&self, partition: Window) -> Box<dyn ReadAt> {
        Box::new(self.container.opened(partition))
    }
}

pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}
