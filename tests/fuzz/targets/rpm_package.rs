//! `rpm::package`: headers, digests, signatures and the payload of a package file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::archive::cpio;
use sifbuild::rpm::header::tag;
use sifbuild::rpm::metadata::{Checksum, ChecksumAlgorithm};
use sifbuild::rpm::package::{Package, PackageTrust, verify};
use sifbuild::rpm::pin::PackagePin;
use sifbuild::rpm::pool::{Architectures, Pool, Repository};
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
    let pin = PackagePin {
        reason: None,
        bootstrap: false,
        name: "a".to_owned(),
        evr: "1-1".to_owned(),
        arch: "noarch".to_owned(),
        repository: "r".to_owned(),
        checksum: Checksum::of(ChecksumAlgorithm::Sha256, data),
        size: data.len() as u64,
        installed_size: 0,
        location: "a.rpm".to_owned(),
    };
    let mut pool = Pool::new(Architectures::of("x86_64").expect("it is known"));
    pool.add_repository(Repository { name: "r".to_owned(), priority: 99 });
    if let Ok(described) = package.describe(&pin, &mut pool) {
        pool.add(described).expect("there is room");
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
