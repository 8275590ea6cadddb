//! A study laid out as a graph of stages, and which of them measure which cell (method, size, seed, iteration).
//!
//! What does not vary with a seed is planned without one, and equal stages are one stage: a base for all, one SFT per
//! seed for SPIN, IRL and RLHF, the first pairs of IRL for SPIN too.

use super::base::{self, BundledBase, PretrainStage, RandomStage};
use super::common::WorldAt;
use super::evaluate::{self, JudgeKind, PolicyStage, Responder, RewardStage};
use super::ppo::RewardSource;
use super::{demonstrations, pairs, ppo, preferences, reward, sft, spin};
use crate::data::world::Split;
use crate::eval::exam::WorldExam;
use crate::experiment::{Heuristic, Hyper, Labels, MethodPlan, ModelSettings, PreferenceSettings, Recipe, Study};
use crate::methods::irl::{Accumulate, Anchor};
use crate::pipeline::{Graph, StageKey, StageSpec};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[cfg(test)]
mod tests;

/// Seed of the base, which all seeds of a study share.
pub const BASE_SEED: u64 = 0;
/// Seed of the test preferences; far from the seeds that people choose, so that no training set shares its streams.
const TEST_SEED: u64 = u64::MAX;

/// Gold is centred and scaled by these for the privileged policy step, about its mean and deviation over SFT samples.
const GOLD_MEAN: f32 = 0.7;
const GOLD_STD: f32 = 0.2;

/// A study as stages.
pub struct Plan {
    pub graph: Graph,
    pub cells: Vec<Cell>,
    /// Real posts: whatever needs the gold reward is not measured.
    pub without_gold: bool,
}

/// One row of the long table to be: where its metrics and its costs come from.
#[derive(Clone, Debug)]
pub struct Cell {
    /// A method's id, or a heuristic's name.
    pub method: String,
    pub size: String,
    pub seed: u64,
    /// From 1 for methods that iterate; 0 for the others.
    pub iteration: usize,
    /// Stages whose metrics are this cell's.
    pub measured_by: Vec<StageKey>,
    /// Stages that make what is measured, without those that it shares with every method (base, SFT).
    pub made_by: Vec<StageKey>,
}

/// Real posts instead of the embedded world.
#[derive(Clone, Debug)]
pub struct LocalData {
    pub file: PathBuf,
    pub blake3: String,
    /// Folder with a tokenizer.json.
    pub tokenizer: PathBuf,
    pub tokenizer_blake3: String,
}

/// Share of real posts that are held out.
const HELD_OUT: f64 = 0.2;

impl Plan {
    /// # Errors
    /// On real posts, a method that needs what only the embedded world has.
    pub fn new(study: &Study, local: Option<&LocalData>) -> Result<Self> {
        if local.is_some() {
            runs_on_real_posts(study)?;
        }
        let mut planner = Planner { study, local, graph: Graph::new(), cells: Vec::new() };
        for (size, model) in &study.sizes {
            for &seed in &study.seeds {
                planner.seed(size, model, seed)?;
            }
        }
        Ok(Self { graph: planner.graph, cells: planner.cells, without_gold: local.is_some() })
    }
}

fn runs_on_real_posts(study: &Study) -> Result<()> {
    let needs = |method: &MethodPlan| match method.recipe {
        Recipe::Base | Recipe::Sft | Recipe::Irl | Recipe::Spin => None,
        Recipe::Demonstrator => Some("an author who can be asked for another summary"),
        Recipe::Rlhf | Recipe::BestOfNReward => Some("labelled preferences"),
        Recipe::GoldPpo | Recipe::BestOfNGold => Some("a gold reward"),
    };
    let Some((method, need)) = study.methods.iter().find_map(|method| Some((method, needs(method)?))) else {
        return Ok(());
    };
    let others: Vec<&str> =
        study.methods.iter().filter(|method| needs(method).is_none()).map(|method| method.id.as_str()).collect();
    Err(Error::new(format!("method `{}` needs {need}, which --data does not give", method.id))
        .hint(format!("choose the others: --methods {}", others.join(","))))
}

struct Planner<'a> {
    study: &'a Study,
    local: Option<&'a LocalData>,
    graph: Graph,
    cells: Vec<Cell>,
}

/// What all methods of one size and seed start from.
struct Start<'a> {
    size: &'a str,
    seed: u64,
    /// Cost of a token relative to a model of 100,000 parameters.
    weight: f64,
    base: StageKey,
}

