//! The recipes: the stages that make a method, and those that measure it. Recipes that iterate are
//! in `iterative`.

use super::iterative::Round;
use super::tuning::Tuning;
use super::{Planner, Run, Start};
use crate::Result;
use crate::experiment::{Hyper, MethodPlan, ModelSettings, Recipe};
use crate::methods::dpo::DpoPairs;
use crate::pipeline::StageKey;
use crate::stages::evaluate::Responder;
use crate::stages::evaluate_reward::JudgeKind;

impl Planner<'_> {
    pub(super) fn seed(&mut self, size: &str, model: &ModelSettings, seed: u64) -> Result<()> {
        for method in self
            .study
            .methods
            .iter()
            .filter(|method| method.runs(&self.study.seeds, seed))
        {
            let start = self.start(size, model, seed, &method.hyper)?;
            let run = self.run(&start, method)?;
            self.method(&run)?;
            if method.id == self.study.report.baseline {
                self.heuristics(&run)?;
            }
        }
        Ok(())
    }

    /// A method with everything that it starts from.
    pub(super) fn run<'r>(
        &mut self,
        start: &'r Start<'r>,
        method: &'r MethodPlan,
    ) -> Result<Run<'r>> {
        let hyper = &method.hyper;
        let source = self.demonstrations(hyper, start.data)?;
        let demonstrations = self.corrupted(start, hyper, &source)?;
        let (sft, sft_tuning) = self.sft(start, hyper, &demonstrations)?;
        let heldout_pairs = self.heldout_pairs(start, hyper, &source, &sft)?;
        Ok(Run {
            start,
            method,
            hyper,
            source,
            demonstrations,
            sft,
            sft_tuning,
            heldout_pairs,
        })
    }

    pub(super) fn method(&mut self, run: &Run) -> Result<()> {
        let n = run.hyper.evaluation.best_of;
        match run.method.recipe {
            Recipe::Base => self.cell(
                run,
                0,
                &Round::of(run.start.base, vec![]),
                Responder::Policy,
            ),
            Recipe::Demonstrator => {
                self.cell(run, 0, &Round::of(run.sft, vec![]), Responder::Demonstrator)
            }
            Recipe::Sft => {
                let made_by = run.sft_tuning.into_iter().chain([run.sft]).collect();
                self.cell(run, 0, &Round::of(run.sft, made_by), Responder::Policy)
            }
            Recipe::BestOfNGold => self.cell(
                run,
                0,
                &Round::of(run.sft, vec![]),
                Responder::BestByGold { n },
            ),
            Recipe::BestOfNLogProbability => self.cell(
                run,
                0,
                &Round::of(run.sft, vec![]),
                Responder::BestByLogProbability { n },
            ),
            Recipe::Irl => {
                let rounds = self.irl(run)?;
                self.iterations(run, &rounds)
            }
            Recipe::Spin => {
                let rounds = self.spin(run)?;
                self.iterations(run, &rounds)
            }
            Recipe::IterativeDpo => {
                let rounds = self.iterative_dpo(run)?;
                self.iterations(run, &rounds)
            }
            Recipe::Rlhf => {
                let (preferences, count) = self.training_preferences(run)?;
                let reward = self.reward(run, &[preferences], count, 0, None)?;
                self.optimised(run, reward, vec![reward])
            }
            Recipe::IrlRlhf => {
                let rounds = self.irl(run)?;
                let (preferences, count) = self.training_preferences(run)?;
                let mut pairs: Vec<StageKey> =
                    rounds.iter().filter_map(|round| round.pairs).collect();
                let synthetic = pairs.len() * self.count(run.hyper) * run.hyper.irl.negatives;
                pairs.push(preferences);
                let reward = self.reward(run, &pairs, synthetic + count, 0, None)?;
                let mut made_by = Round::all_made_by(&rounds);
                made_by.push(reward);
                self.optimised(run, reward, made_by)
            }
            Recipe::BestOfNReward => {
                let (preferences, count) = self.training_preferences(run)?;
                let reward = self.reward(run, &[preferences], count, 0, None)?;
                let round = Round::of(run.sft, vec![reward]).judged(JudgeKind::Explicit, reward);
                self.cell(run, 0, &round, Responder::BestByReward { n })
            }
            Recipe::GoldPpo => {
                let policy = self.ppo(run, [&run.sft, &run.sft], None, 0, 1)?;
                self.cell(run, 0, &Round::of(policy, vec![policy]), Responder::Policy)
            }
            Recipe::Dpo => {
                let (pairs, count, mut made_by) = match run.hyper.dpo.pairs {
                    DpoPairs::Preferences => {
                        let (preferences, count) = self.training_preferences(run)?;
                        (vec![preferences], count, vec![])
                    }
                    DpoPairs::Synthetic => {
                        let rounds = self.irl(run)?;
                        let pairs: Vec<StageKey> =
                            rounds.iter().filter_map(|round| round.pairs).collect();
                        let count = pairs.len() * self.count(run.hyper) * run.hyper.irl.negatives;
                        // The last pairs come from the second-last policy; the stages after them
                        // make no pair.
                        let made_by = Round::all_made_by(&rounds[..rounds.len() - 1])
                            .into_iter()
                            .chain(pairs.last().copied());
                        (pairs, count, made_by.collect())
                    }
                };
                let tuning = self.dpo_tuning(run, &pairs, count)?;
                made_by.extend(&tuning);
                let chosen = tuning.last().copied();
                let policy = self.dpo(run, [&run.sft, &run.sft], (&pairs, count), 0, chosen)?;
                made_by.push(policy);
                self.cell(
                    run,
                    0,
                    &Round::of(policy, made_by).judged(JudgeKind::Implicit, policy),
                    Responder::Policy,
                )
            }
            Recipe::SpinReward => {
                let rounds = self.spin(run)?;
                let pairs: Vec<StageKey> = rounds.iter().filter_map(|round| round.pairs).collect();
                let kept = &pairs[run.hyper.spin.accumulate.iterations(pairs.len() - 1)];
                let reward = self.reward(run, kept, kept.len() * self.count(run.hyper), 0, None)?;
                let mut made_by = Round::all_made_by(&rounds);
                made_by.push(reward);
                let policy = rounds[rounds.len() - 1].policy;
                self.cell(
                    run,
                    0,
                    &Round::of(policy, made_by).judged(JudgeKind::Explicit, reward),
                    Responder::Policy,
                )
            }
            Recipe::IqLearn => {
                let mut made_by = self.iq_learn_tuning(run)?;
                let policy = self.iq_learn(run, made_by.last().copied())?;
                made_by.push(policy);
                let round = Round::of(policy, made_by).judged(JudgeKind::Likelihood, policy);
                self.cell(run, 0, &round, Responder::Policy)
            }
            Recipe::FilteredBc => {
                let pairs = self.irl_pairs(run, &run.sft, 0)?;
                let reward = self.reward(
                    run,
                    &[pairs],
                    self.count(run.hyper) * run.hyper.irl.negatives,
                    0,
                    None,
                )?;
                let kept = self.filter(run, &reward)?;
                let count =
                    (self.count(run.hyper) as f64 * run.hyper.filtered_bc.keep).ceil() as usize;
                let (base, kept_rows) = (&run.start.base, (&kept, count));
                let by = self.sft_tuning(run.start, run.hyper, kept_rows, run.label("tune"))?;
                let tuning = Tuning { by, epochs: None };
                let policy = self.fine_tuned(
                    run.start,
                    run.hyper,
                    base,
                    kept_rows,
                    tuning,
                    run.label("sft"),
                )?;
                let made_by = [pairs, reward, kept]
                    .into_iter()
                    .chain(by.map(|(key, _)| key))
                    .chain([policy]);
                self.cell(
                    run,
                    0,
                    &Round::of(policy, made_by.collect()),
                    Responder::Policy,
                )
            }
        }
    }

    /// Plans RLHF's policy step on `reward`, and its cell.
    fn optimised(&mut self, run: &Run, reward: StageKey, mut made_by: Vec<StageKey>) -> Result<()> {
        let policy = self.ppo(
            run,
            [&run.sft, &run.sft],
            Some(&reward),
            0,
            run.hyper.rlhf.rounds,
        )?;
        made_by.push(policy);
        self.cell(
            run,
            0,
            &Round::of(policy, made_by).judged(JudgeKind::Explicit, reward),
            Responder::Policy,
        )
    }

    /// Plans negatives ỹ ~ π_t for the demonstrations, sampled with the settings of IRL.
    pub(super) fn irl_pairs(
        &mut self,
        run: &Run,
        policy: &StageKey,
        round: usize,
    ) -> Result<StageKey> {
        let Hyper { irl, .. } = run.hyper;
        self.pairs(
            run,
            policy,
            (irl.negatives_temperature, irl.negatives),
            round,
        )
    }
}
