//! The stages that several recipes use, each with its inputs and sizes.

use super::{FIRST_BASE, LocalData, Planner, Run, Start};
use crate::Result;
use crate::data::dataset::{Comparison, Record, SummarisedPost};
use crate::data::world::{Split, WorldAt};
use crate::eval::evaluation_set::WorldEvaluationSet;
use crate::experiment::{
    Corruption, DemonstrationSettings, Hyper, Labels, ModelSettings, PreferenceSettings, StudyData,
};
use crate::model::DecoderConfig;
use crate::pipeline::StageKey;
use crate::stages::comparisons::{Comparisons, ComparisonsInputs};
use crate::stages::corpus::LocalPosts;
use crate::stages::corrupt::{Corrupt, CorruptInputs};
use crate::stages::dataset::PinnedDataset;
use crate::stages::demonstrations::Demonstrations;
use crate::stages::evaluation_set::EvaluationSetInputs;
use crate::stages::heldout_pairs::{HeldoutPairs, HeldoutPairsInputs, HeldoutPairsSizes};
use crate::stages::hub_demonstrations::{HubDemonstrations, HubDemonstrationsInputs, HubPart};
use crate::stages::pairs::{Pairs, PairsInputs};
use crate::stages::preferences::{Preferences, PreferencesInputs};
use crate::stages::reward::{Reward, RewardFrom, RewardInputs};
use crate::stages::{NoInputs, Stage};

/// Seed of the test preferences. It is far from seeds that people choose, so that no training set
/// shares its streams.
const TEST_SEED: u64 = u64::MAX;

/// Share of a local file's posts that is held out.
pub const HELD_OUT: f64 = 0.2;

impl<'a> Planner<'a> {
    pub(super) fn demonstrations(&mut self, hyper: &Hyper, seed: u64) -> Result<StageKey> {
        if let Some(local) = self.local {
            let stage = corpus_stage(local, hyper);
            return self.add(&stage, NoInputs {}, None, "posts", ());
        }
        if let Some(data) = &self.study.data {
            let stage = HubDemonstrations::training(&data.sources, hyper);
            return self.hub_demonstrations(
                data,
                hyper,
                stage,
                Some(seed),
                format!("demonstrations/seed {seed}"),
            );
        }
        let world = WorldAt::new(&hyper.demonstrations.written_in(&self.study.world));
        let DemonstrationSettings { count, quality, .. } = hyper.demonstrations;
        let stage = Demonstrations {
            world,
            count,
            quality,
        };
        self.add(
            &stage,
            NoInputs {},
            Some(seed),
            format!("demonstrations/seed {seed}"),
            (),
        )
    }

    /// Plans posts of a data set, with the responses of the demonstrator if there is one.
    fn hub_demonstrations(
        &mut self,
        data: &StudyData,
        hyper: &Hyper,
        stage: HubDemonstrations,
        seed: Option<u64>,
        label: String,
    ) -> Result<StageKey> {
        let posts =
            self.dataset::<SummarisedPost>("posts", &data.sources.posts, None, stage.part.split())?;
        let held_out = if stage.part == HubPart::Training {
            self.held_out(hyper)?
        } else {
            vec![]
        };
        let Some(demonstrator) = &data.demonstrator else {
            let tokenizer = self.first_size(FIRST_BASE)?;
            let inputs = HubDemonstrationsInputs {
                posts,
                tokenizer,
                demonstrator: None,
                held_out,
            };
            return self.add(&stage, inputs, seed, label, None);
        };
        let model = self.checkpoint(demonstrator, "demonstrator".into())?;
        let inputs = HubDemonstrationsInputs {
            posts,
            tokenizer: model,
            demonstrator: Some(model),
            held_out,
        };
        let config = self.config(demonstrator);
        self.add(&stage, inputs, seed, label, Some(&config))
    }