/// A method at one size and seed, on its way.
struct Run<'a> {
    start: &'a Start<'a>,
    method: &'a MethodPlan,
    hyper: &'a Hyper,
    demonstrations: StageKey,
    sft: StageKey,
    exam_pairs: StageKey,
}

impl<'a> Planner<'a> {
    fn seed(&mut self, size: &str, model: &ModelSettings, seed: u64) -> Result<()> {
        let start = Start { size, seed, weight: weight(model), base: self.base(size, model)? };
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
                let reward = self.reward(run, &[preferences], 0)?;
                let policy = self.ppo(run, &run.sft, &run.sft, Some(&reward), 0, run.hyper.rlhf.rounds)?;
                let judge = Some((JudgeKind::Explicit, reward));
                self.cell(run, 0, &policy, judge, Responder::Policy, vec![reward, policy])
            }
            Recipe::BestOfNReward => {
                let preferences = self.training_preferences(run)?;
                let reward = self.reward(run, &[preferences], 0)?;
                let judge = Some((JudgeKind::Explicit, reward));
                self.cell(run, 0, &run.sft.clone(), judge, Responder::BestByReward { n }, vec![reward])
            }
            Recipe::GoldPpo => {
                let policy = self.ppo(run, &run.sft, &run.sft, None, 0, 1)?;
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
            let reward = self.reward(run, &chosen(&all_pairs, settings.accumulate, t), t)?;
            let anchor = match settings.anchor {
                Anchor::Sft => run.sft,
                Anchor::Previous => policy,
            };
            policy = self.ppo(run, &policy, &anchor, Some(&reward), t, 1)?;
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
            policy = self.add(spin::KIND, 1, &stage, inputs, Some(run.start.seed), label, 6.0 * run.start.weight)?;
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
        let generation = run.hyper.generation.clone();
        let temperature = run.hyper.evaluation.temperature;
        let stage = PolicyStage { exam: self.exam(run.hyper), generation, temperature, responder };
        let mut inputs = vec![("policy".to_string(), *policy), ("sft".to_string(), run.sft)];
        if let Some((JudgeKind::Explicit, reward)) = &judge {
            inputs.push(("reward".to_string(), *reward));
        }
        if stage.exam.is_none() {
            inputs.push(("demonstrations".to_string(), run.demonstrations));
        }
        let cost = 4.0 * run.start.weight * run.hyper.evaluation.posts as f64 / 1000.0;
        let label = run.label(&format!("{}evaluate", iteration_label(iteration)));
        let mut measured_by = vec![self.add(evaluate::POLICY, 1, &stage, inputs, Some(run.start.seed), label, cost)?];
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
        let stage = RewardStage { generation: run.hyper.generation.clone(), judge };
        let mut inputs = vec![("sft".to_string(), run.sft), ("exam_pairs".to_string(), run.exam_pairs)];
        if let Some(model) = model {
            let role = if judge == JudgeKind::Implicit { "policy" } else { "reward" };
            inputs.push((role.to_string(), model));
        }
        if self.local.is_none() {
            inputs.push(("preferences".to_string(), self.test_preferences(run.hyper)?));
        }
        let (size, seed) = (run.start.size, run.start.seed);
        let label = format!("{name}/{size}/seed {seed}/{}evaluate reward", iteration_label(iteration));
        self.add(evaluate::REWARD, 1, &stage, inputs, Some(seed), label, 2.0 * run.start.weight)
    }

    // --- Stages that several recipes use ---

    fn base(&mut self, size: &str, model: &ModelSettings) -> Result<StageKey> {
        let shared = &self.study.shared;
        let generation = shared.generation.clone();
        let label = format!("base/{size}");
        if let Some(local) = self.local {
            let stage = RandomStage {
                model: model.clone(),
                generation,
                tokenizer: local.tokenizer.clone(),
                tokenizer_blake3: local.tokenizer_blake3.clone(),
            };
            return self.add(base::RANDOM, 1, &stage, vec![], Some(BASE_SEED), label, 1.0);
        }
        let stage = pretrain_stage(self.study, model);
        match BundledBase::made_by(&stage, BASE_SEED) {
            Some(bundled) => self.add(base::BUNDLED, 1, &bundled.stage(), vec![], None, label, 0.1),
            None => self.pretrain(&stage, model, label),
        }
    }

    fn pretrain(&mut self, stage: &PretrainStage, model: &ModelSettings, label: String) -> Result<StageKey> {
        let cost = 0.08 * stage.pretrain.steps as f64 * weight(model);
        self.add(base::PRETRAIN, 1, stage, vec![], Some(BASE_SEED), label, cost)
    }

