//! How much of the machine this job may use: processors by affinity, cgroup and Slurm; memory by cgroup and Slurm.

use crate::squashfs;
use std::fs;
use std::path::{Path, PathBuf};

/// Memory that a build takes besides its packing threads: the program, indexes of some 100,000 files, downloads.
const BASE: u64 = 64 << 20;
/// What a cgroup without a limit says in version 1: a number near 2^63.
const UNLIMITED: u64 = 1 << 60;

/// What packing may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub threads: usize,
    /// Why there are not as many threads as processors.
    pub note: Option<String>,
}

/// Fits the threads into the memory. `threads` and `memory` (bytes) are what the command line says.
pub fn limits(
    threads: Option<usize>,
    memory: Option<u64>,
    options: &squashfs::Options,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Limits {
    let wanted = threads.unwrap_or_else(|| processors(variable)).clamp(1, 256);
    let given = match memory {
        Some(memory) => Some((memory, "--memory".to_owned())),
        None => [group_memory(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup")), slurm_memory(variable)]
            .into_iter()
            .flatten()
            .min(),
    };
    let Some((memory, source)) = given else { return Limits { threads: wanted, note: None } };
    let each = squashfs::memory_of_thread(options);
    let fitting = usize::try_from(memory.saturating_sub(BASE) / each).unwrap_or(usize::MAX).max(1);
    if fitting >= wanted {
        return Limits { threads: wanted, note: None };
    }
    let shown = super::cache::human(memory);
    let note = format!(
        "packing with {fitting} of {wanted} threads: {source} gives {shown} of memory, and each takes {}",
        super::cache::human(each)
    );
    Limits { threads: fitting, note: Some(note) }
}

/// The processors that this process may use (affinity and cgroup quota), and no more than Slurm gave the task.
fn processors(variable: &dyn Fn(&str) -> Option<String>) -> usize {
    let own = std::thread::available_parallelism().map_or(1, usize::from);
    let given = ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"]
        .iter()
        .find_map(|name| variable(name)?.parse::<usize>().ok().filter(|count| *count > 0));
    given.map_or(own, |given| given.min(own))
}

/// Slurm counts in MiB; 0 is all of the node.
fn slurm_memory(variable: &dyn Fn(&str) -> Option<String>) -> Option<(u64, String)> {
    let number = |name: &str| variable(name)?.parse::<u64>().ok().filter(|number| *number > 0);
    let (name, mebibytes) = match number("SLURM_MEM_PER_NODE") {
        Some(all) => ("SLURM_MEM_PER_NODE", all),
        None => {
            let processors = number("SLURM_CPUS_PER_TASK").or_else(|| number("SLURM_CPUS_ON_NODE")).unwrap_or(1);
            ("SLURM_MEM_PER_CPU", number("SLURM_MEM_PER_CPU")?.saturating_mul(processors))
        }
    };
    Some((mebibytes.saturating_mul(1 << 20), name.to_owned()))
}

/// The tightest limit of this process's cgroup and of those above it; version 2 (`memory.max`) and 1 (`memory.limit_in_bytes`).
fn group_memory(mount: &Path, membership: &Path) -> Option<(u64, String)> {
    let text = fs::read_to_string(membership).ok()?;
    let mut found: Option<u64> = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (mount.to_path_buf(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // In a container the path is often that of the host, of which only the last part is mounted: at the root.
        let mut place: Option<PathBuf> = Some(root.join(path.trim_start_matches('/')));
        while let Some(at) = place.filter(|at| at.starts_with(&root)) {
            let limit = fs::read_to_string(at.join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok());
            if let Some(limit) = limit.filter(|limit| *limit < UNLIMITED) {
                found = Some(found.map_or(limit, |least| least.min(limit)));
            }
            place = at.parent().map(Path::to_path_buf);
        }
    }
    found.map(|limit| (limit, "the control group".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn takes_no_more_threads_than_slurm_gave() {
        let all = processors(&|_| None);
        let given =
            |text: &'static str| processors(&move |name| (name == "SLURM_CPUS_PER_TASK").then(|| text.to_owned()));
        assert_eq!((given("1"), given("100000"), given("none"), given("0")), (1, all, all, all));
    }

    #[test]
    fn takes_as_many_threads_as_fit_into_the_memory() {
        let options = squashfs::Options::default();
        let fitted = |memory| limits(Some(64), Some(memory), &options, &|_| None);
        let few = fitted(256 << 20);
        assert!(few.threads > 1 && few.threads < 64, "{few:?}");
        assert!(few.note.as_deref().unwrap_or("").contains("--memory gives 256.0 MiB"), "{few:?}");
        assert_eq!(fitted(1).threads, 1);
        assert_eq!(fitted(1 << 40), Limits { threads: 64, note: None });
        let large = squashfs::Options { block_size: 1 << 20, compression: squashfs::Compression::Xz, ..options };
        assert!(limits(Some(64), Some(256 << 20), &large, &|_| None).threads < few.threads);
    }

    #[test]
    fn slurm_says_how_much_memory_there_is() {
        let memory = |pairs| slurm_memory(&variables(pairs)).map(|(bytes, _)| bytes >> 20);
        assert_eq!(memory(&[("SLURM_MEM_PER_NODE", "900")]), Some(900));
        assert_eq!(memory(&[("SLURM_MEM_PER_CPU", "100"), ("SLURM_CPUS_PER_TASK", "4")]), Some(400));
        assert_eq!(memory(&[("SLURM_MEM_PER_NODE", "0")]), None);
        assert_eq!(memory(&[("SLURM_MEM_PER_CPU", "many")]), None);
    }

    #[test]
    fn the_tightest_control_group_counts() {
        let place = tempfile::tempdir().unwrap();
        let (mount, membership) = (place.path().join("cgroup"), place.path().join("self"));
        let write = |path: &str, text: &str| {
            let path = mount.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("job/memory.max", "536870912\n");
        write("job/step/memory.max", "max\n");
        fs::write(&membership, "0::/job/step\n").unwrap();
        assert_eq!(group_memory(&mount, &membership).map(|(limit, _)| limit), Some(512 << 20));
        write("memory/slurm/memory.limit_in_bytes", "1073741824\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        fs::write(&membership, "3:cpu,cpuacct:/x\n2:memory:/slurm\n").unwrap();
        assert_eq!(group_memory(&mount, &membership).map(|(limit, _)| limit), Some(1 << 30));
        fs::write(&membership, "2:memory:/elsewhere/entirely\n0::/../..\nnonsense\n").unwrap();
        assert_eq!(group_memory(&mount, &membership), None);
    }
}
