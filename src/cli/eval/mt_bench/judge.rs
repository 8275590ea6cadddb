//! `touchstone eval mt-bench judge`: judgments by a model that a server hosts.

use crate::benchmarks::mt_bench::judge::{
    Contest, Match, Mode, PairRow, SingleRow, pair_row, single_row,
};
use crate::benchmarks::mt_bench::parse::{
    SCORE_PARSER, VERDICT_PARSER, Winner, score_as_json, verdict,
};
use crate::benchmarks::mt_bench::questions::{self, Answers};
use crate::benchmarks::mt_bench::repeats::{Repeated, Variation, variation};
use crate::benchmarks::mt_bench::templates::JudgePrompts;
use crate::cli::eval::folder;
use crate::cli::eval::progress::Progress;
use crate::cli::eval::server::ServerArgs;
use crate::data::rows;
use crate::judges::http::{Account, Asking, Outcome, Reply};
use crate::{Error, Result, files};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// The names of the files that are written.
const JUDGMENTS: &str = "judgments.jsonl";
const REPEATS: &str = "repeats.jsonl";
const RUN: &str = "run.json";

#[derive(Clone, Debug, Args)]
pub struct JudgeArgs {
    /// FastChat's question.jsonl
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// FastChat's reference_answer/gpt-4.jsonl
    #[arg(long, value_name = "FILE")]
    references: PathBuf,
    /// FastChat's judge_prompts.jsonl
    #[arg(long, value_name = "FILE")]
    judge_prompts: PathBuf,
    /// Answers of the model, in FastChat's format
    #[arg(long, value_name = "FILE")]
    answers: PathBuf,
    /// Answers of another model to compare with, in both orders; without it each answer is scored
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Name of the model; that of the file of its answers unless given
    #[arg(long, value_name = "NAME")]
    model_id: Option<String>,
    /// Times that each answer, or pair of answers in both orders, is judged, to state the judge's own
    /// variance; the first counts
    #[arg(long, value_name = "K", default_value = "1")]
    repeats: NonZeroU32,
    /// Folder to write: judgments.jsonl in FastChat's format, and run.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Say how many judgments there are and how many are in the cache, and ask nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten, next_help_heading = "Judge")]
    server: ServerArgs,
}

/// Judges all answers.
///
/// # Errors
/// Files that cannot be read or written, and those of the judge.
pub fn run(args: &JudgeArgs) -> Result<()> {
    let known = [JUDGMENTS, REPEATS, RUN];
    folder::check(&args.out, &known)?;
    let judge = args.server.open()?;
    let inputs = Inputs::read(args)?;
    let contest = inputs.contest();
    let matches = contest.matches()?;
    let repeats = 0..args.repeats.get();
    let calls: Vec<_> = repeats
        .flat_map(|repetition| matches.iter().flat_map(move |it| it.calls(repetition)))
        .collect();
    let (parser, parse): (_, &dyn Fn(&Reply) -> Value) = match contest.mode() {
        Mode::Single => (SCORE_PARSER, &|reply| score_as_json(reply.text())),
        Mode::Pairwise => (VERDICT_PARSER, &|reply| json!(verdict(reply.text()))),
    };
    if args.dry_run {
        let here = judge.cached(&calls, parser);
        return crate::cli::print(&format!(
            "{} judgments, {here} of them in {}\n",
            calls.len(),
            judge.cache.folder().display()
        ));
    }
    let mut counted = Progress::new("judgments", calls.len());
    let mut progress = |account: &Account| counted.set(account.from_cache + account.asked);
    let asking = Asking {
        parser,
        parse,
        progress: &mut progress,
    };
    let (outcomes, account) = judge.ask(&calls, asking)?;
    drop(counted);
    let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    let missing: Vec<Value> = names
        .iter()
        .zip(&outcomes)
        .filter_map(|(name, outcome)| {
            Some(json!({"item": name, "reason": outcome.as_ref().err()?}))
        })
        .collect();
    let judged = Judged {
        matches: &matches,
        outcomes: &outcomes,
        judge: args.server.model(),
    };
    let settings = json!({
        "judge": judge.settings,
        "parser": parser,
        "repeats": args.repeats,
        "questions": files::hash(&args.questions)?.blake3,
        "references": files::hash(&args.references)?.blake3,
        "judge_prompts": files::hash(&args.judge_prompts)?.blake3,
        "answers": files::hash(&args.answers)?.blake3,
        "baseline": args.baseline.as_deref().map(files::hash).transpose()?.map(|it| it.blake3),
    });
    let without_result = outcomes
        .iter()
        .flatten()
        .filter(|answer| !has_result(&answer.parsed));
    let without_result = without_result.count();
    let mut told = account.report();
    if without_result > 0 {
        let _ = writeln!(told, "answers without a result: {without_result}");
    }
    folder::write(&args.out, |folder| {
        let count = matches.len();
        let variation = match &inputs.baseline {
            Some((other, _)) => {
                let rows = judged.pairs(&inputs.name, other)?;
                let item = |row: &PairRow| (row.question_id, row.turn, row.score());
                write_rows(folder, &rows, count, item)?
            }
            None => {
                let score = |row: &SingleRow| row.score.as_f64().filter(|score| *score != -1.0);
                let item = |row: &SingleRow| (row.question_id, row.turn, score(row));
                write_rows(folder, &judged.singles(&inputs.name), count, item)?
            }
        };
        if let Some(variation) = &variation {
            told += &described(variation);
        }
        let run = json!({"settings": settings, "account": account, "missing": missing, "without_result": without_result, "variation": variation});
        let path = folder.join(RUN);
        files::replace(&path, &files::to_json(&run, &path)?)
    })?;
    let _ = writeln!(told, "{}", args.out.join(JUDGMENTS).display());
    crate::cli::print(&told)
}