    fn demonstrations(&mut self, hyper: &Hyper, seed: u64) -> Result<StageKey> {
        if let Some(local) = self.local {
            let stage = demonstrations::CorpusStage {
                file: local.file.clone(),
                blake3: local.blake3.clone(),
                tokenizer: local.tokenizer.clone(),
                tokenizer_blake3: local.tokenizer_blake3.clone(),
                generation: hyper.generation.clone(),
                held_out: HELD_OUT,
            };
            return self.add(demonstrations::CORPUS, 1, &stage, vec![], None, "posts".into(), 1.0);
        }
        let world = WorldAt::new(&self.study.world);
        let stage = demonstrations::WorldStage { world, demonstrations: hyper.demonstrations.clone() };
        self.add(demonstrations::WORLD, 1, &stage, vec![], Some(seed), format!("demonstrations/seed {seed}"), 0.1)
    }

    fn sft(&mut self, start: &Start, hyper: &Hyper, demonstrations: &StageKey) -> Result<StageKey> {
        let (generation, training) = (hyper.generation.clone(), hyper.training.clone());
        let stage = sft::Stage { generation, sft: hyper.sft.clone(), training };
        let inputs = vec![("base".into(), start.base), ("demonstrations".into(), *demonstrations)];
        let label = format!("sft/{}/seed {}", start.size, start.seed);
        self.add(sft::KIND, 1, &stage, inputs, Some(start.seed), label, 2.0 * start.weight)
    }

    fn pairs(
        &mut self,
        run: &Run,
        policy: &StageKey,
        (temperature, negatives): (f32, usize),
        round: usize,
    ) -> Result<StageKey> {
        let stage = pairs::Stage { generation: run.hyper.generation.clone(), temperature, negatives, round };
        let inputs = vec![("policy".into(), *policy), ("demonstrations".into(), run.demonstrations)];
        let label = run.label(&format!("iteration {}/pairs", round + 1));
        self.add(pairs::KIND, 1, &stage, inputs, Some(run.start.seed), label, run.start.weight)
    }

