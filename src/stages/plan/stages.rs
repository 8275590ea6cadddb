//! The stages that several recipes use, each with its inputs, its version and what it will cost.

use super::{FIRST_BASE, LocalData, Planner, Run, Start};
use crate::Result;
use crate::data::dataset::{Comparison, Record, SummarisedPost};
use crate::data::world::Split;
use crate::eval::exam::WorldExam;
use crate::experiment::{Bad, DemonstrationSettings, Hyper, Labels, PreferenceSettings, StudyData};
use crate::methods::irl::Accumulate;
use crate::methods::training::Training;
use crate::pipeline::{StageKey, StageSpec};
use crate::stages::common::WorldAt;
use crate::stages::work::{self, Regime, Texts, Work};
use crate::stages::{dataset, demonstrations, pairs, preferences, reward, spoil};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Seed of the test preferences; far from the seeds that people choose, so that no training set shares its streams.
const TEST_SEED: u64 = u64::MAX;

/// Share of a local file's posts that are held out.
pub const HELD_OUT: f64 = 0.2;

impl Planner<'_> {
    pub(super) fn demonstrations(&mut self, hyper: &Hyper, seed: u64) -> Result<StageKey> {
        if let Some(local) = self.local {
            let stage = corpus_stage(local, hyper);
            return self.add(demonstrations::CORPUS, 2, &stage, vec![], None, "posts".into(), Work::default());
        }
        if let Some(data) = &self.study.data {
            let stage = demonstrations::HubStage::training(&data.sources, hyper);
            return self.hub_demonstrations(data, hyper, stage, Some(seed), format!("demonstrations/seed {seed}"));
        }
        let world = WorldAt::new(&hyper.demonstrations.written_in(&self.study.world));
        let DemonstrationSettings { count, quality, .. } = hyper.demonstrations;
        let stage = demonstrations::WorldStage { world, count, quality };
        let label = format!("demonstrations/seed {seed}");
        self.add(demonstrations::WORLD, 1, &stage, vec![], Some(seed), label, Work::default())
    }

    /// Posts of a data set, with the responses of the demonstrator if there is one.
    fn hub_demonstrations(
        &mut self,
        data: &StudyData,
        hyper: &Hyper,
        stage: demonstrations::HubStage,
        seed: Option<u64>,
        label: String,
    ) -> Result<StageKey> {
        let posts = self.dataset::<SummarisedPost>("posts", &data.sources.posts, None, stage.part.split())?;
        let mut inputs = vec![("posts".to_string(), posts)];
        if stage.part == demonstrations::Part::Training {
            inputs.extend(self.held_out(hyper)?);
        }
        let Some(demonstrator) = &data.demonstrator else {
            inputs.push(("tokenizer".into(), self.first_size(FIRST_BASE)?));
            return self.add(demonstrations::HUB, 3, &stage, inputs, seed, label, Work::default());
        };
        let model = self.checkpoint(demonstrator, "demonstrator".into())?;
        let texts = Texts { config: &self.config(demonstrator), generation: &hyper.generation };
        let work = work::sampling(texts, stage.count, Regime::from(&hyper.training));
        inputs.extend([("tokenizer".into(), model), ("demonstrator".into(), model)]);
        self.add(demonstrations::HUB, 3, &stage, inputs, seed, label, work)
    }

    /// One split of a data set, the same for all stages that read it.
    fn dataset<T: Record>(&mut self, name: &str, source: &str, config: Option<&str>, split: &str) -> Result<StageKey> {
        let label = format!("{name}/{split}");
        if let Some(key) = self.datasets.get(&label) {
            return Ok(*key);
        }
        let stage = dataset::Stage::new::<T>(source, config, split)?;
        let key = self.add(dataset::KIND, 1, &stage, vec![], None, label.clone(), Work::default())?;
        self.datasets.insert(label, key);
        Ok(key)
    }

    /// Inputs of a stage that chooses what is trained on from data sets: everything that is held out.
    fn held_out(&mut self, hyper: &Hyper) -> Result<Vec<(String, StageKey)>> {
        let Some(data) = &self.study.data else { return Ok(vec![]) };
        let exam = demonstrations::HubStage::exam(&data.sources, hyper);
        let mut held_out = vec![self.hub_demonstrations(data, hyper, exam, None, "exam".into())?];
        held_out.extend(self.test_preferences(hyper)?);
        Ok(held_out.into_iter().enumerate().map(|(index, key)| (format!("held_out/{index}"), key)).collect())
    }

    /// `source`, with the declared share of bad demonstrations.
    pub(super) fn spoilt(&mut self, start: &Start, hyper: &Hyper, source: &StageKey) -> Result<StageKey> {
        let DemonstrationSettings { bad, bad_fraction: fraction, .. } = hyper.demonstrations;
        if fraction == 0.0 {
            return Ok(*source);
        }
        let stage = spoil::Stage { bad, fraction, generation: hyper.generation.clone(), dtype: hyper.training.dtype };
        let mut inputs = vec![("demonstrations".to_string(), *source)];
        let mut work = Work::default();
        if bad == Bad::BaseSamples {
            inputs.push(("base".into(), start.base));
            let samples = (self.count(hyper) as f64 * fraction).round() as usize;
            work = work::sampling(start.texts(hyper), samples, Regime::from(&hyper.training));
        }
        let label = format!("spoilt demonstrations/{}/seed {}", start.size, start.data);
        self.add(spoil::KIND, 2, &stage, inputs, Some(start.data), label, work)
    }

    /// Posts of an exam that asks for `wanted`.
    pub(super) fn exam_posts(&self, wanted: usize) -> usize {
        self.local.map_or(wanted, |local| wanted.min((local.rows as f64 * HELD_OUT).round() as usize))
    }

    /// Demonstrations that are trained on.
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
        let stage = pairs::Stage { generation, dtype, temperature, negatives, round };
        let inputs = vec![("policy".into(), *policy), ("demonstrations".into(), run.demonstrations)];
        let label = run.label(&format!("iteration {}/pairs", round + 1));
        let work = work::sampling(run.texts(), self.count(run.hyper) * negatives, run.regime());
        self.add(pairs::KIND, 1, &stage, inputs, Some(run.start.seed), label, work)
    }

    /// `count`: pairs in all of `pairs` together; `warm`: the reward to go on from, instead of a fresh head on the SFT policy.
    pub(super) fn reward(
        &mut self,
        run: &Run,
        pairs: &[StageKey],
        count: usize,
        round: usize,
        warm: Option<&StageKey>,
    ) -> Result<StageKey> {
        let (generation, training) = (run.hyper.generation.clone(), run.hyper.training.clone());
        let stage = reward::Stage { generation, reward: run.hyper.reward.clone(), training, round };
        let start = warm.map_or(("policy".to_string(), run.sft), |reward| ("reward".to_string(), *reward));
        let inputs = std::iter::once(start).chain(numbered(pairs)).collect();
        let label = run.label(&format!("iteration {}/reward", round + 1));
        let work = work::reward(run.texts(), &run.hyper.reward, count, run.regime());
        self.add(reward::KIND, 3, &stage, inputs, Some(run.start.seed), label, work)
    }

    /// The seed's labelled pairs, and how many they are.
    pub(super) fn training_preferences(&mut self, run: &Run) -> Result<(StageKey, usize)> {
        let (seed, settings) = (run.start.data, &run.hyper.preferences);
        let label = format!("preferences/seed {seed}");
        let key = match &self.study.data {
            Some(data) => self.comparisons(data, ("train", settings.pairs), run.hyper, Some(seed), label)?,
            None => {
                let number = self.study.sizes[0].1.base_of(run.start.cell);
                let base = self.first_size(number)?;
                self.preferences(run.hyper, (Split::Preferences, seed), settings.clone(), base, label)?
            }
        };
        Ok((key, settings.pairs))
    }

    /// Labels on held-out posts, the same for every method, size and seed; none where the data have no preferences.
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
        self.preferences(hyper, (hyper.evaluation.split.into(), TEST_SEED), settings, base, label).map(Some)
    }

    /// So many human comparisons of a split.
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
        let stage = preferences::ComparisonsStage { count, generation: hyper.generation.clone() };
        let mut inputs = vec![("comparisons".into(), set), ("base".into(), self.first_size(FIRST_BASE)?)];
        if seed.is_some() {
            inputs.extend(self.held_out(hyper)?);
        }
        self.add(preferences::COMPARISONS, 2, &stage, inputs, seed, label, Work::default())
    }

    /// Preferences over samples of a base of the first size: people label texts, not the model that is being trained.
    fn preferences(
        &mut self,
        hyper: &Hyper,
        (split, seed): (Split, u64),
        settings: PreferenceSettings,
        base: StageKey,
        label: String,
    ) -> Result<StageKey> {
        let texts = Texts { config: &self.config(&self.study.sizes[0].1), generation: &hyper.generation };
        let work = work::sampling(texts, settings.pairs, Regime::from(&Training::default()));
        let world = WorldAt::new(&self.study.world);
        let stage = preferences::Stage { world, split, generation: hyper.generation.clone(), preferences: settings };
        self.add(preferences::KIND, 2, &stage, vec![("base".into(), base)], Some(seed), label, work)
    }

    pub(super) fn exam_pairs(
        &mut self,
        start: &Start,
        hyper: &Hyper,
        demonstrations: &StageKey,
        sft: &StageKey,
    ) -> Result<StageKey> {
        let mut exam = self.world_exam(hyper);
        if let Some(exam) = &mut exam {
            exam.posts = hyper.evaluation.on_policy_pairs;
        }
        let mut inputs = vec![("policy".to_string(), *sft)];
        inputs.extend(self.exam_inputs(hyper, demonstrations)?);
        let temperature = hyper.evaluation.temperature;
        let posts = self.exam_posts(hyper.evaluation.on_policy_pairs);
        let work = work::sampling(start.texts(hyper), 2 * posts, Regime::from(&hyper.training))
            + self.judging(hyper, 2 * posts);
        let (generation, dtype) = (hyper.generation.clone(), hyper.training.dtype);
        let stage = pairs::ExamStage { exam, posts, generation, dtype, temperature };
        let label = format!("exam pairs/{}/seed {}", start.size, start.cell);
        self.add(pairs::EXAM, 1, &stage, inputs, Some(start.evaluation), label, work)
    }

    /// The exam of the embedded world; none for real posts, which come by [`exam_inputs`](Self::exam_inputs).
    pub(super) fn world_exam(&self, hyper: &Hyper) -> Option<WorldExam> {
        let real = self.local.is_some() || self.study.data.is_some();
        let (split, posts) = (hyper.evaluation.split.into(), hyper.evaluation.posts);
        (!real).then(|| self.exam_of(&self.study.shared, split, posts))
    }

    /// `posts` posts of `split` with references by the demonstrator of `hyper`.
    pub(super) fn exam_of(&self, hyper: &Hyper, split: Split, posts: usize) -> WorldExam {
        let demonstrations = &hyper.demonstrations;
        WorldExam::new(&demonstrations.written_in(&self.study.world), split, posts, demonstrations.quality)
    }

    /// Inputs of every stage that holds the exam on real posts: the posts, and the judge where there is one.
    pub(super) fn exam_inputs(&mut self, hyper: &Hyper, demonstrations: &StageKey) -> Result<Vec<(String, StageKey)>> {
        if self.local.is_some() {
            return Ok(vec![("demonstrations".to_string(), *demonstrations)]);
        }
        let Some(data) = &self.study.data else { return Ok(vec![]) };
        let stage = demonstrations::HubStage::exam(&data.sources, hyper);
        let mut inputs =
            vec![("demonstrations".to_string(), self.hub_demonstrations(data, hyper, stage, None, "exam".into())?)];
        if let Some(judge) = &data.judge {
            inputs.push(("judge".to_string(), self.checkpoint(judge, "judge".into())?));
        }
        Ok(inputs)
    }

    /// What the judge of real posts does, if there is one.
    pub(super) fn judging(&self, hyper: &Hyper, rows: usize) -> Work {
        let judge = self.study.data.as_ref().and_then(|data| data.judge.as_ref());
        judge.map_or_else(Work::default, |judge| {
            let texts = Texts { config: &self.config(judge), generation: &hyper.generation };
            work::reading(&[(texts, true)], 1, rows, Regime::from(&hyper.training))
        })
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn add(
        &mut self,
        kind: &str,
        version: u32,
        settings: &impl Serialize,
        inputs: Vec<(String, StageKey)>,
        seed: Option<u64>,
        label: String,
        work: Work,
    ) -> Result<StageKey> {
        let inputs: BTreeMap<_, _> = inputs.into_iter().collect();
        let spec = StageSpec { kind: kind.into(), version, settings: json!(settings), inputs, seed };
        let key = self.graph.add(spec, label, work.relative_cost())?;
        self.works.entry(key).or_insert(work);
        Ok(key)
    }
}

