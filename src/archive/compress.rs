//! Compressions found by their first bytes, and streaming decoders with bounded memory.
//!
//! Sources: RFC 1952 (gzip), RFC 8878 (zstd), xz 1.1 and lzma format descriptions, the bzip2 header `BZh`.

use std::fmt;
use std::io::{self, BufReader, Cursor, Read};

/// Bytes that [`Compression::detect`] wants to see; fewer are fine at the end of a file.
pub const MAGIC_LENGTH: usize = 13;

/// Largest zstd window, as a power of two: 128 MiB, what `zstd -d` itself accepts without flags.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Bytes of memory that an xz or lzma decoder may take; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// Read-ahead before a decoder, in bytes.
const BUFFER: usize = 128 << 10;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
    Lzma,
}

impl Compression {
    /// Judges by magic bytes; what has none is `None`.
    pub fn detect(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame may stand before the first (pzstd, zstd:chunked).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
            _ if is_lzma(start) => Compression::Lzma,
            _ => Compression::None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Xz => "xz",
            Compression::Bzip2 => "bzip2",
            Compression::Lzma => "lzma",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Spec: lzma has no magic: properties byte (0x5d in practice), dictionary size 2^n or 2^n + 2^(n-1),
/// then the size or -1. `file` and xz judge the same way.
fn is_lzma(start: &[u8]) -> bool {
    let Some((header, _)) = start.split_first_chunk::<13>() else { return false };
    let dictionary = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    let mut size = [0; 8];
    size.copy_from_slice(&header[5..]);
    let size = u64::from_le_bytes(size);
    let plausible = dictionary == u32::MAX || (dictionary >= 4096 && dictionary.count_ones() <= 2);
    header[0] == 0x5d && plausible && (size == u64::MAX || size < 1 << 38)
}

/// Decodes a stream. Concatenated gzip members, zstd frames, xz and bzip2 streams are read as one.
pub fn decoder<'a>(reader: impl Read + Send + 'a, compression: Compression) -> io::Result<Box<dyn Read + Send + 'a>> {
    let buffered = BufReader::with_capacity(BUFFER, reader);
    Ok(match compression {
        Compression::None => Box::new(buffered),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered, stream))
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered)),
        Compression::Lzma => {
            let stream = liblzma::stream::Stream::new_lzma_decoder(XZ_MEMORY)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered, stream))
        }
    })
}

/// Decodes a stream whose compression its first bytes tell.
pub fn detecting_decoder<'a>(
    mut reader: impl Read + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut start = Vec::with_capacity(MAGIC_LENGTH);
    reader.by_ref().take(MAGIC_LENGTH as u64).read_to_end(&mut start)?;
    let compression = Compression::detect(&start);
    Ok((compression, decoder(Cursor::new(start).chain(reader), compression)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn encode(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => bytes.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::stream::encode_all(bytes, 1).unwrap(),
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Lzma => {
                let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
                let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    const ALL: [Compression; 6] = [
        Compression::None,
        Compression::Gzip,
        Compression::Zstd,
        Compression::Xz,
        Compression::Bzip2,
        Compression::Lzma,
    ];

    #[test]
    fn detects_and_decodes_every_compression() {
        let plain: Vec<u8> = (0..300_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for compression in ALL {
            let (found, mut reader) = detecting_decoder(Cursor::new(encode(compression, &plain))).unwrap();
            assert_eq!(found, compression);
            let mut decoded = Vec::new();
            reader.read_to_end(&mut decoded).unwrap();
            assert!(decoded == plain, "{compression}");
        }
    }

    #[test]
    fn reads_concatenated_streams_as_one() {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2] {
            let twice = [encode(compression, b"one "), encode(compression, b"two")].concat();
            let mut decoded = String::new();
            decoder(Cursor::new(twice), compression).unwrap().read_to_string(&mut decoded).unwrap();
            assert_eq!(decoded, "one two", "{compression}");
        }
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        let plain: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
        for compression in &ALL[1..] {
            let mut bytes = encode(*compression, &plain);
            bytes.truncate(bytes.len() / 2);
            let error = decoder(Cursor::new(bytes), *compression).unwrap().read_to_end(&mut Vec::new());
            assert!(error.is_err(), "{compression}");
        }
    }

    #[test]
    fn refuses_a_zstd_window_beyond_the_limit() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&vec![7; 1 << 20]).unwrap();
        let bytes = encoder.finish().unwrap();
        assert!(decoder(Cursor::new(bytes), Compression::Zstd).unwrap().read_to_end(&mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn mutated_streams_never_panic(plain in prop::collection::vec(any::<u8>(), 0..2000), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            for compression in ALL {
                let mut bytes = encode(compression, &plain);
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                let mut reader = decoder(Cursor::new(bytes), compression).unwrap().take(1 << 20);
                let _ = io::copy(&mut reader, &mut io::sink());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            for compression in ALL {
                let mut reader = decoder(&bytes[..], compression).unwrap().take(1 << 20);
                let _ = io::copy(&mut reader, &mut io::sink());
            }
        }
    }
}
