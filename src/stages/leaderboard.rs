//! Stage `leaderboard`: measures a policy on questions of the embedded world in the six tasks of the
//! Open LLM Leaderboard.

use super::Stage;
use super::common::{checkpoint, frozen, write_json};
use super::evaluate::{ITEMS, METRICS};
use super::work::{self, Precision, Sizes, Work};
use crate::benchmarks::leaderboard::evaluate::{TaskRun, headline};
use crate::benchmarks::leaderboard::tasks::MMLU;
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
/// The tasks by their names, with the metric of each.
const TASKS: [(&str, Metric); 6] = [
    ("arc_challenge", Metric::LeaderboardArc),
    ("hellaswag", Metric::LeaderboardHellaSwag),
    (MMLU, Metric::LeaderboardMmlu),
    ("truthfulqa_mc2", Metric::LeaderboardTruthfulQa),
    ("winogrande", Metric::LeaderboardWinogrande),
    ("gsm8k", Metric::LeaderboardGsm8k),
];
/// The candidates of a question, about.
const CANDIDATES: usize = 4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaderboard {
    pub world: WorldAt,
    /// Questions of each task.
    pub documents: usize,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LeaderboardInputs {
    pub policy: StageKey,
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
        let world = self.world.open()?;
        let exams = world.exams().ok_or_else(|| {
            Error::data("this world has no questions of the Open LLM Leaderboard")
        })?;
        let folder = context.out().join(DATA);
        write(&folder, &exams.rows(self.documents))?;
        let data = Data::named(&folder)?;

        let checkpoint = checkpoint(context, &inputs.policy)?;
        let tokenizer = checkpoint.tokenizer()?;
        let ends = checkpoint.ends(Some(&tokenizer))?;
        let model = frozen(context, &inputs.policy, self.dtype)?;
        let batch = self.generation.batch_size;
        let responder = Responder::new(&model, &tokenizer, ends, CONVENTION, batch)?;

        let mut scores: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
        for (place, (name, metric)) in TASKS.into_iter().enumerate() {
            for task in Task::named(name)? {
                // Of MMLU's subjects the world has some.
                if matches!(task, Task::Mmlu(subject) if !folder.join(MMLU).join(subject.name).is_dir())
                {
                    continue;
                }
                let run = answered(&data, task, &responder)?;
                scores.entry(metric).or_default().extend(headlines(&run)?);
            }
            context.progress(place as u64 + 1, TASKS.len() as u64, "tasks");
        }
        let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let average = scores.values().map(mean).sum::<f64>() / scores.len() as f64;
        let mut measured = Items(scores);
        rows::write(&context.out().join(ITEMS), [&measured])?;
        measured.insert(Metric::Leaderboard, vec![average]);
        write_json(&context.out().join(METRICS), &measured.means())
    }
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

/// A task with the model's responses.
fn answered(data: &Data, task: Task, responder: &Responder) -> Result<TaskRun> {
    let mut run = TaskRun::prepare(data, task, CONVENTION, task.shots(Some(SHOTS)), None)?;
    let found = responder.respond(&run.items)?;
    run.responses = found.responses;
    run.cut = found.cut;
    Ok(run)
}

/// The score of every question by the task's metric on the leaderboard.
fn headlines(run: &TaskRun) -> Result<Vec<f64>> {
    let metric = headline(run.task);
    let of_item = |scores: Vec<Score>| {
        let score = scores.into_iter().find(|score| score.metric == metric);
        match score.map(|score| score.value) {
            Some(Ok(value)) => Ok(value),
            Some(Err(reason)) => Err(Error::model(format!("{}: {reason}", run.task.name()))),
            None => Err(Error::internal("a task without its metric")),
        }
    };
    run.scores(CONVENTION).into_iter().map(of_item).collect()
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
        let data = Data::named(folder.path()).unwrap();
        for (name, _) in TASKS {
            let mut questions = 0;
            for task in Task::named(name).unwrap() {
                if matches!(task, Task::Mmlu(subject) if !folder.path().join(MMLU).join(subject.name).is_dir())
                {
                    continue;
                }
                let shots = task.shots(Some(SHOTS));
                let run = TaskRun::prepare(&data, task, CONVENTION, shots, None).unwrap();
                questions += run.items.len();
                for item in &run.items {
                    let context = item.requests.context();
                    let own = match task {
                        // Six answered questions about the real world stand before each.
                        Task::TruthfulQa => context.rsplit("\n\n").next().unwrap(),
                        _ => context,
                    };
                    let continuations = match &item.requests {
                        Requests::Likelihoods(all) => {
                            all.iter().map(|it| &*it.continuation).collect()
                        }
                        Requests::Completion { .. } => Vec::new(),
                    };
                    for text in [own].into_iter().chain(continuations) {
                        for word in text.split_whitespace() {
                            assert!(vocabulary.contains_key(word), "{word} in {text}");
                        }
                    }
                }
            }
            assert_eq!(questions, 30, "{name}");
        }
    }
}
