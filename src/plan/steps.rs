//! The steps of recipes: the stages that train a policy on scores, on pairs or on chosen
//! demonstrations.

use super::tuning::Tuning;
use super::{Planner, Run, Start};
use crate::data::world::{Split, WorldAt};
use crate::experiment::{Hyper, Recipe, Step};
use crate::judges::JudgeId;
use crate::judges::gold::ScaledGold;
use crate::methods::best_of_n::BestOfNStart;
use crate::methods::tune::TuningSettings;
use crate::pipeline::StageKey;
use crate::stages::best_of_n::{BestOfN, BestOfNInputs};
use crate::stages::dpo::{Dpo, DpoInputs};
use crate::stages::filter::{Filter, FilterInputs};
use crate::stages::grpo::Grpo;
use crate::stages::iq_learn::{IqLearn, IqLearnInputs};
use crate::stages::judged_pairs::{JudgedPairs, JudgedPairsInputs};
use crate::stages::on_policy::{OnPolicy, OnPolicyInputs};
use crate::stages::ppo::Ppo;
use crate::stages::rloo::Rloo;
use crate::stages::select::{SelectInputs, SelectPolicy};
use crate::stages::sft::{Sft, SftInputs};
use crate::stages::spin::{Spin, SpinInputs};
use crate::stages::work::Sizes;
use crate::{Error, Result};

/// Constants that centre and scale gold in privileged policy steps: about its mean and deviation
/// over SFT samples.
const GOLD_MEAN: f32 = 0.7;
const GOLD_STD: f32 = 0.2;

/// A judge, and the stage of the reward model that it reads, if it reads one.
pub(super) type StepJudge = (JudgeId, Option<StageKey>);

/// The inputs of a step.
#[derive(Clone, Copy)]
pub(super) struct Position<'p> {
    /// The policy that the step starts from.
    pub policy: StageKey,
    /// The policy that the step stays near.
    pub anchor: StageKey,
    pub judge: Option<&'p StepJudge>,
    /// The pairs that are there to learn from, and their number.
    pub pairs: (&'p [StageKey], usize),
    /// Number of the round, from 0.
    pub round: usize,
}

impl Position<'_> {
    /// The judge of a step that needs one.
    ///
    /// # Errors
    /// A recipe without a judge, which [`Recipe::fault`] refuses.
    fn scored_by(&self) -> Result<StepJudge> {
        self.judge
            .cloned()
            .ok_or_else(|| Error::internal("a step on scores was planned without a judge"))
    }

    /// The reward model of a step that needs one.
    ///
    /// # Errors
    /// A recipe without a learned judge, which [`Recipe::fault`] refuses.
    fn reward(&self) -> Result<StageKey> {
        self.judge
            .and_then(|(_, reward)| *reward)
            .ok_or_else(|| Error::internal("a step on a reward model was planned without one"))
    }
}

