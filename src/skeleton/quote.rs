//! Quoting for /bin/sh.

/// In single quotes: every byte literal, `'` as `'"'"'`.
pub(super) fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', r#"'"'"'"#))
}

/// What stands between double quotes so that nothing in it is expanded.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | '"' | '`' | '$') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// As it stands when the shell takes it literally anyway, else in single quotes.
pub(super) fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) { text.to_owned() } else { single(text) }
}
