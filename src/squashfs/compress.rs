//! The codecs of data and metadata blocks, and the option record that goes with each.
//!
//! Contexts are made once per thread and reused for every block.
//!
//! # Why zstd has a setting of its own
//! `zstd` without a level is level 5 with twice its candidates, between levels 5 and 6. Over the 128 KiB blocks of a Debian image with compilers it
//! takes a quarter less time than level 6 for 1.8 % more bytes, which are still fewer than gzip 9 makes; level 5 itself is as fast and 0.5 % larger.
//! Choosing levels by what a block holds (code, text, tables) was tried and is no better.

use super::format::MAXIMUM_BLOCK_SIZE;
use liblzma::stream::{Action, Check, Filters, LzmaOptions, Status, Stream};
use std::str::FromStr;

/// Memory that an xz decoder may take: a dictionary of the largest block, with room for its state.
const XZ_MEMORY_LIMIT: u64 = 8 * MAXIMUM_BLOCK_SIZE as u64;
const XZ_PRESET: u32 = 6;

/// How blocks are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// zlib streams; libdeflate's levels 1 to 12. Its level 5 reaches the size of zlib's 9.
    Gzip {
        level: u32,
    },
    /// Levels 1 to 22.
    Zstd {
        level: u32,
    },
    /// Level 5 with a search of 16 candidates.
    #[default]
    ZstdGreedy,
    Xz,
    Lz4,
    /// All blocks as they are; readers are told gzip, which every one of them knows.
    None,
}

/// A codec by the number in the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Gzip,
    Xz,
    Lz4,
    Zstd,
}

