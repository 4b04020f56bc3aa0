//! JSON as Go's encoder writes it, for files that are compared byte by byte.
//!
//! Source: facts §4.2 (labels.json): keys sorted, a tab an indent, no newline at the end, HTML characters escaped.

use std::collections::BTreeMap;
use std::fmt::Write;

/// `labels.json` of these labels.
pub fn write_labels(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return "{}".to_owned();
    }
    let lines: Vec<String> =
        labels.iter().map(|(key, value)| format!("\t{}: {}", write_string(key), write_string(value))).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}

fn write_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(json, "\\u{:04x}", u32::from(character));
            }
            _ => json.push(character),
        }
    }
    json.push('"');
    json
}
