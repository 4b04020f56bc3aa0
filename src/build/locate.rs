//! Where in the definition a command stands that the shell traced.
//!
//! A trace shows what became of a line: variables replaced, quotes taken off or put on. So the line is looked for that has most of its
//! words; where two are as good, none is told, for a wrong line is worse than the section's.

use crate::definition::Script;

/// Lines of the source, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Of the section's name: a repeated section has several.
    pub section: usize,
    pub command: usize,
}

/// Finds `command` in `script`.
pub fn locate(script: &Script, command: &str) -> Option<Location> {
    let wanted = words(command);
    let mut best: Option<(usize, usize)> = None;
    let mut ambiguous = false;
    for (index, line) in script.body.lines().enumerate() {
        let score = score(&wanted, &words(line));
        match best {
            _ if score == 0 => {}
            Some((known, _)) if score < known => {}
            Some((known, _)) if score == known => ambiguous = true,
            _ => (best, ambiguous) = (Some((score, index)), false),
        }
    }
    let (_, index) = best.filter(|_| !ambiguous)?;
    let command = *script.lines.get(index)?;
    let mut first = index;
    while first > 0 && script.lines[first - 1] + 1 == script.lines[first] {
        first -= 1;
    }
    Some(Location { section: script.lines[first].saturating_sub(1), command })
}

/// How much of a traced command stands on a line; 0 where its program does not, in no order.
fn score(wanted: &[String], line: &[String]) -> usize {
    let Some(program) = wanted.first().filter(|program| line.contains(program)) else { return 0 };
    let starts = usize::from(line.first() == Some(program));
    let found = wanted.iter().filter(|word| line.contains(word)).count();
    // Words of the line that the trace does not show count against it, unless a variable may have become them.
    let strange = line.iter().filter(|word| !wanted.contains(word) && !word.contains(['$', '`', '*', '?'])).count();
    (1000 + 10 * found + 5 * starts).saturating_sub(strange).max(1)
}

fn words(text: &str) -> Vec<String> {
    let plain = |word: &str| word.replace(['\'', '"', '\\', ';', '(', ')'], "");
    text.split_whitespace().map(plain).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;
    use proptest::prelude::*;

    fn script(first: usize, body: &str) -> Script {
        let lines = (first..).take(body.lines().count()).collect();
        Script { arguments: String::new(), body: body.to_owned(), span: Span::default(), lines }
    }

    fn line(script: &Script, command: &str) -> Option<usize> {
        locate(script, command).map(|found| found.command)
    }

    #[test]
    fn finds_commands_as_they_stand_and_as_the_shell_shows_them() {
        let script = script(
            4,
            "  set -u\n  X='a b'\n  echo \"$X\" > /out\n  make install; cp one two\n  if ! grep -q 'x y' /f; then false; fi\n",
        );
        assert_eq!(line(&script, "set -u"), Some(4));
        assert_eq!(line(&script, "echo 'a b'"), Some(6));
        assert_eq!(line(&script, "cp one two"), Some(7));
        assert_eq!(line(&script, "grep -q x y /f"), Some(8));
        assert_eq!(line(&script, "absent"), None);
    }

    #[test]
    fn tells_nothing_where_two_lines_are_as_good() {
        assert_eq!(line(&script(4, "  false\n  true\n  false\n"), "false"), None);
    }

    #[test]
    fn names_the_repetition_of_a_section() {
        let mut script = script(3, "  one\n  two\n");
        script.body.push_str("  three\n  four\n");
        script.lines.extend([10, 11]);
        assert_eq!(locate(&script, "two"), Some(Location { section: 2, command: 4 }));
        assert_eq!(locate(&script, "four"), Some(Location { section: 9, command: 11 }));
    }

    proptest! {
        #[test]
        fn no_text_panics(body in "\\PC{0,60}", command in "\\PC{0,30}") {
            locate(&script(1, &body), &command);
            locate(&Script { lines: Vec::new(), ..script(1, &body) }, &command);
        }
    }
}
