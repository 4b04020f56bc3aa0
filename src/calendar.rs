//! Days of the Gregorian calendar, and the dates of RFC 3339.

/// Days from 1970-01-01; March-based years put the leap day last.
pub fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Seconds since the epoch of `2024-01-02T03:04:05[.678](Z|+01:00)`; a fraction is dropped.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>, allowed: std::ops::RangeInclusive<i64>| {
        let digits = text.get(range)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|value| plain && allowed.contains(value))
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let bytes = text.as_bytes();
    if !separators.iter().all(|(at, byte)| bytes.get(*at).is_some_and(|found| found.to_ascii_uppercase() == *byte)) {
        return None;
    }
    let (year, month, day) = (number(0..4, 0..=9999)?, number(5..7, 1..=12)?, number(8..10, 1..=31)?);
    let (hour, minute, second) = (number(11..13, 0..=23)?, number(14..16, 0..=59)?, number(17..19, 0..=60)?);
    let rest = text.get(19..)?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest,
    };
    let start = text.len() - zone.len();
    let east = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let seconds = number(start + 1..start + 3, 0..=23)? * 3600 + number(start + 4..start + 6, 0..=59)? * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    Some(days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - east)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_zones_and_fractions() {
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_rfc3339("2024-02-29T12:00:00.123456789Z"), Some(1_709_208_000));
        assert_eq!(parse_rfc3339("2024-02-29T13:00:00+01:00"), Some(1_709_208_000));
        assert_eq!(parse_rfc3339("2024-02-29T06:30:00-05:30"), Some(1_709_208_000));
        assert_eq!(parse_rfc3339("0001-01-01T00:00:00Z"), Some(-62_135_596_800));
    }

    #[test]
    fn refuses_what_is_no_date() {
        for text in [
            "",
            "yesterday",
            "2024-13-01T00:00:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00+1",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            parse_rfc3339(&text);
        }
    }
}
