//! Layers as byte ranges of files, checked while they are read. Shared by the agents that bring them and by what consumes them.

use crate::archive::compress::{self, Compression};
use crate::digest::{Digest, Hasher};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A layer as a range of a file, so that archives need no unpacking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    /// Of the bytes in the range, as the manifest says. `docker save` says none.
    pub digest: Option<Digest>,
    /// Of the uncompressed tar, as the image config says.
    pub diff_id: Option<Digest>,
    pub file: PathBuf,
    /// Bytes from the start of `file`.
    pub offset: u64,
    /// Bytes of the blob.
    pub length: u64,
    pub compression: Compression,
}

/// What is wrong with a layer's bytes; arrives wrapped in an [`io::Error`] at the end of the stream. Whoever tells it names the file.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("the layer {expected} is corrupt: its bytes have the digest {actual}")]
    WrongDigest { file: PathBuf, expected: Digest, actual: Digest },
    #[error("the layer is corrupt: uncompressed it has the digest {actual}, but the image config says {expected}")]
    WrongDiffId { file: PathBuf, expected: Digest, actual: Digest },
    #[error("the layer {digest} is cut off after {actual} of {expected} bytes")]
    Truncated { file: PathBuf, digest: String, expected: u64, actual: u64 },
    #[error("the layer {digest} cannot be read: {cause}")]
    Unreadable { file: PathBuf, digest: String, cause: io::Error },
}

