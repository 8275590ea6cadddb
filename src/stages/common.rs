//! Functions that stages share: device, monitor, models and rows of inputs, files of an artifact.

use super::checkpoint::model_folder;
use super::work::Work;
use crate::data::TextEncoder;
use crate::data::contents::TokenizerFolder;
use crate::data::rows::{self, Demonstration, ResponsePair};
use crate::data::split::Prompts;
use crate::device::DeviceSpec;
use crate::experiment::GenerationSettings;
use crate::methods::optimise::Monitor;
use crate::methods::training::{Dtype, Training};
use crate::model::checkpoint::{Checkpoint, Normalisation};
use crate::model::generate::generate;
use crate::model::tokenizer::{CONFIG, GENERATION_CONFIG};
use crate::model::weights::StoredAs;
use crate::model::{Generated, LanguageModel, Pair, Passes, RewardModel, Sampling, Sequence};
use crate::pipeline::{StageContext, StageKey};
use crate::tasks::{Task, TaskSettings};
use crate::{Context, Error, Result, device};
use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A monitor that reports a training loop to the pipeline.
pub struct Watch<'a>(pub &'a StageContext);

impl Monitor for Watch<'_> {
    fn progress(&self, done: usize, total: usize, note: &str) {
        self.0.progress(done as u64, total as u64, note);
    }

    fn passes(&self, passes: Passes) {
        count(self.0, passes);
    }

    fn note(&self, text: &str) {
        // A failure to write is ignored: standard error may be closed.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn checkpoint_folder(&self) -> Option<PathBuf> {
        Some(self.0.scratch().to_path_buf())
    }

    fn cost(&self) -> serde_json::Value {
        serde_json::json!(self.0.cost())
    }

    fn resumed(&self, cost: serde_json::Value) {
        // If a checkpoint's cost is unreadable, the cost table merely underestimates this stage.
        if let Ok(cost) = serde_json::from_value(cost) {
            self.0.resume(cost);
        }
    }
}

/// `training` with micro-batches of as many rows (or pairs) as fit into the memory that the stage
/// may use.
///
/// # Errors
/// Memory that is too small even for one row.
pub fn within_memory(context: &StageContext, training: &Training, work: &Work) -> Result<Training> {
    let Some(limit) = context.memory else {
        return Ok(training.clone());
    };
    let backend = spec(context)?.profile();
    let micro_batch = work.micro_batch(limit, backend).ok_or_else(|| {
        let gib = |bytes: f64| bytes / (1u64 << 30) as f64;
        Error::memory(format!(
            "this stage needs {:.1} GiB even one row at a time, and may fill {:.1} GiB",
            gib(work.memory(1, backend).total()),
            gib(limit as f64)
        ))
        .hint("`touchstone plan` with the same words says which switch makes it fit")
    })?;
    Ok(Training {
        micro_batch: Some(micro_batch),
        ..training.clone()
    })
}

/// Adds `passes` to the cost of the stage.
pub fn count(context: &StageContext, passes: Passes) {
    context.add_tokens(passes.tokens as u64);
    context.add_flops(passes.flops);
}

pub fn device(context: &StageContext) -> Result<Device> {
    device::select(spec(context)?)
}

/// The device on which the stage was started to compute.
fn spec(context: &StageContext) -> Result<DeviceSpec> {
    context.device.parse()
}

/// The input `role`, which the stage's settings require.
pub fn needed<'k>(
    input: &'k Option<StageKey>,
    role: &str,
    context: &StageContext,
) -> Result<&'k StageKey> {
    input.as_ref().ok_or_else(|| {
        let roles: Vec<_> = context.spec.inputs.keys().map(String::as_str).collect();
        Error::store(format!("stage `{}` has no input `{role}`", context.label))
            .hint(format!("its inputs are: {}", roles.join(", ")))
    })
}

/// The model folder of an input, or the published folder that the input points to.
pub fn checkpoint(context: &StageContext, input: &StageKey) -> Result<Checkpoint> {
    Checkpoint::open(model_folder(context.artifact(input)?)?)
}

pub fn language_model(context: &StageContext, input: &StageKey) -> Result<LanguageModel> {
    checkpoint(context, input)?.language_model(&device(context)?)
}

/// A read-only model, held in `dtype`.
pub fn frozen(context: &StageContext, input: &StageKey, dtype: Dtype) -> Result<LanguageModel> {
    checkpoint(context, input)?.frozen_language_model(dtype.float(), &device(context)?)
}

/// A read-only reward model, held in `dtype`.
pub fn frozen_reward(
    context: &StageContext,
    input: &StageKey,
    dtype: Dtype,
) -> Result<(RewardModel, Normalisation)> {
    checkpoint(context, input)?.frozen_reward_model(dtype.float(), &device(context)?)
}

