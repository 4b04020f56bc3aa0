//! `squashfs`: trees and bodies of hostile images; what is read makes an image with the same tree and the same bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::squashfs::{Compression, Image, Options, Writer, dump};
use sifbuild::tree::{InodeId, Node, text};
use sifbuild_fuzz::{BODY, is_inside};
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};

fuzz_target!(|data: &[u8]| {
    let Ok(image) = Image::open(data) else { return };
    let _ = dump::write(&image, &mut Limited(8 << 20));
    let names = image.tree.walk();
    let mut bodies: BTreeMap<InodeId, Vec<u8>> = BTreeMap::new();
    let (mut total, mut whole) = (0, names.len() < 200);
    for (path, id) in &names {
        assert!(is_inside(path.as_bytes()), "{path}");
        let Node::File { size, .. } = image.tree.inode(*id).node else { continue };
        let (mut body, mut left) = (Vec::new(), BODY.saturating_sub(total));
        left = left.min(size.saturating_add(1));
        match image.body(*id).map_err(io::Error::other).and_then(|reader| reader.take(left).read_to_end(&mut body)) {
            Ok(read) => {
                assert!(read as u64 <= size);
                whole &= read as u64 == size;
            }
            Err(_) => whole = false,
        }
        total += body.len() as u64;
        bodies.insert(*id, body);
    }
    // One in eight: a writer starts threads, which takes far longer than reading.
    if whole && total < 1 << 16 && data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) % 8 == 0 {
        write_again(&image, &bodies);
    }
});

fn write_again(image: &Image<&[u8]>, bodies: &BTreeMap<InodeId, Vec<u8>>) {
    let options = Options { compression: Compression::None, block_size: 4096, ..Options::default() };
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).expect("memory takes everything");
    let ids: BTreeMap<_, _> = bodies
        .iter()
        .map(|(id, body)| (*id, writer.body(&mut &body[..], body.len() as u64).expect("memory takes everything")))
        .collect();
    let (file, _) = writer.finish(&image.tree, &|id| ids.get(&id).copied()).expect("what was read can be written");
    let bytes = file.into_inner();
    let again = Image::open(bytes).expect("our own image");
    assert_eq!(text::write(&again.tree.layer()), text::write(&image.tree.layer()));
    for ((_, old), (_, new)) in image.tree.walk().iter().zip(again.tree.walk()) {
        if let Some(body) = bodies.get(old) {
            let mut found = Vec::new();
            again.body(new).expect("it is a file").read_to_end(&mut found).expect("our own image");
            assert!(found == *body, "a body changed");
        }
    }
}

/// Takes so many bytes and no more.
struct Limited(usize);

impl Write for Limited {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(buffer.len()).ok_or_else(|| io::Error::other("enough"))?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
