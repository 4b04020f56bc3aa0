//! The lines of a pacman.conf that say which repositories there are, and what is left out.
//!
//! Source: pacman.conf(5).

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// In their order, the preferred first; servers with `$repo` and `$arch` as written, none where only an `Include` names them.
    pub repositories: Vec<(String, Vec<String>)>,
    /// Of `IgnorePkg`.
    pub ignored: Vec<String>,
    /// Of `Architecture`; `auto` is any.
    pub architectures: Vec<String>,
    /// What changes nothing here, in words.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    #[error("line {line}: {text:?} is not known in a pacman.conf")]
    Line { line: usize, text: String },
    #[error("it names no repository")]
    Empty,
}

/// The default of Apptainer's agent has these two.
pub const DEFAULT: [&str; 2] = ["core", "extra"];

pub fn parse(text: &str) -> Result<Configuration, ConfigurationError> {
    let mut found = Configuration::default();
    let mut in_options = true;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let fault = || ConfigurationError::Line { line: number + 1, text: line.chars().take(160).collect() };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            in_options = name == "options";
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
            if name.is_empty()
                || !is_name
                || name.starts_with(['.', '-'])
                || found.repositories.iter().any(|(other, _)| other == name)
            {
                return Err(fault());
            }
            if !in_options {
                found.repositories.push((name.to_owned(), Vec::new()));
            }
            continue;
        }
        let (key, value) = line.split_once('=').map_or((line, ""), |(key, value)| (key.trim(), value.trim()));
        let words = || value.split_whitespace().map(str::to_owned);
        match (key, found.repositories.last_mut()) {
            ("Server", Some((_, servers))) if !in_options => servers.push(value.trim_end_matches('/').to_owned()),
            ("IgnorePkg", _) if in_options => found.ignored.extend(words()),
            ("Architecture", _) if in_options => found.architectures.extend(words().filter(|word| word != "auto")),
            ("Include", _) => found
                .notes
                .push(format!("`{line}` names a file of another host: the mirror of MirrorURL stands for it")),
            // What weakens checks is said on the command line only.
            ("SigLevel", _) if value.contains("Never") || value.contains("TrustAll") || value.contains("Optional") => {
                found.notes.push(format!(
                    "`{line}` changes nothing: signatures of packages are checked unless --no-check-signatures is given"
                ));
            }
            ("IgnoreGroup", _) if in_options => found.notes.push(format!("`{line}` changes nothing here")),
            _ if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {}
            _ => return Err(fault()),
        }
    }
    if found.repositories.is_empty() { Err(ConfigurationError::Empty) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_repositories_in_order_and_says_what_it_ignores() {
        let text = "[options]\nHoldPkg = pacman\nIgnorePkg = a b\nArchitecture = auto\nSigLevel = Never\nColor\n# x\n\
                    [own]\nServer = http://a/$repo/\nServer = http://b/$arch\n[core]\nInclude = /etc/pacman.d/mirrorlist\n";
        let found = parse(text).unwrap();
        let servers = vec!["http://a/$repo".to_owned(), "http://b/$arch".to_owned()];
        assert_eq!(found.repositories, [("own".to_owned(), servers), ("core".to_owned(), Vec::new())]);
        assert_eq!((found.ignored.len(), found.architectures.len(), found.notes.len()), (2, 0, 2));
    }

    #[test]
    fn refuses_what_is_no_configuration() {
        for text in ["", "<html>\n[core]\n", "[../x]\n", "[core]\n[core]\n", "[options]\n"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[\\[\\]=#a-z$ \n\u{e4}]{0,60}") {
            let _ = parse(&text);
        }
    }
}
