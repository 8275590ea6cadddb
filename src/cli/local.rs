//! Local files in the place of a study's own data.

use super::complain;
use super::study::ChoiceArgs;
use crate::data::TextEncoder;
use crate::data::contents::TokenizerFolder;
use crate::data::dataset::{Dataset, no_rows};
use crate::data::hub::Source;
use crate::experiment::{Experiment, GenerationSettings, Study};
use crate::model::tokenizer::TOKENIZER_FILES;
use crate::model::{ModelTokenizer, Sequence};
use crate::plan::{HELD_OUT, LocalData, RowFile};
use crate::stages::corpus::check_splits;
use crate::stages::work::TextLengths;
use crate::tasks::{Checked, Task, TokenizerConfig};
use crate::{Context, Error, Result};
use clap::Args;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Real rows instead of the embedded world.
#[derive(Clone, Debug, Args)]
pub struct LocalArgs {
    /// Real rows (jsonl, csv or parquet) instead of the embedded world: posts with id, subreddit,
    /// title, post and summary, or for a chat experiment conversations with messages
    #[arg(long, value_name = "FILE", requires = "tokenizer")]
    pub data: Option<PathBuf>,
    /// Folder with the tokenizer of --data, for conversations with its chat template, or
    /// hf:owner/name@revision
    #[arg(long, value_name = "DIR", requires = "data")]
    pub tokenizer: Option<PathBuf>,
    /// Labelled pairs beside --data: comparisons of summaries, or for a chat experiment rows with
    /// chosen and rejected messages
    #[arg(long, value_name = "FILE", requires = "data")]
    pub preferences: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Benchmarks of real conversations")]
    pub benchmarks: BenchmarkArgs,
}

/// Published benchmarks beside those that the experiment names.
#[derive(Clone, Debug, Default, Args)]
pub struct BenchmarkArgs {
    /// Measure rewards on pairs in RewardBench's columns: a file, a folder, or
    /// hf:datasets/owner/name@revision
    #[arg(long, value_name = "DATA")]
    pub rewardbench: Option<PathBuf>,
    /// Let policies answer the questions of FastChat's question.jsonl
    #[arg(long, value_name = "FILE")]
    pub mt_bench: Option<PathBuf>,
    /// Measure policies on the tasks of the Open LLM Leaderboard: a folder with a folder for each
    /// task, or `hub` for the published data sets
    #[arg(long, value_name = "DIR")]
    pub leaderboard: Option<PathBuf>,
    /// Questions of each task of the leaderboard, the first ones [default: all]
    #[arg(long, value_name = "N")]
    pub leaderboard_limit: Option<NonZeroUsize>,
    /// Few-shot examples of each task of the leaderboard [default: the leaderboard's numbers]
    #[arg(long, value_name = "N")]
    pub leaderboard_shots: Option<usize>,
}

impl BenchmarkArgs {
    /// Puts the benchmarks that were given into `study`, in the place of those of its scale.
    fn apply(&self, study: &mut Study) -> Result<()> {
        let own = &mut study.benchmarks;
        for (given, own) in [
            (&self.rewardbench, &mut own.rewardbench),
            (&self.mt_bench, &mut own.mt_bench),
            (&self.leaderboard, &mut own.leaderboard),
        ] {
            if let Some(given) = given {
                *own = Some(given.clone());
            }
        }
        if let Some(limit) = self.leaderboard_limit {
            own.leaderboard_limit = Some(limit.get());
        }
        own.leaderboard_shots = self.leaderboard_shots.or(own.leaderboard_shots);
        let without = own.leaderboard.is_none();
        if without && (self.leaderboard_limit.is_some() || self.leaderboard_shots.is_some()) {
            return Err(Error::configuration(
                "questions of the leaderboard were chosen, but there is no leaderboard",
            )
            .hint("give its rows: --leaderboard DIR, or --leaderboard hub"));
        }
        Ok(())
    }
}

/// The scale of an experiment file that `--data` selects, and the profile unless another is
/// requested.
const LOCAL: &str = "local";

impl LocalArgs {
    /// True if anything was given.
    pub fn is_given(&self) -> bool {
        let BenchmarkArgs {
            rewardbench,
            mt_bench,
            leaderboard,
            leaderboard_limit,
            leaderboard_shots,
        } = &self.benchmarks;
        let paths = [&self.data, &self.tokenizer, &self.preferences];
        let benchmarks = [rewardbench, mt_bench, leaderboard];
        paths.into_iter().chain(benchmarks).any(Option::is_some)
            || leaderboard_limit.is_some()
            || leaderboard_shots.is_some()
    }
}

