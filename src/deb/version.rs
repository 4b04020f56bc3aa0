//! Debian version numbers and their order.
//!
//! Source: Debian Policy §5.6.12.

use std::cmp::Ordering;
use std::fmt;

/// A version as written, known to be well formed. `1.0` and `0:1.0-0` are equal in order, though not in text.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a Debian version: {cause}")]
pub struct VersionError {
    pub text: String,
    pub cause: &'static str,
}

impl Version {
    pub fn parse(text: &str) -> Result<Version, VersionError> {
        let fault = |cause| VersionError { text: text.chars().take(160).collect(), cause };
        let text = text.trim();
        if text.is_empty() {
            return Err(fault("it is empty"));
        }
        let (epoch, upstream, revision) = split(text);
        if !epoch.is_empty() && (epoch.len() > 9 || !epoch.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(fault("the epoch is not a number"));
        }
        if upstream.is_empty() {
            return Err(fault("the upstream version is empty"));
        }
        // Compat: dpkg only warns when the upstream version does not begin with a digit.
        if !upstream.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+~:".contains(&byte)) {
            return Err(fault("the upstream version holds a character other than letters, digits and . - + ~ :"));
        }
        if !revision.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+~".contains(&byte)) {
            return Err(fault("the revision holds a character other than letters, digits and . + ~"));
        }
        Ok(Version { text: text.to_owned() })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        compare(&self.text, &other.text)
    }
}

/// Order of two version texts; never fails, so that odd versions in an index still have a place.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left_epoch, left_upstream, left_revision) = split(left);
    let (right_epoch, right_upstream, right_revision) = split(right);
    compare_numbers(left_epoch.as_bytes(), right_epoch.as_bytes())
        .then_with(|| compare_part(left_upstream.as_bytes(), right_upstream.as_bytes()))
        .then_with(|| compare_part(left_revision.as_bytes(), right_revision.as_bytes()))
}

fn split(text: &str) -> (&str, &str, &str) {
    let (epoch, rest) = text.split_once(':').unwrap_or(("", text));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Digits of any length as numbers: without leading zeros, the longer is the larger.
fn compare_numbers(left: &[u8], right: &[u8]) -> Ordering {
    let strip = |digits: &[u8]| digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    let (left, right) = (&left[strip(left)..], &right[strip(right)..]);
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// Spec: alternately the longest run without digits, by [`weight`], and the longest run of digits, as a number.
fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = take(left, |byte| !byte.is_ascii_digit());
        let (right_text, right_rest) = take(right, |byte| !byte.is_ascii_digit());
        for at in 0..left_text.len().max(right_text.len()) {
            let order = weight(left_text.get(at)).cmp(&weight(right_text.get(at)));
            if order != Ordering::Equal {
                return order;
            }
        }
        let (left_digits, left_rest) = take(left_rest, |byte| byte.is_ascii_digit());
        let (right_digits, right_rest) = take(right_rest, |byte| byte.is_ascii_digit());
        let order = compare_numbers(left_digits, right_digits);
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn take(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| !wanted(*byte)).unwrap_or(bytes.len()))
}

/// Spec: a tilde sorts before the end, the end before letters, letters before all else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn orders_as_policy_says() {
        let rising = [
            "~~",
            "~~a",
            "~",
            "0~",
            "0",
            "0+",
            "1.0~beta1~svc1245",
            "1.0~beta1",
            "1.0~rc1",
            "1.0",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0-10",
            "1.0a",
            "1.0+dfsg-1",
            "1.0.1",
            "1.2",
            "1.10",
            "2007.01",
            "1:0.4",
            "1:1.2~",
            "1:1.2",
            "2:0.1",
            "10:0",
        ];
        for pair in rising.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{} < {}", pair[0], pair[1]);
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{} > {}", pair[1], pair[0]);
        }
    }

    #[test]
    fn holds_the_same_for_equal_versions_written_differently() {
        for (left, right) in [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.01", "1.1"), ("00:1", "1"), ("1.0-", "1.0")] {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} = {right}");
        }
    }

    #[test]
    fn refuses_what_is_no_version() {
        for text in ["", "  ", "a:1", ":", "1:", "1.0 1", "1.0_2", "1-a_b", "1/2", "99999999999:1"] {
            assert!(Version::parse(text).is_err(), "{text:?}");
        }
        assert!(Version::parse("2:1.0+really0.9-1~deb12u1").is_ok());
    }

    proptest! {
        #[test]
        fn is_a_total_order(a in "[0-9a-z.~+:-]{0,12}", b in "[0-9a-z.~+:-]{0,12}", c in "[0-9a-z.~+:-]{0,12}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b) != Ordering::Greater && compare(&b, &c) != Ordering::Greater {
                prop_assert_ne!(compare(&a, &c), Ordering::Greater);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(a in ".*", b in ".*") {
            let _ = (Version::parse(&a), compare(&a, &b));
        }
    }
}
