//! Squashfs 4.0 images, written and read.
//!
//! [`Writer`] takes file bodies as they come and the tree at the end; [`Image`] gives both back. Knows nothing of SIF.

mod blocks;
mod compare;
mod compress;
pub mod dump;
pub mod format;
mod kept;
mod metadata;
mod reader;
mod tables;
mod writer;

pub use blocks::memory_of_thread;
pub use compare::{Difference, compare, differing_bytes};
pub use compress::{Codec, CodecError, Compression};
pub use kept::{Kept, KeptError, Segment};
pub use reader::{BodyReader, Image, ReadAt, ReadError, Window};
pub use writer::{BodyId, Open, Options, SegmentBody, SegmentError, Summary, UnsupportedXattr, WriteError, Writer};