/// A private copy of the tokenizer's folder that the stage was planned with, so that only bytes
/// that were hashed are read. The files are recorded as sources.
///
/// # Errors
/// Files whose hash differs from `planned`.
pub fn tokenizer_folder(context: &StageContext, folder: &Path, planned: &str) -> Result<PathBuf> {
    let files = TokenizerFolder::read(folder)?;
    files.expect(planned)?;
    files
        .records()
        .iter()
        .try_for_each(|record| context.add_source(record))?;
    let copy = context.scratch().join("tokenizer");
    files.copy_to(&copy)?;
    Ok(copy)
}

/// The tokenizer of an input's model, with the study's limits.
pub fn encoder(
    context: &StageContext,
    input: &StageKey,
    generation: &GenerationSettings,
) -> Result<TextEncoder> {
    let checkpoint = checkpoint(context, input)?;
    let tokenizer = checkpoint.tokenizer()?;
    let ends = checkpoint.ends(Some(&tokenizer))?;
    Ok(TextEncoder::with(
        tokenizer,
        ends,
        generation.max_prompt_tokens,
        generation.max_response_tokens,
    ))
}

/// The task `settings` with the tokenizer of an input's model and the study's limits. What the task
/// states for the tokenizer is written into a private copy of its files.
///
/// # Errors
/// A model without a chat template, for a task that needs one.
pub fn task(
    context: &StageContext,
    input: &StageKey,
    generation: &GenerationSettings,
    settings: &TaskSettings,
) -> Result<Box<dyn Task>> {
    let encoder = encoder(context, input, generation)?;
    if settings.is_default() {
        return settings.open(context.scratch(), encoder);
    }
    let checkpoint = checkpoint(context, input)?;
    let folder = context.scratch().join("tokenizer");
    TokenizerFolder::read(checkpoint.folder())?.copy_to(&folder)?;
    for name in [CONFIG, GENERATION_CONFIG] {
        let from = checkpoint.folder().join(name);
        if from.exists() {
            std::fs::copy(&from, folder.join(name))
                .context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    settings.tokenizer().write_into(&folder)?;
    settings
        .open(&folder, encoder)
        .map_err(|error| error.within(&checkpoint.folder().display().to_string()))
}

pub fn sampling(
    encoder: &TextEncoder,
    generation: &GenerationSettings,
    temperature: f32,
) -> Sampling {
    Sampling {
        temperature,
        top_p: 1.0,
        top_k: None,
        max_new_tokens: generation.max_response_tokens,
        ends: encoder.ends().clone(),
        batch_size: generation.batch_size,
    }
}

/// Number of rows whose samples are stored together; a killed stage loses at most these.
const SAMPLES_KEPT_TOGETHER: usize = 256;

/// Samples one response per prompt, item `i` from `stream(i)`, and counts the cost. Samples are
/// kept in scratch, so that a killed stage continues after those it has stored: a response depends
/// only on its own prompt and stream. Each sample is stored with its position; one at another
/// position is drawn again.
pub fn sample(
    context: &StageContext,
    policy: &LanguageModel,
    prompts: &[Vec<u32>],
    sampling: &Sampling,
    stream: impl Fn(usize) -> ChaCha8Rng,
) -> Result<Vec<Generated>> {
    let kept = context.scratch().join("samples.jsonl");
    let mut samples: Vec<Generated> = rows::read_whole(&kept)?;
    samples.truncate(prompts.len());
    while samples.len() < prompts.len() {
        let (first, together) = (
            samples.len(),
            SAMPLES_KEPT_TOGETHER.max(sampling.batch_size),
        );
        let part = &prompts[first..prompts.len().min(first + together)];
        let progress =
            |done| context.progress((first + done) as u64, prompts.len() as u64, "sampling");
        let drawn = generate(
            policy,
            part,
            sampling,
            |item| stream(first + item),
            progress,
        )
        .map_err(|error| {
            error.within(&format!(
                "sampling prompts {} to {}",
                first + 1,
                first + part.len()
            ))
        })?;
        rows::append(&kept, first, &drawn)?;
        samples.extend(drawn);
    }
    let rows = prompts
        .iter()
        .zip(&samples)
        .map(|(prompt, sample)| Sequence::new(prompt.clone(), sample.ids.clone()));
    count(
        context,
        Passes::likelihood(policy.config(), &rows.collect::<Vec<_>>()),
    );
    Ok(samples)
}

/// The demonstrations of an input.
pub fn demonstrations(context: &StageContext, input: &StageKey) -> Result<Vec<Demonstration>> {
    rows::read(&context.artifact(input)?.join("demonstrations.jsonl"))
}

/// The demonstrations of an input, as token ids.
pub fn demonstrated(
    context: &StageContext,
    input: &StageKey,
    encoder: &TextEncoder,
) -> Result<Vec<Sequence>> {
    demonstrations(context, input)?
        .iter()
        .map(|row| encoder.demonstration(row))
        .collect()
}

/// The prompts of demonstrations, as token ids.
pub fn prompts(demonstrations: &[Demonstration], encoder: &TextEncoder) -> Result<Vec<Vec<u32>>> {
    demonstrations
        .iter()
        .map(|row| encoder.prompt(&row.prompt))
        .collect()
}

/// The pairs of `inputs` without those whose two responses are identical, and the share of those
/// left out.
pub fn training_pairs(
    context: &StageContext,
    inputs: &[StageKey],
    encoder: &TextEncoder,
) -> Result<(Vec<Pair>, f64)> {
    training_pairs_without(context, inputs, encoder, &Prompts::default())
}

/// The pairs of `inputs` as [`training_pairs`] returns them, also without those whose prompts are
/// held out.
pub fn training_pairs_without(
    context: &StageContext,
    inputs: &[StageKey],
    encoder: &TextEncoder,
    held_out: &Prompts,
) -> Result<(Vec<Pair>, f64)> {
    let mut all: Vec<ResponsePair> = Vec::new();
    for input in inputs {
        all.extend(rows::read::<ResponsePair>(
            &context.artifact(input)?.join("pairs.jsonl"),
        )?);
    }
    all.retain(|pair| !held_out.contain(&[pair.prompt.as_str()]));
    let identical = all.iter().filter(|pair| pair.is_identical()).count();
    let pairs = all
        .iter()
        .filter(|pair| !pair.is_identical())
        .map(|pair| encoder.pair(pair))
        .collect::<Result<Vec<_>>>()?;
    if pairs.is_empty() {
        return Err(Error::data(
            "every pair holds the same response twice, so nothing can be learned from them",
        )
        .hint("raise the temperature of the negatives, or the number of demonstrations"));
    }
    Ok((pairs, identical as f64 / all.len() as f64))
}

/// Saves a policy with the tokenizer of the input from which it was trained.
pub fn save_policy(context: &StageContext, model: &LanguageModel, from: &StageKey) -> Result<()> {
    let tokenizer = checkpoint(context, from)?.folder().join("tokenizer.json");
    Checkpoint::save_language_model(context.out(), model, &tokenizer, StoredAs::F32)
}

pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let text = serde_json::to_string_pretty(value).context(failed)?;
    std::fs::write(path, text + "\n").context(failed)
}

pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let failed = || format!("cannot read {}", path.display());
    serde_json::from_str(&std::fs::read_to_string(path).context(failed)?).context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DecoderConfig;
    use crate::pipeline::{Graph, Placement, StageSpec, Store, run_stage};
    use crate::rng::stream;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::fs;

    #[test]
    fn sampling_goes_on_behind_what_a_kill_left() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut graph) = (Store::open(folder.path()).unwrap(), Graph::new());
        let (inputs, settings) = (BTreeMap::new(), json!({}));
        let spec = StageSpec {
            kind: "test".into(),
            version: 1,
            settings,
            inputs,
            seed: Some(1),
        };
        let key = graph.add(spec, "sampling", 1.0).unwrap();
        store.plan(&graph).unwrap();
        let config: DecoderConfig = serde_json::from_value(json!({
            "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 64,
        }))
        .unwrap();
        let place = Placement {
            device: device::DEFAULT.to_string(),
            memory: None,
        };
        run_stage(&store, &key, &place, |context| {
            let model = LanguageModel::random(
                &config,
                0.4,
                &mut stream(1, "test/model", &[]),
                &device(context)?,
            )?;
            let prompts: Vec<Vec<u32>> = (0..SAMPLES_KEPT_TOGETHER as u32 + 9)
                .map(|i| vec![2 + i % 5, 3])
                .collect();
            let sampling = Sampling {
                temperature: 1.0,
                top_p: 1.0,
                top_k: None,
                max_new_tokens: 6,
                ends: 1.into(),
                batch_size: 8,
            };
            let draw = || {
                sample(context, &model, &prompts, &sampling, |item| {
                    stream(1, "test/sample", &[item as u64])
                })
            };
            let (whole, kept) = (draw()?, context.scratch().join("samples.jsonl"));
            let text = fs::read_to_string(&kept).unwrap();
            for left in [0, 1, text.len() / 3, text.len() - 1, text.len()] {
                fs::write(&kept, &text[..left]).unwrap();
                assert_eq!(draw()?, whole, "{left} bytes were left");
                assert_eq!(fs::read_to_string(&kept).unwrap(), text);
            }
            // Rows inserted by another writer, and one token replaced by another.
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let mixed = [&lines[..5], &lines[..9], &lines[5..]].concat().concat();
            let turned = text.replacen("\"ids\":[", "\"ids\":[1", 1);
            for other in [mixed, turned] {
                fs::write(&kept, other).unwrap();
                assert_eq!(draw()?, whole);
                assert_eq!(fs::read_to_string(&kept).unwrap(), text);
            }
            Ok(())
        })
        .unwrap();
    }
}
