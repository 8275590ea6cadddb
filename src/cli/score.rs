//! `touchstone score` and `touchstone generate`: run any model folder on any file of rows, without
//! a study.

use super::model::open;
use super::rows::{self as input_rows, Row};
use crate::data::rows;
use crate::model::checkpoint::{Checkpoint, FILES_BESIDE};
use crate::model::generate::generate as sample;
use crate::model::weights::host;
use crate::model::{Batch, DecoderConfig, Ends, ModelTokenizer, Packed, Sampling, Sequence};
use crate::rng::stream;
use crate::tasks::chat::{
    ChatEncoder, ChatRules, ControlNames, Conversation, Loss, SystemRule, TooLong,
};
use crate::{Error, Result, device};
use clap::{Args, ValueEnum};
use std::cell::OnceCell;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// Folder with config.json, model.safetensors, and tokenizer.json where rows hold text; or
    /// hf:owner/name@revision
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Rows (jsonl, json, csv, tsv or parquet): "prompt" and "response" as text, "prompt_ids" and
    /// "response_ids" as tokens, "messages" of a conversation, or to be scored "chosen" and "rejected"
    /// as messages; messages are for a model with a chat template
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where the rows go, one JSON object a line: as they were, with the computed keys in the place
    /// of their names or behind
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Rows per forward pass; changes speed and memory, not results
    #[arg(long, value_name = "N", default_value = "32")]
    batch: NonZeroUsize,
    /// System message of conversations that have none
    #[arg(long, value_enum, default_value = "as-given")]
    system: System,
    /// Where tensors are computed: flex, libtorch, libtorch:cuda:N or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = device::DEFAULT, value_parser = super::device_spec, env = "TOUCHSTONE_DEVICE")]
    device: device::DeviceSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HeadKind {
    /// Log-probabilities of the response tokens.
    Lm,
    /// The scalar of a reward model.
    Reward,
}

/// The treatment of system messages in conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// As it stands in the row, or none.
    AsGiven,
    /// An empty one is put first where there is none.
    EmptyIfAbsent,
    /// An error where there is one.
    Refuse,
}

