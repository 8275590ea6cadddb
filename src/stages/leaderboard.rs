//! Stage `leaderboard`: measures a policy on questions in the six tasks of the Open LLM Leaderboard,
//! which the embedded world makes or data sets have.

use super::Stage;
use super::common::{checkpoint, frozen, needed, write_json};
use super::evaluate::{ITEMS, METRICS};
use super::leaderboard_rows::{Questions, pinned};
use super::work::{self, Precision, Sizes, Work};
use crate::benchmarks::leaderboard::evaluate::{TaskRun, headline};
use crate::benchmarks::leaderboard::tasks::TASKS;
use crate::benchmarks::leaderboard::{Convention, Data, Responder, Score, Task};
use crate::data::rows;
use crate::data::world::{TaskRows, WorldAt};
use crate::eval::Items;
use crate::experiment::{GenerationSettings, Metric};
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The folder with the rows, laid out as `touchstone eval leaderboard --data` reads them.
const DATA: &str = "data";
/// The version of the harness whose prompts and metrics are computed.
const CONVENTION: Convention = Convention::H5;
/// Few-shot examples of every task but TruthfulQA: no more than the world's models have seen in
/// one text.
const SHOTS: usize = 2;
/// The candidates of a question, about.
const CANDIDATES: usize = 4;