impl Start<'_> {
    pub(super) fn texts<'t>(&'t self, hyper: &'t Hyper) -> Texts<'t> {
        Texts { config: &self.config, generation: &hyper.generation }
    }
}

impl Run<'_> {
    pub(super) fn texts(&self) -> Texts<'_> {
        self.start.texts(self.hyper)
    }

    pub(super) fn regime(&self) -> Regime {
        Regime::from(&self.hyper.training)
    }
}

fn corpus_stage(local: &LocalData, hyper: &Hyper) -> demonstrations::CorpusStage {
    demonstrations::CorpusStage {
        file: local.file.clone(),
        blake3: local.blake3.clone(),
        tokenizer: local.tokenizer.clone(),
        tokenizer_blake3: local.tokenizer_blake3.clone(),
        generation: hyper.generation.clone(),
        held_out: HELD_OUT,
    }
}

/// The pairs that iteration `t` trains on.
pub(super) fn chosen(all: &[StageKey], accumulate: Accumulate, t: usize) -> Vec<StageKey> {
    all[accumulate.iterations(t)].to_vec()
}

pub(super) fn numbered(pairs: &[StageKey]) -> impl Iterator<Item = (String, StageKey)> + '_ {
    pairs.iter().enumerate().map(|(index, key)| (format!("pairs/{index}"), *key))
}

pub(super) fn iteration_label(iteration: usize) -> String {
    if iteration == 0 { String::new() } else { format!("iteration {iteration}/") }
}
