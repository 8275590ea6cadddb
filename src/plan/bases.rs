//! The starting points of methods: the bases of a size, and the seeds that stages draw from.

use super::{FIRST_BASE, Planner, Start, corpus};
use crate::data::world::{WorldAt, WorldSettings};
use crate::experiment::{Hyper, ModelPretraining, ModelSettings, Study};
use crate::model::DecoderConfig;
use crate::pipeline::{Graph, StageKey};
use crate::stages::NoInputs;
use crate::stages::checkpoint::PublishedModel;
use crate::stages::pretrain::Pretrain;
use crate::{Error, Result};

impl Planner<'_> {
    pub(super) fn config(&self, model: &ModelSettings) -> DecoderConfig {
        model.config(model.vocab_size.unwrap_or(self.vocabulary))
    }

    /// The starting point of `hyper`'s method at one size under the study's seed `cell`.
    pub(super) fn start<'s>(
        &mut self,
        size: &'s str,
        model: &ModelSettings,
        cell: u64,
        hyper: &Hyper,
    ) -> Result<Start<'s>> {
        let number = self.corpus.base_number(model, cell);
        Ok(Start {
            size,
            cell,
            data: hyper.demonstrations.seed.unwrap_or(cell),
            seed: hyper.training.seed.unwrap_or(cell),
            evaluation: hyper.evaluation.seed.unwrap_or(cell),
            config: self.config(model),
            number,
            base: self.base(size, model, number)?,
            fine_tuned: model.fine_tuned,
        })
    }

    /// Base number `number` of a size; a published model has only one.
    pub(super) fn base(
        &mut self,
        size: &str,
        model: &ModelSettings,
        number: u64,
    ) -> Result<StageKey> {
        let label = base_label(size, number);
        if model.checkpoint.is_some() {
            return self.checkpoint(model, label);
        }
        let corpus = self.corpus;
        corpus.base(self, model, number, label)
    }

    /// Plans the stage for a published model.
    pub(super) fn checkpoint(&mut self, model: &ModelSettings, label: String) -> Result<StageKey> {
        self.add(&PublishedModel::new(model)?, NoInputs {}, None, label, ())
    }

    pub(super) fn pretrain(
        &mut self,
        stage: &Pretrain,
        model: &ModelSettings,
        number: u64,
        label: String,
    ) -> Result<StageKey> {
        let config = self.config(model);
        self.add(stage, NoInputs {}, Some(number), label, &config)
    }

    /// A base of the first size, whose tokenizer all sizes share.
    pub(super) fn first_size(&mut self, number: u64) -> Result<StageKey> {
        let (size, model) = &self.study.sizes[0];
        self.base(size, model, number)
    }
}

impl Start<'_> {
    /// The number of the base, if the planner's bases are numbered.
    pub(super) fn numbered(&self, planner: &Planner) -> Option<u64> {
        planner.corpus.world().map(|_| self.number)
    }
}

/// The pre-training of one base of a size.
pub struct Pretraining {
    pub size: String,
    pub number: u64,
    pub stage: Pretrain,
    pub key: StageKey,
}

/// The pre-trainings of a study's bases, even of those that come with touchstone.
///
/// # Errors
/// A study that does not run on an embedded world.
pub fn bases(study: &Study) -> Result<(Graph, Vec<Pretraining>)> {
    let corpus = corpus::open(study, None)?;
    let world = corpus.world().ok_or_else(|| {
        Error::configuration(format!(
            "scale `{}` starts from published models, which are not pre-trained here",
            study.scale
        ))
        .hint("choose a scale that runs on the embedded world")
    })?;
    let mut planner = Planner::new(study, &*corpus)?;
    let mut bases = Vec::new();
    for (size, model) in &study.sizes {
        for number in 0..model.bases as u64 {
            let stage = pretrain_stage(study, world, model);
            let key = planner.pretrain(&stage, model, number, base_label(size, number))?;
            bases.push(Pretraining {
                size: size.clone(),
                number,
                stage,
                key,
            });
        }
    }
    Ok((planner.graph, bases))
}

/// The pre-training that makes the bases of `model` in `study`.
pub(super) fn pretrain_stage(
    study: &Study,
    world: &WorldSettings,
    model: &ModelSettings,
) -> Pretrain {
    let mut pretrain = study.shared.pretrain.clone();
    if let Some(ModelPretraining { steps }) = model.pretrain {
        pretrain.steps = steps;
    }
    Pretrain {
        world: WorldAt::new(&world.of_pretraining()),
        model: model.shape(),
        generation: study.shared.generation.clone(),
        pretrain,
    }
}

fn base_label(size: &str, number: u64) -> String {
    if number == FIRST_BASE {
        format!("base/{size}")
    } else {
        format!("base/{size}/{number}")
    }
}
