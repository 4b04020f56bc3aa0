//! `sifbuild cache`: what is kept between builds, and less of it.

use super::session;
use crate::store::Store;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct CacheArguments {
    #[command(subcommand)]
    command: CacheCommand,
    /// Directory of the cache
    #[arg(long, global = true, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum CacheCommand {
    /// Show how much is kept
    List,
    /// Remove all, or what was used least recently
    Clean {
        /// Keep this many bytes at most; K, M, G and T are understood
        #[arg(long, value_name = "BYTES", default_value = "0")]
        keep: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error("{0:?} is no size: write a number of bytes, with K, M, G or T behind it")]
    Size(String),
    #[error("builds are running on this cache; it is cleaned when they have ended")]
    Busy,
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
}

pub fn run(arguments: &CacheArguments) -> Result<(), CacheError> {
    let root = session::cache_directory(arguments.cache_dir.as_deref());
    // Results of a range of ids belong to ids that only the namespace may remove.
    let mode = session::enter_if_possible()?;
    match &arguments.command {
        CacheCommand::List => {
            let (blobs, steps) = Store::open(&root, &mode)?.usage();
            println!("{}", root.display());
            println!("{:>12}  in {} archives", human(blobs.bytes), blobs.entries);
            println!("{:>12}  in {} files of step results", human(steps.bytes), steps.entries);
        }
        CacheCommand::Clean { keep } => {
            let keep = parse_size(keep).ok_or_else(|| CacheError::Size(keep.clone()))?;
            let removed = Store::collect(&root, &mode, keep)?.ok_or(CacheError::Busy)?;
            println!("removed {} in {} entries", human(removed.bytes), removed.entries);
        }
    }
    Ok(())
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
}
