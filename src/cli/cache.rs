//! `sifbuild cache`: what is kept between builds, and less of it.

use super::session;
use crate::event::{Event, Observer};
use crate::sandbox;
use crate::store::{Collection, Limit, Store, StoreError, Usage};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Goes before what is remembered.
const LIMIT_VARIABLE: &str = "SIFBUILD_CACHE_LIMIT";

#[derive(Args, Debug)]
pub struct CacheArguments {
    #[command(subcommand)]
    command: Option<CacheCommand>,
    /// Directory of the cache
    #[arg(long, global = true, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum CacheCommand {
    /// Show how much is kept, and how much may be
    List,
    /// List the kept steps of builds, which `sifbuild shell` opens, the latest first
    Steps,
    /// Remove all, or what was used least recently
    Clean {
        /// Keep this many bytes at most; K, M, G and T are understood
        #[arg(long, value_name = "BYTES", default_value = "0")]
        keep: String,
    },
    /// Show or set how much may be kept; builds that make it more remove what was used least recently
    Limit {
        /// Bytes, with K, M, G or T behind the number; `none`, or `default`
        #[arg(value_name = "SIZE")]
        size: Option<String>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0:?} is no size: write a number of bytes, with K, M, G or T behind it")]
    Size(String),
    #[error("builds are running on this cache; it is cleaned when they have ended")]
    Busy,
    #[error("{LIMIT_VARIABLE} is {0:?}; it must be a number of bytes, with K, M, G or T behind it, or none")]
    Variable(String),
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
}

pub fn run(arguments: &CacheArguments) -> Result<(), CacheError> {
    let root = session::cache_directory(arguments.cache_dir.as_deref());
    // Results of a range of ids belong to ids that only the namespace may remove.
    let mode = session::enter_if_possible()?;
    match arguments.command.as_ref().unwrap_or(&CacheCommand::List) {
        CacheCommand::List => {
            let (blobs, steps) = Store::open(&root, &mode)?.usage();
            println!("{}", root.display());
            println!("{:>12}  in {} archives", human(blobs.bytes), blobs.entries);
            println!("{:>12}  in {} step results", human(steps.bytes), steps.entries);
            let verifications = verifications(&root);
            if verifications.entries > 0 {
                let (bytes, entries) = (human(verifications.bytes), verifications.entries);
                println!("{bytes:>12}  in {entries} verifications that run, or were killed");
            }
            println!("{:>12}  may be kept ({})", shown(limit(&root)?.0), limit(&root)?.1);
        }
        CacheCommand::Steps => {
            for line in steps(&root) {
                println!("{line}");
            }
        }
        CacheCommand::Clean { keep } => {
            let keep = parse_size(keep).ok_or_else(|| CacheError::Size(keep.clone()))?;
            let collection = Collection { limit: keep, target: keep, spared: None };
            let mut removed = verifications(&root);
            sandbox::sweep(&root);
            let left = verifications(&root);
            removed.bytes = removed.bytes.saturating_sub(left.bytes);
            removed.entries -= left.entries.min(removed.entries);
            let collected = Store::collect(&root, &mode, collection)?.ok_or(CacheError::Busy)?;
            removed = Usage { bytes: removed.bytes + collected.bytes, entries: removed.entries + collected.entries };
            println!("removed {} in {} entries", human(removed.bytes), removed.entries);
        }
        CacheCommand::Limit { size } => {
            match size.as_deref() {
                None => {}
                Some("default") => Limit::remember(None, &root)?,
                Some(size) => {
                    let limit = parse_limit(size).ok_or_else(|| CacheError::Size(size.to_owned()))?;
                    Limit::remember(Some(limit), &root)?;
                }
            }
            let (limit, origin) = limit(&root)?;
            println!("{} ({origin})", shown(limit));
        }
    }
    Ok(())
}

/// What builds of `--verify-reproducible` have in the cache's directory.
fn verifications(root: &Path) -> Usage {
    let places = sandbox::owned(root);
    Usage { entries: places.len() as u64, bytes: places.iter().map(|place| Usage::below(place)).sum() }
}

