//! How a policy, and the reward behind it, are measured: the stages of a cell.

use super::adversarial::Round;
use super::stages::iteration_label;
use super::{Cell, Planner, Run};
use crate::Result;
use crate::data::world::Split;
use crate::eval::decoding::candidates;
use crate::experiment::{Heuristic, Hyper, Recipe};
use crate::pipeline::StageKey;
use crate::stages::common::WorldAt;
use crate::stages::evaluate::{self, DecodingStage, JudgeKind, PolicyStage, Responder, RewardStage};
use crate::stages::work::Work;
use crate::stages::{agreement, likelihood, work};

impl Planner<'_> {
    /// Evaluates the round's policy and what judges it, and notes the cell. The policy is the method's last: it is decoded in
    /// every way that the study asks for.
    pub(super) fn cell(&mut self, run: &Run, iteration: usize, round: &Round, responder: Responder) -> Result<()> {
        let decoding = (responder == Responder::Policy).then(|| self.decoding(run.hyper)).flatten();
        self.measured(run, iteration, round, responder, decoding)
    }

    /// As [`cell`](Self::cell), of a policy on the way to the last.
    pub(super) fn passing(&mut self, run: &Run, iteration: usize, round: &Round) -> Result<()> {
        self.measured(run, iteration, round, Responder::Policy, None)
    }

    fn measured(
        &mut self,
        run: &Run,
        iteration: usize,
        round: &Round,
        responder: Responder,
        decoding: Option<DecodingStage>,
    ) -> Result<()> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let temperature = run.hyper.evaluation.temperature;
        let exam = self.world_exam(run.hyper);
        let stage = PolicyStage { exam, generation, dtype, temperature, responder, decoding };
        let mut inputs = vec![("policy".to_string(), round.policy), ("sft".to_string(), run.sft)];
        let explicit = match &round.judge {
            Some((JudgeKind::Explicit, reward)) => Some(*reward),
            _ => None,
        };
        inputs.extend(explicit.map(|reward| ("reward".to_string(), reward)));
        inputs.extend(self.exam_inputs(run.hyper, &run.source)?);
        let work = self.evaluation(run, &stage, explicit.is_some());
        let label = run.label(&format!("{}evaluate", iteration_label(iteration)));
        let seed = Some(run.start.evaluation);
        let mut measured_by = vec![self.add(evaluate::POLICY, 4, &stage, inputs, seed, label, work)?];
        if let Some((kind, model)) = round.judge {
            measured_by.push(self.judge(run, kind, Some(model), &run.method.id, iteration)?);
        }
        if let Some(pairs) = &round.pairs {
            measured_by.extend(self.agreement(run, pairs, iteration)?);
        }
        if let Some(reward) = explicit.filter(|_| self.observes_likelihood(run, iteration)) {
            measured_by.push(self.likelihood(run, &round.policy, &reward)?);
        }
        self.cells.push(Cell {
            method: run.method.id.clone(),
            size: run.start.size.into(),
            seed: run.start.cell,
            iteration,
            base: run.start.numbered(self),
            measured_by,
            made_by: round.made_by.clone(),
        });
        Ok(())
    }

    /// Further decodings of a method's last policy. Real posts have no validation posts with known gold to pick one by.
    fn decoding(&self, hyper: &Hyper) -> Option<DecodingStage> {
        let evaluation = &hyper.evaluation;
        let real = self.local.is_some() || self.study.data.is_some();
        (!real && evaluation.decoding_posts > 0).then(|| DecodingStage {
            temperatures: evaluation.temperatures.clone(),
            validation: self.exam_of(&self.study.shared, Split::Validation, evaluation.decoding_posts),
        })
    }

    /// Answers to the exam, and what is read off them.
    fn evaluation(&self, run: &Run, stage: &PolicyStage, explicit: bool) -> Work {
        let (regime, posts) = (run.regime(), self.exam_posts(run.hyper.evaluation.posts));
        let drawn = match &stage.responder {
            Responder::Policy => 2,
            Responder::Demonstrator => 0,
            Responder::BestByGold { n } | Responder::BestByReward { n } | Responder::BestByLogProbability { n } => *n,
        };
        // Two of the decodings are drawn in any case, and the greedy one is read by the SFT policy alone.
        let decodings = |of: &DecodingStage| candidates(&of.temperatures, stage.temperature).len();
        let (further, validation) = match &stage.decoding {
            Some(decoding) => (decodings(decoding), decodings(decoding) * decoding.validation.posts),
            None => (0, 0),
        };
        let sampled = (drawn + further.saturating_sub(2)) * posts + validation;
        let mut work = work::sampling(run.texts(), sampled, regime);
        let read = match stage.responder {
            Responder::Policy => 3 + (2 * further).saturating_sub(1),
            Responder::BestByLogProbability { n } => n,
            _ => 0,
        };
        if read > 0 {
            work = work + work::reading(&[(run.texts(), false)], read, posts, regime);
        }
        if explicit {
            work = work.then(work::reading(&[(run.texts(), true)], 1, posts, regime));
        }
        work + self.judging(run.hyper, 3 * posts)
    }

    pub(super) fn judge(
        &mut self,
        run: &Run,
        judge: JudgeKind,
        model: Option<StageKey>,
        name: &str,
        iteration: usize,
    ) -> Result<StageKey> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = RewardStage { generation, dtype, judge };
        let mut inputs = vec![("sft".to_string(), run.sft), ("exam_pairs".to_string(), run.exam_pairs)];
        if let Some(model) = model {
            let role = if judge == JudgeKind::Explicit { "reward" } else { "policy" };
            inputs.push((role.to_string(), model));
        }
        if let Some(preferences) = self.test_preferences(run.hyper)? {
            inputs.push(("preferences".to_string(), preferences));
        }
        let evaluation = &run.hyper.evaluation;
        let preferences = if self.local.is_some() { 0 } else { evaluation.preference_pairs };
        let pairs = 2 * self.exam_posts(evaluation.on_policy_pairs) + preferences;
        let models = match judge {
            JudgeKind::Implicit => vec![(run.texts(), false), (run.texts(), false)],
            JudgeKind::Explicit => vec![(run.texts(), true)],
            JudgeKind::Likelihood | JudgeKind::Heuristic(Heuristic::LogProbability) => vec![(run.texts(), false)],
            JudgeKind::Heuristic(_) => vec![],
        };
        // The preferred responses, then the others.
        let work = work::reading(&models, 2, pairs, run.regime());
        let (size, seed) = (run.start.size, run.start.cell);
        let label = format!("{name}/{size}/seed {seed}/{}evaluate reward", iteration_label(iteration));
        self.add(evaluate::REWARD, 4, &stage, inputs, Some(run.start.evaluation), label, work)
    }

    pub(super) fn heuristics(&mut self, run: &Run) -> Result<()> {
        for heuristic in Heuristic::ALL {
            let measured = self.judge(run, JudgeKind::Heuristic(heuristic), None, heuristic.name(), 0)?;
            self.cells.push(Cell {
                method: heuristic.name().into(),
                size: run.start.size.into(),
                seed: run.start.cell,
                iteration: 0,
                base: run.start.numbered(self),
                measured_by: vec![measured],
                made_by: vec![],
            });
        }
        Ok(())
    }

    /// Whether gold and annotators agree with training pairs; nothing where nothing stands for gold.
    fn agreement(&mut self, run: &Run, pairs: &StageKey, iteration: usize) -> Result<Option<StageKey>> {
        let judge = self.study.data.as_ref().and_then(|data| data.judge.as_ref());
        let mut inputs = vec![("pairs".to_string(), *pairs)];
        let (mut world, mut work) = (None, Work::default());
        if self.local.is_none() && self.study.data.is_none() {
            world = Some(WorldAt::new(&self.study.world));
            inputs.extend(self.test_preferences(run.hyper)?.map(|key| ("preferences".to_string(), key)));
        } else if let Some(judge) = judge {
            inputs.push(("judge".to_string(), self.checkpoint(judge, "judge".into())?));
            work = self.judging(run.hyper, 2 * self.count(run.hyper));
        } else {
            return Ok(None);
        }
        let negatives = if run.method.recipe == Recipe::Irl { run.hyper.irl.negatives } else { 1 };
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = agreement::Stage { world, negatives, generation, dtype };
        let label = run.label(&format!("{}agreement", iteration_label(iteration)));
        self.add(agreement::KIND, 2, &stage, inputs, Some(run.start.evaluation), label, work).map(Some)
    }

    /// Lemma 4.1 is looked at once for each size and seed: at the last iteration of the method under study.
    fn observes_likelihood(&self, run: &Run, iteration: usize) -> bool {
        let world = self.local.is_none() && self.study.data.is_none();
        let subject = run.method.id == self.study.report.subject && run.method.recipe == Recipe::Irl;
        world && subject && iteration == run.hyper.irl.iterations && run.hyper.evaluation.likelihood_posts > 0
    }

    fn likelihood(&mut self, run: &Run, policy: &StageKey, reward: &StageKey) -> Result<StageKey> {
        let (hyper, regime) = (run.hyper, run.regime());
        let stage = likelihood::Stage {
            world: WorldAt::new(&hyper.demonstrations.written_in(&self.study.world)),
            quality: hyper.demonstrations.quality,
            posts: hyper.evaluation.likelihood_posts,
            delta: hyper.evaluation.likelihood_delta,
            beta: hyper.ppo.kl_coefficient,
            temperature: hyper.ppo.temperature,
            generation: hyper.generation.clone(),
            dtype: hyper.training.dtype,
        };
        let inputs = vec![
            ("policy".to_string(), *policy),
            ("sft".to_string(), run.sft),
            ("reward".to_string(), *reward),
            ("demonstrations".to_string(), run.demonstrations),
        ];
        let rows = stage.posts + self.count(hyper);
        let models = [(run.texts(), false), (run.texts(), false), (run.texts(), true)];
        let work = work::sampling(run.texts(), rows, regime) + work::reading(&models, 2, rows, regime);
        self.add(likelihood::KIND, 1, &stage, inputs, Some(run.start.evaluation), run.label("likelihood"), work)
    }
}