/// True if the parser has found a score or a verdict.
fn has_result(parsed: &Value) -> bool {
    let winner = serde_json::from_value::<Winner>(parsed.clone());
    parsed.is_number() || winner.is_ok_and(|winner| winner != Winner::Error)
}

/// The files of a run, and the models' names.
struct Inputs {
    questions: Vec<questions::Question>,
    references: Answers,
    prompts: JudgePrompts,
    name: String,
    answers: Answers,
    baseline: Option<(String, Answers)>,
}

impl Inputs {
    fn read(args: &JudgeArgs) -> Result<Self> {
        let name = match &args.model_id {
            Some(name) => name.clone(),
            None => super::super::stem(&args.answers)?,
        };
        let baseline = match &args.baseline {
            None => None,
            Some(path) => Some((super::super::stem(path)?, Answers::read(path)?)),
        };
        if let Some((other, _)) = &baseline
            && *other == name
        {
            return Err(
                Error::configuration(format!("both models have the name `{name}`"))
                    .hint("give the model another name with --model-id"),
            );
        }
        Ok(Self {
            questions: questions::read(&args.questions)?,
            references: Answers::read(&args.references)?,
            prompts: JudgePrompts::read(&args.judge_prompts)?,
            name,
            answers: Answers::read(&args.answers)?,
            baseline,
        })
    }

    fn contest(&self) -> Contest<'_> {
        Contest {
            questions: &self.questions,
            prompts: &self.prompts,
            references: &self.references,
            answers: &self.answers,
            baseline: self.baseline.as_ref().map(|(_, answers)| answers),
        }
    }
}

/// Judgments with their outcomes, repetition after repetition.
struct Judged<'a> {
    matches: &'a [Match],
    outcomes: &'a [Outcome],
    judge: &'a str,
}

impl Judged<'_> {
    /// The item of a row, whose place counts on through the repetitions.
    fn item(&self, place: usize) -> &Match {
        &self.matches[place % self.matches.len()]
    }

    fn pairs(&self, model: &str, other: &str) -> Result<Vec<PairRow>> {
        let games = self.outcomes.chunks(2).enumerate();
        games
            .map(|(place, games)| pair_row(self.item(place), (model, other), self.judge, games))
            .collect()
    }

    fn singles(&self, model: &str) -> Vec<SingleRow> {
        let outcomes = self.outcomes.iter().enumerate();
        outcomes
            .map(|(place, outcome)| single_row(self.item(place), model, self.judge, outcome))
            .collect()
    }
}

/// Writes the first repetition, which has `count` rows, and all of them if there are several, whose
/// variation is returned. `item` gives a row's question, turn and score.
fn write_rows<T: Serialize>(
    folder: &Path,
    all: &[T],
    count: usize,
    item: impl Fn(&T) -> (u64, u8, Option<f64>),
) -> Result<Option<Variation>> {
    rows::write(&folder.join(JUDGMENTS), &all[..count])?;
    if all.len() == count {
        return Ok(None);
    }
    let repeated = all.iter().enumerate().map(|(index, row)| {
        let mut value = json!(row);
        value["repetition"] = json!(index / count);
        value
    });
    rows::write(&folder.join(REPEATS), repeated)?;
    let of_item = |place: usize| {
        let (question_id, turn, _) = item(&all[place]);
        let repetitions = all[place..].iter().step_by(count);
        Repeated {
            question_id,
            turn,
            scores: repetitions.map(|row| item(row).2).collect(),
        }
    };
    let items: Vec<Repeated> = (0..count).map(of_item).collect();
    Ok(Some(variation(&items)))
}

fn described(variation: &Variation) -> String {
    let number = |value: Option<f64>| value.map_or("n/a".to_owned(), |value| format!("{value:.3}"));
    format!(
        "the judge's own variation over {} repetitions of {} items ({} left out): mean deviation {}, largest {}, \
         share of items that vary {}, deviation of the mean {}\n",
        variation.repetitions,
        variation.items,
        variation.left_out,
        number(variation.mean_deviation),
        number(variation.largest_deviation),
        number(variation.share_that_varies),
        number(variation.deviation_of_means),
    )
}
