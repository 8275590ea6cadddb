//! The stages that measure policies and rewards on benchmarks: on the embedded world's counterparts
//! of RewardBench, MT-Bench and the Open LLM Leaderboard, or on published rows.

use super::cells::Ranker;
use super::corpus::Corpus;
use super::specs::iteration_label;
use super::{Planner, Run};
use crate::benchmarks::leaderboard::tasks::TASKS;
use crate::benchmarks::leaderboard::tasks::gsm8k::MOST_TOKENS;
use crate::benchmarks::leaderboard::{Convention, Data, Task};
use crate::benchmarks::mt_bench::questions;
use crate::benchmarks::rewardbench::rows;
use crate::data::dataset::Dataset;
use crate::data::hub::Source;
use crate::data::world::WorldAt;
use crate::experiment::{BenchmarkSources, Study};
use crate::judges::http::HttpJudge;
use crate::pipeline::StageKey;
use crate::stages::dataset::PinnedDataset;
use crate::stages::leaderboard::{ExamSource, Leaderboard, LeaderboardInputs};
use crate::stages::leaderboard_rows::{LeaderboardRows, Questions};
use crate::stages::mt_bench::{MtBench, MtBenchInputs, QuestionSource};
use crate::stages::rewardbench::{PairSource, RewardBench, RewardBenchInputs};
use crate::stages::{NoInputs, Stage};
use crate::tasks::TaskSettings;
use crate::{Context, Error, Result};
use std::path::{Path, PathBuf};

/// The split of the published pairs whose two responses were checked by hand.
const FILTERED: &str = "filtered";
/// Pairs of the published RewardBench.
const PUBLISHED_PAIRS: usize = 2985;
/// Questions of the published MT-Bench.
const PUBLISHED_QUESTIONS: usize = 80;

/// The stage that fixes the rows of a benchmark, and their number.
struct Rows<S> {
    stage: S,
    count: usize,
}

/// The published benchmarks of a study. Rows on this machine have been read and checked.
#[derive(Default)]
pub(super) struct Benchmarks {
    rewardbench: Option<Rows<PinnedDataset>>,
    mt_bench: Option<Rows<PinnedDataset>>,
    leaderboard: Option<Rows<LeaderboardRows>>,
}

impl Benchmarks {
    /// # Errors
    /// Benchmarks of a study in an embedded world or of another task than conversations, and rows
    /// of this machine that cannot be read.
    pub fn open(study: &Study, corpus: &dyn Corpus) -> Result<Self> {
        let sources = &study.benchmarks;
        let Some((name, _)) = sources.named().next() else {
            return Ok(Self::default());
        };
        if corpus.world().is_some() {
            return Err(Error::configuration(format!(
                "published rows of {name} were given to a study in the embedded world, which has its own"
            ))
            .hint("leave them out, or give real conversations: --data FILE --tokenizer DIR"));
        }
        if !matches!(study.task, TaskSettings::Chat(_)) {
            return Err(Error::configuration(format!(
                "{name} has conversations, and the task of experiment `{}` is the summary of posts",
                study.name
            ))
            .hint("leave it out, or choose an experiment with [task] kind = \"chat\""));
        }
        let split = sources.rewardbench_split.as_deref().unwrap_or(FILTERED);
        let pairs = |path: &Path| {
            data_set(path, split, PUBLISHED_PAIRS, |set| {
                Ok(rows::read(set, None)?.pairs.len())
            })
        };
        let asked = |path: &Path| {
            let name = path.display().to_string();
            data_set(path, "train", PUBLISHED_QUESTIONS, |set| {
                Ok(questions::of(set, &name)?.len())
            })
        };
        Ok(Self {
            rewardbench: opened("rewardbench", sources.rewardbench.as_deref(), pairs)?,
            mt_bench: opened("mt_bench", sources.mt_bench.as_deref(), asked)?,
            leaderboard: opened("leaderboard", sources.leaderboard.as_deref(), |path| {
                let place = match path.is_dir() {
                    true => absolute(path)?,
                    false => path.to_owned(),
                };
                let (stage, count) = LeaderboardRows::new(&place, exams(sources)?)?;
                Ok(Rows { stage, count })
            })?,
        })
    }
}

