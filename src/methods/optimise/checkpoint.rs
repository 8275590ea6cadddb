//! Checkpoints of a training loop, from which a killed run continues bitwise identically: trained
//! weights, optimiser, step and the loop's own state, written together or not at all.

use super::{Monitor, Trainer, fresh_optimiser, trained};
use crate::methods::training::Trainable;
use crate::{Context, Error, Result};
use burn::module::ParamGroup;
use burn::store::ModuleRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

impl<M: Trainable> Trainer<M> {
    /// Continues from the newest complete checkpoint, if there is one; returns the state of the
    /// loop that was saved with it. Damaged checkpoints are reported and removed.
    pub fn resume<S: DeserializeOwned>(&mut self, monitor: &dyn Monitor) -> Result<Option<S>> {
        let Some(folder) = monitor.checkpoint_folder() else {
            return Ok(None);
        };
        for place in checkpoints(&folder)?.into_iter().rev() {
            match self.load(&place) {
                Ok((cost, state)) => {
                    monitor.resumed(cost);
                    return Ok(Some(state));
                }
                Err(error) => {
                    monitor.note(&format!(
                        "{error}; going on from an earlier checkpoint, or from the beginning"
                    ));
                    std::fs::remove_dir_all(&place)
                        .context(|| format!("cannot remove {}", place.display()))?;
                }
            }
        }
        Ok(None)
    }

    /// Loads weights, optimiser and step from the checkpoint at `place`, or changes nothing;
    /// returns the cost and the loop state.
    fn load<S: DeserializeOwned>(&mut self, place: &Path) -> Result<(serde_json::Value, S)> {
        let damaged = || format!("the checkpoint {} is damaged", place.display());
        check_sums(place)?;
        let text = std::fs::read_to_string(place.join(STATE)).context(damaged)?;
        let (step, cost, state): (usize, serde_json::Value, S) =
            serde_json::from_str(&text).context(damaged)?;
        let record = ModuleRecord::load(place.join(MODEL)).context(damaged)?;
        // Frozen weights are not recorded.
        let recorded = record.len();
        let loaded = self
            .model()
            .clone()
            .try_load_record(record.allow_partial(true))
            .context(damaged)?;
        let trained = trained(&loaded).len();
        if recorded != trained {
            return Err(Error::store(damaged())
                .caused_by(format!("it holds {recorded} of {trained} parameters")));
        }
        let optimiser = fresh_optimiser(&self.settings)
            .load(place.join(OPTIMISER))
            .context(damaged)?;
        (self.model, self.optimiser, self.step) = (Some(loaded.train()), optimiser, step);
        Ok((cost, state))
    }

    /// Writes a checkpoint if the last one is old enough.
    pub fn checkpoint<S: Serialize>(
        &mut self,
        monitor: &dyn Monitor,
        loop_state: &S,
    ) -> Result<()> {
        match monitor.checkpoint_folder() {
            Some(folder) if self.saved.elapsed() >= monitor.checkpoint_interval() => {
                self.save(&folder, &monitor.cost(), loop_state)
            }
            _ => Ok(()),
        }
    }

    /// Writes trained weights, optimiser and loop state together, beside the last checkpoint, which
    /// stays until the one after.
    pub(super) fn save<S: Serialize>(
        &mut self,
        folder: &Path,
        cost: &serde_json::Value,
        loop_state: &S,
    ) -> Result<()> {
        self.save_in_steps(folder, cost, loop_state, &mut || Ok(()))
    }

    /// Does the same as [`save`](Self::save), but calls `before` ahead of every change to the disk;
    /// an error of `before` ends the save there.
    pub(super) fn save_in_steps<S: Serialize>(
        &mut self,
        folder: &Path,
        cost: &serde_json::Value,
        loop_state: &S,
        before: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let place = folder.join(format!("{CHECKPOINT}{:09}", self.step));
        let failed = || format!("cannot write the checkpoint {}", place.display());
        let mut earlier = checkpoints(folder)?;
        if earlier.last() == Some(&place) {
            self.saved = Instant::now();
            return Ok(());
        }
        earlier.pop();
        let beside = folder.join(UNFINISHED);
        for left_over in earlier
            .iter()
            .chain([&beside])
            .filter(|folder| folder.exists())
        {
            before()?;
            std::fs::remove_dir_all(left_over).context(failed)?;
        }
        before()?;
        std::fs::create_dir_all(&beside).context(failed)?;
        before()?;
        let model = self.model();
        let record = model
            .clone()
            .into_record_group(ParamGroup::from_ids(trained(model)));
        record.save(beside.join(MODEL)).context(failed)?;
        before()?;
        self.optimiser
            .save(beside.join(OPTIMISER))
            .context(failed)?;
        before()?;
        let state = serde_json::to_string(&(self.step, cost, loop_state)).context(failed)?;
        std::fs::write(beside.join(STATE), state).context(failed)?;
        before()?;
        let sums = PARTS
            .iter()
            .map(|name| Ok((*name, sum(&beside.join(name))?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        std::fs::write(
            beside.join(SUMS),
            serde_json::to_string(&sums).context(failed)?,
        )
        .context(failed)?;
        for name in PARTS.into_iter().chain([SUMS]) {
            sync(&beside.join(name))?;
        }
        sync(&beside)?;
        before()?;
        std::fs::rename(&beside, &place).context(failed)?;
        sync(folder)?;
        self.saved = Instant::now();
        Ok(())
    }
}

/// Prefix of the names of checkpoint folders; the step follows.
const CHECKPOINT: &str = "checkpoint-";
/// Name of a checkpoint that is being written.
const UNFINISHED: &str = "unfinished-checkpoint";
/// Files of a checkpoint.
pub(super) const MODEL: &str = "model.bpk";
const OPTIMISER: &str = "optimiser.bpk";
pub(super) const STATE: &str = "state.json";
const PARTS: [&str; 3] = [MODEL, OPTIMISER, STATE];
/// File with the blake3 sums of the others.
const SUMS: &str = "sums.json";

/// The checkpoints in `folder`, ordered by step, the newest last.
pub(super) fn checkpoints(folder: &Path) -> Result<Vec<PathBuf>> {
    let unread = || format!("cannot read {}", folder.display());
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).context(unread)? {
        let path = entry.context(unread)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let step = name
            .and_then(|name| name.strip_prefix(CHECKPOINT))
            .and_then(|step| step.parse::<usize>().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Returns an error unless the files of the checkpoint at `place` are those that were written.
fn check_sums(place: &Path) -> Result<()> {
    let damaged = || format!("the checkpoint {} is damaged", place.display());
    let sums = std::fs::read_to_string(place.join(SUMS)).context(damaged)?;
    let sums: BTreeMap<String, String> = serde_json::from_str(&sums).context(damaged)?;
    for name in PARTS {
        if sums.get(name) != Some(&sum(&place.join(name))?) {
            return Err(
                Error::store(damaged()).caused_by(format!("{name} is not what was written"))
            );
        }
    }
    Ok(())
}

/// The blake3 sum of a file.
fn sum(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let read = std::fs::File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    read.context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Waits until a file, or the names in a folder, are on the disk.
fn sync(path: &Path) -> Result<()> {
    // Only Unix can open folders.
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
    synced.context(|| format!("cannot write {} to the disk", path.display()))
}
