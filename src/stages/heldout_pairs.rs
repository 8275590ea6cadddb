//! Stage `heldout_pairs`: held-out pairs of the SFT policy, on which rewards are measured.

use super::Stage;
use super::common::{encoder, frozen, sampling};
use super::evaluation_set::EvaluationSetInputs;
use super::work::{self, Shapes, Work};
use crate::Result;
use crate::data::rows::{self, ResponsePair};
use crate::eval::evaluation_set::WorldEvaluationSet;
use crate::eval::policy::respond;
use crate::experiment::GenerationSettings;
use crate::methods::training::Dtype;
use crate::model::DecoderConfig;
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldoutPairs {
    /// The evaluation set of the embedded world; `None` for real posts, which come as inputs.
    pub evaluation_set: Option<WorldEvaluationSet>,
    /// Number of posts used, from the start of the evaluation set.
    pub posts: usize,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    pub temperature: f32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct HeldoutPairsInputs {
    /// The SFT policy.
    pub policy: StageKey,
    #[serde(flatten)]
    pub evaluation_set: EvaluationSetInputs,
}

/// The shapes of the policy and of the judge of real posts.
pub struct HeldoutPairsSizes<'a> {
    pub policy: &'a DecoderConfig,
    pub judge: Option<&'a DecoderConfig>,
}

impl Stage for HeldoutPairs {
    const KIND: &'static str = "heldout_pairs";
    const VERSION: u32 = 1;
    type Inputs = HeldoutPairsInputs;
    type Sizes<'a> = HeldoutPairsSizes<'a>;

    fn work(&self, HeldoutPairsSizes { policy, judge }: HeldoutPairsSizes) -> Work {
        let (shapes, precision) = (
            Shapes {
                config: policy,
                generation: &self.generation,
            },
            self.dtype.into(),
        );
        let drawn = work::sampling(shapes, 2 * self.posts, precision);
        drawn + work::judging(judge, &self.generation, 2 * self.posts, precision)
    }

    /// Writes `on_policy.jsonl`: two samples for one post, the one with more gold preferred (ties
    /// are left out; empty without gold), and `demonstrated.jsonl`: the demonstrator's response
    /// preferred to a sample.
    fn run(self, inputs: HeldoutPairsInputs, context: &StageContext) -> Result<()> {
        let evaluation_set = inputs
            .evaluation_set
            .open(
                context,
                self.evaluation_set.as_ref(),
                &self.generation,
                self.dtype,
            )?
            .first(self.posts);
        let policy = frozen(context, &inputs.policy, self.dtype)?;
        let encoder = encoder(context, &inputs.policy, &self.generation)?;
        let sampling = sampling(&encoder, &self.generation, self.temperature);
        let draw = |purpose: &str| {
            let progress =
                |done| context.progress(done as u64, evaluation_set.posts.len() as u64, "sampling");
            respond(
                &policy,
                &evaluation_set,
                &encoder,
                &sampling,
                context.seed()?,
                purpose,
                progress,
            )
        };
        let (first, second) = (draw("exam/first")?, draw("exam/second")?);
        let (mut on_policy, mut demonstrated) = (Vec::new(), Vec::new());
        let golds: Vec<_> = evaluation_set
            .golds(&first)?
            .into_iter()
            .zip(evaluation_set.golds(&second)?)
            .collect();
        for (index, post) in evaluation_set.posts.iter().enumerate() {
            let pair = |chosen, rejected| ResponsePair {
                id: post.id.clone(),
                prompt: post.prompt.clone(),
                chosen,
                rejected,
            };
            let (a, b) = (&first[index], &second[index]);
            match golds[index] {
                (Some(gold_a), Some(gold_b)) if gold_a > gold_b => {
                    on_policy.push(pair(a.clone(), b.clone()))
                }
                (Some(gold_a), Some(gold_b)) if gold_a < gold_b => {
                    on_policy.push(pair(b.clone(), a.clone()))
                }
                _ => {}
            }
            demonstrated.push(pair(encoder.response(&post.reference)?, a.clone()));
        }
        demonstrated.retain(|pair| !pair.is_identical());
        rows::write(&context.out().join("on_policy.jsonl"), on_policy)?;
        rows::write(&context.out().join("demonstrated.jsonl"), demonstrated)
    }
}
