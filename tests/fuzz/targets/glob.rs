//! `build::glob`: patterns of `%files` on a small tree. The first line is a pattern, the others are paths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::build::glob::{Listing, expand, expand_variables, matches};
use std::collections::BTreeSet;

struct Paths<'a>(Vec<&'a [u8]>);

impl Listing for Paths<'_> {
    fn names(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let names: BTreeSet<&[u8]> = self.0.iter().filter_map(|path| below(path, directory)).collect();
        names.into_iter().map(<[u8]>::to_vec).collect()
    }

    fn exists(&self, path: &[u8]) -> bool {
        self.0.contains(&path) || self.is_directory(path)
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        self.0.iter().any(|other| below(other, path).is_some())
    }
}

/// The name in `directory` that leads to `path`.
fn below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    let rest = path.strip_prefix(directory)?.strip_prefix(b"/")?;
    rest.split(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
}

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let pattern = lines.next().unwrap_or_default();
    let listing = Paths(lines.map(str::as_bytes).take(64).collect());
    if let Ok(plain) = expand_variables(pattern) {
        let found = expand(&plain, &listing);
        assert!(!found.is_empty() && found.is_sorted());
    }
    for name in &listing.0 {
        matches(pattern.as_bytes(), name);
    }
});
