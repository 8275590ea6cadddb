//! Stage `dataset`: the commit and the files of one split of a data set, fixed once for all stages
//! that read it. A hub's branch may move between two stages, and a folder's files may change: later
//! readers get the files recorded here, or an error.

use super::common::{read_json, write_json};
use super::{NoInputs, Stage};
use crate::data::contents::changed;
use crate::data::dataset::{Dataset, Fingerprint, Record};
use crate::data::hub::Source;
use crate::pipeline::{StageContext, StageKey};
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The artifact's only file: a [`Fingerprint`].
const PINNED: &str = "dataset.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedDataset {
    /// `hf:datasets/owner/name@revision`, or a folder or file.
    pub source: String,
    pub config: Option<String>,
    pub split: String,
    /// blake3 hash over the files on this machine, since a path does not identify its contents.
    /// `None` for a hub, which is queried when the stage runs.
    pub contents: Option<String>,
}

impl PinnedDataset {
    /// Settings for one split. Every row of a data set on this machine is checked now, so that a
    /// study does not stop at a bad row after hours.
    ///
    /// # Errors
    /// Files of this machine that cannot be read, and the first of their rows that is not a `T`.
    pub fn new<T: Record>(source: &str, config: Option<&str>, split: &str) -> Result<Self> {
        Self::checked(source, config, split, |set| {
            set.rows::<T>()?.try_for_each(|row| row.map(|_| ()))
        })
    }

    /// Settings for one split, whose rows `check` reads if they are on this machine.
    ///
    /// # Errors
    /// Files of this machine that cannot be read, and those of `check`.
    pub fn checked(
        source: &str,
        config: Option<&str>,
        split: &str,
        check: impl FnOnce(&Dataset) -> Result<()>,
    ) -> Result<Self> {
        let contents = match Source::parse(source)? {
            Source::Hub(_) => None,
            local => {
                let set = Dataset::open(&local, config, split)?;
                check(&set)?;
                Some(contents(&set.fingerprint()?)?)
            }
        };
        Ok(Self {
            source: source.into(),
            config: config.map(str::to_owned),
            split: split.into(),
            contents,
        })
    }
}

fn contents(fingerprint: &Fingerprint) -> Result<String> {
    let files =
        serde_json::to_vec(&fingerprint.files).context(|| "cannot encode a fingerprint".into())?;
    Ok(blake3::hash(&files).to_hex().to_string())
}

impl Stage for PinnedDataset {
    const KIND: &'static str = "dataset";
    const VERSION: u32 = 1;
    type Inputs = NoInputs;
    type Sizes<'a> = ();

    fn run(self, _: NoInputs, context: &StageContext) -> Result<()> {
        let set = Dataset::open(
            &Source::parse(&self.source)?,
            self.config.as_deref(),
            &self.split,
        )?;
        let fingerprint = set.fingerprint()?;
        if let Some(planned) = &self.contents {
            let now = contents(&fingerprint)?;
            if *planned != now {
                return Err(changed(&self.source, planned, &now));
            }
        }
        set.files_read()?
            .iter()
            .try_for_each(|file| context.add_source(file))?;
        context.add_source(&fingerprint)?;
        write_json(&context.out().join(PINNED), &fingerprint)
    }
}

/// The data set that an input pins, and its name in the experiment.
///
/// # Errors
/// A data set that cannot be read, or has changed since it was pinned.
pub fn pinned(context: &StageContext, input: &StageKey) -> Result<(Dataset, String)> {
    let (set, pinned) = open_pinned(&context.artifact(input)?)?;
    set.files_read()?
        .iter()
        .try_for_each(|file| context.add_source(file))?;
    context.add_source(&pinned)?;
    Ok((set, pinned.source))
}

/// The data set that an artifact pins, and its fingerprint. Files of a hub that are no longer in
/// the cache are fetched again.
///
/// # Errors
/// As [`pinned`].
pub fn open_pinned(artifact: &Path) -> Result<(Dataset, Fingerprint)> {
    let pinned: Fingerprint = read_json(&artifact.join(PINNED))?;
    Ok((open_at(&pinned)?, pinned))
}

/// The data set that has a fingerprint, at its commit.
///
/// # Errors
/// As [`pinned`].
pub fn open_at(pinned: &Fingerprint) -> Result<Dataset> {
    let mut source = Source::parse(&pinned.source)?;
    if let (Source::Hub(repository), Some(commit)) = (&mut source, &pinned.commit) {
        repository.revision.clone_from(commit);
    }
    let set = Dataset::open(
        &source,
        pinned.config.as_deref(),
        pinned.split.as_deref().unwrap_or_default(),
    )?;
    let now = set.fingerprint()?.files;
    if now != pinned.files {
        let other = now
            .iter()
            .zip(&pinned.files)
            .find(|(now, then)| now != then);
        return Err(match other {
            Some((now, then)) if now.name == then.name => {
                changed(&format!("{} of {}", now.name, pinned.source), &then.blake3, &now.blake3)
            }
            _ => Error::data(format!("{} has other files than when this study began", pinned.source)),
        }
        .hint("put the files back, or run the same command again: other contents are another study (of a hub, clear the cache)"));
    }
    Ok(set)
}
