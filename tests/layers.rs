//! Direction of the modules: each imports only what the design's strata let it see.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Stratum, module, and the modules of its own stratum that it may import. Lower strata are open to it.
const TABLE: [(u8, &str, &[&str]); 33] = [
    (0, "digest", &[]),
    (0, "arch", &[]),
    (0, "calendar", &[]),
    (0, "source", &[]),
    (0, "diagnostic", &["source"]),
    (0, "event", &[]),
    (1, "tree", &[]),
    (1, "definition", &[]),
    (1, "archive", &["tree"]),
    // A layer's media type names its compression, which is an enum of `archive`.
    (1, "oci", &["archive"]),
    (1, "openpgp", &[]),
    (1, "rpm", &["archive", "openpgp", "tree"]),
    (1, "deb", &["archive", "openpgp", "solve", "tree"]),
    // A base of pacman's packages is pinned, unpacked and installed as one of RPM's is.
    (1, "pacman", &["archive", "rpm", "tree"]),
    (1, "solve", &[]),
    (1, "squashfs", &["tree"]),
    (1, "sif", &["openpgp"]),
    // The trait for bytes at offsets is squashfs's.
    (1, "luks", &["squashfs"]),
    (2, "skeleton", &[]),
    (2, "pins", &[]),
    (2, "trust", &[]),
    (2, "doctor", &[]),
    (2, "plan", &["pins", "skeleton"]),
    (3, "fetch", &[]),
    (3, "store", &["disk"]),
    (3, "disk", &[]),
    (3, "keyrings", &["disk"]),
    (3, "sandbox", &["disk"]),
    (4, "agent", &[]),
    (4, "build", &["agent"]),
    (5, "cli", &[]),
    (6, "lib", &[]),
    (6, "main", &[]),
];

/// The only place where the compiler's checks may be set aside.
const UNSAFE_BELOW: &str = "sandbox/";

const UNSAFE_FORMS: [&str; 6] = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "#[unsafe("];

#[test]
fn modules_import_from_lower_strata_only() {
    let table: BTreeMap<&str, (u8, &[&str])> =
        TABLE.iter().map(|(stratum, name, neighbours)| (*name, (*stratum, *neighbours))).collect();
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let Some((stratum, neighbours)) = table.get(module.as_str()) else {
            faults.push(format!("{}: module {module} is not in the table", path.display()));
            continue;
        };
        for (line, imported) in imports(&without_comments(&text)) {
            let allowed = imported == module
                || neighbours.contains(&imported.as_str())
                || table.get(imported.as_str()).is_some_and(|(other, _)| other < stratum);
            if !allowed {
                faults.push(format!("{}:{line}: {module} must not see {imported}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_is_said_in_the_sandbox_only() {
    let mut faults = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !path.starts_with(UNSAFE_BELOW)) {
        for (number, line) in without_comments(&text).lines().enumerate() {
            if UNSAFE_FORMS.iter().any(|form| line.contains(form)) || line.trim_end().ends_with(" unsafe") {
                faults.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "unsafe outside src/{UNSAFE_BELOW}:\n{}", faults.join("\n"));
}

#[test]
fn imports_are_found_however_they_are_written() {
    let modules = |text: &str| imports(text).into_iter().map(|(_, module)| module).collect::<Vec<_>>();
    assert_eq!(modules("use crate::tree::{Layer, Tree};"), ["tree"]);
    assert_eq!(modules("use crate::{arch::Arch, tree,\n    oci::{config, manifest},\n};"), ["arch", "tree", "oci"]);
    assert_eq!(modules("let x = crate::digest::Digest::of(crate::arch::x());"), ["digest", "arch"]);
    assert!(modules("use super::key; use xcrate::y;").is_empty());
    assert_eq!(imports("\n\nuse crate::arch;"), [(3, "arch".to_owned())]);
}

/// Every Rust file below `src`, its path relative to it.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file can be read");
                found.push((path.strip_prefix(&root).expect("it lies below src").to_path_buf(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no source file below {}", root.display());
    found
}

fn module_of(path: &Path) -> String {
    let first = path.components().next().expect("a relative path has a component");
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The text with lines that are wholly comments made empty.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }.to_owned() + "\n").collect()
}

/// The first word behind each `crate::`, braces opened, with its line from 1.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::").filter(|(at, _)| !text[..*at].ends_with(is_word)) {
        let line = text[..at].matches('\n').count() + 1;
        let rest = &text[at + "crate::".len()..];
        let names = rest.strip_prefix('{').map_or_else(|| vec![first_word(rest)], top_level_names);
        found.extend(names.into_iter().filter(|name| !name.is_empty()).map(|name| (line, name.to_owned())));
    }
    found
}

/// The first word of each element of a list that ends with `}`.
fn top_level_names(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(first_word(&list[start..at]));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.find(|character| !is_word(character)).unwrap_or(text.len())]
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
