//! What a request sends: bytes in memory, or a part of a file that is read while it is sent.

use futures_core::Stream;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// Bytes read at once.
const PIECE: u64 = 128 << 10;

/// Can be sent again, whole or from any place on: nothing of it is used up.
#[derive(Clone)]
pub struct Body {
    source: Source,
    offset: u64,
    length: u64,
}

#[derive(Clone)]
enum Source {
    Bytes(Arc<[u8]>),
    File(Arc<File>),
}

impl Body {
    pub fn empty() -> Body {
        Body::from_bytes(Vec::new())
    }

    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Body {
        let bytes = bytes.into();
        Body { offset: 0, length: bytes.len() as u64, source: Source::Bytes(bytes) }
    }

    /// The first `length` bytes of a file.
    pub fn from_file(file: Arc<File>, length: u64) -> Body {
        Body { source: Source::File(file), offset: 0, length }
    }

    /// At most `length` bytes from `offset` on.
    pub fn part(&self, offset: u64, length: u64) -> Body {
        let offset = offset.min(self.length);
        let length = length.min(self.length - offset);
        Body { source: self.source.clone(), offset: self.offset + offset, length }
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// `sent` counts the bytes that were taken.
    pub(super) fn stream(&self, sent: Arc<AtomicU64>) -> reqwest::Body {
        if self.length == 0 {
            return reqwest::Body::default();
        }
        reqwest::Body::wrap_stream(Pieces { rest: self.clone(), sent })
    }

    /// The first bytes; nothing at the end.
    fn read_piece(&mut self) -> io::Result<Vec<u8>> {
        let wanted = self.length.min(PIECE) as usize;
        let piece = match &self.source {
            Source::Bytes(bytes) => bytes[self.offset as usize..][..wanted].to_vec(),
            Source::File(file) => {
                let mut piece = vec![0; wanted];
                file.read_exact_at(&mut piece, self.offset).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => io::Error::other("the file became shorter while it was sent"),
                    _ => error,
                })?;
                piece
            }
        };
        self.offset += wanted as u64;
        self.length -= wanted as u64;
        Ok(piece)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self.source, Source::Bytes(_)) { "memory" } else { "a file" };
        write!(formatter, "{} bytes from {} on of {kind}", self.length, self.offset)
    }
}

/// Two bodies are the same when they are the same part of the same source.
impl PartialEq for Body {
    fn eq(&self, other: &Body) -> bool {
        let same = match (&self.source, &other.source) {
            (Source::Bytes(one), Source::Bytes(two)) => one == two,
            (Source::File(one), Source::File(two)) => Arc::ptr_eq(one, two),
            _ => false,
        };
        same && (self.offset, self.length) == (other.offset, other.length)
    }
}

impl Eq for Body {}

struct Pieces {
    rest: Body,
    sent: Arc<AtomicU64>,
}

impl Stream for Pieces {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rest.length == 0 {
            return Poll::Ready(None);
        }
        let piece = self.rest.read_piece();
        match &piece {
            Ok(bytes) => {
                self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Err(_) => self.rest.length = 0,
        }
        Poll::Ready(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn whole(mut body: Body) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while body.length() > 0 {
            bytes.extend(body.read_piece()?);
        }
        Ok(bytes)
    }

    #[test]
    fn gives_any_part_again_and_again() {
        let content: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let file = Body::from_file(Arc::new(file), content.len() as u64);
        for body in [file, Body::from_bytes(content.clone())] {
            for _ in 0..2 {
                assert_eq!(whole(body.clone()).unwrap(), content);
                assert_eq!(whole(body.part(1000, 200_000)).unwrap(), content[1000..201_000]);
                assert_eq!(whole(body.part(1000, 200_000).part(5, 10)).unwrap(), content[1005..1015]);
                assert_eq!(body.part(299_999, u64::MAX).length(), 1);
                assert_eq!(body.part(u64::MAX, u64::MAX).length(), 0);
            }
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_told() {
        let file = tempfile::tempfile().unwrap();
        let error = whole(Body::from_file(Arc::new(file), 5)).unwrap_err();
        assert_eq!(error.to_string(), "the file became shorter while it was sent");
    }
}
