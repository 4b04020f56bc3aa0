//! A package file: lead, signature header, header, and the payload, a compressed cpio archive.
//!
//! Source: rpm's manual, "RPM v4 format" (and "RPM v3", whose lead and signatures of header and payload together live on).

mod describe;
mod signature;

pub use signature::{MAXIMUM_SIGNED_WHOLE, PackageTrust, SignatureError, good, verify};

use super::header::{Header, HeaderError, tag, take};
use crate::archive::compress::detecting_decoder;
use std::io::{self, Read};

const LEAD: usize = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
/// Bytes that one payload may unpack to.
const MAXIMUM_UNPACKED: u64 = 64 << 30;

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("it is not a package file: it does not begin as one")]
    Lead,
    #[error("it is not a package file that is known here: its format is version {0}")]
    Version(u8),
    #[error("its {part} is damaged: {cause}")]
    Header { part: &'static str, cause: HeaderError },
    #[error("its header has no {0}")]
    Missing(&'static str),
    #[error("its payload is {0}; cpio is known")]
    Format(String),
    #[error("its payload cannot be unpacked: {0}")]
    Payload(io::Error),
}

/// What stands before the payload.
#[derive(Clone, Debug)]
pub struct Package {
    pub signature: Header,
    pub header: Header,
    /// Bytes before the payload.
    pub payload_offset: u64,
}

impl Package {
    /// Reads up to the payload, which the reader gives next.
    pub fn read(reader: &mut impl Read) -> Result<Package, PackageError> {
        let fault = |part| move |cause| PackageError::Header { part, cause };
        let lead = take(reader, LEAD).map_err(fault("beginning"))?;
        if lead[..4] != LEAD_MAGIC {
            return Err(PackageError::Lead);
        }
        if !matches!(lead[4], 3 | 4) {
            return Err(PackageError::Version(lead[4]));
        }
        let signature = Header::read(reader).map_err(fault("signature header"))?;
        // Spec: the signature header is padded to eight bytes.
        let length = signature.bytes().len();
        let padding = length.next_multiple_of(8) - length;
        take(reader, padding).map_err(fault("signature header"))?;
        let header = Header::read(reader).map_err(fault("header"))?;
        let payload_offset = (LEAD + length + padding + header.bytes().len()) as u64;
        Ok(Package { signature, header, payload_offset })
    }

    /// `name-[epoch:]version-release.arch`, as [`crate::rpm::pool::Pool::nevra`] writes it.
    pub fn nevra(&self) -> Result<String, PackageError> {
        let fault = |cause| PackageError::Header { part: "header", cause };
        let text = |tag, name| self.header.text(tag).map_err(fault)?.ok_or(PackageError::Missing(name));
        let epoch = self.header.numbers(tag::EPOCH).map_err(fault)?.and_then(|numbers| numbers.first().copied());
        let epoch = epoch.filter(|epoch| *epoch != 0).map_or_else(String::new, |epoch| format!("{epoch}:"));
        let (name, version) = (text(tag::NAME, "name")?, text(tag::VERSION, "version")?);
        let (release, arch) = (text(tag::RELEASE, "release")?, text(tag::ARCH, "architecture")?);
        Ok(format!("{name}-{epoch}{version}-{release}.{arch}"))
    }

    /// The unpacked payload: a cpio archive. `reader` stands where [`Package::read`] left it.
    pub fn payload<'a>(&self, reader: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>, PackageError> {
        let format =
            self.header.text(tag::PAYLOADFORMAT).map_err(|cause| PackageError::Header { part: "header", cause })?;
        if let Some(format) = format.filter(|format| format != "cpio") {
            return Err(PackageError::Format(format));
        }
        let (_, decoder) = detecting_decoder(reader).map_err(PackageError::Payload)?;
        Ok(Box::new(decoder.take(MAXIMUM_UNPACKED)))
    }
}

#[cfg(test)]
pub(crate) mod tests;
