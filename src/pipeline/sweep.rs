//! Removal of leftovers of attempts that are over.

use super::claim::Watch;
use super::key::StageKey;
use super::store::{Store, attempt_at};
use crate::error::Result;
use crate::files;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

impl Store {
    /// Removes leftovers of attempts that are over. Called when a pool starts and when it ends.
    pub fn clean(&self) -> Result<()> {
        self.leftovers()?
            .iter()
            .try_for_each(|path| self.remove_leftover(path))
    }

    pub(super) fn remove_leftover(&self, path: &Path) -> Result<()> {
        let key = path.file_name().and_then(|name| attempt_at(name.to_str()?));
        match key.filter(|_| path.is_dir()) {
            Some(key) => self.discard(path, &key),
            None => files::remove_file(path),
        }
    }

    /// Drafts of attempts that are known to be over, and the checkpoints and claims of finished
    /// stages. The checkpoints of an unfinished stage are kept, since its next attempt continues
    /// from them.
    pub(super) fn leftovers(&self) -> Result<Vec<PathBuf>> {
        // Listed before claims are checked: every attempt creates its claim before its folders.
        let list = |folder: PathBuf| -> Result<Vec<(StageKey, PathBuf)>> {
            let names = files::names_in(&folder)?;
            Ok(names
                .iter()
                .filter_map(|name| Some((attempt_at(name)?, folder.join(name))))
                .collect())
        };
        let drafts = list(self.tmp())?;
        let rest: Vec<_> = list(self.scratch())?
            .into_iter()
            .chain(list(self.claims())?)
            .collect();
        let keys: BTreeSet<StageKey> = drafts.iter().chain(&rest).map(|(key, _)| *key).collect();
        let (mut watch, mut over, mut finished) = (Watch::new(), BTreeSet::new(), BTreeSet::new());
        for key in keys {
            // Without the lock nothing is known about the attempt.
            let Ok(Some(lock)) = self.try_lock(&key) else {
                continue;
            };
            if !watch.sees_holder(self, &lock)? {
                over.insert(key);
                finished.extend(self.is_complete(&key).then_some(key));
            }
        }
        let of = |all: Vec<(StageKey, PathBuf)>, keys: &BTreeSet<StageKey>| {
            all.into_iter()
                .filter(|(key, _)| keys.contains(key))
                .map(|(_, path)| path)
                .collect::<Vec<_>>()
        };
        let mut found = of(drafts, &over);
        found.extend(of(rest, &finished));
        Ok(found)
    }
}
