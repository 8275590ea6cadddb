//! Stage `evaluate_reward`: measures a reward, or a heuristic, on held-out pairs.

use super::Stage;
use super::common::{encoder, frozen, frozen_reward, needed, write_json};
use super::evaluate::{ITEMS, METRICS};
use super::work::{self, Precision, Sizes, Work};
use crate::Result;
use crate::data::rows::{self, ResponsePair};
use crate::eval::Items;
use crate::eval::accuracy::{Judge, rank};
use crate::experiment::{GenerationSettings, Heuristic, Metric};
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateReward {
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    pub judge: JudgeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum JudgeKind {
    /// The reward model in the input `reward`.
    Explicit,
    /// log π − log π_sft of the inputs `policy` and `sft`.
    Implicit,
    /// log π of the input `policy`, which ranks responses like the reward that IQ-Learn recovers.
    Likelihood,
    Heuristic(Heuristic),
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
        let models = match self.judge {
            JudgeKind::Implicit => vec![(shapes, false), (shapes, false)],
            JudgeKind::Explicit => vec![(shapes, true)],
            JudgeKind::Likelihood | JudgeKind::Heuristic(Heuristic::LogProbability) => {
                vec![(shapes, false)]
            }
            JudgeKind::Heuristic(_) => vec![],
        };
        // Two passes: the preferred responses, then the others.
        work::reading(&models, 2, sizes.rows, Precision::from(self.dtype))
    }

    fn run(self, inputs: EvaluateRewardInputs, context: &StageContext) -> Result<()> {
        let encoder = encoder(context, &inputs.sft, &self.generation)?;
        let model = |input| frozen(context, input, self.dtype);
        let policy_input = || needed(&inputs.policy, "policy", context);
        let (explicit, policy, sft);
        let judge = match self.judge {
            JudgeKind::Explicit => {
                explicit = frozen_reward(
                    context,
                    needed(&inputs.reward, "reward", context)?,
                    self.dtype,
                )?
                .0;
                Judge::Explicit(&explicit)
            }
            JudgeKind::Implicit => {
                (policy, sft) = (model(policy_input()?)?, model(&inputs.sft)?);
                Judge::Implicit {
                    policy: &policy,
                    reference: &sft,
                }
            }
            JudgeKind::Likelihood => {
                policy = model(policy_input()?)?;
                Judge::LogProbability(&policy)
            }
            JudgeKind::Heuristic(Heuristic::LogProbability) => {
                sft = model(&inputs.sft)?;
                Judge::LogProbability(&sft)
            }
            JudgeKind::Heuristic(heuristic) => Judge::Heuristic {
                heuristic,
                seed: context.seed()?,
            },
        };
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
            let ranked = rank(&judge, &pairs, &encoder)?;
            // The preferences are the same for every method and seed; the evaluation pairs belong
            // to a seed's own policy.
            if metric == Metric::PreferenceAccuracy {
                // Per token, a length is the same for all responses, and a coin toss or an overlap
                // is not a sum over tokens.
                if !matches!(judge, Judge::Heuristic { .. }) {
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
