//! `touchstone eval mt-bench answers`: a model's answers in FastChat's format.

use crate::benchmarks::mt_bench::answers::{Answerer, Answering, ERROR_ANSWER};
use crate::benchmarks::mt_bench::questions::{self, AnswerRow, Question};
use crate::cli::eval::progress::Progress;
use crate::cli::{model, output};
use crate::data::rows;
use crate::model::checkpoint::{Checkpoint, FILES_BESIDE};
use crate::{Context, Error, Result, device, files};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct AnswersArgs {
    /// Folder with config.json, weights and tokenizer.json; or hf:owner/name@revision
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// FastChat's question.jsonl
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// Template of the conversation: tokenizer (the model's own), or FastChat's zephyr, mistral,
    /// llama-2, tulu or vicuna_v1.1
    #[arg(long, value_name = "NAME")]
    template: String,
    /// Where the answers go; an interrupted run goes on from the file beside it that ends in .part
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Name of the model in the answers; the name of the output file unless given
    #[arg(long, value_name = "NAME")]
    model_id: Option<String>,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value = "1024")]
    max_new_tokens: NonZeroUsize,
    /// Tokens that sampling chooses from, as in transformers' default; 0 for all
    #[arg(long, value_name = "K", default_value_t = 50)]
    top_k: usize,
    /// Nucleus mass of sampling
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Seed of the answers that are drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Questions answered at once; changes speed and memory, not results
    #[arg(long, value_name = "N", default_value = "8")]
    batch: NonZeroUsize,
    /// Where tensors are computed: flex, libtorch, libtorch:cuda:N or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = device::DEFAULT, value_parser = crate::cli::device_spec, env = "TOUCHSTONE_DEVICE")]
    device: device::DeviceSpec,
}

/// Answers all questions, those of one temperature together, and writes the file when all are
/// there.
///
/// # Errors
/// Files that cannot be read or written, an earlier run with other settings, and those of the model.
pub fn run(args: &AnswersArgs) -> Result<()> {
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return Err(Error::configuration(format!("top-p {}", args.top_p))
            .hint("give a number above 0, at most 1"));
    }
    output::check_file(&args.output)?;
    let questions = questions::read(&args.questions)?;
    let model_id = match &args.model_id {
        Some(name) => name.clone(),
        None => super::super::stem(&args.output)?,
    };
    let settings = Answering {
        max_new_tokens: args.max_new_tokens.get(),
        top_k: NonZeroUsize::new(args.top_k),
        top_p: args.top_p,
        seed: args.seed,
        batch_size: args.batch.get(),
    };
    let device = device::select(args.device)?;
    let checkpoint = model::open(&args.model, &FILES_BESIDE)?;
    let identity = identity(args, &settings, &model_id, &checkpoint)?;
    let mut work = Work::open(&args.output, &identity)?;
    let mut counted = Progress::new("questions answered", questions.len());
    counted.set(work.rows.len());
    let open: Vec<Question> = questions
        .iter()
        .filter(|question| !work.rows.contains_key(&question.question_id))
        .cloned()
        .collect();
    if !open.is_empty() {
        let model = checkpoint.language_model(&device)?;
        let answerer = Answerer::open(&checkpoint, &args.template, model)?;
        for group in groups(&open, settings.batch_size) {
            work.add(answerer.answer(&group, &model_id, &settings)?)?;
            counted.set(work.rows.len());
        }
    }
    drop(counted);
    work.finish(&args.output)
}

/// Questions of one temperature, in groups of at most `size`.
fn groups(questions: &[Question], size: usize) -> Vec<Vec<&Question>> {
    let mut by_temperature: BTreeMap<u32, Vec<&Question>> = BTreeMap::new();
    for question in questions {
        let bits = question.temperature().to_bits();
        by_temperature.entry(bits).or_default().push(question);
    }
    by_temperature
        .into_values()
        .flat_map(|group| group.chunks(size).map(<[_]>::to_vec).collect::<Vec<_>>())
        .collect()
}

/// All that can move an answer.
fn identity(
    args: &AnswersArgs,
    settings: &Answering,
    model_id: &str,
    checkpoint: &Checkpoint,
) -> Result<Value> {
    let mut hashes = BTreeMap::new();
    let folder = checkpoint.folder();
    for name in crate::folder::files_below(folder) {
        let counts = [".json", ".safetensors", ".bin", ".jinja"];
        if !name.contains('/') && counts.iter().any(|end| name.ends_with(end)) {
            hashes.insert(name.clone(), files::hash(&folder.join(&name))?.blake3);
        }
    }
    Ok(json!({
        "model": hashes,
        "model_id": model_id,
        "questions": files::hash(&args.questions)?.blake3,
        "template": args.template,
        "max_new_tokens": settings.max_new_tokens,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "seed": settings.seed,
    }))
}

/// The answers so far, in a file beside the output: the settings, then a row for each answer.
struct Work {
    path: PathBuf,
    rows: BTreeMap<u64, AnswerRow>,
}

impl Work {
    fn open(output: &Path, identity: &Value) -> Result<Self> {
        let mut name = output.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let kept: Vec<Value> = rows::read_whole(&path)?;
        let mut rows = BTreeMap::new();
        match kept.split_first() {
            None => rows::append(&path, 0, std::slice::from_ref(identity))?,
            Some((first, answers)) if first == identity => {
                for answer in answers {
                    let row: AnswerRow = serde_json::from_value(answer.clone())
                        .context(|| format!("{} is not a list of answers", path.display()))?;
                    rows.insert(row.question_id, row);
                }
            }
            Some(_) => {
                return Err(Error::data(format!(
                    "{} was begun with another model or other settings",
                    path.display()
                ))
                .hint("remove it, or choose another output"));
            }
        }
        Ok(Self { path, rows })
    }

    fn add(&mut self, answers: Vec<AnswerRow>) -> Result<()> {
        // As values, since a row is checked in the form in which it is read.
        let values: Vec<Value> = answers.iter().map(|row| json!(row)).collect();
        rows::append(&self.path, self.rows.len() + 1, &values)?;
        self.rows
            .extend(answers.into_iter().map(|row| (row.question_id, row)));
        Ok(())
    }

    /// Writes the answers in the order of questions, and removes the work file.
    fn finish(self, path: &Path) -> Result<()> {
        output::write(path, |draft| rows::write(draft, self.rows.values()))?;
        files::remove_file(&self.path)?;
        let texts = || self.rows.values().flat_map(|row| &row.choices[0].turns);
        let count = |wanted: &dyn Fn(&str) -> bool| texts().filter(|text| wanted(text)).count();
        let mut told = format!(
            "{} answers to {} questions",
            texts().count(),
            self.rows.len()
        );
        for (number, what) in [
            (count(&|text| text.is_empty()), "empty"),
            (
                count(&|text| text == ERROR_ANSWER),
                "without room in the model's positions (ERROR)",
            ),
        ] {
            if number > 0 {
                told += &format!("; {number} {what}");
            }
        }
        crate::cli::print(&(told + "\n"))
    }
}
