//! The labels of an image: where each comes from and which wins (facts §4.4).

use super::metadata::MetadataInputs;
use crate::definition::{Label, Stage};
use std::collections::BTreeMap;

/// A moment and the zone that it is told in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Seconds east of UTC.
    pub offset: i32,
    /// Abbreviation of the zone: `UTC`, `CET`.
    pub zone: String,
}

/// Labels from an existing `labels.json`; what is no JSON object of texts is told by a warning.
pub(super) fn existing_labels(json: &[u8], warnings: &mut Vec<String>) -> BTreeMap<String, String> {
    let fault =
        |cause: String| format!("The labels of the base image are left out: /.singularity.d/labels.json {cause}");
    match serde_json::from_slice::<Option<BTreeMap<String, serde_json::Value>>>(json) {
        Ok(labels) => {
            let mut texts = BTreeMap::new();
            for (key, value) in labels.unwrap_or_default() {
                match value {
                    serde_json::Value::String(text) => drop(texts.insert(key, text)),
                    other => {
                        warnings.push(format!("Label of the base image left out: {key} is not a text but {other}"))
                    }
                }
            }
            texts
        }
        Err(error) => {
            warnings.push(fault(format!("is not a JSON object: {error}")));
            BTreeMap::new()
        }
    }
}

/// Lines `key value`, as `%post` writes them into `$APPTAINER_LABELS`.
pub(super) fn parse_label_lines(bytes: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            (key.to_owned(), value.trim().to_owned())
        })
        .collect()
}

/// Names the flags by which checks of the bases were turned off.
pub const UNCHECKED_LABEL: &str = "org.sifbuild.unchecked";

/// The label of a base by which the checks of its own bases were turned off.
pub fn unchecked_label(json: &[u8]) -> Option<String> {
    existing_labels(json, &mut Vec::new()).remove(UNCHECKED_LABEL)
}

/// What the build says of itself.
pub(super) fn build_labels(stage: &Stage, inputs: &MetadataInputs<'_>) -> Vec<(String, String)> {
    let mut labels = vec![
        ("org.label-schema.schema-version".to_owned(), "1.0".to_owned()),
        ("org.opencontainers.image.created".to_owned(), inputs.created.rfc3339()),
        ("org.label-schema.build-date".to_owned(), inputs.created.build_date()),
        ("org.label-schema.usage.apptainer.version".to_owned(), inputs.version.to_owned()),
        ("org.opencontainers.image.architecture".to_owned(), inputs.arch.oci().to_owned()),
        ("org.label-schema.build-arch".to_owned(), inputs.arch.oci().to_owned()),
    ];
    if let Some(variant) = inputs.variant {
        labels.push(("org.opencontainers.image.variant".to_owned(), variant.to_owned()));
    }
    if stage.help.is_some() {
        for key in ["org.label-schema.usage", "org.label-schema.usage.apptainer.runscript.help"] {
            labels.push((key.to_owned(), "/.singularity.d/runscript.help".to_owned()));
        }
    }
    for entry in &stage.header {
        labels.push((format!("org.label-schema.usage.singularity.deffile.{}", entry.key), entry.value.clone()));
    }
    if let Some(base) = &inputs.base {
        labels.push(("org.opencontainers.image.base.name".to_owned(), base.name.clone()));
        labels.push(("org.opencontainers.image.base.digest".to_owned(), base.digest.to_string()));
    }
    labels
}

/// Adds the labels of `%labels`, the last value of a repeated key; keys that are there already win unless forced.
pub(super) fn add_defined_labels(
    labels: &mut BTreeMap<String, String>,
    defined: &[Label],
    force: bool,
    warnings: &mut Vec<String>,
) {
    let defined: BTreeMap<&str, &str> =
        defined.iter().map(|label| (label.key.as_str(), label.value.as_str())).collect();
    for (key, value) in defined {
        if labels.contains_key(key) && !force {
            warnings.push(format!("Label: {key} already exists and force option is false, not overwriting"));
        } else {
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
}

const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Timestamp {
    pub fn utc(seconds: i64) -> Timestamp {
        Timestamp { seconds, offset: 0, zone: "UTC".to_owned() }
    }

    /// `2025-03-03T09:05:07Z`, `…+01:00` outside UTC.
    pub fn rfc3339(&self) -> String {
        let (year, month, day) = self.date();
        let (hour, minute, second) = self.time();
        let zone = match self.offset {
            0 => "Z".to_owned(),
            offset => {
                let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs() / 60);
                format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        };
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}")
    }

    /// `Monday_3_March_2025_9:5:7_UTC`: without zeros in front.
    pub fn build_date(&self) -> String {
        let (year, month, day) = self.date();
        let (hour, minute, second) = self.time();
        let weekday = WEEKDAYS[self.days().rem_euclid(7) as usize];
        let month = MONTHS[(month - 1) as usize];
        format!("{weekday}_{day}_{month}_{year}_{hour}:{minute}:{second}_{}", self.zone)
    }

    fn local(&self) -> i64 {
        self.seconds.saturating_add(i64::from(self.offset))
    }

    /// Days since 1970-01-01, a Thursday.
    fn days(&self) -> i64 {
        self.local().div_euclid(86_400)
    }

    fn time(&self) -> (i64, i64, i64) {
        let seconds = self.local().rem_euclid(86_400);
        (seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    /// Year, month and day of the Gregorian calendar, counted in eras of 400 years that begin on a first of March,
    /// so that a leap day ends its year.
    fn date(&self) -> (i64, i64, i64) {
        let days = self.days() + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month, day)
    }
}
