//! What packages say of each other: names with bounds, and rich (boolean) dependencies.
//!
//! Source: rpm's manual, "Dependencies" and "Boolean dependencies".

use super::version::{Match, compare_open};
use std::cmp::Ordering;

/// Nesting of a rich dependency beyond which it is refused.
const MAXIMUM_DEPTH: usize = 32;
/// Operands of one rich dependency; beyond it is refused.
const MAXIMUM_OPERANDS: usize = 512;

/// Less, equal, greater as bits; 0: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sense(pub u8);

impl Sense {
    pub const ANY: Sense = Sense(0);
    pub const LESS: Sense = Sense(1);
    pub const GREATER: Sense = Sense(2);
    pub const EQUAL: Sense = Sense(4);

    pub fn has(self, other: Sense) -> bool {
        self.0 & other.0 != 0
    }

    /// `LT LE EQ GE GT`, as repositories write it.
    pub fn from_flags(text: &str) -> Option<Sense> {
        Some(match text {
            "LT" => Sense(1),
            "GT" => Sense(2),
            "EQ" => Sense(4),
            "LE" => Sense(5),
            "GE" => Sense(6),
            _ => return None,
        })
    }

    /// `< > = <= >=` and `==`.
    pub fn from_operator(text: &str) -> Option<Sense> {
        Some(match text {
            "<" => Sense(1),
            ">" => Sense(2),
            "=" | "==" => Sense(4),
            "<=" | "=<" => Sense(5),
            ">=" | "=>" => Sense(6),
            _ => return None,
        })
    }

    pub fn operator(self) -> &'static str {
        match self.0 {
            1 => "<",
            2 => ">",
            4 => "=",
            5 => "<=",
            6 => ">=",
            _ => "",
        }
    }
}

/// Whether two ranges have a version in common. A side without a bound meets every range.
pub fn overlaps(left: (Sense, &str), right: (Sense, &str)) -> bool {
    let ((left, left_evr), (right, right_evr)) = (left, right);
    if left == Sense::ANY || right == Sense::ANY {
        return true;
    }
    if left.0 & right.0 & (Sense::LESS.0 | Sense::GREATER.0) != 0 {
        return true;
    }
    match compare_open(left_evr, right_evr) {
        Match::LeftOpen => left.has(Sense::EQUAL),
        Match::RightOpen => right.has(Sense::EQUAL),
        Match::Ordered(Ordering::Less) => right.has(Sense::LESS) || left.has(Sense::GREATER),
        Match::Ordered(Ordering::Greater) => right.has(Sense::GREATER) || left.has(Sense::LESS),
        Match::Ordered(Ordering::Equal) => left.has(Sense::EQUAL) && right.has(Sense::EQUAL),
    }
}

