use super::super::compress::{Compression, Compressor};
use super::super::format::inode::Body;
use super::super::format::{NO_TABLE, NO_XATTR, directory};
use super::super::metadata::MetadataWriter;
use super::super::tables::encode_table;
use super::*;

const DIRECTORIES: u32 = 12;
const INDEX_ENTRIES: u16 = u16::MAX;

/// The inode of an empty directory whose index is as long as the format allows.
fn long_index(number: u32) -> [u8; 40] {
    let mut bytes = Vec::new();
    for half in [inode::DIRECTORY + inode::EXTENDED, 0o755, 0, 0] {
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    for word in [0, number, 2, inode::LISTING_SIZE_BIAS, 0, 1, u32::from(INDEX_ENTRIES), NO_XATTR] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.try_into().unwrap()
}

/// Directories whose inodes lie in the names of each other's indexes: all share the same 17 MB of them.
fn shared_indexes() -> Vec<u8> {
    let compressor = &mut Compressor::new(Compression::Gzip { level: 1 }, 4096).unwrap();
    let (mut inodes, mut listing) = (MetadataWriter::default(), Vec::new());
    let root = Inode {
        inode_type: inode::DIRECTORY,
        mode: 0o755,
        uid_index: 0,
        gid_index: 0,
        mtime: 0,
        inode_number: 1,
        nlink: 2,
        xattr: NO_XATTR,
        body: Body::Directory {
            start_block: 0,
            offset: 0,
            listing_size: DIRECTORIES * (directory::HEADER_SIZE + directory::ENTRY_SIZE + 1) as u32,
            parent_inode: 1,
            index: Vec::new(),
        },
    };
    let mut bytes = Vec::new();
    root.encode(&mut bytes);
    inodes.write(&bytes, compressor).unwrap();
    for number in 0..DIRECTORIES + u32::from(INDEX_ENTRIES) {
        if number < DIRECTORIES {
            let place = inodes.position();
            let run = directory::Header { count: 1, start_block: place.block() as u32, inode_number: number };
            run.encode(&mut listing);
            let inode_type = inode::DIRECTORY;
            directory::Entry { offset: place.offset(), inode_number_delta: 0, inode_type, name_size: 1 }
                .encode(&mut listing);
            listing.push(b'a' + number as u8);
        }
        inodes.write(&long_index(number), compressor).unwrap();
        // The fixed part of an index entry with a name of 256 bytes, of which the next inode is the end.
        inodes.write(&[[0; 4], [0; 4], 255u32.to_le_bytes()].concat(), compressor).unwrap();
        inodes.write(&[b'n'; 256 - 40], compressor).unwrap();
    }
    let (inode_table, _) = inodes.finish(compressor).unwrap();
    let mut directories = MetadataWriter::default();
    directories.write(&listing, compressor).unwrap();
    let (directory_table, _) = directories.finish(compressor).unwrap();

    let inode_table_start = SUPERBLOCK_SIZE as u64;
    let directory_table_start = inode_table_start + inode_table.len() as u64;
    let ids_at = directory_table_start + directory_table.len() as u64;
    let (id_table, index_at) = encode_table(&[0; 4], ids_at, compressor).unwrap();
    let superblock = Superblock {
        inodes: DIRECTORIES + 1,
        mkfs_time: 0,
        block_size: 4096,
        fragments: 0,
        compression: Codec::Gzip.number(),
        flags: 0,
        no_ids: 1,
        root_inode: InodeReference::new(0, 0),
        bytes_used: ids_at + id_table.len() as u64,
        id_table_start: ids_at + index_at,
        xattr_id_table_start: NO_TABLE,
        inode_table_start,
        directory_table_start,
        fragment_table_start: NO_TABLE,
        lookup_table_start: NO_TABLE,
    };
    [&superblock.encode()[..], &inode_table, &directory_table, &id_table].concat()
}

#[test]
fn a_long_index_that_many_directories_share_is_counted_for_each() {
    let image = shared_indexes();
    assert!(image.len() < 1 << 20, "{} bytes", image.len());
    match Image::open(image) {
        Err(ReadError::Memory { .. }) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the index is read over and over"),
    }
}
