//! Data sets and models of a hub, or of folders laid out like one, as a corpus.

use super::{Corpus, Need};
use crate::data::dataset::{Comparison, SummarisedPost};
use crate::experiment::{Hyper, ModelSettings, Study, StudyData};
use crate::pipeline::StageKey;
use crate::plan::{FIRST_BASE, Planner, Run};
use crate::stages::NoInputs;
use crate::stages::comparisons::{Comparisons, ComparisonsInputs};
use crate::stages::dataset::PinnedDataset;
use crate::stages::evaluation_set::EvaluationSetInputs;
use crate::stages::hub_demonstrations::{HubDemonstrations, HubDemonstrationsInputs, HubPart};
use crate::tasks::TaskSettings;
use crate::tasks::chat::{Conversation, ConversationPair};
use crate::{Error, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The sources that a scale declares.
pub(super) struct HubCorpus<'a> {
    study: &'a Study,
    data: &'a StudyData,
    /// Data sets that were opened and checked, by label.
    opened: RefCell<BTreeMap<String, PinnedDataset>>,
}

impl<'a> HubCorpus<'a> {
    pub fn new(study: &'a Study, data: &'a StudyData) -> Self {
        let opened = RefCell::default();
        Self {
            study,
            data,
            opened,
        }
    }
}

impl Corpus for HubCorpus<'_> {
    fn name(&self) -> String {
        format!("scale `{}`", self.study.scale)
    }

    fn gives(&self, need: Need) -> bool {
        match need {
            Need::Gold => self.data.judge.is_some(),
            Need::Preferences => self.data.sources.pairs().is_some(),
            Need::TrainingGold | Need::Validation | Need::Demonstrator => false,
        }
    }

    fn vocabulary(&self) -> Result<usize> {
        let others = self.data.demonstrator.iter().chain(&self.data.judge);
        let models = self.study.sizes.iter().map(|(_, model)| model);
        let mut rows = models.chain(others).map(|model| {
            model.vocab_size.ok_or_else(|| {
                Error::configuration(format!("model `{}` has no vocab_size", model.label))
                    .hint("set it in [models] as the checkpoint's config.json does")
            })
        });
        rows.try_fold(0, |most, rows| Ok(most.max(rows?)))
    }

    fn judge(&self) -> Option<&ModelSettings> {
        self.data.judge.as_ref()
    }

    fn base(&self, _: &mut Planner, model: &ModelSettings, _: u64, _: String) -> Result<StageKey> {
        Err(Error::internal(format!(
            "model `{}` has no checkpoint, which real text needs",
            model.label
        )))
    }

    fn demonstrations(&self, planner: &mut Planner, hyper: &Hyper, seed: u64) -> Result<StageKey> {
        let stage = self.rows_of(hyper, HubPart::Training);
        let label = format!("demonstrations/seed {seed}");
        self.posts(planner, hyper, stage, Some(seed), label)
    }

    fn preferences(&self, planner: &mut Planner, run: &Run) -> Result<(StageKey, usize)> {
        let (seed, count) = (run.start.data, run.hyper.preferences.pairs);
        let label = format!("preferences/seed {seed}");
        let pairs = self.data.sources.pairs();
        let pairs = pairs.ok_or_else(|| Error::internal("a scale has no labelled pairs"))?;
        let key = self.comparisons(
            planner,
            pairs,
            (Held::In, count),
            run.hyper,
            Some(seed),
            label,
        )?;
        Ok((key, count))
    }

    fn heldout_preferences(
        &self,
        planner: &mut Planner,
        hyper: &Hyper,
    ) -> Result<Option<(StageKey, usize)>> {
        let Some(pairs) = self.data.sources.pairs() else {
            return Ok(None);
        };
        let count = hyper.evaluation.preference_pairs;
        let label = "preferences/test".into();
        let key = self.comparisons(planner, pairs, (Held::Out, count), hyper, None, label)?;
        Ok(Some((key, count)))
    }

    fn evaluation_set(
        &self,
        planner: &mut Planner,
        hyper: &Hyper,
        _: &StageKey,
    ) -> Result<EvaluationSetInputs> {
        let posts = self.evaluation_set_posts(planner, hyper)?;
        let judge = self
            .judge()
            .map(|judge| planner.checkpoint(judge, "judge".into()))
            .transpose()?;
        Ok(EvaluationSetInputs {
            demonstrations: Some(posts),
            judge,
        })
    }
}

/// Whether pairs train or are held out.
#[derive(Clone, Copy)]
enum Held {
    In,
    Out,
}

