//! The base model: pre-trained on the embedded world, taken from the checkpoints that come with touchstone, or random.

use super::common::{TRAINING, Watch, WorldAt, count_flops, device, write_json};
use crate::data::Codec;
use crate::eval::copying::slot_accuracy;
use crate::experiment::{GenerationSettings, ModelSettings};
use crate::methods::pretrain::PretrainSettings;
use crate::methods::training::Training;
use crate::model::checkpoint::Checkpoint;
use crate::model::weights::StoredAs;
use crate::model::{GptNeoXConfig, LanguageModel, Sequence};
use crate::pipeline::StageContext;
use crate::rng::stream;
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

pub const PRETRAIN: &str = "pretrain";
pub const BUNDLED: &str = "bundled";
pub const RANDOM: &str = "random";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainStage {
    pub world: WorldAt,
    pub model: ModelSettings,
    pub generation: GenerationSettings,
    pub pretrain: PretrainSettings,
}

/// Pre-trains on posts with summaries by authors of every quality, and refuses to publish a base that cannot copy.
/// Published in f16, as Pythia is, so that the checkpoints that come with touchstone are small.
pub fn pretrain(context: &StageContext) -> Result<()> {
    let stage: PretrainStage = context.settings()?;
    let (world, seed) = (stage.world.open()?, context.seed()?);
    let tokenizer = save_tokenizer(&world.tokenizer()?, context.out())?;
    let codec = codec(&tokenizer, &stage.generation)?;
    let config = config(&stage.model, &codec);
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
    let (training, watch) = (Training::default(), Watch(context));
    let (model, losses) = crate::methods::pretrain::pretrain(model, &stage.pretrain, &training, seed, text, &watch)?;
    Checkpoint::save_language_model(context.out(), &model, &tokenizer, StoredAs::F16)?;

    let slots = slot_accuracy(&model, &world, &codec)?;
    write_json(&context.out().join("curve.json"), &serde_json::json!({ "loss": losses, "slots": slots }))?;
    count_flops(context, &config, TRAINING);
    let worst = slots.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((slot, accuracy)) = worst.filter(|(_, accuracy)| *accuracy < stage.pretrain.copy_gate) {
        let all: Vec<String> = slots.iter().map(|(name, accuracy)| format!("{name} {accuracy:.2}")).collect();
        return Err(Error::new(format!(
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

static BUNDLED_BASES: [BundledBase; 2] = [bundled_base!("mini-1b"), bundled_base!("mini-2.8b")];

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
        Error::new(format!("this touchstone does not carry the base `{}` ({})", stage.name, stage.blake3))
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
pub struct RandomStage {
    pub model: ModelSettings,
    pub generation: GenerationSettings,
    /// Folder with a tokenizer.json, and the blake3 of that file.
    pub tokenizer: PathBuf,
    pub tokenizer_blake3: String,
}

/// A randomly initialised model with a given tokenizer, for running the stages on real text without a checkpoint.
pub fn random(context: &StageContext) -> Result<()> {
    let stage: RandomStage = context.settings()?;
    let source = stage.tokenizer.join("tokenizer.json");
    let config = config(&stage.model, &codec(&source, &stage.generation)?);
    let mut rng = stream(context.seed()?, "random/initial", &[]);
    let model = LanguageModel::random(&config, stage.model.initializer_range, &mut rng, &device(context)?)?;
    Checkpoint::save_language_model(context.out(), &model, &source, StoredAs::F32)
}

fn codec(tokenizer: &Path, generation: &GenerationSettings) -> Result<Codec> {
    let read = Tokenizer::from_file(tokenizer)
        .map_err(|cause| Error::new(format!("cannot read the tokenizer {}", tokenizer.display())).caused_by(cause))?;
    Codec::new(read, generation.max_prompt_tokens, generation.max_response_tokens)
}

fn save_tokenizer(tokenizer: &Tokenizer, folder: &Path) -> Result<PathBuf> {
    let path = folder.join("tokenizer.json");
    tokenizer
        .save(&path, true)
        .map_err(|cause| Error::new(format!("cannot write {}", path.display())).caused_by(cause))?;
    Ok(path)
}

fn config(model: &ModelSettings, codec: &Codec) -> GptNeoXConfig {
    GptNeoXConfig {
        vocab_size: codec.vocabulary_size(),
        hidden_size: model.hidden_size,
        num_hidden_layers: model.num_hidden_layers,
        num_attention_heads: model.num_attention_heads,
        intermediate_size: model.intermediate_size,
        hidden_act: "gelu".into(),
        rotary_pct: model.rotary_pct,
        rotary_emb_base: model.rotary_emb_base,
        max_position_embeddings: model.max_position_embeddings,
        layer_norm_eps: model.layer_norm_eps,
        use_parallel_residual: model.use_parallel_residual,
        tie_word_embeddings: model.tie_word_embeddings,
        bos_token_id: Some(codec.eos),
        eos_token_id: Some(codec.eos),
    }
}
