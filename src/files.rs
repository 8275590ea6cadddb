//! File operations: files that are written whole or not at all, their hashes, their JSON, and
//! errors that name a path and a remedy.

use crate::error::{Error, Result, kind_of_system};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// Prefix of a file's name until the file is complete.
pub(crate) const WRITING: &str = ".writing-";

/// The error `cannot {action} {path}`, with a hint for failures that users can fix.
pub(crate) fn failed(action: &str, path: &Path, cause: io::Error) -> Error {
    let hint = match cause.kind() {
        ErrorKind::StorageFull => {
            Some("the disk is full: free some space, then run the same command again to continue")
        }
        ErrorKind::QuotaExceeded => Some(
            "your quota is used up: remove what you no longer need or ask for more, then run the same command again to continue",
        ),
        ErrorKind::PermissionDenied => Some("check who owns it, or choose another folder"),
        ErrorKind::ReadOnlyFilesystem => Some(
            "this file system is read-only: choose another folder, or run the same command again when it can be written",
        ),
        _ => None,
    };
    let kind = kind_of_system(&cause);
    let error = Error::new(kind, format!("cannot {action} {}", path.display())).caused_by(cause);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Creates a folder and its parents. An existing folder is accepted, even if another process
/// creates it at the same moment.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    match fs::create_dir_all(path) {
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {
            wait_until_visible(path);
            if path.is_dir() {
                Ok(())
            } else {
                Err(failed("create the folder", path, cause))
            }
        }
        created => created.map_err(|cause| failed("create the folder", path, cause)),
    }
}

/// Waits until a name that its folder lists can also be opened. Network file systems of clusters
/// cache for a while that a name was absent, so that a file or folder just created on another node
/// appears to be missing.
pub(crate) fn wait_until_visible(path: &Path) {
    const LONGEST_MEMORY: Duration = Duration::from_secs(90);
    let deadline = Instant::now() + LONGEST_MEMORY;
    while path.symlink_metadata().is_err() && is_listed(path) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// True if the folder of `path` lists its name: the only question about another node's work that is
/// not answered from a cache.
pub(crate) fn is_listed(path: &Path) -> bool {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return false;
    };
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() == name))
    })
}

/// Removes a folder with all its contents; a missing folder is accepted.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => {
            Err(failed("remove the folder", path, cause))
        }
        _ => Ok(()),
    }
}

/// Removes a file; a missing file is accepted.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(failed("remove", path, cause)),
        _ => Ok(()),
    }
}

/// Removes a file, or a folder with all its contents; a missing path is accepted.
pub(crate) fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        remove_dir(path)
    } else {
        remove_file(path)
    }
}

/// The names in a folder, sorted; empty if the folder is missing or is not a folder. Names that are
/// not UTF-8 are skipped.
pub(crate) fn names_in(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(cause) => return Err(failed("read the folder", path, cause)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|cause| failed("read the folder", path, cause))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// Size and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    pub bytes: u64,
    /// The blake3 hash, 64 hexadecimal digits.
    pub blake3: String,
}

/// Reads a file once and returns its size and hash.
pub(crate) fn hash(path: &Path) -> Result<FileRecord> {
    let mut hasher = blake3::Hasher::new();
    File::open(path)
        .and_then(|file| hasher.update_reader(file).map(|_| ()))
        .map_err(|cause| failed("read", path, cause))?;
    Ok(FileRecord {
        bytes: hasher.count(),
        blake3: hasher.finalize().to_hex().to_string(),
    })
}

/// The value in a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(|cause| failed("read", path, cause))?;
    serde_json::from_slice(&bytes)
        .map_err(|cause| Error::data(format!("{} is damaged", path.display())).caused_by(cause))
}

/// Pretty-printed JSON with a final newline, which people can read too.
pub(crate) fn to_json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|cause| {
        Error::internal(format!("cannot write {} as JSON", path.display())).caused_by(cause)
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes a file and waits until the disk has it.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|cause| failed("write", path, cause))
}

/// Writes a temporary file next to `path` and renames it: readers see the old bytes or the new
/// ones, even if the process dies meanwhile. A power failure may still lose the file, so this is
/// for contents that can be written again.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    write_beside(path, bytes)?
        .persist(path)
        .map_err(|cause| failed("write", path, cause.error))?;
    Ok(())
}

/// Replaces a file as [`replace`] does, and the new contents survive a power failure.
pub(crate) fn replace_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = write_beside(path, bytes)?;
    beside
        .as_file()
        .sync_all()
        .map_err(|cause| failed("sync", beside.path(), cause))?;
    beside
        .persist(path)
        .map_err(|cause| failed("write", path, cause.error))?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Creates a file with its contents in one step unless a file of that name exists; returns whether
/// it was created.
pub(crate) fn create_new(path: &Path, bytes: &[u8]) -> Result<bool> {
    let cannot = |cause| failed("create", path, cause);
    match write_beside(path, bytes)?.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(refused) if refused.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // Some file systems have neither hard links nor a rename that keeps an existing file.
        Err(refused)
            if matches!(
                refused.error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::Unsupported
            ) =>
        {
            match File::create_new(path).and_then(|mut file| file.write_all(bytes)) {
                Err(cause) if cause.kind() == ErrorKind::AlreadyExists => Ok(false),
                written => written.map(|()| true).map_err(cannot),
            }
        }
        Err(refused) => Err(cannot(refused.error)),
    }
}

fn write_beside(path: &Path, bytes: &[u8]) -> Result<NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // The permissions of an ordinary new file: the user's umask decides who else may read it.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut beside = builder
        .prefix(".writing-")
        .tempfile_in(folder)
        .map_err(|cause| failed("create a file in", folder, cause))?;
    beside
        .write_all(bytes)
        .map_err(|cause| failed("write", path, cause))?;
    Ok(beside)
}

/// Makes a folder's entries (creations, renames) durable. Only Unix can open a folder for this;
/// elsewhere it does nothing.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(|cause| failed("sync the folder", path, cause))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use miette::Diagnostic;

    #[test]
    fn errors_name_the_path_and_what_to_do() {
        for (kind, remedy) in [
            (ErrorKind::StorageFull, "free some space"),
            (ErrorKind::QuotaExceeded, "your quota is used up"),
            (ErrorKind::PermissionDenied, "check who owns it"),
            (ErrorKind::ReadOnlyFilesystem, "choose another folder"),
        ] {
            let error = failed("write", Path::new("/some/file"), io::Error::from(kind));
            assert_eq!(error.to_string(), "cannot write /some/file");
            assert!(error.help().unwrap().to_string().contains(remedy));
        }
    }

    #[test]
    fn a_replaced_file_is_new_and_nothing_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"old").unwrap();
        replace_synced(&path, b"new").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), names_in(dir.path()).unwrap()),
            (b"new".to_vec(), vec!["file".into()])
        );
    }

    #[test]
    fn a_name_is_created_by_one_of_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let created: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|i| {
                    scope.spawn({
                        let path = &path;
                        move || create_new(path, &[i; 64]).unwrap()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| usize::from(thread.join().unwrap()))
                .sum()
        });
        assert_eq!(
            (created, names_in(dir.path()).unwrap()),
            (1, vec!["name".to_owned()])
        );
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, [bytes[0]; 64]);
    }

    #[test]
    fn a_folder_in_the_way_of_nothing_is_fine_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        create_dir(&dir.path().join("a/b")).unwrap();
        create_dir(&dir.path().join("a/b")).unwrap();
        assert!(is_listed(&dir.path().join("a/b")) && !is_listed(&dir.path().join("a/c")));
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(create_dir(&dir.path().join("file")).is_err());
    }
}