impl From<System> for SystemRule {
    fn from(system: System) -> Self {
        match system {
            System::AsGiven => Self::AsGiven,
            System::EmptyIfAbsent => Self::EmptyIfAbsent,
            System::Refuse => Self::Refuse,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model folder holds
    #[arg(long, value_enum, default_value = "lm")]
    kind: HeadKind,
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

/// One answer of a row.
struct Answer {
    /// Index of the row.
    row: usize,
    /// The beginning of the names under which its numbers are written: empty for the only answer of
    /// a row.
    prefix: &'static str,
    sequence: Sequence,
}

/// Prefixes of the two answers of a row that compares them.
const SIDES: [&str; 2] = ["chosen_", "rejected_"];

/// Adds `logprob` and `token_logprobs` (kind lm), or `reward` and `raw_reward` (kind reward) to
/// every row; for both answers of a row that compares two, whose agreement is printed.
pub fn score(args: &ScoreArgs) -> Result<()> {
    let ModelArgs {
        input,
        output,
        batch,
        device,
        ..
    } = &args.model;
    super::output::check_file(output)?;
    let device = device::select(device)?;
    let checkpoint = open(&args.model.model, &FILES_BESIDE)?;
    let config = checkpoint.config()?;
    let reader = Reader::new(&checkpoint, &config, args.model.system, input)?;
    let mut rows = reader.rows(&["prompt", "response"])?;
    let answers = rows
        .iter()
        .enumerate()
        .map(|(i, row)| reader.answers(i, row))
        .collect::<Result<Vec<_>>>()?;
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    let lengths = answers
        .iter()
        .map(|answer| (answer.row, answer.sequence.len()));
    fit(lengths, &config, &reader, "shorten the row")?;
    let mut scores = Vec::with_capacity(answers.len());
    match args.kind {
        HeadKind::Lm => {
            let model = checkpoint.language_model(&device)?;
            for answers in answers.chunks(batch.get()) {
                let batch = Batch::new(answers.iter().map(|answer| &answer.sequence), &device);
                let log_probs = host(model.response_log_probs(&batch, 1.0))?;
                for (index, answer) in answers.iter().enumerate() {
                    let start = index * batch.response_width;
                    let own = &log_probs[start..start + batch.response_lengths[index]];
                    if let Some(token) = own.iter().position(|value| !value.is_finite()) {
                        let what = format!(
                            "the log-probability of response token {} is {}",
                            token + 1,
                            own[token]
                        );
                        return Err(not_finite(reader.place(answer.row), &what));
                    }
                    let log_prob = own.iter().map(|p| f64::from(*p)).sum::<f64>();
                    let cells = [("logprob", log_prob.into()), ("token_logprobs", own.into())];
                    rows[answer.row].add(answer.prefix, cells);
                    scores.push(log_prob);
                }
            }
        }
        HeadKind::Reward => {
            let (model, normalisation) = checkpoint.reward_model(&device)?;
            for answers in answers.chunks(batch.get()) {
                let packed = Packed::new(answers.iter().map(|answer| &answer.sequence), &device);
                for (answer, score) in answers.iter().zip(host(model.rewards(&packed))?) {
                    let reward = normalisation.apply(score);
                    if !(score.is_finite() && reward.is_finite()) {
                        let what = format!("the score is {score}, and the reward {reward}");
                        return Err(not_finite(reader.place(answer.row), &what));
                    }
                    let cells = [("reward", reward.into()), ("raw_reward", score.into())];
                    rows[answer.row].add(answer.prefix, cells);
                    scores.push(f64::from(score));
                }
            }
        }
    }
    super::output::write(output, |place| rows::write(place, &rows))?;
    match agreement(&answers, &scores, args.kind) {
        Some(told) => super::print(&told),
        None => Ok(()),
    }
}

/// In how many rows the chosen answer has the higher of `scores`; `None` if no row compares two
/// answers.
fn agreement(answers: &[Answer], scores: &[f64], kind: HeadKind) -> Option<String> {
    let of = |side: &'static str| {
        let scored = answers.iter().zip(scores);
        scored.filter(move |(answer, _)| answer.prefix == side)
    };
    let pairs: Vec<(f64, f64)> = of(SIDES[0])
        .zip(of(SIDES[1]))
        .map(|((_, chosen), (_, rejected))| (*chosen, *rejected))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let count = |holds: fn(&(f64, f64)) -> bool| pairs.iter().filter(|pair| holds(pair)).count();
    let (higher, equal) = (
        count(|pair| pair.0 > pair.1),
        count(|pair| pair.0 == pair.1),
    );
    let what = match kind {
        HeadKind::Lm => "log-probability",
        HeadKind::Reward => "reward",
    };
    Some(format!(
        "{what} of `chosen` above that of `rejected` in {higher} of {} rows ({:.1} %), equal in {equal}\n",
        pairs.len(),
        100.0 * higher as f64 / pairs.len() as f64
    ))
}

/// The error for a number, computed for the row at `place`, that is not finite.
fn not_finite(place: &str, what: &str) -> Error {
    Error::divergence(format!("{place}: {what}"))
        .hint("the model computes numbers that are too large or undefined; take another checkpoint")
}

/// Adds `response_ids`, `ended` and, if there is a tokenizer, `response` to every row's prompt.
pub fn generate(args: &GenerateArgs) -> Result<()> {
    let ModelArgs {
        model,
        input,
        output,
        batch,
        device,
        system,
    } = &args.model;
    if !(args.temperature >= 0.0
        && args.temperature.is_finite()
        && args.top_p > 0.0
        && args.top_p <= 1.0)
    {
        return Err(Error::configuration(format!(
            "temperature {} with top-p {}",
            args.temperature, args.top_p
        ))
        .hint("give a temperature of 0 or more and a top-p above 0, at most 1"));
    }
    super::output::check_file(output)?;
    let device = device::select(device)?;
    let checkpoint = open(model, &FILES_BESIDE)?;
    let config = checkpoint.config()?;
    let reader = Reader::new(&checkpoint, &config, *system, input)?;
    let mut rows = reader.rows(&["prompt"])?;
    let prompts = rows
        .iter()
        .enumerate()
        .map(|(i, row)| reader.prompt(i, row))
        .collect::<Result<Vec<_>>>()?;
    let most = args.max_new_tokens.get();
    let lengths = prompts.iter().map(|ids| ids.len().saturating_add(most));
    let lengths = lengths.enumerate();
    fit(
        lengths,
        &config,
        &reader,
        "lower --max-new-tokens or shorten the prompt",
    )?;
    let ends = checkpoint.ends(reader.tokenizer.as_ref())?;
    let sampling = Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: None,
        max_new_tokens: args.max_new_tokens.get(),
        ends: ends.clone(),
        batch_size: batch.get(),
    };
    let model = checkpoint.language_model(&device)?;
    let stream = |item: usize| stream(args.seed, "generate", &[item as u64]);
    let responses = sample(&model, &prompts, &sampling, stream, |_| {})
        .map_err(|error| error.within(&input.display().to_string()))?;
    for (row, response) in rows.iter_mut().zip(responses) {
        row.response = reader
            .tokenizer
            .as_ref()
            .map(|tokenizer| tokenizer.decode_response(&response.ids, &ends))
            .transpose()?;
        row.other.insert("ended".into(), response.ended.into());
        row.response_ids = Some(response.ids);
    }
    super::output::write(output, |place| rows::write(place, &rows))
}

/// Refuses a row with more tokens than the model has positions: the model was not trained there,
/// and its output is noise. The lengths stand beside the indices of their rows.
fn fit(
    mut lengths: impl Iterator<Item = (usize, usize)>,
    config: &DecoderConfig,
    reader: &Reader,
    remedy: &str,
) -> Result<()> {
    let most = config.sizes().positions;
    match lengths.find(|(_, length)| *length > most) {
        None => Ok(()),
        Some((row, length)) => Err(Error::data(format!(
            "{}: {length} tokens are too many for the model's {most} positions",
            reader.place(row)
        ))
        .hint(remedy)),
    }
}

/// The prompt or the response of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Prompt,
    Response,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Response => "response",
        }
    }
}

