//! `NAME`, `NAME=VERSION`, `NAME>=VERSION` …: what a package needs, provides, and does not go with.

use super::version::compare;
use crate::rpm::metadata::primary::is_word;
use std::cmp::Ordering;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
}

const SIGNS: [(&str, Comparison); 5] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("=", Comparison::Equal),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub name: String,
    pub version: Option<(Comparison, String)>,
}

impl Relation {
    /// `None` when the name or the version holds blanks, slashes or nothing.
    pub fn parse(text: &str) -> Option<Relation> {
        let at = text.find(['<', '>', '=']).unwrap_or(text.len());
        let (name, rest) = text.split_at(at);
        let version = match rest {
            "" => None,
            _ => {
                let (sign, comparison) = SIGNS.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
                let version = &rest[sign.len()..];
                is_word(version).then(|| Some((comparison, version.to_owned())))?
            }
        };
        is_word(name).then(|| Relation { name: name.to_owned(), version })
    }

    /// Whether this version of a package of this name satisfies the relation.
    pub fn holds_for(&self, version: &str) -> bool {
        self.version.as_ref().is_none_or(|(comparison, wanted)| {
            let order = compare(version, wanted);
            match comparison {
                Comparison::Less => order == Ordering::Less,
                Comparison::AtMost => order != Ordering::Greater,
                Comparison::Equal => order == Ordering::Equal,
                Comparison::AtLeast => order != Ordering::Less,
                Comparison::Greater => order == Ordering::Greater,
            }
        })
    }

    /// Whether something provided satisfies the relation. What is provided without a version satisfies none that wants one.
    pub fn holds_for_provided(&self, provided: &Relation) -> bool {
        provided.name == self.name
            && match &provided.version {
                Some((Comparison::Equal, version)) => self.holds_for(version),
                _ => self.version.is_none(),
            }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)?;
        match &self.version {
            None => Ok(()),
            Some((comparison, version)) => {
                let sign = SIGNS.iter().find(|(_, one)| one == comparison).map_or("", |(sign, _)| sign);
                write!(formatter, "{sign}{version}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_compared_and_written() {
        let relation = |text: &str| Relation::parse(text).unwrap();
        for text in ["a", "a=1-1", "a>=2:1", "a<=1", "a<1", "a>1", "libx.so=1-64"] {
            assert_eq!(relation(text).to_string(), text);
        }
        for text in ["", "=1", "a=", "a b", "a/b", "a=1/2"] {
            assert_eq!(Relation::parse(text), None, "{text:?}");
        }
        assert!(relation("a>=1").holds_for("1-3") && !relation("a<1").holds_for("1-3"));
        assert!(relation("a=1").holds_for_provided(&relation("a=1")));
        assert!(!relation("a=1").holds_for_provided(&relation("a")));
        assert!(relation("a").holds_for_provided(&relation("a=1")));
    }
}
