//! The patterns of `%files` sources (facts §1.4): `*`, `?`, `[…]`, `**` and the extended `?(a|b) *(…) +(…) @(…) !(…)`.
//!
//! Works on anything that can list a directory: the host, or an earlier stage's tree.

/// What a pattern is matched against.
pub trait Listing {
    /// Names in a directory, without `.` and `..`; empty when it is none or cannot be read.
    fn names(&self, directory: &[u8]) -> Vec<Vec<u8>>;
    fn exists(&self, path: &[u8]) -> bool;
    fn is_directory(&self, path: &[u8]) -> bool;
}

/// Steps that one match may take; a pattern of nested repetitions would otherwise take for ever.
const MAXIMUM_STEPS: u32 = 1_000_000;
/// Longest pattern for one name that matches anything, in bytes: each of them may take a frame of the stack.
const MAXIMUM_PATTERN: usize = 1024;

/// Replaces variables, all of which are empty here, and refuses command substitution.
/// Compat: Apptainer expands `%files` sources with an empty environment.
pub fn expand_variables(source: &str) -> Result<String, &'static str> {
    let mut result = String::with_capacity(source.len());
    let mut rest = source.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\\' => {
                result.push('\\');
                result.extend(rest.next());
            }
            '`' => return Err("command substitution with '`' is not done in %files"),
            '$' => match rest.peek() {
                Some('(') => return Err("command substitution with '$(' is not done in %files"),
                Some('{') => {
                    if !rest.by_ref().any(|character| character == '}') {
                        return Err("'${' has no '}'");
                    }
                }
                Some(first) if first.is_ascii_alphabetic() || *first == '_' => {
                    while rest.peek().is_some_and(|next| next.is_ascii_alphanumeric() || *next == '_') {
                        rest.next();
                    }
                }
                _ => result.push('$'),
            },
            other => result.push(other),
        }
    }
    Ok(result)
}

/// All paths that match, sorted; the literal path (backslashes taken out) when none does or nothing in it is a pattern.
pub fn expand(pattern: &str, listing: &dyn Listing) -> Vec<Vec<u8>> {
    let pattern = pattern.as_bytes();
    let literal = unescape(pattern);
    if !is_pattern(pattern) {
        return vec![literal];
    }
    let absolute = pattern.starts_with(b"/");
    let mut found: Vec<Vec<u8>> = vec![if absolute { b"/".to_vec() } else { Vec::new() }];
    for component in split_components(pattern) {
        found = found.into_iter().flat_map(|base| descend(&base, &component, listing)).collect();
        // Each `**` comes to a directory by all ways that lead there.
        found.sort();
        found.dedup();
    }
    if found.is_empty() { vec![literal] } else { found }
}

fn is_pattern(pattern: &[u8]) -> bool {
    let mut escaped = false;
    for (at, byte) in pattern.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'*' | b'?' | b'[' => return true,
            b'@' | b'+' | b'!' if pattern.get(at + 1) == Some(&b'(') => return true,
            _ => {}
        }
    }
    false
}

/// Splits at `/` outside parentheses and brackets.
fn split_components(pattern: &[u8]) -> Vec<Vec<u8>> {
    let mut components = vec![Vec::new()];
    let (mut depth, mut escaped) = (0_u32, false);
    for byte in pattern {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'/' if depth == 0 => {
                components.push(Vec::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = components.last_mut() {
            last.push(*byte);
        }
    }
    components.retain(|component| !component.is_empty());
    components
}

fn descend(base: &[u8], component: &[u8], listing: &dyn Listing) -> Vec<Vec<u8>> {
    if component == b"**" {
        let mut all = vec![base.to_vec()];
        let mut pending = vec![base.to_vec()];
        while let Some(directory) = pending.pop() {
            for name in listing.names(&directory) {
                let below = join(&directory, &name);
                if !name.starts_with(b".") && listing.is_directory(&below) {
                    pending.push(below.clone());
                    all.push(below);
                }
            }
        }
        return all;
    }
    if !is_pattern(component) {
        let path = join(base, &unescape(component));
        return if listing.exists(&path) { vec![path] } else { Vec::new() };
    }
    let hidden = component.starts_with(b".");
    listing
        .names(base)
        .into_iter()
        .filter(|name| (hidden || !name.starts_with(b".")) && matches(component, name))
        .map(|name| join(base, &name))
        .collect()
}

fn join(base: &[u8], name: &[u8]) -> Vec<u8> {
    match base {
        b"" => name.to_vec(),
        b"/" => [b"/", name].concat(),
        _ => [base, b"/", name].concat(),
    }
}

fn unescape(pattern: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(pattern.len());
    let mut rest = pattern.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => result.extend(rest.next()),
            other => result.push(*other),
        }
    }
    result
}

/// Whether one name matches one component; a component of more than 1024 bytes matches nothing.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut steps = 0;
    pattern.len() <= MAXIMUM_PATTERN && match_here(pattern, name, &mut steps)
}

