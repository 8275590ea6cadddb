//! Stage `checkpoint`: a model published on a hub, checked against the shape that the study was
//! planned with.

use super::common::{read_json, write_json};
use super::{NoInputs, Stage};
use crate::data::hub::Source;
use crate::experiment::ModelSettings;
use crate::model::DecoderConfig;
use crate::model::checkpoint::{Checkpoint, FILES_BESIDE};
use crate::pipeline::StageContext;
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedModel {
    /// `hf:owner/name@revision`.
    pub source: String,
    /// The shape that the experiment file states.
    pub shape: DecoderConfig,
}

impl PublishedModel {
    /// # Errors
    /// A model whose `checkpoint` is a folder or which does not say its `vocab_size`.
    pub fn new(model: &ModelSettings) -> Result<Self> {
        let name = &model.label;
        let source = model.checkpoint.clone().unwrap_or_default();
        if matches!(Source::parse(&source)?, Source::Local(_)) {
            return Err(Error::model(format!(
                "the checkpoint of {name} is `{source}`, which is not on a hub"
            ))
            .hint("write hf:owner/name@revision; HF_ENDPOINT may point to a mirror"));
        }
        let vocabulary = model.vocab_size.ok_or_else(|| {
            Error::model(format!("{name} has a checkpoint and no vocab_size"))
                .hint("its config.json has it; a plan needs it before anything is downloaded")
        })?;
        Ok(Self {
            source,
            shape: model.config(vocabulary),
        })
    }
}

impl Stage for PublishedModel {
    const KIND: &'static str = "checkpoint";
    const VERSION: u32 = 1;
    type Inputs = NoInputs;
    type Sizes<'a> = ();

    fn run(self, _: NoInputs, context: &StageContext) -> Result<()> {
        // A reward model may come without a tokenizer; stages that need one report its absence.
        let folder = Source::parse(&self.source)?.fetch(&MODEL_FILES, &FILES_BESIDE)?;
        let found = Checkpoint::open(&folder)?.config()?;
        // The tokenizer decides which tokens begin and end a text.
        let shape = self
            .shape
            .with_ends(found.bos_token_id(), found.eos_token_id().cloned());
        if found != shape {
            return Err(Error::model(format!(
                "{} is not the model that the experiment describes",
                self.source
            ))
            .hint(format!(
                "its config.json says {}; the experiment's [models] table says {}",
                serde_json::json!(found),
                serde_json::json!(shape)
            )));
        }
        let pointer = Pointer {
            source: at_commit(&self.source, &folder),
            config_blake3: hash_of(&folder.join("config.json"))?,
        };
        context.add_source(&pointer.source)?;
        write_json(&context.out().join(POINTER), &pointer)
    }
}

/// The file that names the model folder behind a `checkpoint` artifact, which spares the disk a
/// copy of gigabytes.
const POINTER: &str = "source.json";

#[derive(Serialize, Deserialize)]
struct Pointer {
    /// The model's name and the commit to which its revision was resolved.
    source: String,
    /// blake3 of its config.json.
    config_blake3: String,
}

const MODEL_FILES: [&str; 2] = ["config.json", "model.safetensors"];

/// `source` with the commit that `folder` of the hub's cache is named after.
fn at_commit(source: &str, folder: &Path) -> String {
    match (
        source.split_once('@'),
        folder.file_name().and_then(|name| name.to_str()),
    ) {
        (Some((name, _)), Some(commit)) => format!("{name}@{commit}"),
        _ => source.into(),
    }
}

/// The folder of a model's files: the artifact itself, or the one that it points to, fetched again
/// if it is gone.
pub fn model_folder(artifact: PathBuf) -> Result<PathBuf> {
    if !artifact.join(POINTER).exists() {
        return Ok(artifact);
    }
    published(&artifact).map(|(_, folder)| folder)
}

/// The name and commit of a published model, and the folder of its files, fetched again if it is
/// gone.
///
/// # Errors
/// An artifact of another kind; a hub that does not give the files; other files than before.
pub fn published(artifact: &Path) -> Result<(String, PathBuf)> {
    let pointer: Pointer = read_json(&artifact.join(POINTER))?;
    let folder = Source::parse(&pointer.source)?.fetch(&MODEL_FILES, &FILES_BESIDE)?;
    if hash_of(&folder.join("config.json"))? != pointer.config_blake3 {
        return Err(Error::model(format!(
            "{} is not what it was when this study began",
            pointer.source
        ))
        .hint("clear the hub's cache of it and run the command again"));
    }
    Ok((pointer.source, folder))
}

fn hash_of(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
