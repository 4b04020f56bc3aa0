//! Random trees come back as they were; damaged images never harm the reader.

use crate::sample::{CODECS, Sample, assert_same, describe_image, everything, noise};
use proptest::prelude::*;
use sifbuild::squashfs::{Image, Options};
use sifbuild::tree::{Kind, Metadata, TreePath, Xattrs};
use std::io::Read;

fn metadata() -> impl Strategy<Value = Metadata> {
    let name = prop_oneof![Just("user.a"), Just("trusted.b"), Just("security.c"), Just("user.long-name")];
    let xattrs = prop::collection::btree_map(name, prop::collection::vec(any::<u8>(), 0..40), 0..3);
    let xattrs =
        xattrs.prop_map(|map| map.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect());
    let xattrs = prop_oneof![3 => Just(Xattrs::new()), 1 => xattrs];
    (0u16..0o10000, prop_oneof![0..5u32, any::<u32>()], 0..5u32, -5i64..5_000_000_000, xattrs)
        .prop_map(|(mode, uid, gid, mtime, xattrs)| Metadata { mode, uid, gid, mtime, xattrs })
}

/// Lengths around the block size of 4 KiB, seeds that repeat, some zeros.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![0..9usize, 4090..4100usize, 8190..8194usize, 0..40_000usize];
    (length, 0..4u64, 0..4u8).prop_map(|(length, seed, zeros)| {
        let mut bytes = noise(length, seed);
        if zeros == 0 {
            bytes.fill(0);
        } else if zeros == 1 {
            bytes.iter_mut().take(5000).for_each(|byte| *byte = 0);
        }
        bytes
    })
}

#[derive(Clone, Debug)]
enum Item {
    File(Vec<u8>),
    Node(Kind),
    Link,
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        4 => bytes().prop_map(Item::File),
        3 => Just(Item::Node(Kind::Directory)),
        1 => prop::collection::vec(1u8.., 1..300).prop_map(|target| Item::Node(Kind::Symlink { target })),
        1 => (0..4096u32, 0..1_048_576u32).prop_map(|(major, minor)| Item::Node(Kind::BlockDevice { major, minor })),
        1 => (0..4096u32, 0..1_048_576u32).prop_map(|(major, minor)| Item::Node(Kind::CharacterDevice { major, minor })),
        1 => Just(Item::Node(Kind::Fifo)),
        1 => Just(Item::Node(Kind::Socket)),
        1 => Just(Item::Link),
    ]
}

/// Each item lies in one of the directories before it.
fn sample() -> impl Strategy<Value = Sample> {
    prop::collection::vec((item(), metadata(), any::<prop::sample::Index>(), "[a-z]{1,3}|[a-z]{200,240}"), 0..60)
        .prop_map(|items| {
            let mut sample = Sample::default();
            let mut directories = vec![String::new()];
            let mut files: Vec<String> = Vec::new();
            for (number, (item, metadata, index, name)) in items.into_iter().enumerate() {
                let path = format!("{}{name}{number}", index.get(&directories));
                if path.len() > 3000 {
                    continue;
                }
                match item {
                    Item::File(bytes) => {
                        sample.file(&path, metadata, bytes);
                        files.push(path);
                    }
                    Item::Node(kind) => {
                        if kind == Kind::Directory {
                            directories.push(path.clone() + "/");
                        } else {
                            files.push(path.clone());
                        }
                        sample.put(&path, metadata, kind);
                    }
                    Item::Link if !files.is_empty() => sample.link(&path, &files[index.index(files.len())]),
                    Item::Link => {}
                }
            }
            sample
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_is_read_back_as_written(sample in sample(), codec in 0..CODECS.len(), threads in 1..4usize) {
        let options = Options { compression: CODECS[codec], block_size: 4096, threads, modification_time: 7 };
        let (image, _) = sample.pack(options);
        assert_same(&describe_image(&Image::open(image).unwrap()), &sample.describe());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_images_never_harm_the_reader(
        codec in 0..CODECS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..8),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut image = damaged_base(codec).to_vec();
        let tables = image.len() - 6000;
        for (index, byte, in_tables) in changes {
            // Half of the changes hit the superblock and the tables, which is where the harm would be done.
            let at = if in_tables { tables + index.index(6000) } else { index.index(image.len()) };
            let at = if byte & 1 == 0 && !in_tables { at % 104 } else { at };
            image[at] = byte;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        read_all(&image);
    }

    #[test]
    fn arbitrary_bytes_never_harm_the_reader(mut bytes in prop::collection::vec(any::<u8>(), 0..2000), seed in any::<u64>()) {
        read_all(&bytes);
        // With a good superblock in front, the tables are arbitrary.
        let base = damaged_base((seed % 5) as usize);
        bytes.splice(0..0, base[..96].iter().copied());
        bytes.resize(base.len(), (seed >> 8) as u8);
        read_all(&bytes);
    }
}

/// Reads all that there is, bodies up to a bound; errors are expected.
fn read_all(bytes: &[u8]) {
    let Ok(image) = Image::open(bytes) else { return };
    for (_, id) in image.tree.walk().into_iter().take(1000) {
        if let Ok(body) = image.body(id) {
            let _ = std::io::copy(&mut body.take(4 << 20), &mut std::io::sink());
        }
    }
}

fn damaged_base(codec: usize) -> &'static [u8] {
    static IMAGES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    &IMAGES.get_or_init(|| {
        let pack = |compression| everything().pack(Options { compression, ..Options::default() }).0;
        CODECS.into_iter().map(pack).collect()
    })[codec]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Skipping gives what reading and throwing away gives, over blocks, holes and tails.
    #[test]
    fn skips_to_any_byte(pieces in proptest::collection::vec((any::<bool>(), 0usize..9000), 0..8), skips in proptest::collection::vec(0u64..20_000, 1..4)) {
        let mut bytes = Vec::new();
        for (zero, length) in pieces {
            bytes.extend(if zero { vec![0; length] } else { noise(length, length as u64) });
        }
        let mut sample = Sample::default();
        sample.file("f", Metadata::new(0o644, 0), bytes.clone());
        let (image, _) = sample.pack(Options { block_size: 4096, ..Options::default() });
        let image = Image::open(image).unwrap();
        let id = image.tree.get(&TreePath::parse("f").unwrap()).unwrap();
        let mut body = image.body(id).unwrap();
        let mut at = 0;
        for skip in skips {
            body.skip(skip).unwrap();
            at = (at + skip as usize).min(bytes.len());
            let mut next = [0; 10];
            let count = body.read(&mut next).unwrap();
            prop_assert_eq!(&next[..count], &bytes[at..at + count]);
            prop_assert!(count > 0 || at == bytes.len());
            at += count;
        }
        let mut rest = Vec::new();
        body.read_to_end(&mut rest).unwrap();
        prop_assert!(rest == bytes[at..]);
    }
}
