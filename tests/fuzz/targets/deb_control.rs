//! `deb::control` and `deb::sources`: paragraphs are parts of the text; apt's source lists give only addresses that can be asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::deb::control::paragraphs;
use sifbuild::deb::sources::{parse_deb822, parse_list};

fuzz_target!(|text: &str| {
    for paragraph in paragraphs(text).flatten() {
        assert!(!paragraph.fields().is_empty() && text.contains(paragraph.text));
        let again: Vec<_> = paragraphs(paragraph.text).collect::<Result<_, _>>().expect("a part of what was read");
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].fields(), paragraph.fields());
    }
    for source in parse_list(text).into_iter().chain(parse_deb822(text)) {
        assert!(source.signed_by.iter().all(|path| path.starts_with('/')));
        assert!(!source.components.is_empty());
    }
});
