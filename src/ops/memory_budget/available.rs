//! The memory that this process may use: of its cgroup, or of the machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

const MIB: usize = 1024 * 1024;
/// The default limit is within these.
const LEAST: usize = 64 * MIB;
const MOST: usize = 2048 * MIB;
/// Where the cgroups are mounted (man 7 cgroups).
const CGROUPS: &str = "/sys/fs/cgroup";

/// Half of the cgroup's limit, otherwise a quarter of the machine's memory.
pub(crate) fn default_limit() -> usize {
    let memberships = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = machine_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    limit_for(cgroup_limit(&memberships, Path::new(CGROUPS)), machine)
}

/// Without a limit, cgroup v1 reports a number above the machine's memory.
fn limit_for(cgroup: Option<usize>, machine: Option<usize>) -> usize {
    let cgroup = cgroup.filter(|limit| machine.is_none_or(|machine| *limit < machine));
    let limit = cgroup.map(|limit| limit / 2).or(machine.map(|machine| machine / 4));
    limit.unwrap_or(LEAST).clamp(LEAST, MOST)
}

/// The least limit of the cgroups that contain this process: `0::/path` names one of version 2,
/// `4:memory:/path` one of version 1. A container sees its own cgroup at the root of the mount.
fn cgroup_limit(memberships: &str, mount: &Path) -> Option<usize> {
    let limits = memberships.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "" => least_limit(mount, path, "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                least_limit(&mount.join("memory"), path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min()
}

/// The least limit of a cgroup and of those around it.
fn least_limit(root: &Path, path: &str, file: &str) -> Option<usize> {
    let path: PathBuf = root.join(path.trim_start_matches('/'));
    let around = path.ancestors().take_while(|folder| folder.starts_with(root));
    // `max`, which is no number, means no limit.
    let limit = |folder: &Path| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok();
    around.filter_map(limit).min()
}

fn machine_memory(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, as a mount of cgroups.
    fn mount(files: &[(&str, &str)]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().expect("a folder");
        for (path, content) in files {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, content).expect("a file");
        }
        mount
    }

    #[test]
    fn the_least_limit_of_the_cgroups_of_version_2_counts() {
        let files = [("a/memory.max", "1073741824\n"), ("a/b/memory.max", "max\n")];
        assert_eq!(cgroup_limit("0::/a/b\n", mount(&files).path()), Some(1 << 30));
        assert_eq!(cgroup_limit("0::/\n", mount(&[("memory.max", "5\n")]).path()), Some(5));
        assert_eq!(cgroup_limit("0::/b\n", mount(&files).path()), None);
    }

    #[test]
    fn the_limit_of_a_cgroup_of_version_1_counts() {
        let files = [("memory/docker/x/memory.limit_in_bytes", "268435456\n")];
        let memberships = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n";
        assert_eq!(cgroup_limit(memberships, mount(&files).path()), Some(256 << 20));
        // In a container, the path of the host does not exist, and the mount shows its own cgroup.
        let inside = [("memory/memory.limit_in_bytes", "268435456\n")];
        assert_eq!(cgroup_limit(memberships, mount(&inside).path()), Some(256 << 20));
    }

    #[test]
    fn the_default_is_half_of_the_cgroup_or_a_quarter_of_the_machine_within_bounds() {
        assert_eq!(limit_for(Some(512 * MIB), Some(8192 * MIB)), 256 * MIB);
        assert_eq!(limit_for(None, Some(2048 * MIB)), 512 * MIB);
        assert_eq!(limit_for(None, Some(65_536 * MIB)), 2048 * MIB);
        assert_eq!(limit_for(Some(100 * MIB), Some(8192 * MIB)), 64 * MIB);
        assert_eq!(
            limit_for(Some(usize::MAX), Some(1024 * MIB)),
            256 * MIB,
            "no limit in version 1"
        );
        assert_eq!(limit_for(None, None), 64 * MIB);
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(
            machine_memory("MemFree: 1 kB\nMemTotal:       24684532 kB\n"),
            Some(25_276_960_768)
        );
        assert_eq!(machine_memory(""), None);
    }
}
