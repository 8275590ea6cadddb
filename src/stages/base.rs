//! Where models come from: pre-trained on the embedded world, taken from the checkpoints that come with touchstone,
//! published on a hub, or random.

use super::common::{Watch, WorldAt, device, read_json, tokenizer_folder, within_memory, write_json};
use super::work::{self, Regime, Texts, Work};
use crate::data::Codec;
use crate::data::hub::Source;
use crate::eval::copying::slot_accuracy;
use crate::experiment::{GenerationSettings, ModelSettings};
use crate::methods::pretrain::PretrainSettings;
use crate::methods::sft::SftSettings;
use crate::methods::training::Training;
use crate::model::checkpoint::{Checkpoint, FILES_BESIDE};
use crate::model::weights::StoredAs;
use crate::model::{DecoderConfig, LanguageModel, Sequence, TokenIds};
use crate::pipeline::StageContext;
use crate::rng::stream;
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

pub const PRETRAIN: &str = "pretrain";
pub const BUNDLED: &str = "bundled";
pub const CHECKPOINT: &str = "checkpoint";
pub const RANDOM: &str = "random";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainStage {
    pub world: WorldAt,
    pub model: ModelSettings,
    pub generation: GenerationSettings,
    pub pretrain: PretrainSettings,
}

impl PretrainStage {
    /// Pre-training of a model of this shape is supervised fine-tuning on so many texts, each seen once.
    pub fn work(&self, config: &DecoderConfig) -> Work {
        let PretrainSettings { steps, batch_size, prompt_weight, ref optimiser, .. } = self.pretrain;
        let settings = SftSettings { epochs: 1, batch_size, prompt_weight, optimiser: optimiser.clone() };
        let texts = Texts { config, generation: &self.generation };
        work::sft(texts, &settings, steps * batch_size, Regime::from(&Training::default()))
    }
}

