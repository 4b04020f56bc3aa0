//! The control-file format (deb822): paragraphs of fields, borrowed from the text.
//!
//! Source: deb822(5), Debian Policy §5.1.

/// Fields in one paragraph beyond which it is refused.
const MAXIMUM_FIELDS: usize = 1000;

/// One paragraph: fields in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paragraph<'a> {
    /// The paragraph as written, without the blank line that ends it.
    pub text: &'a str,
    fields: Vec<(&'a str, &'a str)>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("line {line} is not a field: {text:?} has no colon")]
    NoColon { line: usize, text: String },
    #[error("line {line} continues a field, but none stands before it")]
    NothingToContinue { line: usize },
    #[error("line {line}: field {name:?} stands twice in one paragraph")]
    Repeated { line: usize, name: String },
    #[error("line {line}: a paragraph of more than {MAXIMUM_FIELDS} fields")]
    TooManyFields { line: usize },
}

impl<'a> Paragraph<'a> {
    /// A field's value as written after the colon, trimmed; continuation lines keep their line ends and their leading space.
    /// Names are compared without case.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    pub fn fields(&self) -> &[(&'a str, &'a str)] {
        &self.fields
    }
}

/// Paragraphs one after the other; the first error ends the iteration.
pub fn paragraphs(text: &str) -> Paragraphs<'_> {
    Paragraphs { text, offset: 0, line: 0 }
}

#[derive(Clone, Debug)]
pub struct Paragraphs<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
}

impl<'a> Paragraphs<'a> {
    fn next_line(&mut self) -> Option<(usize, &'a str, usize)> {
        let start = self.offset;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        self.offset += length;
        self.line += 1;
        Some((start, rest[..length].trim_end_matches(['\n', '\r']), start + length))
    }

    fn read(&mut self) -> Result<Option<Paragraph<'a>>, ControlError> {
        let text = self.text;
        let mut first: Option<usize> = None;
        let mut last = 0;
        let mut open: Option<(&'a str, usize, usize)> = None;
        let mut fields: Vec<(&'a str, &'a str)> = Vec::new();
        while let Some((start, line, end)) = self.next_line() {
            if line.trim().is_empty() {
                match first {
                    Some(_) => break,
                    None => continue,
                }
            }
            if line.starts_with('#') {
                continue;
            }
            if line.starts_with([' ', '\t']) {
                match &mut open {
                    Some((_, _, value_end)) => *value_end = end,
                    None => return Err(ControlError::NothingToContinue { line: self.line }),
                }
                last = end;
                continue;
            }
            if let Some((name, from, to)) = open.take() {
                fields.push((name, text[from..to].trim()));
            }
            let Some((name, _)) = line.split_once(':').filter(|(name, _)| !name.trim().is_empty()) else {
                return Err(ControlError::NoColon { line: self.line, text: line.chars().take(80).collect() });
            };
            if fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                return Err(ControlError::Repeated { line: self.line, name: name.chars().take(80).collect() });
            }
            if fields.len() == MAXIMUM_FIELDS {
                return Err(ControlError::TooManyFields { line: self.line });
            }
            first.get_or_insert(start);
            open = Some((name, start + name.len() + 1, end));
            last = end;
        }
        if let Some((name, from, to)) = open {
            fields.push((name, text[from..to].trim()));
        }
        Ok(first.map(|first| Paragraph { text: text[first..last].trim_end_matches(['\n', '\r']), fields }))
    }
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = Result<Paragraph<'a>, ControlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.offset = self.text.len();
        }
        read.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_paragraphs_with_continuations_and_comments() {
        let text =
            "\n# note\nPackage: a\nDescription: short\n long\n .\n more\nEmpty:\n\n\npackage: b\r\nVersion:1\r\n";
        let all: Vec<_> = paragraphs(text).collect::<Result<_, _>>().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("description"), Some("short\n long\n .\n more"));
        assert_eq!(all[0].get("Empty"), Some(""));
        assert_eq!(all[1].get("Package"), Some("b"));
        assert_eq!(all[1].get("Version"), Some("1"));
        assert_eq!(all[1].get("Absent"), None);
        assert!(all[0].text.starts_with("Package: a\n") && all[0].text.ends_with("Empty:"));
    }

    #[test]
    fn names_the_line_of_a_fault() {
        let error = |text: &str| paragraphs(text).find_map(Result::err).unwrap();
        assert_eq!(error("A: 1\n\nno colon"), ControlError::NoColon { line: 3, text: "no colon".into() });
        assert_eq!(error(" x"), ControlError::NothingToContinue { line: 1 });
        assert_eq!(error("A: 1\na: 2"), ControlError::Repeated { line: 2, name: "a".into() });
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_ends(text in "[A-C: \t\r\n#x\u{e4}]{0,200}") {
            for paragraph in paragraphs(&text).flatten() {
                prop_assert!(!paragraph.fields().is_empty());
                prop_assert!(text.contains(paragraph.text));
            }
        }
    }
}
