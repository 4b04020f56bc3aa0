//! `WWW-Authenticate`: what a server wants to see before it answers.
//!
//! Source: RFC 9110 §11 (challenges; several in one header, separated by the same comma as their parameters).

/// One scheme with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub scheme: String,
    /// Names in lower case, in order.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads as far as it can: what is malformed ends the reading, not the build.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((word, after)) = token(rest) else { return challenges };
        let value = after.trim_start_matches([' ', '\t']);
        // A word before `=` is a parameter of the last challenge, any other one starts a challenge.
        match (value.strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((text, after)) = value_of(value.trim_start_matches([' ', '\t'])) else { return challenges };
                challenge.parameters.push((word.to_ascii_lowercase(), text));
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|letter: char| !(letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(letter)))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(word, rest)| (word.to_owned(), rest));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_registries_send() {
        let challenges = parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push""#,
        );
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].parameter("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(challenges[0].parameter("scope"), Some("repository:library/alpine:pull,push"));
    }

    #[test]
    fn tells_several_challenges_from_their_parameters() {
        let challenges = parse(r#"Negotiate, BASIC Realm = "a \"b\", c" , charset=UTF-8, Bearer realm=x"#);
        let schemes: Vec<&str> = challenges.iter().map(|challenge| challenge.scheme.as_str()).collect();
        assert_eq!(schemes, ["negotiate", "basic", "bearer"]);
        assert_eq!(challenges[1].parameter("realm"), Some("a \"b\", c"));
        assert_eq!(challenges[1].parameter("charset"), Some("UTF-8"));
        assert_eq!(challenges[2].parameter("realm"), Some("x"));
    }

    #[test]
    fn stops_at_what_is_malformed() {
        assert_eq!(parse("realm=x"), []);
        assert_eq!(parse(r#"Bearer realm="open"#)[0].parameters, []);
        assert_eq!(parse(""), []);
    }

    proptest! {
        #[test]
        fn never_panics_and_always_ends(text in r#"[Bb ="\\,a-z/ü]{0,80}"#) {
            prop_assert!(parse(&text).len() <= text.len());
        }

        #[test]
        fn gives_back_any_quoted_value(value in ".{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let challenges = parse(&format!("Bearer realm=\"{quoted}\", service=s"));
            prop_assert_eq!(challenges[0].parameter("realm"), Some(value.as_str()));
            prop_assert_eq!(challenges[0].parameter("service"), Some("s"));
        }
    }
}