/// A dependency as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    One {
        name: String,
        sense: Sense,
        evr: String,
    },
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    /// `(a if b else c)`.
    If(Box<Expression>, Box<Expression>, Option<Box<Expression>>),
    /// `(a unless b else c)`.
    Unless(Box<Expression>, Box<Expression>, Option<Box<Expression>>),
    /// One package that is both.
    With(Box<Expression>, Box<Expression>),
    /// One package that is the first and not the second.
    Without(Box<Expression>, Box<Expression>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a rich dependency: {cause}")]
pub struct ExpressionError {
    pub text: String,
    pub cause: &'static str,
}

/// Reads a rich dependency, which begins with a parenthesis.
pub fn parse(text: &str) -> Result<Expression, ExpressionError> {
    let mut parser = Parser { text, at: 0, operands: 0 };
    let read = parser.group(0).and_then(|expression| {
        parser.skip_blanks();
        if parser.at < text.len() { Err("something follows the last parenthesis") } else { Ok(expression) }
    });
    read.map_err(|cause| ExpressionError { text: text.chars().take(200).collect(), cause })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    operands: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// `(operand [operator operand]…)`: one operator a pair of parentheses, `if` and `unless` with `else`.
    fn group(&mut self, depth: usize) -> Result<Expression, &'static str> {
        if depth > MAXIMUM_DEPTH {
            return Err("it is nested too deeply");
        }
        self.skip_blanks();
        if !self.rest().starts_with('(') {
            return Err("a parenthesis is missing");
        }
        self.at += 1;
        let mut whole = self.operand(depth)?;
        let mut first: Option<String> = None;
        loop {
            self.skip_blanks();
            if self.rest().starts_with(')') {
                self.at += 1;
                return Ok(whole);
            }
            let operator = self.word().to_owned();
            if let Some(first) = &first
                && (*first != operator || !matches!(operator.as_str(), "and" | "or" | "with"))
            {
                return Err("operators are mixed without parentheses");
            }
            let next = Box::new(self.operand(depth)?);
            let left = Box::new(whole);
            whole = match operator.as_str() {
                "and" => Expression::And(left, next),
                "or" => Expression::Or(left, next),
                "with" => Expression::With(left, next),
                "without" => Expression::Without(left, next),
                "if" => Expression::If(left, next, self.otherwise(depth)?),
                "unless" => Expression::Unless(left, next, self.otherwise(depth)?),
                _ => return Err("an operator is missing: and, or, if, unless, with, without"),
            };
            first = Some(operator);
        }
    }

    fn otherwise(&mut self, depth: usize) -> Result<Option<Box<Expression>>, &'static str> {
        self.skip_blanks();
        let before = self.at;
        if self.word() == "else" {
            return Ok(Some(Box::new(self.operand(depth)?)));
        }
        self.at = before;
        Ok(None)
    }

    fn operand(&mut self, depth: usize) -> Result<Expression, &'static str> {
        self.operands += 1;
        if self.operands > MAXIMUM_OPERANDS {
            return Err("it has too many parts");
        }
        self.skip_blanks();
        if self.rest().starts_with('(') {
            return self.group(depth + 1);
        }
        let name = self.word().to_owned();
        if name.is_empty() {
            return Err("a name is missing");
        }
        self.skip_blanks();
        let before = self.at;
        let end = self.rest().find(|c: char| !"<>=".contains(c)).unwrap_or(self.rest().len());
        let sense = Sense::from_operator(&self.rest()[..end]);
        self.at += end;
        let Some(sense) = sense else {
            self.at = before;
            return Ok(Expression::One { name, sense: Sense::ANY, evr: String::new() });
        };
        self.skip_blanks();
        let evr = self.word().to_owned();
        if evr.is_empty() {
            return Err("a version is missing");
        }
        Ok(Expression::One { name, sense, evr })
    }

    /// Up to a blank or a parenthesis that was not opened in the word: names like `lib.so()(64bit)` have their own.
    fn word(&mut self) -> &str {
        self.skip_blanks();
        let start = self.at;
        let mut open = 0;
        for (at, character) in self.rest().char_indices() {
            match character {
                '(' => open += 1,
                ')' if open == 0 => {
                    self.at = start + at;
                    return &self.text[start..self.at];
                }
                ')' => open -= 1,
                _ if character.is_whitespace() => {
                    self.at = start + at;
                    return &self.text[start..self.at];
                }
                _ => {}
            }
        }
        self.at = self.text.len();
        &self.text[start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(name: &str) -> Box<Expression> {
        Box::new(Expression::One { name: name.into(), sense: Sense::ANY, evr: String::new() })
    }

    #[test]
    fn reads_every_operator() {
        assert_eq!(parse("(a or b)"), Ok(Expression::Or(one("a"), one("b"))));
        assert_eq!(
            parse("(a and b and c)"),
            Ok(Expression::And(Box::new(Expression::And(one("a"), one("b"))), one("c")))
        );
        assert_eq!(parse("(a if b else c)"), Ok(Expression::If(one("a"), one("b"), Some(one("c")))));
        assert_eq!(parse("(a unless b)"), Ok(Expression::Unless(one("a"), one("b"), None)));
        assert_eq!(parse("((a with b) without c)").unwrap(), {
            Expression::Without(Box::new(Expression::With(one("a"), one("b"))), one("c"))
        });
        let bound = parse("(lib.so.1()(64bit) >= 1:2-3 if f(x))").unwrap();
        let Expression::If(left, right, None) = bound else { panic!("{bound:?}") };
        assert_eq!(*left, Expression::One { name: "lib.so.1()(64bit)".into(), sense: Sense(6), evr: "1:2-3".into() });
        assert_eq!(right, one("f(x)"));
    }

    #[test]
    fn refuses_what_has_two_meanings() {
        for text in ["(a or b and c)", "(a", "a or b", "(a b)", "(a or )", "(a >= )", "(a) b", "(a if b if c)"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"(".repeat(100_000)).unwrap_err().cause.contains("deeply"));
    }

    #[test]
    fn ranges_overlap_as_rpm_says() {
        let overlap = |left: &str, a, right: &str, b| {
            overlaps((Sense::from_operator(left).unwrap(), a), (Sense::from_operator(right).unwrap(), b))
        };
        assert!(overlap("=", "1-1", ">=", "1"));
        assert!(overlap("=", "1-1", "=", "1"));
        assert!(!overlap("=", "1-1", ">", "1"));
        assert!(!overlap("=", "1-1", "=", "1-2"));
        assert!(overlap("<", "2", ">", "1"));
        assert!(overlap("<", "2", "<", "1"));
        assert!(!overlap("<", "1", ">=", "1"));
        assert!(overlaps((Sense::ANY, ""), (Sense::EQUAL, "9")));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[(]?[ab() <>=a-z\u{e4}]{0,60}") {
            let _ = parse(&text);
        }
    }
}
