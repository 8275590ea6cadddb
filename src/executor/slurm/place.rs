//! The place of the store: whether other nodes can see it.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// File systems on a node's own disk or in its memory.
const LOCAL: [&str; 14] = [
    "bcachefs", "btrfs", "devtmpfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay",
    "ramfs", "tmpfs", "vfat", "xfs",
];

/// Checks that the folder `store`, which need not exist, is not on a disk of this node alone.
///
/// # Errors
/// If its file system is one of a node's own.
pub fn check_shared(store: &Path) -> Result<()> {
    let Some(place) = existing(store) else {
        return Ok(());
    };
    match file_system_of(&place) {
        Some((kind, mount)) if LOCAL.contains(&kind.as_str()) => Err(Error::store(format!(
            "the store {} is on {kind} at {}, which other nodes do not see",
            store.display(),
            mount.display()
        ))
        .hint(
            "choose a folder on the cluster's shared file system with --store; if all nodes do see this one, say so: \
             --shared-store, or `shared = true` in the [cluster] file",
        )),
        _ => Ok(()),
    }
}

/// The nearest folder above `path` that exists, without links.
fn existing(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors()
        .find_map(|folder| folder.canonicalize().ok())
}

/// Kind and place of the file system that holds `path`.
#[cfg(target_os = "linux")]
fn file_system_of(path: &Path) -> Option<(String, PathBuf)> {
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    // Of mounts at one place the last one counts.
    let mut found: Option<(String, PathBuf)> = None;
    for mount in mounts {
        let is_deeper = found
            .as_ref()
            .is_none_or(|(_, place)| mount.mount_point.starts_with(place));
        if path.starts_with(&mount.mount_point) && is_deeper {
            found = Some((mount.fs_type, mount.mount_point));
        }
    }
    found
}

#[cfg(not(target_os = "linux"))]
fn file_system_of(_: &Path) -> Option<(String, PathBuf)> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_node_is_no_place_for_a_store() {
        if file_system_of(Path::new("/dev/shm")).is_none_or(|(kind, _)| kind != "tmpfs") {
            return;
        }
        let error = check_shared(Path::new("/dev/shm/none/such")).unwrap_err();
        assert!(
            error.to_string().contains("is on tmpfs at /dev/shm"),
            "{error}"
        );
        check_shared(Path::new("/proc/self")).unwrap();
    }
}