impl Planner<'_> {
    /// Gold as the judge of a privileged step.
    ///
    /// # Errors
    /// A corpus without the embedded world.
    pub(super) fn gold(&self) -> Result<StepJudge> {
        let gold = ScaledGold {
            world: Box::new(WorldAt::new(self.world()?)),
            mean: GOLD_MEAN,
            std: GOLD_STD,
        };
        Ok((JudgeId::Gold(gold), None))
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

    /// Plans `step` of `recipe`. The last of the stages makes the policy.
    pub(super) fn step(
        &mut self,
        run: &Run,
        recipe: &Recipe,
        step: Step,
        at: Position,
    ) -> Result<Vec<StageKey>> {
        match step {
            Step::Ppo => self.on_policy::<Ppo>(run, recipe, &at),
            Step::Rloo => self.on_policy::<Rloo>(run, recipe, &at),
            Step::Grpo => self.on_policy::<Grpo>(run, recipe, &at),
            Step::BestOfN => self.imitated_winners(run, &at),
            Step::Dpo => match at.judge {
                None => {
                    let mut stages = match recipe.iterates() {
                        true => vec![],
                        false => self.dpo_tuning(run, at.pairs.0, at.pairs.1)?,
                    };
                    let tuning = stages.last().copied();
                    stages.push(self.dpo(run, &at, at.pairs, tuning)?);
                    Ok(stages)
                }
                Some(_) => {
                    let judged = self.judged(run, &at)?;
                    let pairs = (&[judged][..], self.count(run.hyper));
                    Ok(vec![judged, self.dpo(run, &at, pairs, None)?])
                }
            },
            Step::Spin => Ok(vec![self.spin(run, &at)?]),
            Step::IqLearn => {
                let mut stages = self.iq_learn_tuning(run)?;
                stages.push(self.iq_learn(run, stages.last().copied())?);
                Ok(stages)
            }
            Step::Filter => self.imitated_best(run, &at),
        }
    }

    /// Plans a step that optimises the judge's scores of the policy's samples near the anchor.
    fn on_policy<S: OnPolicy>(
        &mut self,
        run: &Run,
        recipe: &Recipe,
        at: &Position,
    ) -> Result<Vec<StageKey>> {
        let (judge, reward) = at.scored_by()?;
        let stage = S::of(run.hyper, judge, at.round, recipe.update_rounds(run.hyper));
        let inputs = OnPolicyInputs {
            policy: at.policy,
            reference: at.anchor,
            demonstrations: run.demonstrations,
            reward,
        };
        let label = run.label(&format!("iteration {}/{}", at.round + 1, S::KIND));
        let sizes = run.sizes(self.count(run.hyper));
        Ok(vec![self.add(
            &stage,
            inputs,
            Some(run.start.seed),
            label,
            sizes,
        )?])
    }

    /// Plans SFT on the best of n samples of the policy for every prompt.
    fn imitated_winners(&mut self, run: &Run, at: &Position) -> Result<Vec<StageKey>> {
        let winners = self.winners(run, at)?;
        let start = match run.hyper.best_of_n.start {
            BestOfNStart::Sft => run.sft,
            BestOfNStart::Previous => at.policy,
        };
        let rows = (&winners, self.count(run.hyper));
        let label = run.label(&format!("iteration {}/sft", at.round + 1));
        let policy =
            self.fine_tuned(run.start, run.hyper, &start, rows, Tuning::default(), label)?;
        Ok(vec![winners, policy])
    }

    /// Plans SFT of the base on the demonstrations that the reward scores highest.
    fn imitated_best(&mut self, run: &Run, at: &Position) -> Result<Vec<StageKey>> {
        let kept = self.filter(run, at)?;
        let count = (self.count(run.hyper) as f64 * run.hyper.filtered_bc.keep).ceil() as usize;
        let rows = (&kept, count);
        let by = self.sft_tuning(run.start, run.hyper, rows, run.label("tune"))?;
        let tuning = Tuning { by, epochs: None };
        let base = &run.start.base;
        let policy = self.fine_tuned(run.start, run.hyper, base, rows, tuning, run.label("sft"))?;
        let tuned = by.map(|(key, _)| key);
        Ok([kept].into_iter().chain(tuned).chain([policy]).collect())
    }

    /// Plans SPIN's loss on the pairs, from the policy against itself.
    fn spin(&mut self, run: &Run, at: &Position) -> Result<StageKey> {
        let stage = Spin {
            generation: run.hyper.generation.clone(),
            spin: run.hyper.spin.of_iteration(at.round),
            training: run.hyper.training.clone(),
            round: at.round,
        };
        let inputs = SpinInputs {
            policy: at.policy,
            pairs: at.pairs.0.to_vec(),
        };
        let label = run.label(&format!("iteration {}/spin", at.round + 1));
        let sizes = run.sizes(at.pairs.1);
        self.add(&stage, inputs, Some(run.start.seed), label, sizes)
    }

    /// Plans DPO against the anchor on the given number of pairs, with the values that `tuning`
    /// chooses.
    fn dpo(
        &mut self,
        run: &Run,
        at: &Position,
        (pairs, count): (&[StageKey], usize),
        tuning: Option<StageKey>,
    ) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let stage = Dpo {
            generation,
            dpo: run.hyper.dpo.clone(),
            training,
            round: at.round,
        };
        let inputs = DpoInputs {
            policy: at.policy,
            reference: at.anchor,
            pairs: pairs.to_vec(),
            tuning,
        };
        let label = run.label(&format!("iteration {}/dpo", at.round + 1));
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

    fn iq_learn(&mut self, run: &Run, tuning: Option<StageKey>) -> Result<StageKey> {
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

    /// Plans the selection of the best of n samples of the policy by the reward, for every prompt.
    fn winners(&mut self, run: &Run, at: &Position) -> Result<StageKey> {
        let stage = BestOfN {
            generation: run.hyper.generation.clone(),
            best_of_n: run.hyper.best_of_n.clone(),
            dtype: run.hyper.training.dtype,
            round: at.round,
        };
        let inputs = BestOfNInputs {
            policy: at.policy,
            reward: at.reward()?,
            demonstrations: run.demonstrations,
        };
        let label = run.label(&format!("iteration {}/best of n", at.round + 1));
        let sizes = run.sizes(self.count(run.hyper));
        self.add(&stage, inputs, Some(run.start.seed), label, sizes)
    }

    /// Plans two samples of the policy for every prompt, ranked by the judge.
    fn judged(&mut self, run: &Run, at: &Position) -> Result<StageKey> {
        let (judge, reward) = at.scored_by()?;
        let stage = JudgedPairs {
            generation: run.hyper.generation.clone(),
            temperature: run.hyper.dpo.temperature,
            reward: judge,
            dtype: run.hyper.training.dtype,
            round: at.round,
        };
        let inputs = JudgedPairsInputs {
            policy: at.policy,
            demonstrations: run.demonstrations,
            reward,
        };
        let label = run.label(&format!("iteration {}/judged pairs", at.round + 1));
        let sizes = run.sizes(self.count(run.hyper));
        self.add(&stage, inputs, Some(run.start.seed), label, sizes)
    }

    /// Plans the selection of the demonstrations that the reward scores highest.
    fn filter(&mut self, run: &Run, at: &Position) -> Result<StageKey> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = Filter {
            generation,
            filtered_bc: run.hyper.filtered_bc.clone(),
            dtype,
        };
        let inputs = FilterInputs {
            reward: at.reward()?,
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
        let (split, posts) = (Split::Validation, run.hyper.evaluation.selection_posts);
        let Some(evaluation_set) = self.evaluation_set_of(run.hyper, split, posts) else {
            return Err(Error::internal(
                "a selection by gold was planned without it",
            ));
        };
        let stage = SelectPolicy {
            evaluation_set,
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

/// The largest number of epochs that a search can choose.
fn longest(tuning: Option<&TuningSettings>) -> Option<usize> {
    tuning.and_then(|tuning| tuning.epochs.iter().copied().max())
}
