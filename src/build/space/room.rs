//! Needs against what is free, file system by file system: needs on the same one add up.

use super::{Amount, Need};
use crate::build::full::{Role, bytes, cache_of, describe};
use crate::build::output::directory_of;
use crate::build::{Engine, Options};
use nix::sys::statvfs::statvfs;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub enum Verdict {
    Enough,
    /// Enough for the least, and not for what is likely: a warning.
    Doubtful(String),
    TooLittle(Shortage),
}

/// Not even the least can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The places on the file system that has too little.
    places: Vec<(Role, PathBuf)>,
    needs: Vec<Need>,
    /// Of files and directories, rather than of bytes.
    inodes: bool,
    need: u64,
    free: u64,
    /// Directories that have room for what can be moved there, with the bytes that are free.
    elsewhere: Vec<(PathBuf, u64)>,
    looked_at: Vec<PathBuf>,
}

/// What is free on a file system. `None` where it does not count that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Free {
    bytes: Option<u64>,
    inodes: Option<u64>,
}

/// Needs on one file system.
#[derive(Default)]
struct Group {
    places: Vec<(Role, PathBuf)>,
    needs: Vec<Need>,
}

pub fn compare(needs: &[Need], engine: &Engine<'_>, options: &Options) -> Verdict {
    let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
    for need in needs {
        let directory = directory(need.role, engine, options);
        let Ok(found) = fs::metadata(directory) else { continue };
        let group = groups.entry(found.dev()).or_default();
        if !group.places.iter().any(|(role, _)| *role == need.role) {
            group.places.push((need.role, directory.to_path_buf()));
        }
        group.needs.push(need.clone());
    }
    let mut doubtful = None;
    for (device, group) in groups {
        let Some(free) = free(&group.places[0].1) else { continue };
        let (least, likely) = sum(&group.needs);
        let short = |inodes, need, free| {
            let movable = sum(&moved(&group)).0;
            let candidates = candidates(engine, options);
            let looked_at: Vec<PathBuf> =
                candidates.into_iter().filter(|place| device_of(place) != Some(device)).collect();
            let elsewhere =
                looked_at.iter().filter_map(|place| Some((place.clone(), room_in(place, movable)?))).collect();
            let Group { places, needs } = &group;
            Shortage { places: places.clone(), needs: needs.clone(), inodes, need, free, elsewhere, looked_at }
        };
        match free {
            Free { bytes: Some(free), .. } if least.bytes > free => {
                return Verdict::TooLittle(short(false, least.bytes, free));
            }
            Free { inodes: Some(free), .. } if least.inodes > free => {
                return Verdict::TooLittle(short(true, least.inodes, free));
            }
            Free { bytes: Some(free), .. } if likely > free => {
                doubtful = Some(format!(
                    "the room may be too little: {} are probably needed {}, which has {} free",
                    bytes(likely),
                    on(&group.places),
                    bytes(free)
                ));
            }
            _ => {}
        }
    }
    doubtful.map_or(Verdict::Enough, Verdict::Doubtful)
}

fn directory<'a>(role: Role, engine: &Engine<'a>, options: &'a Options) -> &'a Path {
    match role {
        Role::Target => directory_of(&options.target),
        Role::Cache | Role::Temporary => cache_of(engine),
    }
}

fn sum(needs: &[Need]) -> (Amount, u64) {
    needs.iter().fold((Amount::default(), 0_u64), |(least, likely), need| {
        let bytes = least.bytes.saturating_add(need.least.bytes);
        let inodes = least.inodes.saturating_add(need.least.inodes);
        (Amount { bytes, inodes }, likely.saturating_add(need.likely))
    })
}

/// What the advice moves: the cache or the temporary directory where they are part of it, else the target.
fn moved(group: &Group) -> Vec<Need> {
    let role = role_to_move(&group.places);
    group.needs.iter().filter(|need| need.role == role).cloned().collect()
}

