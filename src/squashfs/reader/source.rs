//! Where an image's bytes come from.

use super::ReadError;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are read at offsets, by several threads at once.
pub trait ReadAt: Sync {
    /// Fills the buffer with the bytes at `offset`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Bytes that there are.
    fn length(&self) -> u64;
}

/// A part of a file, as a SIF holds an image.
#[derive(Debug)]
pub struct Window {
    file: File,
    start: u64,
    length: u64,
}

impl Window {
    /// The `length` bytes at `start`; what lies outside of the file fails when it is read.
    pub fn new(file: File, start: u64, length: u64) -> Window {
        Window { file, start, length }
    }

    pub fn whole(file: File) -> io::Result<Window> {
        let length = file.metadata()?.len();
        Ok(Window { file, start: 0, length })
    }
}

impl ReadAt for Window {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let outside = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end = offset.checked_add(buffer.len() as u64).ok_or_else(outside)?;
        let at = self.start.checked_add(offset).filter(|_| end <= self.length).ok_or_else(outside)?;
        self.file.read_exact_at(buffer, at)
    }

    fn length(&self) -> u64 {
        self.length
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let outside = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let start = usize::try_from(offset).map_err(|_| outside())?;
        let end = start.checked_add(buffer.len()).ok_or_else(outside)?;
        buffer.copy_from_slice(self.get(start..end).ok_or_else(outside)?);
        Ok(())
    }

    fn length(&self) -> u64 {
        self.len() as u64
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buffer, offset)
    }

    fn length(&self) -> u64 {
        self.len() as u64
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn length(&self) -> u64 {
        (**self).length()
    }
}

impl<S: ReadAt + ?Sized> ReadAt for Box<S> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn length(&self) -> u64 {
        (**self).length()
    }
}

pub(super) fn read<S: ReadAt>(source: &S, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
    let length = buffer.len();
    source.read_exact_at(buffer, offset).map_err(|cause| ReadError::Source { offset, length, cause })
}
