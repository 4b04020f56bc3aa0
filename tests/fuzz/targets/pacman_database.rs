//! `pacman::database` and `pacman::select`: names go to a shell and below a mirror; every choice among the packages ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::pacman::database::{is_name, parse, read};
use sifbuild::pacman::select::{Repository, select};

fuzz_target!(|data: &[u8]| {
    let _ = read(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Two repositories, of descriptions parted by a byte that no text has.
    let mut repositories: Vec<Repository> =
        ["core", "extra"].map(|name| Repository { name: name.to_owned(), packages: Vec::new() }).into();
    for (at, description) in text.split('\0').enumerate() {
        if let Ok(package) = parse(description, "x") {
            assert!(is_name(&package.name) && is_name(&package.version) && is_name(&package.file_name));
            assert!(!package.file_name.contains(['/', '$', '\'', ' ', ';']));
            repositories[at % 2].packages.push(package);
        }
    }
    for wanted in ["a", "g", "extra/a", "a>=2"] {
        if let Ok(chosen) = select(&repositories, &[wanted.to_owned()], &Default::default()) {
            let mut names: Vec<&str> =
                chosen.iter().map(|one| repositories[one.id.0].packages[one.id.1].name.as_str()).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "one package of a name");
        }
    }
});
