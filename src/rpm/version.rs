//! Versions: epoch, version, release, and their order.
//!
//! Source: rpm's manual, "Versions and releases": segments of digits or letters; `~` sorts before the end, `^` after it and before
//! anything else.

use std::cmp::Ordering;

/// `[epoch:]version[-release]`, cut at its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evr<'a> {
    /// Decimal digits, `0` when there is none.
    pub epoch: &'a str,
    pub version: &'a str,
    /// Absent in many dependencies: then any release is meant.
    pub release: Option<&'a str>,
}

impl<'a> Evr<'a> {
    pub fn parse(text: &'a str) -> Evr<'a> {
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) if !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()) => {
                (epoch, rest)
            }
            _ => ("0", text),
        };
        let (version, release) = match rest.rsplit_once('-') {
            Some((version, release)) => (version, Some(release).filter(|release| !release.is_empty())),
            None => (rest, None),
        };
        Evr { epoch, version, release }
    }
}

/// The order of two versions of packages.
pub fn compare(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let (left, right) = (Evr::parse(left), Evr::parse(right));
    compare_heads(&left, &right).then_with(|| match (left.release, right.release) {
        (Some(left), Some(right)) => compare_segments(left, right),
        (left, right) => left.is_some().cmp(&right.is_some()),
    })
}

/// How a bound of a dependency stands to what is provided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Ordered(Ordering),
    /// Equal as far as it goes: the left one names no release, the right one does.
    LeftOpen,
    RightOpen,
}

/// As [`compare`], where a missing release stands for every release.
pub fn compare_open(left: &str, right: &str) -> Match {
    if left == right {
        return Match::Ordered(Ordering::Equal);
    }
    let (left, right) = (Evr::parse(left), Evr::parse(right));
    match compare_heads(&left, &right) {
        Ordering::Equal => match (left.release, right.release) {
            (Some(left), Some(right)) => Match::Ordered(compare_segments(left, right)),
            (None, Some(_)) => Match::LeftOpen,
            (Some(_), None) => Match::RightOpen,
            (None, None) => Match::Ordered(Ordering::Equal),
        },
        unequal => Match::Ordered(unequal),
    }
}

fn compare_heads(left: &Evr<'_>, right: &Evr<'_>) -> Ordering {
    compare_segments(left.epoch, right.epoch).then_with(|| compare_segments(left.version, right.version))
}

/// The order of two versions or two releases.
pub fn compare_segments(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        left = skip_separators(left);
        right = skip_separators(right);
        match (left.first(), right.first()) {
            (Some(b'~'), Some(b'~')) => (left, right) = (&left[1..], &right[1..]),
            (Some(b'~'), _) => return Ordering::Less,
            (_, Some(b'~')) => return Ordering::Greater,
            (Some(b'^'), Some(b'^')) => (left, right) = (&left[1..], &right[1..]),
            (Some(b'^'), None) => return Ordering::Greater,
            (None, Some(b'^')) => return Ordering::Less,
            (Some(b'^'), Some(_)) => return Ordering::Less,
            (Some(_), Some(b'^')) => return Ordering::Greater,
            (Some(a), Some(b)) => {
                // A number is newer than a word.
                let digits = a.is_ascii_digit();
                if digits != b.is_ascii_digit() {
                    return if digits { Ordering::Greater } else { Ordering::Less };
                }
                let (one, two) = (segment(left, digits), segment(right, digits));
                let order = if digits { compare_numbers(one, two) } else { one.cmp(two) };
                if order != Ordering::Equal {
                    return order;
                }
                (left, right) = (&left[one.len()..], &right[two.len()..]);
            }
            (left, right) => return left.is_some().cmp(&right.is_some()),
        }
    }
}

fn skip_separators(text: &[u8]) -> &[u8] {
    let at = text.iter().position(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'~' | b'^'));
    &text[at.unwrap_or(text.len())..]
}

pub(crate) fn segment(text: &[u8], digits: bool) -> &[u8] {
    let inside = |byte: &u8| if digits { byte.is_ascii_digit() } else { byte.is_ascii_alphabetic() };
    &text[..text.iter().position(|byte| !inside(byte)).unwrap_or(text.len())]
}

pub(crate) fn compare_numbers(left: &[u8], right: &[u8]) -> Ordering {
    let significant = |digits: &[u8]| digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    let (left, right) = (&left[significant(left)..], &right[significant(right)..]);
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The pairs that rpm's own documentation and tests give.
    #[test]
    fn orders_as_rpm_does() {
        let less = [
            ("1.0", "2.0"),
            ("2.0", "2.0.1"),
            ("2.0.1", "2.0.1a"),
            ("5.5p1", "5.5p2"),
            ("5.5p1", "5.5p10"),
            ("10xyz", "10.1xyz"),
            ("xyz10", "xyz10.1"),
            ("xyz.4", "8"),
            ("xyz.4", "2"),
            ("5.5p2", "5.6p1"),
            ("6.0.rc1", "6.0"),
            ("10a2", "10b2"),
            ("1.0~rc1", "1.0"),
            ("1.0~rc1", "1.0~rc2"),
            ("1.0~rc1~git123", "1.0~rc1"),
            ("1.0", "1.0^"),
            ("1.0^git1", "1.0.1"),
            ("1.0^git1", "1.0^git2"),
            ("1.0^20160101", "1.0.1"),
            ("1.0~rc1", "1.0~rc1^git1"),
            ("1.0^git1~pre", "1.0^git1"),
            ("2a", "2.0"),
        ];
        for (left, right) in less {
            if left != "6.0.rc1" {
                assert_eq!(compare_segments(left, right), Ordering::Less, "{left} {right}");
                assert_eq!(compare_segments(right, left), Ordering::Greater, "{right} {left}");
            }
        }
        assert_eq!(compare_segments("6.0.rc1", "6.0"), Ordering::Greater);
        for (left, right) in [("2_0", "2.0"), ("1.0010", "1.10"), ("a+", "a_"), ("+a", "_a"), ("1.0", "1.0.")] {
            assert_eq!(compare_segments(left, right), Ordering::Equal, "{left} {right}");
        }
    }

    #[test]
    fn the_epoch_comes_first_and_a_missing_one_is_zero() {
        assert_eq!(compare("1:1-1", "2-1"), Ordering::Greater);
        assert_eq!(compare("0:1-1", "1-1"), Ordering::Equal);
        assert_eq!(compare("1-2", "1-10"), Ordering::Less);
        assert_eq!(compare("1", "1-1"), Ordering::Less);
        assert_eq!(compare_open("1", "1-1"), Match::LeftOpen);
        assert_eq!(compare_open("0:1-", "1-3"), Match::LeftOpen);
        assert_eq!(compare_open("2-1", "1"), Match::Ordered(Ordering::Greater));
    }

    proptest! {
        #[test]
        fn is_an_order(a in "[a1.~^-]{0,8}", b in "[a1.~^-]{0,8}", c in "[a1.~^-]{0,8}") {
            prop_assert_eq!(compare_segments(&a, &b), compare_segments(&b, &a).reverse());
            if compare_segments(&a, &b).is_le() && compare_segments(&b, &c).is_le() {
                prop_assert!(compare_segments(&a, &c).is_le());
            }
        }

        #[test]
        fn arbitrary_text_never_panics(left in ".{0,30}", right in ".{0,30}") {
            let _ = (compare(&left, &right), compare_open(&left, &right));
        }
    }
}
