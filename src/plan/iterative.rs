//! The recipes that iterate: each round samples from the policy, learns from the samples, and
//! trains the next policy.

use super::specs::chosen;
use super::tuning::Tuning;
use super::{Planner, Run};
use crate::Result;
use crate::methods::best_of_n::BestOfNStart;
use crate::methods::irl::{Anchor, PolicyStep, RewardInit, Select};
use crate::pipeline::StageKey;
use crate::stages::evaluate::Responder;
use crate::stages::evaluate_reward::JudgeKind;
use crate::stages::reward_function::RewardSource;
use crate::stages::spin::{Spin, SpinInputs};

/// A round's policy, the stages that made it, and its judge.
#[derive(Clone)]
pub(super) struct Round {
    pub policy: StageKey,
    /// The pairs (demonstration, sample) drawn in this round.
    pub pairs: Option<StageKey>,
    pub judge: Option<(JudgeKind, StageKey)>,
    pub made_by: Vec<StageKey>,
}

impl Round {
    pub(super) fn of(policy: StageKey, made_by: Vec<StageKey>) -> Self {
        Self {
            policy,
            pairs: None,
            judge: None,
            made_by,
        }
    }

    pub(super) fn judged(self, kind: JudgeKind, by: StageKey) -> Self {
        Self {
            judge: Some((kind, by)),
            ..self
        }
    }

    pub(super) fn all_made_by(rounds: &[Self]) -> Vec<StageKey> {
        rounds
            .iter()
            .flat_map(|round| round.made_by.iter().copied())
            .collect()
    }
}

