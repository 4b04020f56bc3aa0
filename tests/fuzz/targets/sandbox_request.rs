//! `sandbox`: the message to the sandbox process, as JSON; written and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::sandbox::Run;

fuzz_target!(|data: &[u8]| {
    let Ok(run) = serde_json::from_slice::<Run>(data) else { return };
    let text = serde_json::to_string(&run).expect("it was JSON");
    let again: Run = serde_json::from_str(&text).expect("our own JSON");
    assert_eq!(serde_json::to_string(&again).expect("it was JSON"), text);
});