/// A benchmark, if the study has it; errors name it.
fn opened<S>(
    name: &str,
    source: Option<&Path>,
    open: impl FnOnce(&Path) -> Result<Rows<S>>,
) -> Result<Option<Rows<S>>> {
    let within = |error: Error| error.within(&format!("benchmark {name}"));
    source.map(open).transpose().map_err(within)
}

/// The rows of a data set, which `count` reads and counts if they are on this machine.
fn data_set(
    path: &Path,
    split: &str,
    published: usize,
    count: impl FnOnce(&Dataset) -> Result<usize>,
) -> Result<Rows<PinnedDataset>> {
    let mut found = None;
    let source = match Source::parse(path)? {
        Source::Hub(repository) => repository.to_string(),
        Source::Local(path) => absolute(&path)?.display().to_string(),
    };
    let stage = PinnedDataset::checked(&source, None, split, |set| {
        found = Some(count(set)?);
        Ok(())
    })?;
    let count = found.unwrap_or(published);
    Ok(Rows { stage, count })
}

/// The path from the root, since a stage may run in another folder.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context(|| format!("cannot find {}", path.display()))
}

/// Checks that a model can complete the sums of GSM8K, if they are asked.
///
/// # Errors
/// A model with too few positions.
fn room_for_completions(run: &Run, rows: &LeaderboardRows) -> Result<()> {
    let positions = run.start.config.sizes().positions;
    if positions > MOST_TOKENS || !Data::named(&rows.source)?.has(Task::Gsm8k) {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "size `{}` has {positions} positions, and completions of gsm8k take {MOST_TOKENS}",
        run.start.size
    ))
    .within("benchmark leaderboard")
    .hint("take a model with more positions, or a folder without gsm8k"))
}

/// The questions of the leaderboard that a study asks.
fn exams(sources: &BenchmarkSources) -> Result<Questions> {
    let convention = match &sources.leaderboard_convention {
        Some(name) => Convention::named(name)?,
        None => Convention::H3,
    };
    Ok(Questions {
        convention,
        shots: sources.leaderboard_shots,
        limit: sources.leaderboard_limit,
    })
}

