//! Relations between packages: `Depends`, `Conflicts`, `Provides` and their kin.
//!
//! Source: Debian Policy §7.1, deb-control(5), the build-profile specification.

use super::version::{Version, compare};
use std::cmp::Ordering;
use std::fmt;

/// Relations in one field beyond which it is refused (the longest in the Debian archive has a few thousand).
const MAXIMUM_RELATIONS: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`, and the obsolete `<`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`, and the obsolete `>`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    pub fn text(self) -> &'static str {
        match self {
            Operator::Earlier => "<<",
            Operator::EarlierOrEqual => "<=",
            Operator::Equal => "=",
            Operator::LaterOrEqual => ">=",
            Operator::Later => ">>",
        }
    }

    /// Whether `version OPERATOR bound` holds.
    pub fn holds(self, version: &str, bound: &str) -> bool {
        let order = compare(version, bound);
        match self {
            Operator::Earlier => order == Ordering::Less,
            Operator::EarlierOrEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::LaterOrEqual => order != Ordering::Less,
            Operator::Later => order == Ordering::Greater,
        }
    }
}

/// One package name with what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub name: String,
    /// `any` or an architecture, behind a colon.
    pub qualifier: Option<String>,
    pub constraint: Option<(Operator, Version)>,
    /// `[amd64 !i386]`; empty: all. Only source packages and hand-written lists have it.
    pub architectures: Vec<String>,
    /// `<!nocheck> <cross>`: any of the groups, all within a group; empty: all.
    pub profiles: Vec<Vec<String>>,
}

/// Alternatives in order of preference (`a | b`).
pub type Alternatives = Vec<Relation>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a relation between packages: {cause}")]
pub struct RelationError {
    pub text: String,
    pub cause: String,
}

/// A whole field: all of the comma-separated parts are meant.
pub fn parse(field: &str) -> Result<Vec<Alternatives>, RelationError> {
    let mut all = Vec::new();
    let mut count = 0;
    for part in field.split(',') {
        // Compat: trailing and doubled commas occur in the wild and mean nothing.
        if part.trim().is_empty() {
            continue;
        }
        let alternatives = part.split('|').map(parse_one).collect::<Result<Vec<_>, _>>()?;
        count += alternatives.len();
        if count > MAXIMUM_RELATIONS {
            return Err(RelationError { text: cut(field), cause: "it has too many parts".into() });
        }
        all.push(alternatives);
    }
    Ok(all)
}

/// `name[:qualifier] [(operator version)] [[architectures]] [<profiles>]…`
pub fn parse_one(text: &str) -> Result<Relation, RelationError> {
    let fault = |cause: &str| RelationError { text: cut(text), cause: cause.to_owned() };
    let whole = text.trim();
    let end = whole.find(|c: char| c.is_whitespace() || "([<".contains(c)).unwrap_or(whole.len());
    let (head, mut rest) = whole.split_at(end);
    let (name, qualifier) = match head.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (head, None),
    };
    if !is_package_name(name) {
        return Err(fault(
            "a package name has lower-case letters, digits and + - . and begins with a letter or a digit",
        ));
    }
    if qualifier.is_some_and(|qualifier| !is_word(qualifier)) {
        return Err(fault("an architecture must stand behind the colon"));
    }
    let mut relation = Relation {
        name: name.to_owned(),
        qualifier: qualifier.map(str::to_owned),
        constraint: None,
        architectures: Vec::new(),
        profiles: Vec::new(),
    };
    loop {
        rest = rest.trim_start();
        let Some(open) = rest.chars().next() else { return Ok(relation) };
        let close = match open {
            '(' => ')',
            '[' => ']',
            '<' => '>',
            _ => return Err(fault("a comma or | is missing between two packages")),
        };
        let at = rest.find(close).ok_or_else(|| fault("a bracket is not closed"))?;
        let inner = rest[1..at].trim();
        match open {
            '(' if relation.constraint.is_none() => relation.constraint = Some(parse_constraint(inner, text)?),
            '[' if relation.architectures.is_empty() => relation.architectures = words(inner),
            '<' => relation.profiles.push(words(inner)),
            _ => return Err(fault("the same bracket stands twice")),
        }
        rest = &rest[at + 1..];
    }
}

fn parse_constraint(inner: &str, whole: &str) -> Result<(Operator, Version), RelationError> {
    let at = inner.find(|c: char| !"<>=".contains(c)).unwrap_or(inner.len());
    let operator = match &inner[..at] {
        "<<" => Operator::Earlier,
        "<=" | "<" => Operator::EarlierOrEqual,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::LaterOrEqual,
        ">>" => Operator::Later,
        _ => {
            return Err(RelationError {
                text: cut(whole),
                cause: "the parenthesis must begin with << <= = >= or >>".into(),
            });
        }
    };
    let version =
        Version::parse(&inner[at..]).map_err(|error| RelationError { text: cut(whole), cause: error.to_string() })?;
    Ok((operator, version))
}

