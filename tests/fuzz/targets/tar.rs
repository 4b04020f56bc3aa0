//! `archive::tar` and `archive::layer`: members stay within limits, what is read can be written and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::archive::layer::{Dialect, read_layer};
use sifbuild::archive::tar::{Header, Kind, Reader, Writer};
use sifbuild::tree::{Change, Tree};
use sifbuild_fuzz::{is_inside, read_some, with_tar_checksums};
use std::io::{Cursor, Read};

fuzz_target!(|data: &[u8]| {
    let _ = members(Reader::new(data));
    let bytes = with_tar_checksums(data);
    let (headers, whole) = members(Reader::new(&bytes[..]));
    if whole {
        write_again(&headers);
        // Skipping must find the same members as reading.
        let mut skipping = Reader::seeking(Cursor::new(&bytes));
        for (header, _) in &headers {
            let entry = skipping.next_entry().expect("it was read before").expect("it was there before");
            assert_eq!(entry.header, *header);
        }
    }
    for dialect in [Dialect::Oci, Dialect::Plain] {
        let Ok(layer) = read_layer(&bytes[..], dialect, &mut |entry, body| {
            assert!(is_inside(entry.path.as_bytes()), "{}", entry.path);
            body.map_or(Ok(()), |body| body.take(1 << 16).read_to_end(&mut Vec::new()).map(|_| ()))
        }) else {
            continue;
        };
        for entry in &layer.entries {
            if let Change::Link(target) = &entry.change {
                assert!(is_inside(target.as_bytes()));
            }
        }
        let mut tree = Tree::new();
        if tree.apply(&layer, 0).is_ok() {
            let _ = tree.layer();
        }
    }
});

/// All members with at most 1 MiB of their bodies, and whether the archive was read to its end and all bodies were whole.
fn members<R: Read>(mut reader: Reader<R>) -> (Vec<(Header, Vec<u8>)>, bool) {
    let mut found = Vec::new();
    let mut whole = true;
    loop {
        match reader.next_entry() {
            Ok(Some(mut entry)) => {
                assert!(entry.header.mode <= 0o7777 && entry.header.path.len() <= 1 << 20);
                let body = read_some(&mut entry);
                whole &= body.as_ref().is_some_and(|body| body.len() as u64 == entry.header.size);
                found.push((entry.header, body.unwrap_or_default()));
            }
            Ok(None) => return (found, whole),
            Err(_) => return (found, false),
        }
    }
}

fn write_again(members: &[(Header, Vec<u8>)]) {
    let mut writer = Writer::new(Vec::new());
    let mut expected = Vec::new();
    for (header, body) in members {
        // What no reader of ours gives on: `read_layer` refuses these names.
        if header.path.contains(&0) || header.path.is_empty() {
            return;
        }
        if header.xattrs.keys().any(|name| name.is_empty() || name.contains(&b'=')) {
            return;
        }
        if let Kind::Symlink(target) | Kind::HardLink(target) = &header.kind
            && target.contains(&0)
        {
            return;
        }
        if header.kind != Kind::Directory && header.path.ends_with(b"/") {
            return;
        }
        let mut header = header.clone();
        if header.kind == Kind::Directory && !header.path.ends_with(b"/") {
            header.path.push(b'/');
        }
        if let Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } = header.kind
            && (major > 0o7_777_777 || minor > 0o7_777_777)
        {
            return;
        }
        writer.append(&header, &mut &body[..]).expect("memory takes everything");
        expected.push((header, body.clone()));
    }
    let bytes = writer.finish().expect("memory takes everything");
    let (again, whole) = self::members(Reader::new(&bytes[..]));
    assert!(whole, "what we wrote is not read");
    assert_eq!(again, expected);
}
