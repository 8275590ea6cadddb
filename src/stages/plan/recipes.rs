//! The recipes: which stages make a method, and which measure it.

use super::stages::{chosen, iteration_label, numbered};
use super::{Cell, Planner, Run, Start};
use crate::Result;
use crate::experiment::{Heuristic, ModelSettings, Recipe};
use crate::methods::irl::Anchor;
use crate::pipeline::StageKey;
use crate::stages::evaluate::{self, JudgeKind, PolicyStage, Responder, RewardStage};
use crate::stages::{spin, work};

impl Planner<'_> {
    pub(super) fn seed(&mut self, size: &str, model: &ModelSettings, seed: u64) -> Result<()> {
        let start = Start { size, seed, config: self.config(model), base: self.base(size, model)? };
        for method in &self.study.methods {
            let hyper = &method.hyper;
            let demonstrations = self.demonstrations(hyper, seed)?;
            let sft = self.sft(&start, hyper, &demonstrations)?;
            let exam_pairs = self.exam_pairs(&start, hyper, &demonstrations, &sft)?;
            let run = Run { start: &start, method, hyper, demonstrations, sft, exam_pairs };
            self.method(&run)?;
            if method.id == self.study.report.baseline {
                self.heuristics(&run)?;
            }
        }
        Ok(())
    }

    fn method(&mut self, run: &Run) -> Result<()> {
        let n = run.hyper.evaluation.best_of;
        match run.method.recipe {
            Recipe::Base => self.cell(run, 0, &run.start.base.clone(), None, Responder::Policy, vec![]),
            Recipe::Demonstrator => self.cell(run, 0, &run.sft.clone(), None, Responder::Demonstrator, vec![]),
            Recipe::Sft => self.cell(run, 0, &run.sft.clone(), None, Responder::Policy, vec![run.sft]),
            Recipe::BestOfNGold => self.cell(run, 0, &run.sft.clone(), None, Responder::BestByGold { n }, vec![]),
            Recipe::Irl => self.irl(run),
            Recipe::Spin => self.spin(run),
            Recipe::Rlhf => {
                let preferences = self.training_preferences(run)?;
                let reward = self.reward(run, &[preferences], run.hyper.preferences.pairs, 0)?;
                let policy = self.ppo(run, [&run.sft, &run.sft], Some(&reward), 0, run.hyper.rlhf.rounds)?;
                let judge = Some((JudgeKind::Explicit, reward));
                self.cell(run, 0, &policy, judge, Responder::Policy, vec![reward, policy])
            }
            Recipe::BestOfNReward => {
                let preferences = self.training_preferences(run)?;
                let reward = self.reward(run, &[preferences], run.hyper.preferences.pairs, 0)?;
                let judge = Some((JudgeKind::Explicit, reward));
                self.cell(run, 0, &run.sft.clone(), judge, Responder::BestByReward { n }, vec![reward])
            }
            Recipe::GoldPpo => {
                let policy = self.ppo(run, [&run.sft, &run.sft], None, 0, 1)?;
                self.cell(run, 0, &policy, None, Responder::Policy, vec![policy])
            }
        }
    }

    /// Algorithm 1 (methods/irl.rs).
    fn irl(&mut self, run: &Run) -> Result<()> {
        let settings = &run.hyper.irl;
        let mut policy = run.sft;
        let mut all_pairs = Vec::new();
        for t in 0..settings.iterations {
            let negatives = (settings.negatives_temperature, settings.negatives);
            all_pairs.push(self.pairs(run, &policy, negatives, t)?);
            let count = self.count(run.hyper) * settings.negatives * settings.accumulate.iterations(t).count();
            let reward = self.reward(run, &chosen(&all_pairs, settings.accumulate, t), count, t)?;
            let anchor = match settings.anchor {
                Anchor::Sft => run.sft,
                Anchor::Previous => policy,
            };
            policy = self.ppo(run, [&policy, &anchor], Some(&reward), t, 1)?;
            let made_by = vec![all_pairs[t], reward, policy];
            let judge = Some((JudgeKind::Explicit, reward));
            self.cell(run, t + 1, &policy, judge, Responder::Policy, made_by)?;
        }
        Ok(())
    }

    /// SPIN (methods/spin.rs): each iterate is the next one's opponent and starting point.
    fn spin(&mut self, run: &Run) -> Result<()> {
        let settings = &run.hyper.spin;
        let mut policy = run.sft;
        let mut all_pairs = Vec::new();
        for t in 0..settings.iterations {
            all_pairs.push(self.pairs(run, &policy, (settings.negatives_temperature, 1), t)?);
            let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
            let stage = spin::Stage { generation, spin: settings.clone(), training, round: t };
            let mut inputs = vec![("policy".to_string(), policy)];
            inputs.extend(numbered(&chosen(&all_pairs, settings.accumulate, t)));
            let label = run.label(&format!("iteration {}/spin", t + 1));
            let pairs = self.count(run.hyper) * settings.accumulate.iterations(t).count();
            let work = work::spin(run.texts(), settings, pairs, run.regime());
            policy = self.add(spin::KIND, 1, &stage, inputs, Some(run.start.seed), label, work)?;
            let judge = Some((JudgeKind::Implicit, policy));
            self.cell(run, t + 1, &policy, judge, Responder::Policy, vec![all_pairs[t], policy])?;
        }
        Ok(())
    }

    fn heuristics(&mut self, run: &Run) -> Result<()> {
        for heuristic in Heuristic::ALL {
            let measured = self.judge(run, JudgeKind::Heuristic(heuristic), None, heuristic.name(), 0)?;
            self.cells.push(Cell {
                method: heuristic.name().into(),
                size: run.start.size.into(),
                seed: run.start.seed,
                iteration: 0,
                measured_by: vec![measured],
                made_by: vec![],
            });
        }
        Ok(())
    }

    /// Evaluates `policy` (and the reward behind it) and notes the cell.
    fn cell(
        &mut self,
        run: &Run,
        iteration: usize,
        policy: &StageKey,
        judge: Option<(JudgeKind, StageKey)>,
        responder: Responder,
        made_by: Vec<StageKey>,
    ) -> Result<()> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let temperature = run.hyper.evaluation.temperature;
        let stage = PolicyStage { exam: self.world_exam(run.hyper), generation, dtype, temperature, responder };
        let mut inputs = vec![("policy".to_string(), *policy), ("sft".to_string(), run.sft)];
        if let Some((JudgeKind::Explicit, reward)) = &judge {
            inputs.push(("reward".to_string(), *reward));
        }
        inputs.extend(self.exam_inputs(run.hyper, &run.demonstrations)?);
        let work = self.evaluation(run, &responder);
        let label = run.label(&format!("{}evaluate", iteration_label(iteration)));
        let mut measured_by = vec![self.add(evaluate::POLICY, 1, &stage, inputs, Some(run.start.seed), label, work)?];
        if let Some((kind, model)) = judge {
            measured_by.push(self.judge(run, kind, Some(model), &run.method.id, iteration)?);
        }
        self.cells.push(Cell {
            method: run.method.id.clone(),
            size: run.start.size.into(),
            seed: run.start.seed,
            iteration,
            measured_by,
            made_by,
        });
        Ok(())
    }

    fn judge(
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
            let role = if judge == JudgeKind::Implicit { "policy" } else { "reward" };
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
            JudgeKind::Heuristic(Heuristic::LogProbability) => vec![(run.texts(), false)],
            JudgeKind::Heuristic(_) => vec![],
        };
        // The preferred responses, then the others.
        let work = work::reading(&models, 2, pairs, run.regime());
        let (size, seed) = (run.start.size, run.start.seed);
        let label = format!("{name}/{size}/seed {seed}/{}evaluate reward", iteration_label(iteration));
        self.add(evaluate::REWARD, 1, &stage, inputs, Some(seed), label, work)
    }
}
