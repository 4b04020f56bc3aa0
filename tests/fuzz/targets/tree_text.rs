//! `tree`: the text form of a layer, and merging what it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::tree::{Change, Tree, text};
use sifbuild_fuzz::is_inside;

fuzz_target!(|input: &str| {
    let Ok(layer) = text::parse(input) else { return };
    let written = text::write(&layer);
    assert_eq!(text::parse(&written).expect("our own text"), layer);
    for entry in &layer.entries {
        assert!(is_inside(entry.path.as_bytes()));
        if let Change::Link(target) = &entry.change {
            assert!(is_inside(target.as_bytes()));
        }
    }
    let mut tree = Tree::new();
    if tree.apply(&layer, 0).is_err() {
        return;
    }
    let whole = tree.layer();
    let mut again = Tree::new();
    again.apply(&whole, 0).expect("a whole tree stands on nothing");
    assert_eq!(text::write(&again.layer()), text::write(&whole));
    for path in ["a/b/../c", "/a/./b", "a/a/a/a"] {
        let _ = (tree.resolve(path.as_bytes(), true), tree.resolve(path.as_bytes(), false));
    }
});
