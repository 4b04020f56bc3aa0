//! The encrypted root filesystem of a SIF, opened with a passphrase or an RSA key (facts §5.5), without the kernel.

use crate::luks::reader::{Container, Limits, Payload, UnlockError};
use crate::sif::format::{DataType, Extra, FileSystem, Link, MessageFormat, MessageType, PartitionExtra};
use crate::sif::reader::{ReadError, Sif};
use crate::sif::wrapped_key::{self, ImageKey, MAXIMUM_SIZE, WrapError};
use crate::squashfs::{ReadAt, Window};
use std::fs::File;
use zeroize::Zeroizing;

/// Where a squashfs is read from: a part of a file, or what an encrypted one holds.
pub type Source = Box<dyn ReadAt + Send>;

/// What opens encrypted images, and what that may cost.
#[derive(Clone, Debug)]
pub struct Unlocking {
    pub key: ImageKey,
    pub limits: Limits,
}

/// Why a partition is not opened. Sentences go on from the image's path.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    #[error(
        "is encrypted, and no key was given; use --passphrase or --pem-path PRIVATE-KEY, or set SIFBUILD_ENCRYPTION_PASSPHRASE or \
         SIFBUILD_ENCRYPTION_PEM_PATH"
    )]
    NoKey,
    #[error(
        "is encrypted for the owner of an RSA key (object {message}), and a passphrase was given; use --pem-path with the private key"
    )]
    NeedsPem { message: u32 },
    #[error("is encrypted with a passphrase, and {name} was given; it holds no key that was wrapped; use --passphrase")]
    NeedsPassphrase { name: String },
    #[error(
        "is encrypted in Apptainer's unprivileged form (gocryptfs), which cannot be read here; build it again with this program, or as root \
         with Apptainer, to have the other form (LUKS2); or unpack it with `apptainer build --sandbox` and use the directory"
    )]
    Gocryptfs,
    #[error("has a root filesystem that is {0}, which cannot be read here; squashfs can")]
    FileSystem(FileSystem),
    #[error("cannot be opened: {0}")]
    Key(#[from] WrapError),
    #[error("has an encrypted root filesystem that {0}")]
    Unlock(#[from] UnlockError),
    #[error("cannot be read: {0}")]
    Sif(#[from] ReadError),
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

impl PartitionError {
    /// Whether another passphrase or key may open it.
    pub fn is_wrong_key(&self) -> bool {
        matches!(
            self,
            PartitionError::Unlock(UnlockError::Passphrase) | PartitionError::Key(WrapError::OtherKey { .. })
        )
    }
}

/// The squashfs in a partition. `id`, `offset` and `size` are the partition's.
pub fn open(
    sif: &mut Sif<File>,
    (id, offset, size): (u32, u64, u64),
    extra: &PartitionExtra,
    unlocking: Option<&Unlocking>,
) -> Result<Source, PartitionError> {
    let window = |sif: &Sif<File>| sif.file().try_clone().map(|file| Window::new(file, offset, size));
    match extra.file_system {
        FileSystem::SQUASHFS => Ok(Box::new(window(sif)?)),
        FileSystem::GOCRYPTFS_SQUASHFS => Err(PartitionError::Gocryptfs),
        FileSystem::ENCRYPTED_SQUASHFS => {
            let Unlocking { key, limits } = unlocking.ok_or(PartitionError::NoKey)?;
            let passphrase = passphrase(sif, id, key)?;
            let payload: Payload<Window> = Container::read(window(sif)?)?.unlock(&passphrase, *limits)?;
            Ok(Box::new(payload))
        }
        other => Err(PartitionError::FileSystem(other)),
    }
}

/// What the container's passphrase is: the one that was given, or the key that the partition's message wraps.
fn passphrase(sif: &mut Sif<File>, partition: u32, key: &ImageKey) -> Result<Zeroizing<Vec<u8>>, PartitionError> {
    let wanted = Extra::CryptoMessage { format: MessageFormat::PEM, message_type: MessageType::RSA_OAEP };
    let message = sif
        .objects()
        .find(|object| {
            object.data_type == DataType::CRYPTO_MESSAGE
                && object.link() == Link::Object(partition)
                && object.extra() == wanted
        })
        .cloned();
    match (key, message) {
        (ImageKey::Passphrase(passphrase), None) => Ok(passphrase.clone()),
        (ImageKey::Passphrase(_), Some(message)) => Err(PartitionError::NeedsPem { message: message.id }),
        (ImageKey::Pem { name, .. }, None) => Err(PartitionError::NeedsPassphrase { name: name.clone() }),
        (ImageKey::Pem { name, text }, Some(message)) => {
            let message = sif.contents(&message, MAXIMUM_SIZE)?;
            Ok(wrapped_key::unwrap(name, text, &message)?)
        }
    }
}