impl Planner<'_> {
    /// The stage that measures a policy on the questions of two turns; `None` if the benchmark is
    /// off.
    ///
    /// # Errors
    /// A world without such questions.
    pub(super) fn mt_bench(
        &mut self,
        run: &Run,
        policy: &StageKey,
        iteration: usize,
    ) -> Result<Option<StageKey>> {
        let evaluation = &run.hyper.evaluation;
        let (source, rows, questions) = match (self.corpus.world(), &self.benchmarks.mt_bench) {
            (Some(world), _) if evaluation.mt_bench > 0 => {
                if world.open()?.questions().is_none() {
                    return Err(Error::configuration(
                        "the world of this experiment has no questions of two turns",
                    )
                    .hint("set evaluation.mt_bench = 0, or [world] kind = \"chat\""));
                }
                let source = QuestionSource::World {
                    world: WorldAt::new(world),
                    questions: evaluation.mt_bench,
                    judge_noise: evaluation.mt_bench_noise,
                };
                (source, None, evaluation.mt_bench)
            }
            (None, Some(Rows { stage, count })) => {
                let source = QuestionSource::Rows {
                    task: self.study.task.clone(),
                    judge: evaluation.judge.as_ref().map(HttpJudge::from),
                };
                (source, Some(stage.clone()), *count)
            }
            _ => return Ok(None),
        };
        let rows = self.rows("mt_bench/questions", rows)?;
        let stage = MtBench {
            source,
            generation: run.hyper.generation.clone(),
            dtype: run.hyper.training.dtype,
        };
        let inputs = MtBenchInputs {
            policy: *policy,
            rows,
        };
        let label = run.label(&format!("{}mt-bench", iteration_label(iteration)));
        let sizes = run.sizes(questions);
        self.add(&stage, inputs, Some(run.start.evaluation), label, sizes)
            .map(Some)
    }

    /// The stage that measures a policy on the tasks of the Open LLM Leaderboard; `None` if the
    /// benchmark is off.
    ///
    /// # Errors
    /// A world without such questions.
    pub(super) fn leaderboard(
        &mut self,
        run: &Run,
        policy: &StageKey,
        iteration: usize,
    ) -> Result<Option<StageKey>> {
        let documents = run.hyper.evaluation.leaderboard;
        let (source, rows, asked) = match (self.corpus.world(), &self.benchmarks.leaderboard) {
            (Some(world), _) if documents > 0 => {
                if world.open()?.exams().is_none() {
                    return Err(Error::configuration(
                        "the world of this experiment has no questions of the Open LLM Leaderboard",
                    )
                    .hint("set evaluation.leaderboard = 0, or [world] kind = \"chat\""));
                }
                let world = Box::new(WorldAt::new(world));
                (ExamSource::World { world, documents }, None, documents)
            }
            (None, Some(Rows { stage, count })) => {
                room_for_completions(run, stage)?;
                let source = ExamSource::Rows(stage.questions.clone());
                // The work of a stage is that of so many questions in each task.
                (source, Some(stage.clone()), count.div_ceil(TASKS.len()))
            }
            _ => return Ok(None),
        };
        let rows = self.rows("leaderboard/questions", rows)?;
        let stage = Leaderboard {
            source,
            generation: run.hyper.generation.clone(),
            dtype: run.hyper.training.dtype,
        };
        let inputs = LeaderboardInputs {
            policy: *policy,
            rows,
        };
        let label = run.label(&format!("{}leaderboard", iteration_label(iteration)));
        let sizes = run.sizes(asked);
        self.add(&stage, inputs, Some(run.start.evaluation), label, sizes)
            .map(Some)
    }

    /// The stage that measures one judge on pairs in the subsets of RewardBench; `None` if the
    /// benchmark is off.
    ///
    /// # Errors
    /// A world that has no such pairs.
    pub(super) fn rewardbench(&mut self, run: &Run, ranker: &Ranker) -> Result<Option<StageKey>> {
        let share = run.hyper.evaluation.rewardbench;
        let (source, rows, pairs) = match (self.corpus.world(), &self.benchmarks.rewardbench) {
            (Some(world), _) if share > 0.0 => {
                let pairs = world.open()?.rewardbench_size(share);
                if pairs == 0 {
                    return Err(Error::configuration(
                        "the world of this experiment has no pairs of RewardBench",
                    )
                    .hint("set evaluation.rewardbench = 0, or [world] kind = \"chat\""));
                }
                let world = WorldAt::new(world);
                (PairSource::World { world, share }, None, pairs)
            }
            (None, Some(Rows { stage, count })) => {
                let task = self.study.task.clone();
                (PairSource::Rows { task }, Some(stage.clone()), *count)
            }
            _ => return Ok(None),
        };
        let rows = self.rows("rewardbench/pairs", rows)?;
        let stage = RewardBench {
            source,
            generation: run.hyper.generation.clone(),
            dtype: run.hyper.training.dtype,
            judge: ranker.judge.clone(),
        };
        let inputs = RewardBenchInputs {
            sft: run.sft,
            reward: ranker.reward(),
            policy: ranker.policy(),
            rows,
        };
        let label = ranker.label(run, "rewardbench");
        let sizes = run.sizes(2 * pairs);
        self.add(&stage, inputs, Some(run.start.evaluation), label, sizes)
            .map(Some)
    }

    /// Plans the stage that fixes published rows, if there are any.
    fn rows<S>(&mut self, label: &str, stage: Option<S>) -> Result<Option<StageKey>>
    where
        S: for<'a> Stage<Inputs = NoInputs, Sizes<'a> = ()>,
    {
        stage
            .map(|stage| self.add(&stage, NoInputs {}, None, label, ()))
            .transpose()
    }
}
