//! `rpm::state`: databases that scripts left, with their logs. Four bytes tell the length of the log at the end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::rpm::state::{cookie, settle};

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let log = (u32::from_le_bytes(*length) as usize).min(rest.len());
    let (database, log) = rest.split_at(rest.len() - log);
    if let Ok(settled) = settle(database.to_vec(), log, 7) {
        assert!(settle(settled.clone(), &[], 7).expect("what was written a moment ago") == settled);
    }
    let _ = cookie(database.to_vec());
});
