//! `deb::version`: a total order on three texts, one a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::deb::version::{Version, compare};
use std::cmp::Ordering;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n').chain(["", "", ""]);
    let [a, b, c] = [lines.next(), lines.next(), lines.next()].map(Option::unwrap_or_default);
    assert_eq!(compare(a, a), Ordering::Equal);
    assert_eq!(compare(a, b), compare(b, a).reverse());
    if compare(a, b) != Ordering::Greater && compare(b, c) != Ordering::Greater {
        assert_ne!(compare(a, c), Ordering::Greater);
    }
    if compare(a, b) == Ordering::Equal {
        assert_eq!(compare(a, c), compare(b, c));
    }
    if let Ok(version) = Version::parse(a) {
        let again = Version::parse(version.as_str()).expect("a version is one");
        assert_eq!(again.as_str(), version.as_str());
    }
});