    /// Plans one split of a data set, shared by all stages that read it.
    fn dataset<T: Record>(
        &mut self,
        name: &str,
        source: &str,
        config: Option<&str>,
        split: &str,
    ) -> Result<StageKey> {
        let label = format!("{name}/{split}");
        if let Some(key) = self.datasets.get(&label) {
            return Ok(*key);
        }
        let stage = PinnedDataset::new::<T>(source, config, split)?;
        let key = self.add(&stage, NoInputs {}, None, label.clone(), ())?;
        self.datasets.insert(label, key);
        Ok(key)
    }

    /// All stages whose prompts are excluded from training on data sets.
    fn held_out(&mut self, hyper: &Hyper) -> Result<Vec<StageKey>> {
        let Some(data) = &self.study.data else {
            return Ok(vec![]);
        };
        let evaluation_set = HubDemonstrations::evaluation_set(&data.sources, hyper);
        let mut held_out = vec![self.hub_demonstrations(
            data,
            hyper,
            evaluation_set,
            None,
            "evaluation set".into(),
        )?];
        held_out.extend(self.test_preferences(hyper)?);
        Ok(held_out)
    }

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

    /// Number of posts in an evaluation set for which `wanted` posts are requested.
    pub(super) fn evaluation_posts(&self, wanted: usize) -> usize {
        self.local.map_or(wanted, |local| {
            wanted.min((local.rows as f64 * HELD_OUT).round() as usize)
        })
    }

    /// Number of demonstrations for training.
    pub(super) fn count(&self, hyper: &Hyper) -> usize {
        match self.local {
            Some(local) => local.rows - (local.rows as f64 * HELD_OUT).round() as usize,
            None => hyper.demonstrations.count,
        }
    }

