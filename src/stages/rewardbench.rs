//! Stage `rewardbench`: measures a reward, or a heuristic, on pairs of the embedded world in the
//! subsets of RewardBench.

use super::Stage;
use super::common::{encoder, write_json};
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
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// The file with the pairs, in the columns of the published data.
const ROWS: &str = "rows.jsonl";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardBench {
    pub world: WorldAt,
    /// Size of every subset as a share of its published size.
    pub share: f64,
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
}

impl Stage for RewardBench {
    const KIND: &'static str = "rewardbench";
    const VERSION: u32 = 1;
    type Inputs = RewardBenchInputs;
    /// Sizes whose rows are the responses of all pairs.
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let models = work::readers(&self.judge, sizes.shapes(&self.generation));
        work::reading(&models, 1, sizes.rows, Precision::from(self.dtype))
    }

    fn run(self, inputs: RewardBenchInputs, context: &StageContext) -> Result<()> {
        let encoder = encoder(context, &inputs.sft, &self.generation)?;
        let judge = self.judge.open(&JudgeInputs {
            context,
            dtype: self.dtype,
            reward: inputs.reward,
            policy: inputs.policy,
            reference: Some(inputs.sft),
        })?;
        let world = self.world.open()?;
        let path = context.out().join(ROWS);
        write(&path, &world.rewardbench(self.share))?;
        let pairs = benchmark::read(&Dataset::file(&path)?, None)?.pairs;
        let responses = pairs
            .iter()
            .map(|pair| encoded(pair, &*world, &encoder))
            .collect::<Result<Vec<_>>>()?;
        let ranked = rank(&*judge, &responses, &encoder)?.by_score;
        write_json(
            &context.out().join(METRICS),
            &measured(&pairs, &ranked).means(),
        )
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

/// The sections and averages under both conventions, undefined where a section has no pairs; `ranked` has 1, ½ (a tie) or 0 for each pair.
fn measured(pairs: &[Pair], ranked: &[f64]) -> Items {
    let mut measured = Items::default();
    for convention in [Convention::Allenai, Convention::Rlhflow] {
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
        let mut insert = |metric, score: Option<f64>| {
            measured.insert(metric, score.into_iter().collect());
        };
        match convention {
            Convention::Allenai => {
                let names = [
                    Metric::RewardBenchChat,
                    Metric::RewardBenchChatHard,
                    Metric::RewardBenchSafety,
                    Metric::RewardBenchReasoning,
                ];
                for (metric, score) in names.into_iter().zip(sections) {
                    insert(metric, score);
                }
                insert(Metric::RewardBench, average);
            }
            Convention::Rlhflow => {
                let [_, _, safety, _] = sections;
                insert(Metric::RewardBenchSafetyRlhflow, safety);
                insert(Metric::RewardBenchRlhflow, average);
            }
        }
    }
    measured
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
        let measured = measured(&pairs, &[1.0, 0.5, 1.0, 0.0, 1.0]);
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
