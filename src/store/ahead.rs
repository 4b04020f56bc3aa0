//! Decompression in a thread of its own, a bounded number of chunks ahead of whoever reads.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{self, Read};

/// Bytes of a chunk.
const CHUNK: usize = 256 << 10;
/// Chunks that wait at most.
const CHUNKS: usize = 8;

/// Reads what a thread reads from the inner reader.
pub struct Ahead {
    /// `None`: the end was reached.
    chunks: Option<Receiver<io::Result<Vec<u8>>>>,
    used: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Ahead {
    /// Starts the thread. It ends with the inner reader, its first error, or this reader's drop.
    pub fn new(inner: Box<dyn Read + Send>) -> io::Result<Ahead> {
        let (sender, chunks) = bounded(CHUNKS);
        let (used, free) = bounded(CHUNKS + 2);
        std::thread::Builder::new().name("unpack".to_owned()).spawn(move || read_all(inner, &sender, &free))?;
        Ok(Ahead { chunks: Some(chunks), used, chunk: Vec::new(), at: 0 })
    }
}

fn read_all(mut inner: Box<dyn Read + Send>, chunks: &Sender<io::Result<Vec<u8>>>, free: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = free.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        match fill(&mut inner, &mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                chunk.truncate(count);
                if chunks.send(Ok(chunk)).is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = chunks.send(Err(error));
                return;
            }
        }
    }
}

/// Reads until the chunk is full or the reader ends. Bytes before an error are lost, as the reader's caller stops there anyway.
fn fill(inner: &mut dyn Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match inner.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.at == self.chunk.len() {
            let Some(chunks) = &self.chunks else { return Ok(0) };
            let used = std::mem::take(&mut self.chunk);
            self.at = 0;
            let _ = self.used.try_send(used);
            match chunks.recv() {
                Ok(Ok(chunk)) => self.chunk = chunk,
                Ok(Err(error)) => {
                    self.chunks = None;
                    return Err(error);
                }
                Err(_) => {
                    self.chunks = None;
                    return Ok(0);
                }
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_the_inner_reader_gives() {
        let bytes: Vec<u8> = (0..3_000_001u32).map(|number| number as u8 ^ (number >> 9) as u8).collect();
        let mut read = Vec::new();
        Ahead::new(Box::new(io::Cursor::new(bytes.clone()))).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == bytes);
    }

    #[test]
    fn gives_the_inner_readers_error_once() {
        struct Failing(usize);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 3 { Err(io::Error::other("torn tape")) } else { Ok(buffer.len()) }
            }
        }
        let mut reader = Ahead::new(Box::new(Failing(0))).unwrap();
        assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap_err().to_string(), "torn tape");
        assert_eq!(reader.read(&mut [0; 9]).unwrap(), 0);
    }

    #[test]
    fn the_thread_ends_with_the_reader() {
        struct Endless {
            _alive: std::sync::Arc<()>,
        }
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                Ok(buffer.len())
            }
        }
        let alive = std::sync::Arc::new(());
        let mut reader = Ahead::new(Box::new(Endless { _alive: alive.clone() })).unwrap();
        reader.read_exact(&mut [0; 1000]).unwrap();
        drop(reader);
        while std::sync::Arc::strong_count(&alive) > 1 {
            std::thread::yield_now();
        }
    }
}
