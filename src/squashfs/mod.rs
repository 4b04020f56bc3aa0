//! Squashfs 4.0 images, written and read.
//!
//! [`Writer`] takes file bodies as they come and the tree at the end; [`Image`] gives both back. Knows nothing of SIF.

mod blocks;
mod compress;
pub mod dump;
pub mod format;
mod metadata;
mod reader;
mod tables;
mod writer;

pub use compress::{Codec, CodecError, Compression};
pub use reader::{BodyReader, Image, ReadAt, ReadError, Window};
pub use writer::{BodyId, Options, Summary, UnsupportedXattr, WriteError, Writer};
