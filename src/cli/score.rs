//! `touchstone score` and `touchstone generate`: any model folder on any file of rows, alone.

use super::rows::{self as input_rows, Row};
use crate::data::codec::END_OF_TEXT;
use crate::data::hub::Source;
use crate::data::rows;
use crate::model::checkpoint::Checkpoint;
use crate::model::generate::generate as sample;
use crate::model::weights::host;
use crate::model::{Batch, GptNeoXConfig, Sampling, Sequence};
use crate::rng::stream;
use crate::{Error, Result, device};
use clap::{Args, ValueEnum};
use std::cell::OnceCell;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// Folder with config.json, model.safetensors, and tokenizer.json where rows hold text; or hf:owner/name@revision
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Rows (jsonl, json, csv, tsv or parquet): "prompt" and "response" as text, or "prompt_ids" and "response_ids" as tokens
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where the rows go, one JSON object a line: as they were, with the computed keys in the place of their names or behind
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Rows per forward pass; changes speed and memory, not results
    #[arg(long, value_name = "N", default_value = "32")]
    batch: NonZeroUsize,
    /// Where tensors are computed: flex, libtorch, libtorch:cuda:N or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "flex", env = "TOUCHSTONE_DEVICE")]
    device: String,
}

impl ModelArgs {
    /// The model's folder; one on a hub is fetched, with the files of `optional` that it has.
    fn open(&self, optional: &[&str]) -> Result<Checkpoint> {
        Checkpoint::open(Source::parse(&self.model)?.fetch(&["config.json", "model.safetensors"], optional)?)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Log-probabilities of the response tokens.
    Lm,
    /// The scalar of a reward model.
    Reward,
}

#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model folder holds
    #[arg(long, value_enum, default_value = "lm")]
    kind: Kind,
}

#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// 0 takes the most likely token
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Keep the smallest set of tokens with this much probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    #[arg(long, value_name = "N", default_value = "53")]
    max_new_tokens: NonZeroUsize,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Adds `logprob` and `token_logprobs` (kind lm), or `reward` and `raw_reward` (kind reward) to every row.
pub fn score(args: &ScoreArgs) -> Result<()> {
    let ModelArgs { input, output, batch, device, .. } = &args.model;
    let device = device::select(device)?;
    let checkpoint = match args.kind {
        Kind::Lm => args.model.open(&["tokenizer.json"])?,
        Kind::Reward => args.model.open(&["tokenizer.json", "reward.json"])?,
    };
    let config = checkpoint.config()?;
    let reader = Reader::new(&checkpoint, config.vocab_size, input);
    let mut rows = reader.rows(&["prompt", "response"])?;
    let sequences = rows.iter().enumerate().map(|(i, row)| reader.sequence(i, row)).collect::<Result<Vec<_>>>()?;
    fit(sequences.iter().map(Sequence::len), &config, &reader, "shorten the row")?;
    match args.kind {
        Kind::Lm => {
            let model = checkpoint.language_model(&device)?;
            for (rows, sequences) in rows.chunks_mut(batch.get()).zip(sequences.chunks(batch.get())) {
                let batch = Batch::new(sequences, &device);
                let log_probs = host(model.response_log_probs(&batch, 1.0));
                for (index, row) in rows.iter_mut().enumerate() {
                    let start = index * batch.response_width;
                    let own = &log_probs[start..start + batch.response_lengths[index]];
                    row.other.insert("logprob".into(), own.iter().map(|p| f64::from(*p)).sum::<f64>().into());
                    row.other.insert("token_logprobs".into(), own.into());
                }
            }
        }
        Kind::Reward => {
            let (model, normalisation) = checkpoint.reward_model(&device)?;
            for (rows, sequences) in rows.chunks_mut(batch.get()).zip(sequences.chunks(batch.get())) {
                let scores = host(model.scores(&Batch::new(sequences, &device)));
                for (row, score) in rows.iter_mut().zip(scores) {
                    row.other.insert("reward".into(), normalisation.apply(score).into());
                    row.other.insert("raw_reward".into(), score.into());
                }
            }
        }
    }
    rows::write(output, &rows)
}

