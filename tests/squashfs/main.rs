//! Squashfs images: ours read by others (unsquashfs, the kernel, squashfuse, backhand), theirs read by us, and the worst cases.

mod kept;
mod peers;
mod properties;
mod sample;
mod worst;