impl Relation {
    /// A bare name.
    pub fn named(name: &str) -> Relation {
        Relation {
            name: name.to_owned(),
            qualifier: None,
            constraint: None,
            architectures: Vec::new(),
            profiles: Vec::new(),
        }
    }

    /// Whether a package of this version satisfies the constraint.
    pub fn accepts(&self, version: &str) -> bool {
        self.constraint.as_ref().is_none_or(|(operator, bound)| operator.holds(version, bound.as_str()))
    }

    /// Whether something provided, with or without a version, satisfies the constraint.
    /// Spec: an unversioned provision never satisfies a versioned relation (Policy §7.5).
    pub fn accepts_provided(&self, version: Option<&str>) -> bool {
        match (&self.constraint, version) {
            (None, _) => true,
            (Some(_), Some(version)) => self.accepts(version),
            (Some(_), None) => false,
        }
    }

    /// Whether the relation is meant on this architecture and with these active build profiles.
    pub fn applies(&self, architecture: &str, active_profiles: &[&str]) -> bool {
        let architectures = self.architectures.is_empty()
            || match self.architectures[0].strip_prefix('!') {
                Some(_) => self.architectures.iter().all(|word| word.trim_start_matches('!') != architecture),
                None => self.architectures.iter().any(|word| matches_architecture(word, architecture)),
            };
        let profiles = self.profiles.is_empty()
            || self.profiles.iter().any(|group| {
                group.iter().all(|word| match word.strip_prefix('!') {
                    Some(absent) => !active_profiles.contains(&absent),
                    None => active_profiles.contains(&word.as_str()),
                })
            });
        architectures && profiles
    }
}

fn matches_architecture(word: &str, architecture: &str) -> bool {
    word == architecture || word == "any" || word == "linux-any" || word.strip_prefix("any-") == Some(architecture)
}

impl fmt::Display for Relation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)?;
        if let Some(qualifier) = &self.qualifier {
            write!(formatter, ":{qualifier}")?;
        }
        if let Some((operator, version)) = &self.constraint {
            write!(formatter, " ({} {version})", operator.text())?;
        }
        if !self.architectures.is_empty() {
            write!(formatter, " [{}]", self.architectures.join(" "))?;
        }
        for group in &self.profiles {
            write!(formatter, " <{}>", group.join(" "))?;
        }
        Ok(())
    }
}

/// Spec: Policy §5.6.1; upper case and `_` occur in other archives, and are harmless here.
pub fn is_package_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn cut(text: &str) -> String {
    text.trim().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_policy_allows() {
        let field = "libc6 (>= 2.36), perl:any | perl5 , a(<<1:2) [amd64 !i386] <!nocheck> <x y>,";
        let all = parse(field).unwrap();
        let texts: Vec<String> =
            all.iter().map(|group| group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")).collect();
        assert_eq!(texts, ["libc6 (>= 2.36)", "perl:any | perl5", "a (<< 1:2) [amd64 !i386] <!nocheck> <x y>"]);
        assert!(all[0][0].accepts("2.36-9") && !all[0][0].accepts("2.35"));
        assert!(all[2][0].accepts("1:1.9"));
    }

    #[test]
    fn restricts_by_architecture_and_profile() {
        let relation = |text| parse_one(text).unwrap();
        assert!(relation("a [amd64 arm64]").applies("arm64", &[]));
        assert!(!relation("a [!amd64 !arm64]").applies("arm64", &[]));
        assert!(relation("a [!amd64]").applies("arm64", &[]));
        assert!(relation("a [linux-any]").applies("s390x", &[]));
        assert!(!relation("a <!nocheck>").applies("amd64", &["nocheck"]));
        assert!(!relation("a <cross>").applies("amd64", &[]));
    }

    #[test]
    fn an_unversioned_provision_does_not_satisfy_a_version() {
        let relation = parse_one("mail-transport-agent (>= 2)").unwrap();
        assert!(!relation.accepts_provided(None));
        assert!(relation.accepts_provided(Some("3")));
        assert!(!relation.accepts_provided(Some("1")));
        assert!(Relation::named("a").accepts_provided(None));
    }

    #[test]
    fn says_why_a_text_is_no_relation() {
        for (text, cause) in [
            ("a b", "comma"),
            ("a (>= 1", "closed"),
            ("a (1)", "begin"),
            ("-a", "name"),
            ("a:", "colon"),
            ("a (>= 1) (<< 2)", "twice"),
            ("a (>= )", "empty"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[a-c1:|,(\\[<)\\]>=! \u{e4}]{0,60}") {
            if let Ok(all) = parse(&text) {
                for relation in all.iter().flatten() {
                    prop_assert_eq!(&parse_one(&relation.to_string()).unwrap(), relation);
                }
            }
        }
    }
}
