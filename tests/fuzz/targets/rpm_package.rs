//! `rpm::package`: headers, digests, signatures and the payload of a package file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::archive::cpio;
use sifbuild::rpm::header::tag;
use sifbuild::rpm::package::{Package, PackageTrust, verify};
use sifbuild_fuzz::read_some;
use std::io::Cursor;

fuzz_target!(|data: &[u8]| {
    let mut reader = data;
    let Ok(package) = Package::read(&mut reader) else { return };
    assert!(package.payload_offset as usize + reader.len() == data.len());
    for tag in [tag::NAME, tag::BASENAMES, tag::RSAHEADER, tag::FILEMODES, tag::LONGFILESIZES] {
        for header in [&package.header, &package.signature] {
            let _ = (header.texts(tag), header.numbers(tag), header.long_numbers(tag), header.binary(tag));
        }
    }
    if let Ok(nevra) = package.nevra() {
        let _ = verify(&mut Cursor::new(data), &nevra, false, PackageTrust::Unchecked);
    }
    let Ok(payload) = package.payload(reader) else { return };
    let mut archive = cpio::Reader::new(payload);
    for _ in 0..64 {
        let Ok(Some(member)) = archive.next_member() else { break };
        read_some(member);
    }
});
