//! `rpm::version` and `rpm::dependency`: an order, and expressions that are bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::rpm::dependency::{Sense, overlaps, parse};
use sifbuild::rpm::version::{compare, compare_open, compare_segments};

fuzz_target!(|texts: (&str, &str)| {
    let (left, right) = texts;
    assert_eq!(compare(left, right), compare(right, left).reverse());
    assert_eq!(compare_segments(left, right), compare_segments(right, left).reverse());
    let _ = compare_open(left, right);
    for one in 0..8 {
        for two in 0..8 {
            let (one, two) = (Sense(one), Sense(two));
            assert_eq!(overlaps((one, left), (two, right)), overlaps((two, right), (one, left)));
        }
    }
    let _ = parse(left);
});
