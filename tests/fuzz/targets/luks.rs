//! `luks::reader`: a header decides neither memory nor time, and a payload is read only where it lies. The checksums are put right, so
//! that mutated JSON is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use sifbuild::luks::dump;
use sifbuild::luks::reader::{Container, Limits};
use sifbuild::squashfs::ReadAt;

const LIMITS: Limits = Limits { memory: 256, work: 4096, iterations: 5_000 };

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    // Room for a keyslot and a few sectors.
    bytes.resize(bytes.len().max(512 << 10), 0);
    for place in [0, 0x4000] {
        if let Some(header) = bytes.get_mut(place..place + 0x4000) {
            header[448..512].fill(0);
            let sum = Sha256::digest(&*header);
            header[448..480].copy_from_slice(&sum);
        }
    }
    for bytes in [data, &bytes] {
        let Ok(container) = Container::read(bytes) else { continue };
        dump::text(&container.header, &container.metadata);
        if let Ok(payload) = container.unlock(b"secret", LIMITS) {
            assert!(payload.length() <= bytes.len() as u64);
            let mut clear = vec![0; payload.length().min(sifbuild_fuzz::BODY) as usize];
            payload.read_exact_at(&mut clear, 0).expect("what the payload says to have can be read");
            assert!(payload.read_exact_at(&mut [0], payload.length()).is_err());
        }
    }
});