impl From<BlobError> for io::Error {
    fn from(error: BlobError) -> io::Error {
        let kind = match &error {
            BlobError::Unreadable { cause, .. } => cause.kind(),
            BlobError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

impl LayerBlob {
    /// The blob's own bytes (compressed as they are); the digest and the length are checked at the end.
    pub fn open(&self) -> io::Result<VerifiedReader<io::Take<File>>> {
        let mut file = File::open(&self.file).map_err(|cause| self.unreadable(cause))?;
        file.seek(SeekFrom::Start(self.offset)).map_err(|cause| self.unreadable(cause))?;
        Ok(VerifiedReader::new(file.take(self.length), self.digest.clone(), self.length, self.subject(), &self.file))
    }

    /// The layer's tar. Its digest is checked when the end is reached, so read to the end: that of the blob, or where none is known, that of
    /// the tar. A blob that is what the manifest names needs no second proof, and hashing the tar too costs a twentieth of a conversion.
    pub fn open_tar(&self) -> io::Result<Box<dyn Read + Send>> {
        let decoded = compress::decoder(self.open()?, self.compression).map_err(|cause| self.unreadable(cause))?;
        let subject = self.subject();
        let file = self.file.clone();
        Ok(Box::new(DiffIdReader {
            inner: decoded,
            hash: self
                .diff_id
                .as_ref()
                .filter(|_| self.digest.is_none())
                .map(|diff_id| (Hasher::new(diff_id.algorithm()), diff_id.clone())),
            subject,
            file,
        }))
    }

    fn subject(&self) -> String {
        match self.digest.as_ref().or(self.diff_id.as_ref()) {
            Some(digest) => digest.to_string(),
            None => format!("at byte {}", self.offset),
        }
    }

    fn unreadable(&self, cause: io::Error) -> io::Error {
        BlobError::Unreadable { file: self.file.clone(), digest: self.subject(), cause }.into()
    }
}

/// Passes bytes on and fails at the end if digest or length are not the promised ones.
pub struct VerifiedReader<R> {
    inner: R,
    hash: Option<(Hasher, Digest)>,
    count: u64,
    length: u64,
    subject: String,
    file: PathBuf,
}

impl<R: Read> VerifiedReader<R> {
    /// `length` in bytes; `subject` names the blob in errors, `file` where it comes from.
    pub fn new(inner: R, digest: Option<Digest>, length: u64, subject: String, file: &Path) -> VerifiedReader<R> {
        let hash = digest.map(|digest| (Hasher::new(digest.algorithm()), digest));
        VerifiedReader { inner, hash, count: 0, length, subject, file: file.to_path_buf() }
    }

    fn check(&mut self) -> Result<(), BlobError> {
        if self.count != self.length {
            let (digest, file) = (self.subject.clone(), self.file.clone());
            return Err(BlobError::Truncated { file, digest, expected: self.length, actual: self.count });
        }
        if let Some((hasher, expected)) = self.hash.take() {
            let actual = hasher.finish();
            if actual != expected {
                return Err(BlobError::WrongDigest { file: self.file.clone(), expected, actual });
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if let Some((hasher, _)) = &mut self.hash {
            hasher.update(&buffer[..count]);
        }
        self.count += count as u64;
        if count == 0 {
            self.check()?;
        }
        Ok(count)
    }
}

struct DiffIdReader {
    inner: Box<dyn Read + Send>,
    hash: Option<(Hasher, Digest)>,
    subject: String,
    file: PathBuf,
}

impl Read for DiffIdReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer).map_err(|cause| {
            let known = cause.get_ref().is_some_and(|inner| inner.is::<BlobError>());
            let (file, digest) = (self.file.clone(), self.subject.clone());
            if known { cause } else { BlobError::Unreadable { file, digest, cause }.into() }
        })?;
        if let Some((hasher, _)) = &mut self.hash {
            hasher.update(&buffer[..count]);
        }
        if count == 0
            && let Some((hasher, expected)) = self.hash.take()
        {
            let actual = hasher.finish();
            if actual != expected {
                return Err(BlobError::WrongDiffId { file: self.file.clone(), expected, actual }.into());
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn blob(bytes: &[u8], compression: Compression, plain: &[u8]) -> (tempfile::NamedTempFile, LayerBlob) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"before").unwrap();
        file.write_all(bytes).unwrap();
        file.write_all(b"after").unwrap();
        let blob = LayerBlob {
            digest: Some(Digest::of(bytes)),
            diff_id: Some(Digest::of(plain)),
            file: file.path().to_path_buf(),
            offset: 6,
            length: bytes.len() as u64,
            compression,
        };
        (file, blob)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn failure(mut reader: impl Read) -> String {
        reader.read_to_end(&mut Vec::new()).unwrap_err().to_string()
    }

    #[test]
    fn reads_a_range_of_a_file_and_checks_it() {
        let (_file, blob) = blob(&gzip(b"content"), Compression::Gzip, b"content");
        let mut text = String::new();
        blob.open_tar().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        io::copy(&mut blob.open().unwrap(), &mut io::sink()).unwrap();
    }

    #[test]
    fn a_changed_byte_is_told_with_both_digests() {
        let (_file, mut blob) = blob(b"content", Compression::None, b"content");
        blob.digest = Some(Digest::of(b"other"));
        assert_eq!(
            failure(blob.open().unwrap()),
            format!(
                "the layer {} is corrupt: its bytes have the digest {}",
                Digest::of(b"other"),
                Digest::of(b"content")
            )
        );
        assert!(failure(blob.open_tar().unwrap()).contains("its bytes have the digest"));
    }

    #[test]
    fn a_wrong_diff_id_is_told() {
        let (_file, mut blob) = blob(&gzip(b"content"), Compression::Gzip, b"content");
        blob.diff_id = Some(Digest::of(b"other"));
        blob.digest = None;
        assert!(failure(blob.open_tar().unwrap()).contains("but the image config says"));
    }

    #[test]
    fn a_cut_off_file_and_a_missing_file_are_told() {
        let (_file, mut blob) = blob(b"content", Compression::None, b"content");
        blob.length = 100;
        assert!(failure(blob.open().unwrap()).ends_with("is cut off after 12 of 100 bytes"));
        blob.file = "/does/not/exist".into();
        let message = blob.open().err().unwrap().to_string();
        assert!(message.starts_with("the layer sha256:"), "{message}");
    }

    #[test]
    fn bytes_that_do_not_decompress_name_the_layer() {
        let (_file, mut blob) = blob(b"\x1f\x8bgarbage-garbage-garbage", Compression::Gzip, b"");
        blob.diff_id = None;
        assert!(failure(blob.open_tar().unwrap()).contains(" cannot be read: "));
    }
}