fn role_to_move(places: &[(Role, PathBuf)]) -> Role {
    places.iter().map(|(role, _)| *role).find(|role| *role != Role::Target).unwrap_or(Role::Target)
}

/// Places that people have.
fn candidates(engine: &Engine<'_>, options: &Options) -> Vec<PathBuf> {
    let variable = |name: &str| {
        let found = options.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| PathBuf::from(value)).filter(|path| path.is_absolute())
    };
    let target = directory_of(&options.target);
    let target = if target == Path::new(".") { options.directory.clone() } else { target.to_path_buf() };
    let all = [
        Some(target),
        Some(cache_of(engine).to_path_buf()),
        Some(variable("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"))),
        Some(PathBuf::from("/var/tmp")),
        variable("HOME"),
    ];
    let mut places: Vec<PathBuf> = Vec::new();
    for place in all.into_iter().flatten() {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Bytes that are free in a directory which can be written and has room.
fn room_in(place: &Path, need: Amount) -> Option<u64> {
    rustix::fs::access(place, rustix::fs::Access::WRITE_OK).ok()?;
    let free = free(place)?;
    let bytes = free.bytes?;
    (bytes >= need.bytes && free.inodes.is_none_or(|inodes| inodes >= need.inodes)).then_some(bytes)
}

fn device_of(place: &Path) -> Option<u64> {
    fs::metadata(place).ok().map(|found| found.dev())
}

/// Some file systems have no fixed number of inodes (btrfs says 0), some made-up ones no size.
fn free(place: &Path) -> Option<Free> {
    let found = statvfs(place).ok()?;
    let bytes = found.fragment_size().saturating_mul(found.blocks_available());
    let (blocks, files) = (found.blocks(), found.files());
    Some(Free { bytes: (blocks > 0).then_some(bytes), inodes: (files > 0).then_some(found.files_available()) })
}

fn on(places: &[(Role, PathBuf)]) -> String {
    let names: Vec<String> =
        places.iter().map(|(role, directory)| format!("the {} {}", describe(*role), directory.display())).collect();
    format!("on the disk of {}", names.join(" and "))
}

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Need { role, what, least, likely } = self;
        write!(formatter, "{what} ({}): {}", describe(*role), bytes(least.bytes))?;
        if *likely != least.bytes {
            write!(formatter, " at least, {} probably", bytes(*likely))?;
        }
        match least.inodes {
            0 => Ok(()),
            1 => formatter.write_str(", 1 file"),
            count => write!(formatter, ", {count} files and directories"),
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = |number: u64| match self.inodes {
            true => format!("{number} files and directories"),
            false => bytes(number),
        };
        let (need, free) = (amount(self.need), amount(self.free));
        write!(
            formatter,
            "there is not enough room: at least {need} are needed {}, which has {} free; nothing was done",
            on(&self.places),
            if self.inodes { format!("room for {free}") } else { free }
        )?;
        for need in &self.needs {
            write!(formatter, "\n  {need}")?;
        }
        let role = role_to_move(&self.places);
        let names =
            |places: &[PathBuf]| places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ");
        match self.elsewhere.as_slice() {
            [] if self.looked_at.is_empty() => {}
            [] => write!(formatter, "\n  no room either: {}", names(&self.looked_at))?,
            places => {
                let places: Vec<String> =
                    places.iter().map(|(place, free)| format!("{} ({} free)", place.display(), bytes(*free))).collect();
                write!(formatter, "\n  room is in: {}", places.join(", "))?;
            }
        }
        formatter.write_str(match role {
            Role::Target => "\n  name a target elsewhere, or free space there",
            Role::Cache => {
                "\n  --cache-dir DIRECTORY or SIFBUILD_CACHEDIR puts the cache elsewhere; `sifbuild cache clean` removes what earlier builds left"
            }
            Role::Temporary => "\n  --tmpdir DIRECTORY or TMPDIR puts the temporary directory elsewhere",
        })
    }
}