/// Converts rows into tokens; a missing tokenizer matters only if a row holds text.
struct Reader<'a> {
    input: &'a Path,
    /// Places of the rows, as named in errors.
    places: OnceCell<Vec<String>>,
    vocabulary: usize,
    tokenizer: Option<ModelTokenizer>,
    checkpoint: &'a Checkpoint,
    /// Read when a response is text.
    ends: OnceCell<Ends>,
    chat_rules: ChatRules,
    /// Read when a row is a conversation.
    chat: OnceCell<ChatEncoder>,
}

impl<'a> Reader<'a> {
    fn new(
        checkpoint: &'a Checkpoint,
        config: &DecoderConfig,
        system: System,
        input: &'a Path,
    ) -> Result<Self> {
        let chat_rules = ChatRules {
            system: system.into(),
            loss: Loss::LastTurn,
            control_names: ControlNames::Text,
            max_tokens: config.sizes().positions,
            too_long: TooLong::Refuse,
        };
        Ok(Self {
            input,
            places: OnceCell::new(),
            vocabulary: config.vocab_size(),
            tokenizer: checkpoint.optional_tokenizer()?,
            checkpoint,
            ends: OnceCell::new(),
            chat_rules,
            chat: OnceCell::new(),
        })
    }

    /// Reads all rows, each with text or tokens for every one of `needed`.
    fn rows(&self, needed: &[&str]) -> Result<Vec<Row>> {
        let rows = input_rows::read(self.input, needed)?;
        self.places
            .get_or_init(|| rows.iter().map(|row| row.place.clone()).collect());
        Ok(rows)
    }

    fn place(&self, index: usize) -> &str {
        self.places
            .get()
            .and_then(|places| places.get(index))
            .map_or("", String::as_str)
    }

    /// The answers of a row: the two that it compares, or its response.
    fn answers(&self, index: usize, row: &Row) -> Result<Vec<Answer>> {
        let Some(pair) = &row.pair else {
            return Ok(vec![Answer {
                row: index,
                prefix: "",
                sequence: self.sequence(index, row)?,
            }]);
        };
        let answer = |(prefix, conversation): (&'static str, &Conversation)| {
            Ok(Answer {
                row: index,
                prefix,
                sequence: self.conversation(index, conversation)?,
            })
        };
        let sides = SIDES.into_iter().zip([&pair.chosen, &pair.rejected]);
        sides.map(answer).collect()
    }

    /// The tokens of a conversation before its last answer, and those of that answer.
    fn conversation(&self, index: usize, conversation: &Conversation) -> Result<Sequence> {
        let Sequence { prompt, response } = self.chat(conversation)?.sequence(conversation)?;
        Ok(Sequence::new(
            self.known(index, prompt)?,
            self.known(index, response)?,
        ))
    }

    /// The tokens of a row's prompt and response. Text is a prompt followed by a response that ends
    /// with one end-of-sequence token; tokens are used as they are; the response of a conversation
    /// is its last message.
    fn sequence(&self, index: usize, row: &Row) -> Result<Sequence> {
        if let Some(conversation) = &row.conversation {
            return self.conversation(index, conversation);
        }
        let prompt = self.ids(
            index,
            Side::Prompt,
            row.prompt.as_deref(),
            row.prompt_ids.as_deref(),
        )?;
        let response = self.ids(
            index,
            Side::Response,
            row.response.as_deref(),
            row.response_ids.as_deref(),
        )?;
        Ok(Sequence::new(prompt, response))
    }

