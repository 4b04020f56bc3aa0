//! Shapes at the limits, and what must not change the bytes.

use crate::sample::{
    CODECS, Sample, assert_same, command, describe_directory, describe_image, everything, is_root, noise, prose,
};
use sifbuild::squashfs::{Compression, Image, Options, WriteError, Writer, dump};
use sifbuild::tree::{InodeId, Kind, Metadata, Tree};
use std::io::{Cursor, Read};

#[test]
fn threads_never_change_the_bytes() {
    let mut sample = everything();
    for number in 0..60 {
        sample.file(&format!("many{number}"), Metadata::new(0o644, 1), prose(2000 * number as usize, number % 50));
    }
    for compression in CODECS {
        let pack = |threads| sample.pack(Options { compression, threads, block_size: 16 << 10, ..Options::default() });
        let one = pack(1);
        assert!(one == pack(2) && one == pack(16), "{compression:?}");
    }
}

#[test]
fn every_codec_reads_back_at_every_block_size() {
    let sample = everything();
    for compression in CODECS {
        for block_size in [4096, 128 << 10, 1 << 20] {
            let (image, _) = sample.pack(Options { compression, block_size, threads: 2, ..Options::default() });
            assert_same(&describe_image(&Image::open(image).unwrap()), &sample.describe());
        }
    }
}

#[test]
fn an_empty_tree_is_one_page() {
    let writer = Writer::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    let (out, summary) = writer.finish(&Tree::new(), &|_| None).unwrap();
    assert_eq!((out.get_ref().len(), summary.size, summary.reach, summary.inodes), (4096, 4096, 4096, 1));
    assert_eq!(Image::open(out.into_inner()).unwrap().tree.walk().len(), 1);
}

#[test]
fn the_image_begins_where_the_output_stands() {
    let mut out = Cursor::new(vec![7; 5000]);
    out.set_position(5000);
    let mut writer = Writer::new(out, Options::default()).unwrap();
    let bytes = prose(400_000, 1);
    let body = writer.body(&mut bytes.as_slice(), 400_000).unwrap();
    let mut sample = Sample::default();
    sample.file("a", Metadata::new(0o644, 0), bytes);
    let (out, summary) = writer.finish(&sample.tree(), &|_| Some(body)).unwrap();
    let bytes = out.into_inner();
    assert_eq!(bytes.len() as u64, 5000 + summary.size);
    assert!(bytes[..5000].iter().all(|byte| *byte == 7));
    let (plain, _) = sample.pack(Options::default());
    assert!(bytes[5000..] == plain);
}

#[test]
fn a_duplicate_costs_its_inode_only() {
    let mut sample = Sample::default();
    sample.file("a", Metadata::new(0o644, 0), noise(1_000_000, 1));
    let (alone, _) = sample.pack(Options::default());
    sample.file("b", Metadata::new(0o644, 0), noise(1_000_000, 1));
    let (both, summary) = sample.pack(Options::default());
    assert_eq!(both.len(), alone.len());
    assert_eq!(summary.duplicates, 2, "the blocks and the tail");
    assert_same(&describe_image(&Image::open(both).unwrap()), &sample.describe());
}

#[test]
fn a_hundred_thousand_tiny_files_round_trip() {
    let mut sample = Sample::default();
    for number in 0..100_000u32 {
        let path = format!("d{:02}/file{number}", number % 100);
        sample.file(&path, Metadata::new(0o644, i64::from(number)), number.to_string().into_bytes());
    }
    let (image, summary) = sample.pack(Options { threads: 2, ..Options::default() });
    assert_eq!(summary.inodes, 100_101);
    assert_same(&describe_image(&Image::open(image).unwrap()), &sample.describe());
}

