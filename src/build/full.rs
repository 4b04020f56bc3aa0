//! A disk that is full, or a quota that is used up: which place it was, what it has, and what helps.

use super::{BuildError, Engine, Options};
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use std::fmt;
use std::path::{Path, PathBuf};

/// A place that a build writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The image, complete or not.
    Target,
    /// What is kept between builds, and their work.
    Cache,
    /// The same for a build that keeps nothing.
    Temporary,
}

/// What is known of a place that has no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullPlace {
    pub role: Role,
    pub directory: PathBuf,
    /// Quota rather than disk.
    pub quota: bool,
    /// Bytes that the filesystem has in all, and those that are free now, after what was half written was removed.
    pub size: Option<(u64, u64)>,
    /// Bytes of the files that were to be packed, before compression.
    pub need: Option<u64>,
}

/// Says of an error that was caused by a lack of room where that was; other errors pass as they are.
pub fn explain(error: BuildError, need: Option<u64>, engine: &Engine<'_>, options: &Options) -> BuildError {
    if matches!(error, BuildError::Full { .. } | BuildError::NoRoom(_) | BuildError::Script(_)) {
        return error;
    }
    let text = error.to_string();
    // Invariant: causes are kept as text on their way here; the standard library ends each with its number.
    let caused_by = |errno: Errno| text.contains(&format!("(os error {})", errno as i32));
    let quota = caused_by(Errno::EDQUOT);
    if !quota && !caused_by(Errno::ENOSPC) {
        return error;
    }
    let store = cache_of(engine);
    let draft = text.contains(super::output::DRAFT);
    let in_target =
        draft || matches!(error, BuildError::Pack { .. } | BuildError::Write { .. } | BuildError::Target { .. });
    let (role, directory) = match in_target && !text.contains(&*store.to_string_lossy()) {
        true => (Role::Target, super::output::directory_of(&options.target).to_path_buf()),
        false if options.disable_cache => (Role::Temporary, store.to_path_buf()),
        false => (Role::Cache, store.to_path_buf()),
    };
    let size = size_of(&directory);
    let need = need.filter(|_| role == Role::Target);
    BuildError::Full { place: FullPlace { role, directory, quota, size, need }, cause: Box::new(error) }
}

/// A line for a script that failed where the disk below its root is full: the cache's, not the image's.
pub fn note_for_script(last_lines: &[String], engine: &Engine<'_>, options: &Options) -> Option<String> {
    let full = last_lines.iter().any(|line| line.contains("No space left on device"));
    let quota = last_lines.iter().any(|line| line.contains("Disk quota exceeded"));
    let role = if options.disable_cache { Role::Temporary } else { Role::Cache };
    let directory = cache_of(engine).to_path_buf();
    let place = FullPlace { role, size: size_of(&directory), directory, quota, need: None };
    (full || quota).then(|| place.to_string())
}

/// The directory as people named it, without the store's version.
pub fn cache_of<'a>(engine: &Engine<'a>) -> &'a Path {
    engine.store.root().parent().unwrap_or(engine.store.root())
}

fn size_of(directory: &Path) -> Option<(u64, u64)> {
    let found = statvfs(directory).ok()?;
    let unit = found.fragment_size();
    Some((unit.saturating_mul(found.blocks()), unit.saturating_mul(found.blocks_available())))
}

impl fmt::Display for FullPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = describe(self.role);
        let directory = self.directory.display();
        match self.quota {
            true => write!(formatter, "your disk quota for the {what} {directory} is used up")?,
            false => write!(formatter, "the disk of the {what} {directory} is full")?,
        }
        if let Some((size, free)) = self.size.filter(|_| !self.quota) {
            write!(formatter, " ({} in all, {} free now)", bytes(size), bytes(free))?;
        }
        if let Some(need) = self.need {
            write!(formatter, "; the files of the image are {} before compression", bytes(need))?;
        }
        formatter.write_str(match self.role {
            Role::Target => "; free space there, or name a target elsewhere",
            Role::Cache => {
                "; `sifbuild cache clean` removes what earlier builds left, --cache-dir DIRECTORY names another place"
            }
            Role::Temporary => "; --tmpdir DIRECTORY names another place",
        })
    }
}

/// What people call it.
pub fn describe(role: Role) -> &'static str {
    match role {
        Role::Target => "target's directory",
        Role::Cache => "cache",
        Role::Temporary => "temporary directory",
    }
}

/// `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if count < 1024 { format!("{count} bytes") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_full_what_is_needed_and_what_helps() {
        let directory = PathBuf::from("/scratch/images");
        let mut place =
            FullPlace { role: Role::Target, directory, quota: false, size: Some((1 << 20, 512)), need: Some(3 << 20) };
        assert_eq!(
            place.to_string(),
            "the disk of the target's directory /scratch/images is full (1.0 MiB in all, 512 bytes free now); the files of the image \
             are 3.0 MiB before compression; free space there, or name a target elsewhere"
        );
        (place.role, place.quota, place.need) = (Role::Cache, true, None);
        let text = place.to_string();
        assert!(text.starts_with("your disk quota for the cache /scratch/images is used up;"), "{text}");
        assert!(text.contains("cache clean"), "{text}");
    }
}