/// Adds `response_ids`, `ended` and, where there is a tokenizer, `response` to every row's prompt.
pub fn generate(args: &GenerateArgs) -> Result<()> {
    let ModelArgs { model, input, output, batch, device } = &args.model;
    if !(args.temperature >= 0.0 && args.temperature.is_finite() && args.top_p > 0.0 && args.top_p <= 1.0) {
        return Err(Error::configuration(format!("temperature {} with top-p {}", args.temperature, args.top_p))
            .hint("give a temperature of 0 or more and a top-p above 0, at most 1"));
    }
    let device = device::select(device)?;
    let checkpoint = args.model.open(&["tokenizer.json"])?;
    let config = checkpoint.config()?;
    let reader = Reader::new(&checkpoint, config.vocab_size, input);
    let mut rows = reader.rows(&["prompt"])?;
    let prompts = rows
        .iter()
        .enumerate()
        .map(|(index, row)| reader.ids(index, "prompt", row.prompt.as_deref(), row.prompt_ids.as_deref(), false))
        .collect::<Result<Vec<_>>>()?;
    let most = args.max_new_tokens.get();
    fit(prompts.iter().map(|ids| ids.len() + most), &config, &reader, "lower --max-new-tokens or shorten the prompt")?;
    let named = reader.tokenizer.as_ref().ok().and_then(|tokenizer| tokenizer.token_to_id(END_OF_TEXT));
    let eos = config.eos_token_id.or(named).ok_or_else(|| {
        Error::model(format!(
            "{}: neither config.json nor the tokenizer names an end-of-sequence token",
            model.display()
        ))
        .hint("set eos_token_id in config.json")
    })?;
    let sampling = Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        max_new_tokens: args.max_new_tokens.get(),
        eos,
        batch_size: batch.get(),
    };
    let model = checkpoint.language_model(&device)?;
    let stream = |item: usize| stream(args.seed, "generate", &[item as u64]);
    let responses = sample(&model, &prompts, &sampling, stream, |_| {});
    for (row, response) in rows.iter_mut().zip(responses) {
        row.response = match &reader.tokenizer {
            Ok(tokenizer) => Some(
                tokenizer
                    .decode(&response.ids, true)
                    .map_err(|cause| Error::data("the tokenizer cannot decode what was sampled").caused_by(cause))?,
            ),
            Err(_) => None,
        };
        row.other.insert("ended".into(), response.ended.into());
        row.response_ids = Some(response.ids);
    }
    rows::write(output, &rows)
}

/// Errors on a row of more tokens than the model has positions: it was never trained there, and what it says is noise.
fn fit(lengths: impl Iterator<Item = usize>, config: &GptNeoXConfig, reader: &Reader, remedy: &str) -> Result<()> {
    let most = config.max_position_embeddings;
    match lengths.enumerate().find(|(_, length)| *length > most) {
        None => Ok(()),
        Some((row, length)) => Err(Error::data(format!(
            "{}: {length} tokens are too many for the model's {most} positions",
            reader.place(row)
        ))
        .hint(remedy)),
    }
}

/// Turns rows into tokens; a missing tokenizer matters only where a row holds text.
struct Reader<'a> {
    input: &'a Path,
    /// Of the rows, as errors name them.
    places: OnceCell<Vec<String>>,
    vocabulary: usize,
    tokenizer: Result<Tokenizer>,
}

impl<'a> Reader<'a> {
    fn new(checkpoint: &Checkpoint, vocabulary: usize, input: &'a Path) -> Self {
        Self { input, places: OnceCell::new(), vocabulary, tokenizer: checkpoint.tokenizer() }
    }

    /// All rows, each with text or tokens for every one of `needed`.
    fn rows(&self, needed: &[&str]) -> Result<Vec<Row>> {
        let rows = input_rows::read(self.input, needed)?;
        self.places.get_or_init(|| rows.iter().map(|row| row.place.clone()).collect());
        Ok(rows)
    }

    fn place(&self, index: usize) -> &str {
        self.places.get().and_then(|places| places.get(index)).map_or("", String::as_str)
    }

    /// Text is a prompt followed by a response that ends with the end-of-sequence token; tokens are taken as they are.
    fn sequence(&self, index: usize, row: &Row) -> Result<Sequence> {
        let prompt = self.ids(index, "prompt", row.prompt.as_deref(), row.prompt_ids.as_deref(), false)?;
        let response = self.ids(index, "response", row.response.as_deref(), row.response_ids.as_deref(), true)?;
        Ok(Sequence::new(prompt, response))
    }

    fn ids(&self, index: usize, side: &str, text: Option<&str>, ids: Option<&[u32]>, ended: bool) -> Result<Vec<u32>> {
        let place = self.place(index);
        let ids = match (ids, text) {
            (Some(ids), _) => ids.to_vec(),
            (None, Some(text)) => {
                let tokenizer = match &self.tokenizer {
                    Ok(tokenizer) => tokenizer,
                    Err(_) => {
                        return Err(Error::data(format!(
                            "{place}: {side} is text, but the model folder has no tokenizer"
                        ))
                        .hint(format!("add tokenizer.json to the folder, or give {side}_ids")));
                    }
                };
                let encoding = tokenizer.encode_fast(text, false).map_err(|cause| {
                    Error::data(format!("{place}: the tokenizer cannot encode the {side}")).caused_by(cause)
                })?;
                let end = ended.then(|| tokenizer.token_to_id(END_OF_TEXT)).flatten();
                encoding.get_ids().iter().copied().chain(end).collect()
            }
            (None, None) => {
                return Err(Error::data(format!("{place}: no {side}"))
                    .hint(format!("a row needs \"{side}\" (text) or \"{side}_ids\" (tokens)")));
            }
        };
        if ids.is_empty() {
            return Err(Error::data(format!("{place}: the {side} is empty"))
                .hint("give at least one token, for example the end-of-text token"));
        }
        match ids.iter().find(|id| **id as usize >= self.vocabulary) {
            Some(id) => {
                Err(Error::data(format!("{place}: token {id} is outside the vocabulary of {}", self.vocabulary))
                    .hint("the ids belong to another tokenizer"))
            }
            None => Ok(ids),
        }
    }
}