/// A line for each kept step that is a whole filesystem: the beginning of its key, the ids that it is owned through, what it did.
fn steps(root: &Path) -> Vec<String> {
    const DIGITS: usize = 12;
    let mut found: Vec<(SystemTime, String)> = Store::find(root, "")
        .into_iter()
        .filter_map(|(mode, key, document)| {
            let what = describe(&document)?;
            let used = Store::last_used(root, &mode, &key)?;
            Some((used, format!("{}  {mode:<16} {what}", &key.hex()[..DIGITS])))
        })
        .collect();
    found.sort_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, line)| line).collect()
}

/// What a step did, from its key document; `None` for parts of one, and tests.
fn describe(document: &str) -> Option<String> {
    let value = |name: &str| document.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    match value("action")? {
        "post" => {
            let commands = document.lines().filter_map(|line| line.strip_prefix("script ")).map(str::trim);
            let first =
                commands.into_iter().find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
            Some(format!("%post: {}", first.chars().take(60).collect::<String>()))
        }
        "base" => {
            let pin = ["pin.reference", "pin.path", "pin.suite", "pin.digest"].iter().find_map(|name| value(name));
            Some(format!("base: {} {}", value("pin.agent").unwrap_or_default(), pin.unwrap_or_default()))
        }
        "image" => Some(format!("unpacked image {}", value("digest").unwrap_or_default())),
        _ => None,
    }
}

/// How much the store below `root` may hold, and who says so.
pub fn limit(root: &Path) -> Result<(Limit, &'static str), CacheError> {
    if let Ok(text) = std::env::var(LIMIT_VARIABLE)
        && !text.trim().is_empty()
    {
        return parse_limit(text.trim()).map(|limit| (limit, LIMIT_VARIABLE)).ok_or(CacheError::Variable(text));
    }
    Ok(match Limit::remembered(root) {
        Some(limit) => (limit, "set for this cache"),
        None => (Limit::default_of(root), "default"),
    })
}

/// After a build that left something: takes what was used least recently, once there is more than may be. `since` is when the
/// build began: what it used stays. Where other builds run, the next one does it.
pub fn keep_within(limit: Limit, root: &Path, mode: &str, since: SystemTime, observer: &dyn Observer) {
    let Limit::Bytes(limit) = limit else { return };
    // Some room, so that not every build has to.
    let collection = Collection { limit, target: limit / 10 * 9, spared: Some(since) };
    match Store::collect(root, mode, collection) {
        Ok(Some(removed)) if removed.entries > 0 => observer.observe(Event::Info(format!(
            "The cache was over its limit of {}: removed {} that was used least recently (sifbuild cache limit)",
            human(limit),
            human(removed.bytes)
        ))),
        Ok(_) => {}
        Err(error) => observer.observe(Event::Warning(format!("the cache is not kept within its limit: {error}"))),
    }
}

fn parse_limit(text: &str) -> Option<Limit> {
    if text == "none" { Some(Limit::Unlimited) } else { parse_size(text).map(Limit::Bytes) }
}

fn shown(limit: Limit) -> String {
    match limit {
        Limit::Bytes(bytes) => human(bytes),
        Limit::Unlimited => "any amount".to_owned(),
    }
}

/// `10G` and the like; units are powers of 1024.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        (at, 't' | 'T') => (&text[..at], 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Bytes for people, in units of 1024.
pub fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(parse_size("10G"), Some(10 << 30));
        assert_eq!(parse_size("x"), None);
        assert_eq!(parse_size("99999999999T"), None);
        assert_eq!(human(1536), "1.5 KiB");
    }

    #[test]
    fn steps_are_told_by_what_they_did() {
        let post = "action post\narch amd64\nscript \nscript   # first\nscript   apt-get update\n";
        assert_eq!(describe(post).as_deref(), Some("%post: apt-get update"));
        assert_eq!(describe("action part\nnumber 1\n"), None);
        assert_eq!(describe("action image\ndigest sha256:ab\n").as_deref(), Some("unpacked image sha256:ab"));
    }
}
