//! A check for changes in the files outside the store from which finished artifacts were made.

use crate::Result;
use crate::data::contents::{Contents, FileRead};
use crate::pipeline::Store;
use std::collections::{BTreeMap, BTreeSet};

/// Notes on files of this machine whose contents differ from an artifact's manifest. Such a change
/// harms no artifact: keys depend on contents, so the next run treats the file as another study.
/// Missing files are not mentioned, since a store may be inspected on another machine.
///
/// # Errors
/// A store that cannot be listed.
pub fn notes(store: &Store) -> Result<Vec<String>> {
    let mut read: BTreeMap<_, BTreeSet<(String, String)>> = BTreeMap::new();
    for manifest in store.list()? {
        for source in &manifest.sources {
            if let Ok(FileRead { path, blake3, .. }) = serde_json::from_value(source.clone()) {
                read.entry(path)
                    .or_default()
                    .insert((blake3, manifest.label.clone()));
            }
        }
    }
    let mut notes = Vec::new();
    for (path, records) in read {
        let shown = path.display().to_string();
        if !path.is_file() {
            continue;
        }
        let now = match Contents::read(&path, &shown) {
            Ok(contents) => contents.blake3,
            Err(error) => {
                notes.push(format!(
                    "{shown}: {error}, so it cannot be compared with what was read"
                ));
                continue;
            }
        };
        let others: Vec<&str> = records
            .iter()
            .filter(|(then, _)| *then != now)
            .map(|(_, label)| label.as_str())
            .collect();
        if let Some(first) = others.first() {
            let more = if others.len() > 1 {
                format!(" and {} more", others.len() - 1)
            } else {
                String::new()
            };
            notes.push(format!(
                "{shown}: has changed since it was read for {first}{more}"
            ));
        }
    }
    Ok(notes)
}
