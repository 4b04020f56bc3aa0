//! Subordinate id ranges of a user: `/etc/subuid`, `/etc/subgid`, or whatever `getsubids` asks.

pub use crate::doctor::Range;
use std::process::{Command, Stdio};

/// What most images need: ids 0 to 65535, `nogroup` included.
pub const USUAL: u32 = 65536;

/// The ranges of the user for both kinds of ids, or why there are none.
pub fn find(name: Option<&str>, uid: u32) -> Result<(Range, Range), String> {
    let uids = find_one("/etc/subuid", &[], name, uid)?;
    let gids = find_one("/etc/subgid", &["-g"], name, uid)?;
    Ok((uids, gids))
}

fn find_one(file: &str, flags: &[&str], name: Option<&str>, uid: u32) -> Result<Range, String> {
    let text = std::fs::read(file).unwrap_or_default();
    let ranges = parse(&String::from_utf8_lossy(&text), name, uid);
    if let Some(range) = choose(&ranges) {
        return Ok(range);
    }
    let user = name.map_or_else(|| uid.to_string(), str::to_string);
    // The name service may know ranges that the files lack.
    let output = Command::new("getsubids").args(flags).arg(&user).stdin(Stdio::null()).output();
    let listed = output.map(|output| parse_listing(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default();
    choose(&listed).ok_or_else(|| {
        let flag = if file.ends_with("subgid") { "--add-subgids" } else { "--add-subuids" };
        format!("{file} has no range for {user}; an administrator gives one with `usermod {flag} 100000-165535 {user}`")
    })
}

/// Reads `user:start:count` lines of one user, given by name or number; other lines are passed over.
pub fn parse(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    let is_ours = |user: &str| Some(user) == name || user == number;
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let user = fields.next().filter(|user| is_ours(user))?;
            let range = range(fields.next()?, fields.next()?)?;
            (fields.next().is_none() && !user.is_empty()).then_some(range)
        })
        .collect()
}

/// Reads the ranges of all users.
pub fn parse_all(text: &str) -> Vec<Range> {
    let fields = text.lines().map(|line| line.trim().split(':').skip(1).collect::<Vec<&str>>());
    fields
        .filter_map(|fields| if let [start, count] = fields.as_slice() { range(start, count) } else { None })
        .collect()
}

/// Reads `getsubids`: `0: user start count`.
pub fn parse_listing(text: &str) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields.as_slice() {
                [_, _, start, count] => range(start, count),
                _ => None,
            }
        })
        .collect()
}

/// The first that is large enough, else the largest.
pub fn choose(ranges: &[Range]) -> Option<Range> {
    let enough = ranges.iter().find(|range| range.count >= USUAL);
    enough.or_else(|| ranges.iter().max_by_key(|range| range.count)).copied()
}

fn range(start: &str, count: &str) -> Option<Range> {
    let range = Range { start: start.parse().ok()?, count: count.parse().ok()? };
    // Id 0 and the invalid id cannot be lent; id 0 inside is the user itself, so `count + 1` ids are mapped.
    let fits = range.start > 0 && range.count > 0 && range.start.checked_add(range.count)? < u32::MAX;
    fits.then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_the_first_range_that_is_large_enough() {
        let text = "root:1:9\nann:100000:1000\nann:200000:65536\n1000:300000:99999\n!ann:5:70000\n";
        let ranges = parse(text, Some("ann"), 1000);
        assert_eq!(choose(&ranges), Some(Range { start: 200_000, count: 65536 }));
    }

    #[test]
    fn takes_the_largest_when_all_are_short() {
        let ranges = parse("ann:100000:10\n1000:300000:1000\nann:5000000:20\n", Some("ann"), 1000);
        assert_eq!(choose(&ranges), Some(Range { start: 300_000, count: 1000 }));
        assert_eq!(choose(&parse("ann:1:1\n", Some("bob"), 7)), None);
    }

    #[test]
    fn passes_over_what_is_no_range() {
        for line in
            ["ann", "ann:1", "ann:x:5", "ann:0:5", "ann:4294967295:1", "ann:1:4294967295", "ann:1:0", "ann:1:2:3"]
        {
            assert_eq!(parse(line, Some("ann"), 1000), [], "{line}");
        }
        assert_eq!(parse_listing("0: ann 100000 65536\n"), [Range { start: 100_000, count: 65536 }]);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(?s).{0,200}", ranged in "(ann:[0-9]{0,12}:[0-9]{0,12}\n){0,4}") {
            parse(&text, Some("ann"), 1000);
            parse_listing(&text);
            for range in parse(&ranged, Some("ann"), 1000) {
                prop_assert!(range.start.checked_add(range.count).is_some());
            }
        }
    }
}
