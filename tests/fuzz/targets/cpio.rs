//! `archive::cpio`: members stay within the archive; what was promised is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::archive::cpio::Reader;
use std::io::Read;

fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::new(data);
    let mut total = 0;
    while let Ok(Some(mut member)) = reader.next_member() {
        assert!(member.header.name.len() <= 4096);
        let mut body = Vec::new();
        if member.read_to_end(&mut body).is_ok() {
            assert_eq!(body.len() as u64, member.header.size);
        }
        total += body.len();
    }
    assert!(total <= data.len(), "bodies overlap");
});
