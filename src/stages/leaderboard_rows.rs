//! Stage `leaderboard_rows`: the files of the Open LLM Leaderboard's data sets, fixed once for all
//! stages that ask the questions. A hub's branch may move between two stages, and a folder's files
//! may change: later readers get the files recorded here, or an error.

use super::common::{read_json, write_json};
use super::{NoInputs, Stage};
use crate::benchmarks::leaderboard::data::SplitFingerprint;
use crate::benchmarks::leaderboard::evaluate::TaskRun;
use crate::benchmarks::leaderboard::tasks::TASKS;
use crate::benchmarks::leaderboard::{Convention, Data, Task};
use crate::data::contents::changed;
use crate::data::dataset::{FileFingerprint, Fingerprint};
use crate::pipeline::{StageContext, StageKey};
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The artifact's only file: the source, and a [`SplitFingerprint`] for each split that is read.
const PINNED: &str = "leaderboard.json";

/// The questions that are asked, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// The version of the harness whose prompts and metrics are computed.
    pub convention: Convention,
    /// Few-shot examples of every task but TruthfulQA; the leaderboard's number for each if absent.
    pub shots: Option<usize>,
    /// Documents of each task and subject, the first ones; all if absent.
    pub limit: Option<usize>,
}

impl Questions {
    /// The questions of all tasks, and of all subjects of MMLU, whose rows are there.
    ///
    /// # Errors
    /// Data that cannot be read, or of none of the tasks, and more shots than there are examples.
    pub fn runs(&self, data: &Data) -> Result<Vec<TaskRun>> {
        let mut runs = Vec::new();
        for name in TASKS {
            for task in Task::named(name)?.into_iter().filter(|it| data.has(*it)) {
                let shots = task.shots(self.shots);
                runs.push(TaskRun::prepare(
                    data,
                    task,
                    self.convention,
                    shots,
                    self.limit,
                )?);
            }
        }
        match runs.is_empty() {
            true => Err(Error::data(
                "no rows of a task of the Open LLM Leaderboard are there",
            )
            .hint("lay them out as <task>/<split>.jsonl with the tasks arc_challenge, hellaswag, mmlu, truthfulqa, winogrande, gsm8k")),
            false => Ok(runs),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaderboardRows {
    /// A folder with a folder for each task, or `hub`.
    pub source: PathBuf,
    pub questions: Questions,
    /// blake3 hash over the files on this machine, since a path does not identify its contents.
    /// `None` for a hub, which is queried when the stage runs.
    pub contents: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Pinned {
    source: PathBuf,
    splits: Vec<SplitFingerprint>,
}

impl LeaderboardRows {
    /// Settings for the rows of `source`, and the number of questions. Rows on this machine are
    /// checked now, so that a study does not stop at a bad row after hours; those of a hub are
    /// counted as published.
    ///
    /// # Errors
    /// A folder of this machine that does not exist, and those of [`Questions::runs`].
    pub fn new(source: &Path, questions: Questions) -> Result<(Self, usize)> {
        let data = Data::named(source)?;
        let (contents, count) = match data {
            Data::Hub(_) => (None, published(&questions)?),
            Data::Folder(_) => {
                let named = |error: Error| error.within(&source.display().to_string());
                let runs = questions.runs(&data).map_err(named)?;
                let count = runs.iter().map(|run| run.items.len()).sum();
                (Some(contents(&prints(&runs))?), count)
            }
        };
        let rows = Self {
            source: source.to_owned(),
            questions,
            contents,
        };
        Ok((rows, count))
    }
}

/// The number of questions of the published data sets.
fn published(questions: &Questions) -> Result<usize> {
    /// MMLU's questions; the other tasks state the rows of their splits.
    const OF_MMLU: usize = 14_042;
    let most = |rows: usize| rows.min(questions.limit.unwrap_or(rows));
    let mut count = 0;
    for name in TASKS {
        let tasks = Task::named(name)?;
        let subjects = tasks.len();
        for task in tasks {
            let rows = task.published_rows(task.split());
            count += most(rows.unwrap_or(OF_MMLU / subjects));
        }
    }
    Ok(count)
}

fn prints(runs: &[TaskRun]) -> Vec<SplitFingerprint> {
    runs.iter().flat_map(|run| run.data.clone()).collect()
}

fn files(prints: &[SplitFingerprint]) -> Vec<&[FileFingerprint]> {
    prints.iter().map(|print| &print.data.files[..]).collect()
}

fn contents(prints: &[SplitFingerprint]) -> Result<String> {
    let files =
        serde_json::to_vec(&files(prints)).context(|| "cannot encode a fingerprint".into())?;
    Ok(blake3::hash(&files).to_hex().to_string())
}

impl Stage for LeaderboardRows {
    const KIND: &'static str = "leaderboard_rows";
    const VERSION: u32 = 1;
    type Inputs = NoInputs;
    type Sizes<'a> = ();

    fn run(self, _: NoInputs, context: &StageContext) -> Result<()> {
        let runs = self.questions.runs(&Data::named(&self.source)?)?;
        let splits = prints(&runs);
        if let Some(planned) = &self.contents {
            let now = contents(&splits)?;
            if *planned != now {
                return Err(changed(&self.source.display().to_string(), planned, &now));
            }
        }
        splits
            .iter()
            .try_for_each(|split| context.add_source(split))?;
        let source = self.source;
        write_json(&context.out().join(PINNED), &Pinned { source, splits })
    }
}

/// The fingerprints of the splits that an artifact pins.
///
/// # Errors
/// An artifact that cannot be read.
pub fn fingerprints(artifact: &Path) -> Result<Vec<Fingerprint>> {
    let pinned: Pinned = read_json(&artifact.join(PINNED))?;
    Ok(pinned.splits.into_iter().map(|split| split.data).collect())
}

/// The questions of the rows that an input pins.
///
/// # Errors
/// Rows that cannot be read, or have changed since they were pinned.
pub fn pinned(
    context: &StageContext,
    input: &StageKey,
    questions: &Questions,
) -> Result<Vec<TaskRun>> {
    let pinned: Pinned = read_json(&context.artifact(input)?.join(PINNED))?;
    let runs = questions.runs(&Data::named(&pinned.source)?.at(&pinned.splits))?;
    let now = prints(&runs);
    if files(&now) != files(&pinned.splits) {
        return Err(Error::data(format!(
            "{} has other rows than when this study began",
            pinned.source.display()
        ))
        .hint("put the files back, or run the same command again: other contents are another study (of a hub, clear the cache)"));
    }
    now.iter().try_for_each(|split| context.add_source(split))?;
    Ok(runs)
}
