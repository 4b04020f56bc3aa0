//! The table of what happens when a byte of a signed image changes, for each kind of byte.

#[path = "tampering/cases.rs"]
pub mod cases;

use super::desk::Desk;
use cases::cases;
use std::fmt::Write as _;
use std::fs;

#[test]
fn every_kind_of_byte_has_its_verdict() {
    let desk = Desk::new();
    let key = desk.newpair("Ann");
    let image = desk.image("a.sif");
    desk.succeed(&["sign", &image]);
    let mut table = String::new();
    for case in cases(&fs::read(&image).unwrap()) {
        let file = desk.write("tampered.sif", &case.bytes);
        let outcome = desk.run(&["verify", "--local", &file]);
        let told: Vec<&str> = outcome
            .stderr
            .lines()
            .filter(|line| {
                line.starts_with("ERROR") || line.starts_with("WARNING") && !line.contains("is covered by no")
            })
            .map(|line| line[9..].trim_start_matches("Failed to verify container: "))
            .collect();
        let verdict = if outcome.code == Some(0) { "holds" } else { "refused" };
        let text = without_numbers(&told.join(" | ").replace(&file, "IMAGE").replace(&key, "KEY"));
        let _ = writeln!(table, "{:<44} {verdict:<8} {text}", case.name);
    }
    insta::assert_snapshot!(table);
}

/// Sizes and places depend on the signatures' random numbers.
fn without_numbers(text: &str) -> String {
    let mut result = String::new();
    let mut digits = String::new();
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_digit() {
            digits.push(character);
        } else {
            result += if digits.len() > 2 { "N" } else { &digits };
            digits.clear();
            result.push(character);
        }
    }
    result.trim_end().to_owned()
}
