//! The lock that gives one process of this machine the right to compute a stage.

use super::key::StageKey;
use super::store::Store;
use crate::error::Result;
use crate::files;
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;

/// The lock of one stage. Dropping it releases it; the operating system does so when the process
/// dies.
#[derive(Debug)]
pub struct StageLock {
    key: StageKey,
    file: File,
    /// False on a file system without locks.
    locked: bool,
}

impl StageLock {
    pub fn key(&self) -> StageKey {
        self.key
    }

    /// The realm in which this lock excludes others: the running kernel since it was started, and
    /// the mount. Host names and process numbers are not enough, since containers share the former
    /// and hide the latter. `None` where the file system has no locks or the realm cannot be
    /// determined.
    pub(super) fn realm(&self) -> Option<String> {
        self.locked.then(|| realm_of(&self.file))?
    }
}

/// The [`StageLock::realm`] of the locks in the file system of `file`, if it has any.
pub(super) fn realm_of(file: &File) -> Option<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{}/{}", kernel.trim(), device(file)?))
}

#[cfg(unix)]
fn device(file: &File) -> Option<u64> {
    file.metadata()
        .ok()
        .map(|metadata| std::os::unix::fs::MetadataExt::dev(&metadata))
}

#[cfg(not(unix))]
fn device(_: &File) -> Option<u64> {
    None
}

impl Store {
    /// Waits until no other process of this machine computes `key`, and keeps others from doing so.
    pub fn lock(&self, key: &StageKey) -> Result<StageLock> {
        let (path, file) = self.lock_file(key)?;
        match file.lock() {
            Ok(()) => Ok(StageLock {
                key: *key,
                file,
                locked: true,
            }),
            Err(cause) if has_no_locks(&cause) => Ok(StageLock {
                key: *key,
                file,
                locked: false,
            }),
            Err(cause) => Err(files::failed("lock", &path, cause)),
        }
    }

    /// Does the same as [`Store::lock`], but returns `None` at once if another process holds the
    /// lock.
    pub fn try_lock(&self, key: &StageKey) -> Result<Option<StageLock>> {
        let (path, file) = self.lock_file(key)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(StageLock {
                key: *key,
                file,
                locked: true,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(cause)) if has_no_locks(&cause) => Ok(Some(StageLock {
                key: *key,
                file,
                locked: false,
            })),
            Err(TryLockError::Error(cause)) => Err(files::failed("lock", &path, cause)),
        }
    }

    /// Opens the lock file of `key`. Lock files are never removed: removing one while another
    /// process waits for it would let two processes in.
    fn lock_file(&self, key: &StageKey) -> Result<(PathBuf, File)> {
        let path = self.root().join("locks").join(format!("{key}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|cause| files::failed("open", &path, cause))?;
        Ok((path, file))
    }
}

/// True if the error comes from a file system without locks (Lustre with `noflock`, NFS without a
/// lock daemon). Claims alone then keep attempts apart.
fn has_no_locks(cause: &io::Error) -> bool {
    /// `ENOLCK` and the kernel's own `ENOTSUPP`, for which the standard library has no names.
    const NAMELESS: [i32; 2] = [37, 524];
    cause.kind() == io::ErrorKind::Unsupported
        || cause
            .raw_os_error()
            .is_some_and(|code| NAMELESS.contains(&code))
}
