//! What the host gives a command: directories, ids, clock.

use crate::sandbox::{self, IdModeRequest};
use crate::skeleton::Timestamp;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the store lies: the flag, `SIFBUILD_CACHEDIR`, `APPTAINER_CACHEDIR` (below it), the user's cache directory.
pub fn cache_directory(flag: Option<&Path>) -> PathBuf {
    if let Some(directory) = flag {
        return directory.to_path_buf();
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SIFBUILD_CACHEDIR")
        .or_else(|| set("APPTAINER_CACHEDIR").or_else(|| set("SINGULARITY_CACHEDIR")).map(|base| base.join("sifbuild")))
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("sifbuild")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/sifbuild")))
        .unwrap_or_else(|| PathBuf::from("/var/tmp/sifbuild"))
}

/// Enters the namespaces that a build uses where that can be; gives the store's name for the id mode.
pub fn enter_if_possible() -> Result<String, sandbox::Error> {
    match sandbox::enter(IdModeRequest::Auto) {
        Ok(_) | Err(sandbox::Error::Namespace { .. }) => Ok(store_mode()),
        Err(error) => Err(error),
    }
}

/// Files in the store are owned through this process's id map, so that the map names the store's part.
pub fn store_mode() -> String {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let numbers: Vec<&str> = map.split_whitespace().collect();
    match numbers.as_slice() {
        ["0", "0", ..] => format!("root-{}", nix::unistd::geteuid()),
        [_, _, _] => "single".to_owned(),
        [_, _, _, _, start, ..] => format!("range-{start}"),
        _ => "unknown".to_owned(),
    }
}

/// KiB of memory that this process can have: what is free, and what its control groups leave of it.
pub fn available_memory() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let free = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(u64::MAX);
    let own = read("/proc/self/cgroup");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let number = |group: &Path, file: &str| -> Option<u64> {
        std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(group).join(file)).ok()?.trim().parse().ok()
    };
    Path::new(own)
        .ancestors()
        .filter_map(|group| {
            let left = number(group, "memory.max")?.saturating_sub(number(group, "memory.current")?);
            Some(left / 1024)
        })
        .fold(free, u64::min)
}

/// Seconds since the epoch, with the zone of this host.
pub fn now() -> Timestamp {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64);
    Timestamp::utc(seconds)
}

/// The date of what is made now, RFC 3339: `SOURCE_DATE_EPOCH` where that is set.
pub fn date() -> Result<String, String> {
    Ok(source_date_epoch()?.map_or_else(now, Timestamp::utc).rfc3339())
}

/// `SOURCE_DATE_EPOCH`, which must be a number when it is set.
pub fn source_date_epoch() -> Result<Option<i64>, String> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => text
            .parse()
            .map(Some)
            .map_err(|_| format!("SOURCE_DATE_EPOCH is {text:?}; it must be a number of seconds since 1970")),
        _ => Ok(None),
    }
}
