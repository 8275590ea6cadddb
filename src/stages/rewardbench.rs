//! Stage `rewardbench`: measures a reward, or a heuristic, on pairs in the subsets of RewardBench,
//! which the embedded world makes or a data set has.

use super::Stage;
use super::common::{encoder, needed, task, write_json};
use super::dataset::pinned;
use super::evaluate::METRICS;
use super::scoring::JudgeInputs;
use super::work::{self, Precision, Sizes, Work};
use crate::Result;
use crate::benchmarks::rewardbench::rows::{self as benchmark, Pair};
use crate::benchmarks::rewardbench::{Convention, sections::section_scores};
use crate::data::TextEncoder;
use crate::data::dataset::Dataset;
use crate::data::rows::{self, ResponsePair};
use crate::data::world::{BenchmarkPair, World, WorldAt};
use crate::eval::Items;
use crate::eval::accuracy::rank;
use crate::experiment::{GenerationSettings, Metric};
use crate::judges::JudgeId;
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use crate::tasks::TaskSettings;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// The file with the pairs, in the columns of the published data.
const ROWS: &str = "rows.jsonl";

/// The source of the pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PairSource {
    World {
        world: WorldAt,
        /// Size of every subset as a share of its published size.
        share: f64,
    },
    /// The rows of the input `rows`, whose prompts `task` writes.
    Rows { task: TaskSettings },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardBench {
    #[serde(flatten)]
    pub source: PairSource,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    pub judge: JudgeId,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RewardBenchInputs {
    pub sft: StageKey,
    /// The reward model under evaluation.
    pub reward: Option<StageKey>,
    /// The policy whose implicit reward is evaluated.
    pub policy: Option<StageKey>,
    /// The rows, unless the embedded world makes them.
    pub rows: Option<StageKey>,
}

impl Stage for RewardBench {
    const KIND: &'static str = "rewardbench";
    const VERSION: u32 = 2;
    type Inputs = RewardBenchInputs;
    /// Sizes whose rows are the responses of all pairs.
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let shapes = sizes.shapes(&self.generation);
        let read = |judge: &JudgeId| {
            let models = work::readers(judge, shapes);
            work::reading(&models, 1, sizes.rows, Precision::from(self.dtype))
        };
        match self.judge {
            JudgeId::Implicit => read(&self.judge).then(read(&JudgeId::Likelihood)),
            _ => read(&self.judge),
        }
    }

    fn run(self, inputs: RewardBenchInputs, context: &StageContext) -> Result<()> {
        let encoder = encoder(context, &inputs.sft, &self.generation)?;
        let sources = JudgeInputs {
            context,
            dtype: self.dtype,
            reward: inputs.reward,
            policy: inputs.policy,
            reference: Some(inputs.sft),
        };
        let judge = self.judge.open(&sources)?;
        let (pairs, responses) = self.pairs(&inputs, context, &encoder)?;
        let ranked = rank(&*judge, &responses, &encoder)?;
        let mut measured = sections(&pairs, &ranked.by_score);
        let averages = averages(&pairs, &ranked.in_bf16);
        let of_bf16 = [
            (Metric::RewardBenchBf16, averages[0]),
            (Metric::RewardBenchBf16Rlhflow, averages[1]),
            (Metric::RewardBenchBf16Ties, Some(ties(&ranked.in_bf16))),
        ];
        insert(&mut measured, of_bf16);
        if judge.divides_by_tokens() {
            let [average, _] = self::averages(&pairs, &ranked.per_token);
            insert(&mut measured, [(Metric::RewardBenchPerToken, average)]);
        }
        // Its models make room for those of the next judge.
        drop(judge);
        // The same policy without its reference: what of the implicit reward is likelihood alone?
        if self.judge == JudgeId::Implicit {
            let free = JudgeId::Likelihood.open(&sources)?;
            let ranked = rank(&*free, &responses, &encoder)?;
            let average = |ranked| self::averages(&pairs, ranked)[0];
            let of_policy = [
                (Metric::RewardBenchReferenceFree, average(&ranked.by_score)),
                (
                    Metric::RewardBenchReferenceFreePerToken,
                    average(&ranked.per_token),
                ),
            ];
            insert(&mut measured, of_policy);
        }
        write_json(&context.out().join(METRICS), &measured.means())
    }
}

impl RewardBench {
    /// The pairs, as they stand in the rows and as models read them.
    fn pairs(
        &self,
        inputs: &RewardBenchInputs,
        context: &StageContext,
        encoder: &TextEncoder,
    ) -> Result<(Vec<Pair>, Vec<ResponsePair>)> {
        match &self.source {
            PairSource::World { world, share } => {
                let world = world.open()?;
                let path = context.out().join(ROWS);
                write(&path, &world.rewardbench(*share))?;
                let pairs = benchmark::read(&Dataset::file(&path)?, None)?.pairs;
                let encoded = pairs.iter().map(|pair| encoded(pair, &*world, encoder));
                let encoded = encoded.collect::<Result<_>>()?;
                Ok((pairs, encoded))
            }
            PairSource::Rows { task: settings } => {
                let (set, _) = pinned(context, needed(&inputs.rows, "rows", context)?)?;
                let task = task(context, &inputs.sft, &self.generation, settings)?;
                let pairs = benchmark::read(&set, None)?.pairs;
                let encoded = pairs.iter().map(|pair| {
                    let responses = [&*pair.chosen, &*pair.rejected];
                    task.answered(&pair.place, &pair.prompt, responses)
                });
                let encoded = encoded.collect::<Result<_>>()?;
                Ok((pairs, encoded))
            }
        }
    }
}