/// The source of the questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExamSource {
    World {
        world: Box<WorldAt>,
        /// Questions of each task.
        documents: usize,
    },
    /// The rows of the input `rows`.
    Rows(Questions),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leaderboard {
    #[serde(flatten)]
    pub source: ExamSource,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LeaderboardInputs {
    pub policy: StageKey,
    /// The rows, unless the embedded world makes them.
    pub rows: Option<StageKey>,
}

impl Stage for Leaderboard {
    const KIND: &'static str = "leaderboard";
    const VERSION: u32 = 1;
    type Inputs = LeaderboardInputs;
    /// Sizes whose rows are the questions of one task.
    type Sizes<'a> = Sizes<'a>;

    /// The likelihoods of candidates, and the completions of one task.
    fn work(&self, sizes: Sizes) -> Work {
        let (shapes, precision) = (sizes.shapes(&self.generation), Precision::from(self.dtype));
        let candidates = (TASKS.len() - 1) * CANDIDATES * sizes.rows;
        let read = work::reading(&[(shapes, false)], 1, candidates, precision);
        read.then(work::sampling(shapes, sizes.rows, precision))
    }

    fn run(self, inputs: LeaderboardInputs, context: &StageContext) -> Result<()> {
        let (mut runs, convention) = self.runs(&inputs, context)?;
        let checkpoint = checkpoint(context, &inputs.policy)?;
        let tokenizer = checkpoint.tokenizer()?;
        let ends = checkpoint.ends(Some(&tokenizer))?;
        let model = frozen(context, &inputs.policy, self.dtype)?;
        let batch = self.generation.batch_size;
        let responder = Responder::new(&model, &tokenizer, ends, convention, batch)?;

        let total: usize = runs.iter().map(|run| run.items.len()).sum();
        let mut done = 0;
        for run in &mut runs {
            let at_once = match self.source {
                ExamSource::World { .. } => run.items.len(),
                ExamSource::Rows(_) => batch,
            };
            let kept = context.scratch().join(format!("{}.jsonl", run.task.name()));
            run.answer(&responder, at_once, &kept, |of_task| {
                context.progress((done + of_task) as u64, total as u64, "questions");
            })?;
            done += run.items.len();
        }
        let mut scores: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
        let mut subjects: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
        for run in &runs {
            let of_run = headlines(run, convention)?;
            subjects
                .entry(metric(run.task))
                .or_default()
                .push(mean(&of_run));
            scores.entry(metric(run.task)).or_default().extend(of_run);
        }
        let mut measured = Items(scores);
        rows::write(&context.out().join(ITEMS), [&measured])?;
        // The world's subjects together are one task; of published ones the convention says it.
        if matches!(self.source, ExamSource::Rows(_)) && !convention.weights_subjects_by_size() {
            for (metric, of_subjects) in subjects {
                measured.insert(metric, vec![mean(&of_subjects)]);
            }
        }
        if measured.0.len() == TASKS.len() {
            let means: Vec<f64> = measured.0.values().map(|values| mean(values)).collect();
            measured.insert(Metric::Leaderboard, vec![mean(&means)]);
        }
        write_json(&context.out().join(METRICS), &measured.means())
    }
}

impl Leaderboard {
    /// The questions of all tasks, and the convention of their prompts and metrics.
    fn runs(
        &self,
        inputs: &LeaderboardInputs,
        context: &StageContext,
    ) -> Result<(Vec<TaskRun>, Convention)> {
        match &self.source {
            ExamSource::World { world, documents } => {
                let world = world.open()?;
                let exams = world.exams().ok_or_else(|| {
                    Error::data("this world has no questions of the Open LLM Leaderboard")
                })?;
                let folder = context.out().join(DATA);
                write(&folder, &exams.rows(*documents))?;
                Ok((of_world(&folder)?, CONVENTION))
            }
            ExamSource::Rows(questions) => {
                let runs = pinned(context, needed(&inputs.rows, "rows", context)?, questions)?;
                Ok((runs, questions.convention))
            }
        }
    }
}

/// The questions in a folder that the embedded world has written.
fn of_world(folder: &Path) -> Result<Vec<TaskRun>> {
    let questions = Questions {
        convention: CONVENTION,
        shots: Some(SHOTS),
        limit: None,
    };
    questions.runs(&Data::named(folder)?)
}

/// The metric of a task.
fn metric(task: Task) -> Metric {
    match task {
        Task::ArcChallenge => Metric::LeaderboardArc,
        Task::HellaSwag => Metric::LeaderboardHellaSwag,
        Task::Mmlu(_) => Metric::LeaderboardMmlu,
        Task::TruthfulQa => Metric::LeaderboardTruthfulQa,
        Task::Winogrande => Metric::LeaderboardWinogrande,
        Task::Gsm8k => Metric::LeaderboardGsm8k,
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Writes the splits as files in a folder for each task.
fn write(folder: &Path, all: &[TaskRows]) -> Result<()> {
    for TaskRows {
        folder: task,
        split,
        rows,
    } in all
    {
        let path = folder.join(task);
        fs::create_dir_all(&path).context(|| format!("cannot create {}", path.display()))?;
        rows::write(&path.join(format!("{split}.jsonl")), rows)?;
    }
    Ok(())
}

/// The score of every question by the task's metric on the leaderboard.
fn headlines(run: &TaskRun, convention: Convention) -> Result<Vec<f64>> {
    let metric = headline(run.task);
    let of_item = |scores: Vec<Score>| {
        let score = scores.into_iter().find(|score| score.metric == metric);
        match score.map(|score| score.value) {
            Some(Ok(value)) => Ok(value),
            Some(Err(reason)) => Err(Error::model(format!("{}: {reason}", run.task.name()))),
            None => Err(Error::internal("a task without its metric")),
        }
    };
    run.scores(convention).into_iter().map(of_item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::leaderboard::Requests;
    use crate::data::world::WorldSettings;
    use crate::data::world::chat::ChatWorldSettings;

    #[test]
    fn every_row_is_read_by_its_task_and_every_prompt_is_of_the_worlds_words() {
        let world = WorldSettings::Chat(ChatWorldSettings::default())
            .open()
            .unwrap();
        let vocabulary = world.tokenizer().unwrap().get_vocab(true);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &world.exams().unwrap().rows(30)).unwrap();
        let mut questions: BTreeMap<Metric, usize> = BTreeMap::new();
        for run in of_world(folder.path()).unwrap() {
            let task = run.task;
            *questions.entry(metric(task)).or_default() += run.items.len();
            for item in &run.items {
                let context = item.requests.context();
                let own = match task {
                    // Six answered questions about the real world stand before each.
                    Task::TruthfulQa => context.rsplit("\n\n").next().unwrap(),
                    _ => context,
                };
                let continuations = match &item.requests {
                    Requests::Likelihoods(all) => all.iter().map(|it| &*it.continuation).collect(),
                    Requests::Completion { .. } => Vec::new(),
                };
                for text in [own].into_iter().chain(continuations) {
                    for word in text.split_whitespace() {
                        assert!(vocabulary.contains_key(word), "{word} in {text}");
                    }
                }
            }
        }
        assert_eq!(
            questions.into_values().collect::<Vec<_>>(),
            [30; TASKS.len()]
        );
    }
}
