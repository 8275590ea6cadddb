//! Stage `evaluate_reward`: measures a reward, or a heuristic, on held-out pairs.

use super::Stage;
use super::common::{encoder, write_json};
use super::evaluate::{ITEMS, METRICS};
use super::scoring::JudgeInputs;
use super::work::{self, Precision, Sizes, Work};
use crate::Result;
use crate::data::rows::{self, ResponsePair};
use crate::eval::Items;
use crate::eval::accuracy::rank;
use crate::experiment::{GenerationSettings, Metric};
use crate::judges::JudgeId;
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateReward {
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    pub judge: JudgeId,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct EvaluateRewardInputs {
    pub sft: StageKey,
    /// Pairs sampled from the SFT policy.
    pub heldout_pairs: StageKey,
    /// The reward model under evaluation.
    pub reward: Option<StageKey>,
    /// The policy whose implicit reward is evaluated.
    pub policy: Option<StageKey>,
    /// The held-out preferences; `None` for real posts without preferences.
    pub preferences: Option<StageKey>,
}

impl Stage for EvaluateReward {
    const KIND: &'static str = "evaluate_reward";
    const VERSION: u32 = 4;
    type Inputs = EvaluateRewardInputs;
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let shapes = sizes.shapes(&self.generation);
        let models = work::readers(&self.judge, shapes);
        // Two passes: the preferred responses, then the others.
        work::reading(&models, 2, sizes.rows, Precision::from(self.dtype))
    }

    fn run(self, inputs: EvaluateRewardInputs, context: &StageContext) -> Result<()> {
        let encoder = encoder(context, &inputs.sft, &self.generation)?;
        let judge = self.judge.open(&JudgeInputs {
            context,
            dtype: self.dtype,
            reward: inputs.reward,
            policy: inputs.policy,
            reference: Some(inputs.sft),
        })?;
        let heldout_pairs = context.artifact(&inputs.heldout_pairs)?;
        let mut sources = vec![
            (
                heldout_pairs.join("on_policy.jsonl"),
                Metric::OnPolicyAccuracy,
            ),
            (
                heldout_pairs.join("demonstrated.jsonl"),
                Metric::DemonstrationAccuracy,
            ),
        ];
        if let Some(preferences) = &inputs.preferences {
            sources.push((
                context.artifact(preferences)?.join("pairs.jsonl"),
                Metric::PreferenceAccuracy,
            ));
        }
        let (mut measured, mut items) = (Items::default(), Items::default());
        for (path, metric) in sources {
            let pairs: Vec<ResponsePair> = rows::read(&path)?;
            let ranked = rank(&*judge, &pairs, &encoder)?;
            // The preferences are the same for every method and seed; the evaluation pairs belong
            // to a seed's own policy.
            if metric == Metric::PreferenceAccuracy {
                if judge.divides_by_tokens() {
                    measured.insert_ranked(Metric::PreferenceAccuracyPerToken, ranked.per_token);
                }
                items.insert_ranked(metric, ranked.by_score.clone());
            }
            measured.insert_ranked(metric, ranked.by_score);
        }
        write_json(&context.out().join(METRICS), &measured.means())?;
        rows::write(&context.out().join(ITEMS), [items])
    }
}