impl HubCorpus<'_> {
    fn rows_of(&self, hyper: &Hyper, part: HubPart) -> HubDemonstrations {
        HubDemonstrations::new(&self.data.sources, hyper, &self.study.task, part)
    }

    fn evaluation_set_posts(&self, planner: &mut Planner, hyper: &Hyper) -> Result<StageKey> {
        let stage = self.rows_of(hyper, HubPart::EvaluationSet);
        self.posts(planner, hyper, stage, None, "evaluation set".into())
    }

    /// Plans rows of a data set, with the responses of the demonstrator if there is one.
    fn posts(
        &self,
        planner: &mut Planner,
        hyper: &Hyper,
        stage: HubDemonstrations,
        seed: Option<u64>,
        label: String,
    ) -> Result<StageKey> {
        let (name, source) = self.data.sources.rows()?;
        let split = stage.part.split(&self.study.task);
        let posts = self.dataset(planner, (name, split), |split| match self.study.task {
            TaskSettings::Summarization => {
                PinnedDataset::new::<SummarisedPost>(source, None, split)
            }
            TaskSettings::Chat(_) => PinnedDataset::new::<Conversation>(source, None, split),
        })?;
        let held_out = if stage.part == HubPart::Training {
            self.held_out(planner, hyper)?
        } else {
            vec![]
        };
        let Some(demonstrator) = &self.data.demonstrator else {
            let inputs = HubDemonstrationsInputs {
                posts,
                tokenizer: planner.first_size(FIRST_BASE)?,
                demonstrator: None,
                held_out,
            };
            return planner.add(&stage, inputs, seed, label, None);
        };
        let model = planner.checkpoint(demonstrator, "demonstrator".into())?;
        let inputs = HubDemonstrationsInputs {
            posts,
            tokenizer: model,
            demonstrator: Some(model),
            held_out,
        };
        let config = planner.config(demonstrator);
        planner.add(&stage, inputs, seed, label, Some(&config))
    }

    /// Plans one split of a data set, shared by all stages that read it; `open` checks it.
    fn dataset(
        &self,
        planner: &mut Planner,
        (name, split): (&str, &str),
        open: impl FnOnce(&str) -> Result<PinnedDataset>,
    ) -> Result<StageKey> {
        let label = format!("{name}/{split}");
        let known = self.opened.borrow().get(&label).cloned();
        let stage = match known {
            Some(stage) => stage,
            None => {
                let stage = open(split)?;
                self.opened
                    .borrow_mut()
                    .insert(label.clone(), stage.clone());
                stage
            }
        };
        planner.add(&stage, NoInputs {}, None, label, ())
    }

    /// All stages whose prompts are excluded from training.
    fn held_out(&self, planner: &mut Planner, hyper: &Hyper) -> Result<Vec<StageKey>> {
        let mut held_out = vec![self.evaluation_set_posts(planner, hyper)?];
        let preferences = self.heldout_preferences(planner, hyper)?;
        held_out.extend(preferences.map(|(key, _)| key));
        Ok(held_out)
    }

    /// Plans `count` labelled pairs of a data set, which the key `name` names.
    fn comparisons(
        &self,
        planner: &mut Planner,
        (name, source): (&str, &str),
        (held, count): (Held, usize),
        hyper: &Hyper,
        seed: Option<u64>,
        label: String,
    ) -> Result<StageKey> {
        let task = &self.study.task;
        let config = self.data.sources.comparisons_config.as_deref();
        let split = match (task, held) {
            (TaskSettings::Summarization, Held::In) => "train",
            (TaskSettings::Summarization, Held::Out) => "validation",
            (TaskSettings::Chat(_), Held::In) => "train_prefs",
            (TaskSettings::Chat(_), Held::Out) => "test_prefs",
        };
        let comparisons = self.dataset(planner, (name, split), |split| match task {
            TaskSettings::Summarization => PinnedDataset::new::<Comparison>(source, config, split),
            TaskSettings::Chat(_) => PinnedDataset::new::<ConversationPair>(source, None, split),
        })?;
        let stage = Comparisons {
            count,
            generation: hyper.generation.clone(),
            task: task.clone(),
        };
        let base = planner.first_size(FIRST_BASE)?;
        let held_out = match held {
            Held::In => self.held_out(planner, hyper)?,
            Held::Out => vec![],
        };
        let inputs = ComparisonsInputs {
            comparisons,
            base,
            held_out,
        };
        planner.add(&stage, inputs, seed, label, ())
    }
}