/// Why a block was not compressed or decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("squashfs compression {name} is not supported")]
    Unsupported { name: &'static str },
    #[error("squashfs compression number {number} is unknown")]
    Unknown { number: u16 },
    #[error("{text:?} is no compression; gzip, gzip:LEVEL, zstd, zstd:LEVEL, xz, lz4 and none are")]
    Name { text: String },
    #[error("{codec} compression level {level} is not between 1 and {maximum}")]
    Level { codec: &'static str, level: u32, maximum: u32 },
    #[error("{codec} failed: {cause}")]
    Failed { codec: &'static str, cause: String },
}

impl Codec {
    pub fn from_number(number: u16) -> Result<Codec, CodecError> {
        Ok(match number {
            1 => Codec::Gzip,
            2 => return Err(CodecError::Unsupported { name: "lzma" }),
            3 => return Err(CodecError::Unsupported { name: "lzo" }),
            4 => Codec::Xz,
            5 => Codec::Lz4,
            6 => Codec::Zstd,
            _ => return Err(CodecError::Unknown { number }),
        })
    }

    pub fn number(self) -> u16 {
        match self {
            Codec::Gzip => 1,
            Codec::Xz => 4,
            Codec::Lz4 => 5,
            Codec::Zstd => 6,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Codec::Gzip => "gzip",
            Codec::Xz => "xz",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// libdeflate's level whose images are no larger than those of mksquashfs with its default, zlib's 9.
const GZIP_LEVEL: u32 = 6;
/// What [`Compression::ZstdGreedy`] starts from, and tells readers.
const ZSTD_LEVEL: u32 = 5;
/// Binary logarithm of the candidates that it looks at.
const ZSTD_SEARCH_LOG: u32 = 4;

impl FromStr for Compression {
    type Err = CodecError;

    /// Takes `gzip`, `zstd`, `xz`, `lz4`, `none`, and a level for the first two: `zstd:15`.
    fn from_str(text: &str) -> Result<Compression, CodecError> {
        let unknown = || CodecError::Name { text: text.chars().take(40).collect() };
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u32>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        let compression = match (name, level) {
            ("gzip", level) => Compression::Gzip { level: level.unwrap_or(GZIP_LEVEL) },
            ("zstd", Some(level)) => Compression::Zstd { level },
            ("zstd", None) => Compression::ZstdGreedy,
            ("xz", None) => Compression::Xz,
            ("lz4", None) => Compression::Lz4,
            ("none", None) => Compression::None,
            _ => return Err(unknown()),
        };
        compression.check()?;
        Ok(compression)
    }
}

impl Compression {
    /// The codec that the superblock names.
    pub fn codec(self) -> Codec {
        match self {
            Compression::Gzip { .. } | Compression::None => Codec::Gzip,
            Compression::Zstd { .. } | Compression::ZstdGreedy => Codec::Zstd,
            Compression::Xz => Codec::Xz,
            Compression::Lz4 => Codec::Lz4,
        }
    }

    pub fn check(self) -> Result<(), CodecError> {
        let (codec, level, maximum) = match self {
            Compression::Gzip { level } => ("gzip", level, 12),
            Compression::Zstd { level } => ("zstd", level, 22),
            _ => return Ok(()),
        };
        if (1..=maximum).contains(&level) { Ok(()) } else { Err(CodecError::Level { codec, level, maximum }) }
    }

    /// The option record behind the superblock, without its metadata header. Absent where mksquashfs leaves it out too:
    /// its defaults are gzip 9 and zstd 15; lz4 always has one.
    pub(super) fn option_record(self) -> Option<Vec<u8>> {
        match self {
            // Compat: unsquashfs refuses gzip levels above 9.
            Compression::Gzip { level } if level < 9 => {
                let (window_size, strategies) = (15u16, 0u16);
                Some([&level.to_le_bytes()[..], &window_size.to_le_bytes(), &strategies.to_le_bytes()].concat())
            }
            Compression::ZstdGreedy => Some(ZSTD_LEVEL.to_le_bytes().to_vec()),
            Compression::Zstd { level } if level != 15 => Some(level.to_le_bytes().to_vec()),
            Compression::Lz4 => {
                let (version, flags) = (1u32, 0u32);
                Some([version.to_le_bytes(), flags.to_le_bytes()].concat())
            }
            _ => None,
        }
    }
}

/// Bytes that one context takes at most. Measured: libdeflate 0.7 MB, above level 9 9.0 MB; zstd's largest level 2.9 MB for blocks of 128 KiB and
/// 18 MB for those of 1 MiB; xz 2.0 MB for 64 KiB and 13.2 MB for 1 MiB.
pub(super) fn memory(compression: Compression, block_size: u32) -> u64 {
    let block = u64::from(block_size);
    match compression {
        Compression::Gzip { level: 10.. } => 9 << 20,
        Compression::Gzip { .. } => 1 << 20,
        Compression::Zstd { .. } | Compression::ZstdGreedy => (1 << 20) + 24 * block,
        Compression::Xz => (2 << 20) + 12 * block,
        Compression::Lz4 | Compression::None => 64 << 10,
    }
}

/// One thread's compressing context.
pub(super) enum Compressor {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
    Xz { dictionary: u32 },
    Lz4,
    None,
}

impl Compressor {
    pub(super) fn new(compression: Compression, block_size: u32) -> Result<Compressor, CodecError> {
        compression.check()?;
        Ok(match compression {
            Compression::Gzip { level } => {
                let level = libdeflater::CompressionLvl::new(level as i32).map_err(|_| CodecError::Level {
                    codec: "gzip",
                    level,
                    maximum: 12,
                })?;
                Compressor::Gzip(libdeflater::Compressor::new(level))
            }
            Compression::Zstd { level } => Compressor::Zstd(zstd_context(level)?),
            Compression::ZstdGreedy => {
                let mut context = zstd_context(ZSTD_LEVEL)?;
                let search = zstd::zstd_safe::CParameter::SearchLog(ZSTD_SEARCH_LOG);
                context.set_parameter(search).map_err(|error| failed("zstd", error))?;
                Compressor::Zstd(context)
            }
            // Spec: without an option record the kernel's decoder has a dictionary of one block.
            Compression::Xz => Compressor::Xz { dictionary: block_size },
            Compression::Lz4 => Compressor::Lz4,
            Compression::None => Compressor::None,
        })
    }

    /// Compresses `input` into `output`. False: that does not make it smaller, and `output` holds nothing of use.
    pub(super) fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<bool, CodecError> {
        match self {
            Compressor::None => return Ok(false),
            Compressor::Gzip(context) => {
                // Invariant: running out of room is the only error of libdeflate, and means no gain.
                output.resize(input.len().saturating_sub(1), 0);
                match context.zlib_compress(input, output) {
                    Ok(size) => output.truncate(size),
                    Err(_) => return Ok(false),
                }
            }
            Compressor::Zstd(context) => {
                output.clear();
                output.reserve(zstd::zstd_safe::compress_bound(input.len()));
                context.compress_to_buffer(input, output).map_err(|error| failed("zstd", error))?;
            }
            Compressor::Xz { dictionary } => {
                output.clear();
                output.reserve(input.len());
                let mut options = LzmaOptions::new_preset(XZ_PRESET).map_err(|error| failed("xz", error))?;
                options.dict_size(*dictionary);
                let mut stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::Crc32)
                    .map_err(|error| failed("xz", error))?;
                let status = stream.process_vec(input, output, Action::Finish).map_err(|error| failed("xz", error))?;
                if !matches!(status, Status::StreamEnd) {
                    return Ok(false);
                }
            }
            Compressor::Lz4 => {
                let bound = lz4::block::compress_bound(input.len()).map_err(|error| failed("lz4", error))?;
                output.resize(bound, 0);
                let size =
                    lz4::block::compress_to_buffer(input, None, false, output).map_err(|error| failed("lz4", error))?;
                output.truncate(size);
            }
        }
        Ok(output.len() < input.len())
    }
}

fn zstd_context(level: u32) -> Result<zstd::bulk::Compressor<'static>, CodecError> {
    zstd::bulk::Compressor::new(level as i32).map_err(|error| failed("zstd", error))
}

/// One thread's decompressing context.
pub(super) enum Decompressor {
    Gzip(libdeflater::Decompressor),
    Zstd(zstd::bulk::Decompressor<'static>),
    Xz,
    Lz4,
}

impl Decompressor {
    pub(super) fn new(codec: Codec) -> Result<Decompressor, CodecError> {
        Ok(match codec {
            Codec::Gzip => Decompressor::Gzip(libdeflater::Decompressor::new()),
            Codec::Zstd => Decompressor::Zstd(zstd::bulk::Decompressor::new().map_err(|error| failed("zstd", error))?),
            Codec::Xz => Decompressor::Xz,
            Codec::Lz4 => Decompressor::Lz4,
        })
    }

    /// Decompresses a whole block; one that holds more than `maximum` bytes is an error. `output` is replaced.
    pub(super) fn decompress(&mut self, input: &[u8], maximum: usize, output: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Decompressor::Gzip(context) => {
                output.resize(maximum, 0);
                let size = context.zlib_decompress(input, output).map_err(|error| failed("gzip", error))?;
                output.truncate(size);
            }
            Decompressor::Zstd(context) => {
                output.resize(maximum, 0);
                let size = context
                    .decompress_to_buffer(input, output.as_mut_slice())
                    .map_err(|error| failed("zstd", error))?;
                output.truncate(size);
            }
            Decompressor::Xz => {
                output.resize(maximum, 0);
                let mut stream = Stream::new_stream_decoder(XZ_MEMORY_LIMIT, 0).map_err(|error| failed("xz", error))?;
                let status = stream.process(input, output, Action::Finish).map_err(|error| failed("xz", error))?;
                if !matches!(status, Status::StreamEnd) {
                    return Err(failed("xz", "the stream does not end within the block"));
                }
                output.truncate(stream.total_out() as usize);
            }
            Decompressor::Lz4 => {
                output.resize(maximum, 0);
                let size = lz4::block::decompress_to_buffer(input, i32::try_from(maximum).ok(), output)
                    .map_err(|error| failed("lz4", error))?;
                output.truncate(size);
            }
        }
        Ok(())
    }
}

fn failed(codec: &'static str, cause: impl std::fmt::Display) -> CodecError {
    CodecError::Failed { codec, cause: cause.to_string() }
}
