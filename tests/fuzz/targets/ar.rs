//! `archive::ar`: members stay within the archive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::archive::ar::Reader;
use std::io::Read;

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = Reader::new(data) else { return };
    let mut total = 0;
    while let Ok(Some(member)) = reader.next_member() {
        assert!(member.name.len() <= data.len());
        let size = member.size;
        let read = member.bytes().take_while(Result::is_ok).count() as u64;
        assert!(read <= size && read <= data.len() as u64);
        total += read;
    }
    assert!(total <= data.len() as u64, "bodies overlap");
});