/// Pre-trains on posts with summaries by authors of every quality, and refuses to publish a base that cannot copy.
/// Published in f16, as Pythia is, so that the checkpoints that come with touchstone are small.
pub fn pretrain(context: &StageContext) -> Result<()> {
    let stage: PretrainStage = context.settings()?;
    let (world, seed) = (stage.world.open()?, context.seed()?);
    let tokenizer = save_tokenizer(&world.tokenizer()?, context.out())?;
    let codec = codec(context.out(), &stage.generation)?;
    let config = config_for(&stage.model, &codec);
    let mut rng = stream(seed, "pretrain/initial", &[]);
    let model = LanguageModel::random(&config, stage.model.initializer_range, &mut rng, &device(context)?)?;

    let text = |step: usize| {
        let row = |row: usize| {
            let index = (step * stage.pretrain.batch_size + row) as u64;
            let mut author = stream(seed, "pretrain/author", &[index]);
            let (post, quality) = if stage.pretrain.is_easy(step) {
                (world.easy_post(seed, index), world.curriculum_quality(&mut author))
            } else {
                let post = world.post(crate::data::world::Split::Pretrain, seed, index);
                (post, world.pretraining_quality(&mut author))
            };
            let summary = world.summary(&post, quality, &mut author);
            Ok(Sequence::new(codec.prompt(&post.prompt)?, codec.response(&summary)?.ids))
        };
        (0..stage.pretrain.batch_size).map(row).collect()
    };
    let (training, watch) = (within_memory(context, &Training::default(), &stage.work(&config))?, Watch(context));
    let (model, losses) = crate::methods::pretrain::pretrain(model, &stage.pretrain, &training, seed, text, &watch)?;
    Checkpoint::save_language_model(context.out(), &model, &tokenizer, StoredAs::F16)?;

    let slots = slot_accuracy(&model, &world, &codec)?;
    write_json(&context.out().join("curve.json"), &serde_json::json!({ "loss": losses, "slots": slots }))?;
    let worst = slots.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((slot, accuracy)) = worst.filter(|(_, accuracy)| *accuracy < stage.pretrain.copy_gate) {
        let all: Vec<String> = slots.iter().map(|(name, accuracy)| format!("{name} {accuracy:.2}")).collect();
        return Err(Error::model(format!(
            "the base copies slot `{slot}` in {accuracy:.2} of posts, below the gate of {} ({})",
            stage.pretrain.copy_gate,
            all.join(", ")
        ))
        .hint("a base that cannot copy measures nothing: train longer (pretrain.steps) or from another seed"));
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledStage {
    pub name: String,
    /// Of the weights; the key of everything that follows depends on it.
    pub blake3: String,
}

/// A base that comes with touchstone: made by `pretrain`, remade and compared by `touchstone base tldr`.
pub struct BundledBase {
    pub name: &'static str,
    /// The stage that made it, as JSON: what it can stand in for.
    made_by: &'static str,
    config: &'static [u8],
    weights: &'static [u8],
    tokenizer: &'static [u8],
}

macro_rules! bundled_base {
    ($name:literal) => {
        BundledBase {
            name: $name,
            made_by: include_str!(concat!("../../datasets/base/", $name, "/made_by.json")),
            config: include_bytes!(concat!("../../datasets/base/", $name, "/config.json")),
            weights: include_bytes!(concat!("../../datasets/base/", $name, "/model.safetensors")),
            tokenizer: include_bytes!(concat!("../../datasets/base/", $name, "/tokenizer.json")),
        }
    };
}

static BUNDLED_BASES: [BundledBase; 6] = [
    bundled_base!("mini-1b"),
    bundled_base!("mini-1b-1"),
    bundled_base!("mini-1b-2"),
    bundled_base!("mini-1b-3"),
    bundled_base!("mini-1b-4"),
    bundled_base!("mini-2.8b"),
];

/// The name of base number `number` of a size: of its folder, and in the program.
pub fn bundled_name(size: &str, number: u64) -> String {
    if number == 0 { size.into() } else { format!("{size}-{number}") }
}

impl BundledBase {
    /// The bundled checkpoint that exactly this pre-training made, if there is one.
    pub fn made_by(stage: &PretrainStage, seed: u64) -> Option<&'static Self> {
        let wanted = provenance(stage, seed);
        BUNDLED_BASES
            .iter()
            .find(|base| serde_json::from_str(base.made_by).is_ok_and(|made: serde_json::Value| made == wanted))
    }

    pub fn stage(&self) -> BundledStage {
        BundledStage { name: self.name.into(), blake3: blake3::hash(self.weights).to_hex().to_string() }
    }
}

/// What a bundled checkpoint records of its making.
pub fn provenance(stage: &PretrainStage, seed: u64) -> serde_json::Value {
    serde_json::json!({ "stage": stage, "seed": seed })
}

pub fn bundled(context: &StageContext) -> Result<()> {
    let stage: BundledStage = context.settings()?;
    let base = BUNDLED_BASES.iter().find(|base| base.stage() == stage).ok_or_else(|| {
        Error::model(format!("this touchstone does not carry the base `{}` ({})", stage.name, stage.blake3))
            .hint("run `touchstone reproduce` again: it plans anew")
    })?;
    let files = [("config.json", base.config), ("model.safetensors", base.weights), ("tokenizer.json", base.tokenizer)];
    for (name, bytes) in files {
        let path = context.out().join(name);
        std::fs::write(&path, bytes).context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointStage {
    /// `hf:owner/name@revision`.
    pub source: String,
    /// What the experiment says of it.
    pub shape: DecoderConfig,
}

impl CheckpointStage {
    /// # Errors
    /// A model whose `checkpoint` is a folder or which does not say its `vocab_size`.
    pub fn new(model: &ModelSettings) -> Result<Self> {
        let name = &model.label;
        let source = model.checkpoint.clone().unwrap_or_default();
        if matches!(Source::parse(&source)?, Source::Local(_)) {
            return Err(Error::model(format!("the checkpoint of {name} is `{source}`, which is not on a hub"))
                .hint("write hf:owner/name@revision; HF_ENDPOINT may point to a mirror"));
        }
        let vocabulary = model.vocab_size.ok_or_else(|| {
            Error::model(format!("{name} has a checkpoint and no vocab_size"))
                .hint("its config.json has it; a plan reckons with it before anything is downloaded")
        })?;
        Ok(Self { source, shape: model.config(vocabulary) })
    }
}

/// Names the model folder that a `checkpoint` artifact stands for: copying gigabytes would only fill the disk.
const POINTER: &str = "source.json";

#[derive(Serialize, Deserialize)]
struct Pointer {
    /// At the commit that the revision was at.
    source: String,
    /// blake3 of its config.json.
    config_blake3: String,
}

const MODEL_FILES: [&str; 2] = ["config.json", "model.safetensors"];

/// Fetches a published model and holds it to the shape that the study was planned with.
pub fn published(context: &StageContext) -> Result<()> {
    let stage: CheckpointStage = context.settings()?;
    // A reward model may come without a tokenizer; whoever needs it says so.
    let folder = Source::parse(&stage.source)?.fetch(&MODEL_FILES, &FILES_BESIDE)?;
    let found = Checkpoint::open(&folder)?.config()?;
    // Which tokens begin and end a text is the tokenizer's to say.
    let shape = stage.shape.with_ends(found.bos_token_id(), found.eos_token_id().cloned());
    if found != shape {
        return Err(Error::model(format!("{} is not the model that the experiment describes", stage.source)).hint(
            format!(
                "its config.json says {}; the experiment's [models] table says {}",
                serde_json::json!(found),
                serde_json::json!(shape)
            ),
        ));
    }
    let pointer =
        Pointer { source: at_commit(&stage.source, &folder), config_blake3: hash_of(&folder.join("config.json"))? };
    context.add_source(&pointer.source)?;
    write_json(&context.out().join(POINTER), &pointer)
}

/// `source` with the commit that `folder` of the hub's cache is named after.
fn at_commit(source: &str, folder: &Path) -> String {
    match (source.split_once('@'), folder.file_name().and_then(|name| name.to_str())) {
        (Some((name, _)), Some(commit)) => format!("{name}@{commit}"),
        _ => source.into(),
    }
}

/// The folder of a model's files: the artifact itself, or the one that it points to, fetched again if it is gone.
pub fn model_folder(artifact: PathBuf) -> Result<PathBuf> {
    let pointer = artifact.join(POINTER);
    if !pointer.exists() {
        return Ok(artifact);
    }
    let pointer: Pointer = read_json(&pointer)?;
    let folder = Source::parse(&pointer.source)?.fetch(&MODEL_FILES, &FILES_BESIDE)?;
    if hash_of(&folder.join("config.json"))? != pointer.config_blake3 {
        return Err(Error::model(format!("{} is not what it was when this study began", pointer.source))
            .hint("clear the hub's cache of it and run the command again"));
    }
    Ok(folder)
}

fn hash_of(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomStage {
    pub model: ModelSettings,
    pub generation: GenerationSettings,
    /// Folder with a tokenizer.json, and the hash of its files.
    pub tokenizer: PathBuf,
    pub tokenizer_blake3: String,
}

/// A randomly initialised model with a given tokenizer, for running the stages on real text without a checkpoint.
pub fn random(context: &StageContext) -> Result<()> {
    let stage: RandomStage = context.settings()?;
    let folder = tokenizer_folder(context, &stage.tokenizer, &stage.tokenizer_blake3)?;
    let source = folder.join("tokenizer.json");
    let codec = codec(&folder, &stage.generation)?;
    let config = config_for(&stage.model, &codec);
    codec.check_fits(config.vocab_size())?;
    let mut rng = stream(context.seed()?, "random/initial", &[]);
    let model = LanguageModel::random(&config, stage.model.initializer_range, &mut rng, &device(context)?)?;
    Checkpoint::save_language_model(context.out(), &model, &source, StoredAs::F32)
}

fn codec(folder: &Path, generation: &GenerationSettings) -> Result<Codec> {
    Codec::open(folder, generation.max_prompt_tokens, generation.max_response_tokens)
}

fn save_tokenizer(tokenizer: &Tokenizer, folder: &Path) -> Result<PathBuf> {
    let path = folder.join("tokenizer.json");
    tokenizer
        .save(&path, true)
        .map_err(|cause| Error::files(format!("cannot write {}", path.display())).caused_by(cause))?;
    Ok(path)
}

fn config_for(model: &ModelSettings, codec: &Codec) -> DecoderConfig {
    let ends = match codec.ends().ids() {
        [one] => TokenIds::One(*one),
        several => TokenIds::Several(several.to_vec()),
    };
    let (bos_token_id, eos_token_id) = (Some(codec.eos), Some(ends));
    let vocab_size = model.vocab_size.unwrap_or(codec.vocabulary_size());
    model.config(vocab_size).with_ends(bos_token_id, eos_token_id)
}