    /// The tokens for which a response is generated.
    fn prompt(&self, index: usize, row: &Row) -> Result<Vec<u32>> {
        match &row.conversation {
            Some(conversation) => self.known(index, self.chat(conversation)?.prompt(conversation)?),
            None => self.ids(
                index,
                Side::Prompt,
                row.prompt.as_deref(),
                row.prompt_ids.as_deref(),
            ),
        }
    }

    /// The encoder of conversations.
    fn chat(&self, conversation: &Conversation) -> Result<&ChatEncoder> {
        if let Some(chat) = self.chat.get() {
            return Ok(chat);
        }
        let opened = ChatEncoder::open(self.checkpoint.folder(), self.chat_rules);
        let chat = opened.map_err(|error| error.within(conversation.place()))?;
        Ok(self.chat.get_or_init(|| chat))
    }

    /// The tokens `ids` of a row; an error if one has no row in the embedding.
    fn known(&self, index: usize, ids: Vec<u32>) -> Result<Vec<u32>> {
        match ids.iter().find(|id| **id as usize >= self.vocabulary) {
            Some(id) => Err(Error::data(format!(
                "{}: token {id} is outside the vocabulary of {}",
                self.place(index),
                self.vocabulary
            ))
            .hint("the ids belong to another tokenizer")),
            None => Ok(ids),
        }
    }

    /// The tokens that end a text of this model.
    fn ends(&self) -> Result<&Ends> {
        if let Some(ends) = self.ends.get() {
            return Ok(ends);
        }
        let ends = self.checkpoint.ends(self.tokenizer.as_ref())?;
        Ok(self.ends.get_or_init(|| ends))
    }

    fn ids(
        &self,
        index: usize,
        side: Side,
        text: Option<&str>,
        ids: Option<&[u32]>,
    ) -> Result<Vec<u32>> {
        let (place, name) = (self.place(index), side.name());
        let ids = match (ids, text) {
            (Some(ids), None) => ids.to_vec(),
            (given, Some(text)) => {
                let Some(tokenizer) = &self.tokenizer else {
                    return Err(Error::data(format!("{place}: {name} is text, but the model folder has no tokenizer"))
                        .hint(match given {
                            None => format!("add tokenizer.json to the folder, or give {name}_ids"),
                            Some(_) => format!(
                                "it cannot be compared with {name}_ids: add tokenizer.json to the folder, or remove {name}"
                            ),
                        }));
                };
                let encoded = match side {
                    Side::Prompt => tokenizer.encode(text),
                    Side::Response => tokenizer.encode_ended(text, self.ends()?),
                };
                match given {
                    None => encoded.map_err(|error| error.within(&format!("{place}, {name}")))?,
                    Some(ids) => {
                        self.check_agreement(place, side, (text, encoded.ok()), ids, tokenizer)?;
                        ids.to_vec()
                    }
                }
            }
            (None, None) => {
                return Err(Error::data(format!("{place}: no {name}")).hint(format!(
                    "a row needs \"{name}\" (text) or \"{name}_ids\" (tokens)"
                )));
            }
        };
        if ids.is_empty() {
            return Err(Error::data(format!("{place}: the {name} is empty"))
                .hint("give at least one token, for example the end-of-text token"));
        }
        self.known(index, ids)
    }

    /// Refuses `ids` that do not agree with the text beside them. They agree if they are the tokens
    /// of the text, with or without an end, or if they are sampled tokens that decode to the text:
    /// a text may be written in more than one way.
    fn check_agreement(
        &self,
        place: &str,
        side: Side,
        (text, encoded): (&str, Option<Vec<u32>>),
        ids: &[u32],
        tokenizer: &ModelTokenizer,
    ) -> Result<()> {
        let no_ends = Ends::from(u32::MAX);
        let ends = if side == Side::Response {
            self.ends()?
        } else {
            &no_ends
        };
        fn body<'i>(ids: &'i [u32], ends: &Ends) -> &'i [u32] {
            match ids.split_last() {
                Some((last, body)) if ends.contains(*last) => body,
                _ => ids,
            }
        }
        let same = encoded
            .as_ref()
            .is_some_and(|encoded| body(encoded, ends) == body(ids, ends));
        let known = ids.iter().all(|id| (*id as usize) < self.vocabulary);
        if same
            || (known && tokenizer.decode_response(ids, ends)? == tokenizer.without_end(text, ends))
        {
            return Ok(());
        }
        let name = side.name();
        let tokens = encoded.map_or("no tokens of this tokenizer".into(), |ids| {
            format!("{} tokens", ids.len())
        });
        Err(Error::data(format!(
            "{place}: {name} and {name}_ids disagree: the text makes {tokens}, and {} ids are given",
            ids.len()
        ))
        .hint(format!("remove {name} or {name}_ids; ids of another tokenizer have to be made anew")))
    }
}
