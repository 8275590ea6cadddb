//! Stage `dataset`: what one split of a data set is, decided once for all stages that read it. A branch of a hub may move
//! between two stages, and files of a folder may change: who reads later gets what is noted here, or an error.

use super::common::{read_json, write_json};
use crate::data::dataset::{Dataset, Fingerprint};
use crate::data::hub::Source;
use crate::pipeline::StageContext;
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};

pub const KIND: &str = "dataset";

/// The artifact's only file: a [`Fingerprint`].
const PINNED: &str = "dataset.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// `hf:datasets/owner/name@revision`, or a folder or file.
    pub source: String,
    pub config: Option<String>,
    pub split: String,
    /// blake3 over the files where they lie on this machine, since a path does not say what it holds. None for a hub, which
    /// is asked when the stage runs.
    pub contents: Option<String>,
}

impl Stage {
    /// # Errors
    /// Files of this machine that cannot be read.
    pub fn new(source: &str, config: Option<&str>, split: &str) -> Result<Self> {
        let contents = match Source::parse(source)? {
            Source::Hub(_) => None,
            local => Some(contents(&Dataset::open(&local, config, split)?.fingerprint()?)?),
        };
        Ok(Self { source: source.into(), config: config.map(str::to_owned), split: split.into(), contents })
    }
}

fn contents(fingerprint: &Fingerprint) -> Result<String> {
    let files = serde_json::to_vec(&fingerprint.files).context(|| "cannot encode a fingerprint".into())?;
    Ok(blake3::hash(&files).to_hex().to_string())
}

pub fn run(context: &StageContext) -> Result<()> {
    let stage: Stage = context.settings()?;
    let set = Dataset::open(&Source::parse(&stage.source)?, stage.config.as_deref(), &stage.split)?;
    let fingerprint = set.fingerprint()?;
    if let Some(planned) = &stage.contents
        && *planned != contents(&fingerprint)?
    {
        return Err(Error::data(format!("{} has changed since this study was planned", stage.source))
            .hint("run `touchstone reproduce` again: it plans anew"));
    }
    context.add_source(&fingerprint)?;
    write_json(&context.out().join(PINNED), &fingerprint)
}

/// The data set that the input `role` pins, and how it was named.
///
/// # Errors
/// One that cannot be read, or is no longer what it was.
pub fn pinned(context: &StageContext, role: &str) -> Result<(Dataset, String)> {
    let pinned: Fingerprint = read_json(&context.input(role)?.join(PINNED))?;
    let mut source = Source::parse(&pinned.source)?;
    if let (Source::Hub(repository), Some(commit)) = (&mut source, &pinned.commit) {
        repository.revision.clone_from(commit);
    }
    let set = Dataset::open(&source, pinned.config.as_deref(), pinned.split.as_deref().unwrap_or_default())?;
    if set.fingerprint()?.files != pinned.files {
        return Err(Error::data(format!("{} is not what it was when this study began", pinned.source)).hint(
            "run `touchstone reproduce` again: a folder that changed is another study; clear the cache of a hub",
        ));
    }
    context.add_source(&pinned)?;
    Ok((set, pinned.source))
}
