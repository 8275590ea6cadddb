//! The embedded world as a corpus: everything can be drawn, and gold is exact.

use super::{Corpus, Need};
use crate::Result;
use crate::data::TextEncoder;
use crate::data::world::{Split, WorldAt, WorldSettings};
use crate::experiment::{
    DemonstrationSettings, Hyper, Labels, ModelSettings, PreferenceSettings, Study,
};
use crate::model::ModelTokenizer;
use crate::pipeline::StageKey;
use crate::plan::bases::pretrain_stage;
use crate::plan::{FIRST_BASE, Planner, Run};
use crate::stages::NoInputs;
use crate::stages::bundled::BundledBase;
use crate::stages::demonstrations::{Demonstrations, demonstration};
use crate::stages::evaluation_set::EvaluationSetInputs;
use crate::stages::preferences::{Preferences, PreferencesInputs};
use crate::stages::work::TextLengths;

/// Seed of the test preferences. It is far from seeds that people choose, so that no training set
/// shares its streams.
const TEST_SEED: u64 = u64::MAX;

/// Seed of the demonstrations whose lengths stand for those of all.
const SAMPLED_SEED: u64 = 1;

/// Number of demonstrations whose lengths stand for those of all.
const SAMPLED_TEXTS: u64 = 1024;

/// The posts and authors of a study's own world.
pub(super) struct WorldCorpus<'a> {
    pub study: &'a Study,
    pub world: &'a WorldSettings,
}

impl Corpus for WorldCorpus<'_> {
    fn name(&self) -> String {
        "the embedded world".into()
    }

    fn gives(&self, _: Need) -> bool {
        true
    }

    fn vocabulary(&self) -> Result<usize> {
        let tokenizer = self.world.open()?.tokenizer()?;
        Ok(ModelTokenizer::of(tokenizer)?.vocabulary_size())
    }

    fn world(&self) -> Option<&WorldSettings> {
        Some(self.world)
    }

    fn base(
        &self,
        planner: &mut Planner,
        model: &ModelSettings,
        number: u64,
        label: String,
    ) -> Result<StageKey> {
        let stage = pretrain_stage(self.study, self.world, model);
        match BundledBase::made_by(&stage, number) {
            Some(bundled) => planner.add(&bundled.stage(), NoInputs {}, None, label, ()),
            None => planner.pretrain(&stage, model, number, label),
        }
    }

    fn demonstrations(&self, planner: &mut Planner, hyper: &Hyper, seed: u64) -> Result<StageKey> {
        let DemonstrationSettings { count, quality, .. } = hyper.demonstrations;
        let stage = Demonstrations {
            world: WorldAt::new(&hyper.demonstrations.written_in(self.world)),
            count,
            quality,
        };
        let label = format!("demonstrations/seed {seed}");
        planner.add(&stage, NoInputs {}, Some(seed), label, ())
    }

    fn preferences(&self, planner: &mut Planner, run: &Run) -> Result<(StageKey, usize)> {
        let (seed, settings) = (run.start.data, &run.hyper.preferences);
        let base = planner.first_size(self.study.sizes[0].1.base_of(run.start.cell))?;
        let label = format!("preferences/seed {seed}");
        let drawn = (Split::Preferences, seed);
        let key = self.labelled(planner, run.hyper, drawn, settings.clone(), base, label)?;
        Ok((key, settings.pairs))
    }

    fn heldout_preferences(
        &self,
        planner: &mut Planner,
        hyper: &Hyper,
    ) -> Result<Option<(StageKey, usize)>> {
        let settings = PreferenceSettings {
            pairs: hyper.evaluation.preference_pairs,
            labels: Labels::Noisy,
            agreement: self.study.shared.preferences.agreement,
        };
        let (base, count) = (planner.first_size(FIRST_BASE)?, settings.pairs);
        let drawn = (hyper.evaluation.split.into(), TEST_SEED);
        let label = "preferences/test".into();
        let key = self.labelled(planner, hyper, drawn, settings, base, label)?;
        Ok(Some((key, count)))
    }

    fn evaluation_set(
        &self,
        _: &mut Planner,
        _: &Hyper,
        _: &StageKey,
    ) -> Result<EvaluationSetInputs> {
        Ok(EvaluationSetInputs::default())
    }

    fn text_lengths(&self, hyper: &Hyper) -> Result<Option<TextLengths>> {
        let (demonstrations, generation) = (&hyper.demonstrations, &hyper.generation);
        let world = demonstrations.written_in(self.world).open()?;
        let encoder = TextEncoder::new(
            world.tokenizer()?,
            generation.max_prompt_tokens,
            generation.max_response_tokens,
        )?;
        let text = |index| {
            let row = demonstration(&*world, demonstrations.quality, SAMPLED_SEED, index);
            encoder.demonstration(&row)
        };
        let texts: Vec<_> = (0..SAMPLED_TEXTS).map(text).collect::<Result<_>>()?;
        Ok(TextLengths::of(&texts, generation))
    }
}

impl WorldCorpus<'_> {
    /// Plans preferences over samples of a base of the first size: people label texts, not the
    /// model under training.
    fn labelled(
        &self,
        planner: &mut Planner,
        hyper: &Hyper,
        (split, seed): (Split, u64),
        settings: PreferenceSettings,
        base: StageKey,
        label: String,
    ) -> Result<StageKey> {
        let stage = Preferences {
            world: WorldAt::new(self.world),
            split,
            generation: hyper.generation.clone(),
            preferences: settings,
        };
        let config = planner.config(&self.study.sizes[0].1);
        let inputs = PreferencesInputs { base };
        planner.add(&stage, inputs, Some(seed), label, &config)
    }
}