/// The part of `experiment` that is chosen, and its local data, if any.
pub fn resolve(
    experiment: &str,
    choice: &ChoiceArgs,
    local: &LocalArgs,
) -> Result<(Study, Option<LocalData>)> {
    let experiment = Experiment::load(experiment)?;
    let (Some(file), Some(tokenizer)) = (&local.data, &local.tokenizer) else {
        let mut study = experiment.resolve(&choice.selection())?;
        local.benchmarks.apply(&mut study)?;
        return Ok((study, None));
    };
    let choice = ChoiceArgs {
        scale: LOCAL.into(),
        profile: choice.profile.clone().or(Some(LOCAL.into())),
        ..choice.clone()
    };
    let mut study = experiment.resolve(&choice.selection())?;
    study.leave_out_registered_claims();
    local.benchmarks.apply(&mut study)?;
    let tokenizer = &Source::parse(tokenizer)?.fetch(&["tokenizer.json"], &TOKENIZER_FILES)?;
    let files = TokenizerFolder::read(tokenizer)?;
    // Read from a copy, so that the data behind the plan's estimates is the data that its keys
    // name.
    let copy = tempfile::tempdir().context(|| "cannot make a temporary folder".into())?;
    files.copy_to(copy.path())?;
    let stated = study.task.tokenizer();
    stated.write_into(copy.path())?;
    has_stated(&stated, copy.path(), tokenizer)?;
    let read = |prompt, response| {
        // The error should name the user's folder, which may lack only what the task states.
        let named = |error| {
            TextEncoder::open(tokenizer, prompt, response)
                .err()
                .unwrap_or(error)
        };
        TextEncoder::open(copy.path(), prompt, response).map_err(named)
    };
    let limits = study
        .methods
        .iter()
        .map(|method| &method.hyper)
        .chain([&study.shared]);
    let limits: BTreeSet<(usize, usize)> = limits
        .map(|hyper| {
            (
                hyper.generation.max_prompt_tokens,
                hyper.generation.max_response_tokens,
            )
        })
        .collect();
    let tasks = limits.into_iter().map(|(prompt, response)| {
        study
            .task
            .open(copy.path(), read(prompt, response)?)
            .map_err(|error| error.within(&tokenizer.display().to_string()))
    });
    let tasks = tasks.collect::<Result<Vec<_>>>()?;
    let demonstrations = rows(file, &tasks, |task, set| {
        let Checked { whole, cut } = task.check(set)?;
        if !whole.is_empty() {
            check_splits(file, &whole, HELD_OUT)?;
        }
        if cut > 0 {
            complain(&format!(
                "warning: {cut} of the {} answers in {} are longer than generation.max_response_tokens and lose their end\n",
                whole.len(),
                file.display()
            ));
        }
        Ok(whole.len())
    })?;
    let preferences = local.preferences.as_deref().map(|file| {
        rows(file, &tasks, |task, set| {
            Ok(task.comparisons(set, &|_| true)?.len())
        })
    });
    let GenerationSettings {
        max_prompt_tokens,
        max_response_tokens,
        ..
    } = study.shared.generation;
    let encoder = read(max_prompt_tokens, max_response_tokens)?;
    let sampled = sample(
        file,
        demonstrations.rows,
        &*study.task.open(copy.path(), encoder.clone())?,
        &encoder,
    )?;
    let data = LocalData {
        texts: TextLengths::of(&sampled, &study.shared.generation),
        demonstrations,
        preferences: preferences.transpose()?,
        task: study.task.clone(),
        tokenizer: absolute(tokenizer)?,
        tokenizer_blake3: files.blake3(),
        vocabulary: read(usize::MAX, usize::MAX)?.vocabulary_size(),
    };
    Ok((study, Some(data)))
}

/// Number of demonstrations whose lengths stand for those of all.
const SAMPLED_TEXTS: usize = 256;

/// Some of the `rows` demonstrations of a file, from all of its parts.
fn sample(
    file: &Path,
    rows: usize,
    task: &dyn Task,
    encoder: &TextEncoder,
) -> Result<Vec<Sequence>> {
    let step = rows.div_ceil(SAMPLED_TEXTS).max(1);
    let wanted = |index: usize| index.is_multiple_of(step);
    let sampled = task.demonstrations(&Dataset::file(file)?, &wanted)?;
    sampled
        .iter()
        .map(|example| encoder.demonstration(&example.row))
        .collect()
}

/// A file whose rows all of `tasks` can read, as `check` tests and counts them.
fn rows(
    file: &Path,
    tasks: &[Box<dyn Task>],
    check: impl Fn(&dyn Task, &Dataset) -> Result<usize>,
) -> Result<RowFile> {
    let set = Dataset::file(file)?;
    let mut rows = 0;
    for task in tasks {
        rows = check(&**task, &set)?;
    }
    match set.files_read()?.pop() {
        Some(source) if rows > 0 => Ok(RowFile {
            file: absolute(file)?,
            blake3: source.blake3,
            rows,
        }),
        _ => Err(no_rows(&file.display().to_string())),
    }
}

/// Checks that the tokenizer in `copy`, which the user has in `folder`, has the tokens that the task
/// states for it.
///
/// # Errors
/// The first token that it does not have.
fn has_stated(stated: &TokenizerConfig, copy: &Path, folder: &Path) -> Result<()> {
    let named = [
        ("bos_token", &stated.bos_token),
        ("eos_token", &stated.eos_token),
    ];
    if named.iter().all(|(_, token)| token.is_none()) {
        return Ok(());
    }
    let tokenizer = ModelTokenizer::open(copy)
        .map_err(|error| ModelTokenizer::open(folder).err().unwrap_or(error))?;
    for (key, token) in named {
        if let Some(token) = token
            && tokenizer.token_to_id(token).is_none()
        {
            return Err(Error::model(format!(
                "the experiment states {key} `{token}`, which is not a token of {}",
                folder.join("tokenizer.json").display()
            ))
            .hint(format!(
                "give the tokenizer of another model, or state its own {key} and chat template in [task.tokenizer]"
            )));
        }
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context(|| format!("cannot find {}", path.display()))
}