/// Writes pairs as rows with the columns of `allenai/reward-bench`.
fn write(path: &Path, pairs: &[BenchmarkPair]) -> Result<()> {
    let row = |(id, pair): (usize, &BenchmarkPair)| {
        let prompt = match &pair.turns[..] {
            [one] => json!(one),
            several => json!(several),
        };
        json!({
            "id": id,
            "subset": pair.subset,
            "prompt": prompt,
            "chosen": pair.chosen,
            "chosen_model": "world",
            "rejected": pair.rejected,
            "rejected_model": "world",
        })
    };
    rows::write(path, pairs.iter().enumerate().map(row))
}

fn encoded(pair: &Pair, world: &dyn World, encoder: &TextEncoder) -> Result<ResponsePair> {
    Ok(ResponsePair {
        id: pair.item.clone(),
        prompt: world.conversation(&pair.prompt).into(),
        chosen: encoder.response(&pair.chosen)?,
        rejected: encoder.response(&pair.rejected)?,
    })
}

/// The shares of the four sections and their mean, each undefined where a section has no pairs;
/// `ranked` has 1, ½ (a tie) or 0 for each pair.
fn by_convention(
    pairs: &[Pair],
    ranked: &[f64],
    convention: Convention,
) -> ([Option<f64>; 4], Option<f64>) {
    let mut scores: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (pair, value) in pairs.iter().zip(ranked) {
        let score = if *value == 0.5 {
            convention.tie()
        } else {
            *value
        };
        scores.entry(pair.subset.clone()).or_default().push(score);
    }
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let accuracies = scores
        .into_iter()
        .map(|(subset, values)| (subset, mean(values)))
        .collect();
    let sections = section_scores(&accuracies, convention).map(|section| section.share());
    let average = sections.iter().copied().collect::<Option<_>>().map(mean);
    (sections, average)
}

/// The sections and averages under both conventions.
fn sections(pairs: &[Pair], ranked: &[f64]) -> Items {
    let mut measured = Items::default();
    let ([chat, hard, safety, reasoning], average) =
        by_convention(pairs, ranked, Convention::Allenai);
    let ([_, _, safety_of_rlhflow, _], average_of_rlhflow) =
        by_convention(pairs, ranked, Convention::Rlhflow);
    let all = [
        (Metric::RewardBenchChat, chat),
        (Metric::RewardBenchChatHard, hard),
        (Metric::RewardBenchSafety, safety),
        (Metric::RewardBenchReasoning, reasoning),
        (Metric::RewardBench, average),
        (Metric::RewardBenchSafetyRlhflow, safety_of_rlhflow),
        (Metric::RewardBenchRlhflow, average_of_rlhflow),
    ];
    insert(&mut measured, all);
    measured
}

/// The averages under both conventions, AllenAI's first.
fn averages(pairs: &[Pair], ranked: &[f64]) -> [Option<f64>; 2] {
    [Convention::Allenai, Convention::Rlhflow]
        .map(|convention| by_convention(pairs, ranked, convention).1)
}

fn ties(ranked: &[f64]) -> f64 {
    let ties = ranked.iter().filter(|value| **value == 0.5).count();
    ties as f64 / ranked.len() as f64
}

/// Inserts the numbers that are defined.
fn insert(measured: &mut Items, all: impl IntoIterator<Item = (Metric, Option<f64>)>) {
    for (metric, value) in all {
        measured.insert(metric, value.into_iter().collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_and_weights_are_those_of_each_convention() {
        let pair = |subset: &str| Pair {
            place: String::new(),
            subset: subset.into(),
            item: String::new(),
            cluster: String::new(),
            prompt: vec![],
            chosen: String::new(),
            rejected: String::new(),
            unended: [false; 2],
        };
        let pairs = [
            pair("alpacaeval-easy"),
            pair("llmbar-natural"),
            pair("xstest-should-refuse"),
            pair("xstest-should-respond"),
            pair("hep-go"),
        ];
        let ranked = [1.0, 0.5, 1.0, 0.0, 1.0];
        let measured = sections(&pairs, &ranked);
        assert_eq!(ties(&ranked), 0.2);
        let value = |metric| measured.0[&metric][0];
        assert_eq!(value(Metric::RewardBenchChat), 1.0);
        assert_eq!(value(Metric::RewardBenchChatHard), 0.0);
        // The weights of the two subsets are 154 and 250, and RLHFlow swaps them.
        assert_eq!(value(Metric::RewardBenchSafety), 154.0 / 404.0);
        assert_eq!(value(Metric::RewardBenchSafetyRlhflow), 250.0 / 404.0);
        let average = |hard: f64, safety: f64| (1.0 + hard + safety + 1.0) / 4.0;
        assert_eq!(value(Metric::RewardBench), average(0.0, 154.0 / 404.0));
        assert_eq!(
            value(Metric::RewardBenchRlhflow),
            average(0.5, 250.0 / 404.0)
        );
    }
}
