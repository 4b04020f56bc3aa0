//! Streams of entries: tar, cpio and ar archives, and the compressions that wrap them.
//!
//! Readers take any `Read`, hold one entry at a time, and bound every length that the archive names.
//! Sources: POSIX.1-2024 pax, the GNU tar manual ("Tar Internals"), RFC 1952, RFC 8878, the xz and lzma formats.

pub mod ar;
pub mod compress;
pub mod cpio;
pub mod layer;
pub mod root;
pub mod tar;
