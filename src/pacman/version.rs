//! Order of versions, as libalpm has it: rpm's of old, without `~` and `^`, and with separators that count.
//!
//! Source: libalpm's `version.c`, vercmp(8).

use crate::rpm::version::{compare_numbers, segment};
use std::cmp::Ordering;

/// Order of two `[EPOCH:]VERSION[-RELEASE]`. Releases count only where both have one.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (split(left), split(right));
    compare_part(left.0, right.0).then_with(|| compare_part(left.1, right.1)).then_with(|| match (left.2, right.2) {
        (Some(left), Some(right)) => compare_part(left, right),
        _ => Ordering::Equal,
    })
}

fn split(text: &str) -> (&str, &str, Option<&str>) {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => (epoch, rest),
        _ => ("", text),
    };
    let (version, release) = rest.rsplit_once('-').map_or((rest, None), |(version, release)| (version, Some(release)));
    (if epoch.is_empty() { "0" } else { epoch }, version, release)
}

fn compare_part(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() && !right.is_empty() {
        let separators = |text: &[u8]| text.iter().position(u8::is_ascii_alphanumeric).unwrap_or(text.len());
        let (before, behind) = (separators(left), separators(right));
        (left, right) = (&left[before..], &right[behind..]);
        let (Some(first), Some(second)) = (left.first(), right.first()) else { break };
        if before != behind {
            return before.cmp(&behind);
        }
        let digits = first.is_ascii_digit();
        if digits != second.is_ascii_digit() {
            // A number is newer than a word.
            return if digits { Ordering::Greater } else { Ordering::Less };
        }
        let (one, two) = (segment(left, digits), segment(right, digits));
        let order = if digits { compare_numbers(one, two) } else { one.cmp(two) };
        if order.is_ne() {
            return order;
        }
        (left, right) = (&left[one.len()..], &right[two.len()..]);
    }
    let is_word = |text: &[u8]| text.first().is_some_and(u8::is_ascii_alphabetic);
    match (left.is_empty(), right.is_empty()) {
        (true, true) => Ordering::Equal,
        // A word that remains is older than nothing (1.0rc, 1.0), all else newer.
        (true, false) if !is_word(right) => Ordering::Less,
        _ if is_word(left) => Ordering::Less,
        _ => Ordering::Greater,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pairs of pacman's own test, vercmptest.sh, and what vercmp(8) shows.
    #[test]
    fn orders_as_vercmp_does() {
        for (left, right) in [
            ("1.5.0", "1.5.1"),
            ("1.5", "1.5.1"),
            ("1.0a", "1.0b"),
            ("1.0b", "1.0beta"),
            ("1.0beta", "1.0p"),
            ("1.0p", "1.0pre"),
            ("1.0pre", "1.0rc"),
            ("1.0rc", "1.0"),
            ("1.0", "1.0.a"),
            ("1.0.a", "1.0.1"),
            ("1.5.0-1", "1.5.0-2"),
            ("1.5-1", "1.5.1-1"),
            ("0:1.1", "1:1.0"),
            ("1.1", "1:1.0"),
            ("1.0", "1.0."),
            ("1.0.", "1.0.1"),
            ("1.b", "1.1"),
            ("1.5.b", "1.5.1"),
            ("1.5.a", "1.5.b"),
            ("2.0", "2_1"),
            ("2.0", "2..0"),
        ] {
            assert_eq!(compare(left, right), Ordering::Less, "{left} {right}");
            assert_eq!(compare(right, left), Ordering::Greater, "{right} {left}");
        }
        for (left, right) in [("1.0-1", "1.0"), ("0:1.0", "1.0"), ("1.0", "1_0"), ("1.01", "1.1"), (":1", "1")] {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
    }

    #[test]
    fn agrees_with_the_real_vercmp() {
        let parts = [
            "1", "1.0", "1.0.", "1.0a", "1.0.a", "1.0.1", "1_0", "1..0", "a", "1.0rc1", "2:1", "1-1", "1-2", "1.0+1",
            "~1", "01",
        ];
        for left in parts {
            for right in parts {
                let Ok(output) = std::process::Command::new("vercmp").args([left, right]).output() else { return };
                let wanted = String::from_utf8_lossy(&output.stdout).trim().parse::<i32>().unwrap().cmp(&0);
                assert_eq!(compare(left, right), wanted, "{left} {right}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(left in ".{0,30}", right in ".{0,30}") {
            prop_assert_eq!(compare(&left, &left), Ordering::Equal);
            let _ = compare(&left, &right);
        }
    }
}
