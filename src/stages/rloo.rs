//! Stage `rloo`: trains a policy on a reward by REINFORCE with leave-one-out baselines, near a
//! reference (eq. 9).

use super::Stage;
use super::common::{
    Watch, demonstrations, encoder, frozen, language_model, prompts, sampling, save_policy,
    within_memory, write_json,
};
use super::on_policy::{OnPolicy, OnPolicyInputs};
use super::scoring::SampleJudge;
use super::work::{Precision, Sizes, Work, policy_gradient};
use crate::Result;
use crate::experiment::{GenerationSettings, Hyper};
use crate::judges::JudgeId;
use crate::methods::rloo::{RlooSettings, rloo};
use crate::methods::rollout::Task;
use crate::methods::training::Training;
use crate::pipeline::StageContext;
use crate::rng::round;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rloo {
    pub generation: GenerationSettings,
    pub rloo: RlooSettings,
    pub training: Training,
    pub reward: JudgeId,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

impl OnPolicy for Rloo {
    fn of(hyper: &Hyper, reward: JudgeId, round: usize, rounds: usize) -> Self {
        let mut rloo = hyper.rloo.clone();
        rloo.updates *= rounds;
        Self {
            generation: hyper.generation.clone(),
            rloo,
            training: hyper.training.clone(),
            reward,
            round,
        }
    }
}

impl Stage for Rloo {
    const KIND: &'static str = "rloo";
    const VERSION: u32 = 1;
    type Inputs = OnPolicyInputs;
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let (shapes, learned) = (
            sizes.shapes(&self.generation),
            self.reward.reads_reward_model(),
        );
        policy_gradient(
            shapes,
            (&self.rloo).into(),
            learned,
            Precision::from(&self.training),
        )
    }

    fn run(self, inputs: OnPolicyInputs, context: &StageContext) -> Result<()> {
        let policy = language_model(context, &inputs.policy)?;
        let reference = frozen(context, &inputs.reference, self.training.dtype)?;
        let encoder = encoder(context, &inputs.policy, &self.generation)?;
        let demonstrations = demonstrations(context, &inputs.demonstrations)?;
        let prompts = prompts(&demonstrations, &encoder)?;
        let judge = SampleJudge::open(
            &self.reward,
            &inputs.sources(context, self.training.dtype),
            &encoder,
            &demonstrations,
            &prompts,
        )?;
        let work = self.work(Sizes::new(policy.config(), prompts.len()));
        let training = within_memory(context, &self.training, &work)?;
        let sampling = sampling(&encoder, &self.generation, self.rloo.temperature);
        let task = Task {
            reference: &reference,
            reward: judge.reward_function()?,
            critic: None,
            prompts: &prompts,
            sampling: &sampling,
        };
        let seed = round(context.seed()?, self.round);
        let (model, records) = rloo(policy, task, &self.rloo, &training, seed, &Watch(context))?;
        write_json(&context.out().join("curve.json"), &records)?;
        save_policy(context, &model, &inputs.policy)
    }
}
