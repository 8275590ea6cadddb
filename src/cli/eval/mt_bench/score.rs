//! `touchstone eval mt-bench score`: the means of judgments in FastChat's format.

use crate::benchmarks::Evaluation;
use crate::benchmarks::mt_bench::judge::{PairRow, SingleRow};
use crate::benchmarks::mt_bench::questions::{self, Answers};
use crate::benchmarks::mt_bench::summary::{self, Judged};
use crate::benchmarks::mt_bench::{self, pairwise};
use crate::cli::eval::folder::EvaluationFolder;
use crate::cli::eval::show;
use crate::data::rows;
use crate::{Error, Result, files};
use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

/// The name of the judgments in a folder that `judge` has written.
const JUDGMENTS: &str = "judgments.jsonl";

#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    /// Judgments in FastChat's format (single or pairwise), or the folder that `judge` has written
    #[arg(long, value_name = "FILE")]
    judgments: PathBuf,
    /// FastChat's question.jsonl
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// Answers of the model: how scores go with their length; with --baseline the rival `length`
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Answers of the other model of pairwise judgments
    #[arg(long, value_name = "FILE", requires = "answers")]
    baseline: Option<PathBuf>,
    /// The model to score, if the file has several
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The judge whose judgments count, if the file has several
    #[arg(long, value_name = "NAME")]
    judge: Option<String>,
    /// Average the judgments that are there even if questions lack one
    #[arg(long)]
    allow_missing: bool,
    /// Folder to write the evaluation to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Scores a file of judgments.
///
/// # Errors
/// Files that cannot be read or written, missing judgments, several models or judges without a
/// choice.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let folder = EvaluationFolder::new(&args.out, mt_bench::NAME, &[])?;
    let path = match args.judgments.is_dir() {
        true => args.judgments.join(JUDGMENTS),
        false => args.judgments.clone(),
    };
    let place = path.display().to_string();
    crate::cli::output::check_regular(&path)?;
    let values: Vec<Value> = rows::read(&path)?;
    let first = values.first().ok_or_else(|| {
        Error::data(format!("{place} has no judgments")).hint("judge answers first")
    })?;
    let is_pairwise = first.get("g1_winner").is_some();
    let scoring = Scoring {
        args,
        place: &place,
        questions: questions::read(&args.questions)?,
        hash: files::hash(&path)?.blake3,
    };
    let (evaluation, told) = match is_pairwise {
        true => scoring.pairwise(rows_of(&place, values)?)?,
        false => scoring.single(rows_of(&place, values)?)?,
    };
    folder.publish(|draft| evaluation.write(draft).map(|_| ()))?;
    show::print(&evaluation)?;
    crate::cli::print(&told)
}

/// Rows of one kind.
fn rows_of<T: DeserializeOwned>(place: &str, values: Vec<Value>) -> Result<Vec<T>> {
    let row = |(index, value): (usize, Value)| {
        serde_json::from_value(value).map_err(|cause| {
            Error::data(format!(
                "{place}, row {}: not a judgment of the kind of the first row",
                index + 1
            ))
            .caused_by(cause)
            .hint("single and pairwise judgments have files of their own")
        })
    };
    values.into_iter().enumerate().map(row).collect()
}

struct Scoring<'a> {
    args: &'a ScoreArgs,
    place: &'a str,
    questions: Vec<questions::Question>,
    hash: String,
}

impl Scoring<'_> {
    fn single(&self, rows: Vec<SingleRow>) -> Result<(Evaluation, String)> {
        let model = self.choice("model", &self.args.model, rows.iter().map(|row| &row.model))?;
        let rows: Vec<SingleRow> = rows.into_iter().filter(|row| row.model == model).collect();
        let judge = self.choice(
            "judge",
            &self.args.judge,
            rows.iter().map(|row| &row.judge.0),
        )?;
        let rows: Vec<SingleRow> = rows
            .into_iter()
            .filter(|row| row.judge.0 == judge)
            .collect();
        let judged = self.judged(&rows);
        let identity = self.identity(&judge);
        let (evaluation, findings) = summary::evaluate(&judged, &model, identity)?;
        let scored = evaluation.items.iter().filter(|item| item.value.is_some());
        let mut told = findings.described(scored.count()) + "\n";
        if let Some(path) = &self.args.answers {
            let answers = Answers::read(path)?;
            let found = summary::correlation_with_length(&judged, &evaluation, &answers)?;
            let found = found.map_or("n/a".to_owned(), |found| format!("{found:.3}"));
            let _ = writeln!(
                told,
                "rank correlation of score and words of the answer: {found}"
            );
        }
        Ok((evaluation, told))
    }

    fn pairwise(&self, rows: Vec<PairRow>) -> Result<(Evaluation, String)> {
        let model = self.choice(
            "model",
            &self.args.model,
            rows.iter().map(|row| &row.model_1),
        )?;
        let rows: Vec<PairRow> = rows
            .into_iter()
            .filter(|row| row.model_1 == model)
            .collect();
        let judge = self.choice(
            "judge",
            &self.args.judge,
            rows.iter().map(|row| &row.judge.0),
        )?;
        let rows: Vec<PairRow> = rows
            .into_iter()
            .filter(|row| row.judge.0 == judge)
            .collect();
        let other = self.choice("baseline", &None, rows.iter().map(|row| &row.model_2))?;
        let read = |path: &Option<PathBuf>| path.as_deref().map(Answers::read).transpose();
        let (answers, baseline) = (read(&self.args.answers)?, read(&self.args.baseline)?);
        let mut identity = self.identity(&judge);
        identity["baseline"] = json!(other);
        let both = answers.as_ref().zip(baseline.as_ref());
        let (evaluation, findings, counts) =
            pairwise::evaluate(&self.judged(&rows), &model, identity, both)?;
        let compared = counts.wins + counts.losses + counts.ties;
        let mut told = format!(
            "{model} against {other}: {} wins, {} losses, {} ties, of which {} by verdicts that change with the order \
             ({} for the answer shown first)\n",
            counts.wins, counts.losses, counts.ties, counts.inconsistent, counts.first_shown
        );
        told += &(findings.described(compared) + "\n");
        Ok((evaluation, told))
    }

    fn judged<'r, R>(&'r self, rows: &'r [R]) -> Judged<'r, R> {
        Judged {
            questions: &self.questions,
            rows,
            place: self.place,
            allow_missing: self.args.allow_missing,
        }
    }

    fn identity(&self, judge: &str) -> Value {
        json!({"judge": judge, "judgments": self.hash})
    }

    /// The name that was chosen, or the only one that occurs.
    fn choice<'n>(
        &self,
        what: &str,
        chosen: &Option<String>,
        names: impl Iterator<Item = &'n String>,
    ) -> Result<String> {
        let names: BTreeSet<&String> = names.collect();
        let listed = || {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            names.join(", ")
        };
        match (chosen, names.len()) {
            (Some(name), _) if names.contains(name) => Ok(name.clone()),
            (Some(name), _) => Err(Error::data(format!(
                "{}: no judgment of the {what} `{name}`",
                self.place
            ))
            .hint(format!("there are {}", listed()))),
            (None, 1) => Ok(names.into_iter().next().cloned().unwrap_or_default()),
            (None, _) => Err(Error::configuration(format!(
                "{}: judgments of several {what}s",
                self.place
            ))
            .hint(format!("choose one with --{what}: {}", listed()))),
        }
    }
}
