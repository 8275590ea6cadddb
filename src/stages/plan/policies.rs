//! The stages that train a policy on a score or on pairs, and those that select what it is trained on.

use super::stages::numbered;
use super::tuning::Tuning;
use super::{Planner, Run, Start};
use crate::Result;
use crate::data::world::Split;
use crate::experiment::Hyper;
use crate::methods::sft::SftSettings;
use crate::pipeline::StageKey;
use crate::stages::common::WorldAt;
use crate::stages::objective::RewardSource;
use crate::stages::selection::{self, FilterStage, JudgedStage, SelectStage, WinnersStage};
use crate::stages::work::{self, Regime};
use crate::stages::{dpo, iq_learn, ppo, rloo, sft};

/// Gold is centred and scaled by these for privileged policy steps, about its mean and deviation over SFT samples.
const GOLD_MEAN: f32 = 0.7;
const GOLD_STD: f32 = 0.2;

impl Planner<'_> {
    pub(super) fn gold(&self) -> RewardSource {
        RewardSource::Gold { world: Box::new(WorldAt::new(&self.study.world)), mean: GOLD_MEAN, std: GOLD_STD }
    }

    /// `from`, trained on so many demonstrations as if a person had written them, with the values that `tuning` chooses.
    pub(super) fn fine_tuned(
        &mut self,
        start: &Start,
        hyper: &Hyper,
        from: &StageKey,
        (demonstrations, count): (&StageKey, usize),
        tuning: Tuning,
        label: String,
    ) -> Result<StageKey> {
        let (generation, training, mut sft) = (hyper.generation.clone(), hyper.training.clone(), hyper.sft.clone());
        sft.epochs = tuning.epochs.unwrap_or(sft.epochs);
        let own_epochs = tuning.epochs.is_some() && tuning.by.is_some();
        let longest = tuning.by.filter(|_| !own_epochs).and_then(|(_, longest)| longest);
        let reckoned = SftSettings { epochs: longest.unwrap_or(sft.epochs), ..sft.clone() };
        let work = work::sft(start.texts(hyper), &reckoned, count, Regime::from(&hyper.training));
        let stage = sft::Stage { generation, sft, training, own_epochs };
        let mut inputs = vec![("base".into(), *from), ("demonstrations".into(), *demonstrations)];
        inputs.extend(tuning.by.map(|(key, _)| ("tuning".into(), key)));
        self.add(sft::KIND, 2, &stage, inputs, Some(start.seed), label, work)
    }

    /// From `policy`, near `reference`, on the reward model, or on gold where there is none; `rounds` times the updates.
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
        let work = work::policy_gradient(run.texts(), &(&settings).into(), reward.is_some(), run.regime());
        let source = if reward.is_some() { RewardSource::Learned } else { self.gold() };
        let stage = ppo::Stage { generation, ppo: settings, training, reward: source, round };
        let inputs = on_policy(run, policies, reward);
        let label = run.label(&format!("iteration {}/ppo", round + 1));
        self.add(ppo::KIND, 1, &stage, inputs, Some(run.start.seed), label, work)
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
        let work = work::policy_gradient(run.texts(), &(&rloo).into(), true, run.regime());
        let stage = rloo::Stage { generation, rloo, training, reward: RewardSource::Learned, round };
        let inputs = on_policy(run, policies, Some(reward));
        let label = run.label(&format!("iteration {}/rloo", round + 1));
        self.add(rloo::KIND, 1, &stage, inputs, Some(run.start.seed), label, work)
    }

    /// From `policy`, against `reference`, on so many pairs, with the values that `tuning` chooses.
    pub(super) fn dpo(
        &mut self,
        run: &Run,
        [policy, reference]: [&StageKey; 2],
        (pairs, count): (&[StageKey], usize),
        round: usize,
        tuning: Option<StageKey>,
    ) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let mut reckoned = run.hyper.dpo.clone();
        if let Some(settings) = run.hyper.choices.dpo.tuning.as_ref().filter(|_| tuning.is_some()) {
            reckoned.epochs = settings.epochs.iter().copied().max().unwrap_or(reckoned.epochs);
        }
        let work = work::dpo(run.texts(), &reckoned, count, run.regime());
        let stage = dpo::Stage { generation, dpo: run.hyper.dpo.clone(), training, round };
        let mut inputs = vec![("policy".to_string(), *policy), ("reference".to_string(), *reference)];
        inputs.extend(numbered(pairs));
        inputs.extend(tuning.map(|key| ("tuning".to_string(), key)));
        let label = run.label(&format!("iteration {}/dpo", round + 1));
        self.add(dpo::KIND, 1, &stage, inputs, Some(run.start.seed), label, work)
    }

    pub(super) fn iq_learn(&mut self, run: &Run, tuning: Option<StageKey>) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let iq_learn = run.hyper.iq_learn.clone();
        let mut reckoned = iq_learn.clone();
        if let Some(settings) = run.hyper.choices.iq_learn.tuning.as_ref().filter(|_| tuning.is_some()) {
            reckoned.epochs = settings.epochs.iter().copied().max().unwrap_or(reckoned.epochs);
        }
        let work = work::iq_learn(run.texts(), &reckoned, self.count(run.hyper), run.regime());
        let stage = iq_learn::Stage { generation, iq_learn, training };
        let mut inputs = vec![("policy".to_string(), run.sft), ("demonstrations".to_string(), run.demonstrations)];
        inputs.extend(tuning.map(|key| ("tuning".to_string(), key)));
        self.add(iq_learn::KIND, 1, &stage, inputs, Some(run.start.seed), run.label("iq_learn"), work)
    }

    /// The best of n samples of `policy` by `reward`, for every prompt.
    pub(super) fn winners(
        &mut self,
        run: &Run,
        policy: &StageKey,
        reward: &StageKey,
        round: usize,
    ) -> Result<StageKey> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = WinnersStage { generation, best_of_n: run.hyper.best_of_n.clone(), dtype, round };
        let inputs =
            vec![("policy".into(), *policy), ("reward".into(), *reward), ("demonstrations".into(), run.demonstrations)];
        let samples = self.count(run.hyper) * run.hyper.best_of_n.n;
        let work = work::sampling(run.texts(), samples, run.regime()).then(work::reading(
            &[(run.texts(), true)],
            1,
            samples,
            run.regime(),
        ));
        let label = run.label(&format!("iteration {}/best of n", round + 1));
        self.add(selection::WINNERS, 1, &stage, inputs, Some(run.start.seed), label, work)
    }

    /// Two samples of `policy` for every prompt, judged by `source`.
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
        let stage = JudgedStage { generation, temperature, reward: source, dtype, round };
        let mut inputs = vec![("policy".to_string(), *policy), ("demonstrations".to_string(), run.demonstrations)];
        inputs.extend(reward.map(|reward| ("reward".to_string(), *reward)));
        let samples = 2 * self.count(run.hyper);
        let mut work = work::sampling(run.texts(), samples, run.regime());
        if reward.is_some() {
            work = work.then(work::reading(&[(run.texts(), true)], 1, samples, run.regime()));
        }
        let label = run.label(&format!("iteration {}/judged pairs", round + 1));
        self.add(selection::JUDGED, 1, &stage, inputs, Some(run.start.seed), label, work)
    }

    /// The demonstrations that `reward` ranks highest.
    pub(super) fn filter(&mut self, run: &Run, reward: &StageKey) -> Result<StageKey> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = FilterStage { generation, filtered_bc: run.hyper.filtered_bc.clone(), dtype };
        let inputs = vec![("reward".into(), *reward), ("demonstrations".into(), run.demonstrations)];
        let work = work::reading(&[(run.texts(), true)], 1, self.count(run.hyper), run.regime());
        self.add(selection::FILTER, 1, &stage, inputs, Some(run.start.seed), run.label("filter"), work)
    }

    /// The policy with the most gold on validation posts: the one place where what is published is chosen by gold.
    pub(super) fn select(&mut self, run: &Run, policies: &[StageKey]) -> Result<StageKey> {
        let posts = run.hyper.evaluation.selection_posts;
        let stage = SelectStage {
            exam: self.exam_of(run.hyper, Split::Validation, posts),
            generation: run.hyper.generation.clone(),
            dtype: run.hyper.training.dtype,
            temperature: run.hyper.evaluation.temperature,
        };
        let inputs = policies.iter().enumerate().map(|(index, key)| (format!("policy/{index}"), *key)).collect();
        let work = work::sampling(run.texts(), policies.len() * posts, run.regime());
        self.add(selection::SELECT, 1, &stage, inputs, Some(run.start.seed), run.label("select"), work)
    }
}

/// Inputs of a stage that trains on its own samples: [policy, reference], prompts, and the reward where it is learned.
fn on_policy(run: &Run, [policy, reference]: [&StageKey; 2], reward: Option<&StageKey>) -> Vec<(String, StageKey)> {
    let mut inputs = vec![
        ("policy".to_string(), *policy),
        ("reference".to_string(), *reference),
        ("demonstrations".to_string(), run.demonstrations),
    ];
    inputs.extend(reward.map(|reward| ("reward".to_string(), *reward)));
    inputs
}
