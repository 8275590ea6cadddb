//! Memory of this machine that this process may use: the free memory, limited by control groups and
//! resource limits. Only Linux reports it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Memory that can still be filled, and the limit that bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    pub bytes: u64,
    pub bound: Bound,
}

/// The tightest of the limits on memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The machine's free memory, without swapping.
    Machine,
    /// A control group of the process, or one above it.
    Cgroup { path: PathBuf, limit: u64 },
}

impl fmt::Display for Bound {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Machine => out.write_str("free on this machine"),
            Self::Cgroup { path, limit } => {
                let gib = *limit as f64 / f64::from(1 << 30);
                write!(
                    out,
                    "left of the {gib:.1} GiB that the control group {} allows",
                    path.display()
                )
            }
        }
    }
}

/// Memory that the processes of this machine's user can fill together; `None` where the system does
/// not report it.
pub fn available() -> Option<Available> {
    System { root: "/".into() }.available()
}

/// Bytes that this process can map beyond those it has mapped, if a resource limit (`ulimit -v`,
/// `ulimit -d`) is set.
pub fn process_limit() -> Option<u64> {
    System { root: "/".into() }.process_limit()
}

/// The files of a running system below a folder, which is `/` except in tests.
#[derive(Debug)]
struct System {
    root: PathBuf,
}

impl System {
    fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.root
            .join(absolute.strip_prefix("/").unwrap_or(absolute))
    }
}

#[cfg(not(target_os = "linux"))]
impl System {
    fn available(&self) -> Option<Available> {
        None
    }

    fn process_limit(&self) -> Option<u64> {
        None
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Available, Bound, System};
    use procfs::process::{LimitValue, Limits, MountInfo, MountInfos, Status};
    use procfs::{FromRead, Meminfo, ProcessCGroup, ProcessCGroups};
    use std::fs;
    use std::path::{Component, Path, PathBuf};