#[test]
fn a_directory_of_seventy_thousand_names_is_indexed() {
    let mut sample = Sample::default();
    for number in 0..70_000 {
        sample.put(&format!("large/name-{number}"), Metadata::new(0o600, 0), Kind::Fifo);
    }
    for number in 0..300 {
        sample.link(&format!("large/z{number}"), &format!("large/name-{}", number * 200));
    }
    let (image, _) = sample.pack(Options::default());
    let read = Image::open(image.clone()).unwrap();
    assert_same(&describe_image(&read), &sample.describe());
    let mut listing = Vec::new();
    dump::write(&read, &mut listing).unwrap();
    assert!(
        String::from_utf8(listing).unwrap().lines().any(|line| line.starts_with("/large ") && line.contains(" index="))
    );
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (file, root) = (directory.path().join("image"), directory.path().join("root"));
    std::fs::write(&file, image).unwrap();
    command("squashfs-tools", "unsquashfs -no-progress -d % %", &[&root, &file]);
    assert_same(&describe_directory(&root), &sample.describe());
}

#[test]
fn a_file_beyond_four_gibibytes_has_holes_that_cost_nothing() {
    let size = (5u64 << 30) + 17;
    let mut sample = Sample::default();
    sample.put("huge", Metadata::new(0o644, 0), Kind::File { size, body: sifbuild::tree::Body::Stored });
    let mut writer =
        Writer::new(Cursor::new(Vec::new()), Options { block_size: 1 << 20, ..Options::default() }).unwrap();
    let end = b"the end".as_slice();
    let mut reader = std::io::repeat(0).take(size - end.len() as u64).chain(end);
    let body = writer.body(&mut reader, size).unwrap();
    let (out, summary) = writer.finish(&sample.tree(), &|_| Some(body)).unwrap();
    assert!(summary.size <= 8192);
    let image = Image::open(out.into_inner()).unwrap();
    let (_, id) = image.tree.walk()[1];
    let mut last = Vec::new();
    let mut body = image.body(id).unwrap();
    std::io::copy(&mut (&mut body).take(size - 9), &mut std::io::sink()).unwrap();
    body.read_to_end(&mut last).unwrap();
    assert_eq!(last, b"\0\0the end");
}

#[test]
fn what_squashfs_cannot_hold_is_named() {
    let fails = |sample: &Sample| {
        let writer = Writer::new(Cursor::new(Vec::new()), Options::default()).unwrap();
        writer.finish(&sample.tree(), &|_| None).unwrap_err().to_string()
    };
    let one = |kind| {
        let mut sample = Sample::default();
        sample.put("a", Metadata::new(0o644, 0), kind);
        sample
    };
    assert_eq!(
        fails(&one(Kind::BlockDevice { major: 4096, minor: 0 })),
        "/a is device 4096:0, which squashfs cannot store"
    );
    let target = vec![b'x'; 4096];
    assert!(fails(&one(Kind::Symlink { target })).starts_with("/a is a symbolic link"));
    let body = sifbuild::tree::Body::Stored;
    assert_eq!(fails(&one(Kind::File { size: 5, body })), "/a has 5 bytes and no content was given for it");
    let mut owners = Sample::default();
    for id in 0..65_536 {
        owners.put(&format!("{id}"), Metadata { uid: id, ..Metadata::new(0o644, 0) }, Kind::Fifo);
    }
    assert!(fails(&owners).ends_with("squashfs has room for 65535 different user and group ids"));
}

#[test]
fn attributes_of_other_namespaces_are_reported() {
    let mut sample = Sample::default();
    let mut metadata = Metadata::new(0o644, 0);
    metadata.xattrs.insert(b"system.posix_acl_access".to_vec(), vec![2, 0, 0, 0]);
    sample.file("a", metadata.clone(), b"x".to_vec());
    metadata.xattrs.insert(b"user.kept".to_vec(), vec![1]);
    sample.file("b", metadata, b"x".to_vec());
    let (image, summary) = sample.pack(Options::default());
    let reported: Vec<_> = summary.unsupported_xattrs.iter().map(|unsupported| unsupported.path.to_string()).collect();
    assert_eq!(reported, ["/a", "/b"]);
    let image = Image::open(image).unwrap();
    let names = |id: InodeId| image.tree.inode(id).metadata.xattrs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(image.tree.walk().iter().flat_map(|(_, id)| names(*id)).collect::<Vec<_>>(), [b"user.kept".to_vec()]);
}