impl Planner<'_> {
    /// The rounds of Algorithm 1 (methods/irl.rs).
    pub(super) fn irl(&mut self, run: &Run) -> Result<Vec<Round>> {
        let settings = &run.hyper.irl;
        let (mut policy, mut reward) = (run.sft, None);
        let (mut all_pairs, mut rounds) = (Vec::new(), Vec::new());
        for t in 0..settings.iterations {
            all_pairs.push(self.irl_pairs(run, &policy, t)?);
            let count = self.count(run.hyper)
                * settings.negatives
                * settings.accumulate.iterations(t).count();
            let warm = reward.filter(|_| settings.reward_start == RewardInit::Previous);
            let learned = self.reward(
                run,
                &chosen(&all_pairs, settings.accumulate, t),
                count,
                t,
                warm.as_ref(),
            )?;
            let anchor = self.anchor(run, settings.anchor, policy);
            let made_by = self.policy_step(run, [&policy, &anchor], &learned, t)?;
            policy = made_by[made_by.len() - 1];
            reward = Some(learned);
            let made_by = [all_pairs[t], learned].into_iter().chain(made_by).collect();
            let judge = Some((JudgeKind::Explicit, learned));
            rounds.push(Round {
                policy,
                pairs: Some(all_pairs[t]),
                judge,
                made_by,
            });
        }
        if settings.select == Select::ValidationGold {
            let selected = self.select(run, rounds.iter().map(|round| round.policy).collect())?;
            if let Some(last) = rounds.last_mut() {
                last.policy = selected;
                last.made_by.push(selected);
            }
        }
        Ok(rounds)
    }

    /// The stages that optimise eq. 9 by the configured algorithm, from `policy` near `anchor`; the
    /// last one makes the next policy.
    fn policy_step(
        &mut self,
        run: &Run,
        [policy, anchor]: [&StageKey; 2],
        reward: &StageKey,
        t: usize,
    ) -> Result<Vec<StageKey>> {
        match run.hyper.irl.policy_step {
            PolicyStep::Ppo => Ok(vec![self.ppo(
                run,
                [policy, anchor],
                Some(reward),
                t,
                run.hyper.irl.policy_rounds,
            )?]),
            PolicyStep::Rloo => Ok(vec![self.rloo(run, [policy, anchor], reward, t)?]),
            PolicyStep::Grpo => Ok(vec![self.grpo(run, [policy, anchor], reward, t)?]),
            PolicyStep::BestOfN => {
                let winners = self.winners(run, policy, reward, t)?;
                let start = match run.hyper.best_of_n.start {
                    BestOfNStart::Sft => &run.sft,
                    BestOfNStart::Previous => policy,
                };
                let (count, label) = (
                    self.count(run.hyper),
                    run.label(&format!("iteration {}/sft", t + 1)),
                );
                let policy = self.fine_tuned(
                    run.start,
                    run.hyper,
                    start,
                    (&winners, count),
                    Tuning::default(),
                    label,
                )?;
                Ok(vec![winners, policy])
            }
            PolicyStep::Dpo => {
                let judged = self.judged(run, policy, RewardSource::Learned, Some(reward), t)?;
                let pairs = (&[judged][..], self.count(run.hyper));
                Ok(vec![
                    judged,
                    self.dpo(run, [policy, anchor], pairs, t, None)?,
                ])
            }
        }
    }

    fn anchor(&self, run: &Run, anchor: Anchor, policy: StageKey) -> StageKey {
        match anchor {
            Anchor::Sft => run.sft,
            Anchor::Previous => policy,
        }
    }

    /// The rounds of SPIN (methods/spin.rs): each iterate is the next one's opponent and starting
    /// point.
    pub(super) fn spin(&mut self, run: &Run) -> Result<Vec<Round>> {
        let settings = &run.hyper.spin;
        let mut policy = run.sft;
        let (mut all_pairs, mut rounds) = (Vec::new(), Vec::new());
        for t in 0..settings.iterations {
            all_pairs.push(self.pairs(run, &policy, (settings.negatives_temperature, 1), t)?);
            let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
            let stage = Spin {
                generation,
                spin: settings.clone(),
                training,
                round: t,
            };
            let inputs = SpinInputs {
                policy,
                pairs: chosen(&all_pairs, settings.accumulate, t),
            };
            let label = run.label(&format!("iteration {}/spin", t + 1));
            let pairs = self.count(run.hyper) * settings.accumulate.iterations(t).count();
            policy = self.add(
                &stage,
                inputs,
                Some(run.start.seed),
                label,
                run.sizes(pairs),
            )?;
            let judge = Some((JudgeKind::Implicit, policy));
            rounds.push(Round {
                policy,
                pairs: Some(all_pairs[t]),
                judge,
                made_by: vec![all_pairs[t], policy],
            });
        }
        Ok(rounds)
    }

    /// The rounds of DPO on the policy's own samples, judged by gold.
    pub(super) fn iterative_dpo(&mut self, run: &Run) -> Result<Vec<Round>> {
        let settings = &run.hyper.dpo;
        let (mut policy, mut rounds) = (run.sft, Vec::new());
        for t in 0..settings.iterations {
            let judged = self.judged(run, &policy, self.gold(), None, t)?;
            let anchor = self.anchor(run, settings.anchor, policy);
            let pairs = (&[judged][..], self.count(run.hyper));
            policy = self.dpo(run, [&policy, &anchor], pairs, t, None)?;
            rounds
                .push(Round::of(policy, vec![judged, policy]).judged(JudgeKind::Implicit, policy));
        }
        Ok(rounds)
    }

    /// Records a cell for every round. A point of an ablation has only the cell of the last round,
    /// with the cost of all rounds.
    pub(super) fn iterations(&mut self, run: &Run, rounds: &[Round]) -> Result<()> {
        if run.method.point {
            let Some(last) = rounds.last() else {
                return Ok(());
            };
            let whole = Round {
                made_by: Round::all_made_by(rounds),
                ..last.clone()
            };
            return self.cell(run, rounds.len(), &whole, Responder::Policy);
        }
        let Some((last, earlier)) = rounds.split_last() else {
            return Ok(());
        };
        earlier
            .iter()
            .enumerate()
            .try_for_each(|(t, round)| self.passing(run, t + 1, round))?;
        self.cell(run, rounds.len(), last, Responder::Policy)
    }
}
