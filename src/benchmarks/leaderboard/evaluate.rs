//! From responses to an evaluation: scores of the model and of trivial rivals, tasks, groups and the
//! leaderboard's average.

use super::conventions::Convention;
use super::data::{Data, SplitFingerprint};
use super::document::{Answer, Document};
use super::metrics::{ACC, ACC_NORM, EXACT_MATCH, FLEXIBLE, MC1, MC2, Response, Score, scores};
use super::prompts::{Item, Prompting};
use super::respond::{Responder, Responses};
use super::rivals;
use super::tasks::{MMLU, Shots, Task, mmlu};
use crate::Result;
use crate::benchmarks::evaluation::Summary;
use crate::benchmarks::{Aggregate, Evaluation, ItemScore, MODEL, Part};
use crate::data::rows;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// A task with what a model answered.
#[derive(Clone, Debug)]
pub struct TaskRun {
    pub task: Task,
    pub shots: usize,
    pub items: Vec<Item>,
    /// The response to each item.
    pub responses: Vec<Response>,
    /// The number of tokens cut from the left of each item.
    pub cut: Vec<usize>,
    /// The splits that were read.
    pub data: Vec<SplitFingerprint>,
    /// Number of documents in the evaluated split.
    pub documents: usize,
}

/// The response to one item, as it is kept while an evaluation runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answered {
    index: usize,
    response: Response,
    cut: usize,
}

impl TaskRun {
    /// The questions of a task, without responses: documents of `data`, the first `limit` of them,
    /// each after `shots` examples.
    ///
    /// # Errors
    /// Data that cannot be read, and more shots than there are examples.
    pub fn prepare(
        data: &Data,
        task: Task,
        convention: Convention,
        shots: usize,
        limit: Option<usize>,
    ) -> Result<Self> {
        let evaluated = data.split(task, task.split())?;
        let mut prints = vec![evaluated.fingerprint.clone()];
        let documents = evaluated.documents(task, convention)?;
        let pool = match shots {
            0 => Vec::new(),
            _ => {
                let (Shots::First(split) | Shots::Drawn { from: split, .. }) =
                    task.examples(convention);
                let pool = data.split(task, split)?;
                prints.push(pool.fingerprint.clone());
                pool.documents(task, convention)?
            }
        };
        let count = documents.len();
        let prompting = Prompting {
            task,
            convention,
            shots,
            limit,
        };
        Ok(Self {
            task,
            shots,
            items: prompting.items(documents, &pool)?,
            responses: Vec::new(),
            cut: Vec::new(),
            data: prints,
            documents: count,
        })
    }

    /// Answers the items, `at_once` at a time, and gives the number of those that were answered now.
    /// The responses in the file `kept`, which an interrupted run has left, are taken from there, and
    /// new ones are added to it; `progress` is told how many items are done.
    ///
    /// # Errors
    /// As [`Responder::respond`], and a file that cannot be read or written.
    pub fn answer(
        &mut self,
        responder: &Responder,
        at_once: usize,
        kept: &Path,
        mut progress: impl FnMut(usize),
    ) -> Result<usize> {
        let mut answered: Vec<Answered> = rows::read_whole(kept)?;
        let same = answered.iter().zip(&self.items);
        let same = same.take_while(|(answered, item)| answered.index == item.index);
        let found = same.count();
        answered.truncate(found);
        progress(found);
        for items in self.items[found..].chunks(at_once.max(1)) {
            let Responses { responses, cut } = responder.respond(items)?;
            let next: Vec<Answered> = items
                .iter()
                .zip(responses.into_iter().zip(cut))
                .map(|(item, (response, cut))| Answered {
                    index: item.index,
                    response,
                    cut,
                })
                .collect();
            rows::append(kept, answered.len(), &next)?;
            answered.extend(next);
            progress(answered.len());
        }
        self.cut = answered.iter().map(|it| it.cut).collect();
        self.responses = answered.into_iter().map(|it| it.response).collect();
        Ok(self.items.len() - found)
    }

    /// The scores of every item, in the order of the items.
    pub fn scores(&self, convention: Convention) -> Vec<Vec<Score>> {
        let answered = self.items.iter().zip(&self.responses);
        answered
            .map(|(item, response)| scores(&item.document, response, convention))
            .collect()
    }

    /// Number of items whose prompt was cut.
    pub fn items_cut(&self) -> usize {
        self.cut.iter().filter(|cut| **cut > 0).count()
    }
}

/// The metric of a task's number on the leaderboard.
pub fn headline(task: Task) -> &'static str {
    match task {
        Task::ArcChallenge | Task::HellaSwag => ACC_NORM,
        Task::Mmlu(_) | Task::Winogrande => ACC,
        Task::TruthfulQa => MC2,
        Task::Gsm8k => EXACT_MATCH,
    }
}

/// All metrics of a task, its headline first.
pub fn metrics_of(task: Task, convention: Convention) -> Vec<&'static str> {
    let before = convention.is_before_yaml();
    match task {
        Task::ArcChallenge | Task::HellaSwag => vec![ACC_NORM, ACC],
        Task::Mmlu(_) if before => vec![ACC, ACC_NORM],
        Task::Mmlu(_) | Task::Winogrande => vec![ACC],
        Task::TruthfulQa if before => vec![MC2, MC1],
        Task::TruthfulQa => vec![MC2],
        Task::Gsm8k if convention == Convention::H5 => vec![EXACT_MATCH, FLEXIBLE],
        Task::Gsm8k => vec![EXACT_MATCH],
    }
}

