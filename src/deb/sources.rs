//! The host's own apt configuration: which mirrors it uses, and which keys it trusts for them.
//!
//! Source: sources.list(5), both forms.

use super::control::paragraphs;

/// One source of package files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AptSource {
    /// Without a trailing slash.
    pub uri: String,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    /// Absolute paths of keyrings; empty: the trusted ones.
    pub signed_by: Vec<String>,
}

/// Reads a file of the one-line form (`*.list`). Lines that are not understood are passed over, as are flat archives.
pub fn parse_list(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t'])) else { continue };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        let signed_by = options.split_whitespace().filter_map(|option| option.strip_prefix("signed-by="));
        sources.extend(source(
            uri,
            vec![suite.to_owned()],
            words.map(str::to_owned).collect(),
            signed_by.flat_map(|paths| paths.split(',')),
        ));
    }
    sources
}

/// Reads a file of the deb822 form (`*.sources`). Paragraphs that are not understood are passed over.
pub fn parse_deb822(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    for paragraph in paragraphs(text).map_while(Result::ok) {
        let words = |name: &str| -> Vec<String> {
            paragraph.get(name).unwrap_or("").split_whitespace().map(str::to_owned).collect()
        };
        let disabled = paragraph.get("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        if disabled || !words("Types").iter().any(|word| word == "deb") {
            continue;
        }
        // A key may stand in the field itself; then there is no path.
        let signed_by = words("Signed-By");
        for uri in words("URIs") {
            sources.extend(source(&uri, words("Suites"), words("Components"), signed_by.iter().map(String::as_str)));
        }
    }
    sources
}

fn source<'a>(
    uri: &str,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: impl Iterator<Item = &'a str>,
) -> Option<AptSource> {
    let known = ["http://", "https://", "file:/"].iter().any(|scheme| uri.starts_with(scheme));
    let flat = components.is_empty() || suites.iter().any(|suite| suite.ends_with('/'));
    if !known || flat {
        return None;
    }
    let signed_by = signed_by.filter(|path| path.starts_with('/')).map(str::to_owned).collect();
    Some(AptSource { uri: uri.trim_end_matches('/').to_owned(), suites, components, signed_by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_one_line_form() {
        let text = "# deb http://no.test/ x main\ndeb-src http://a.test/ x main\n\
                    deb [arch=amd64 signed-by=/k/a.gpg,/k/b.gpg] http://a.test/debian/ bookworm main contrib # note\n\
                    deb cdrom:[x]/ bookworm main\ndeb http://flat.test/ ./\n";
        let sources = parse_list(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].uri, "http://a.test/debian");
        assert_eq!(sources[0].suites, ["bookworm"]);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(sources[0].signed_by, ["/k/a.gpg", "/k/b.gpg"]);
    }

    #[test]
    fn reads_the_deb822_form() {
        let text = "Types: deb deb-src\n# note\nURIs: http://a.test/debian http://b.test/\nSuites: x x-updates\nComponents: main\n\
                    Signed-By: /k/a.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://c.test\nSuites: x\nComponents: main\n";
        let sources = parse_deb822(text);
        let uris: Vec<&str> = sources.iter().map(|source| source.uri.as_str()).collect();
        assert_eq!(uris, ["http://a.test/debian", "http://b.test"]);
        assert_eq!(sources[0].suites, ["x", "x-updates"]);
        assert_eq!(sources[1].signed_by, ["/k/a.gpg"]);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(deb|Types|URIs|[ :\\[\\]#a\n=,])*") {
            let _ = (parse_list(&text), parse_deb822(&text));
        }
    }
}