    /// Names of a memory controller's files, and of the numbers in `memory.stat` that count memory
    /// which the kernel reclaims before it kills.
    struct Names {
        limits: &'static [&'static str],
        usage: &'static str,
        reclaimable: &'static [&'static str],
    }

    const V1: Names = Names {
        limits: &["memory.limit_in_bytes"],
        usage: "memory.usage_in_bytes",
        reclaimable: &["total_active_file", "total_inactive_file"],
    };
    const V2: Names = Names {
        limits: &["memory.max", "memory.high"],
        usage: "memory.current",
        reclaimable: &["active_file", "inactive_file", "slab_reclaimable"],
    };

    impl System {
        pub fn available(&self) -> Option<Available> {
            let free = Meminfo::from_file(self.path("/proc/meminfo"))
                .ok()
                .and_then(|memory| memory.mem_available);
            let free = free.map(|bytes| Available {
                bytes,
                bound: Bound::Machine,
            });
            self.cgroups()
                .into_iter()
                .chain(free)
                .min_by_key(|available| available.bytes)
        }

        /// The memory left by each limited control group on the way from this process to the root.
        fn cgroups(&self) -> Vec<Available> {
            let groups = ProcessCGroups::from_file(self.path("/proc/self/cgroup"));
            let mounts = MountInfos::from_file(self.path("/proc/self/mountinfo"));
            let (Ok(ProcessCGroups(groups)), Ok(MountInfos(mounts))) = (groups, mounts) else {
                return Vec::new();
            };
            let mut found = Vec::new();
            for group in groups {
                let unified = group.hierarchy == 0 && group.controllers.is_empty();
                if !unified
                    && !group
                        .controllers
                        .iter()
                        .any(|controller| controller == "memory")
                {
                    continue;
                }
                let mounted = mounts.iter().filter(|mount| match unified {
                    true => mount.fs_type == "cgroup2",
                    false => {
                        mount.fs_type == "cgroup" && mount.super_options.contains_key("memory")
                    }
                });
                let names = if unified { &V2 } else { &V1 };
                for mount in mounted {
                    found.extend(
                        self.way_up(&group, mount)
                            .iter()
                            .filter_map(|folder| self.left(folder, names)),
                    );
                }
            }
            found
        }

        /// The group's folder in a mount and the folders above it. A container sees its own group
        /// as the root of the mount.
        fn way_up(&self, group: &ProcessCGroup, mount: &MountInfo) -> Vec<PathBuf> {
            let inside = Path::new(&group.pathname)
                .strip_prefix(&mount.root)
                .unwrap_or(Path::new(""));
            let names = inside
                .components()
                .filter(|part| matches!(part, Component::Normal(_)));
            let folder = mount.mount_point.join(names.collect::<PathBuf>());
            let above = folder
                .ancestors()
                .take_while(|above| above.starts_with(&mount.mount_point));
            above.map(Path::to_owned).collect()
        }

        /// The memory left by one control group, if it has a limit.
        fn left(&self, folder: &Path, names: &Names) -> Option<Available> {
            let text = |name: &str| fs::read_to_string(self.path(folder).join(name)).ok();
            let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
            // Without a limit the file contains `max`, or in version 1 the largest number of whole
            // pages.
            let limit = names
                .limits
                .iter()
                .filter_map(|name| number(name))
                .min()
                .filter(|limit| *limit < 1 << 62)?;
            let statistics = text("memory.stat").unwrap_or_default();
            let lines = statistics.lines().filter_map(|line| line.split_once(' '));
            let numbers = lines.filter(|(name, _)| names.reclaimable.contains(name));
            let reclaimable: u64 = numbers
                .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
                .sum();
            let used = number(names.usage).unwrap_or(0).saturating_sub(reclaimable);
            let bound = Bound::Cgroup {
                path: folder.to_owned(),
                limit,
            };
            Some(Available {
                bytes: limit.saturating_sub(used),
                bound,
            })
        }

        pub fn process_limit(&self) -> Option<u64> {
            let limits = Limits::from_file(self.path("/proc/self/limits")).ok()?;
            let status = Status::from_file(self.path("/proc/self/status")).ok()?;
            let mapped = |kilobytes: Option<u64>| kilobytes.unwrap_or(0).saturating_mul(1024);
            let pairs = [
                (limits.max_address_space.soft_limit, mapped(status.vmsize)),
                (limits.max_data_size.soft_limit, mapped(status.vmdata)),
            ];
            let left = pairs.into_iter().filter_map(|(limit, used)| match limit {
                LimitValue::Unlimited => None,
                LimitValue::Value(limit) => Some(limit.saturating_sub(used)),
            });
            left.min()
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs;

    const MIB: u64 = 1 << 20;

    /// A system with these files, whose machine has 8 GiB free.
    fn system(files: &[(&str, String)]) -> (tempfile::TempDir, System) {
        let folder = tempfile::tempdir().unwrap();
        let meminfo = "MemTotal: 16777216 kB\nMemFree: 100 kB\nMemAvailable: 8388608 kB\nBuffers: 0 kB\nCached: 0 kB\n\
                       SwapCached: 0 kB\nActive: 0 kB\nInactive: 0 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\nDirty: 0 kB\n\
                       Writeback: 0 kB\nMapped: 0 kB\nSlab: 0 kB\nCommitted_AS: 0 kB\nVmallocTotal: 0 kB\n\
                       VmallocUsed: 0 kB\nVmallocChunk: 0 kB\n";
        let all = files
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .chain([("proc/meminfo", meminfo)]);
        for (path, text) in all {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let system = System {
            root: folder.path().into(),
        };
        (folder, system)
    }

    const MOUNT_V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    fn mib(number: u64) -> String {
        format!("{}\n", number * MIB)
    }

    #[test]
    fn without_control_groups_the_machine_s_free_memory_counts() {
        let (_folder, system) = system(&[]);
        assert_eq!(
            system.available(),
            Some(Available {
                bytes: 8 << 30,
                bound: Bound::Machine
            })
        );
        let nothing = System {
            root: "/nowhere".into(),
        };
        assert_eq!((nothing.available(), nothing.process_limit()), (None, None));
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts_with_what_it_uses() {
        let (_folder, system) = system(&[
            ("proc/self/cgroup", "0::/job/step/task\n".into()),
            ("proc/self/mountinfo", MOUNT_V2.into()),
            ("sys/fs/cgroup/job/step/task/memory.max", "max\n".into()),
            ("sys/fs/cgroup/job/step/memory.max", mib(4096)),
            ("sys/fs/cgroup/job/step/memory.current", mib(100)),
            ("sys/fs/cgroup/job/memory.max", mib(2048)),
            ("sys/fs/cgroup/job/memory.current", mib(1000)),
            // Cached files can be reclaimed at any time.
            (
                "sys/fs/cgroup/job/memory.stat",
                format!(
                    "anon 5\nactive_file {}\ninactive_file {}",
                    100 * MIB,
                    200 * MIB
                ),
            ),
        ]);
        let available = system.available().unwrap();
        assert_eq!(available.bytes, (2048 - 700) * MIB);
        assert_eq!(
            available.bound,
            Bound::Cgroup {
                path: "/sys/fs/cgroup/job".into(),
                limit: 2048 * MIB
            }
        );
        assert!(
            available
                .bound
                .to_string()
                .contains("2.0 GiB that the control group /sys/fs/cgroup/job")
        );
    }

    #[test]
    fn a_group_s_soft_limit_counts_and_one_above_what_is_free_does_not() {
        let files = |high| {
            system(&[
                ("proc/self/cgroup", "0::/job\n".into()),
                ("proc/self/mountinfo", MOUNT_V2.into()),
                ("sys/fs/cgroup/job/memory.max", mib(100_000)),
                ("sys/fs/cgroup/job/memory.high", high),
            ])
        };
        assert_eq!(files(mib(512)).1.available().unwrap().bytes, 512 * MIB);
        assert_eq!(
            files("max\n".into()).1.available().unwrap().bound,
            Bound::Machine
        );
    }

    /// In a container the group's own folder is the root of the mount, whether its path is shown or
    /// not.
    #[test]
    fn a_container_s_limit_is_found_at_the_root_of_its_mount() {
        for (cgroup, root) in [
            ("0::/\n", "/"),
            ("0::/docker/abc\n", "/docker/abc"),
            ("0::/../other\n", "/docker/abc"),
        ] {
            let (_folder, system) = system(&[
                ("proc/self/cgroup", cgroup.into()),
                (
                    "proc/self/mountinfo",
                    MOUNT_V2.replacen(" / ", &format!(" {root} "), 1),
                ),
                ("sys/fs/cgroup/memory.max", mib(300)),
            ]);
            assert_eq!(system.available().unwrap().bytes, 300 * MIB, "{cgroup}");
        }
    }

    #[test]
    fn version_1_is_read_too_also_beside_version_2() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      31 23 0:27 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n\
                      32 23 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let (_folder, system) = system(&[
            (
                "proc/self/cgroup",
                "9:cpu,cpuacct:/a\n8:memory:/a/b\n0::/a/b\n".into(),
            ),
            ("proc/self/mountinfo", mounts.into()),
            (
                "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "9223372036854771712\n".into(),
            ),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", mib(1000)),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", mib(600)),
            (
                "sys/fs/cgroup/memory/a/memory.stat",
                format!("cache 1\ntotal_inactive_file {}\n", 100 * MIB),
            ),
        ]);
        let available = system.available().unwrap();
        assert_eq!(available.bytes, 500 * MIB);
        assert_eq!(
            available.bound,
            Bound::Cgroup {
                path: "/sys/fs/cgroup/memory/a".into(),
                limit: 1000 * MIB
            }
        );
    }

    #[test]
    fn this_system_tells() {
        assert!(available().unwrap().bytes > MIB);
    }
}