/// The evaluation of one model by some tasks under one convention.
pub fn evaluation(
    runs: &[TaskRun],
    convention: Convention,
    model: String,
    identity: Value,
) -> Evaluation {
    let mut items = Vec::new();
    for run in runs {
        for ((item, response), scored) in run
            .items
            .iter()
            .zip(&run.responses)
            .zip(run.scores(convention))
        {
            let of = |scorer: &str, score: Score| item_score(run.task, item, scorer, score);
            items.extend(scored.into_iter().map(|score| of(MODEL, score)));
            let metrics = metrics_of(run.task, convention);
            items.extend(
                rivals::scores(&item.document, &metrics, response)
                    .into_iter()
                    .map(|(rival, score)| of(rival, score)),
            );
        }
    }
    Evaluation {
        summary: Summary {
            benchmark: "leaderboard".to_owned(),
            convention: convention.name().to_owned(),
            model,
            identity,
            aggregates: aggregates(runs, convention),
        },
        items,
    }
}

fn item_score(task: Task, item: &Item, scorer: &str, score: Score) -> ItemScore {
    let name = item.index.to_string();
    let (value, missing) = match score.value {
        Ok(value) => (Some(value), None),
        Err(reason) => (None, Some(reason)),
    };
    ItemScore {
        scorer: scorer.to_owned(),
        task: task.name(),
        metric: score.metric.to_owned(),
        // Questions of one subject are not independent; elsewhere each stands alone.
        cluster: match task {
            Task::Mmlu(subject) => subject.name.to_owned(),
            _ => format!("{}/{name}", task.name()),
        },
        item: name,
        value,
        missing,
    }
}

/// The numbers of the report: each task by its headline metric and then the others; MMLU's groups,
/// where all their subjects are there; the average, where all six tasks are.
fn aggregates(runs: &[TaskRun], convention: Convention) -> Vec<Aggregate> {
    let mut all = Vec::new();
    let mut of_average = Vec::new();
    for run in runs.iter().filter(|run| !matches!(run.task, Task::Mmlu(_))) {
        let task = run.task.name();
        for metric in metrics_of(run.task, convention) {
            let name = match metric == headline(run.task) {
                true => task.clone(),
                false => format!("{task}/{metric}"),
            };
            all.push(Aggregate::of_task(name, &task, metric));
        }
        of_average.push(parts(&[run], convention));
    }
    let subjects: Vec<&TaskRun> = runs
        .iter()
        .filter(|run| matches!(run.task, Task::Mmlu(_)))
        .collect();
    for (name, group) in groups(&subjects) {
        let parts = parts(&group, convention);
        if name == MMLU {
            of_average.push(parts.clone());
        }
        all.push(Aggregate { name, parts });
    }
    if of_average.len() == 6 {
        let share = of_average.into_iter().flat_map(|mut parts| {
            let sum: f64 = parts.iter().map(|part| part.weight).sum();
            parts.iter_mut().for_each(|part| part.weight /= sum);
            parts
        });
        all.push(Aggregate {
            name: "average".to_owned(),
            parts: share.collect(),
        });
    }
    all
}

/// MMLU as a whole and its groups, of which every subject is there; without any, the subjects.
pub fn groups<'a>(subjects: &[&'a TaskRun]) -> Vec<(String, Vec<&'a TaskRun>)> {
    let within = |group: Option<&str>| -> Vec<&'a TaskRun> {
        let belongs = |run: &&&TaskRun| match run.task {
            Task::Mmlu(subject) => group.is_none_or(|group| subject.group == group),
            _ => false,
        };
        subjects.iter().filter(belongs).copied().collect()
    };
    let wanted = |group: Option<&str>| {
        let of_group = |it: &&mmlu::Subject| group.is_none_or(|group| it.group == group);
        mmlu::SUBJECTS.iter().filter(of_group).count()
    };
    let mut found = Vec::new();
    let named = mmlu::GROUPS.map(|group| (format!("{MMLU}_{group}"), Some(group)));
    for (name, group) in [(MMLU.to_owned(), None)].into_iter().chain(named) {
        let runs = within(group);
        if runs.len() == wanted(group) {
            found.push((name, runs));
        }
    }
    if found.is_empty() {
        found.extend(subjects.iter().map(|run| (run.task.name(), vec![*run])));
    }
    found
}

/// The parts of the mean over some tasks by their headline metrics.
fn parts(runs: &[&TaskRun], convention: Convention) -> Vec<Part> {
    let part = |run: &&TaskRun| Part {
        task: run.task.name(),
        metric: headline(run.task).to_owned(),
        weight: match convention.weights_subjects_by_size() {
            true => run.items.len() as f64,
            false => 1.0,
        },
    };
    runs.iter().map(part).collect()
}

/// The right answer as the harness writes it into its samples.
pub fn target(document: &Document) -> Value {
    match &document.answer {
        Answer::Choice { gold, .. } => (*gold).into(),
        Answer::Context { suffix, .. } => suffix.clone().into(),
        Answer::Truth { .. } => 0.into(),
        Answer::Solution(solution) => solution.clone().into(),
    }
}
