//! Checks of a command's files and folders, made before it computes anything.

use crate::{Context, Error, Result};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Checks that the file `path` can be written. Changes nothing.
///
/// # Errors
/// A folder, a link that leads nowhere, a parent folder that is missing or not writable, a
/// read-only file.
pub fn check_file(path: &Path) -> Result<()> {
    let refused = |what: &str| Error::files(format!("cannot write {}: {what}", path.display()));
    if path.as_os_str().is_empty() {
        return Err(Error::files("the output has no name").hint("give the path of a file"));
    }
    let failed = |cause: io::Error| {
        Error::files(format!("cannot write {}", path.display()))
            .caused_by(cause)
            .hint("choose another place")
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(refused("it is a folder").hint("give the path of a file"))
        }
        // Opening a pipe would wait for its reader.
        Ok(found) if !found.is_file() => Ok(()),
        Ok(_) => OpenOptions::new()
            .append(true)
            .open(path)
            .map(|_| ())
            .map_err(failed),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                return Err(refused("it is a link that leads nowhere")
                    .hint("remove the link, or choose another place"));
            }
            let folder = folder_of(path);
            if !folder.is_dir() {
                return Err(refused("there is no such folder")
                    .hint(format!("make {} first", folder.display())));
            }
            let name = path
                .file_name()
                .ok_or_else(|| refused("it is not the name of a file"))?;
            probe(folder, &[name.into()]).map_err(failed)
        }
        Err(cause) => Err(failed(cause)),
    }
}

/// Does the same as [`check_file`], except that missing parent folders are allowed, since they will
/// be created.
///
/// # Errors
/// Those of [`check_file`] and [`check_folder`].
pub fn check_file_and_folders(path: &Path) -> Result<()> {
    match folder_of(path) {
        folder if folder.is_dir() => check_file(path),
        folder => check_folder(folder),
    }
}

/// Checks that `path`, which will be read, is a file: reading a pipe would wait for its writer, and
/// a device has no end.
///
/// # Errors
/// A path where nothing exists, or something other than a file.
pub fn check_regular(path: &Path) -> Result<()> {
    let error =
        || Error::files(format!("cannot read {}", path.display())).hint("give the path of a file");
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(error().caused_by("it is not a file")),
        Err(cause) => Err(error().caused_by(cause)),
    }
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes the file `path` through `fill`, which is given a temporary place beside it: whatever
/// fails, the file is either unchanged or complete. Anything but a plain file (a pipe, a device) is
/// written directly.
///
/// # Errors
/// Those of `fill`, and a place that cannot be written.
pub fn write(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let found = fs::metadata(path).ok();
    if found.as_ref().is_some_and(|found| !found.is_file()) {
        return fill(path);
    }
    let failed = || format!("cannot write {}", path.display());
    // A link stays, and its target is replaced.
    let place = if found.is_some() {
        path.canonicalize().context(failed)?
    } else {
        path.to_owned()
    };
    let beside = tempfile::Builder::new()
        .prefix(".writing-")
        .tempdir_in(folder_of(&place))
        .context(failed)?;
    let draft = beside.path().join("new");
    fill(&draft).context(failed)?;
    if let Some(found) = found {
        fs::set_permissions(&draft, found.permissions()).context(failed)?;
    }
    fs::File::open(&draft)
        .and_then(|file| file.sync_all())
        .context(failed)?;
    fs::rename(&draft, &place).context(failed)
}

/// Checks that the folder `path` can be created or written, together with missing parent folders.
/// Changes nothing.
///
/// # Errors
/// A file in its place or above it, a link that leads nowhere, a folder that cannot be written, a
/// name that the file system does not accept.
pub fn check_folder(path: &Path) -> Result<()> {
    let failed = |cause: io::Error| {
        Error::files(format!(
            "cannot make or write the folder {}",
            path.display()
        ))
        .caused_by(cause)
        .hint("choose another folder")
    };
    let absolute = std::path::absolute(path).map_err(failed)?;
    for above in absolute.ancestors() {
        match fs::metadata(above) {
            Ok(found) if found.is_dir() => {
                let missing = absolute.strip_prefix(above).unwrap_or(Path::new(""));
                let missing: Vec<PathBuf> = missing
                    .components()
                    .map(|part| part.as_os_str().into())
                    .collect();
                return probe(above, &missing).map_err(failed);
            }
            Ok(_) => {
                return Err(failed(io::Error::other(format!(
                    "{} is not a folder",
                    above.display()
                ))));
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(above).is_ok() {
                    return Err(failed(io::Error::other(format!(
                        "{} is a link that leads nowhere",
                        above.display()
                    ))));
                }
            }
            Err(cause) => return Err(failed(cause)),
        }
    }
    Ok(())
}

/// Creates the folders `names` inside each other in a temporary folder in `folder`, which is
/// removed afterwards.
fn probe(folder: &Path, names: &[PathBuf]) -> io::Result<()> {
    let probe = tempfile::Builder::new()
        .prefix(".probe-")
        .tempdir_in(folder)?;
    fs::create_dir_all(
        names
            .iter()
            .fold(probe.path().to_owned(), |path, name| path.join(name)),
    )?;
    probe.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_place_that_can_be_written_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let here = |name: &str| folder.path().join(name);
        fs::write(here("old"), "text").unwrap();
        check_file(&here("new")).unwrap();
        check_file(&here("old")).unwrap();
        check_file_and_folders(&here("old")).unwrap();
        check_file_and_folders(&here("a/b/new")).unwrap();
        check_folder(&here("a/b/c")).unwrap();
        check_folder(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(here("old")).unwrap(), "text");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_new_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write(&path, |draft| {
            fs::write(draft, "one").context(|| "test".to_owned())
        })
        .unwrap();
        let failed = write(&path, |draft| {
            fs::write(draft, "half of tw").unwrap();
            Err(Error::data("row 7"))
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Data);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        write(&path, |draft| {
            fs::write(draft, "three").context(|| "test".to_owned())
        })
        .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let here = |name: &str| folder.path().join(name);
        fs::write(here("file"), "text").unwrap();
        let long = "x".repeat(300);
        let mut refused = vec![
            check_file(folder.path()),
            check_file(&here("absent/out")),
            check_file(&here("file/out")),
            check_file(&here(&long)),
            check_file(Path::new("")),
            check_file_and_folders(&here("file/a/out")),
            check_folder(&here("file")),
            check_folder(&here("file/below")),
            check_folder(&here(&format!("a/{long}"))),
        ];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(here("nowhere"), here("link")).unwrap();
            refused.extend([
                check_file(&here("link")),
                check_folder(&here("link")),
                check_folder(&here("link/below")),
            ]);
        }
        for refused in refused {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Files);
        }
    }
}
