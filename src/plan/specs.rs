//! The stages that several recipes use, each with its inputs and sizes.

use super::{Planner, Run, Start};
use crate::data::world::{Split, WorldAt, WorldSettings};
use crate::eval::evaluation_set::WorldEvaluationSet;
use crate::experiment::{Corruption, DemonstrationSettings, Hyper, Negatives};
use crate::methods::spin::PromptFormat;
use crate::model::DecoderConfig;
use crate::pipeline::StageKey;
use crate::stages::Stage;
use crate::stages::corrupt::{Corrupt, CorruptInputs};
use crate::stages::heldout_pairs::{HeldoutPairs, HeldoutPairsInputs, HeldoutPairsSizes};
use crate::stages::pairs::{Pairs, PairsInputs};
use crate::stages::reward::{Reward, RewardFrom, RewardInputs};
use crate::{Error, Result};

impl Planner<'_> {
    /// Plans the corruption of the declared share of the demonstrations `source`.
    pub(super) fn corrupted(
        &mut self,
        start: &Start,
        hyper: &Hyper,
        source: &StageKey,
    ) -> Result<StageKey> {
        let DemonstrationSettings {
            corruption,
            corrupted_fraction: fraction,
            ..
        } = hyper.demonstrations;
        if fraction == 0.0 {
            return Ok(*source);
        }
        let stage = Corrupt {
            corruption,
            fraction,
            generation: hyper.generation.clone(),
            dtype: hyper.training.dtype,
        };
        let base = (corruption == Corruption::BaseSamples).then_some(start.base);
        let label = format!(
            "corrupted demonstrations/{}/seed {}",
            start.size, start.data
        );
        let inputs = CorruptInputs {
            demonstrations: *source,
            base,
        };
        self.add(
            &stage,
            inputs,
            Some(start.data),
            label,
            start.sizes(self.count(hyper)),
        )
    }

    /// Number of demonstrations for training.
    pub(super) fn count(&self, hyper: &Hyper) -> usize {
        self.corpus.demonstration_count(hyper)
    }

    pub(super) fn pairs(
        &mut self,
        run: &Run,
        policy: &StageKey,
        negatives: Negatives,
        round: usize,
    ) -> Result<StageKey> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = Pairs {
            generation,
            dtype,
            temperature: negatives.temperature,
            negatives: negatives.each,
            round,
            instructed_by: match negatives.prompt {
                PromptFormat::Template => None,
                PromptFormat::Instruction => Some(WorldAt::new(self.world()?)),
            },
        };
        let inputs = PairsInputs {
            policy: *policy,
            demonstrations: run.demonstrations,
        };
        let label = run.label(&format!("iteration {}/pairs", round + 1));
        self.add(
            &stage,
            inputs,
            Some(run.start.seed),
            label,
            run.sizes(self.count(run.hyper)),
        )
    }

    /// Plans a reward. `count` is the number of pairs in all of `pairs` together; `warm` is the
    /// reward to continue from, instead of a fresh head on the SFT policy.
    pub(super) fn reward(
        &mut self,
        run: &Run,
        pairs: &[StageKey],
        count: usize,
        round: usize,
        warm: Option<&StageKey>,
    ) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let stage = Reward {
            generation,
            reward: run.hyper.reward.clone(),
            training,
            round,
        };
        let start = warm.map_or(RewardFrom::Policy(run.sft), |reward| {
            RewardFrom::Reward(*reward)
        });
        let label = run.label(&format!("iteration {}/reward", round + 1));
        let inputs = RewardInputs {
            start,
            pairs: pairs.to_vec(),
        };
        self.add(
            &stage,
            inputs,
            Some(run.start.seed),
            label,
            run.sizes(count),
        )
    }

    pub(super) fn heldout_pairs(
        &mut self,
        start: &Start,
        hyper: &Hyper,
        demonstrations: &StageKey,
        sft: &StageKey,
    ) -> Result<StageKey> {
        let mut evaluation_set = self.world_evaluation_set(hyper);
        if let Some(evaluation_set) = &mut evaluation_set {
            evaluation_set.posts = hyper.evaluation.on_policy_pairs;
        }
        let inputs = HeldoutPairsInputs {
            policy: *sft,
            evaluation_set: self.corpus.evaluation_set(self, hyper, demonstrations)?,
        };
        let (temperature, posts) = (
            hyper.evaluation.temperature,
            self.corpus
                .evaluation_posts(hyper.evaluation.on_policy_pairs),
        );
        let (generation, dtype) = (hyper.generation.clone(), hyper.training.dtype);
        let stage = HeldoutPairs {
            evaluation_set,
            posts,
            generation,
            dtype,
            temperature,
        };
        let judge = self.judge_config();
        let sizes = HeldoutPairsSizes {
            policy: &start.config,
            judge: judge.as_ref(),
        };
        let label = format!("held-out pairs/{}/seed {}", start.size, start.cell);
        self.add(&stage, inputs, Some(start.evaluation), label, sizes)
    }

    /// The evaluation set of the embedded world; `None` for real posts, which come as inputs
    /// ([`Corpus::evaluation_set`](super::corpus::Corpus::evaluation_set)).
    pub(super) fn world_evaluation_set(&self, hyper: &Hyper) -> Option<WorldEvaluationSet> {
        let (split, posts) = (hyper.evaluation.split.into(), hyper.evaluation.posts);
        self.evaluation_set_of(&self.study.shared, split, posts)
    }

    /// An evaluation set of `posts` posts of `split` with references by the demonstrator of
    /// `hyper`; `None` without an embedded world.
    pub(super) fn evaluation_set_of(
        &self,
        hyper: &Hyper,
        split: Split,
        posts: usize,
    ) -> Option<WorldEvaluationSet> {
        let demonstrations = &hyper.demonstrations;
        let world = demonstrations.written_in(self.corpus.world()?);
        let quality = demonstrations.quality;
        Some(WorldEvaluationSet::new(&world, split, posts, quality))
    }

    /// The embedded world.
    ///
    /// # Errors
    /// A corpus without one, whose studies [`check`](super::corpus::check) refuses.
    pub(super) fn world(&self) -> Result<&WorldSettings> {
        self.corpus
            .world()
            .ok_or_else(|| Error::internal("a stage of the embedded world was planned without it"))
    }

    pub(super) fn judge_config(&self) -> Option<DecoderConfig> {
        self.corpus.judge().map(|judge| self.config(judge))
    }

    /// Adds a stage and its estimate.
    pub(super) fn add<S: Stage>(
        &mut self,
        stage: &S,
        inputs: S::Inputs,
        seed: Option<u64>,
        label: impl Into<String>,
        sizes: S::Sizes<'_>,
    ) -> Result<StageKey> {
        let work = stage.work(sizes);
        let key = self
            .graph
            .add(stage.spec(&inputs, seed)?, label, work.relative_cost())?;
        self.works.entry(key).or_insert(work);
        Ok(key)
    }
}

pub(super) fn iteration_label(iteration: usize) -> String {
    if iteration == 0 {
        String::new()
    } else {
        format!("iteration {iteration}/")
    }
}
