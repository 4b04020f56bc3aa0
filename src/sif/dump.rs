//! What `siftool header`, `list` and `info` print, byte for byte for images as tools make them.
//!
//! Deviation: control characters in names and launch scripts are escaped, since images come from strangers and the text
//! goes to terminals; an unknown hash type is shown as `Unknown` and does not break the line.

use super::format::{Descriptor, Extra, Header, Link, NIL_ID, UNSET_TIME, unpadded};
use crate::arch::Arch;
use std::fmt::Write as _;

/// The header: one `Name: value` line a field; fields that are not set are left out.
pub fn header(header: &Header) -> String {
    let launch_script = printable(&String::from_utf8_lossy(unpadded(&header.launch_script)));
    let mut rows = Vec::new();
    if !launch_script.is_empty() {
        rows.push(("Launch Script:", launch_script));
    }
    rows.push(("Version:", printable(&String::from_utf8_lossy(unpadded(&header.version)))));
    if let Some(arch) = header.arch() {
        rows.push(("Primary Architecture:", arch.oci().to_owned()));
    }
    if header.id != NIL_ID {
        rows.push(("ID:", uuid(&header.id)));
    }
    push_times(&mut rows, header.created_at, header.modified_at);
    rows.push(("Descriptors Free:", header.descriptors_free.to_string()));
    rows.push(("Descriptors Total:", header.descriptors_total.to_string()));
    rows.push(("Descriptors Offset:", header.descriptors_offset.to_string()));
    rows.push(("Descriptors Size:", readable_size(header.descriptors_size)));
    rows.push(("Data Offset:", header.data_offset.to_string()));
    rows.push(("Data Size:", readable_size(header.data_size)));
    table("", 1, &rows)
}

/// One line an object.
pub fn list<'a>(objects: impl IntoIterator<Item = &'a Descriptor>) -> String {
    let rule = "-".repeat(78);
    let titles = ("ID", "|GROUP", "|LINK", "|SIF POSITION (start-end)", "|TYPE");
    let mut text =
        format!("{rule}\n{:<4} {:<8} {:<8} {:<26} {}\n{rule}\n", titles.0, titles.1, titles.2, titles.3, titles.4);
    for object in objects {
        let group = format!("|{:<7}", object.group().map_or("NONE".to_owned(), |group| group.to_string()));
        let link = match object.link() {
            Link::None => format!("|{:<7}", "NONE"),
            Link::Object(id) => format!("|{id:<7}"),
            Link::Group(group) => format!("|{group:<3} (G)"),
        };
        let position = format!("|{}-{} ", object.offset, object.end());
        let line = format!("{:<4} {group} {link} {position:<26} |{}\n", object.id, type_text(object));
        text.push_str(&line);
    }
    text
}

/// Everything about one object.
pub fn info(object: &Descriptor) -> String {
    let mut rows = vec![
        ("Data Type:", object.data_type.to_string()),
        ("ID:", object.id.to_string()),
        ("Group ID:", object.group().map_or("NONE".to_owned(), |group| group.to_string())),
        (
            "Linked ID:",
            match object.link() {
                Link::None => "NONE".to_owned(),
                Link::Object(id) => id.to_string(),
                Link::Group(group) => format!("{group} (G)"),
            },
        ),
        ("Offset:", object.offset.to_string()),
        ("Size:", object.size.to_string()),
    ];
    push_times(&mut rows, object.created_at, object.modified_at);
    let name = printable(&object.name());
    if !name.is_empty() {
        rows.push(("Name:", name));
    }
    match object.extra() {
        Extra::None => {}
        Extra::Partition(partition) => {
            rows.push(("Filesystem Type:", partition.file_system.to_string()));
            rows.push(("Partition Type:", partition.partition_type.to_string()));
            rows.push(("Architecture:", arch_text(partition.arch()).to_owned()));
        }
        Extra::Signature { hash_type, entity } => {
            rows.push(("Hash Type:", hash_type.to_string()));
            if entity != [0; 20] {
                rows.push(("Entity:", hexadecimal(&entity).to_uppercase()));
            }
        }
        Extra::CryptoMessage { format, message_type } => {
            rows.push(("Format Type:", format.to_string()));
            rows.push(("Message Type:", message_type.to_string()));
        }
        Extra::Sbom(format) => rows.push(("Format:", format.to_string())),
        Extra::Oci { digest } => rows.push(("Digest:", printable(&digest))),
    }
    table("  ", 2, &rows)
}

fn type_text(object: &Descriptor) -> String {
    let name = object.data_type.text();
    match object.extra() {
        Extra::Partition(partition) => {
            format!("{name} ({}/{}/{})", partition.file_system, partition.partition_type, arch_text(partition.arch()))
        }
        Extra::Signature { hash_type, .. } => format!("{name} ({hash_type})"),
        Extra::CryptoMessage { format, message_type } => format!("{name} ({format}/{message_type})"),
        Extra::Sbom(format) => format!("{name} ({format})"),
        Extra::Oci { .. } | Extra::None => name.to_owned(),
    }
}

fn arch_text(arch: Option<Arch>) -> &'static str {
    arch.map_or("unknown", Arch::oci)
}

fn push_times(rows: &mut Vec<(&'static str, String)>, created_at: i64, modified_at: i64) {
    for (name, time) in [("Created At:", created_at), ("Modified At:", modified_at)] {
        if time != UNSET_TIME {
            rows.push((name, utc(time)));
        }
    }
}

/// Two columns, the second `padding` blanks behind the longest name.
fn table(indent: &str, padding: usize, rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + padding;
    let mut text = String::new();
    for (name, value) in rows {
        let _ = writeln!(text, "{indent}{name:<width$}{value}");
    }
    text
}

/// `27 KiB`: rounded to a whole number of the largest unit that leaves at least 1.
fn readable_size(size: i64) -> String {
    if size < 1024 {
        return format!("{size} B");
    }
    let exponent = size.ilog2() / 10;
    let unit = ['K', 'M', 'G', 'T', 'P', 'E'][exponent as usize - 1];
    format!("{:.0} {unit}iB", (size as f64 / (1u64 << (10 * exponent)) as f64).round())
}

fn uuid(id: &[u8; 16]) -> String {
    let text = hexadecimal(id);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `2006-01-02 15:04:05 +0000 UTC`, as Go prints a time.
pub fn utc(time: i64) -> String {
    let (days, second) = (time.div_euclid(86_400), time.rem_euclid(86_400));
    // Source: Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

/// Without one newline at the end, and with control characters escaped.
fn printable(text: &str) -> String {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}
