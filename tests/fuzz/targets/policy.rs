//! `trust::Policy`: a fault names a line of the file, and every source has an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::trust::Policy;

fuzz_target!(|text: &str| {
    match Policy::parse("x", text) {
        Ok(policy) => {
            for source in ["docker://docker.io/library/debian:12", "localimage:/srv/a.sif", "scratch:", ""] {
                policy.demands(source);
            }
        }
        Err(error) => {
            let line: usize = error.place.strip_prefix("x:").and_then(|line| line.parse().ok()).expect("a line");
            assert!(line >= 1 && line <= text.matches('\n').count() + 1, "{error}");
        }
    }
});