fn match_here(pattern: &[u8], name: &[u8], steps: &mut u32) -> bool {
    *steps += 1;
    if *steps > MAXIMUM_STEPS {
        return false;
    }
    let Some((first, rest)) = pattern.split_first() else { return name.is_empty() };
    if matches!(first, b'?' | b'*' | b'+' | b'@' | b'!')
        && let Some((alternatives, after)) = split_group(rest)
    {
        return match_group(*first, &alternatives, after, name, steps);
    }
    match first {
        b'*' => (0..=name.len()).any(|taken| match_here(rest, &name[taken..], steps)),
        b'?' => !name.is_empty() && match_here(rest, &name[1..], steps),
        b'[' => match (match_bracket(rest, name.first()), name.split_first()) {
            (Some((true, after)), Some((_, left))) => match_here(after, left, steps),
            (Some((false, _)), _) | (Some(_), None) => false,
            (None, Some((b'[', left))) => match_here(rest, left, steps),
            (None, _) => false,
        },
        b'\\' if !rest.is_empty() => name.first() == Some(&rest[0]) && match_here(&rest[1..], &name[1..], steps),
        literal => name.first() == Some(literal) && match_here(rest, &name[1..], steps),
    }
}

/// `(a|b)` at the begin of `pattern`: its alternatives and what follows.
fn split_group(pattern: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    if pattern.first() != Some(&b'(') {
        return None;
    }
    let (mut depth, mut start, mut alternatives) = (0, 1, Vec::new());
    for (at, byte) in pattern.iter().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    alternatives.push(&pattern[start..at]);
                    return Some((alternatives, &pattern[at + 1..]));
                }
            }
            b'|' if depth == 1 => {
                alternatives.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

fn match_group(kind: u8, alternatives: &[&[u8]], after: &[u8], name: &[u8], steps: &mut u32) -> bool {
    let splits = |least: usize| least..=name.len();
    let any = |part: &[u8], steps: &mut u32| alternatives.iter().any(|one| match_here(one, part, steps));
    match kind {
        b'!' => splits(0).any(|at| !any(&name[..at], steps) && match_here(after, &name[at..], steps)),
        b'@' => splits(0).any(|at| any(&name[..at], steps) && match_here(after, &name[at..], steps)),
        b'?' => {
            match_here(after, name, steps)
                || splits(0).any(|at| any(&name[..at], steps) && match_here(after, &name[at..], steps))
        }
        _ => {
            (kind == b'*' && match_here(after, name, steps))
                || splits(1).any(|at| {
                    any(&name[..at], steps)
                        && (match_here(after, &name[at..], steps)
                            || match_group(b'+', alternatives, after, &name[at..], steps))
                })
        }
    }
}

/// A bracket expression after its `[`: whether it takes the byte, and what follows; `None` when it has no end.
fn match_bracket<'a>(pattern: &'a [u8], byte: Option<&u8>) -> Option<(bool, &'a [u8])> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let set = if negated { &pattern[1..] } else { pattern };
    let end = set.iter().skip(1).position(|byte| *byte == b']')? + 1;
    let (inside, after) = (&set[..end], &set[end + 1..]);
    let Some(byte) = byte else { return Some((false, after)) };
    let mut found = false;
    let mut at = 0;
    while at < inside.len() {
        if at + 2 < inside.len() && inside[at + 1] == b'-' {
            found |= (inside[at]..=inside[at + 2]).contains(byte);
            at += 3;
        } else {
            found |= inside[at] == *byte;
            at += 1;
        }
    }
    Some((found != negated, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_a_shell_with_extended_globs_does() {
        for (pattern, name, expected) in [
            ("*.txt", "a.txt", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("@(a|bc)d", "bcd", true),
            ("+(ab)", "ababab", true),
            ("+(ab)", "", false),
            ("*(ab)x", "x", true),
            ("!(a|b)", "c", true),
            ("!(a|b)", "a", false),
            ("?(a)b", "b", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[", "[", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn variables_are_empty_and_commands_refused() {
        assert_eq!(expand_variables("/a/$HOME/${X}b").unwrap(), "/a//b");
        assert!(expand_variables("$(id)").is_err());
        assert!(expand_variables("${X").is_err());
    }

    #[test]
    fn hostile_repetition_ends() {
        let pattern = b"+(+(+(a|aa)|aa)|a)b";
        assert!(!matches(pattern, &[b'a'; 200]));
    }
    #[test]
    fn very_long_patterns_do_not_exhaust_the_stack() {
        for part in ["*", "@(", "@()", "?()", "a", "?", "*(a|"] {
            let pattern = part.repeat(500_000);
            assert!(!matches(pattern.as_bytes(), &[b'a'; 255]), "{part}");
            let longest = &pattern.as_bytes()[..MAXIMUM_PATTERN];
            assert_eq!(matches(longest, &[b'a'; 255]), part == "*", "{part}");
        }
    }

    /// A row of directories named `d`, a hundred deep.
    struct Deep;

    impl Listing for Deep {
        fn names(&self, directory: &[u8]) -> Vec<Vec<u8>> {
            if directory.len() < 200 { vec![b"d".to_vec()] } else { Vec::new() }
        }

        fn exists(&self, path: &[u8]) -> bool {
            self.is_directory(path)
        }

        fn is_directory(&self, path: &[u8]) -> bool {
            path.split(|byte| *byte == b'/').all(|name| matches!(name, b"" | b"d"))
        }
    }

    #[test]
    fn repeated_descents_find_each_directory_once() {
        assert_eq!(expand("/**/**/**/**/**/**", &Deep).len(), 101);
    }
}