#[test]
fn short_bodies_and_bad_options_are_errors() {
    let mut writer = Writer::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    let error = writer.body(&mut &b"abc"[..], 5).unwrap_err();
    assert_eq!(error.to_string(), "a file of 5 bytes ended after 3 bytes");
    let bad = |options| Writer::new(Cursor::new(Vec::new()), options).map(|_| ()).unwrap_err();
    assert!(matches!(bad(Options { block_size: 5000, ..Options::default() }), WriteError::BlockSize(5000)));
    let compression = Compression::Zstd { level: 23 };
    assert_eq!(
        bad(Options { compression, ..Options::default() }).to_string(),
        "zstd compression level 23 is not between 1 and 22"
    );
}

/// Packs without compression, so that a test can change fields where they lie; gives the image and its listing, line by line.
fn pack_plain(sample: &Sample) -> (Vec<u8>, Vec<String>) {
    let (image, _) = sample.pack(Options { compression: Compression::None, ..Options::default() });
    let mut listing = Vec::new();
    dump::write(&Image::open(image.clone()).unwrap(), &mut listing).unwrap();
    (image, String::from_utf8(listing).unwrap().lines().map(str::to_owned).collect())
}

/// Where the inode of a path lies in the image, if the inode table has no compressed block.
fn inode_at(image: &[u8], listing: &[String], path: &str) -> usize {
    let line = listing.iter().find(|line| line.starts_with(&format!("{path} "))).unwrap();
    let place = line.split(' ').find_map(|word| word.strip_prefix("at=")).unwrap();
    let (block, offset) = place.split_once(':').unwrap();
    let table = u64::from_le_bytes(image[64..72].try_into().unwrap()) as usize;
    table + block.parse::<usize>().unwrap() + 2 + offset.parse::<usize>().unwrap()
}

/// Gives a directory (with a basic inode) the listing of another one.
fn share_listing(image: &mut [u8], from: usize, to: usize) {
    for range in [0..4, 8..12] {
        let field: Vec<u8> = image[from + 16..][range.clone()].to_vec();
        image[to + 16..][range].copy_from_slice(&field);
    }
}

#[test]
fn a_directory_inside_itself_is_refused() {
    let mut sample = Sample::default();
    sample.put("a", Metadata::new(0o755, 0), Kind::Directory);
    sample.put("a/b", Metadata::new(0o755, 0), Kind::Directory);
    let (mut image, listing) = pack_plain(&sample);
    let (from, to) = (inode_at(&image, &listing, "/a"), inode_at(&image, &listing, "/a/b"));
    share_listing(&mut image, from, to);
    let error = Image::open(image).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the squashfs image is damaged: directory /a/b holds a directory that is in the tree already"
    );
}

#[test]
fn a_tree_far_larger_than_its_image_is_refused() {
    let mut sample = Sample::default();
    // Few enough names that the listing has no index, which would make its directory's inode an extended one.
    for number in 0..600 {
        sample.put(&format!("a-full/{number}"), Metadata::new(0o644, 0), Kind::Fifo);
    }
    for number in 0..1500 {
        sample.put(&format!("empty/{number}"), Metadata::new(0o755, 0), Kind::Directory);
    }
    let (mut image, listing) = pack_plain(&sample);
    let from = inode_at(&image, &listing, "/a-full");
    let table = u64::from_le_bytes(image[64..72].try_into().unwrap()) as usize;
    for number in 0..1500 {
        let to = inode_at(&image, &listing, &format!("/empty/{number}"));
        // An inode that reaches over the end of its metadata block has that block's successor's header in it: left alone.
        if (to - table) % 8194 < 8150 {
            share_listing(&mut image, from, to);
        }
    }
    let error = Image::open(image).map(|_| ()).unwrap_err().to_string();
    assert!(error.ends_with("bytes of memory"), "{error}");
}

#[test]
fn compressions_are_named_as_on_a_command_line() {
    assert_eq!("zstd".parse(), Ok(Compression::default()));
    assert_eq!("gzip:9".parse(), Ok(Compression::Gzip { level: 9 }));
    for bad in ["", "zip", "xz:5", "zstd:x", "zstd:23", "gzip:0"] {
        assert!(bad.parse::<Compression>().is_err(), "{bad}");
    }
}
