//! The stages that train a policy on a score or on pairs, and those that select its training data.

use super::tuning::Tuning;
use super::{Planner, Run, Start};
use crate::Result;
use crate::data::world::Split;
use crate::experiment::Hyper;
use crate::methods::tune::TuningSettings;
use crate::pipeline::StageKey;
use crate::stages::best_of_n::{BestOfN, BestOfNInputs};
use crate::stages::common::WorldAt;
use crate::stages::dpo::{Dpo, DpoInputs};
use crate::stages::filter::{Filter, FilterInputs};
use crate::stages::grpo::Grpo;
use crate::stages::iq_learn::{IqLearn, IqLearnInputs};
use crate::stages::judged_pairs::{JudgedPairs, JudgedPairsInputs};
use crate::stages::ppo::{OnPolicyInputs, Ppo};
use crate::stages::reward_function::RewardSource;
use crate::stages::rloo::Rloo;
use crate::stages::select::{SelectInputs, SelectPolicy};
use crate::stages::sft::{Sft, SftInputs};
use crate::stages::work::Sizes;

/// Constants that centre and scale gold in privileged policy steps: about its mean and deviation
/// over SFT samples.
const GOLD_MEAN: f32 = 0.7;
const GOLD_STD: f32 = 0.2;

impl Planner<'_> {
    pub(super) fn gold(&self) -> RewardSource {
        RewardSource::Gold {
            world: Box::new(WorldAt::new(&self.study.world)),
            mean: GOLD_MEAN,
            std: GOLD_STD,
        }
    }

    /// Plans SFT of `from` on the given number of demonstrations, with the values that `tuning`
    /// chooses.
    pub(super) fn fine_tuned(
        &mut self,
        start: &Start,
        hyper: &Hyper,
        from: &StageKey,
        (demonstrations, count): (&StageKey, usize),
        tuning: Tuning,
        label: String,
    ) -> Result<StageKey> {
        let (generation, training, mut sft) = (
            hyper.generation.clone(),
            hyper.training.clone(),
            hyper.sft.clone(),
        );
        sft.epochs = tuning.epochs.unwrap_or(sft.epochs);
        let own_epochs = tuning.epochs.is_some() && tuning.by.is_some();
        let stage = Sft {
            generation,
            sft,
            training,
            own_epochs,
        };
        let (by, longest) = tuning.by.unzip();
        let inputs = SftInputs {
            base: *from,
            demonstrations: *demonstrations,
            tuning: by,
        };
        let sizes = Sizes {
            epochs: longest.flatten(),
            ..start.sizes(count)
        };
        self.add(&stage, inputs, Some(start.seed), label, sizes)
    }

    /// Plans PPO from `policy` near `reference`, on the reward model, or on gold if there is none,
    /// with `rounds` times the updates.
    pub(super) fn ppo(
        &mut self,
        run: &Run,
        policies: [&StageKey; 2],
        reward: Option<&StageKey>,
        round: usize,
        rounds: usize,
    ) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let mut settings = run.hyper.ppo.clone();
        settings.updates *= rounds;
        let source = if reward.is_some() {
            RewardSource::Learned
        } else {
            self.gold()
        };
        let stage = Ppo {
            generation,
            ppo: settings,
            training,
            reward: source,
            round,
        };
        let label = run.label(&format!("iteration {}/ppo", round + 1));
        let sizes = run.sizes(self.count(run.hyper));
        self.add(
            &stage,
            on_policy(run, policies, reward),
            Some(run.start.seed),
            label,
            sizes,
        )
    }

    pub(super) fn rloo(
        &mut self,
        run: &Run,
        policies: [&StageKey; 2],
        reward: &StageKey,
        round: usize,
    ) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let mut rloo = run.hyper.rloo.clone();
        rloo.updates *= run.hyper.irl.policy_rounds;
        let stage = Rloo {
            generation,
            rloo,
            training,
            reward: RewardSource::Learned,
            round,
        };
        let label = run.label(&format!("iteration {}/rloo", round + 1));
        let sizes = run.sizes(self.count(run.hyper));
        self.add(
            &stage,
            on_policy(run, policies, Some(reward)),
            Some(run.start.seed),
            label,
            sizes,
        )
    }

    pub(super) fn grpo(
        &mut self,
        run: &Run,
        policies: [&StageKey; 2],
        reward: &StageKey,
        round: usize,
    ) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let mut grpo = run.hyper.grpo.clone();
        grpo.updates *= run.hyper.irl.policy_rounds;
        let stage = Grpo {
            generation,
            grpo,
            training,
            reward: RewardSource::Learned,
            round,
        };
        let label = run.label(&format!("iteration {}/grpo", round + 1));
        let sizes = run.sizes(self.count(run.hyper));
        self.add(
            &stage,
            on_policy(run, policies, Some(reward)),
            Some(run.start.seed),
            label,
            sizes,
        )
    }

    /// Plans DPO from `policy` against `reference` on the given number of pairs, with the values
    /// that `tuning` chooses.
    pub(super) fn dpo(
        &mut self,
        run: &Run,
        [policy, reference]: [&StageKey; 2],
        (pairs, count): (&[StageKey], usize),
        round: usize,
        tuning: Option<StageKey>,
    ) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let stage = Dpo {
            generation,
            dpo: run.hyper.dpo.clone(),
            training,
            round,
        };
        let inputs = DpoInputs {
            policy: *policy,
            reference: *reference,
            pairs: pairs.to_vec(),
            tuning,
        };
        let label = run.label(&format!("iteration {}/dpo", round + 1));
        let epochs = tuning.and_then(|_| longest(run.hyper.choices.dpo.tuning.as_ref()));
        self.add(
            &stage,
            inputs,
            Some(run.start.seed),
            label,
            Sizes {
                epochs,
                ..run.sizes(count)
            },
        )
    }

    pub(super) fn iq_learn(&mut self, run: &Run, tuning: Option<StageKey>) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let stage = IqLearn {
            generation,
            iq_learn: run.hyper.iq_learn.clone(),
            training,
        };
        let inputs = IqLearnInputs {
            policy: run.sft,
            demonstrations: run.demonstrations,
            tuning,
        };
        let epochs = tuning.and_then(|_| longest(run.hyper.choices.iq_learn.tuning.as_ref()));
        let sizes = Sizes {
            epochs,
            ..run.sizes(self.count(run.hyper))
        };
        self.add(
            &stage,
            inputs,
            Some(run.start.seed),
            run.label("iq_learn"),
            sizes,
        )
    }

    /// Plans the selection of the best of n samples of `policy` by `reward`, for every prompt.
    pub(super) fn winners(
        &mut self,
        run: &Run,
        policy: &StageKey,
        reward: &StageKey,
        round: usize,
    ) -> Result<StageKey> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = BestOfN {
            generation,
            best_of_n: run.hyper.best_of_n.clone(),
            dtype,
            round,
        };
        let inputs = BestOfNInputs {
            policy: *policy,
            reward: *reward,
            demonstrations: run.demonstrations,
        };
        let label = run.label(&format!("iteration {}/best of n", round + 1));
        let sizes = run.sizes(self.count(run.hyper));
        self.add(&stage, inputs, Some(run.start.seed), label, sizes)
    }

    /// Plans two samples of `policy` for every prompt, judged by `source`.
    pub(super) fn judged(
        &mut self,
        run: &Run,
        policy: &StageKey,
        source: RewardSource,
        reward: Option<&StageKey>,
        round: usize,
    ) -> Result<StageKey> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let temperature = run.hyper.dpo.temperature;
        let stage = JudgedPairs {
            generation,
            temperature,
            reward: source,
            dtype,
            round,
        };
        let inputs = JudgedPairsInputs {
            policy: *policy,
            demonstrations: run.demonstrations,
            reward: reward.copied(),
        };
        let label = run.label(&format!("iteration {}/judged pairs", round + 1));
        let sizes = run.sizes(self.count(run.hyper));
        self.add(&stage, inputs, Some(run.start.seed), label, sizes)
    }

    /// Plans the selection of the demonstrations that `reward` scores highest.
    pub(super) fn filter(&mut self, run: &Run, reward: &StageKey) -> Result<StageKey> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = Filter {
            generation,
            filtered_bc: run.hyper.filtered_bc.clone(),
            dtype,
        };
        let inputs = FilterInputs {
            reward: *reward,
            demonstrations: run.demonstrations,
        };
        let sizes = run.sizes(self.count(run.hyper));
        self.add(
            &stage,
            inputs,
            Some(run.start.seed),
            run.label("filter"),
            sizes,
        )
    }

    /// Plans the selection of the policy with the most gold on validation posts, the only selection
    /// of a result by gold.
    pub(super) fn select(&mut self, run: &Run, policy: Vec<StageKey>) -> Result<StageKey> {
        let stage = SelectPolicy {
            evaluation_set: self.evaluation_set_of(
                run.hyper,
                Split::Validation,
                run.hyper.evaluation.selection_posts,
            ),
            generation: run.hyper.generation.clone(),
            dtype: run.hyper.training.dtype,
            temperature: run.hyper.evaluation.temperature,
        };
        let sizes = run.sizes(policy.len());
        self.add(
            &stage,
            SelectInputs { policy },
            Some(run.start.seed),
            run.label("select"),
            sizes,
        )
    }
}

/// Inputs of a stage that trains on its own samples: [policy, reference], prompts, and the reward
/// model if the reward is learned.
fn on_policy(
    run: &Run,
    [policy, reference]: [&StageKey; 2],
    reward: Option<&StageKey>,
) -> OnPolicyInputs {
    let (policy, reference, demonstrations) = (*policy, *reference, run.demonstrations);
    OnPolicyInputs {
        policy,
        reference,
        demonstrations,
        reward: reward.copied(),
    }
}

/// The largest number of epochs that a search can choose.
fn longest(tuning: Option<&TuningSettings>) -> Option<usize> {
    tuning.and_then(|tuning| tuning.epochs.iter().copied().max())
}