    fn reward(&mut self, run: &Run, pairs: &[StageKey], round: usize) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let stage = reward::Stage { generation, reward: run.hyper.reward.clone(), training, round };
        let mut inputs = vec![("policy".to_string(), run.sft)];
        inputs.extend(numbered(pairs));
        let label = run.label(&format!("iteration {}/reward", round + 1));
        self.add(reward::KIND, 1, &stage, inputs, Some(run.start.seed), label, 6.0 * run.start.weight)
    }

    /// From `policy`, near `reference`, on the reward model, or on gold where there is none; `rounds` times the updates.
    #[allow(clippy::too_many_arguments)]
    fn ppo(
        &mut self,
        run: &Run,
        policy: &StageKey,
        reference: &StageKey,
        reward: Option<&StageKey>,
        round: usize,
        rounds: usize,
    ) -> Result<StageKey> {
        let source = match reward {
            Some(_) => RewardSource::Learned,
            None => {
                RewardSource::Gold { world: Box::new(WorldAt::new(&self.study.world)), mean: GOLD_MEAN, std: GOLD_STD }
            }
        };
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let mut settings = run.hyper.ppo.clone();
        settings.updates *= rounds;
        let cost = 0.4 * settings.updates as f64 * settings.rollouts as f64 / 64.0 * run.start.weight;
        let stage = ppo::Stage { generation, ppo: settings, training, reward: source, round };
        let mut inputs = vec![
            ("policy".to_string(), *policy),
            ("reference".to_string(), *reference),
            ("demonstrations".to_string(), run.demonstrations),
        ];
        inputs.extend(reward.map(|reward| ("reward".to_string(), *reward)));
        let label = run.label(&format!("iteration {}/ppo", round + 1));
        self.add(ppo::KIND, 1, &stage, inputs, Some(run.start.seed), label, cost)
    }

    fn training_preferences(&mut self, run: &Run) -> Result<StageKey> {
        self.preferences(run.hyper, Split::Preferences, run.hyper.preferences.clone(), run.start.seed)
    }

    /// Noisy labels on held-out posts, the same for every method, size and seed.
    fn test_preferences(&mut self, hyper: &Hyper) -> Result<StageKey> {
        let settings = PreferenceSettings {
            pairs: hyper.evaluation.preference_pairs,
            labels: Labels::Noisy,
            agreement: self.study.shared.preferences.agreement,
        };
        self.preferences(hyper, Split::Test, settings, TEST_SEED)
    }

    /// Preferences over samples of the first size's base: people label texts, not the model that is being trained.
    fn preferences(
        &mut self,
        hyper: &Hyper,
        split: Split,
        settings: PreferenceSettings,
        seed: u64,
    ) -> Result<StageKey> {
        let (size, model) = &self.study.sizes[0];
        let base = self.base(size, model)?;
        let label = match split {
            Split::Test => "preferences/test".to_string(),
            _ => format!("preferences/seed {seed}"),
        };
        let cost = 3.0 * settings.pairs as f64 / 1000.0;
        let world = WorldAt::new(&self.study.world);
        let stage = preferences::Stage { world, split, generation: hyper.generation.clone(), preferences: settings };
        self.add(preferences::KIND, 1, &stage, vec![("base".into(), base)], Some(seed), label, cost)
    }

    fn exam_pairs(
        &mut self,
        start: &Start,
        hyper: &Hyper,
        demonstrations: &StageKey,
        sft: &StageKey,
    ) -> Result<StageKey> {
        let mut exam = self.exam(hyper);
        if let Some(exam) = &mut exam {
            exam.posts = hyper.evaluation.on_policy_pairs;
        }
        let mut inputs = vec![("policy".to_string(), *sft)];
        if exam.is_none() {
            inputs.push(("demonstrations".to_string(), *demonstrations));
        }
        let temperature = hyper.evaluation.temperature;
        let stage = pairs::ExamStage { exam, generation: hyper.generation.clone(), temperature };
        let label = format!("exam pairs/{}/seed {}", start.size, start.seed);
        self.add(pairs::EXAM, 1, &stage, inputs, Some(start.seed), label, 2.0 * start.weight)
    }

    fn exam(&self, hyper: &Hyper) -> Option<WorldExam> {
        let quality = self.study.shared.demonstrations.quality;
        self.local.is_none().then(|| WorldExam::new(&self.study.world, Split::Test, hyper.evaluation.posts, quality))
    }

    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        kind: &str,
        version: u32,
        settings: &impl Serialize,
        inputs: Vec<(String, StageKey)>,
        seed: Option<u64>,
        label: String,
        cost: f64,
    ) -> Result<StageKey> {
        let inputs: BTreeMap<_, _> = inputs.into_iter().collect();
        self.graph.add(StageSpec { kind: kind.into(), version, settings: json!(settings), inputs, seed }, label, cost)
    }
}

impl Run<'_> {
    fn label(&self, step: &str) -> String {
        format!("{}/{}/seed {}/{step}", self.method.id, self.start.size, self.start.seed)
    }
}

/// The pre-training of one size's base.
pub struct Pretraining {
    pub size: String,
    pub stage: PretrainStage,
    pub key: StageKey,
}

/// The pre-trainings of a study's bases, whatever touchstone carries.
pub fn bases(study: &Study) -> Result<(Graph, Vec<Pretraining>)> {
    let mut planner = Planner { study, local: None, graph: Graph::new(), cells: Vec::new() };
    let mut bases = Vec::new();
    for (size, model) in &study.sizes {
        let stage = pretrain_stage(study, model);
        let key = planner.pretrain(&stage, model, format!("base/{size}"))?;
        bases.push(Pretraining { size: size.clone(), stage, key });
    }
    Ok((planner.graph, bases))
}

/// The pre-training that makes the base of `model` in `study`.
fn pretrain_stage(study: &Study, model: &ModelSettings) -> PretrainStage {
    PretrainStage {
        world: WorldAt::new(&study.world),
        model: model.clone(),
        generation: study.shared.generation.clone(),
        pretrain: study.shared.pretrain.clone(),
    }
}

/// The pairs that iteration `t` trains on.
fn chosen(all: &[StageKey], accumulate: Accumulate, t: usize) -> Vec<StageKey> {
    all[accumulate.iterations(t)].to_vec()
}

fn numbered(pairs: &[StageKey]) -> impl Iterator<Item = (String, StageKey)> + '_ {
    pairs.iter().enumerate().map(|(index, key)| (format!("pairs/{index}"), *key))
}

fn iteration_label(iteration: usize) -> String {
    if iteration == 0 { String::new() } else { format!("iteration {iteration}/") }
}

fn weight(model: &ModelSettings) -> f64 {
    let layer = model.hidden_size * (4 * model.hidden_size + 2 * model.intermediate_size);
    (model.num_hidden_layers * layer) as f64 / 98_304.0
}
