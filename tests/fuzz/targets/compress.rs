//! `archive::compress`: every decoder ends or streams; the first byte chooses one besides what the magic says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::archive::compress::{Compression, decoder, detecting_decoder};
use sifbuild_fuzz::read_some;

const ALL: [Compression; 6] =
    [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2, Compression::Lzma];

fuzz_target!(|data: &[u8]| {
    if let Ok((compression, reader)) = detecting_decoder(data) {
        assert_eq!(compression, Compression::detect(data));
        let bytes = read_some(reader);
        if compression == Compression::None {
            assert_eq!(bytes.as_deref(), Some(data));
        }
    }
    let Some((choice, rest)) = data.split_first() else { return };
    if let Ok(reader) = decoder(rest, ALL[usize::from(*choice) % ALL.len()]) {
        read_some(reader);
    }
});
