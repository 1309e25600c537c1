//! How much memory the process may count on when nobody says: the control group's limit, else half the machine's.

use std::fs;
use std::path::{Path, PathBuf};

/// Where nothing can be learnt.
const FALLBACK_BYTES: u64 = 512 << 20;
/// Version 1 of control groups writes "no limit" as a number near this.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// The default of `--memory.limit` and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Bytes.
    pub(crate) bytes: u64,
    /// For the log.
    pub(crate) source: &'static str,
}

/// Finds the default limit.
pub(crate) fn default_limit() -> Limit {
    limit_below(Path::new("/"))
}

fn limit_below(root: &Path) -> Limit {
    let machine = machine_bytes(root);
    if let Some(bytes) = cgroup_bytes(root)
        && machine.is_none_or(|m| bytes < m)
    {
        // What the kernel counts is more than what we meter (page cache, stacks), so some is left to it.
        return Limit {
            bytes: bytes / 10 * 9,
            source: "control group",
        };
    }
    match machine {
        Some(bytes) => Limit {
            bytes: bytes / 2,
            source: "half of the machine's memory",
        },
        None => Limit {
            bytes: FALLBACK_BYTES,
            source: "built-in default",
        },
    }
}

/// The smallest limit from our own group up to the root.
fn cgroup_bytes(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let base = root.join("sys/fs/cgroup");
    let mut places: Vec<(PathBuf, &str)> = vec![
        (base.clone(), "memory.max"),
        (base.join("memory"), "memory.limit_in_bytes"),
    ];
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (top, file) = if controllers.is_empty() {
            (base.clone(), "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            (base.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut below = Path::new(path.trim_start_matches('/'));
        while below != Path::new("") {
            places.push((top.join(below), file));
            below = below.parent().unwrap_or(Path::new(""));
        }
    }
    places
        .iter()
        .filter_map(|(dir, file)| fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok())
        .filter(|&bytes| bytes > 0 && bytes < NO_LIMIT_BYTES)
        .min()
}

fn machine_bytes(root: &Path) -> Option<u64> {
    let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Keeps huge pages out of this process: one of them holds 2 MiB for whatever small part of it is in use, which was
/// most of the memory of a small server.
pub(super) fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_narrowest_group_counts_else_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(limit_below(root).bytes, FALLBACK_BYTES);
        write(root, "proc/meminfo", "MemTotal:        2097152 kB\nMemFree: 1 kB\n");
        assert_eq!(limit_below(root).bytes, 1 << 30);
        write(root, "proc/self/cgroup", "0::/kubepods/pod1\n");
        write(root, "sys/fs/cgroup/kubepods/pod1/memory.max", "max\n");
        write(root, "sys/fs/cgroup/kubepods/memory.max", "1000000\n");
        assert_eq!(
            limit_below(root),
            Limit {
                bytes: 900_000,
                source: "control group"
            }
        );
    }

    #[test]
    fn version_one_of_groups_is_read_too() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "proc/self/cgroup", "4:cpu,memory:/a\n");
        write(
            dir.path(),
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        write(dir.path(), "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2000\n");
        assert_eq!(limit_below(dir.path()).bytes, 1800);
    }
}
