//! An image's structure as text: the superblock, then one line for each name, with the inode's fields as stored.
//!
//! For people who look for a fault, and for tests that compare.

use super::format::inode::{self, Body, Inode};
use super::format::{DATA_UNCOMPRESSED, NO_FRAGMENT, NO_TABLE, NO_XATTR, Superblock, decode_device};
use super::reader::{Image, ReadAt, ReadError};
use crate::tree::text::escape;
use std::io::{self, Write};

/// Why an image was not listed.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error("cannot write the listing: {0}")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Image(#[from] ReadError),
}

/// Writes the listing. Size words of blocks follow as `+N` (compressed), `=N` (as it is) and `0` (hole).
pub fn write<S: ReadAt>(image: &Image<S>, out: &mut dyn Write) -> Result<(), DumpError> {
    write_superblock(image.superblock(), out)?;
    for (path, id) in image.tree.walk() {
        let Some(reference) = image.reference(id) else { continue };
        let (inode, mut words) = image.inode(reference)?;
        let basic_type = inode.body.basic_type();
        let layout = if inode.inode_type > inode::EXTENDED { "extended" } else { "basic" };
        let metadata = &image.tree.inode(id).metadata;
        write!(
            out,
            "/{} {} {layout} at={}:{} number={} nlink={} mode={:04o} uid={} gid={} mtime={}",
            escape(path.as_bytes()),
            kind_name(basic_type),
            reference.block(),
            reference.offset(),
            inode.inode_number,
            inode.nlink,
            inode.mode,
            metadata.uid,
            metadata.gid,
            inode.mtime
        )?;
        write_body(&inode, out)?;
        if let Body::File { file_size, fragment, .. } = inode.body {
            let block_size = u64::from(image.superblock().block_size);
            let tail = fragment != NO_FRAGMENT;
            let count = if tail { file_size / block_size } else { file_size.div_ceil(block_size) };
            for number in 0..count {
                let word = u32::from_le_bytes(words.read_array()?);
                write!(out, "{}{}", if number == 0 { " blocks=" } else { "," }, format_word(word))?;
            }
        }
        if inode.xattr != NO_XATTR {
            write!(out, " xattr={}", inode.xattr)?;
        }
        for (name, value) in &metadata.xattrs {
            write!(out, " {}={}", escape(name), escape(value))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_superblock(superblock: &Superblock, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "superblock inodes={} mkfs_time={} block_size={} fragments={} compression={} flags={:#06x} no_ids={} root_inode={}:{} bytes_used={}",
        superblock.inodes,
        superblock.mkfs_time,
        superblock.block_size,
        superblock.fragments,
        superblock.compression,
        superblock.flags,
        superblock.no_ids,
        superblock.root_inode.block(),
        superblock.root_inode.offset(),
        superblock.bytes_used
    )?;
    write!(out, "tables")?;
    for (name, start) in [
        ("inode", superblock.inode_table_start),
        ("directory", superblock.directory_table_start),
        ("fragment", superblock.fragment_table_start),
        ("lookup", superblock.lookup_table_start),
        ("id", superblock.id_table_start),
        ("xattr_id", superblock.xattr_id_table_start),
    ] {
        if start == NO_TABLE {
            write!(out, " {name}=-")?;
        } else {
            write!(out, " {name}={start}")?;
        }
    }
    writeln!(out)
}

fn write_body(inode: &Inode, out: &mut dyn Write) -> io::Result<()> {
    match &inode.body {
        Body::Directory { start_block, offset, listing_size, parent_inode, index } => {
            write!(out, " listing={start_block}:{offset} size={listing_size} parent={parent_inode}")?;
            for entry in index {
                write!(out, " index={}:{}:{}", entry.index, entry.start_block, escape(&entry.name))?;
            }
            Ok(())
        }
        Body::File { start_block, file_size, sparse, fragment, offset } => {
            write!(out, " size={file_size} start={start_block} sparse={sparse}")?;
            if *fragment == NO_FRAGMENT { Ok(()) } else { write!(out, " fragment={fragment}:{offset}") }
        }
        Body::Symlink { target } => write!(out, " target={}", escape(target)),
        Body::BlockDevice { rdev } | Body::CharacterDevice { rdev } => {
            let (major, minor) = decode_device(*rdev);
            write!(out, " rdev={major}:{minor}")
        }
        Body::Fifo | Body::Socket => Ok(()),
    }
}

fn format_word(word: u32) -> String {
    match (word & DATA_UNCOMPRESSED, word & !DATA_UNCOMPRESSED) {
        (_, 0) => "0".to_owned(),
        (0, size) => format!("+{size}"),
        (_, size) => format!("={size}"),
    }
}

fn kind_name(basic_type: u16) -> &'static str {
    match basic_type {
        inode::DIRECTORY => "directory",
        inode::FILE => "file",
        inode::SYMLINK => "symlink",
        inode::BLOCK_DEVICE => "block-device",
        inode::CHARACTER_DEVICE => "character-device",
        inode::FIFO => "fifo",
        _ => "socket",
    }
}