    pub(super) fn pairs(
        &mut self,
        run: &Run,
        policy: &StageKey,
        (temperature, negatives): (f32, usize),
        round: usize,
    ) -> Result<StageKey> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = Pairs {
            generation,
            dtype,
            temperature,
            negatives,
            round,
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

    /// The seed's labelled pairs, and their number.
    pub(super) fn training_preferences(&mut self, run: &Run) -> Result<(StageKey, usize)> {
        let (seed, settings) = (run.start.data, &run.hyper.preferences);
        let label = format!("preferences/seed {seed}");
        let key = match &self.study.data {
            Some(data) => self.comparisons(
                data,
                ("train", settings.pairs),
                run.hyper,
                Some(seed),
                label,
            )?,
            None => {
                let number = self.study.sizes[0].1.base_of(run.start.cell);
                let base = self.first_size(number)?;
                self.preferences(
                    run.hyper,
                    (Split::Preferences, seed),
                    settings.clone(),
                    base,
                    label,
                )?
            }
        };
        Ok((key, settings.pairs))
    }

    /// Plans labels on held-out posts, the same for every method, size and seed; `None` if the data
    /// have no preferences.
    pub(super) fn test_preferences(&mut self, hyper: &Hyper) -> Result<Option<StageKey>> {
        let label = "preferences/test".to_string();
        if self.local.is_some() {
            return Ok(None);
        }
        if let Some(data) = &self.study.data {
            if data.sources.comparisons.is_none() {
                return Ok(None);
            }
            let part = ("validation", hyper.evaluation.preference_pairs);
            return self.comparisons(data, part, hyper, None, label).map(Some);
        }
        let settings = PreferenceSettings {
            pairs: hyper.evaluation.preference_pairs,
            labels: Labels::Noisy,
            agreement: self.study.shared.preferences.agreement,
        };
        let base = self.first_size(FIRST_BASE)?;
        self.preferences(
            hyper,
            (hyper.evaluation.split.into(), TEST_SEED),
            settings,
            base,
            label,
        )
        .map(Some)
    }

    /// Plans `count` human comparisons of a split.
    fn comparisons(
        &mut self,
        data: &StudyData,
        (split, count): (&str, usize),
        hyper: &Hyper,
        seed: Option<u64>,
        label: String,
    ) -> Result<StageKey> {
        let source = data.sources.comparisons.as_deref().unwrap_or_default();
        let config = data.sources.comparisons_config.as_deref();
        let set = self.dataset::<Comparison>("comparisons", source, config, split)?;
        let stage = Comparisons {
            count,
            generation: hyper.generation.clone(),
        };
        let base = self.first_size(FIRST_BASE)?;
        let held_out = if seed.is_some() {
            self.held_out(hyper)?
        } else {
            vec![]
        };
        self.add(
            &stage,
            ComparisonsInputs {
                comparisons: set,
                base,
                held_out,
            },
            seed,
            label,
            (),
        )
    }

    /// Plans preferences over samples of a base of the first size: people label texts, not the
    /// model under training.
    fn preferences(
        &mut self,
        hyper: &Hyper,
        (split, seed): (Split, u64),
        settings: PreferenceSettings,
        base: StageKey,
        label: String,
    ) -> Result<StageKey> {
        let world = WorldAt::new(&self.study.world);
        let stage = Preferences {
            world,
            split,
            generation: hyper.generation.clone(),
            preferences: settings,
        };
        let config = self.config(&self.study.sizes[0].1);
        self.add(
            &stage,
            PreferencesInputs { base },
            Some(seed),
            label,
            &config,
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
            evaluation_set: self.evaluation_set_inputs(hyper, demonstrations)?,
        };
        let (temperature, posts) = (
            hyper.evaluation.temperature,
            self.evaluation_posts(hyper.evaluation.on_policy_pairs),
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

    /// The evaluation set of the embedded world; `None` for real posts, which come by
    /// [`evaluation_set_inputs`](Self::evaluation_set_inputs).
    pub(super) fn world_evaluation_set(&self, hyper: &Hyper) -> Option<WorldEvaluationSet> {
        let real = self.local.is_some() || self.study.data.is_some();
        let (split, posts) = (hyper.evaluation.split.into(), hyper.evaluation.posts);
        (!real).then(|| self.evaluation_set_of(&self.study.shared, split, posts))
    }

    /// An evaluation set of `posts` posts of `split` with references by the demonstrator of
    /// `hyper`.
    pub(super) fn evaluation_set_of(
        &self,
        hyper: &Hyper,
        split: Split,
        posts: usize,
    ) -> WorldEvaluationSet {
        let demonstrations = &hyper.demonstrations;
        WorldEvaluationSet::new(
            &demonstrations.written_in(&self.study.world),
            split,
            posts,
            demonstrations.quality,
        )
    }

    /// Inputs of every stage that uses the evaluation set: none in the embedded world; otherwise
    /// the real posts, and the judge if there is one.
    pub(super) fn evaluation_set_inputs(
        &mut self,
        hyper: &Hyper,
        demonstrations: &StageKey,
    ) -> Result<EvaluationSetInputs> {
        if self.local.is_some() {
            return Ok(EvaluationSetInputs {
                demonstrations: Some(*demonstrations),
                judge: None,
            });
        }
        let Some(data) = &self.study.data else {
            return Ok(EvaluationSetInputs::default());
        };
        let stage = HubDemonstrations::evaluation_set(&data.sources, hyper);
        let posts = self.hub_demonstrations(data, hyper, stage, None, "evaluation set".into())?;
        let judge = self
            .judge()
            .map(|judge| self.checkpoint(judge, "judge".into()))
            .transpose()?;
        Ok(EvaluationSetInputs {
            demonstrations: Some(posts),
            judge,
        })
    }

    /// The judge of real posts, if there is one.
    pub(super) fn judge(&self) -> Option<&'a ModelSettings> {
        self.study
            .data
            .as_ref()
            .and_then(|data| data.judge.as_ref())
    }

    pub(super) fn judge_config(&self) -> Option<DecoderConfig> {
        self.judge().map(|judge| self.config(judge))
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

fn corpus_stage(local: &LocalData, hyper: &Hyper) -> LocalPosts {
    LocalPosts {
        file: local.file.clone(),
        blake3: local.blake3.clone(),
        tokenizer: local.tokenizer.clone(),
        tokenizer_blake3: local.tokenizer_blake3.clone(),
        generation: hyper.generation.clone(),
        held_out: HELD_OUT,
    }
}

pub(super) fn iteration_label(iteration: usize) -> String {
    if iteration == 0 {
        String::new()
    } else {
        format!("iteration {iteration}/")
    }
}
